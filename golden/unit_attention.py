"""The unit's attention, computed by the integer model, for a deployed model's windows or token by token."""

from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from .deployed import DeployedModel
from .eviction import Evictor, Region, default_flags, run_policy
from .formats import Mode, Normaliser
from .gating import GatingSettings, HeadGate
from .head_mask import HeadMask
from .integer import CHUNK_SCORES, AttentionResult, attend_rows, run_layer
from .policies import Policy, PolicySettings
from .settings import LayerSettings

__all__ = ["Activity", "UnitAttention", "UnitOptions", "UnitSteps"]

TOKENS_AT_ONCE = 16
"""Windows run together up to where :func:`integer.run_layer` still takes steps of so many tokens."""
MASS_BITS = 24


@dataclass(frozen=True, kw_only=True)
class UnitOptions:
    """How the unit runs a model.

    Attributes
    ----------
    mode
        Of all heads; the model's own without it.
    min_active, min_mass
        A hybrid head falls back to softmax below either.
    mask
        Heads that do not run.
    policy
        Which rows are kept, in all layers or in each; all without it.
    gating
        When heads are turned off.
    """

    mode: Mode | None = None
    min_active: int = 0
    min_mass: int = 0
    mask: HeadMask | None = None
    policy: PolicySettings | tuple[PolicySettings, ...] | None = None
    gating: GatingSettings | None = None

    def policy_of(self, layer: int) -> PolicySettings | None:
        """Of one layer."""
        return self.policy[layer] if isinstance(self.policy, tuple) else self.policy

    def settings(self, model: DeployedModel, layer: int) -> LayerSettings:
        """Of one layer; ValueError if the mask is of another model."""
        if self.mask is not None:
            self.mask.check(model.config.layers, model.config.heads)
        return model.settings(
            layer,
            mode=self.mode,
            min_active=self.min_active,
            min_mass=self.min_mass,
            mask=False if self.mask is None else self.mask.of_layer(layer),
        )


@dataclass
class Activity:
    """Sums over the steps of a layer: rows kept and value rows read, for each head; heads; those that ran, that were
    null, and that fell back. Value rows also head by head."""

    rows: int = 0
    value_rows: int = 0
    head_value_rows: tuple[int, ...] = ()
    heads: int = 0
    ran: int = 0
    null: int = 0
    fallback: int = 0

    def add(self, result: AttentionResult, windows: int) -> None:
        """A result of windows that ran together, as further heads."""
        by_head = result.value_rows.long().unflatten(0, (windows, -1)).sum((0, 2)).tolist()
        before = self.head_value_rows or (0,) * len(by_head)
        self.head_value_rows = tuple(one + more for one, more in zip(before, by_head, strict=True))
        self.rows += int(result.rows.long().sum()) * len(result.value_rows)
        self.value_rows += sum(by_head)
        self.heads += result.masked.numel()
        self.ran += int((~result.masked).sum())
        self.null += int(result.null.sum())
        self.fallback += int(result.fallback.sum())

    @property
    def zero_share(self) -> float:
        """Share of the weights on kept rows that are zero; those of heads that did not run are."""
        return 1 - self.value_rows / max(1, self.rows)

    @property
    def head_zero_shares(self) -> list[float]:
        """As ``zero_share``, head by head."""
        return [1 - value_rows * len(self.head_value_rows) / self.rows for value_rows in self.head_value_rows]

    def as_dict(self) -> dict:
        """Plain values, for JSON; ``null_share`` and ``fallback_share`` are of the heads that ran."""
        shares = {
            "head_zero_shares": self.head_zero_shares,
            "zero_share": self.zero_share,
            "run_share": self.ran / max(1, self.heads),
        }
        shares |= {f"{name}_share": getattr(self, name) / max(1, self.ran) for name in ("null", "fallback")}
        return asdict(self) | shares


