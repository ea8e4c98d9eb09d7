"""The RISC-V core: the rules of its bus, and each instruction against a reference, whatever goes on around it."""

from unittest.mock import patch

import pytest
from amaranth.hdl import Array, Assert, Assume, Cat, Const, Module, Mux, ResetSignal, Signal
from amaranth.hdl._ast import AnyConst  # there is no public name for it in 0.5

from reluctant.hdl import riscv_core
from reluctant.hdl.csr_file import CsrFile
from reluctant.hdl.register_file import ROW_BITS, RegisterFile
from reluctant.hdl.riscv_isa import Cause, Opcode, Row

from .harness import check, delayed
from .riscv_instruction import Instruction

KEPT = (Row.MTVEC, Row.MSCRATCH, Row.MEPC, Row.MCAUSE, Row.MTVAL)
INTERRUPT = 1 << 31 | Cause.EXTERNAL_INTERRUPT


class AnyRegisters(RegisterFile):
    """In place of the register file: two registers and the CSRs start as anything and are remembered.

    A read of another row, or of one that is written in the same cycle, gives anything.
    """

    def __init__(self, m: Module):
        super().__init__()
        self.x = [AnyConst(5) for _ in "ab"]
        rows = [*(Cat(x, Const(0, 1)) for x in self.x), *(Const(row, ROW_BITS) for row in (*KEPT, Row.OLD))]
        names = ["first_a", "first_b", *(f"first_{row.name.lower()}" for row in (*KEPT, Row.OLD))]
        self.first = [AnyConst(32) for name in names]
        self.any_a, self.any_b = Signal(32), Signal(32)
        self.rows = list(zip(rows, self.first, [Signal(32, name=f"now_{name}") for name in names], strict=True))
        self.inputs = [self.any_a, self.any_b]
        m.d.comb += Assume((self.x[0] != self.x[1]) | (self.first[0] == self.first[1]))

    def now(self, row: Row) -> Signal:
        """What a CSR holds."""
        return self.rows[2 + KEPT.index(row)][2]

    def elaborate(self, platform):
        m = Module()
        for index, (row, first, now) in enumerate(self.rows):
            written, value = Signal(name=f"written{index}"), Signal(32, name=f"value{index}")
            m.d.comb += now.eq(Mux(written, value, first))
            with m.If(self.write & (self.row == row)):
                m.d.sync += [written.eq(1), value.eq(self.data)]
        ports = ((self.read_a, self.row_a, self.any_a, self.a), (self.read_b, self.row_b, self.any_b, self.b))
        for read, wanted, anything, data in ports:
            found = anything
            for row, now in (*((row, now) for row, _, now in self.rows), (0, 0), (Row.MINUS_4, -4)):
                found = Mux(wanted == row, now, found)
            with m.If(read):
                m.d.sync += data.eq(Mux(self.write & (self.row == wanted), anything, found))
        m.d.comb += Assert(~(self.write & ((self.row == 0) | (self.row == Row.MINUS_4))))
        return m


class AnyCsrs(CsrFile):
    """In place of the CSR file: interrupts, and the need to add up counters, come and go at any time.

    All CSR instructions find the same CSR: any one, kept in a row or not, or none.
    """

    def __init__(self, m: Module):
        super().__init__()
        self.choice = AnyConst(3)
        self.no_csr, self.number = AnyConst(1), AnyConst(32)
        kept = self.choice < len(KEPT)
        m.d.comb += [
            self.row.eq(Mux(kept, Array(KEPT)[self.choice], Row.NOWHERE)),
            self.kept.eq(kept),
            self.aligned.eq((self.row == Row.MTVEC) | (self.row == Row.MEPC)),
            self.illegal.eq(self.no_csr),
            self.value.eq(Mux(kept, 0, self.number)),
            Assume(self.pending | ~self.taken),
        ]
        self.inputs = [self.taken, self.pending, self.due, self.is_status]
        self.inputs += [self.is_enable, self.cycles, self.instructions]

    def elaborate(self, platform):
        return Module()


