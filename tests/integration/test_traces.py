"""The bundled trace through the command line, the Verilog and the integer model, in every mode and normaliser."""

import json
import shutil
from importlib.resources import files

import numpy as np
import pytest

from reluctant.cli import main

TRACE = str(files("reluctant") / "data" / "demo.npz")
TOKENS = 24


def simulate(tmp_path, *options: str) -> tuple[dict, dict]:
    """Report and dump of a run that must be equal in every bit."""
    report, dump = tmp_path / "report.json", tmp_path / "dump.npz"
    arguments = ["simulate", TRACE, "--tokens", str(TOKENS), "--report", str(report), "--dump", str(dump), *options]
    assert main(arguments) == 0
    return json.loads(report.read_text()), dict(np.load(dump))


@pytest.mark.parametrize(
    "options",
    [
        ("--mode", "relu", "--normaliser", "rms", "--stalls", "1"),
        ("--mode", "hybrid", "--min-active", "6", "--normaliser", "rms-layer", "--mask", "1", "--stalls", "2"),
        ("--mode", "softmax", "--normaliser", "sum", "--stalls", "3"),
        ("--mode", "relu", "--normaliser", "length", "--theta", "500"),
    ],
    ids=lambda options: "_".join(options[1:4:2]),
)
def test_modes_and_normalisers(tmp_path, options):
    report, dump = simulate(tmp_path, "--layers", "0,2", *options)
    assert report["mismatches"] == 0
    assert report["steps"] == 2 * TOKENS
    assert dump["context"].shape == (2, 4, TOKENS, 32)
    assert dump["context"].any()
    assert dump["output"].any()


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_icarus_sees_no_unknown_before_inputs_change(tmp_path):
    """Icarus leaves a combinational block unevaluated until an input changes: ready was X, and stayed X."""
    report, _ = simulate(tmp_path, "--layers", "1", "--simulator", "icarus", "--stalls", "4")
    assert report["mismatches"] == 0
