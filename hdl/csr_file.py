"""Control and status registers of the RISC-V core, as far as they are not rows of the register file."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .register_file import ROW_BITS
from .riscv_isa import Csr, Row

__all__ = ["COUNT_BITS", "CsrFile"]

COUNT_BITS = 13
"""Cycles and instructions since they were last added to the 64-bit counters: at half of its range, they must be."""

MIE, MPIE, MPP, MEI = 3, 7, 11, 11
MISA = 1 << 30 | 1 << ord("I") - ord("A")
MISA_M = 1 << ord("M") - ord("A")


class CsrFile(wiring.Component):
    """Addresses, the bits of ``mstatus`` and ``mie``, and the lowest bits of the counters.

    ``mcycle`` and ``minstret`` are rows of the register file, each short of what is in ``cycles`` and ``instructions``:
    whoever reads or writes one adds these first, and whenever ``due`` is high.

    Parameters
    ----------
    multiply
        ``misa`` shows the M extension.

    Members
    -------
    address : In(12), writes : In(1)
        Of a CSR instruction; it will write. What follows from them comes a cycle later:
    illegal : Out(1)
        There is no such CSR, or it is read-only and would be written.
    row : Out(6), kept : Out(1), aligned : Out(1)
        Where it is kept, if it is (else ``Row.NOWHERE``); its two lowest bits are always 0.
    is_status, is_enable : Out(1)
        It is ``mstatus``, ``mie``.
    value : Out(32)
        What a CSR that is kept nowhere reads.
    set_status, set_enable : In(1), data : In(32)
        Write ``mstatus``, ``mie``.
    enter, leave : In(1)
        A trap was entered; ``mret``.
    interrupt : In(1)
        Level of the external interrupt; seen a cycle later.
    pending, taken : Out(1)
        An enabled interrupt waits; and ``mstatus.MIE`` lets it in.
    retire : In(1)
        An instruction has been executed.
    cycles, instructions : Out(COUNT_BITS)
        Since they were cleared.
    clear_cycles, clear_instructions : In(1)
        ``cycles`` becomes 3: it was looked at two cycles before. ``instructions`` becomes 0, whatever retires.
    due : Out(1)
        The counts must be added soon.
    """

    def __init__(self, *, multiply: bool = False):
        self.multiply = multiply
        inputs = ("writes", "set_status", "set_enable", "enter", "leave", "interrupt", "retire")
        outputs = ("illegal", "kept", "aligned", "is_status", "is_enable", "pending", "taken", "due")
        super().__init__(
            {name: In(1) for name in (*inputs, "clear_cycles", "clear_instructions")}
            | {name: Out(1) for name in outputs}
            | {
                "address": In(12),
                "row": Out(ROW_BITS),
                "value": Out(32),
                "data": In(32),
                "cycles": Out(COUNT_BITS),
                "instructions": Out(COUNT_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._addresses(m)
        self._status(m)
        self._counts(m)
        return m

    def _addresses(self, m: Module):
        address = self.address
        read_only = address[10:] == 3
        m.d.sync += [
            self.row.eq(Row.NOWHERE),
            self.kept.eq(1),
            self.illegal.eq(read_only & self.writes),
            self.aligned.eq((address == Csr.MTVEC) | (address == Csr.MEPC)),
            self.is_status.eq(address == Csr.MSTATUS),
            self.is_enable.eq(address == Csr.MIE),
        ]
        with m.Switch(address):
            with m.Case(Csr.MTVEC):
                m.d.sync += self.row.eq(Row.MTVEC)
            with m.Case(Csr.MSCRATCH, Csr.MEPC, Csr.MCAUSE, Csr.MTVAL):
                m.d.sync += self.row.eq(Cat(address[:2], Const(Row.MSCRATCH >> 2, 4)))
            with m.Case(*(csr for csr in Csr if "CYCLE" in csr.name or "INSTRET" in csr.name)):
                m.d.sync += self.row.eq(Cat(address[1], address[7], Const(Row.MCYCLE >> 2, 4)))
            with m.Case(*SMALL):
                m.d.sync += self.kept.eq(0)
            with m.Default():
                m.d.sync += self.illegal.eq(1)

    def _status(self, m: Module):
        mie, mpie, meie, interrupt = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [self.pending.eq(meie & interrupt), self.taken.eq(self.pending & mie)]
        m.d.sync += [interrupt.eq(self.interrupt), self.value.eq(0)]
        with m.Switch(self.address):
            with m.Case(Csr.MSTATUS):
                m.d.sync += self.value.eq(mie << MIE | mpie << MPIE | 3 << MPP)
            with m.Case(Csr.MISA):
                m.d.sync += self.value.eq(MISA | (MISA_M if self.multiply else 0))
            with m.Case(Csr.MIE):
                m.d.sync += self.value.eq(meie << MEI)
            with m.Case(Csr.MIP):
                m.d.sync += self.value.eq(interrupt << MEI)
        with m.If(self.set_status):
            m.d.sync += [mie.eq(self.data[MIE]), mpie.eq(self.data[MPIE])]
        with m.If(self.set_enable):
            m.d.sync += meie.eq(self.data[MEI])
        with m.If(self.enter):
            m.d.sync += [mie.eq(0), mpie.eq(mie)]
        with m.If(self.leave):
            m.d.sync += [mie.eq(mpie), mpie.eq(1)]

    def _counts(self, m: Module):
        m.d.sync += [
            self.cycles.eq(Mux(self.clear_cycles, 3, self.cycles + 1)),
            self.instructions.eq(Mux(self.clear_instructions, 0, self.instructions + self.retire)),
        ]
        m.d.comb += self.due.eq(self.cycles[-1])


SMALL = (Csr.MSTATUS, Csr.MISA, Csr.MIE, Csr.MIP, Csr.MVENDORID, Csr.MARCHID, Csr.MIMPID, Csr.MHARTID)
