"""Bounded model checks and proofs of components, through SymbiYosys."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, Const, Module, Mux, Signal, Value
from amaranth.lib import data

ENGINE = "smtbmc --unroll boolector"


class Tap(NamedTuple):
    """Beats that are not a stream, for functions that take one: ``payload`` passes whenever ``valid`` is high."""

    valid: Value
    payload: Value
    ready: Value = Const(1)


def flat(payload) -> Value:
    """Payload of a stream as plain bits."""
    return payload.as_value() if isinstance(payload, data.View) else Value.cast(payload)


def _tools(tmp_path: Path) -> Path:
    """A folder with the tools of the YoWASP wheels under the names that SymbiYosys and its helpers call."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("yosys", "yosys-smtbmc", "yosys-witness", "boolector"):
        tool = shutil.which(f"yowasp-{name}")
        assert tool, f"yowasp-{name} is not installed"
        (folder / name).symlink_to(tool)
    # The first call of a YoWASP tool compiles it, and says so where an answer of the solver is expected.
    subprocess.run([folder / "boolector", "--version"], capture_output=True, check=True)
    return folder


def check(tmp_path: Path, harness, inputs, *, depth: int, mode: str = "bmc"):
    """Assert that no sequence of ``inputs`` violates an assertion of ``harness`` within ``depth`` cycles of reset.

    ``mode="prove"`` shows it for every length, by induction over ``depth`` cycles. Reset is an input too: it may come
    again at any time. Whatever is not among ``inputs`` and not driven keeps its initial value.
    """
    text = rtlil.convert(harness, name="harness", ports=[flat(value) for value in inputs])
    (tmp_path / "harness.il").write_text(text)
    (tmp_path / "check.sby").write_text(
        f"[options]\nmode {mode}\ndepth {depth}\nappend 0\n\n[engines]\n{ENGINE}\n\n"
        # Memories as registers: the solver is much faster with the few rows that there are.
        "[script]\nread_rtlil harness.il\nprep -top harness\nmemory_map -formal\nopt -full\n\n[files]\nharness.il\n"
    )
    result = subprocess.run(
        ["yowasp-sby", "-f", "check.sby"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{_tools(tmp_path)}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    assert "DONE (PASS" in result.stdout, result.stdout[-3000:]


def transfer(stream) -> Value:
    """A payload passes in this cycle."""
    return stream.valid & stream.ready


def delayed(m: Module, value, name: str, cycles: int = 1) -> Signal:
    """``value`` some cycles ago; 0 before."""
    value = flat(value)
    for index in range(cycles):
        was = Signal(len(value), name=f"{name}_was{index}")
        m.d.sync += was.eq(value)
        value = was
    return value


def constant(m: Module, width: int, name: str) -> Signal:
    """A free number that stays what it is in the first cycle; to be made an input."""
    value, first, started = (
        Signal(width, name=name),
        Signal(width, name=f"{name}_first"),
        Signal(name=f"{name}_started"),
    )
    m.d.sync += [started.eq(1), first.eq(Mux(started, first, value))]
    with m.If(started):
        m.d.comb += Assume(value == first)
    return value


def streak(m: Module, condition, name: str, limit: int = 63) -> Signal:
    """Cycles before this one in which ``condition`` held without a break, at most ``limit``."""
    count = Signal(range(limit + 1), name=f"{name}_streak")
    m.d.sync += count.eq(Mux(condition, Mux(count == limit, limit, count + 1), 0))
    return count


def hold(m: Module, stream, name: str, *, assume: bool):
    """Once valid, valid and payload hold until the transfer: assumed of inputs, asserted of outputs."""
    was = Signal(name=f"{name}_was_waiting")
    before = Signal(len(flat(stream.payload)), name=f"{name}_before")
    m.d.sync += [was.eq(stream.valid & ~stream.ready), before.eq(flat(stream.payload))]
    rule = Assume if assume else Assert
    with m.If(was):
        m.d.comb += [rule(stream.valid), rule(flat(stream.payload) == before)]


def same_order(m: Module, source, sink, *, width: int = 4, name: str = "order"):
    """What leaves ``sink`` is what entered ``source``, all of it and in that order.

    A free but constant number picks one transfer; it must leave as the transfer of the same number, unchanged, and
    no transfer may leave before it entered. Returns the pick, to be made an input.
    """
    pick = constant(m, width, f"{name}_pick")
    entered, left = Signal(width + 1, name=f"{name}_entered"), Signal(width + 1, name=f"{name}_left")
    kept = Signal(len(flat(source.payload)), name=f"{name}_kept")
    with m.If(source.valid & source.ready):
        m.d.sync += entered.eq(entered + 1)
        with m.If(entered == pick):
            m.d.sync += kept.eq(flat(source.payload))
    with m.If(sink.valid & sink.ready):
        m.d.sync += left.eq(left + 1)
        m.d.comb += Assert(left < entered)
        with m.If(left == pick):
            m.d.comb += Assert(flat(sink.payload) == kept)
    return pick