class UnitAttention:
    """What a :class:`decoder.Decoder` calls: windows of real rows in, real contexts out, int8 in between.

    A window is a sequence of its own. Windows run together where they do not depend on each other, as further heads.

    Attributes
    ----------
    activity
        An :class:`Activity` per layer, over all calls.

    Raises
    ------
    ValueError
        When made, if an option does not fit the model.
    """

    def __init__(self, model: DeployedModel, options: UnitOptions | None = None):
        self._model, self._options = model, options or UnitOptions()
        self._settings = [self._options.settings(model, layer) for layer in range(model.config.layers)]
        self.activity = [Activity() for _ in self._settings]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = self._model.quantise(layer, q, k, v)
        size = self._windows_at_once(layer, *q.shape[1:3])
        outputs = [self._run(layer, *part) for part in zip(*(values.split(size) for values in rows), strict=True)]
        return self._model.real_outputs(layer, torch.cat(outputs))

    def _windows_at_once(self, layer: int, heads: int, tokens: int) -> int:
        policy, normaliser = self._options.policy_of(layer), self._settings[0].normaliser
        # A layer's root mean square is over its heads, and DMS evicts by the flags of the sequence's own tokens.
        if normaliser is Normaliser.RMS_LAYER or (policy is not None and policy.policy is Policy.DMS):
            return 1
        rows = 1 if self._by_token else tokens
        return max(1, CHUNK_SCORES // (heads * TOKENS_AT_ONCE * rows))

    @property
    def _by_token(self) -> bool:
        return self._options.policy is not None or self._options.gating is not None

    def _run(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """int8 outputs (windows, heads, T, d) of int8 rows."""
        windows, _, tokens, _ = q.shape
        settings = _repeated(self._settings[layer], windows)
        rows = [values.flatten(0, 1) for values in (q, k, v)]
        if self._by_token:
            policy = self._options.policy_of(layer) or PolicySettings.create(Policy.REFUSE, tokens)
            run = run_policy(settings, policy, *rows, layer=layer, gating=self._options.gating)
            if run.refused is not None:
                raise ValueError(f"policy refuse has no room for token {run.refused} of {tokens}: choose another")
            result = run.attention
        else:
            result = run_layer(settings, *rows)
        self.activity[layer].add(result, windows)
        return result.output.reshape(q.shape)


def _repeated(settings: LayerSettings, times: int) -> LayerSettings:
    """For ``times`` sequences whose heads run as heads of one."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    per_head = {name: value * times for name, value in values.items() if isinstance(value, tuple)}
    return replace(settings, kv_heads=settings.kv_heads * times, **per_head)


class UnitSteps:
    """A :data:`deployed.Step`: one text, token by token, through the integer model, as the system runs it.

    Attributes
    ----------
    results
        The latest :class:`integer.AttentionResult` of each layer, or None.
    off
        Per layer, (heads,) bool: heads that did not run in its latest step because of their averages.
    """

    def __init__(
        self,
        model: DeployedModel,
        policy: PolicySettings,
        options: UnitOptions | None = None,
        *,
        mass_bits: int = MASS_BITS,
    ):
        """``policy`` replaces that of the options, which is for windows; ``mass_bits`` are the unit's."""
        options = options or UnitOptions()
        layers = range(model.config.layers)
        self._policy = policy
        self._settings = [options.settings(model, layer) for layer in layers]
        gating = options.gating or GatingSettings()
        self._gates = [HeadGate(gating, settings.mask) for settings in self._settings]
        self._flags: list[list[bool]] = [[] for _ in layers]
        self._evictors = [Evictor(policy, layer, self._flags[layer]) for layer in layers]
        like = torch.zeros(model.config.kv_heads, 1, model.config.head_dim, dtype=torch.int8)
        self._regions = [Region(policy.budget, like, mass_bits) for _ in layers]
        self.results: list[AttentionResult | None] = [None for _ in layers]
        self.off = [np.zeros(model.config.heads, bool) for _ in layers]

    def __call__(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Raises ValueError if the policy refuses the token."""
        queries, keys, values = (torch.from_numpy(np.array(rows)) for rows in (q, k, v))
        flags, region, gate = self._flags[layer], self._regions[layer], self._gates[layer]
        token = len(flags)
        flags.append(bool(default_flags(queries[:, None])[0]))
        slots = self._evictors[layer].slots(region, token)
        if slots is None:
            raise ValueError(f"policy refuse has no room for token {token}: choose another, or a larger budget")
        region.place(slots, token, keys, values)
        self.off[layer] = gate.off.copy()
        mask = tuple(bool(a or b) for a, b in zip(self._settings[layer].mask, gate.off, strict=True))
        settings = replace(self._settings[layer], mask=mask)
        result = attend_rows(settings, queries, region.k[:, : region.n], region.v[:, : region.n])
        if not self._evictors[layer].silent(token):
            region.earn(result.weights[:, 0])
        gate.observe(result.active[:, 0], result.mass[:, 0])
        self.results[layer] = result
        return result.output[:, 0].numpy()
