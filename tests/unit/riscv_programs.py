"""Random programs for the RISC-V core: every instruction, traps of every kind, with a handler that goes on."""

from random import Random

from reluctant.hdl.riscv_isa import Csr

_F3, _F7, _ALL = 0x0000707F, 0xFE00707F, 0xFFFFFFFF


def _family(mask: int, match: int, *names: str) -> dict[str, tuple[int, int]]:
    """Instructions that differ in funct3: names in its order, "" where there is none."""
    return {name: (mask, match | funct3 << 12) for funct3, name in enumerate(names) if name}


INSTRUCTIONS = {
    "lui": (0x7F, 0x37),
    "auipc": (0x7F, 0x17),
    "jal": (0x7F, 0x6F),
    "jalr": (_F3, 0x67),
    **_family(_F3, 0x63, "beq", "bne", "", "", "blt", "bge", "bltu", "bgeu"),
    **_family(_F3, 0x03, "lb", "lh", "lw", "", "lbu", "lhu"),
    **_family(_F3, 0x23, "sb", "sh", "sw"),
    **_family(_F3, 0x13, "addi", "", "slti", "sltiu", "xori", "", "ori", "andi"),
    **_family(_F7, 0x13, "", "slli", "", "", "", "srli"),
    "srai": (_F7, 0x40005013),
    **_family(_F7, 0x33, "add", "sll", "slt", "sltu", "xor", "srl", "or", "and"),
    "sub": (_F7, 0x40000033),
    "sra": (_F7, 0x40005033),
    "fence": (_F3, 0x0F),
    "ecall": (_ALL, 0x00000073),
    "ebreak": (_ALL, 0x00100073),
    "wfi": (_ALL, 0x10500073),
    "mret": (_ALL, 0x30200073),
    **_family(_F3, 0x73, "", "csrrw", "csrrs", "csrrc", "", "csrrwi", "csrrsi", "csrrci"),
}
"""Mask and match of each instruction of RV32I, Zicsr and machine mode, as in the tables of the manual."""

MULTIPLY = _family(_F7, 0x02000033, "mul", "mulh", "mulhsu", "mulhu", "div", "divu", "rem", "remu")

HANDLER, CODE, DATA, BLOCKS = 0x200, 0x1000, 0x8800, 150
BUDGET, BASE, RESUME, STACK, BLOCK = 7, 8, 9, 1020, 64
"""x7 counts the jumps back that a block has left; x8 points at DATA; x9 at the start of a block of 64 bytes of code, so
that a jump to nowhere goes on with the next block; where the handler keeps a register."""
BRANCHES = ("beq", "bne", "blt", "bge", "bltu", "bgeu")
LOADS, STORES = ("lb", "lh", "lw", "lbu", "lhu"), ("sb", "sh", "sw")


def name_of(word: int, multiply: bool = False) -> str | None:
    """The instruction that ``word`` is; None if it is illegal whatever the CSR."""
    table = {**INSTRUCTIONS, **MULTIPLY} if multiply else INSTRUCTIONS
    return next((name for name, (mask, match) in table.items() if word & mask == match), None)


def i_type(name: str, rd: int, rs1: int, immediate: int) -> int:
    return INSTRUCTIONS[name][1] | rd << 7 | rs1 << 15 | (immediate & 0xFFF) << 20


def s_type(name: str, rs2: int, rs1: int, immediate: int) -> int:
    return INSTRUCTIONS[name][1] | (immediate & 31) << 7 | rs1 << 15 | rs2 << 20 | (immediate >> 5 & 127) << 25


def b_type(name: str, rs1: int, rs2: int, offset: int) -> int:
    fields = (offset >> 11 & 1) << 7 | (offset >> 1 & 15) << 8 | (offset >> 5 & 63) << 25 | (offset >> 12 & 1) << 31
    return INSTRUCTIONS[name][1] | rs1 << 15 | rs2 << 20 | fields


