"""The RISC-V core: RV32I with machine mode, and perhaps M."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .alu import Logic
from .core_bus import CoreBus
from .csr_file import CsrFile
from .execute_unit import ExecuteUnit
from .instruction_decoder import InstructionDecoder
from .instruction_fetch import InstructionFetch
from .register_file import ROW_BITS, RegisterFile
from .riscv_isa import TRAP_WORD, Cause, Row

__all__ = ["RiscvCore", "Trace"]

SYSTEM_WORDS = ("csr", "mret", "call", "stop", "unknown")
ZERO = 0
"""The row of x0."""


class Trace(data.Struct):
    """What the core did in this cycle, for tests; synthesis drops it where nobody looks."""

    retire: 1  # an instruction ended
    trap: 1  # an instruction ended in an exception, or an interrupt came before it
    pc: 32  # of that instruction
    write: 1  # a register other than x0 was written; not later than the end of its instruction
    rd: 5
    value: 32


class RiscvCore(wiring.Component):
    """A core of four stages: fetch, arrival, decode, execute; one instruction a cycle at best.

    RV32I 2.1, Zicsr 2.0, machine mode 1.12 as far as described here; the reset vector is 0. Cycles of an instruction
    (RAM that never waits): 1; slt and store 2; load of a word 3, of a byte or halfword 4 and 1 more for each byte that
    it lies above the word's first; shift by n 1 + n // 8 + n % 8, or 2 by 0; jal 3, jalr 4; a branch that goes on as
    predicted (back: taken, forth: not taken) 3 or 2, else 4 or 5; CSR instructions 6 or, of counters, 12;
    multiplication and division 34.

    CSRs: ``mstatus`` (MIE, MPIE; MPP reads 3), ``mie`` and ``mip`` (MEIE, MEIP), ``mtvec`` (direct mode), ``mscratch``,
    ``mepc``, ``mcause``, ``mtval``, ``mcycle[h]``, ``minstret[h]``, ``cycle[h]``, ``instret[h]``, ``misa``,
    ``mhartid``, ``mvendorid``, ``marchid``, ``mimpid``; each other is an illegal instruction. After reset ``mstatus``,
    ``mie``, ``mepc``, ``mcause``, ``mtval`` are 0; the rest is undefined. ``mtval`` is the address of a load or store
    that failed, and 0 in other traps. If more than 511 cycles pass in one transfer, ``mcycle`` may count short.

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
        self.two_steps, self.predicted, self.plain = Signal(), Signal(), Signal()
        # SYSTEM words wait here for a cycle, and are known after it: these are for the second cycle and later.
        self.csr, self.mret, self.call, self.stop, self.unknown = (Signal(name=name) for name in SYSTEM_WORDS)
        self.begins, self.interrupt_now = Signal(), Signal()
        self.target = Signal(32)

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
            *(getattr(fetch, name).eq(getattr(execute, name)) for name in ("accessing", "access", "data", "strobe")),
            *(getattr(fetch, name).eq(getattr(execute, name)) for name in ("busy", "jump", "from_value", "jump_addr")),
            fetch.write.eq(execute.store),
            fetch.access_addr.eq(execute.address[2:]),
            *(getattr(execute, name).eq(getattr(fetch, name)) for name in ("accessed", "error", "jumped")),
            execute.read_data.eq(self.bus.read_data),
            execute.distance.eq(self.word[20:25]),
            self.decoder.word.eq(self.word),
            registers.read.eq(execute.issue),
            registers.row_a.eq(execute.row_a),
            registers.row_b.eq(execute.row_b),
            *(getattr(registers, name).eq(getattr(execute, name)) for name in ("write", "row")),
            registers.data.eq(execute.result),
            execute.a.eq(registers.a),
            execute.b.eq(registers.b),
            *(getattr(csrs, name).eq(getattr(execute, name)) for name in ("set_status", "set_enable", "retire")),
            *(getattr(csrs, name).eq(getattr(execute, name)) for name in ("clear_cycles", "clear_instructions")),
            *(getattr(csrs, name).eq(getattr(execute, name)) for name in ("enter", "leave")),
            csrs.data.eq(execute.computed),
            csrs.interrupt.eq(self.interrupt),
            csrs.address.eq(self.word[20:]),
            # csrrs and csrrc with x0 (or 0) do not write.
            csrs.writes.eq((self.word[12:14] == 1) | (self.word[15:20] != 0)),
        ]

    def _control(self, m: Module):
        """Which sequence the decode stage is in, and whether its next step goes to the execute stage."""
        d, csrs, execute, fetch = self.decoder, self.csrs, self.execute, self.fetch
        begins, ready, last, leaves = self.begins, Signal(), Signal(), Signal()
        transfers, short = Signal(), Signal()
        held_up, cleared = Signal(), Signal()
        due, stopped, starts = Signal(), Signal(), Signal()
        m.d.comb += [
            # Backward branches are predicted taken. Bit 3 is left out: it tells jal from jalr, and what is illegal.
            transfers.eq(self.word[4:7] == 0b110),
            self.predicted.eq(transfers & ~self.word[2] & self.word[31] & ~self.word[8]),
            self.two_steps.eq(transfers & (self.word[2] | (self.word[31] & ~self.word[8]))),
            self.plain.eq(~(self.trapping | self.counting)),
            begins.eq(self.plain & (self.step == 0)),
            # SYSTEM, and opcodes that are illegal.
            stopped.eq(Mux(self.word[4:7].all(), ~cleared, held_up)),
            ready.eq(self.valid & ~(begins & (stopped | execute.leaving))),
            execute.issue.eq(ready & execute.free),
            # ``free`` comes late, and the opcode is not looked at closely. A CSR word has been here for a cycle.
            short.eq(self.plain & ~self.csr),
            last.eq(Mux(short, ~self.two_steps | self.step[0], self.step == 3)),
            leaves.eq(Mux(short, ~self.two_steps | self.step[0], (self.step == 3) & ~self.counting)),
            fetch.take.eq(~self.valid | (ready & leaves & execute.free)),
            fetch.advance.eq(execute.issue & begins),
            # What comes before an instruction. Any CSR that may be a counter needs the sum.
            due.eq(csrs.due | (d.csr & self.word[31] & ~self.counted)),
            starts.eq(self.valid & begins & stopped & execute.idle),
            self.interrupt_now.eq(starts & csrs.taken & ~due & ~d.wfi),
            self.sleeping.eq(starts & d.wfi & ~csrs.pending),
        ]
        m.d.sync += [
            held_up.eq(csrs.due | csrs.taken),
            self.csr.eq(d.csr & ~fetch.take),
            self.mret.eq(d.mret & ~fetch.take),
            self.call.eq(d.ecall & ~fetch.take),
            self.stop.eq(d.ebreak & ~fetch.take),
            self.unknown.eq(d.system & ~(d.csr | d.mret | d.wfi) & ~fetch.take),
            # An interrupt comes after a wfi, not before.
            cleared.eq(starts & Mux(d.wfi, csrs.pending, ~csrs.taken) & ~due),
        ]
        with m.If(fetch.take):
            m.d.sync += [
                self.valid.eq(fetch.valid & ~execute.leaving),
                self.word.eq(fetch.word),
                self.fault.eq(fetch.fault),
            ]
        with m.If(execute.issue):
            m.d.sync += self.step.eq(Mux(last, 0, self.step + 1))
            with m.If(last):
                m.d.sync += [self.trapping.eq(0), self.counting.eq(0), self.counted.eq(self.counting)]
        with m.If(execute.leaving & begins):
            m.d.sync += self.valid.eq(0)
        with m.If(starts):
            m.d.sync += [self.counting.eq(due), self.trapping.eq(self.interrupt_now)]
            m.d.sync += [self.booting.eq(0), self.of_access.eq(0)]
            m.d.sync += [self.interrupted.eq(1), self.cause.eq(Cause.EXTERNAL_INTERRUPT)]
        with m.If(execute.trap):
            m.d.sync += [self.trapping.eq(1), self.step.eq(0), self.valid.eq(1), self.word.eq(TRAP_WORD)]
            m.d.sync += [self.of_access.eq(execute.accessing & ~execute.now.exception), self.booting.eq(0)]
            m.d.sync += [self.interrupted.eq(0), self.cause.eq(execute.cause)]

    def _value(self, m: Module):
        """What the execute stage adds to a row: an immediate, an address, or something about the core itself."""
        d, csrs, step = self.decoder, self.csrs, self.step
        special = Signal(32)
        here, offset = Signal(), Signal(32)
        m.d.comb += [
            # Of the second step of a jump, and of a trap before the instruction.
            here.eq(step[0] | (self.trapping & (self.interrupted | self.booting))),
            offset.eq(d.offset & ~here.replicate(32)),
            self.target.eq(Cat(offset[:2], self.fetch.pc + offset[2:])),
        ]
        with m.If(self.counting):
            m.d.comb += special.eq(Mux(step == 0, csrs.cycles, Mux(step == 2, csrs.instructions, 0)))
        with m.Elif(self.trapping):
            m.d.comb += special.eq(Mux(step == 1, Cat(self.cause, Const(0, 27), self.interrupted), 0))
        with m.Elif(self.csr):
            m.d.comb += special.eq(Mux(step == 0, csrs.value, Mux(step == 1, self.word[15:20], 0)))
        # As little of the opcode as tells those apart that have a value.
        word = self.word
        shift = ~word[6] & word[4] & ~word[2] & (word[12:14] == 1)
        relative = Mux(word[6], ~word[2] | word[3] | step[0], word[2] & ~word[5])
        with m.If((self.trapping & (step != 0)) | self.counting | (self.plain & (self.csr | self.mret | shift))):
            m.d.comb += self.execute.value.eq(special)
        with m.Elif(self.trapping | relative):
            m.d.comb += self.execute.value.eq(self.target)
        with m.Else():
            m.d.comb += self.execute.value.eq(d.immediate)

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

    def _row_read(self, m: Module):
        """Row a as an OR of choices, of which at most one is not 0 (the row of x0): the register file waits for it."""
        word, step, csrs = self.word, self.step, self.csrs
        special = self.trapping | self.counting | self.csr | self.mret
        # lui, auipc, jal, and the second step of jalr; bit 5 is left out: fence has no source.
        no_source = word[2] & (~word[6] | word[3] | step[0])
        new_value = word[12:14] == 1  # csrrw does not look at what was
        choices = (
            (~special & ~no_source, word[15:20]),
            (self.counting, self._counter()),
            # The execute stage wrote the address of a failed access.
            (self.trapping & (step == 2) & self.of_access, Row.MTVAL),
            (self.trapping & (step == 3) & ~self.booting, Row.MTVEC),
            (self.csr & (step == 0) & csrs.kept & self.plain, csrs.row),
            (self.csr & (step[1] | (step[0] & ~new_value)) & self.plain, Row.OLD),
            (self.mret & self.plain, Row.MEPC),
        )
        bits = [Mux(chosen, row, 0) for chosen, row in choices]
        m.d.comb += [
            self.execute.row_a.eq(reduce(or_, bits)),
            self.execute.row_b.eq(Mux(self.csr, word[15:20], word[20:25])),
        ]

    def _operation(self, m: Module):
        d, step, plain, operation, word = self.decoder, self.step, self.plain, self.execute.operation, self.word
        funct3 = word[12:15]
        exception = Signal()
        m.d.comb += exception.eq(plain & (self.fault | d.illegal | self.unknown | (self.csr & self.csrs.illegal)))
        one, two = plain & (step == 0), plain & (step == 1)
        computes = plain & (d.op | d.op_imm) & ~d.muldiv
        change = plain & self.csr & (step == 1)
        done = plain & self.csr & (step == 3)
        compares = computes & (funct3[1:] == 1)
        branches = plain & d.branch & (~self.predicted | step[0])
        shifts = computes & (funct3[:2] == 1)
        has_result = d.lui | d.auipc | d.load | d.op | d.op_imm | ((d.jal | d.jalr) & step[0])
        m.d.comb += [
            operation.load.eq(plain & d.load),
            operation.store.eq(plain & d.store),
            operation.branch.eq(branches),
            operation.sense.eq(funct3[0] ^ self.predicted),
            operation.jump.eq(one & (d.jal | self.predicted)),
            operation.jump_register.eq((one & d.jalr) | (plain & self.mret) | (self.trapping & (step == 3))),
            operation.shift.eq(shifts),
            operation.left.eq(shifts & ~funct3[2]),
            operation.fixed.eq(d.op_imm),
            operation.muldiv.eq(plain & d.muldiv),
            operation.compare.eq(compares),
            operation.unsigned.eq(Mux(d.branch, funct3[1], funct3[0])),
            operation.arithmetic.eq(word[30] & shifts),
            operation.funct3.eq(funct3),
            operation.use_value.eq(~(branches | (plain & d.op & ~shifts) | (change & ~funct3[2]))),
            operation.invert.eq(
                compares
                | (branches & funct3[2])
                | (computes & d.op & word[30] & (funct3 == 0))
                | (change & (funct3[:2] == 3))
            ),
            operation.carry.eq(operation.invert),
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
            operation.write.eq(
                Mux(
                    plain,
                    Mux(self.csr, (step != 2) | (word[7:12] != 0), has_result & (word[7:12] != 0)),
                    self.counting | (step != 3),
                )
            ),
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
                    | operation.jump_register
                    | operation.shift
                    | operation.muldiv
                )
            ),
            operation.exception.eq(exception),
            operation.cause.eq(
                Mux(
                    self.fault,
                    Cause.FETCH_FAULT,
                    Mux(self.call, Cause.ECALL, Mux(self.stop, Cause.BREAKPOINT, Cause.ILLEGAL)),
                )
            ),
            operation.last.eq(plain & Mux(self.csr, step == 3, ~self.two_steps | two)),
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