def core_of_anything(m: Module):
    """The core around such registers and CSRs, and these two."""
    registers, csrs = AnyRegisters(m), AnyCsrs(m)
    with (
        patch.object(riscv_core, "RegisterFile", lambda: registers),
        patch.object(riscv_core, "CsrFile", lambda **_: csrs),
    ):
        m.submodules.core = core = riscv_core.RiscvCore()
    return core, registers, csrs


def bus_inputs(bus) -> list[Signal]:
    return [bus.ready, bus.error, bus.word, bus.from_memory, bus.read_data]


def follow_bus(m: Module, bus):
    """The rules of the bus: asserted of the core, assumed of what answers. Returns whether a transfer is under way.

    What answers is not reset with the core.
    """
    under_way, writes = Signal(reset_less=True), Signal(reset_less=True)
    with m.If(bus.ready):
        m.d.sync += [under_way.eq(bus.request), writes.eq(bus.request & bus.write)]
    m.d.comb += [
        Assume(under_way | bus.ready),
        Assert(~bus.request | bus.ready),
    ]
    return under_way, writes


class Bench:
    """The core with any registers, any CSRs and any memory that is the same each time at two places.

    Reset comes once. Free but constant are the address and word of the instruction that is checked (``pc``, ``word``,
    ``fault``), and those of the word that it may load. What an instruction does is added up until it ends.
    """

    def __init__(self):
        self.m = m = Module()
        core, self.registers, self.csrs = core_of_anything(m)
        m.submodules.instruction = self.instruction = Instruction()
        self.trace, self.bus = core.trace, core.bus
        self.ends = self.trace.retire | self.trace.trap
        self.inputs = [*self.registers.inputs, *self.csrs.inputs, *bus_inputs(self.bus)]
        self.under_way, self.writes = follow_bus(m, self.bus)
        self._memory()
        self.here = self.ends & (self.trace.pc == Cat(Const(0, 2), self.pc))
        self._window()
        self._operands()
        m.d.comb += Assume(~ResetSignal())

    def _memory(self):
        m, bus = self.m, self.bus
        self.pc, self.word, self.fault = AnyConst(30), AnyConst(32), AnyConst(1)
        self.place, self.content, self.broken = AnyConst(30), AnyConst(32), AnyConst(1)
        m.d.comb += Assume(self.pc != self.place)
        addr, known, held = Signal(30), Signal(), Signal()
        answer = Cat(bus.word, bus.error, bus.from_memory)
        with m.If(bus.request):
            m.d.sync += [known.eq(~bus.write), addr.eq(bus.addr)]
        m.d.sync += held.eq(bus.ready & ~bus.request)
        before = delayed(m, answer, "answer")
        with m.If(known & bus.ready):
            m.d.comb += Assume(~held | (answer == before))
            with m.If(addr == self.pc):
                m.d.comb += [Assume(bus.word == self.word), Assume((bus.error | ~bus.from_memory) == self.fault)]
            with m.If(addr == self.place):
                m.d.comb += [Assume(bus.read_data == self.content), Assume(bus.error == self.broken)]

    def _gather(self, event, name: str, *values):
        """Whether ``event`` happened since an instruction ended, this cycle included, and values of the last time."""
        m = self.m
        was, happened = Signal(name=f"{name}_was"), Signal(name=name)
        m.d.comb += happened.eq(event | was)
        m.d.sync += was.eq(happened & ~self.ends)
        results = [happened]
        for index, value in enumerate(values):
            before, now = Signal(len(value), name=f"{name}_before{index}"), Signal(len(value), name=f"{name}{index}")
            m.d.comb += now.eq(Mux(event, value, before))
            m.d.sync += before.eq(now)
            results.append(now)
        m.d.comb += Assert(~(event & was))
        return results

    def _window(self):
        """What happened since an instruction ended; each at most once."""
        m, trace, bus = self.m, self.trace, self.bus
        self.wrote, self.rd, self.value = self._gather(trace.write, "wrote", trace.rd, trace.value)
        stores = bus.request & bus.write
        self.stored, self.addr = self._gather(stores, "stored", bus.addr)
        _, self.data, self.strobe = self._gather(delayed(m, stores, "stores"), "described", bus.data, bus.strobe)
        answers = self.under_way & self.writes & bus.ready
        self.answered, self.failed = self._gather(answers, "answered", bus.error)
        loads = bus.request & ~bus.write & (bus.addr == self.place)
        was_loaded, was_woken = Signal(), Signal()
        self.loaded, self.woken = loads | was_loaded, self.csrs.pending | was_woken
        m.d.sync += [was_loaded.eq(self.loaded & ~self.ends), was_woken.eq(self.woken & ~self.ends)]

    def _operands(self):
        """Registers as the instruction found them: only ends of instructions change them."""
        m, registers, instruction, csrs = self.m, self.registers, self.instruction, self.csrs
        operands = []
        for name, x, first in zip("ab", registers.x, registers.first, strict=False):
            written, value = Signal(name=f"operand_{name}_written"), Signal(32, name=f"operand_{name}_value")
            with m.If(self.ends & self.wrote & (self.rd == x)):
                m.d.sync += [written.eq(1), value.eq(self.value)]
            operands.append(Mux(x == 0, 0, Mux(written, value, first)))
        self.csr_now = Mux(csrs.kept, Array(registers.now(row) for row in KEPT)[csrs.choice], csrs.number)
        changed, before = Signal(), Signal(32)
        changes = registers.write & (registers.row == csrs.row)
        with m.If(self.ends):
            m.d.sync += changed.eq(0)
        with m.Elif(changes):
            m.d.sync += [changed.eq(1), before.eq(self.csr_now)]
        m.d.comb += [
            instruction.word.eq(self.word),
            instruction.pc.eq(Cat(Const(0, 2), self.pc)),
            instruction.a.eq(operands[0]),
            instruction.b.eq(operands[1]),
            instruction.memory.eq(self.content),
            instruction.old.eq(Mux(csrs.kept & changed, before, self.csr_now)),
            instruction.mepc.eq(registers.now(Row.MEPC)),
            instruction.fetch_fault.eq(self.fault),
            instruction.access_fault.eq(Mux(instruction.store, self.answered & self.failed, self.broken)),
            instruction.no_csr.eq(csrs.no_csr),
            *(Assume(registers.first[2 + KEPT.index(row)][:2] == 0) for row in (Row.MTVEC, Row.MEPC)),
            Assume(~self.here | ((self.word[15:20] == registers.x[0]) & (self.word[20:25] == registers.x[1]))),
            Assume(~self.here | ~instruction.load | (instruction.address[2:] == self.place)),
        ]

    def first_is_checked(self, ends: int):
        """To get far in few cycles: the first instruction is the one that is checked, memory does not wait until
        ``ends`` instructions have ended, and does not answer after that. Returns how many have."""
        count = Signal(2)
        self.m.d.sync += count.eq(count + (self.ends & (count < ends)))
        self.m.d.comb += [Assume(self.pc == 0), Assume(self.bus.ready == ((count < ends) | ~self.under_way))]
        return count

    def check_retired(self):
        """An instruction that retires had no reason to trap, and did what it must."""
        m, trace, instruction, csrs = self.m, self.trace, self.instruction, self.csrs
        after_trap = Signal()
        with m.If(self.ends):
            m.d.sync += after_trap.eq(trace.trap)
        with m.If(self.here & trace.retire):
            m.d.comb += [Assert(~instruction.exception), Assert(~instruction.wfi | self.woken)]
            known = ~(instruction.csr & after_trap)  # the trap wrote CSRs too
            m.d.comb += Assert(self.wrote == instruction.writes)
            with m.If(instruction.writes):
                m.d.comb += [Assert(self.rd == self.word[7:12]), Assert(~known | (self.value == instruction.value))]
            m.d.comb += [Assert(self.stored == instruction.store), Assert(self.answered == instruction.store)]
            m.d.comb += [Assert(self.loaded | ~instruction.load)]
            with m.If(instruction.store):
                lanes = Cat(bit.replicate(8) for bit in self.strobe)
                m.d.comb += [
                    Assert(self.addr == instruction.address[2:]),
                    Assert(self.strobe == instruction.strobe),
                    Assert((self.data ^ instruction.data) & lanes == 0),
                ]
            with m.If(instruction.csr & csrs.kept & known):
                low = instruction.new[:2] & ~csrs.aligned.replicate(2)
                m.d.comb += Assert(self.csr_now == Cat(low, instruction.new[2:]))

    def check_sequence(self):
        """The next instruction is the right one: at 0 after reset, at ``mtvec`` after a trap."""
        m, trace, instruction = self.m, self.trace, self.instruction
        known, expected = Signal(init=1), Signal(32)
        m.d.comb += Assert(~(trace.retire & trace.trap))
        with m.If(self.ends):
            m.d.comb += Assert(~known | (trace.pc == expected))
            target = Mux(trace.trap, self.registers.now(Row.MTVEC), instruction.next)
            m.d.sync += [known.eq(trace.trap | self.here), expected.eq(target)]

    def check_traps(self):
        """A trap has a reason, nothing was done before it, and ``mepc``, ``mcause`` and ``mtval`` tell of it."""
        m, trace, instruction, registers, csrs = self.m, self.trace, self.instruction, self.registers, self.csrs
        trapped, pc, entered = Signal(), Signal(32), Signal()
        interrupt, checked, cause, tval = Signal(), Signal(), Signal(32), Signal(32)
        with m.If(trace.trap):
            m.d.comb += [Assert(~self.wrote), Assert(~self.stored | (self.answered & self.failed))]
            m.d.comb += Assert(~self.here | instruction.exception | csrs.taken)
        with m.If(self.ends):
            m.d.sync += [trapped.eq(trace.trap), pc.eq(trace.pc), interrupt.eq(csrs.taken), checked.eq(self.here)]
            m.d.sync += [entered.eq(0), cause.eq(instruction.cause), tval.eq(instruction.tval)]
            m.d.comb += Assert(~trapped | entered)
        first = {Row.MEPC: Signal(33), Row.MCAUSE: Signal(33), Row.MTVAL: Signal(33)}
        for row, number in first.items():
            with m.If(self.ends):
                m.d.sync += number.eq(0)
            with m.Elif(registers.write & (registers.row == row) & ~number[-1]):
                m.d.sync += number.eq(Cat(registers.data, 1))
        with m.If(csrs.enter):
            m.d.comb += Assert(~trapped | ~entered)
            m.d.sync += entered.eq(1)
        with m.If(delayed(m, csrs.enter, "enter") & trapped):
            was_interrupt = first[Row.MCAUSE][:32] == INTERRUPT
            m.d.comb += [
                Assert(first[Row.MEPC] == Cat(pc, 1)),
                Assert(first[Row.MCAUSE][-1] & first[Row.MTVAL][-1]),
                Assert(~was_interrupt | interrupt),
            ]
            with m.If(was_interrupt):
                m.d.comb += Assert(first[Row.MTVAL][:32] == 0)
            with m.Elif(checked):
                m.d.comb += [Assert(first[Row.MCAUSE][:32] == cause), Assert(first[Row.MTVAL][:32] == tval)]


