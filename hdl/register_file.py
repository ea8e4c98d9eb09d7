"""Registers of the RISC-V core, with the control and status registers behind them."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .memory import Ram
from .riscv_isa import Row

__all__ = ["ROW_BITS", "RegisterFile"]

ROW_BITS = 6


class RegisterFile(wiring.Component):
    """Two reads and one write a cycle: x0 to x31 in rows 0 to 31 (``Row`` of riscv_isa.py names the rest).

    A read gives, a cycle after ``read_a`` or ``read_b`` was high, what the row held before that cycle's write, and then
    holds. A row must not be read in the cycle that writes it. Row 0 starts as 0, row ``MINUS_4`` as -4; these must
    never be written.

    Members
    -------
    read_a, read_b : In(1), row_a : In(6), row_b : In(5)
    a, b : Out(32)
    write : In(1), row : In(6), data : In(32)
    """

    def __init__(self):
        super().__init__(
            {
                "read_a": In(1),
                "read_b": In(1),
                "row_a": In(ROW_BITS),
                "row_b": In(ROW_BITS - 1),
                "a": Out(32),
                "b": Out(32),
                "write": In(1),
                "row": In(ROW_BITS),
                "data": In(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Halves of words: as many block RAMs on iCE40, and small enough that Yosys takes the faster LUT RAM on ECP5.
        for port, rows, read, row, data in (
            ("a", [0] * Row.MINUS_4 + [-4], self.read_a, self.row_a, self.a),
            ("b", [0] * (1 << ROW_BITS - 1), self.read_b, self.row_b, self.b),
        ):
            for half, bits in (("low", slice(0, 16)), ("high", slice(16, 32))):
                init = [number >> bits.start & 0xFFFF for number in rows]
                ram = m.submodules[f"{port}_{half}"] = Ram(width=16, depth=len(rows), init=init)
                m.d.comb += [
                    ram.read_en.eq(read),
                    ram.read_addr.eq(row),
                    data[bits].eq(ram.read_data),
                    ram.write_en.eq(self.write if port == "a" else self.write & ~self.row[-1]),
                    ram.write_addr.eq(self.row),
                    ram.write_data.eq(self.data[bits]),
                ]
        return m
