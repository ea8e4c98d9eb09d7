"""The RISC-V core: RV32I with machine mode, and perhaps M."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .alu import Logic
from .core_bus import CoreBus
from .csr_file import CsrFile
from .execute_unit import ExecuteUnit
from .instruction_decoder import InstructionDecoder
from .instruction_fetch import InstructionFetch
from .register_file import ROW_BITS, RegisterFile
from .riscv_isa import Cause, Row
from .riscv_trace import Trace

__all__ = ["RiscvCore"]

SYSTEM_WORDS = ("csr", "mret", "call", "stop", "unknown")
ZERO = 0
"""The row of x0."""


class RiscvCore(wiring.Component):
    """A core of four stages: fetch, arrival, decode, execute; one instruction a cycle at best.

    RV32I 2.1, Zicsr 2.0, machine mode 1.12 as far as described here; the reset vector is 0. Cycles of an instruction
    (RAM that never waits): 1; auipc, slt and store 2; load of a word 2, of a byte or halfword 3 and 1 more for each
    byte that it lies above the word's first; shift by a fixed n n // 8 + n % 8, but 1 by 0, and 1 more by a register;
    jal and jalr 3; a branch that is taken 3, else 2; CSR instructions 9 or, of counters, 19; multiplication and
    division 34.

    Words are fetched ahead, also from the target of a branch that is not taken. There is no ``fence.i``: code that was
    just written must not be among the words ahead.

    CSRs: ``mstatus`` (MIE, MPIE; MPP reads 3), ``mie`` and ``mip`` (MEIE, MEIP), ``mtvec`` (direct mode), ``mscratch``,
    ``mepc``, ``mcause``, ``mtval``, ``mcycle[h]``, ``minstret[h]``, ``cycle[h]``, ``instret[h]``, ``misa``,
    ``mhartid``, ``mvendorid``, ``marchid``, ``mimpid``; each other is an illegal instruction. After reset ``mstatus``,
    ``mie``, ``mepc``, ``mcause``, ``mtval`` are 0; the rest is undefined. ``mtval`` is the address of a load or store
    that failed, and 0 in other traps. If more than 4095 cycles pass in one transfer, ``mcycle`` may count short.

    Parameters
    ----------
    multiply
        Build the M extension.

    Members
    -------
    bus : Out(CoreBus)
    interrupt : In(1)
        Machine external interrupt, a level.
    sleeping : Out(1)
        ``wfi`` waits: until ``interrupt`` is high and enabled in ``mie``, whatever ``mstatus.MIE``.
    trace : Out(Trace)
    """

    def __init__(self, *, multiply: bool = False):
        self.multiply = multiply
        super().__init__({"bus": Out(CoreBus()), "interrupt": In(1), "sleeping": Out(1), "trace": Out(Trace)})
        self.fetch = InstructionFetch()
        self.decoder = InstructionDecoder(multiply=multiply)
        self.registers = RegisterFile()
        self.csrs = CsrFile(multiply=multiply)
        self.execute = ExecuteUnit(multiply=multiply)
        # The decode stage: an instruction, or the sequence of a trap, or that which adds up the counters.
        self.valid = Signal(init=1)
        self.word, self.fault = Signal(32), Signal()
        self.step = Signal(2)
        self.trapping = Signal(init=1)  # reset is a trap too
        self.booting = Signal(init=1)
        self.counting, self.counted = Signal(), Signal()
        self.cause, self.interrupted = Signal(4), Signal()
        self.of_access = Signal()  # the trap is of a load or store
        self.plain, self.special = Signal(), Signal(attrs={"keep": 1})
        self.complete = Signal()  # a plain step is the last of its instruction
        # SYSTEM words wait here for a cycle, and are known after it: these are for the second cycle and later.
        self.csr, self.mret, self.call, self.stop, self.unknown = (Signal(name=name) for name in SYSTEM_WORDS)
        self.begins, self.interrupt_now = Signal(), Signal()
        # Of special steps, which wait a cycle for them: row a, whether row b counts, the value.
        self.settled = Signal(init=1)
        self.special_row, self.special_b, self.special_value = Signal(ROW_BITS), Signal(), Signal(32)
        self.looks_at_a, self.looks_at_b, self.inverts = Signal(), Signal(), Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetch = self.fetch
        m.submodules.decoder = self.decoder
        m.submodules.registers = self.registers
        m.submodules.csrs = self.csrs
        m.submodules.execute = self.execute
        wiring.connect(m, wiring.flipped(self.bus), self.fetch.bus)
        self._connect(m)
        self._control(m)
        self._value(m)
        self._rows(m)
        self._operation(m)
        self._trace(m)
        return m

    def _connect(self, m: Module):
        fetch, execute, csrs, registers = self.fetch, self.execute, self.csrs, self.registers
        m.d.comb += [
            *(getattr(fetch, name).eq(getattr(execute, name)) for name in ("access", "data", "strobe")),
            *(getattr(fetch, name).eq(getattr(execute, name)) for name in ("jump", "from_held", "leaving", "resume")),
            fetch.write.eq(execute.store),
            fetch.computed.eq(execute.address[2:]),
            fetch.held.eq(execute.held[2:]),
            execute.error.eq(fetch.error),
            execute.bus_free.eq(fetch.free),
            execute.read_data.eq(self.bus.read_data),
            execute.distance.eq(Mux(self.step[0], execute.second, self.word[20:25])),
            self.decoder.word.eq(self.word),
            registers.read_a.eq(execute.issue),
            registers.read_b.eq(execute.issue | execute.reads),
            *(getattr(registers, name).eq(getattr(execute, name)) for name in ("write", "row")),
            registers.data.eq(execute.result),
            execute.a.eq(registers.a),
            execute.b.eq(registers.b),
            *(getattr(csrs, name).eq(getattr(execute, name)) for name in ("set_status", "set_enable", "retire")),
            *(getattr(csrs, name).eq(getattr(execute, name)) for name in ("clear_cycles", "clear_instructions")),
            *(getattr(csrs, name).eq(getattr(execute, name)) for name in ("enter", "leave")),
            csrs.data.eq(execute.result),
            csrs.interrupt.eq(self.interrupt),
            csrs.address.eq(self.word[20:]),
            # csrrs and csrrc with x0 (or 0) do not write.
            csrs.writes.eq((self.word[12:14] == 1) | (self.word[15:20] != 0)),
        ]

    def _control(self, m: Module):
        """Which sequence the decode stage is in, and whether its next step goes to the execute stage."""
        d, csrs, execute, fetch = self.decoder, self.csrs, self.execute, self.fetch
        begins, ready, last, leaves = self.begins, Signal(), Signal(), Signal()
        short = Signal()
        held_up, cleared, clears = Signal(), Signal(), Signal()
        due, stopped, starts = Signal(), Signal(), Signal()
        m.d.comb += [
            self.plain.eq(~(self.trapping | self.counting)),
            self.special.eq(self.trapping | self.counting | self.csr | self.mret),
            self.complete.eq(~self._two_steps() | self.step[0]),
            begins.eq(self.plain & (self.step == 0)),
            # SYSTEM, and opcodes that are illegal.
            stopped.eq(Mux(self.word[4:7].all(), ~cleared, held_up)),
            ready.eq(self.valid & ~(begins & stopped) & (self.settled | ~self.special)),
            # What would begin behind a jump that leaves is dropped.
            execute.issue.eq(ready & (execute.free | (execute.leaving & ~begins))),
            # ``free`` comes late, and the opcode is not looked at closely. A CSR word has been here for a cycle.
            short.eq(self.plain & ~self.csr),
            last.eq(Mux(short, self.complete, self.step == 3)),
            leaves.eq(Mux(short, self.complete, (self.step == 3) & ~self.counting)),
            fetch.take.eq(~self.valid | execute.leaving | (ready & leaves & execute.free)),
            fetch.advance.eq(execute.issue & begins),
            # What comes before an instruction. Any CSR that may be a counter needs the sum.
            due.eq(csrs.due | (d.csr & self.word[31] & ~self.counted)),
            starts.eq(self.valid & begins & stopped & execute.idle),
            self.interrupt_now.eq(starts & csrs.taken & ~due & ~d.wfi),
            self.sleeping.eq((starts | self.counting) & d.wfi & ~csrs.pending),
            # An interrupt comes after a wfi, not before.
            clears.eq(starts & Mux(d.wfi, csrs.pending, ~csrs.taken) & ~due),
        ]
        m.d.sync += [
            held_up.eq(csrs.due | csrs.taken),
            self.csr.eq(d.csr & ~fetch.take),
            self.mret.eq(d.mret & ~fetch.take),
            self.call.eq(d.ecall & ~fetch.take),
            self.stop.eq(d.ebreak & ~fetch.take),
            self.unknown.eq(d.system & ~(d.csr | d.mret | d.wfi) & ~fetch.take),
            cleared.eq(clears),
            # After reset all that is special is 0, as it is in registers then.
            self.settled.eq(
                self.special & ((self.booting & self.trapping) | ~(execute.issue | execute.trap | (starts & ~clears)))
            ),
        ]
        with m.If(fetch.take):
            m.d.sync += [
                self.valid.eq(fetch.valid),
                self.word.eq(fetch.word),
                self.fault.eq(fetch.fault),
            ]
        with m.If(execute.issue):
            m.d.sync += self.step.eq(Mux(last, 0, self.step + 1))
            with m.If(last):
                m.d.sync += [self.trapping.eq(0), self.counting.eq(0), self.counted.eq(self.counting)]
        with m.If(starts):
            m.d.sync += [self.counting.eq(due), self.trapping.eq(self.interrupt_now)]
            m.d.sync += [self.booting.eq(0), self.of_access.eq(0)]
            m.d.sync += [self.interrupted.eq(1), self.cause.eq(Cause.EXTERNAL_INTERRUPT)]
        with m.If(execute.trap):
            m.d.sync += [self.trapping.eq(1), self.step.eq(0), self.valid.eq(1)]
            m.d.sync += [self.of_access.eq(execute.of_access), self.booting.eq(0)]
            m.d.sync += [self.interrupted.eq(0), self.cause.eq(execute.cause)]

    def _two_steps(self):
        """jal and jalr: the jump, and the link. auipc: pc, and the sum. Shift by a register: its distance, and it.

        jal and jalr differ in bit 3, which is left out: what is illegal may be anything.
        """
        word = self.word
        jumps, relative = word[4:7] == 0b110, word[4:7] == 0b001
        shifts = (word[4:7] == 0b011) & (word[12:14] == 1)
        if self.multiply:
            shifts &= ~word[25]
        return Mux(word[2], jumps | relative, shifts)

    def _value(self, m: Module):
        """What the execute stage combines with row b: an immediate, pc, or something about the core itself."""
        d, csrs, step, execute, fetch = self.decoder, self.csrs, self.step, self.execute, self.fetch
        special = self.special_value
        m.d.sync += special.eq(0)
        with m.If(self.counting):
            m.d.sync += special.eq(Mux(step == 0, csrs.cycles, Mux(step == 2, csrs.instructions, 0)))
        with m.Elif(self.trapping):
            m.d.sync += special.eq(Mux(step == 1, Cat(self.cause, Const(0, 27), self.interrupted), 0))
        with m.Elif(self.csr & (step == 0)):
            m.d.sync += special.eq(csrs.value)
        with m.Elif(self.csr & (step == 1)):
            number = Mux(self.word[14], self.word[15:20], 0)
            m.d.sync += special.eq(number ^ (self.word[12:14] == 3).replicate(32))
        # As little of the opcode as tells those apart that have a value.
        word = self.word
        of_pc = Mux(word[2], Mux(word[6], step[0], ~word[5] & ~step[0]), 0)
        with m.If(Mux(self.special, self.trapping & (step == 0), of_pc)):
            m.d.comb += execute.value.eq(Cat(Const(0, 2), fetch.pc))
        with m.Elif(self.special):
            m.d.comb += execute.value.eq(special)
        with m.Else():
            m.d.comb += execute.value.eq(Mux(self.looks_at_b, 0, d.immediate) ^ self.inverts.replicate(32))
        # Where the sequence goes on behind a branch: behind the words that are here.
        waiting = Cat(self.valid ^ fetch.valid, self.valid & fetch.valid)
        offset = Mux(execute.testing, Cat(Const(0, 2), waiting), d.offset)
        m.d.comb += execute.target.eq(Cat(offset[:2], fetch.pc + offset[2:]))

    def _rows(self, m: Module):
        self._row_read(m)
        step, row = self.step, Signal(ROW_BITS)
        m.d.comb += row.eq(self.word[7:12])
        with m.If(self.counting):
            m.d.comb += row.eq(self._counter())
        with m.Elif(self.trapping), m.Switch(step):
            for index, name in enumerate((Row.MEPC, Row.MCAUSE, Row.MTVAL)):
                with m.Case(index):
                    m.d.comb += row.eq(name)
        with m.Elif(self.csr), m.Switch(step):
            with m.Case(0):
                m.d.comb += row.eq(Row.OLD)
            with m.Case(1):
                m.d.comb += row.eq(self.csrs.row)
            with m.Case(3):
                m.d.comb += row.eq(Row.NOWHERE)
        m.d.comb += self.execute.operation.row.eq(row)

    def _counter(self):
        return Cat(self.step[1], self.step[0], Const(Row.MCYCLE >> 2, ROW_BITS - 2))

    def _special_row(self, m: Module):
        """Row a of special steps; that of x0 unless it matters."""
        step, csrs, row = self.step, self.csrs, self.special_row
        m.d.sync += [
            row.eq(ZERO),
            self.special_b.eq(self.plain & self.csr & (step == 1) & ~self.word[14]),
        ]
        with m.If(self.counting):
            m.d.sync += row.eq(self._counter())
        with m.Elif(self.trapping), m.Switch(step):
            # An instruction that ended in an exception is behind pc.
            with m.Case(0), m.If(~self.interrupted & ~self.booting):
                m.d.sync += row.eq(Row.MINUS_4)
            # The execute stage wrote the address of a failed access.
            with m.Case(2), m.If(self.of_access):
                m.d.sync += row.eq(Row.MTVAL)
            with m.Case(3), m.If(~self.booting):
                m.d.sync += row.eq(Row.MTVEC)
        with m.Elif(self.mret):
            m.d.sync += row.eq(Row.MEPC)
        with m.Elif(step == 0):
            m.d.sync += row.eq(Mux(csrs.kept, csrs.row, ZERO))
        # csrrw does not look at what was.
        with m.Elif(step[1] | (self.word[12:14] != 1)):
            m.d.sync += row.eq(Row.OLD)

    def _row_read(self, m: Module):
        """Rows that are read. Little may stand between the word and the register file."""
        word, step, special, execute = self.word, self.step, self.special, self.execute
        self._special_row(m)
        # lui, auipc, jal, and the second step of jalr; bit 5 is left out: fence has no source.
        no_source = Signal(attrs={"keep": 1})
        shift = word[12:14] == 1
        # Branches, operations with two sources, shifts; as little of the opcode as tells them apart.
        two_sources = Signal(attrs={"keep": 1})
        uses_b = Signal(attrs={"keep": 1})
        # What looks at b in an immediate operation is a shift: by 1 to the left it is a + b. The second step that looks
        # at b is that of a shift or CSR instruction.
        row_b = Mux(word[4] & (~word[5] | step[0]), word[15:20], word[20:25])
        m.d.comb += [
            self.looks_at_a.eq(~special & ~no_source),
            no_source.eq(word[2] & (~word[6] | word[3] | step[0])),
            two_sources.eq(~word[2] & Mux(word[4], ~word[6] & (word[5] | shift), word[6])),
            # Of SYSTEM words, only the step that sets ``special_b``.
            uses_b.eq(self.special_b | (two_sources & self.plain)),
            self.looks_at_b.eq(~special & two_sources),
            self.registers.row_a.eq(Mux(special, self.special_row, Mux(no_source, ZERO, word[15:20]))),
            self.registers.row_b.eq(Mux(execute.stores, execute.source, Mux(uses_b, row_b, ZERO))),
            execute.row_a.eq(word[15:20]),
            execute.row_b.eq(row_b),
            execute.uses_a.eq(self.looks_at_a),
            execute.uses_b.eq(self.looks_at_b),
            # The second step of auipc.
            execute.chained.eq(~special & word[2] & ~word[5] & step[0]),
        ]

    def _operation(self, m: Module):
        d, step, plain, operation, word = self.decoder, self.step, self.plain, self.execute.operation, self.word
        funct3 = word[12:15]
        exception = Signal()
        m.d.comb += exception.eq(plain & (self.fault | d.illegal | self.unknown | (self.csr & self.csrs.illegal)))
        one = plain & (step == 0)
        computes = plain & (d.op | d.op_imm) & ~d.muldiv
        change = plain & self.csr & (step == 1)
        done = plain & self.csr & (step == 3)
        compares = computes & (funct3[1:] == 1)
        branches = plain & d.branch
        shifts = computes & (funct3[:2] == 1)
        has_result = (d.lui | d.auipc | d.load | d.op | d.op_imm | d.jal | d.jalr) & self.complete
        writes = Mux(self.csr, (step != 2) | (word[7:12] != 0), has_result & (word[7:12] != 0))
        cause = Mux(self.call, Cause.ECALL, Mux(self.stop, Cause.BREAKPOINT, Cause.ILLEGAL))
        m.d.comb += [
            self.inverts.eq(compares | (branches & funct3[2]) | (computes & d.op & word[30] & (funct3 == 0))),
            operation.load.eq(plain & d.load),
            operation.store.eq(plain & d.store),
            operation.branch.eq(branches),
            operation.sense.eq(funct3[0]),
            operation.jump.eq(one & d.jal),
            operation.jump_register.eq((one & d.jalr) | (plain & self.mret) | (self.trapping & (step == 3))),
            operation.shift.eq(shifts & self.complete & ~(self.fault | d.illegal)),
            operation.left.eq(shifts & ~funct3[2]),
            operation.muldiv.eq(plain & d.muldiv),
            operation.compare.eq(compares),
            operation.unsigned.eq(Mux(d.branch, funct3[1], funct3[0])),
            operation.arithmetic.eq(word[30] & shifts),
            operation.funct3.eq(funct3),
            operation.carry.eq(self.inverts),
            operation.chain.eq(self.counting & step[0]),
        ]
        with m.If(change & funct3[1]):
            m.d.comb += operation.part.eq(Mux(funct3[0], Logic.AND, Logic.OR))
        with m.Elif(branches):
            m.d.comb += operation.part.eq(Logic.XOR)
        with m.Elif(computes & funct3[2] & ~shifts), m.Switch(funct3[:2]):
            with m.Case(0b00):
                m.d.comb += operation.part.eq(Logic.XOR)
            with m.Case(0b10):
                m.d.comb += operation.part.eq(Logic.OR)
            with m.Case(0b11):
                m.d.comb += operation.part.eq(Logic.AND)
        with m.Elif(~compares):
            m.d.comb += operation.add.eq(1)
        m.d.comb += [
            operation.write.eq(Mux(plain, writes, self.counting | (step != 3))),
            operation.aligned.eq(change & self.csrs.aligned),
            operation.set_status.eq(change & self.csrs.is_status),
            operation.set_enable.eq(change & self.csrs.is_enable),
            operation.enter.eq(self.trapping & (step == 3)),
            operation.leave.eq(plain & self.mret),
            operation.clear_cycles.eq(self._clears(done, 0) | (self.counting & (step == 0))),
            operation.clear_instructions.eq(self._clears(done, 1) | (self.counting & (step == 2))),
            operation.single.eq(
                ~(
                    operation.load
                    | operation.store
                    | operation.branch
                    | operation.compare
                    | operation.jump
                    | operation.jump_register
                    | operation.shift
                    | operation.muldiv
                )
            ),
            operation.whole.eq(d.store | funct3[1]),
            operation.exception.eq(exception),
            operation.cause.eq(Mux(self.fault, Cause.FETCH_FAULT, cause)),
            operation.last.eq(plain & Mux(self.csr, step == 3, self.complete)),
        ]

    def _clears(self, done, index: int):
        """A CSR instruction writes the low half of a counter."""
        return done & self.csrs.writes & (self.csrs.row == Row.MCYCLE + index)

    def _trace(self, m: Module):
        execute, trace = self.execute, self.trace
        pc = Signal(30)
        with m.If(execute.issue & self.begins):
            m.d.sync += pc.eq(self.fetch.pc)
        m.d.comb += [
            trace.retire.eq(execute.retire),
            trace.trap.eq(execute.trap | self.interrupt_now),
            trace.pc.eq(Cat(Const(0, 2), Mux(execute.idle, self.fetch.pc, pc))),
            trace.write.eq(execute.write & ~execute.row[-1]),
            trace.rd.eq(execute.row),
            trace.value.eq(execute.result),
        ]
