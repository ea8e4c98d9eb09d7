"""What one instruction of RV32I must do, written down from the manual and without a look at the core's decoder."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from reluctant.hdl.riscv_isa import Cause

__all__ = ["Instruction"]

ECALL, EBREAK, MRET, WFI = 0x00000073, 0x00100073, 0x30200073, 0x10500073


class Instruction(wiring.Component):
    """Combinational reference of a core with RV32I, Zicsr and machine mode.

    Source: The RISC-V Instruction Set Manual, volume I (RV32I 2.1, Zicsr 2.0) and volume II (machine mode 1.12);
    ``mtval`` is the address of a misaligned or failed load or store and 0 in every other trap.

    Members
    -------
    word, pc, a, b : In(32)
        The instruction, where it is, and what rs1 and rs2 hold.
    memory, old, mepc : In(32)
        The word at ``address``; the CSR, and whether there is none (``no_csr``); ``mepc``.
    fetch_fault, access_fault, no_csr : In(1)
        What the instruction itself cannot know.
    exception : Out(1), cause : Out(4), tval : Out(32)
        It traps and does nothing else.
    writes : Out(1), value : Out(32)
        Of rd, which is not x0.
    next : Out(32)
        Where the next instruction is.
    load, store : Out(1), address : Out(32), strobe : Out(4), data : Out(32)
        Its access, if it is one that is not misaligned. Bytes of ``data`` count where ``strobe`` is high.
    csr : Out(1), new : Out(32), wfi : Out(1)
        It is a CSR instruction, which leaves this in the CSR; it is ``wfi``.
    """

    def __init__(self):
        inputs = ("word", "pc", "a", "b", "memory", "old", "mepc")
        faults = ("fetch_fault", "access_fault", "no_csr")
        flags = ("exception", "writes", "load", "store", "csr", "wfi")
        super().__init__(
            {name: In(32) for name in inputs}
            | {name: In(1) for name in faults}
            | {name: Out(1) for name in flags}
            | {name: Out(32) for name in ("tval", "value", "next", "address", "data", "new")}
            | {"cause": Out(4), "strobe": Out(4)}
        )
        self.legal, self.has_result, self.jumps = Signal(), Signal(), Signal()
        self.target, self.misaligned = Signal(32), Signal()

    def elaborate(self, platform):
        m = Module()
        word = self.word
        with m.Switch(word[:7]):
            with m.Case(0b0110111):  # lui
                self._result(m, Cat(Const(0, 12), word[12:]))
            with m.Case(0b0010111):  # auipc
                self._result(m, self.pc + Cat(Const(0, 12), word[12:]))
            with m.Case(0b1101111):  # jal
                offset = Cat(Const(0, 1), word[21:31], word[20], word[12:20], word[31]).as_signed()
                self._result(m, self.pc + 4)
                self._jump(m, self.pc + offset)
            with m.Case(0b1100111):  # jalr
                self._result(m, self.pc + 4, legal=word[12:15] == 0)
                self._jump(m, (self.a + word[20:].as_signed()) & ~1)
            with m.Case(0b1100011):
                self._branch(m)
            with m.Case(0b0000011):
                self._load(m)
            with m.Case(0b0100011):
                self._store(m)
            with m.Case(0b0010011):
                self._compute(m, word[20:].as_signed(), immediate=True)
            with m.Case(0b0110011):
                self._compute(m, self.b, immediate=False)
            with m.Case(0b0001111):  # fence; fence.i is not there
                m.d.comb += self.legal.eq(word[12:15] == 0)
            with m.Case(0b1110011):
                self._system(m)
        self._outcome(m)
        return m

    def _result(self, m: Module, value, *, legal=1):
        m.d.comb += [self.legal.eq(legal), self.has_result.eq(1), self.value.eq(value)]

    def _jump(self, m: Module, target, *, taken=1):
        m.d.comb += [self.jumps.eq(taken), self.target.eq(target)]

    def _branch(self, m: Module):
        word, a, b = self.word, self.a, self.b
        taken = Signal()
        offset = Cat(Const(0, 1), word[8:12], word[25:31], word[7], word[31]).as_signed()
        for funct3, condition in {
            0b000: a == b,
            0b001: a != b,
            0b100: a.as_signed() < b.as_signed(),
            0b101: a.as_signed() >= b.as_signed(),
            0b110: a < b,
            0b111: a >= b,
        }.items():
            with m.If(word[12:15] == funct3):
                m.d.comb += [self.legal.eq(1), taken.eq(condition)]
        self._jump(m, self.pc + offset, taken=taken)

    def _load(self, m: Module):
        word, address = self.word, self.address
        half, byte = self.memory.word_select(address[1], 16), self.memory.word_select(address[:2], 8)
        m.d.comb += [self.load.eq(1), address.eq(self.a + word[20:].as_signed())]
        for funct3, misaligned, value in (
            (0b000, 0, byte.as_signed()),
            (0b001, address[0], half.as_signed()),
            (0b010, address[:2].any(), self.memory),
            (0b100, 0, byte),
            (0b101, address[0], half),
        ):
            with m.If(word[12:15] == funct3):
                self._result(m, value)
                m.d.comb += self.misaligned.eq(misaligned)

    def _store(self, m: Module):
        word, address = self.word, self.address
        m.d.comb += [
            self.store.eq(1),
            address.eq(self.a + Cat(word[7:12], word[25:]).as_signed()),
            self.data.eq(self.b << (address[:2] << 3)),
        ]
        for funct3, misaligned, lanes in ((0, 0, 0b0001), (1, address[0], 0b0011), (2, address[:2].any(), 0b1111)):
            with m.If(word[12:15] == funct3):
                m.d.comb += [
                    self.legal.eq(1),
                    self.misaligned.eq(misaligned),
                    self.strobe.eq(Const(lanes, 4) << address[:2]),
                ]

    def _compute(self, m: Module, second, *, immediate: bool):
        word, a = self.word, self.a
        b, distance, funct7 = Signal(32), Signal(5), word[25:]
        m.d.comb += [b.eq(second), distance.eq(word[20:25] if immediate else second[:5])]
        plain = 1 if immediate else funct7 == 0
        for funct3, legal, value in (
            (0b000, plain, a + b),
            (0b001, funct7 == 0, a << distance),
            (0b010, plain, a.as_signed() < b.as_signed()),
            (0b011, plain, a < b),
            (0b100, plain, a ^ b),
            (0b101, funct7 == 0, a >> distance),
            (0b110, plain, a | b),
            (0b111, plain, a & b),
        ):
            with m.If(word[12:15] == funct3):
                self._result(m, value, legal=legal)
        with m.If((word[12:15] == 0b101) & (funct7 == 0b0100000)):
            self._result(m, a.as_signed() >> distance)
        if not immediate:
            with m.If((word[12:15] == 0b000) & (funct7 == 0b0100000)):
                self._result(m, a - b)

    def _system(self, m: Module):
        word, old = self.word, self.old
        source = Mux(word[14], word[15:20], self.a)
        m.d.comb += self.wfi.eq(word == WFI)
        with m.If(word[12:14] != 0):
            self._result(m, old, legal=~self.no_csr)
            m.d.comb += self.csr.eq(1)
        with m.Elif((word == WFI) | (word == ECALL) | (word == EBREAK)):
            m.d.comb += self.legal.eq(1)
        with m.Elif(word == MRET):
            m.d.comb += self.legal.eq(1)
            self._jump(m, self.mepc)
        for code, new in ((1, source), (2, old | source), (3, old & ~source)):
            with m.If(word[12:14] == code):
                m.d.comb += self.new.eq(new)

    def _outcome(self, m: Module):
        """Which exception, if any; without one, what else it does."""
        access = self.load | self.store
        m.d.comb += [
            self.next.eq(Mux(self.jumps, self.target, self.pc + 4)),
            self.writes.eq(self.has_result & (self.word[7:12] != 0)),
            self.exception.eq(1),
        ]
        with m.If(self.fetch_fault):
            m.d.comb += self.cause.eq(Cause.FETCH_FAULT)
        with m.Elif(~self.legal):
            m.d.comb += self.cause.eq(Cause.ILLEGAL)
        with m.Elif(self.word == ECALL):
            m.d.comb += self.cause.eq(Cause.ECALL)
        with m.Elif(self.word == EBREAK):
            m.d.comb += self.cause.eq(Cause.BREAKPOINT)
        with m.Elif(self.jumps & (self.target[:2] != 0)):
            m.d.comb += self.cause.eq(Cause.FETCH_MISALIGNED)
        with m.Elif(access & self.misaligned):
            m.d.comb += [self.cause.eq(Mux(self.load, Cause.LOAD_MISALIGNED, Cause.STORE_MISALIGNED))]
            m.d.comb += self.tval.eq(self.address)
        with m.Elif(access & self.access_fault):
            m.d.comb += [self.cause.eq(Mux(self.load, Cause.LOAD_FAULT, Cause.STORE_FAULT))]
            m.d.comb += self.tval.eq(self.address)
        with m.Else():
            m.d.comb += self.exception.eq(0)
