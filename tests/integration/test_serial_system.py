"""A system whose unit does one thing at a time, and whose core has its memory in the unit's store."""

import json
from importlib.resources import files

import pytest

from reluctant.boards.host import System
from reluctant.cli import main
from reluctant.firmware.build import build as build_firmware
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig
from reluctant.hdl.verilog import system_to_verilog
from reluctant.sim.build import compile_bench
from reluctant.sim.transport import SimulatedTransport

TRACE = str(files("reluctant") / "data" / "demo.npz")
UNIT = {
    "phases": "serial",
    "store": "single",
    "softmax": False,
    "normalisers": (),
    "job_queue": 1,
    "lanes": 8,
    "mass_bits": 16,
    "slots": 64,
    "shared_memory": 16384,
}
SCHEDULER = {"memory": 16384, "sequences": 1, "messages": 2}
CONFIG = SystemConfig(unit=UnitConfig(**UNIT, heads=4, kv_heads=2, head_dim=32), **SCHEDULER)
"""Of the trace's size, so that all tests run one simulator."""


@pytest.fixture(name="image", scope="module")
def _image():
    return build_firmware(CONFIG).image


@pytest.fixture(name="system")
def _system(image):
    simulator = compile_bench(system_to_verilog(CONFIG, image), top="sparse_attention_system")
    with System(SimulatedTransport(simulator, CONFIG.unit.lanes), CONFIG) as system:
        yield system


def test_everything_is_equal(tmp_path):
    """Evictions by mass, gated heads, held streams."""
    report, settings = tmp_path / "report.json", tmp_path / "serial.toml"
    lines = (f"{name} = {json.dumps(value)}" for name, value in (UNIT | SCHEDULER).items())
    settings.write_text("\n".join(lines))
    policy = ("--policy", "h2o", "--budget", "6", "--gating", "2", "--normaliser", "none")
    options = ("--tokens", "9", "--layers", "0", *policy, "--stalls", "3", "--report", str(report))
    assert main(["simulate", TRACE, "--config", str(settings), *options]) == 0
    numbers = json.loads(report.read_text())
    assert numbers["mismatches"] == 0
    assert numbers["steps"] == 9
    assert numbers["evictions"]
    assert numbers["configuration"]["scheduler"]["hash"] == f"{CONFIG.hash:08x}"


def test_core_that_was_held_at_power_up_is_not_held_again(system, image):
    """CONTROL's ``hold`` is 1 at power-up: no command of the host may write it back. They did, and nothing replied."""
    system.restart()
    assert system.info().restarts == 1
    system.flush()
    assert system.info().restarts == 1
    system.load_firmware(image)
    assert system.info().restarts == 0
