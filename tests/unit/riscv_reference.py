"""What a program must do, from Unicorn (QEMU's RV32), compared instruction by instruction with what the core did.

Unicorn executes what is legal and goes well; which instruction traps, and how, is decided here: Unicorn takes
misaligned data, compressed code and much else that the core does not have.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from unicorn import UC_ARCH_RISCV, UC_HOOK_CODE, UC_HOOK_MEM_WRITE, UC_MODE_RISCV32, Uc, UcError
from unicorn import riscv_const as names

from reluctant.hdl.riscv_isa import Cause, Csr
from reluctant.sim.core_bench import Event

from .riscv_programs import name_of

REGISTERS = [getattr(names, f"UC_RISCV_REG_X{index}") for index in range(32)]
PC, MTVEC, MEPC = names.UC_RISCV_REG_PC, names.UC_RISCV_REG_MTVEC, names.UC_RISCV_REG_MEPC
MCAUSE, MTVAL = names.UC_RISCV_REG_MCAUSE, names.UC_RISCV_REG_MTVAL
INTERRUPT = 1 << 31 | Cause.EXTERNAL_INTERRUPT
SIZE = 0x10000
READ_ONLY = 0xC00
BRANCHES = {
    "beq": lambda a, b: a == b,
    "bne": lambda a, b: a != b,
    "blt": lambda a, b: _signed(a, 32) < _signed(b, 32),
    "bge": lambda a, b: _signed(a, 32) >= _signed(b, 32),
    "bltu": lambda a, b: a < b,
    "bgeu": lambda a, b: a >= b,
}
END = 0x40000000


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> bits - 1 << bits)


class Done(NamedTuple):
    """An instruction or trap of the core: where, the registers that it wrote, the words that it stored."""

    trap: bool
    pc: int
    writes: tuple
    stores: tuple


class Decoded(NamedTuple):
    """A word, as far as the reference looks at it."""

    name: str | None
    rd: int
    rs1: int
    rs2: int
    immediate: int


def instructions(events: Iterable[Event]) -> list[Done]:
    """Events of the bench, those of an instruction together."""
    done, writes, stores = [], [], []
    for event in events:
        if event.kind == "w":
            writes.append(event.numbers)
        elif event.kind == "s":
            stores.append(event.numbers)
        else:
            done.append(Done(event.kind == "t", event.numbers[0], tuple(writes), tuple(stores)))
            writes, stores = [], []
    return done


class Reference:
    """Runs ``words`` from address 0 and compares with ``done``, in which interrupts may come when they are enabled."""

    def __init__(self, words: list[int], done: list[Done], *, multiply: bool = False):
        self.done, self.multiply = done, multiply
        self.index = 0
        self.pc = 0
        self.status = [False, False]  # MIE, MPIE
        self.stored = []
        self.rd = 0  # that the instruction before wrote
        self.after_mepc = False
        self.here = None  # why the hook stopped Unicorn
        self.cache = {}
        self.traps = {}
        self.names = {}
        uc = self.uc = Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
        uc.mem_map(0, SIZE)
        uc.mem_write(0, struct.pack(f"<{len(words)}I", *words))
        uc.hook_add(UC_HOOK_CODE, self._hook)
        uc.hook_add(
            UC_HOOK_MEM_WRITE,
            lambda _uc, _access, address, size, value, _data: self.stored.append((address, size, value)),
        )

    def compare(self) -> None:
        """Assert that all that was done is what must be done."""
        self.started = False
        while self.index < len(self.done):
            self.here = None
            if self.pc >= SIZE:
                self._settle()
                self._trap(Cause.FETCH_FAULT, 0, self.done[self.index])
                continue
            try:
                self.uc.emu_start(self.pc, SIZE + 4)
            except UcError as error:
                if self.failure:
                    raise self.failure from None
                raise AssertionError(f"Unicorn stopped at {self.uc.reg_read(PC):#x}: {error}") from error
            if self.here is None:
                raise AssertionError(f"Unicorn stopped at {self.uc.reg_read(PC):#x}")
            self.here()

    failure = None

    def _hook(self, uc, address, _size, _data):
        """Before each instruction."""
        try:
            self._before(address)
        except AssertionError as error:
            self.failure = error
            self.here = self._fail
            uc.emu_stop()

    def _fail(self):
        raise self.failure

    def _stop(self, action):
        self.here = action
        self.uc.emu_stop()

    def _before(self, address: int):
        self._settle()
        if self.index == len(self.done):
            self._stop(lambda: None)
            return
        done = self.done[self.index]
        assert done.pc == address, f"{self.index}: at {done.pc:#x}, not {address:#x}"
        self.pc = address
        word = int.from_bytes(self.uc.mem_read(address, 4), "little")
        decoded = self.cache.get(word)
        if decoded is None:
            decoded = self.cache[word] = self._decode(word)
        cause, value = self._exception(decoded, word, address)
        if cause is not None or done.trap:
            self._stop(lambda: self._trap(cause, value, done))
            return
        name = decoded.name
        self.names[name] = self.names.get(name, 0) + 1
        if name in ("mret", "wfi") or (name in ("jal", "jalr") and self._target(decoded) >= SIZE):
            self._stop(lambda: self._by_hand(decoded))
            return
        self.expected = done
        self.rd = decoded.rd
        self.pending = True
        if name.startswith("csr"):
            self._csr(decoded, word)

    pending = False

    def _settle(self):
        """The instruction before has been executed by Unicorn: compare."""
        if self.after_mepc:
            self.uc.reg_write(MEPC, self.uc.reg_read(MEPC) & ~3)
            self.after_mepc = False
        if not self.pending:
            return
        self.pending = False
        done = self.expected
        writes = ((self.rd, self.uc.reg_read(REGISTERS[self.rd])),) if self.rd else ()
        assert done.writes == writes, f"{self.index} at {done.pc:#x}: wrote {done.writes}, not {writes}"
        self._compare_stores(done)
        self.index += 1

    def _compare_stores(self, done: Done):
        stores = []
        for address, size, value in self.stored:
            lane = address & 3
            mask = (1 << 8 * size) - 1
            stores.append((address >> 2, (value & mask) << 8 * lane, ((1 << size) - 1) << lane))
        self.stored.clear()
        got = [
            (addr, sum(data & 255 << 8 * i for i in range(4) if strobe >> i & 1), strobe)
            for addr, data, strobe in done.stores
        ]
        assert got == stores, f"{self.index} at {done.pc:#x}: stored {got}, not {stores}"

    def _decode(self, word: int) -> Decoded:
        name = name_of(word, self.multiply)
        rd, rs1, rs2, opcode = word >> 7 & 31, word >> 15 & 31, word >> 20 & 31, word & 0x7F
        immediate = _signed(word >> 20, 12)
        if opcode == 0x23:
            immediate = _signed(word >> 25 << 5 | rd, 12)
        elif opcode == 0x63:
            immediate = _signed(
                (word >> 31) << 12 | (word >> 7 & 1) << 11 | (word >> 25 & 63) << 5 | (word >> 8 & 15) << 1, 13
            )
        elif opcode == 0x6F:
            immediate = _signed(
                (word >> 31) << 20 | (word >> 12 & 255) << 12 | (word >> 20 & 1) << 11 | (word >> 21 & 1023) << 1, 21
            )
        return Decoded(name, 0 if opcode in (0x23, 0x63, 0x0F) else rd, rs1, rs2, immediate)

    def _read(self, register: int) -> int:
        return self.uc.reg_read(REGISTERS[register])

    def _target(self, decoded: Decoded) -> int:
        """Of a jump."""
        base = self._read(decoded.rs1) if decoded.name == "jalr" else self.pc
        return (base + decoded.immediate) & 0xFFFFFFFE

    def _exception(self, decoded: Decoded, word: int, address: int):
        """Cause and ``mtval`` of the trap that the instruction must cause; None if it must not."""
        name = decoded.name
        if name is None:
            return Cause.ILLEGAL, 0
        if name in ("ecall", "ebreak"):
            return (Cause.ECALL if name == "ecall" else Cause.BREAKPOINT), 0
        if name.startswith("csr"):
            csr = word >> 20
            writes = name in ("csrrw", "csrrwi") or decoded.rs1
            if csr not in set(Csr) or (csr & READ_ONLY == READ_ONLY and writes):
                return Cause.ILLEGAL, 0
        elif word & 0x5F == 0x03:
            where = (self._read(decoded.rs1) + decoded.immediate) & 0xFFFFFFFF
            store = word >> 5 & 1
            if where & ((1 << (word >> 12 & 3)) - 1):
                return (Cause.STORE_MISALIGNED if store else Cause.LOAD_MISALIGNED), where
            if where >= SIZE:
                return (Cause.STORE_FAULT if store else Cause.LOAD_FAULT), where
        elif name == "jal" or name in BRANCHES:
            taken = name == "jal" or BRANCHES[name](self._read(decoded.rs1), self._read(decoded.rs2))
            if taken and decoded.immediate & 2:
                return Cause.FETCH_MISALIGNED, 0
        elif name == "jalr" and self._target(decoded) & 2:
            return Cause.FETCH_MISALIGNED, 0
        return None, 0

    def _trap(self, cause: int | None, value: int, done: Done):
        if cause is None or (done.trap and self.status[0] and self._is_interrupt(done)):
            assert self.status[0], f"{self.index} at {done.pc:#x}: trapped for no reason"
            cause, value = INTERRUPT, 0
        assert done.trap, f"{self.index} at {done.pc:#x}: no trap, but cause {cause}"
        assert (done.pc, done.writes, done.stores) == (self.pc, (), ()), f"{self.index}: {done}, not at {self.pc:#x}"
        self.traps[cause] = self.traps.get(cause, 0) + 1
        for register, number in ((MEPC, self.pc & ~3), (MCAUSE, int(cause)), (MTVAL, value)):
            self.uc.reg_write(register, number)
        self.status = [False, self.status[0]]
        self.pc = self.uc.reg_read(MTVEC)
        self.index += 1

    def _is_interrupt(self, done: Done) -> bool:
        """Of a trap that an exception explains too: what the handler reads from ``mcause`` tells."""
        later = self.done[self.index + 1 : self.index + 4]
        return len(later) == 3 and len(later[2].writes) == 1 and later[2].writes[0][1] == INTERRUPT

    def _by_hand(self, decoded: Decoded):
        """What Unicorn would not execute as a core without other modes and devices does."""
        done = self.done[self.index]
        writes = ()
        if decoded.name == "mret":
            target = self.uc.reg_read(MEPC)
            self.status = [self.status[1], True]
        elif decoded.name == "wfi":
            target = self.pc + 4
        else:
            target = self._target(decoded)
            if decoded.rd:
                writes = ((decoded.rd, self.pc + 4),)
                self.uc.reg_write(REGISTERS[decoded.rd], self.pc + 4)
        assert (done.writes, done.stores) == (writes, ()), f"{self.index} at {done.pc:#x}: {done}, not {writes}"
        self.pc = target
        self.index += 1

    def _csr(self, decoded: Decoded, word: int):
        csr = word >> 20
        self.after_mepc = csr == Csr.MEPC
        if csr == Csr.MSTATUS:
            if decoded.name == "csrrwi":
                self.status = [bool(decoded.rs1 & 8), False]
            else:
                self.status[0] = decoded.name == "csrrsi"