def j_type(rd: int, offset: int) -> int:
    fields = (
        (offset >> 12 & 255) << 12 | (offset >> 11 & 1) << 20 | (offset >> 1 & 1023) << 21 | (offset >> 20 & 1) << 31
    )
    return INSTRUCTIONS["jal"][1] | rd << 7 | fields


def load_constant(rd: int, value: int) -> list[int]:
    low = (value & 0xFFF) - ((value & 0x800) << 1)
    upper = (value - low) & 0xFFFFF000
    return [INSTRUCTIONS["lui"][1] | rd << 7 | upper, i_type("addi", rd, rd, low)]


def _handler() -> list[int]:
    """Goes on after an exception, at x9 after a failed fetch, where it was after an interrupt; changes no register."""
    x31 = 31
    return [
        i_type("csrrw", x31, x31, Csr.MSCRATCH),
        s_type("sw", x31, BASE, STACK),
        i_type("csrrs", x31, 0, Csr.MCAUSE),
        b_type("blt", x31, 0, 32),  # an interrupt: to `done`
        i_type("addi", x31, x31, -1),
        b_type("beq", x31, 0, 16),  # a failed fetch: to `failed`
        i_type("csrrs", x31, 0, Csr.MEPC),
        i_type("addi", x31, x31, 4),
        j_type(0, 8),
        i_type("addi", x31, RESUME, BLOCK),  # failed
        i_type("csrrw", 0, x31, Csr.MEPC),
        i_type("lw", x31, BASE, STACK),  # done
        i_type("csrrw", x31, x31, Csr.MSCRATCH),
        INSTRUCTIONS["mret"][1],
    ]


def _start(random: Random, interrupts: bool) -> list[int]:
    words = [*load_constant(1, HANDLER), i_type("csrrw", 0, 1, Csr.MTVEC)]
    if interrupts:
        words += [*load_constant(1, 0x800), i_type("csrrw", 0, 1, Csr.MIE), i_type("csrrwi", 0, 8, Csr.MSTATUS)]
    fixed = {BASE: DATA, RESUME: CODE}
    for register in range(1, 32):
        edge = random.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, random.getrandbits(5)))
        words += load_constant(register, fixed.get(register, random.choice((random.getrandbits(32), edge))))
    return [*words, j_type(0, CODE - 4 * len(words))]


def _memory_offset(random: Random, size: int) -> int:
    offset = random.randrange(-2048, 2048)
    return offset & -size if random.random() < 0.85 else offset


def _csr_word(random: Random, word: int, interrupts: bool) -> int:
    """Of the CSRs that the reference knows as we do, and of those that do not exist or are read-only."""
    word &= 0x000FFFFF
    kind = random.random()
    if interrupts and kind < 0.2:  # MIE on or off, unseen
        return INSTRUCTIONS[random.choice(("csrrsi", "csrrci"))][1] | 8 << 15 | Csr.MSTATUS << 20
    if kind < 0.8:
        return word | random.choice((Csr.MSCRATCH, Csr.MEPC, Csr.MCAUSE, Csr.MTVAL)) << 20
    if kind < 0.9:  # csrrw: a write
        read_only = random.choice((Csr.CYCLE, Csr.INSTRETH, Csr.MVENDORID, Csr.MHARTID))
        return word & 0x000F8FFF | 1 << 12 | read_only << 20
    return word | random.choice([number for number in range(0x1000) if number not in set(Csr)]) << 20


def _jump(random: Random, name: str, word: int, start: int, end: int) -> int:
    """A branch or jump from ``start`` to ``end``, both in bytes from where x9 points."""
    rd, rs1, rs2 = word >> 7 & 31, word >> 15 & 31, word >> 20 & 31
    if name == "jal":
        return j_type(rd, end - start)
    if name == "jalr":
        return i_type(name, rd, RESUME, end + random.randrange(2))
    return b_type(name, rs1, rs1 if random.random() < 0.1 else rs2, end - start)


