"""Bit-exact integer model of the unit, on tensors: what the hardware must give, for whole layers at a time.

Arithmetic is that of :mod:`reluctant.golden.formats`, on int64. Dot products run in float64 matrix products, which are
exact here: every partial sum is an integer below 2**53.

Shapes: ``heads`` H, ``kv_heads`` G, tokens T, rows n, head dimension d. Heads ``g * H/G ... (g + 1) * H/G - 1`` share
KV head g.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from . import formats
from .formats import Mode, Normaliser
from .settings import LayerSettings, alpha_for

__all__ = [
    "AttentionResult",
    "LayerSettings",
    "alpha_for",
    "attend",
    "attend_rows",
    "bit_length",
    "block_exponent",
    "check_tensors",
    "concatenate",
    "contexts",
    "interpolate",
    "normalise_heads",
    "reciprocal",
    "relu_weights",
    "round_shift",
    "rsqrt",
    "run_layer",
    "saturate",
    "scores",
    "softmax_weights",
]

CHUNK_SCORES = 1 << 18
"""Scores that :func:`run_layer` holds at a time: about 25 MB of temporaries."""


# Tensor twins of the functions in formats -----------------------------------------------------------------------------


def bit_length(value: Tensor) -> Tensor:
    """``int.bit_length`` of integers 0...2**53."""
    return torch.frexp(value.to(torch.float64)).exponent.to(torch.int64)


def round_shift(value: Tensor, shift: Tensor | int) -> Tensor:
    """``value * 2**-shift`` rounded half up, elementwise; a negative shift is an exact left shift."""
    shift = torch.as_tensor(shift, dtype=torch.int64, device=value.device)
    right = shift.clamp(min=0)
    half = (torch.ones_like(right) << right) >> 1
    return ((value + half) >> right) << (-shift).clamp(min=0)


def saturate(value: Tensor, bits: int) -> Tensor:
    """Nearest signed ``bits``-bit integers."""
    return value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def block_exponent(peak: Tensor) -> Tensor:
    """Shift that brings each ``peak >= 0`` to 8 bits."""
    return (bit_length(peak) - formats.WEIGHT_BITS).clamp(min=0)


def relu_weights(shifted: Tensor, exponent: Tensor) -> Tensor:
    """Weights 0...255 of shifted scores (..., n) under the block exponents (...) of their queries."""
    return round_shift(shifted.clamp(min=0), exponent.unsqueeze(-1)).clamp(max=formats.WEIGHT_MAX)


def softmax_weights(difference: Tensor, mantissa: Tensor, shift: Tensor) -> Tensor:
    """Weights 0...255 of ``difference = peak - score >= 0``; kappa's (mantissa, shift) broadcast against it."""
    x = round_shift(difference * mantissa, formats.KAPPA_SHIFT_STEP * shift)
    whole, fraction = x >> formats.EXP2_FRACTION, x & ((1 << formats.EXP2_FRACTION) - 1)
    value = _lookup(formats.EXP2_TABLE, fraction)
    small = round_shift(value, formats.EXP2_GUARD + whole.clamp(max=formats.EXP2_ZERO))
    return small.masked_fill(whole >= formats.EXP2_ZERO, 0)


def _lookup(table: tuple[int, ...], index: Tensor) -> Tensor:
    return torch.tensor(table, dtype=torch.int64, device=index.device)[index]


def interpolate(table: tuple[int, ...], mantissa: Tensor) -> Tensor:
    """``table`` at mantissas in [2**15, 2**16): 17 bits, in [2**15, 2**16]."""
    index = (mantissa >> formats.TABLE_FRACTION_BITS) & ((1 << formats.TABLE_INDEX_BITS) - 1)
    fraction = mantissa & ((1 << formats.TABLE_FRACTION_BITS) - 1)
    low, high = _lookup(table, index), _lookup(table, index + 1)
    return low - (((low - high) * fraction) >> formats.TABLE_FRACTION_BITS)


def _normalise(value: Tensor) -> tuple[Tensor, Tensor]:
    length = bit_length(value)
    excess = length - formats.MANTISSA_BITS
    return (value >> excess.clamp(min=0)) << (-excess).clamp(min=0), length


def reciprocal(value: Tensor) -> tuple[Tensor, Tensor]:
    """(y, k) with ``1 / value ~ y * 2**-16 * 2**-k``, for positive integers."""
    mantissa, length = _normalise(value)
    return interpolate(formats.RECIPROCAL_TABLE, mantissa), length - 1


