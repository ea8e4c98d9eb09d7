"""Per-head settings of one layer: what firmware writes into the unit's head table, encoded as the unit holds it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from . import formats
from .formats import Mode, Normaliser

__all__ = ["DEFAULT_GAIN", "DEFAULT_SCORE_SCALE", "LayerSettings", "alpha_for"]

DEFAULT_GAIN = 32.0
"""int8 value of a context element at its head's root mean square: four times that saturates."""
DEFAULT_SCORE_SCALE = 1 / 256
"""Real value of one unit of score where nothing else is known."""
_LOG2_E = 1 / math.log(2)


def alpha_for(normaliser: Normaliser, count: int, alpha: float = 1.0) -> float:
    """The real alpha that a normaliser needs.

    ``count`` is the number of elements that are normalised together: ``head_dim`` for ``rms_head``,
    ``heads * head_dim`` for ``rms_layer`` (``c / sqrt(mean c**2) = c * sqrt(count) / sqrt(sum c**2)``); the others
    ignore it. ``alpha`` is the user's, for ``length`` only; ``sum`` takes 1.
    """
    if normaliser in (Normaliser.RMS_HEAD, Normaliser.RMS_LAYER):
        return math.sqrt(count)
    return alpha if normaliser is Normaliser.LENGTH else 1.0


def _per_head(field: str, value, heads: int) -> tuple:
    """``value`` for each head: a number is repeated, a sequence must have one entry a head."""
    if not isinstance(value, Sequence):
        return (value,) * heads
    if len(value) != heads:
        raise ValueError(f"{field} has {len(value)} entries: {heads} (one per head) are needed")
    return tuple(value)


