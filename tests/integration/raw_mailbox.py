"""The mailbox of a system through bare registers: no pairing of commands and packets, and no checks."""

from reluctant.boards.transport import Access, BusError, Transport
from reluctant.hdl.register_map import system_map
from reluctant.hdl.system_config import SystemConfig

__all__ = ["RawMailbox", "word_0"]


def word_0(operation: int, sequence: int = 0, layer: int = 0, tag: int = 0) -> int:
    """The first word of a command."""
    return operation | sequence << 8 | layer << 16 | tag << 24


class RawMailbox:
    """What a host can do with the registers, and what the registers answer."""

    def __init__(self, transport: Transport, config: SystemConfig):
        self.transport, self.registers = transport, system_map(config)

    def address(self, name: str, *indices: int) -> int:
        return self.registers.address(name, *indices)

    def status(self) -> dict[str, int]:
        return self.registers.decode("STATUS", self.transport.read(self.address("STATUS")))

    def control(self, **fields: int) -> None:
        """Write CONTROL; fields that are not named are 0."""
        self.transport.write(self.address("CONTROL"), self.registers.encode("CONTROL", **{"hold": 0, **fields}))

    def refused(self, address: int, word: int | None = None) -> bool:
        """Whether an access is answered with an error."""
        try:
            self.transport.execute([Access(address, word)])
        except BusError:
            return True
        return False

    def write_words(self, words: list[int]) -> None:
        """Words of the next command, which is not sent."""
        self.transport.write_many([(self.address("COMMAND", i), word) for i, word in enumerate(words)])

    def send(self, words: list[int]) -> None:
        """Send a command; there must be room."""
        self.write_words(words)
        self.transport.write(self.address("SEND"), len(words))

    def take(self) -> list[int] | None:
        """The oldest reply, if there is one."""
        status = self.status()
        if not status["replies"]:
            return None
        reads = [Access(self.address("REPLY", i)) for i in range(status["words"])]
        return self.transport.execute([*reads, Access(self.address("TAKE"), 1)])

    def wait_reply(self, limit: int) -> list[int]:
        """The next reply, which must come within so many cycles; IRQ_ENABLE.reply must be set."""
        assert self.transport.wait(limit), f"no reply within {limit} cycles: {self.status()}"
        return self.take()
