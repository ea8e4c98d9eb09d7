"""How long the steps of a run took: from a simulation's record of every beat, or from a device's own counters."""

from collections.abc import Iterator

from reluctant.boards.host import System
from reluctant.hdl.performance_counters import SYSTEM_COUNTER_BITS

__all__ = ["BeatTimes", "CounterTimes"]

WORKED = {"BUSY_CYCLES": 1, "INPUT_WAIT_CYCLES": -1, "OUTPUT_WAIT_CYCLES": -1}
"""Counters whose sum is the time that the unit itself took."""

Place = tuple[int, int]
"""Layer and token of a step."""


class BeatTimes:
    """Times of each step, from a transport that notes them, such as a simulation.

    Attributes
    ----------
    cycles
        By layer: from the end of the answer before to the end of each of its own.
    latencies
        By layer and step: cycles from the last input beat to the first output beat.
    """

    def __init__(self, system: System, layers: int):
        self._transport = transport = system.transport
        self.cycles, self.latencies = [0] * layers, [[] for _ in range(layers)]
        self._sent, self._answered, self._previous = len(transport.taken), len(transport.answered), transport.cycle

    def batches(self, tokens: int) -> Iterator[list[Place]]:
        """Steps to send before any answer is waited for: all, token by token."""
        yield [(layer, token) for token in range(tokens) for layer in range(len(self.cycles))]

    def answered(self, layer: int, index: int) -> None:
        """The next answer has come; it belongs to the step that was sent as number ``index``."""
        first, last = self._transport.answered[self._answered]
        self._answered += 1
        self.cycles[layer] += last - self._previous
        self.latencies[layer].append(first - self._transport.taken[self._sent + index])
        self._previous = last

    def end_batch(self, layer: int) -> None:
        """All answers of a batch have come."""


class CounterTimes:
    """Times of layers, from the unit's counters, which must have been cleared; a device tells no times of steps.

    Attributes
    ----------
    cycles
        By layer: cycles in which the unit had work, and waited neither for its host nor for the link; of a unit
        without counters, all cycles in which it had work.
    latencies
        Empty for each layer.
    """

    def __init__(self, system: System, layers: int):
        self._system, self._layers = system, layers
        self._before = dict.fromkeys(WORKED, 0) if system.config.unit.counter_bits else self._count()
        self.cycles, self.latencies = [], [[] for _ in range(layers)]

    def batches(self, tokens: int) -> Iterator[list[Place]]:
        """Steps to send before any answer is waited for: layer by layer, so that each has counts of its own."""
        for layer in range(self._layers):
            yield [(layer, token) for token in range(tokens)]

    def answered(self, layer: int, index: int) -> None:
        """An answer has come."""

    def end_batch(self, layer: int) -> None:
        """All answers of a batch have come; ``layer`` is that of its last step."""
        counts, bits = self._count(), self._system.config.unit.counter_bits or SYSTEM_COUNTER_BITS
        count = sum(sign * (counts[name] - self._before[name]) for name, sign in WORKED.items())
        self.cycles.append(count % (1 << bits))
        self._before = counts

    def _count(self) -> dict[str, int]:
        """What tells the work of the unit; of one without counters, what the system counts of it."""
        if self._system.config.unit.counter_bits:
            return self._system.counters()
        return dict.fromkeys(WORKED, 0) | {"BUSY_CYCLES": self._system.cycles()["UNIT_CYCLES"]}
