"""KV policies, run token by token on the integer model: the twin of the firmware's decisions.

``docs/policies.md`` is the specification. A policy is a function that says, from what a region keeps, which rows may
leave and by what metric the victim is found; all else is the same for all policies.

Shapes: heads H, KV heads G, tokens T, rows kept n, head dimension d.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import formats
from .gating import GatingSettings, HeadGate
from .integer import AttentionResult, attend_rows, check_tensors, concatenate, reciprocal
from .policies import Policy, PolicySettings
from .settings import LayerSettings

__all__ = ["PolicyRun", "default_flags", "run_policy"]

MAX_SEGMENTS = 32
"""BUZZ merges its segments when there would be more."""
_ZERO_SEED = 0x9E3779B9
"""NACL: state of the random numbers where the seed would make it 0."""
_WORD = (1 << 32) - 1
_RATE_FRACTION = 8


@dataclass(frozen=True)
class PolicyRun:
    """What a policy did to one layer.

    Attributes
    ----------
    attention
        Results of the T steps that were taken. Its weights, where asked for, are (H, T, budget), in slot order.
    kept
        (T, G, budget) int64: position of the row in each slot during the step, -1 in slots beyond ``attention.rows``.
    slots
        (T, G) int64: slot that the new row went to.
    evicted
        (T, G) int64: position of the row that was there, -1 where the slot was free.
    mass
        (G, budget) int64: what each slot's row has earned when the run ended.
    off
        (T, H) bool: heads that did not run because of their averages. The static mask does not count.
    refused
        First token that the policy refused, or None; it and those behind it took no step.
    """

    attention: AttentionResult
    kept: Tensor
    slots: Tensor
    evicted: Tensor
    mass: Tensor
    off: Tensor
    refused: int | None


def default_flags(q: Tensor) -> Tensor:
    """(T,) bool, of int8 queries (H, T, d): which tokens DMS flags where nothing else says so."""
    return q[0, :, 0] > 0


class Region:
    """The rows that one layer of one sequence keeps, in slot order, alike in number for all KV heads.

    Attributes
    ----------
    n
        Rows kept.
    k, v
        (G, budget, d) int8.
    position, mass
        (G, budget) int64; position is -1 beyond ``n``.
    """

    def __init__(self, budget: int, k: Tensor, mass_bits: int):
        kv_heads, _, head_dim = k.shape
        self.n = 0
        self.k, self.v = k.new_zeros(2, kv_heads, budget, head_dim)
        self.position = torch.full((kv_heads, budget), -1, dtype=torch.int64, device=k.device)
        self.mass = torch.zeros_like(self.position)
        self._mass_max = (1 << mass_bits) - 1
        self._every = torch.arange(kv_heads, device=k.device)

    def place(self, slots: Tensor, position: int, k: Tensor, v: Tensor) -> Tensor:
        """Put the token's rows (G, d) into ``slots`` (G,); returns the positions (G,) that were there."""
        at = self._every, slots
        before = self.position[at]
        self.k[at], self.v[at], self.position[at], self.mass[at] = k, v, position, 0
        self.n = int((self.position[0] >= 0).sum())
        return before

    def earn(self, weights: Tensor) -> None:
        """Add the weights (H, n) of a step to the masses."""
        earned = weights.to(torch.int64).reshape(len(self.mass), -1, self.n).sum(1)
        self.mass[:, : self.n] = (self.mass[:, : self.n] + earned).clamp(max=self._mass_max)