@dataclass(frozen=True, kw_only=True)
class LayerSettings:
    """Everything that a layer's attention depends on beside q, K and V. Integers, encoded as in ``formats``.

    :meth:`create` makes one from real numbers.

    Attributes
    ----------
    head_dim, kv_heads
        Elements of a row; KV heads, which the heads share in groups of consecutive heads.
    theta
        Per head: threshold in units of score, signed ``formats.score_bits(head_dim)`` bits.
    mode
        Per head: a :class:`formats.Mode`.
    kappa
        Per head: (mantissa, shift) of :func:`formats.encode_kappa`.
    min_active, min_mass
        Per head: a hybrid head falls back to softmax below either; 0 disables. ``min_mass`` has 32 bits.
    alpha
        Per head: (mantissa, exponent) of :func:`formats.encode_alpha`.
    gain
        Per head and element: :func:`formats.encode_gain`; used by the two RMS normalisers only.
    sink
        Per head: what the ``sum`` normaliser adds to the sum of ReLU weights, in units of the shifted score, unsigned
        ``formats.SINK_BITS`` bits; 0 for all heads unless given.
    mask
        Per head: True where the head does not run.
    normaliser
        A :class:`formats.Normaliser`, for the whole layer.

    Raises
    ------
    ValueError
        If an entry does not fit its format; the message names the field, the value and what is allowed.
    """

    head_dim: int
    kv_heads: int
    theta: tuple[int, ...]
    mode: tuple[Mode, ...]
    kappa: tuple[tuple[int, int], ...]
    min_active: tuple[int, ...]
    min_mass: tuple[int, ...]
    alpha: tuple[tuple[int, int], ...]
    gain: tuple[tuple[int, ...], ...]
    mask: tuple[bool, ...]
    normaliser: Normaliser
    sink: tuple[int, ...] | None = None

    @property
    def heads(self) -> int:
        """Query heads."""
        return len(self.theta)

    @property
    def group(self) -> int:
        """Query heads that share a KV head."""
        return self.heads // self.kv_heads

    def __post_init__(self):
        if not 1 <= self.head_dim <= formats.MAX_HEAD_DIM:
            raise ValueError(f"head_dim is {self.head_dim}: 1 to {formats.MAX_HEAD_DIM} is allowed")
        if self.heads == 0 or self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(f"kv_heads is {self.kv_heads}: a divisor of heads ({self.heads}) is allowed")
        if self.sink is None:
            object.__setattr__(self, "sink", (0,) * self.heads)
        for field in ("mode", "kappa", "min_active", "min_mass", "alpha", "gain", "mask", "sink"):
            if len(getattr(self, field)) != self.heads:
                raise ValueError(f"{field} has {len(getattr(self, field))} entries: {self.heads} are needed")
        limit = 1 << (formats.score_bits(self.head_dim) - 1)
        kappa_limit, alpha_limit = 1 << formats.KAPPA_BITS, 1 << (formats.ALPHA_EXPONENT_BITS - 1)
        mantissa_limit, gain_limit = 1 << formats.MANTISSA_BITS, 1 << (formats.GAIN_BITS - 1)
        for head in range(self.heads):
            self._check("theta", self.theta[head], head, -limit, limit - 1)
            self._check("kappa mantissa", self.kappa[head][0], head, 0, kappa_limit - 1)
            self._check("kappa shift", self.kappa[head][1], head, 0, formats.KAPPA_SHIFT_MAX)
            self._check("min_active", self.min_active[head], head, 0, formats.MAX_ROWS)
            self._check("min_mass", self.min_mass[head], head, 0, (1 << 32) - 1)
            self._check("sink", self.sink[head], head, 0, (1 << formats.SINK_BITS) - 1)
            self._check("alpha mantissa", self.alpha[head][0], head, 0, mantissa_limit - 1)
            self._check("alpha exponent", self.alpha[head][1], head, -alpha_limit, alpha_limit - 1)
            if len(self.gain[head]) != self.head_dim:
                raise ValueError(f"gain of head {head} has {len(self.gain[head])} entries: {self.head_dim} are needed")
            for gain in self.gain[head]:
                self._check("gain", gain, head, -gain_limit, gain_limit - 1)

    @staticmethod
    def _check(field: str, value: int, head: int, low: int, high: int) -> None:
        if not low <= value <= high:
            raise ValueError(f"{field} of head {head} is {value}: {low} to {high} is allowed")

    @classmethod
    def create(
        cls,
        heads: int,
        head_dim: int,
        *,
        kv_heads: int | None = None,
        normaliser: Normaliser = Normaliser.RMS_HEAD,
        mode: Mode | Sequence[Mode] = Mode.RELU,
        theta: int | Sequence[int] = 0,
        score_scale: float | Sequence[float] = DEFAULT_SCORE_SCALE,
        min_active: int | Sequence[int] = 0,
        min_mass: int | Sequence[int] = 0,
        alpha: float | Sequence[float] = 1.0,
        gain: float | Sequence[Sequence[float]] = DEFAULT_GAIN,
        mask: bool | Sequence[bool] = False,
        sink: int | Sequence[int] = 0,
    ) -> "LayerSettings":
        """Settings from real numbers: one value for all heads, or a sequence with one entry a head.

        Parameters
        ----------
        score_scale
            Real value of one unit of score, ``q_scale * k_scale / sqrt(head_dim)``: softmax's kappa is
            ``log2(e)`` times it.
        alpha
            Factor of the ``length`` normaliser; the others know theirs (:func:`alpha_for`).
        gain
            Per head and element, in units of the int8 output.
        theta, sink
            In units of score: real values divided by ``score_scale``, rounded.

        Raises
        ------
        ValueError
            If a value does not fit its format.
        """
        count = heads * head_dim if normaliser is Normaliser.RMS_LAYER else head_dim
        alphas = (alpha_for(normaliser, count, float(value)) for value in _per_head("alpha", alpha, heads))
        scales = _per_head("score_scale", score_scale, heads)
        rows = gain if isinstance(gain, Sequence) else [[gain] * head_dim] * heads
        return cls(
            head_dim=head_dim,
            kv_heads=heads if kv_heads is None else kv_heads,
            theta=tuple(int(value) for value in _per_head("theta", theta, heads)),
            mode=tuple(Mode(value) for value in _per_head("mode", mode, heads)),
            kappa=tuple(formats.encode_kappa(_LOG2_E * float(value)) for value in scales),
            min_active=tuple(int(value) for value in _per_head("min_active", min_active, heads)),
            min_mass=tuple(int(value) for value in _per_head("min_mass", min_mass, heads)),
            alpha=tuple(formats.encode_alpha(value) for value in alphas),
            gain=tuple(tuple(formats.encode_gain(float(value)) for value in row) for row in rows),
            mask=tuple(bool(value) for value in _per_head("mask", mask, heads)),
            sink=tuple(int(value) for value in _per_head("sink", sink, heads)),
            normaliser=Normaliser(normaliser),
        )
