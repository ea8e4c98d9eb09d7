"""A simulated unit or system behind the interface of a board."""

import socket
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from reluctant.boards.transport import Access, BusError, NoPacketError, TransportError

from .build import Build
from .clocks import Clocks
from .launch import FAILURE_FILE, SimulationError, failure, launch
from .link import Link

__all__ = ["PATIENCE", "SimulatedTransport"]

PATIENCE = 200_000
"""Cycles to wait where a call does not say."""
_LOOK = 0.2
"""Seconds between two looks at whether a simulator that has not connected yet is alive."""


class SimulatedTransport:
    """A :class:`reluctant.boards.transport.Transport` to a simulation, which runs in a process of its own.

    Simulated time passes only while a call waits for the device, and depends on nothing but the calls: the same calls
    take the same cycles. Packets that are sent start with the next call that lets time pass.

    Parameters
    ----------
    build
        From :func:`reluctant.sim.build.compile_bench`.
    beat_bytes
        Lanes of the unit.
    stall_seed
        Holds every bus channel back at random, the same way for the same seed.
    waves
        FST file, written on closing; the build must be one with waves.
    clocks
        Of a device whose unit has a clock of its own, what both are; else the two have the same period.
    patience
        Cycles that a call without a limit waits. A register access that takes longer ends the simulation.

    Attributes
    ----------
    cycle
        Cycles since the start of the simulation, at the end of the latest call.
    taken
        Cycle in which the last beat of each input packet was taken.
    answered
        (first beat, last beat) of each output packet, in cycles.

    Raises
    ------
    SimulationError
        From any call, when a bus rule is broken, a register does not answer, or the simulator dies.
    """

    def __init__(
        self,
        build: Build,
        beat_bytes: int,
        *,
        stall_seed: int | None = None,
        waves: Path | str | None = None,
        clocks: Clocks | None = None,
        patience: int = PATIENCE,
    ):
        self.beat_bytes, self.patience = beat_bytes, patience
        self.cycle = 0
        self.taken: list[int] = []
        self.answered: list[tuple[int, int]] = []
        self._outbox: list[bytes] = []
        self._sent = 0
        self._inbox: deque[bytes] = deque()
        self._level = False
        self._complaint: BaseException | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="reluctant-")
        self._link: Link | None = None
        self._process = threading.Thread(
            target=self._run, args=(build, stall_seed, waves, clocks or Clocks()), daemon=True
        )
        self._connect()

    def _run(self, build: Build, stall_seed: int | None, waves: Path | str | None, clocks: Clocks) -> None:
        folder = Path(self._folder.name)
        environment = {
            "RELUCTANT_LINK": str(folder / "link"),
            "RELUCTANT_FAILURE": str(folder / FAILURE_FILE),
            "RELUCTANT_PATIENCE": str(self.patience),
            **(clocks.check().environment() if build.own_clock else {}),
        }
        self._complaint = launch(build, "reluctant.sim.remote", folder, environment, stall_seed=stall_seed, waves=waves)

    def _connect(self) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"{self._folder.name}/link")
            listener.listen(1)
            listener.settimeout(_LOOK)
            self._process.start()
            while True:
                try:
                    connection, _ = listener.accept()
                    break
                except TimeoutError:
                    if not self._process.is_alive():
                        self._fail()
        connection.settimeout(None)
        self._link = Link(connection)
        self._ask("delay", 0)

    def _fail(self) -> None:
        """The simulator is gone: say why."""
        self._process.join()
        reason = failure(Path(self._folder.name))
        self._drop()
        raise SimulationError(reason) from self._complaint

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self._folder.cleanup()

    def _ask(self, name: str, argument) -> dict:
        if self._link is None:
            raise TransportError("the simulation is closed")
        packets, self._outbox = self._outbox, []
        try:
            self._link.send([name, argument], packets)
            answer = self._link.receive()
        except OSError:
            answer = None
        if answer is None:
            self._fail()
        head, fresh = answer
        self._inbox += fresh
        self.taken += head["taken"]
        self.answered += [tuple(times) for times in head["answered"]]
        self.cycle, self._level = head["cycle"], bool(head["level"])
        return head

    def read(self, address: int) -> int:
        """See :class:`Transport`."""
        return self.execute([Access(address)])[0]

    def write(self, address: int, word: int) -> None:
        """See :class:`Transport`."""
        self.execute([Access(address, word)])

    def execute(self, accesses: Iterable[Access]) -> list[int]:
        """See :class:`Transport`."""
        accesses = [Access(*access) for access in accesses]
        head = self._ask("execute", accesses)
        if head["refused"] is not None:
            raise BusError(*accesses[head["refused"]])
        return head["words"]

    def write_many(self, writes: Sequence[tuple[int, int]]) -> None:
        """See :class:`Transport`."""
        self.execute(Access(address, word) for address, word in writes)

    def read_many(self, addresses: Sequence[int]) -> list[int]:
        """See :class:`Transport`."""
        return self.execute(Access(address) for address in addresses)

    def send(self, packet: bytes) -> None:
        """See :class:`Transport`."""
        if not packet or len(packet) % self.beat_bytes:
            raise ValueError(f"a packet has {len(packet)} bytes: whole beats of {self.beat_bytes} are needed")
        self._outbox.append(bytes(packet))
        self._sent += 1

    def unsent(self) -> int:
        """See :class:`Transport`."""
        return self._sent - len(self.taken)

    def receive(self, limit: int | None = None) -> bytes:
        """See :class:`Transport`; a packet that has come already takes no time."""
        limit = self.patience if limit is None else limit
        if not self._inbox:
            self._ask("receive", limit)
        if not self._inbox:
            raise NoPacketError(f"no output packet came within {limit} cycles, up to cycle {self.cycle}")
        return self._inbox.popleft()

    def wait(self, limit: int | None = None) -> bool:
        """See :class:`Transport`."""
        self._ask("wait", self.patience if limit is None else limit)
        return self._level

    def poll(self) -> bool:
        """See :class:`Transport`."""
        return self.wait(1)

    def delay(self, cycles: int) -> None:
        """Let cycles pass."""
        self._ask("delay", cycles)

    def send_part(self, beats: bytes) -> None:
        """Queue beats of a packet that does not end with them: what is sent next goes on with it."""
        self._ask("part", beats.hex())

    def hold_results(self, holding: bool) -> None:
        """Take no output any more, as a host that does not read; or go on."""
        self._ask("hold", holding)

    def reset(self) -> None:
        """Reset the device, in mid-beat or not; what was sent and not taken is lost."""
        self._ask("reset", None)
        self._sent = len(self.taken)

    def close(self) -> None:
        """End the simulation; raises SimulationError if it does not end well."""
        if self._link is not None:
            self._ask("end", None)
            self._link.close()
            self._process.join()
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            self.close()
        except SimulationError:
            if kind is None:
                raise
