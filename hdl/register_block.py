"""The plain registers, made from the register map."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .axi_lite import WORD_SHIFT
from .register_map import Register, RegisterMap

__all__ = ["RegisterBlock", "field_layout"]


def field_layout(register_map: RegisterMap, *kinds: str) -> data.StructLayout:
    """Every register of the block that has fields of these kinds, as a structure of those fields."""
    layout = {}
    for register in _block_registers(register_map):
        fields = {field.name: field.width for field in register.fields if field.kind in kinds}
        if fields:
            layout[register.name] = data.StructLayout(fields)
    return data.StructLayout(layout)


def _block_registers(register_map: RegisterMap) -> list[Register]:
    return [register for register in register_map.registers.values() if not register.external]


class RegisterBlock(wiring.Component):
    """Every register of the map that is not external: storage, sticky bits, constants, the read multiplexer.

    Nothing here is typed a second time: registers, fields, resets and kinds come from the map.

    Parameters
    ----------
    register_map
        The map of the build.

    Members
    -------
    addr : In(bits of the block's word addresses), write : In(1), data : In(32), strobe : In(4)
        A write takes effect on the edge after ``write``; only bytes strobed change.
    word : Out(32)
        Combinational from ``addr``; 0 where nothing can be read.
    readable, writable : Out(1)
        Combinational from ``addr``: a register is there and may be read, or written.
    values : Out(struct of register: struct of field)
        Storage fields.
    misfit : Out(1)
        The latest write of some checked field had a bit above the field.
    pulses : Out(struct of register: struct of field)
        Pulse and event fields; combinational, in the cycle of ``write``.
    sets : In(struct of register: struct of field)
        Sets bits of sticky fields; wins over software's clearing.
    sticky : Out(struct of register: struct of field)
        Sticky fields.
    status : In(struct of register: struct of field)
        Status fields.
    """

    def __init__(self, register_map: RegisterMap):
        self.registers = _block_registers(register_map)
        words = max(register.address for register in self.registers) // (1 << WORD_SHIFT) + 1
        super().__init__(
            {
                "addr": In(ceil_log2(words)),
                "write": In(1),
                "data": In(32),
                "strobe": In(4),
                "word": Out(32),
                "readable": Out(1),
                "writable": Out(1),
                "misfit": Out(1),
                "values": Out(field_layout(register_map, "storage")),
                "pulses": Out(field_layout(register_map, "pulse", "event")),
                "sets": In(field_layout(register_map, "sticky")),
                "sticky": Out(field_layout(register_map, "sticky")),
                "status": In(field_layout(register_map, "status")),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._misfits = []
        words = {register.name: self._register(m, register) for register in self.registers}
        m.d.comb += self.misfit.eq(Cat(*self._misfits).any())
        with m.Switch(self.addr):
            for register in self.registers:
                with m.Case(register.address >> WORD_SHIFT):
                    m.d.comb += [self.readable.eq(register.readable), self.writable.eq(register.writable)]
                    if register.readable:
                        m.d.comb += self.word.eq(words[register.name])
        return m

    def _register(self, m: Module, register: Register):
        """Build one register; its word as software reads it."""
        word = Signal(32, name=f"{register.name}_word")
        hit = Signal(name=f"{register.name}_hit")
        m.d.comb += hit.eq(self.write & (self.addr == register.address >> WORD_SHIFT))
        for field in register.fields:
            bits = word[field.low : field.low + field.width]
            if field.kind == "constant":
                m.d.comb += bits.eq(field.reset)
            elif field.kind == "status":
                m.d.comb += bits.eq(self.status[register.name][field.name])
            elif field.kind == "sticky":
                m.d.comb += bits.eq(self._sticky(m, register, field, hit))
            elif field.kind == "storage":
                m.d.comb += bits.eq(self._storage(m, register, field, hit))
            else:
                written = hit if field.kind == "event" else hit & self.strobe[field.low // 8] & self.data[field.low]
                m.d.comb += self.pulses[register.name][field.name].eq(written)
        return word

    def _storage(self, m: Module, register: Register, field, hit):
        """A field that software writes; byte by byte."""
        value = Signal(field.width, init=field.reset, name=f"{register.name}_{field.name}")
        m.d.comb += self.values[register.name][field.name].eq(value)
        for byte in range(4):
            low, high = max(8 * byte, field.low), min(8 * byte + 8, field.low + field.width)
            with m.If(hit & self.strobe[byte]):
                if low < high:
                    m.d.sync += value[low - field.low : high - field.low].eq(self.data[low:high])
                if field.checked and high < 8 * byte + 8:
                    misfit = Signal(name=f"{register.name}_misfit_{byte}")
                    m.d.sync += misfit.eq(self.data[max(low, high) : 8 * byte + 8].any())
                    self._misfits.append(misfit)
        return value

    def _sticky(self, m: Module, register: Register, field, hit):
        """A field of bits that hardware sets and a written 1 clears."""
        value = Signal(field.width, init=field.reset, name=f"{register.name}_{field.name}")
        cleared = Cat(
            Mux(hit & self.strobe[bit // 8], self.data[bit], 0) for bit in range(field.low, field.low + field.width)
        )
        m.d.sync += value.eq((value & ~cleared) | self.sets[register.name][field.name])
        m.d.comb += self.sticky[register.name][field.name].eq(value)
        return value
