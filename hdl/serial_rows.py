"""The rows of the serial core: those of a packet, and those of the store."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import UnitConfig
from .memory import Ram, SinglePortRam
from .shared_memory import StorePort

__all__ = ["SerialRows"]


class SerialRows(wiring.Component):
    """One packet and the store, one access of each a cycle; a beat read is there in the next cycle.

    A packet's rows are numbered: keys and values of all KV heads, queries. The store is laid out as
    :class:`~reluctant.hdl.row_appender.RowAppender` says.

    Parameters
    ----------
    config
        The unit's configuration.

    Attributes
    ----------
    count
        Rows of a packet.

    Members
    -------
    beat : In(beat_bits)
        Of all rows.
    take : In(1), data : In(lanes * 8), index : In(count_bits)
        A beat of row ``index`` of the packet comes in.
    copying : In(1), value : In(1), kv : In(kv_bits), head : In(head_bits)
        What is read of the packet: the key or the value of ``kv`` while copying, else the query of ``head``.
    base : In(row_bits), slot : In(slot_bits)
        The row of the store: their sum.
    values : In(1)
        Its value, not its key.
    write : In(1)
        The beat that was read of the packet goes into the store; only while ``go``.
    row : Out(row_bits)
        ``base + slot``.
    query, stored : Out(lanes * 8)
        What was read of the packet, and of the store.
    go : Out(1)
        The store is free. What is read of it else is lost. From a register.
    memory : In(StorePort(config.shared_memory))
        Only with shared memory: its words are in the low 32 bits, behind the rows.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        self.count = 2 * config.kv_heads + config.heads
        sizes, width = config.sizes, config.lanes * 8
        shared = {"memory": In(StorePort(config.shared_memory))} if config.shared_memory else {}
        super().__init__(
            {
                **dict.fromkeys(("take", "copying", "value", "values", "write"), In(1)),
                "beat": In(sizes.beat_bits),
                "data": In(width),
                "index": In(sizes.count_bits),
                "kv": In(sizes.kv_bits),
                "head": In(sizes.head_bits),
                "base": In(sizes.row_bits),
                "slot": In(sizes.slot_bits),
                "row": Out(sizes.row_bits),
                "query": Out(width),
                "stored": Out(width),
                "go": Out(1),
                **shared,
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._packet(m)
        m.d.comb += self.row.eq(self.base + self.slot)
        self._store(m, self._address(m))
        return m

    def _packet(self, m):
        config = self.config
        ram = Ram(width=config.lanes * 8, depth=self.count << config.sizes.beat_bits)
        m.submodules.packet = ram
        row = Signal(range(self.count))
        m.d.comb += [
            row.eq(2 * config.kv_heads + self.head),
            ram.write_en.eq(self.take),
            ram.write_addr.eq(Cat(self.beat, self.index[: len(row)])),
            ram.write_data.eq(self.data),
            ram.read_addr.eq(Cat(self.beat, row)),
            self.query.eq(ram.read_data),
        ]
        with m.If(self.copying):
            m.d.comb += row.eq(Mux(self.value, config.kv_heads + self.kv, self.kv))

    def _address(self, m):
        """Of the beat in the store: no adder where its parts are powers of two."""
        sizes = self.config.sizes
        address = Signal(range(sizes.store_depth))
        if sizes.rows & (sizes.rows - 1) == 0 and sizes.beats & (sizes.beats - 1) == 0:
            row_bits, beat_bits = sizes.rows.bit_length() - 1, sizes.beats.bit_length() - 1
            m.d.comb += address.eq(Cat(self.row[:row_bits], self.beat[:beat_bits], self.values))
            return address
        offset = Signal(range(sizes.store_depth))
        with m.Switch(Cat(self.beat, self.values)):
            for column in range(2 * sizes.beats):
                beat, values = column % sizes.beats, column // sizes.beats
                with m.Case(beat | values << len(self.beat)):
                    m.d.comb += offset.eq(column * sizes.rows)
        m.d.comb += address.eq(self.row + offset)
        return address

    def _store(self, m, address):
        config, depth = self.config, self.config.sizes.store_depth
        words = config.shared_memory // 4
        first = 1 << max(depth - 1, words - 1).bit_length() if words else depth
        ram = SinglePortRam(width=config.lanes * 8, depth=first + words, granularity=8)
        m.submodules.store = ram
        m.d.comb += [
            self.go.eq(1),
            self.stored.eq(ram.read_data),
            ram.addr.eq(address),
            ram.write_data.eq(self.query),
            ram.write_en.eq(self.write.replicate(config.lanes)),
        ]
        if not words:
            return
        memory = self.memory
        own, asked = (_behind(first, word) for word in (memory.rest, memory.addr))
        m.d.comb += [self.go.eq(~memory.take), memory.read_data.eq(ram.read_data)]
        with m.If(memory.take):
            m.d.comb += [
                ram.addr.eq(own),
                ram.write_data[:32].eq(memory.write_data),
                ram.write_en.eq(memory.write_en),
                ram.read_en.eq(memory.read_en),
            ]
        # The last choice, as that address comes late.
        with m.If(memory.ask):
            m.d.comb += ram.addr.eq(asked)


def _behind(first: int, word):
    """The address of a word behind the first ``first`` rows, a power of two."""
    return Cat(word, Const(0, first.bit_length() - 1 - len(word)), 1)
