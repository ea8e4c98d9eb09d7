"""How deep a program's stack can get, from its RV32 machine code.

Frames are read off the ``addi sp, sp, -n`` of each function, calls off its jumps. Both are exact for what a compiler
makes of C without recursion, function pointers, variable-length arrays and jump tables; anything else is refused, not
guessed.
"""

import struct
from dataclasses import dataclass

from .elf import Function, functions

__all__ = ["StackError", "stack_bound"]

RA, SP, ALTERNATE_LINK = 1, 2, 5
AUIPC, JAL, JALR, STORE, BRANCH, FENCE = 0x17, 0x6F, 0x67, 0x23, 0x63, 0x0F
WRITES_NO_REGISTER = (STORE, BRANCH, FENCE)
ADDI_SP_SP, ADDI_BITS = 0x00010113, 0x000FFFFF
"""``addi sp, sp, n``, and the bits that are not n."""
RETURN = 0x00008067
SET_STACK = 0x00028113
"""``mv sp, t0``: the reset code's, in the first root only."""


class StackError(ValueError):
    """The stack's depth cannot be told; the message says where and why."""


@dataclass(frozen=True)
class _Node:
    """A function in the graph of calls: bytes of its frame, and where it calls or jumps to outside of itself."""

    name: str
    frame: int
    targets: frozenset[int]


def stack_bound(elf: bytes, *roots: str) -> int:
    """Bytes of stack that a program needs in which the last of ``roots`` can interrupt the one before it, and so on.

    Raises
    ------
    StackError
        If the program has recursion or an indirect call, moves the stack pointer by more than a constant, jumps to
        where no function begins, or lacks a root.
    """
    found = functions(elf)
    starts = {function.name: function.start for function in found}
    nodes = {function.start: _node(function, roots[0]) for function in found}
    missing = [root for root in roots if root not in starts]
    if missing:
        raise StackError(f"the program has no function {missing[0]}")
    depths: dict[int, int] = {}
    return sum(_depth(nodes, starts[root], (), depths) for root in roots)


def _depth(nodes: dict[int, _Node], start: int, path: tuple[str, ...], depths: dict[int, int]) -> int:
    """Deepest stack below the function at ``start``, reached by ``path``."""
    if start not in nodes:
        raise StackError(f"{path[-1]} jumps to {start:#x}: no function begins there")
    node = nodes[start]
    if node.name in path:
        raise StackError(f"{path[-1]} calls {node.name}, which is under way: recursion has no bound")
    if start not in depths:
        below = [_depth(nodes, target, (*path, node.name), depths) for target in node.targets]
        depths[start] = node.frame + max(below, default=0)
    return depths[start]


def _node(function: Function, first_root: str) -> _Node:
    """Decode a function."""
    frame, targets = 0, set()
    words = [word for (word,) in struct.iter_unpack("<I", function.code)]
    end = function.start + len(function.code)
    for index, word in enumerate(words):
        pc, opcode, rd = function.start + 4 * index, word & 0x7F, word >> 7 & 31
        where = f"{function.name} at {pc:#x}"
        if word & 3 != 3:
            raise StackError(f"{where}: {word:#010x} is no 32-bit instruction")
        if word & ADDI_BITS == ADDI_SP_SP:
            frame += max(0, -_signed(word >> 20, 12))
        elif rd == SP and opcode not in WRITES_NO_REGISTER and (word, function.name) != (SET_STACK, first_root):
            raise StackError(f"{where}: the stack pointer moves by more than a constant")
        target = _target(words, index, pc, where)
        calls = opcode in (JAL, JALR) and rd in (RA, ALTERNATE_LINK)
        if target is not None and (calls or not function.start <= target < end):
            targets.add(target)
    return _Node(function.name, frame, frozenset(targets))


def _target(words: list[int], index: int, pc: int, where: str) -> int | None:
    """Where an instruction jumps to, None for a return and for what is no jump."""
    word = words[index]
    opcode = word & 0x7F
    if opcode == JAL:
        return pc + _signed(_gather(word, (31, 1, 20), (12, 8, 12), (20, 1, 11), (21, 10, 1)), 21)
    if opcode == BRANCH:
        return pc + _signed(_gather(word, (31, 1, 12), (7, 1, 11), (25, 6, 5), (8, 4, 1)), 13)
    if opcode != JALR or word == RETURN:
        return None
    before = words[index - 1] if index else 0
    if before & 0x7F != AUIPC or before >> 7 & 31 != word >> 15 & 31:
        raise StackError(f"{where}: an indirect jump")
    return pc - 4 + _signed(before >> 12, 20) * 4096 + _signed(word >> 20, 12)


def _gather(word: int, *pieces: tuple[int, int, int]) -> int:
    """A number from pieces of an instruction: (lowest bit there, number of bits, lowest bit in the number)."""
    return sum((word >> low & (1 << width) - 1) << place for low, width, place in pieces)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value
