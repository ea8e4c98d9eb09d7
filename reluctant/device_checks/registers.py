"""The host's registers: what they are after a cold start, that they hold what is written, that wrong accesses fail."""

from collections.abc import Iterator

from reluctant.boards.transport import Access, BusError
from reluctant.hdl.address_map import AddressMap

from .check import Bench, Check, require

__all__ = ["register_checks"]

WORD_BYTES = 4
COLD = {"replies": 0, "held": 0, "busy": 0, "packet": 0}
"""Fields of STATUS while nothing is under way; ``room`` is the build's."""
COLD_START = 0
ALL_ONES = 0xFFFF_FFFF


def register_checks() -> Iterator[Check]:
    """All of this module."""
    yield Check("registers/identity", _identity)
    yield Check("registers/reset-values", _reset_values)
    yield Check("registers/write-and-read", _walk)
    yield Check("registers/refused-accesses", _refused)


def _identity(bench: Bench) -> None:
    """Identification, sizes and the configuration's hash: every register whose contents the build fixes."""
    registers, transport = bench.system.registers, bench.system.transport
    for name, register in registers.registers.items():
        if all(item.kind == "constant" for item in register.fields):
            wanted, word = registers.encode(name), transport.read(register.address)
            require(word == wanted, f"{name} is {word:#010x}: the build has {wanted:#010x}")


def _reset_values(bench: Bench) -> None:
    """After a cold start: nothing under way, no errors, and registers that read 0 do."""
    bench.system.restart(cold=True)
    bench.system.errors(clear=True)
    registers, transport = bench.system.registers, bench.system.transport
    for name in ("CONTROL", "ERROR", "SEND", "TAKE"):
        word = transport.read(registers.address(name))
        require(word == 0, f"{name} is {word:#010x} after a cold start, not 0")
    status = registers.decode("STATUS", transport.read(registers.address("STATUS")))
    for name, value in {**COLD, "room": bench.config.messages, "cause": COLD_START}.items():
        require(status[name] == value, f"STATUS.{name} is {status[name]} after a cold start, not {value}")
    info = bench.system.info()
    free = bench.unit.slots
    require((info.open, info.slots_free, info.longest_run, info.restarts) == ((), free, free, 0), f"INFO is {info}")


def _walk(bench: Bench) -> None:
    """A one, and a zero, walk through every field that keeps what is written; bits outside of fields stay 0."""
    registers, transport = bench.system.registers, bench.system.transport
    bench.system.control(hold=1)
    try:
        for name in ("IRQ_ENABLE", "MEMORY_ADDRESS"):
            before = transport.read(registers.address(name))
            for word in _walking(registers, name):
                _write_and_read(bench, name, word)
            transport.write(registers.address(name), before)
        for cold in (0, 1):
            _write_and_read(bench, "CONTROL", registers.encode("CONTROL", hold=1, cold=cold))
    finally:
        bench.system.control(cold=1)
        bench.system.restart(cold=True, now=True)


def _walking(registers: AddressMap, name: str) -> list[int]:
    """Words with one bit set, all set, none set, and one bit clear."""
    bits = [1 << bit for bit in range(32)]
    return [*bits, ALL_ONES, 0, *(ALL_ONES ^ bit for bit in bits)]


def _write_and_read(bench: Bench, name: str, word: int) -> None:
    registers = bench.system.registers
    address, mask = registers.address(name), _kept(registers, name)
    read = bench.system.transport.execute([Access(address, word), Access(address)])[0]
    require(
        read == word & mask, f"{name} reads {read:#010x} after {word:#010x} was written: {word & mask:#010x} is right"
    )


def _kept(registers: AddressMap, name: str) -> int:
    """The bits that keep what is written; a byte address in the memory is one of a word."""
    mask = sum(item.mask for item in registers.register(name).fields if item.kind not in ("pulse", "event"))
    return mask & ~(WORD_BYTES - 1) if name == "MEMORY_ADDRESS" else mask


def _refused(bench: Bench) -> None:
    """Accesses that are wrong are answered with an error, set their bit, change nothing; the bits can be cleared."""
    registers, system = bench.system.registers, bench.system
    system.errors(clear=True)
    last = max(item.address + WORD_BYTES * item.count for item in registers.registers.values())
    before = system.transport.read(registers.address("ID"))
    wrong = [
        ("bad_address", Access(last)),
        ("bad_address", Access(last, 1)),
        ("bad_address", Access(registers.address("ID"), 0)),
        ("bad_address", Access(registers.address("COMMAND", 0))),
        ("bad_send", Access(registers.address("SEND"), 0)),
        ("no_reply", Access(registers.address("TAKE"), 1)),
        ("not_held", Access(registers.address("MEMORY_DATA"))),
    ]
    for bit, access in wrong:
        require(_is_refused(bench, access), f"{access} was not refused")
        errors = system.errors(clear=True)
        require(errors == (bit,), f"{access} set the error bits {errors}, not {bit}")
        require(system.errors() == (), f"error bit {bit} stays set after it was cleared")
    require(system.transport.read(registers.address("ID")) == before, "a refused write changed a register")


def _is_refused(bench: Bench, access: Access) -> bool:
    try:
        bench.system.transport.execute([access])
    except BusError:
        return True
    return False
