"""The bound of the stack, on small programs."""

import subprocess
import sys

import pytest

from reluctant.firmware.build import OPTIONS
from reluctant.firmware.elf import ElfError, functions, section_sizes
from reluctant.firmware.stack import StackError, stack_bound

CHAIN = """
int leaf(int x);
__attribute__((noinline)) int leaf(int x) { volatile int a[10]; a[x] = x; return a[0]; }
__attribute__((noinline)) static int left(int x) { volatile int a[30]; a[x] = x; return leaf(a[0]) + 1; }
__attribute__((noinline)) static int right(int x) { volatile int a[50]; a[x] = x; return a[0]; }
int start(int x);
int start(int x) { return x > 3 ? left(x) + 1 : right(x) + 1; }
"""
RECURSION = """
int start(int x);
__attribute__((noinline)) static int even(int x);
__attribute__((noinline)) static int odd(int x) { volatile int y = x; return y ? even(y - 1) + 1 : 0; }
static int even(int x) { volatile int y = x; return y ? odd(y - 1) + 1 : 1; }
int start(int x) { return odd(x) + 1; }
"""
POINTER = "int start(int (*f)(int)); int start(int (*f)(int)) { return f(1) + 1; }"
VARIABLE = "int start(int n); int start(int n) { volatile int a[n]; a[0] = n; return a[n - 1]; }"


def link(source: str, folder) -> bytes:
    (folder / "program.c").write_text(source)
    (folder / "link.ld").write_text("SECTIONS { .text : { *(.text*) } }")
    options = [option for option in OPTIONS if option != "-flto"]
    command = [sys.executable, "-m", "ziglang", "cc", *options, "-mcpu=generic_rv32", "-T", "link.ld", "program.c"]
    subprocess.run([*command, "-o", "program.elf"], cwd=folder, check=True)
    return (folder / "program.elf").read_bytes()


def frame(elf: bytes, name: str) -> int:
    """Depth of a function that calls nothing."""
    return stack_bound(elf, name)


def test_the_deepest_path_counts(tmp_path):
    elf = link(CHAIN, tmp_path)
    right, leaf, left = frame(elf, "right"), frame(elf, "leaf"), frame(elf, "left")
    assert 200 <= right <= 220
    assert 40 <= leaf <= 56
    assert left >= leaf + 120
    assert stack_bound(elf, "start") == max(left, right) + 16
    assert stack_bound(elf, "start", "right") == stack_bound(elf, "start") + right


@pytest.mark.parametrize(
    ("source", "complaint"),
    [(RECURSION, "recursion"), (POINTER, "indirect"), (VARIABLE, "more than a constant")],
)
def test_what_has_no_bound_is_refused(source, complaint, tmp_path):
    with pytest.raises(StackError, match=complaint):
        stack_bound(link(source, tmp_path), "start")


def test_a_root_must_exist(tmp_path):
    with pytest.raises(StackError, match="no function trap"):
        stack_bound(link(CHAIN, tmp_path), "start", "trap")


def test_only_elf_files_are_read():
    for read in (functions, section_sizes):
        with pytest.raises(ElfError):
            read(b"\x7fELF\x02\x01" + bytes(100))
