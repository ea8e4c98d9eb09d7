"""An open sequence of a system."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reluctant.golden.policies import PolicySettings

from .commands import Ticket
from .results import PrefillResult, RegionState, SlotContents, StepResult

if TYPE_CHECKING:
    from .host import System

__all__ = ["Sequence"]


@dataclass(frozen=True, eq=False)
class Sequence:
    """An open sequence: its number, policy, layers, and first slot in the store."""

    system: "System"
    number: int
    policy: PolicySettings
    layers: int
    first_slot: int

    def step(self, layer: int, keys, values, queries=None, *, flag: bool = False) -> StepResult:
        """See :meth:`System.submit_step`."""
        return self.system.wait(self.submit_step(layer, keys, values, queries, flag=flag))

    def submit_step(self, layer: int, keys, values, queries=None, *, flag: bool = False) -> Ticket:
        """See :meth:`System.submit_step`."""
        return self.system.submit_step(self.number, layer, keys, values, queries, flag=flag)

    def prefill(self, layer: int, keys, values, queries=None, *, flags=None) -> PrefillResult:
        """See :meth:`System.prefill`."""
        return self.system.prefill(self.number, layer, keys, values, queries, flags=flags)

    def slots(self, layer: int, kv_head: int) -> SlotContents:
        """See :meth:`System.slots`."""
        return self.system.slots(self.number, layer, kv_head)

    def state(self, layer: int) -> RegionState:
        """See :meth:`System.state`."""
        return self.system.state(self.number, layer)

    def reset(self) -> None:
        """Forget all rows, and what damaged the sequence; settings stay."""
        self.system.reset(self.number)

    def close(self) -> None:
        """Give the slots back."""
        self.system.close_sequence(self.number)
