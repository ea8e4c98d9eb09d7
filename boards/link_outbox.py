"""Packets on their way to a device."""

from collections import deque
from typing import NamedTuple

from reluctant.hdl.link_protocol import OPERATION_BYTES

__all__ = ["Outbox", "Part"]

MOST_BEATS = 256
"""Of a SEND."""
PROBE_BYTES = 64
"""Sent at a time, or one beat, while the device takes nothing."""


class Part(NamedTuple):
    """Beats for one SEND."""

    data: bytes
    beats: int
    last: bool


class Outbox:
    """A queue of packets, of which beats leave from the front.

    Parameters
    ----------
    beat_bytes
        Bytes of a beat.

    Attributes
    ----------
    begun
        Whether the device was offered beats of the first packet.
    blocked
        Whether the device did not take all of what was offered last.
    """

    def __init__(self, beat_bytes: int):
        self.beat_bytes = beat_bytes
        self.begun = self.blocked = False
        self._packets: deque[memoryview] = deque()

    def __len__(self) -> int:
        """Packets that were not offered whole."""
        return len(self._packets)

    def add(self, packet: bytes) -> None:
        """Queue a packet of whole beats."""
        self._packets.append(memoryview(bytes(packet)))

    def parts(self, room: int, given: int) -> list[Part]:
        """What comes next, as operations of ``room`` bytes at most, and ``given`` beats."""
        if self.blocked:
            room = min(room, OPERATION_BYTES + max(PROBE_BYTES, self.beat_bytes))
        parts = []
        for packet in self._packets:
            beats = min((room - OPERATION_BYTES) // self.beat_bytes, MOST_BEATS, given)
            if beats < 1:
                break
            data = packet[: beats * self.beat_bytes]
            parts.append(Part(bytes(data), len(data) // self.beat_bytes, len(data) == len(packet)))
            room, given = room - OPERATION_BYTES - len(data), given - parts[-1].beats
            if not parts[-1].last:
                break
        return parts

    def settle(self, beats: int, offered: int) -> None:
        """Of so many beats in parts, some were offered to the device."""
        self.blocked = offered < beats
        left = offered * self.beat_bytes
        while left:
            packet = self._packets[0]
            if left < len(packet):
                self._packets[0] = packet[left:]
                self.begun = True
                return
            left -= len(packet)
            self._packets.popleft()
            self.begun = False
