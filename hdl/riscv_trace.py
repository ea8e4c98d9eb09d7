"""What tests see of the RISC-V core."""

from amaranth.lib import data

__all__ = ["Trace"]


class Trace(data.Struct):
    """What the core did in this cycle, for tests; synthesis drops it where nobody looks."""

    retire: 1  # an instruction ended
    trap: 1  # an instruction ended in an exception, or an interrupt came before it
    pc: 32  # of that instruction
    write: 1  # a register other than x0 was written; not later than the end of its instruction
    rd: 5
    value: 32
