"""The attention of a text, step by step, on a system or on the integer model, with what it cost."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from reluctant.golden.errors import UserError
from reluctant.golden.policies import PolicySettings
from reluctant.hdl.system_config import SystemConfig

if TYPE_CHECKING:
    from reluctant.boards.host import System
    from reluctant.golden.decoder import DecoderConfig
    from reluctant.golden.deployed import DeployedModel
    from reluctant.golden.unit_attention import UnitOptions

__all__ = ["ModelSteps", "Steps", "SystemSteps", "Totals", "check_model"]


@dataclass
class Totals:
    """Sums over all steps of a text, one for each token and layer.

    Attributes
    ----------
    steps
        Their number.
    key_rows, value_rows
        Rows read by all heads: a value row for each weight that is not zero.
    null_heads, heads_off
        Heads without an active score, and heads that gating turned off.
    evictions
        Rows that left, of all KV heads.
    cycles, unit_cycles
        From the first access of the host to the last of each step, and those of them in which the unit had a job; None
        where nothing was simulated.
    firmware_cycles, firmware_exposed
        In which the core ran, and those of them in which the unit had nothing to do; None likewise.
    """

    steps: int = 0
    key_rows: int = 0
    value_rows: int = 0
    null_heads: int = 0
    heads_off: int = 0
    evictions: int = 0
    cycles: int | None = None
    unit_cycles: int | None = None
    firmware_cycles: int | None = None
    firmware_exposed: int | None = None

    @property
    def zero_share(self) -> float:
        """Share of the weights that are zero, of heads that ran."""
        return 1 - self.value_rows / max(1, self.key_rows)

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self) | {"zero_share": self.zero_share}


class Steps(Protocol):
    """A :data:`reluctant.golden.deployed.Step` that keeps count."""

    def __call__(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        """See :data:`reluctant.golden.deployed.Step`."""

    def totals(self) -> Totals:
        """Of the steps so far."""


class ModelSteps:
    """:class:`Steps` on the integer model.

    ``mass_bits`` are those of the unit that it stands for.
    """

    def __init__(self, model: "DeployedModel", policy: PolicySettings, options: "UnitOptions", mass_bits: int):
        from reluctant.golden.unit_attention import UnitSteps

        self._steps, self._totals = UnitSteps(model, policy, options, mass_bits=mass_bits), Totals()
        self._kept = _Kept(model.config)

    def __call__(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        output = self._steps(layer, q, k, v)
        result, totals = self._steps.results[layer], self._totals
        rows = int(result.rows)
        totals.steps += 1
        totals.key_rows += rows * int((~result.masked).sum())
        totals.value_rows += int(result.value_rows.sum())
        totals.null_heads += int(result.null.sum())
        totals.heads_off += int(self._steps.off[layer].sum())
        totals.evictions += self._kept.evicted(layer, rows)
        return output

    def totals(self) -> Totals:
        return self._totals


class SystemSteps:
    """:class:`Steps` on a system: sets up its layers and opens sequence 0."""

    def __init__(self, system: "System", model: "DeployedModel", policy: PolicySettings, options: "UnitOptions"):
        layers = model.config.layers
        for layer in range(layers):
            system.configure_layer(layer, options.settings(model, layer))
        self._system = system
        self._sequence = system.open_sequence(0, policy, layers, options.gating)
        self._totals, self._kept = Totals(cycles=0), _Kept(model.config)
        system.counters(clear=True)
        self._before = system.cycles()

    def __call__(self, layer: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        from reluctant.golden.eviction import default_flags

        transport, totals = self._system.transport, self._totals
        before = transport.cycle
        result = self._sequence.step(layer, k, v, q, flag=bool(default_flags(q[:, None])[0]))
        totals.steps += 1
        totals.cycles += transport.cycle - before
        totals.heads_off += int(result.off.sum())
        totals.evictions += self._kept.evicted(layer, result.n)
        return result.heads.output

    def totals(self) -> Totals:
        counters, totals = self._system.counters(), self._totals
        after = self._system.cycles()
        # A unit without counters tells nothing of its work.
        totals.key_rows, totals.value_rows = counters.get("KEY_ROWS", 0), counters.get("VALUE_ROWS", 0)
        totals.null_heads, totals.unit_cycles = counters.get("NULL_HEADS", 0), counters.get("BUSY_CYCLES", 0)
        totals.firmware_cycles, totals.firmware_exposed = (
            after[name] - self._before[name] for name in ("ACTIVE_CYCLES", "EXPOSED_CYCLES")
        )
        return totals


class _Kept:
    """How many rows each layer keeps."""

    def __init__(self, config: "DecoderConfig"):
        self._rows, self._kv_heads = [0] * config.layers, config.kv_heads

    def evicted(self, layer: int, rows: int) -> int:
        """Rows that left in a step, which added one for each KV head, so that ``rows`` are kept now."""
        before, self._rows[layer] = self._rows[layer], rows
        return (before + 1 - rows) * self._kv_heads


def check_model(config: SystemConfig, model: "DecoderConfig", tokens: int) -> None:
    """Raise UserError if the system cannot compute a model's attention to a text of so many tokens."""
    from reluctant.golden.deployed import NORMALISERS
    from reluctant.golden.kinds import AttentionKind

    unit, normaliser = config.unit, NORMALISERS[model.attention].name.lower()
    if model.attention is AttentionKind.SOFTMAX and not unit.softmax:
        raise UserError("softmax is False: the model's attention is softmax: add --set softmax=true")
    if normaliser not in unit.normalisers:
        have = ",".join(unit.normalisers) or "none"
        raise UserError(f"normalisers is {have}: the model needs {normaliser}: add --set normalisers={normaliser}")
    if tokens > 1 << unit.position_bits:
        limit = 1 << unit.position_bits
        raise UserError(f"position_bits is {unit.position_bits}: {tokens:,} tokens are more than {limit:,}")