def kind_of(word, kind: str):
    """``word`` is an instruction, or nearly one, of that kind; ``other`` are the words of no opcode."""
    opcode, funct3 = word[2:7], word[12:15]
    computes = (opcode == Opcode.OP) | (opcode == Opcode.OP_IMM)
    known = {
        "add": (computes & (funct3 == 0)) | (opcode == Opcode.LUI) | (opcode == Opcode.AUIPC),
        "compare": computes & (funct3[1:] == 1),
        "logic": computes & funct3[2] & (funct3 != 5),
        "shift": computes & (funct3[:2] == 1),
        "load": opcode == Opcode.LOAD,
        "store": opcode == Opcode.STORE,
        "branch": opcode == Opcode.BRANCH,
        "jump": (opcode == Opcode.JAL) | (opcode == Opcode.JALR),
        "system": (opcode == Opcode.SYSTEM) | (opcode == Opcode.MISC_MEM),
    }
    return known[kind] if kind in known else ~Cat(known.values()).any()


KINDS = ("compare", "logic", "load", "store", "branch", "jump", "system", "other")
KIND_CYCLES = {"add": 12} | dict.fromkeys(KINDS, 13)
LONG_KIND_CYCLES = {"shift": 20, "load": 16, "system": 22}


def test_rules_of_the_bus(tmp_path):
    """Any answers of the bus, any registers and interrupts, reset at any time, 14 cycles: nothing is asked for while a
    transfer is under way, and what is written stays what it is until the end, a byte at least."""
    m = Module()
    core, registers, csrs = core_of_anything(m)
    bus = core.bus
    follow_bus(m, bus)
    described = Cat(bus.data, bus.strobe)
    before = delayed(m, described, "described")
    writes, fresh = Signal(), Signal()  # a transfer that began since the core's reset; in the cycle before
    m.d.sync += fresh.eq(bus.request)
    with m.If(bus.ready):
        m.d.sync += writes.eq(bus.request & bus.write)
    with m.If(writes):
        m.d.comb += [Assert(fresh | (described == before)), Assert(bus.strobe.any())]
    check(tmp_path, m, [*registers.inputs, *csrs.inputs, *bus_inputs(bus)], depth=14)


