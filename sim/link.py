"""Messages between the process that asks and the simulator's: plain values and bytes, without pickles."""

import json
import socket
import struct

__all__ = ["Link"]

_HEAD = struct.Struct("<II")


class Link:
    """One end of a connected stream socket.

    A message is a head (anything that JSON holds) and a list of byte strings; on the wire: the lengths of two parts,
    then the head with the strings' lengths as JSON, then the strings.
    """

    def __init__(self, connection: socket.socket):
        self._socket = connection

    def send(self, head, strings: list[bytes]) -> None:
        """Send a message; raises OSError if the other end is gone."""
        text = json.dumps([head, [len(string) for string in strings]]).encode()
        data = b"".join(strings)
        self._socket.sendall(_HEAD.pack(len(text), len(data)) + text + data)

    def receive(self) -> tuple[object, list[bytes]] | None:
        """The next message; None if the other end is gone."""
        sizes = self._take(_HEAD.size)
        if sizes is None:
            return None
        text_size, data_size = _HEAD.unpack(sizes)
        body = self._take(text_size + data_size)
        if body is None:
            return None
        head, lengths = json.loads(body[:text_size])
        strings, start = [], text_size
        for length in lengths:
            strings.append(body[start : start + length])
            start += length
        return head, strings

    def _take(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._socket.recv(size - len(data))
            except ConnectionError:
                return None
            if not part:
                return None
            data += part
        return bytes(data)

    def close(self) -> None:
        """Let go; the other end sees that."""
        self._socket.close()
