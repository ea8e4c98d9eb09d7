"""Programs for the scheduler's core, put together by hand: instructions as functions, labels by a class."""

import struct

__all__ = ["CSR_MIE", "CSR_MTVEC", "Program"]

CSR_MIE, CSR_MTVEC = 0x304, 0x305


class Program:
    """Instructions one after the other; registers are numbers.

    >>> program = Program()
    >>> program.li(1, 0x40000000)
    >>> program.label("again")
    >>> program.lw(2, 1, 0x10)
    >>> program.beq(2, 0, "again")
    """

    def __init__(self):
        self.words, self.labels, self.fixes = [], {}, []

    def image(self) -> bytes:
        words = list(self.words)
        for at, label, encode in self.fixes:
            words[at] = encode(4 * (self.labels[label] - at))
        return struct.pack(f"<{len(words)}I", *words)

    def label(self, name):
        self.labels[name] = len(self.words)

    def _emit(self, word):
        self.words.append(word & 0xFFFFFFFF)

    def addi(self, rd, rs, value):
        assert -2048 <= value < 2048
        self._emit((value & 0xFFF) << 20 | rs << 15 | rd << 7 | 0x13)

    def li(self, rd, value):
        """Always two instructions."""
        low = (value & 0xFFF) - (value & 0x800) * 2
        self._emit((value - low & 0xFFFFF000) | rd << 7 | 0x37)
        self.addi(rd, rd, low)

    def lw(self, rd, base, offset=0):
        self._emit((offset & 0xFFF) << 20 | base << 15 | 2 << 12 | rd << 7 | 0x03)

    def _store(self, funct, rs, base, offset):
        self._emit((offset >> 5 & 0x7F) << 25 | rs << 20 | base << 15 | funct << 12 | (offset & 0x1F) << 7 | 0x23)

    def sw(self, rs, base, offset=0):
        self._store(2, rs, base, offset)

    def sb(self, rs, base, offset=0):
        self._store(0, rs, base, offset)

    def add(self, rd, a, b):
        self._emit(b << 20 | a << 15 | rd << 7 | 0x33)

    def csrw(self, csr, rs):
        self._emit(csr << 20 | rs << 15 | 1 << 12 | 0x73)

    def wfi(self):
        self._emit(0x10500073)

    def jump(self, label):
        def encode(offset):
            bits = offset >> 20 & 1, offset >> 1 & 0x3FF, offset >> 11 & 1, offset >> 12 & 0xFF
            return bits[0] << 31 | bits[1] << 21 | bits[2] << 20 | bits[3] << 12 | 0x6F

        self._fix(label, encode)

    def _branch(self, funct, a, b, label):
        def encode(offset):
            high = (offset >> 12 & 1) << 31 | (offset >> 5 & 0x3F) << 25
            low = (offset >> 1 & 0xF) << 8 | (offset >> 11 & 1) << 7
            return high | b << 20 | a << 15 | funct << 12 | low | 0x63

        self._fix(label, encode)

    def beq(self, a, b, label):
        self._branch(0, a, b, label)

    def bne(self, a, b, label):
        self._branch(1, a, b, label)

    def _fix(self, label, encode):
        self.fixes.append((len(self.words), label, encode))
        self._emit(0)
