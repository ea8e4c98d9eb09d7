"""A program lowered to addresses, words and packets: what the simulator's process executes, and what it gives back.

:mod:`reluctant.sim.lowering` makes it in the parent, so that the process inside the simulator imports neither the
generator nor its register map: most of a short simulation's time would go there. Both directions travel as ``.npz``
files without pickles: scalars as JSON text, packets as one array of bytes.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["RESPONSES", "Record", "Script"]

RESPONSES = ("OKAY", "EXOKAY", "SLVERR", "DECERR")
"""Of AXI, by number."""


def _save(path: Path, head: dict, packets: list[bytes]) -> None:
    lengths = np.array([len(packet) for packet in packets], np.int64)
    data = np.frombuffer(b"".join(packets), np.uint8)
    np.savez(path, head=np.frombuffer(json.dumps(head).encode(), np.uint8), lengths=lengths, data=data)


def _load(path: Path) -> tuple[dict, list[bytes]]:
    with np.load(path, allow_pickle=False) as file:
        head, lengths, data = json.loads(file["head"].tobytes()), file["lengths"], file["data"].tobytes()
    ends = np.cumsum(lengths).tolist()
    return head, [data[end - length : end] for end, length in zip(ends, lengths.tolist(), strict=True)]


@dataclass
class Script:
    """Actions for the bench.

    Attributes
    ----------
    actions
        Lists that start with a word: ``writes`` [[address, word], ...]; ``write`` address, bytes in hex, response;
        ``read`` address, expected word or None, mask, response, name; ``start`` count of input packets taken before it;
        ``packet`` index; ``packets`` count of output packets to wait for; ``interrupt`` level; ``idle`` count of output
        packets; ``delay`` cycles.
    packets
        Input packets, in order.
    addresses
        Byte addresses that the bench itself uses.
    identity
        [name, address, word] of constant registers, checked at the start.
    counters
        Address of each performance counter's low half.
    patience
        Cycles without any transfer after which the run counts as hanging.
    """

    actions: list = field(default_factory=list)
    packets: list[bytes] = field(default_factory=list)
    addresses: dict[str, int] = field(default_factory=dict)
    identity: list = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    patience: int = 10_000

    def save(self, path: Path) -> None:
        """Write to an ``.npz`` file."""
        _save(path, {name: value for name, value in vars(self).items() if name != "packets"}, self.packets)

    @classmethod
    def load(cls, path: Path) -> "Script":
        """Read what :meth:`save` wrote."""
        head, packets = _load(path)
        return cls(packets=packets, **head)


@dataclass
class Record:
    """What the bench observed. Times are in cycles since the start of the simulation.

    Attributes
    ----------
    packets
        Output packets, in order.
    reads
        Words of the ``read`` actions, in order.
    counters, status, error
        Performance counters by name, and the registers of these names, at the end.
    started
        When each ``start`` was answered.
    taken
        When the last beat of each input packet was taken.
    answered
        [first beat, last beat] of each output packet.
    cycles
        Length of the simulation.
    """

    packets: list[bytes] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    status: int = 0
    error: int = 0
    started: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    answered: list[list[int]] = field(default_factory=list)
    cycles: int = 0

    save = Script.save
    load = classmethod(Script.load.__func__)