def _group(random: Random, names: list[str], table: dict, since: int, interrupts: bool) -> list:
    """A random instruction, with what it needs before it; x9 was set ``since`` bytes before them.

    A jump is a pair of name and word: it gets its target when all groups of the block are there.
    """
    if random.random() < 0.03:
        return [next(word for word in iter(lambda: random.getrandbits(32), None) if name_of(word, True) is None)]
    name = random.choice(names)
    mask, match = table[name]
    word = match | random.getrandbits(32) & ~mask
    if name not in (*BRANCHES, *STORES, "fence", "mret", "ecall", "ebreak", "wfi"):
        word &= ~(31 << 7) if word >> 7 & 31 in (BUDGET, BASE, RESUME) else 0xFFFFFFFF
    rd, rs2, size = word >> 7 & 31, word >> 20 & 31, 1 << (word >> 12 & 3)
    wild = random.random() < (0.2 if name in STORES else 0.05)
    if name == "mret":
        return [i_type("addi", 1, RESUME, since + 12), i_type("csrrw", 0, 1, Csr.MEPC), word]
    if name in LOADS and not wild:
        return [i_type(name, rd, BASE, _memory_offset(random, size))]
    if name in STORES and not wild:
        return [s_type(name, rs2, BASE, _memory_offset(random, size))]
    if name == "jalr" and wild:  # to nowhere
        return [INSTRUCTIONS["lui"][1] | 1 << 7 | 0x7FFFF000, word & ~(31 << 15) | 1 << 15]
    if name in (*BRANCHES, "jal", "jalr"):
        guard = [i_type("addi", BUDGET, BUDGET, -1), b_type("bge", 0, BUDGET, 8)] if random.random() < 0.2 else []
        return [*guard, (name, word)]
    if name.startswith("csr"):
        return [_csr_word(random, word, interrupts)]
    return [word]


def _block(random: Random, names: list[str], table: dict, interrupts: bool) -> list[int]:
    """64 bytes that leave forward. Jumps go where a group starts; those with a guard before them go back."""
    words, starts = [INSTRUCTIONS["auipc"][1] | RESUME << 7, i_type("addi", BUDGET, 0, 3)], []
    while len(words) < BLOCK // 4:
        starts.append(4 * len(words))
        words += _group(random, names, table, 4 * len(words), interrupts)
    if len(words) > BLOCK // 4:
        return _block(random, names, table, interrupts)
    for index, entry in enumerate(words):
        if isinstance(entry, tuple):
            back = 4 * index not in starts
            targets = [start for start in [*starts, BLOCK] if (start < 4 * index) == back and start != 4 * index]
            targets = targets or [BLOCK]
            misaligned = 2 * (random.random() < 0.03)
            words[index] = _jump(random, *entry, 4 * index, random.choice(targets) + misaligned)
    return words


def random_program(seed: int, *, interrupts: bool = False, multiply: bool = False) -> list[int]:
    """Words from address 0. Ends with a store to 0x4000_0000, if it is not lost in a loop before."""
    random = Random(seed)
    table = {**INSTRUCTIONS, **MULTIPLY} if multiply else INSTRUCTIONS
    names = [name for name in table if name != "wfi" or interrupts]
    words = [0] * (0x10000 // 4)
    code = [word for _ in range(BLOCKS) for word in _block(random, names, table, interrupts)]
    code += [0x13] * 24 + [INSTRUCTIONS["lui"][1] | 1 << 7 | 0x40000000, s_type("sw", 0, 1, 0)]
    for address, part in ((0, _start(random, interrupts)), (HANDLER, _handler()), (CODE, code)):
        words[address // 4 : address // 4 + len(part)] = part
    for index in range(0x8000 // 4, 0x9000 // 4):
        words[index] = random.getrandbits(32)
    return words
