"""What an instruction word means."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .riscv_isa import Opcode, System

__all__ = ["InstructionDecoder"]

CLASSES = ("load", "store", "branch", "jal", "jalr", "lui", "auipc", "op", "op_imm", "system")
SYSTEMS = ("ecall", "ebreak", "mret", "wfi")


class InstructionDecoder(wiring.Component):
    """Class, legality and immediate of a word of RV32I, Zicsr and perhaps M; combinational.

    ``fence`` is legal and of no class: it does nothing. Whether a CSR exists is not looked at.

    Parameters
    ----------
    multiply
        The M extension is there.

    Members
    -------
    word : In(32)
    load, store, branch, jal, jalr, lui, auipc, op, op_imm, system : Out(1)
        The opcode; also of illegal words.
    csr, ecall, ebreak, mret, wfi : Out(1)
        What a SYSTEM word is.
    muldiv : Out(1)
        Of the M extension.
    illegal : Out(1)
        Not an instruction, as far as can be told without looking further into SYSTEM words.
    immediate : Out(32)
        Of lui, auipc and what has a register and an immediate (branches have none in this sense); else undefined.
    offset : Out(32)
        What jal and branches add to their address; else undefined.
    """

    def __init__(self, *, multiply: bool = False):
        self.multiply = multiply
        super().__init__(
            {name: Out(1) for name in (*CLASSES, *SYSTEMS, "csr", "muldiv", "illegal")}
            | {"word": In(32), "immediate": Out(32), "offset": Out(32)}
        )

    def elaborate(self, platform):
        m = Module()
        opcode, funct3 = self.word[2:7], self.word[12:15]
        for name in CLASSES:
            m.d.comb += getattr(self, name).eq(opcode == Opcode[name.upper()])
        m.d.comb += self.csr.eq(self.system & (funct3[:2] != 0))
        for name in SYSTEMS:
            exact = self.word[:2].all() & (self.word[7:20] == 0) & (self.word[20:] == System[name.upper()])
            m.d.comb += getattr(self, name).eq(self.system & exact)
        self._immediates(m)
        self._legality(m, opcode, funct3)
        return m

    def _immediates(self, m: Module):
        """Opcodes are looked at no closer than the formats need: adders wait for these."""
        word = self.word
        sign = word[31]
        upper, stored = word[2] & ~word[6], word[5] & ~word[6]
        low = Mux(stored, word[7:12], word[20:25])
        below = Cat(low, word[25:31], sign)
        high = Mux(upper, word[12:31], sign.replicate(19))
        m.d.comb += self.immediate.eq(Cat(Mux(upper, 0, below), high, sign))
        jump = word[3]
        low = Mux(jump, Cat(word[21:25], word[25:31], word[20]), Cat(word[8:12], word[25:31], word[7]))
        middle = Mux(jump, word[12:20], sign.replicate(8))
        m.d.comb += self.offset.eq(Cat(0, low, middle, sign.replicate(12)))

    def _legality(self, m: Module, opcode, funct3):
        funct7 = self.word[25:]
        plain, other = funct7 == 0, funct7 == 0b0100000
        with_other = (funct3 == 0b000) | (funct3 == 0b101)
        shift = funct3[:2] == 0b01
        muldiv = Signal()
        m.d.comb += muldiv.eq((self.op & (funct7 == 1)) if self.multiply else 0)
        legal = Signal()
        with m.Switch(opcode):
            with m.Case(Opcode.LUI, Opcode.AUIPC, Opcode.JAL, Opcode.SYSTEM):
                m.d.comb += legal.eq(1)
            with m.Case(Opcode.LOAD):
                m.d.comb += legal.eq((funct3[:2] != 3) & (funct3 != 6))
            with m.Case(Opcode.STORE):
                m.d.comb += legal.eq(funct3 < 3)
            with m.Case(Opcode.BRANCH):
                m.d.comb += legal.eq(funct3[1:] != 1)
            with m.Case(Opcode.JALR, Opcode.MISC_MEM):
                m.d.comb += legal.eq(funct3 == 0)
            with m.Case(Opcode.OP_IMM):
                m.d.comb += legal.eq(~shift | plain | (other & funct3[2]))
            with m.Case(Opcode.OP):
                m.d.comb += legal.eq(plain | (other & with_other) | muldiv)
        m.d.comb += [self.muldiv.eq(muldiv), self.illegal.eq(~(legal & self.word[:2].all()))]