def rsqrt(value: Tensor) -> tuple[Tensor, Tensor]:
    """(y, k) with ``1 / sqrt(value) ~ y * 2**-16 * 2**-k``, for positive integers."""
    mantissa, length = _normalise(value)
    odd = interpolate(formats.RSQRT_ODD_TABLE, mantissa)
    even = interpolate(formats.RSQRT_EVEN_TABLE, mantissa)
    return torch.where(length & 1 == 1, odd, even), (length - 1) >> 1


def _factor(y: Tensor, k: Tensor, mantissa: Tensor, alpha_exponent: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
    shift = -(alpha_exponent - k + exponent + formats.SHIFTED_FRACTION)
    return (y * mantissa) >> formats.MANTISSA_BITS, shift.clamp(formats.SHIFT_MIN, formats.SHIFT_MAX)


def _scale(context: Tensor, shift: Tensor, multiplier: Tensor, gain: Tensor | int) -> Tensor:
    shifted = saturate(round_shift(context, shift), formats.SCALED_BITS)
    scaled = saturate(round_shift(shifted * multiplier, formats.FACTOR_FRACTION), formats.SCALED_BITS)
    fraction = formats.SCALED_FRACTION + formats.GAIN_FRACTION
    return saturate(round_shift(scaled * gain, fraction), formats.DATA_BITS)


# The steps of attention -----------------------------------------------------------------------------------------------


def scores(q: Tensor, k: Tensor) -> Tensor:
    """Exact scores (H, T, n), int64, of int8 queries (H, T, d) and keys (G, n, d)."""
    heads, tokens, head_dim = q.shape
    grouped = q.to(torch.float64).reshape(k.shape[0], -1, head_dim)
    return (grouped @ k.to(torch.float64).transpose(1, 2)).to(torch.int64).reshape(heads, tokens, k.shape[1])


def contexts(weights: Tensor, v: Tensor) -> Tensor:
    """Exact contexts (H, T, d), int64, of weights (H, T, n) over int8 values (G, n, d)."""
    heads, tokens, rows = weights.shape
    grouped = weights.to(torch.float64).reshape(v.shape[0], -1, rows)
    return (grouped @ v.to(torch.float64)).to(torch.int64).reshape(heads, tokens, v.shape[2])


def normalise_heads(
    settings: LayerSettings,
    context: Tensor,
    exponent: Tensor,
    weight_sum: Tensor,
    rows: Tensor,
    softmax: Tensor,
) -> Tensor | None:
    """int8 outputs (H, T, d), or None when the layer's normaliser is ``none``.

    Parameters
    ----------
    context
        (H, T, d), int64. Where the quantity to divide by is zero, outputs are zero.
    exponent, weight_sum
        (H, T): power of two that the contexts carry, and the sum of their weights.
    rows
        (T,): rows attended.
    softmax
        (H, T), bool: where the weights are softmax's, which no sink is added to.
    """
    normaliser = settings.normaliser
    if normaliser is Normaliser.NONE:
        return None
    if normaliser is Normaliser.LENGTH:
        divisor = rows.expand_as(exponent)
        y, k = reciprocal(divisor)
    elif normaliser is Normaliser.SUM:
        sink = _column(settings.sink, context)[:, 0] * ~softmax
        divisor, exponent = weight_sum + round_shift(sink, exponent), torch.zeros_like(exponent)
        y, k = reciprocal(divisor.clamp(min=1))
    else:
        divisor, exponent = _sum_of_squares(context, exponent, normaliser is Normaliser.RMS_LAYER)
        y, k = rsqrt(divisor.clamp(min=1))
    alpha = torch.tensor(settings.alpha, dtype=torch.int64, device=context.device)[:, :, None]
    multiplier, shift = _factor(y, k, alpha[:, 0], alpha[:, 1], exponent)
    gain: Tensor | int = formats.GAIN_ONE
    if normaliser in (Normaliser.RMS_HEAD, Normaliser.RMS_LAYER):
        gain = torch.tensor(settings.gain, dtype=torch.int64, device=context.device)[:, None, :]
    output = _scale(context, shift[:, :, None], multiplier[:, :, None], gain)
    return output.masked_fill((divisor == 0)[:, :, None], 0).to(torch.int8)


def _sum_of_squares(context: Tensor, exponent: Tensor, whole_layer: bool) -> tuple[Tensor, Tensor]:
    """(sum of squares after alignment, exponent that the contexts carry relative to it), both (H, T)."""
    magnitude = bit_length(torch.where(context < 0, ~context, context).amax(dim=2))
    if whole_layer:  # heads of zeros (or of 0 and -1) have no say in the alignment
        bits = (magnitude + exponent).masked_fill(magnitude == 0, 0).amax(dim=0, keepdim=True)
    else:
        bits, exponent = magnitude, torch.zeros_like(exponent)
    shift = (bits - formats.SQUARE_BITS).clamp(min=0) - exponent
    squares = round_shift(context, shift[:, :, None]).square().sum(dim=2)
    if whole_layer:
        squares = squares.sum(dim=0, keepdim=True).expand_as(shift)
    return squares, -shift


@dataclass(frozen=True)
class AttentionResult:
    """What the unit gives for every head and token; the parts of its result header, then the output.

    Attributes
    ----------
    context
        (H, T, d) int32; stands for ``context * 2**exponent`` (times the scales of q, K and V).
    exponent
        (H, T) int32: block exponent of a ReLU head, 0 of a softmax head.
    active, mass
        (H, T) int32 and int64: number and sum of the shifted scores above zero, in every mode.
    weight_sum, value_rows
        (H, T) int32: sum and number of the non-zero weights; one value row is read for each.
    masked, null, softmax, fallback
        (H, T) bool: the head did not run (all else is zero); ReLU weights were used and none is non-zero; softmax
        weights were used; they were because a hybrid head fell back.
    rows
        (T,) int32: rows attended.
    output
        (H, T, d) int8, or None without a normaliser.
    weights
        (H, T, n) uint8, or None where they were not asked for.
    """

    context: Tensor
    exponent: Tensor
    active: Tensor
    mass: Tensor
    weight_sum: Tensor
    value_rows: Tensor
    masked: Tensor
    null: Tensor
    softmax: Tensor
    fallback: Tensor
    rows: Tensor
    output: Tensor | None
    weights: Tensor | None

    @property
    def flags(self) -> Tensor:
        """(H, T) uint8, the header's flags: bit 0 masked, 1 null, 2 softmax, 3 fallback."""
        parts = (self.masked, self.null, self.softmax, self.fallback)
        return sum(part.to(torch.uint8) << bit for bit, part in enumerate(parts))


def attend(
    settings: LayerSettings, q: Tensor, k: Tensor, v: Tensor, visible: Tensor, *, keep_weights: bool = False
) -> AttentionResult:
    """Attention of queries to the rows that each may see, in one piece.

    Parameters
    ----------
    q, k, v
        int8, (H, T, d), (G, n, d) and (G, n, d).
    visible
        (T, n) bool; at least one row for each token.
    """
    shifted = scores(q, k) - _column(settings.theta, q)
    positive = shifted.clamp(min=0).masked_fill_(~visible, 0)
    active, mass, exponent = (positive > 0).sum(-1), positive.sum(-1), block_exponent(positive.amax(-1))
    weights = relu_weights(positive, exponent)
    softmax, fallback = _choose(settings, active, mass)
    if softmax.any():
        peak = shifted.masked_fill(~visible, torch.iinfo(torch.int64).min).amax(-1, keepdim=True)
        kappa = torch.tensor(settings.kappa, dtype=torch.int64, device=q.device)[:, :, None, None]
        soft = softmax_weights((peak - shifted).clamp(min=0), kappa[:, 0], kappa[:, 1]).masked_fill_(~visible, 0)
        weights = torch.where(softmax[:, :, None], soft, weights)
        exponent = exponent.masked_fill(softmax, 0)
    masked = torch.tensor(settings.mask, device=q.device)[:, None].expand_as(active)
    weights = weights.masked_fill(masked[:, :, None], 0)
    active, mass, exponent = (part.masked_fill(masked, 0) for part in (active, mass, exponent))
    context, weight_sum, rows = contexts(weights, v), weights.sum(-1), visible.sum(-1)
    return AttentionResult(
        context=context.to(torch.int32),
        exponent=exponent.to(torch.int32),
        active=active.to(torch.int32),
        mass=mass,
        weight_sum=weight_sum.to(torch.int32),
        value_rows=(weights > 0).sum(-1).to(torch.int32),
        masked=masked,
        null=~masked & ~softmax & (active == 0),
        softmax=~masked & softmax,
        fallback=~masked & fallback,
        rows=rows.to(torch.int32),
        output=normalise_heads(settings, context, exponent, weight_sum, rows, softmax),
        weights=weights.to(torch.uint8) if keep_weights else None,
    )


def _column(values: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=like.device)[:, None, None]


def _choose(settings: LayerSettings, active: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """(softmax weights are used, because of a fallback), both (H, T)."""
    mode = torch.tensor(settings.mode, device=active.device)[:, None]
    few = active < torch.tensor(settings.min_active, device=active.device)[:, None]
    light = mass < torch.tensor(settings.min_mass, device=active.device)[:, None]
    fallback = (mode == Mode.HYBRID) & (few | light)
    return (mode == Mode.SOFTMAX) | fallback, fallback


def run_layer(
    settings: LayerSettings, q: Tensor, k: Tensor, v: Tensor, *, keep_weights: bool = False
) -> AttentionResult:
    """A layer over a whole sequence: token t attends to rows 0...t.

    Parameters
    ----------
    q, k, v
        int8, (H, T, d), (G, T, d) and (G, T, d), T from 1 to 65,536.
    keep_weights
        Also give the weights, (H, T, T).

    Raises
    ------
    ValueError
        If a tensor's type or shape does not fit the settings.
    """
    check_tensors(settings, q, k, v)
    tokens = q.shape[1]
    if k.shape[1] != tokens:
        raise ValueError(f"k has {k.shape[1]} tokens: q has {tokens}")
    step = max(1, CHUNK_SCORES // (settings.heads * tokens))
    parts = []
    for start in range(0, tokens, step):
        stop = min(tokens, start + step)
        token, row = torch.arange(start, stop, device=q.device), torch.arange(stop, device=q.device)
        visible = row <= token[:, None]
        part = attend(settings, q[:, start:stop], k[:, :stop], v[:, :stop], visible, keep_weights=keep_weights)
        parts.append(part)
    return concatenate(parts, tokens)


def concatenate(parts: list[AttentionResult], rows: int) -> AttentionResult:
    """The results of steps that follow each other; weights are padded with zeros to ``rows``."""
    values = {}
    for field in fields(AttentionResult):
        items = [getattr(part, field.name) for part in parts]
        if items[0] is None:
            values[field.name] = None
            continue
        if field.name == "weights":
            items = [torch.nn.functional.pad(item, (0, rows - item.shape[2])) for item in items]
        values[field.name] = torch.cat(items, dim=0 if field.name == "rows" else 1)
    return AttentionResult(**values)


def attend_rows(
    settings: LayerSettings, q: Tensor, k: Tensor, v: Tensor, kept: Tensor | None = None
) -> AttentionResult:
    """One step, with an explicit set of rows: what KV-cache policies need.

    Parameters
    ----------
    q
        (H, d), int8: the token's queries.
    k, v
        (G, n, d), int8, in slot order.
    kept
        Rows to attend to: indices (m,), or (G, m) where KV heads keep different rows; all without it.

    Returns
    -------
    AttentionResult
        With T = 1 and weights (H, 1, m), in the order of ``kept``.

    Raises
    ------
    ValueError
        If a tensor's type or shape does not fit the settings, or no row is kept.
    """
    q = q.unsqueeze(1)
    if kept is not None:
        if kept.shape[-1] == 0:
            raise ValueError("kept is empty: a step attends to at least one row")
        index = kept.expand(k.shape[0], -1)[:, :, None].expand(-1, -1, k.shape[2])
        k, v = k.gather(1, index), v.gather(1, index)
    check_tensors(settings, q, k, v)
    visible = torch.ones(1, k.shape[1], dtype=torch.bool, device=q.device)
    return attend(settings, q, k, v, visible, keep_weights=True)


def check_tensors(settings: LayerSettings, q: Tensor, k: Tensor, v: Tensor) -> None:
    """ValueError if q (H, ..., d), k and v (G, n, d) are not int8 of the settings' shapes, n from 1 to 65,536."""
    for name, tensor, heads in (("q", q, settings.heads), ("k", k, settings.kv_heads), ("v", v, settings.kv_heads)):
        if tensor.dtype is not torch.int8:
            raise ValueError(f"{name} is {tensor.dtype}: torch.int8 is needed")
        if tensor.dim() != 3 or tensor.shape[0] != heads or tensor.shape[2] != settings.head_dim:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}: ({heads}, tokens, {settings.head_dim}) is needed"
            )
    if k.shape != v.shape:
        raise ValueError(f"v has shape {tuple(v.shape)}: k has {tuple(k.shape)}")
    if not 1 <= k.shape[1] <= formats.MAX_ROWS:
        raise ValueError(f"k has {k.shape[1]} rows: 1 to {formats.MAX_ROWS} are allowed")