@pytest.mark.parametrize("kind", KIND_CYCLES)
def test_result_among_any_instructions(tmp_path, kind):
    """What an instruction writes to its register, its CSR and the bus, and that it does not retire if it must trap.

    Before and after it are any words; memory waits at any time, and interrupts come. 12 or 13 cycles from reset, of
    which the first instruction begins in the seventh.
    """
    bench = Bench()
    bench.m.d.comb += Assume(kind_of(bench.word, kind))
    bench.check_retired()
    check(tmp_path, bench.m, bench.inputs, depth=KIND_CYCLES[kind])


@pytest.mark.parametrize("kind", LONG_KIND_CYCLES)
def test_result_of_long_instructions(tmp_path, kind):
    """The same of instructions that take many cycles, each by itself and without interrupts, until all have ended."""
    bench = Bench()
    bench.m.d.comb += [Assume(kind_of(bench.word, kind)), Assume(~bench.csrs.pending)]
    bench.first_is_checked(1)
    if kind != "system":
        bench.m.d.comb += Assume(~bench.csrs.due)
    bench.check_retired()
    check(tmp_path, bench.m, bench.inputs, depth=LONG_KIND_CYCLES[kind])


def test_sequence_among_any_instructions(tmp_path):
    """Of any word: the first instruction is at 0, and the next is where it must be; 13 cycles from reset.

    No trap without a reason, and nothing is done by what traps.
    """
    bench = Bench()
    bench.check_sequence()
    bench.check_traps()
    check(tmp_path, bench.m, bench.inputs, depth=13)


def test_traps_go_to_mtvec(tmp_path):
    """The first instruction, any word, traps: what is next is at ``mtvec``, and ``mepc``, ``mcause`` and ``mtval`` are
    what they must be; 23 cycles from reset, so that also the handler's first instruction ends."""
    bench = Bench()
    count = bench.first_is_checked(2)
    bench.m.d.comb += Assume((count != 0) | ~bench.trace.retire)
    bench.check_sequence()
    bench.check_traps()
    check(tmp_path, bench.m, bench.inputs, depth=23)
