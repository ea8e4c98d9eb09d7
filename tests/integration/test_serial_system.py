"""A system whose unit does one thing at a time, and whose core has its memory in the unit's store."""

import json
from importlib.resources import files

from reluctant.cli import main

TRACE = str(files("reluctant") / "data" / "demo.npz")
SETTINGS = """
phases = "serial"
store = "single"
softmax = false
normalisers = []
job_queue = 1
lanes = 8
mass_bits = 16
shared_memory = 16384
memory = 16384
sequences = 1
messages = 2
"""


def test_everything_is_equal(tmp_path):
    """Evictions by mass, gated heads, held streams."""
    report, settings = tmp_path / "report.json", tmp_path / "serial.toml"
    settings.write_text(SETTINGS)
    options = (
        "--tokens",
        "9",
        "--layers",
        "0",
        "--policy",
        "h2o",
        "--budget",
        "6",
        "--gating",
        "2",
        "--normaliser",
        "none",
        "--stalls",
        "3",
    )
    assert main(["simulate", TRACE, "--config", str(settings), *options, "--report", str(report)]) == 0
    numbers = json.loads(report.read_text())
    assert numbers["mismatches"] == 0
    assert numbers["steps"] == 9
    assert numbers["evictions"]
