"""Per-head settings: thresholds, modes, softmax constants, scales."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from reluctant.golden.formats import Mode

from . import layouts
from .axi_lite import WORD_SHIFT, RegisterBus
from .config import UnitConfig
from .memory import Ram
from .register_map import Field, RegisterMap

__all__ = ["HeadTable", "head_table_bus"]

TABLE = "HEAD_TABLE."


@dataclass(frozen=True)
class _Setting:
    """One field of an entry: its word and place in it, its place in a row of the memory, its initial value."""

    name: str
    word: int
    field: Field
    offset: int
    width: int

    @property
    def bits(self) -> slice:
        return slice(self.offset, self.offset + self.width)


def head_table_bus(config: UnitConfig) -> RegisterBus:
    """The bus of a build's head table: entries times words, a power of two of words an entry."""
    theta = RegisterMap(config).register(TABLE + "THETA")
    return RegisterBus(bits_for((theta.count * theta.strides[-1] >> WORD_SHIFT) - 1))


def _is_built(config: UnitConfig, name: str) -> bool:
    if name == "theta":
        return True
    if name == "sink":
        return "sum" in config.normalisers
    return bool(config.normalisers) if name.startswith("alpha") else config.softmax


class HeadTable(wiring.Component):
    """``profiles * heads`` entries of settings in one memory that holds only what was built.

    What was not built reads 0 on the bus and ignores writes: the mode and what belongs to it without softmax, ``alpha``
    without normalisers, ``sink`` without the normaliser ``sum``. In ``entry`` it is 0; ``sink`` is not there at all. At
    power-up: theta 0, mode ReLU, alpha 1.0, sink 0 (the resets of the register map).

    Parameters
    ----------
    config
        The build.

    Members
    -------
    addr : In(range(profiles * heads))
        ``profile * heads + head``.
    entry : Out(layouts.head_settings(config))
        2 cycles after ``addr``, one a cycle, while ``bus.request`` is low; from a register.
    bus : In(RegisterBus)
        Word ``8 * entry + word`` as in the register map; the address must be one of the map's. 3 cycles from
        ``request`` to ``done``. Takes the memory's read port, so it may be used only while nobody reads entries. A
        write reads the entry and writes it back with the bytes strobed changed. ``error``, with nothing changed: a mode
        that was not built; bits above ``MODE`` or ``MIN_ACTIVE``; a whole word of ``THETA`` that does not fit a score.
    """

    latency = 2

    def __init__(self, config: UnitConfig):
        self.config = config
        self.map = RegisterMap(config)
        self.depth = config.profiles * config.heads
        self.stride = ceil_log2(self.map.register(TABLE + "THETA").strides[-1]) - WORD_SHIFT
        self.settings = self._settings()
        super().__init__(
            {
                "addr": In(max(1, ceil_log2(self.depth))),
                "entry": Out(layouts.head_settings(config)),
                "bus": In(head_table_bus(config)),
            }
        )

    def _settings(self) -> list[_Setting]:
        """The fields of the register map that are built, packed one after the other."""
        layout = layouts.head_settings(self.config)
        first = self.map.register(TABLE + "THETA").address
        settings, offset = [], 0
        for register in self.map.registers.values():
            if not register.name.startswith(TABLE):
                continue
            for field in register.fields:
                name = register.name.removeprefix(TABLE).lower() + ("" if field.name == "value" else f"_{field.name}")
                if _is_built(self.config, name):
                    width = Shape.cast(layout[name].shape).width
                    settings.append(_Setting(name, (register.address - first) >> WORD_SHIFT, field, offset, width))
                    offset += width
        return settings

    def elaborate(self, platform):
        m = Module()
        width = self.settings[-1].bits.stop
        init = sum(setting.field.reset << setting.offset for setting in self.settings)
        m.submodules.ram = ram = Ram(width=width, depth=self.depth, init=[init] * self.depth)
        index, word = self.bus.addr[self.stride :], self.bus.addr[: self.stride]
        row = Signal(width, reset_less=True)
        m.d.sync += row.eq(ram.read_data)
        m.d.comb += [
            ram.read_addr.eq(Mux(self.bus.request, index, self.addr)),
            ram.write_addr.eq(index),
            ram.write_data.eq(self._merged(row, word)),
        ]
        for setting in self.settings:
            m.d.comb += self.entry[setting.name].eq(row[setting.bits])

        refused = Signal()
        m.d.sync += refused.eq(self._refused(m, word))
        read_data, error = Signal(32, reset_less=True), Signal()
        there, merge, done = Signal(), Signal(), Signal()  # the entry is at the memory's output; in the register; over
        m.d.sync += [there.eq(self.bus.request & ~there & ~merge & ~done), merge.eq(there), done.eq(merge)]
        m.d.comb += [self.bus.done.eq(done), self.bus.error.eq(error), self.bus.read_data.eq(read_data)]
        with m.If(merge):
            m.d.comb += [ram.read_en.eq(0), ram.write_en.eq(self.bus.write & ~refused)]
            m.d.sync += [read_data.eq(self._word(m, row, word)), error.eq(self.bus.write & refused)]
        return m

    def _merged(self, row: Value, word: Value) -> Value:
        """``row`` with the strobed bytes of ``word`` replaced."""
        bits = []
        for setting in self.settings:
            for bit in range(setting.width):
                place = setting.field.low + bit
                new = (word == setting.word) & self.bus.strobe[place // 8]
                bits.append(Mux(new, self.bus.data[place], row[setting.offset + bit]))
        return Cat(bits)

    def _word(self, m: Module, row: Value, word: Value) -> Value:
        """``word`` of ``row`` as the bus reads it."""
        selected = Signal(32)
        with m.Switch(word):
            for number in sorted({setting.word for setting in self.settings}):
                with m.Case(number):
                    for setting in self.settings:
                        if setting.word == number:
                            value = row[setting.bits]
                            value = value.as_signed() if setting.field.signed else value
                            m.d.comb += selected[setting.field.low : setting.field.low + setting.field.width].eq(value)
        return selected

    def _refused(self, m: Module, word: Value) -> Value:
        """Whether the word that the bus writes cannot be held."""
        data, strobe = self.bus.data, self.bus.strobe
        strobed = Cat(data[bit] & strobe[bit // 8] for bit in range(32))
        refused = Signal()

        def number(name: str) -> int:
            return (self.map.register(TABLE + name).address - self.map.register(TABLE + "THETA").address) >> WORD_SHIFT

        with m.Switch(word):
            with m.Case(number("THETA")):
                top = data[self.config.sizes.score_bits - 1 :]
                m.d.comb += refused.eq(strobe.all() & top.any() & ~top.all())
            with m.Case(number("MODE")):
                unknown = strobed[:2] > (max(Mode) if self.config.softmax else Mode.RELU)
                m.d.comb += refused.eq(unknown | strobed[2:].any())
            if self.config.softmax:
                with m.Case(number("MIN_ACTIVE")):
                    m.d.comb += refused.eq(strobed[self.config.sizes.count_bits :].any())
        return refused