# Policies -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """All that a decision depends on.

    Attributes
    ----------
    settings
        The policy.
    t
        Position of the token that needs a slot.
    position, mass
        (G, n) int64: of the rows kept.
    flagged
        The row that has just left the recent window is no sink and its token was flagged.
    random
        The number drawn for this eviction.
    """

    settings: PolicySettings
    t: int
    position: Tensor
    mass: Tensor
    flagged: bool
    random: int

    @property
    def just_left(self) -> int:
        """Position that has just left the recent window; it is kept, unless negative."""
        return self.t - self.settings.recent - 1

    @property
    def evictable(self) -> Tensor:
        """(G, n): neither a sink nor in the recent window."""
        return (self.position >= self.settings.sinks) & (self.t - self.position > self.settings.recent)


Choice = tuple[Tensor, Tensor]
"""Rows that may leave (G, n), and the metric (G, n): the row that leaves is the first of those where it is least."""


def _streaming(moment: Moment) -> Choice:
    return moment.evictable, moment.position


def _h2o(moment: Moment) -> Choice:
    if not moment.settings.normalised:
        return moment.evictable, moment.mass
    y, k = reciprocal((moment.t - moment.position).clamp(min=1))
    return moment.evictable, (moment.mass * y) >> (formats.MANTISSA_BITS - _RATE_FRACTION + k)


def _buzz(moment: Moment) -> Choice:
    """Segments are counted afresh from the rows kept; their size follows from the row that has just left the window."""
    sinks, size = moment.settings.sinks, moment.settings.stride
    while (moment.just_left - sinks) // size >= MAX_SEGMENTS:
        size *= 2
    segment = (moment.position - sinks).clamp(min=0) // size
    inside = moment.evictable
    number = torch.arange(MAX_SEGMENTS, device=segment.device)
    counts = ((segment[:, :, None] == number) & inside[:, :, None]).sum(1)
    fullest = _first_least(-counts, torch.ones_like(counts, dtype=torch.bool))
    return inside & (segment == fullest[:, None]), moment.mass


def _nacl(moment: Moment) -> Choice:
    sinks, x = moment.settings.sinks, moment.random
    if x % 256 >= moment.settings.share:
        return moment.evictable, moment.mass
    low = sinks + ((x >> 16) * (moment.just_left + 1 - sinks) >> 16)
    return moment.evictable & (moment.position >= low), moment.position


def _dms(moment: Moment) -> Choice:
    if moment.flagged:
        return moment.position == moment.just_left, moment.position
    return moment.evictable, moment.position


_CHOICES: dict[Policy, Callable[[Moment], Choice]] = {
    Policy.STREAMING: _streaming,
    Policy.H2O: _h2o,
    Policy.BUZZ: _buzz,
    Policy.NACL: _nacl,
    Policy.DMS: _dms,
}
"""Victims of each policy; ``refuse`` has none."""


def _first_least(metric: Tensor, among: Tensor) -> Tensor:
    """(G,): in each row of ``metric`` (G, n), the index of the first least element where ``among`` (G, n) is true."""
    ranked = metric * metric.shape[1] + torch.arange(metric.shape[1], device=metric.device)
    return ranked.masked_fill(~among, torch.iinfo(torch.int64).max).argmin(1)


def _xorshift(x: int) -> int:
    x ^= x << 13 & _WORD
    x ^= x >> 17
    return x ^ (x << 5 & _WORD)


# A layer --------------------------------------------------------------------------------------------------------------


class Evictor:
    """Says where each token of one layer of one sequence goes; to be asked for each token in turn."""

    def __init__(self, settings: PolicySettings, layer: int, flags: Tensor | None):
        """``flags``: (T,) bool, of the tokens; only DMS needs them."""
        self._settings, self._flags = settings, flags
        self._random = (settings.seed ^ (layer << 24)) & _WORD or _ZERO_SEED

    def slots(self, region: Region, t: int) -> Tensor | None:
        """(G,) int64: where the rows of token ``t`` go; None if it is refused."""
        settings, left = self._settings, t - self._settings.recent - 1
        flagged = settings.policy is Policy.DMS and left >= settings.sinks and bool(self._flags[left])
        if region.n < settings.budget and not flagged:
            return torch.full_like(region.position[:, 0], region.n)
        if settings.policy is Policy.REFUSE:
            return None
        self._random = _xorshift(self._random)
        position, mass = region.position[:, : region.n], region.mass[:, : region.n]
        moment = Moment(settings, t, position, mass, flagged, self._random)
        evictable, metric = _CHOICES[settings.policy](moment)
        return _first_least(metric, evictable)

    def silent(self, t: int) -> bool:
        """The weights of token ``t`` do not count as mass."""
        stride = self._settings.stride
        return self._settings.policy is Policy.NACL and t % stride != stride - 1


def run_policy(
    layer_settings: LayerSettings,
    policy: PolicySettings,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    layer: int = 0,
    flags: Tensor | None = None,
    gating: GatingSettings | None = None,
    mass_bits: int = 24,
    keep_weights: bool = False,
    progress: Callable[[], None] | None = None,
) -> PolicyRun:
    """One layer of a sequence: each token makes room, is appended, and attends to what is kept.

    Parameters
    ----------
    q, k, v
        int8, (H, T, d), (G, T, d) and (G, T, d), T from 1 to 65,536.
    layer
        The layer's number, 0 to 255: NACL draws different numbers in each.
    flags
        (T,) bool: tokens that DMS evicts when they leave the window; :func:`default_flags` without it. Other policies
        ignore it.
    gating
        When to turn heads off; never without it.
    mass_bits
        Width of a slot's mass, 8 to 32.
    keep_weights
        Also give the weights.
    progress
        Called after each token.

    Raises
    ------
    ValueError
        If a tensor's type or shape does not fit the settings, or a number is out of range.
    """
    check_tensors(layer_settings, q, k, v)
    flags = default_flags(q) if flags is None else flags
    _check(q, k, flags, layer, mass_bits)
    region, evictor = Region(policy.budget, k, mass_bits), Evictor(policy, layer, flags)
    gate = HeadGate(gating or GatingSettings(), layer_settings.mask)
    parts, kept, slots, evicted, off = [], [], [], [], []
    refused = None
    for t in range(q.shape[1]):
        slot = evictor.slots(region, t)
        if slot is None:
            refused = t
            break
        evicted.append(region.place(slot, t, k[:, t], v[:, t]))
        off.append(torch.from_numpy(gate.off))
        result = attend_rows(_without(layer_settings, gate), q[:, t], region.k[:, : region.n], region.v[:, : region.n])
        if not evictor.silent(t):
            region.earn(result.weights[:, 0])
        gate.observe(result.active[:, 0].cpu(), result.mass[:, 0].cpu())
        parts.append(result if keep_weights else replace(result, weights=None))
        kept.append(region.position.clone())
        slots.append(slot)
        if progress:
            progress()
    return PolicyRun(
        attention=concatenate(parts, policy.budget),
        kept=torch.stack(kept),
        slots=torch.stack(slots),
        evicted=torch.stack(evicted),
        mass=region.mass,
        off=torch.stack(off),
        refused=refused,
    )


def _without(settings: LayerSettings, gate: HeadGate) -> LayerSettings:
    """The settings of a step: heads that the gate has turned off are masked too."""
    off = gate.off
    if not off.any():
        return settings
    return replace(settings, mask=tuple(bool(a or b) for a, b in zip(settings.mask, off, strict=True)))


def _check(q: Tensor, k: Tensor, flags: Tensor, layer: int, mass_bits: int) -> None:
    tokens = q.shape[1]
    if k.shape[1] != tokens:
        raise ValueError(f"k has {k.shape[1]} tokens: q has {tokens}")
    if flags.dtype is not torch.bool or flags.shape != (tokens,):
        raise ValueError(f"flags are {flags.dtype} {tuple(flags.shape)}: torch.bool ({tokens},) is needed")
    if not 0 <= layer <= 255:
        raise ValueError(f"layer is {layer}: 0 to 255 is allowed")
    if not 8 <= mass_bits <= 32:
        raise ValueError(f"mass_bits is {mass_bits}: 8 to 32 is allowed")
