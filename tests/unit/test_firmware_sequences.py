"""Where sequences get their slots, against a map of the store."""

import ctypes

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from .firmware_library import CONFIG, Sequences, library

SLOTS, SEQUENCES = CONFIG.unit.slots, CONFIG.sequences
NO_PLACE = 2**32 - 1


def runs(owner: list[int | None]) -> list[tuple[int, int]]:
    """First slot and length of each run of free slots."""
    found, start = [], None
    for slot, number in enumerate([*owner, -1]):
        if number is None:
            start = slot if start is None else start
        elif start is not None:
            found.append((start, slot - start))
            start = None
    return found


class Store(RuleBasedStateMachine):
    """Opens and closes sequences."""

    def __init__(self):
        super().__init__()
        self.table = Sequences()
        self.owner: list[int | None] = [None] * SLOTS
        self.open: set[int] = set()

    @precondition(lambda self: len(self.open) < SEQUENCES)
    @rule(pick=st.integers(0, 99), slots=st.one_of(st.integers(1, SLOTS), st.integers(1, SLOTS // 4)))
    def open_one(self, pick, slots):
        number = sorted(set(range(SEQUENCES)) - self.open)[pick % (SEQUENCES - len(self.open))]
        first = library().sequences_place(ctypes.byref(self.table), slots)
        fitting = [start for start, length in runs(self.owner) if length >= slots]
        assert first == (fitting[0] if fitting else NO_PLACE)
        if fitting:
            sequence = self.table.all[number]
            sequence.first, sequence.slots, sequence.layers = first, slots, 1
            library().sequences_insert(ctypes.byref(self.table), number)
            self.open.add(number)
            self.owner[first : first + slots] = [number] * slots

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0, 99))
    def close_one(self, pick):
        number = sorted(self.open)[pick % len(self.open)]
        library().sequences_remove(ctypes.byref(self.table), number)
        self.open.remove(number)
        self.owner = [None if owner == number else owner for owner in self.owner]

    @invariant()
    def table_is_sound(self):
        assert library().sequences_sound(ctypes.byref(self.table))
        assert {number for number in range(SEQUENCES) if self.table.all[number].open} == self.open
        total, longest = ctypes.c_uint32(), ctypes.c_uint32()
        library().sequences_free(ctypes.byref(self.table), ctypes.byref(total), ctypes.byref(longest))
        lengths = [length for _, length in runs(self.owner)]
        assert (total.value, longest.value) == (sum(lengths), max(lengths, default=0))


TestStore = Store.TestCase
TestStore.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


def two_sequences() -> Sequences:
    table = Sequences()
    for number, first in ((3, 0), (1, 40)):
        table.all[number].first, table.all[number].slots, table.all[number].layers = first, 40, 2
        library().sequences_insert(ctypes.byref(table), number)
    return table


def spoilt(change) -> Sequences:
    table = two_sequences()
    change(table)
    return table


def test_a_broken_table_is_found():
    changes = {
        "count": lambda table: setattr(table, "count", SEQUENCES + 1),
        "number": lambda table: table.order.__setitem__(0, SEQUENCES),
        "twice": lambda table: table.order.__setitem__(0, 1),
        "closed": lambda table: setattr(table.all[1], "open", False),
        "open": lambda table: setattr(table.all[0], "open", True),
        "overlap": lambda table: setattr(table.all[1], "first", 39),
        "end": lambda table: setattr(table.all[1], "slots", SLOTS),
        "layers": lambda table: setattr(table.all[1], "layers", CONFIG.layers + 1),
        "policy": lambda table: setattr(table.all[1].policy, "kind", 6),
    }
    assert library().sequences_sound(ctypes.byref(two_sequences()))
    missed = [name for name, change in changes.items() if library().sequences_sound(ctypes.byref(spoilt(change)))]
    assert missed == []


@settings(deadline=None)
@given(noise=st.binary(min_size=ctypes.sizeof(Sequences), max_size=ctypes.sizeof(Sequences)))
def test_noise_is_judged(noise):
    table = Sequences.from_buffer_copy(noise)
    for sequence in table.all:
        ctypes.memset(ctypes.byref(sequence, type(sequence).open.offset), 1, 1)
    assert not library().sequences_sound(ctypes.byref(table))
