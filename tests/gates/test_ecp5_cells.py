"""Memories and multipliers of ECP5 cells do what those do that synthesis infers."""

import shutil
import subprocess
from pathlib import Path

import pytest
from amaranth.back import verilog

from reluctant.hdl.memory import Ram
from reluctant.hdl.memory_ecp5 import block_shape
from reluctant.hdl.multiplier import Multiplier
from reluctant.hdl.technology import Technology

MODELS = sorted((Path(__file__).parent / "models").glob("*.v"))
CYCLES = 4000
BENCH = """
module bench;
    reg clk = 0, rst = 0;
    integer cycle, known = 0;
    {signals}
    generic inferred({pins}, .{output}(expected));
    cells instantiated({pins}, .{output}(found));
    initial begin
        for (cycle = 0; cycle < {cycles}; cycle = cycle + 1) begin
            {stimulus}
            #1 clk = 1;
            #1 clk = 0;
            if (^expected !== 1'bx && cycle > {warm}) begin
                known = known + 1;
                if (found !== expected) begin
                    $display("cycle %0d: %h is expected, not %h", cycle, expected, found);
                    $finish;
                end
            end
        end
        if (known > {cycles} / 2) $display("agree");
    end
endmodule
"""


def agree(
    folder: Path,
    texts: list[str],
    models: list[Path],
    inputs: dict[str, int],
    output: tuple[str, int],
    stimulus: str,
    warm: int,
) -> None:
    """Run module ``cells`` of the Verilog texts beside ``generic`` on the same random inputs."""
    names = ("clk", "rst", *inputs)
    signals = "".join(f"reg [{width - 1}:0] {name} = 0; " for name, width in inputs.items())
    bench = BENCH.format(
        signals=signals + f"wire [{output[1] - 1}:0] expected, found;",
        pins=", ".join(f".{name}({name})" for name in names),
        output=output[0],
        stimulus=stimulus,
        cycles=CYCLES,
        warm=warm,
    )
    (folder / "bench.v").write_text("\n".join([*texts, bench]))
    compile_it = ["iverilog", "-g2005-sv", "-s", "bench", "-o", "bench.vvp", "bench.v", *map(str, models)]
    for command in (compile_it, ["vvp", "-n", "bench.vvp"]):
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["agree"], result.stdout


def _agree(component, folder: Path, inputs: dict[str, int], output: tuple[str, int], stimulus: str, warm: int) -> None:
    """The component made of cells does what the one does that is inferred."""
    generic = verilog.convert(component(), name="generic", emit_src=False)
    cells = verilog.convert(component(), name="cells", platform=Technology("ecp5"), emit_src=False)
    assert {"DP16KD", "MULT18X18D"} & set(cells.split())
    agree(folder, [generic, cells], MODELS, inputs, output, stimulus, warm)


needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")


@needs_icarus
@pytest.mark.parametrize(
    ("width", "depth"), [(1, 16384), (2, 8192), (20, 4096), (40, 2048), (36, 1024), (10, 600), (9, 40000)]
)
def test_block_ram_does_what_a_memory_does(width, depth, tmp_path):
    """Every width of a block, several columns, several banks; reads of a row that is being written do not count."""
    bits = (depth - 1).bit_length()
    stimulus = f"""
            write_en = $random;
            write_addr = cycle % 3 ? $random & 31 | {depth // 2 & ~31} : $urandom % {depth};
            write_data = {{$random, $random}};
            read_en = $random | $random;
            read_addr = cycle % 3 ? $random & 31 | {depth // 2 & ~31} : $urandom % {depth};
            if (read_addr == write_addr) write_en = 0;"""
    inputs = {"write_en": 1, "write_addr": bits, "write_data": width, "read_en": 1, "read_addr": bits}
    _agree(lambda: Ram(width=width, depth=depth, latency=2), tmp_path, inputs, ("read_data", width), stimulus, 2)


@needs_icarus
@pytest.mark.parametrize(("a_width", "b_width"), [(8, 9), (18, 18), (17, 3)])
def test_multiplier_cell_multiplies(a_width, b_width, tmp_path):
    """Signed operands of any width up to 18 bits, corners among them."""
    corner = "cycle % 4 == 0 ? 1 << {0} - 1 : cycle % 4 == 1 ? ~(1 << {0} - 1) : $random"
    stimulus = f"a = {corner.format(a_width)}; b = cycle % 3 ? $random : {corner.format(b_width)};"
    inputs = {"a": a_width, "b": b_width}
    _agree(lambda: Multiplier(a_width, b_width), tmp_path, inputs, ("p", a_width + b_width), stimulus, 2)


@pytest.mark.parametrize(
    ("width", "depth", "shape"),
    [(512, 4096, (4, 128, 1)), (18, 1024, (18, 1, 1)), (1024, 2048, (9, 114, 1)), (64, 40000, (2, 32, 5))],
)
def test_blocks_are_few_and_banks_rare(width, depth, shape):
    assert block_shape(width, depth) == shape
