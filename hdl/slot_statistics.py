"""What each row has earned so far, and which one to overwrite."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from reluctant.golden import formats

from .config import UnitConfig
from .memory import Ram
from .multiplier import Multiplier
from .reciprocal import Reciprocal

__all__ = ["SlotStatistics", "slot_append", "slot_record", "slot_update", "victim", "victim_search"]

_RATE_FRACTION = 8
_OPERAND_BITS = 17
"""Unsigned bits that a signed 18-bit multiplier takes."""


def slot_update(config: UnitConfig) -> data.StructLayout:
    """A weight earned by a row."""
    return data.StructLayout({"valid": 1, "row": config.sizes.row_bits, "weight": formats.WEIGHT_BITS})


def slot_append(config: UnitConfig) -> data.StructLayout:
    """A row that now holds the token at ``position``."""
    return data.StructLayout({"row": config.sizes.row_bits, "position": config.position_bits})


def slot_record(config: UnitConfig) -> data.StructLayout:
    """What is known of a row."""
    return data.StructLayout({"mass": config.mass_bits, "position": config.position_bits})


def victim_search(config: UnitConfig) -> data.StructLayout:
    """A victim is wanted among rows ``row ... row + n - 1``, for the token at ``position``."""
    return data.StructLayout(
        {
            "row": config.sizes.row_bits,
            "n": config.sizes.count_bits,
            "position": config.position_bits,
            "sinks": config.position_bits,
            "recent": config.position_bits,
            "metric": 2,
        }
    )


def victim(config: UnitConfig) -> data.StructLayout:
    """The answer to a search: the row is ``row + slot``, if ``found``."""
    return data.StructLayout({"found": 1, "slot": config.sizes.slot_bits})


class SlotStatistics(wiring.Component):
    """Mass and position of every row, and the search for the row that matters least.

    Mass is the saturating sum of the weights since the row was appended; position is the absolute one of its token.
    Updates and appends take effect in the order in which they are presented; a search or a peek sees all that were
    presented before its ``valid`` rose, or with it. Rows of a search must not be updated or appended while it runs;
    others may.

    A search gives the first row in slot order with the least metric among the evictable ones: those with
    ``position >= sinks`` and ``search.position - position > recent``. The metric is the row's position, its mass, or
    :func:`reluctant.golden.formats.rate` of its mass over ``search.position - position``.

    Parameters
    ----------
    config
        ``mass_bits`` and ``position_bits`` are the widths of a record; ``sizes.rows`` the number of records.

    Attributes
    ----------
    overhead
        Cycles from a search to its answer beyond one for each row: 20, or 21 with records wider than 17 bits.

    Members
    -------
    update : In(slot_update(config))
        One a cycle, without back pressure; any rows, in any order. Takes the cycle's read from search and peek.
    append : In(stream(slot_append(config)))
        Taken in a cycle without update: mass 0 and the new position.
    search : In(stream(victim_search(config)))
        Taken when the search ends: its payload is used, and must hold, until then.
    victim : Out(stream(victim(config)))
        The answer, ``n + overhead`` cycles after ``search.valid`` plus one for each update that took a read.
        After 5 cycles if ``n`` is 0.
    peek : In(stream(row)), peeked : Out(stream(slot_record(config)))
        Record of one row. Waits for a cycle without anything else to do; the answer comes 3 cycles later.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        wide = max(config.mass_bits, config.position_bits) > _OPERAND_BITS
        self._product_latency = Multiplier.latency + wide
        self.overhead = 10 + Reciprocal.latency + self._product_latency
        super().__init__(
            {
                "update": In(slot_update(config)),
                "append": In(stream.Signature(slot_append(config))),
                "search": In(stream.Signature(victim_search(config))),
                "victim": Out(stream.Signature(victim(config))),
                "peek": In(stream.Signature(config.sizes.row_bits)),
                "peeked": Out(stream.Signature(slot_record(config))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, rows = self.config, self.config.sizes.rows
        m.submodules.masses = self._masses = Ram(width=config.mass_bits, depth=rows, latency=2)
        m.submodules.positions = self._positions = Ram(width=config.position_bits, depth=rows, latency=2)
        changing = self._change(m)
        cursor, reading, idle = self._search(m)
        peek_row = self._peek(m, idle & ~changing)
        m.d.comb += [
            self._masses.read_addr.eq(Mux(self.update.valid, self.update.row, Mux(reading, cursor, peek_row))),
            self._positions.read_addr.eq(Mux(reading, cursor, peek_row)),
        ]
        return m

    def _change(self, m):
        """Read, wait, add, write: updates and appends as they come. Returns whether any is under way."""
        update, append = self.update, self.append
        appends = append.valid & ~update.valid
        m.d.comb += [
            append.ready.eq(~update.valid),
            self._positions.write_en.eq(appends),
            self._positions.write_addr.eq(append.payload.row),
            self._positions.write_data.eq(append.payload.position),
        ]
        valid, row = [update.valid | append.valid], [Mux(update.valid, update.row, append.payload.row)]
        for stage in range(1, 5):
            valid.append(_delay(m, valid[-1], 1, f"valid_{stage}", reset_less=False))
            row.append(_delay(m, row[-1], 1, f"row_{stage}"))
        weight = _delay(m, Mux(update.valid, update.weight, 0), 2, "weight")
        clear = _delay(m, ~update.valid, 1, "clear")

        # What stages 2, 3 and 4 hold had not reached the memory when the row in stage 1 was read.
        near, far, farthest = (valid[stage] & (row[stage] == row[1]) for stage in (2, 3, 4))
        bits = self.config.mass_bits
        total = Signal(bits + 1)
        mass_3 = _delay(m, total[:bits] | total[bits].replicate(bits), 1, "mass_3")
        mass_4 = _delay(m, mass_3, 1, "mass_4")
        known = _delay(m, Mux(clear, 0, Mux(far, mass_3, mass_4)), 1, "known")
        is_known = _delay(m, clear | far | farthest, 1, "is_known")
        is_near = _delay(m, near & ~clear, 1, "is_near")
        m.d.comb += [
            total.eq(Mux(is_near, mass_3, Mux(is_known, known, self._masses.read_data)) + weight),
            self._masses.write_en.eq(valid[3]),
            self._masses.write_addr.eq(row[3]),
            self._masses.write_data.eq(mass_3),
        ]
        return valid[0] | valid[1] | valid[2] | valid[3]

    def _search(self, m):
        """Reads the rows and keeps the best. Returns the row to read, whether it is read now, and whether none is."""
        sizes, search = self.config.sizes, self.search.payload
        cursor = Signal(sizes.row_bits, reset_less=True)
        left, seen = Signal(sizes.count_bits), Signal(sizes.count_bits)
        start, read, running, idle = Signal(), Signal(), Signal(), Signal()
        m.d.comb += read.eq(running & (left != 0) & ~self.update.valid)
        with m.FSM(name="search"):
            with m.State("IDLE"):
                m.d.comb += idle.eq(~self.search.valid)
                with m.If(self.search.valid):
                    m.next = "START"
            with m.State("START"):  # this and the two settling cycles let the changes before reach the memory
                m.d.comb += start.eq(1)
                m.d.sync += [cursor.eq(search.row), left.eq(search.n)]
                m.next = "SETTLE"
            with m.State("SETTLE"):
                m.next = "SETTLED"
            with m.State("SETTLED"):
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(seen == search.n):
                    m.d.comb += self.search.ready.eq(1)
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.victim.valid.eq(1)
                with m.If(self.victim.ready):
                    m.next = "IDLE"
        with m.If(read):
            m.d.sync += [cursor.eq(cursor + 1), left.eq(left - 1)]
        self._minimum(m, start, seen, *self._keys(m, _delay(m, read, 2, "valid_read", reset_less=False)))
        return cursor, running, idle

    def _keys(self, m, valid):
        """(valid, evictable, key) of each row read, a fixed number of cycles after its record."""
        config, search = self.config, self.search.payload
        mass, position = self._masses.read_data, self._positions.read_data
        age = Signal(signed(config.position_bits + 1), reset_less=True)
        kept = Signal(reset_less=True)
        operand = Signal(max(config.mass_bits, config.position_bits), reset_less=True)
        m.d.sync += [
            age.eq(search.position - position),
            kept.eq(position >= search.sinks),
            operand.eq(Mux(search.metric == formats.Metric.POSITION, position, mass)),
        ]

        # An evictable row has age >= 1, so nothing else need be right in the reciprocal.
        m.submodules.reciprocal = reciprocal = Reciprocal(config.position_bits, functions=("reciprocal",))
        rate = search.metric == formats.Metric.RATE
        m.d.comb += reciprocal.i.value.eq(age[: config.position_bits])
        product = self._multiply(
            m,
            _delay(m, operand, reciprocal.latency, "operand"),
            Mux(rate, reciprocal.o.y, 1 << formats.MANTISSA_BITS),
        )
        shift = _delay(m, Mux(rate, reciprocal.o.k, 0), self._product_latency, "shift")
        low = len(shift) // 2
        whole = product[formats.MANTISSA_BITS - _RATE_FRACTION : len(operand) + formats.MANTISSA_BITS]
        part = _delay(m, whole >> shift[:low], 1, "part")
        high = _delay(m, shift[low:], 1, "shift_high")
        key = _delay(m, part >> Cat(Const(0, low), high), 1, "key")
        after = reciprocal.latency + self._product_latency + 2
        return (
            _delay(m, valid, 1 + after, "valid_key", reset_less=False),
            _delay(m, kept & (age > search.recent), after, "evictable"),
            key,
        )

    def _multiply(self, m, operand, y):
        """Their product: one multiplier, or two of at most 18 bits and a sum."""
        m.submodules.low = low = Multiplier(_OPERAND_BITS + 1, formats.MANTISSA_BITS + 2)
        m.d.comb += [low.a.eq(operand[:_OPERAND_BITS]), low.b.eq(y)]
        if len(operand) <= _OPERAND_BITS:
            return low.p
        m.submodules.high = high = Multiplier(len(operand) - _OPERAND_BITS + 1, formats.MANTISSA_BITS + 2)
        m.d.comb += [high.a.eq(operand[_OPERAND_BITS:]), high.b.eq(y)]
        product = Signal(len(operand) + formats.MANTISSA_BITS + 1)
        m.d.sync += product.eq(low.p + (high.p << _OPERAND_BITS))
        return product

    def _minimum(self, m, start, seen, valid, evictable, key):
        best = Signal.like(key, reset_less=True)
        found = Signal()
        slot = Signal(self.config.sizes.slot_bits, reset_less=True)
        with m.If(start):
            m.d.sync += [seen.eq(0), found.eq(0)]
        with m.Elif(valid):
            m.d.sync += seen.eq(seen + 1)
            with m.If(evictable & (~found | (key < best))):
                m.d.sync += [found.eq(1), best.eq(key), slot.eq(seen)]
        m.d.comb += [self.victim.payload.found.eq(found), self.victim.payload.slot.eq(slot)]

    def _peek(self, m, free):
        """Answers the host when ``free``. Returns the row to read."""
        waiting = Signal()  # for the record, or for its taker
        take = self.peek.valid & self.peek.ready
        record = Signal(slot_record(self.config), reset_less=True)
        arrives = _delay(m, take, 2, "peek", reset_less=False)
        valid = Signal()
        m.d.comb += [
            self.peek.ready.eq(free & ~waiting),
            self.peeked.valid.eq(valid),
            self.peeked.payload.eq(record),
        ]
        with m.If(take):
            m.d.sync += waiting.eq(1)
        with m.If(arrives):
            m.d.sync += [
                valid.eq(1),
                record.mass.eq(self._masses.read_data),
                record.position.eq(self._positions.read_data),
            ]
        with m.If(valid & self.peeked.ready):
            m.d.sync += [valid.eq(0), waiting.eq(0)]
        return self.peek.payload


def _delay(m, value, cycles, name, reset_less=True):
    """``value`` after ``cycles`` registers."""
    for stage in range(cycles):
        register = Signal(len(value), name=f"{name}_d{stage}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value
