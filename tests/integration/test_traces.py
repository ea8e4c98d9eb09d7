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
    tokens = () if "--tokens" in options else ("--tokens", str(TOKENS))
    arguments = ["simulate", TRACE, *tokens, "--report", str(report), "--dump", str(dump), *options]
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
    report, dump = simulate(tmp_path, "--no-scheduler", "--layers", "0,2", *options)
    assert report["mismatches"] == 0
    assert report["steps"] == 2 * TOKENS
    assert dump["context"].shape == (2, 4, TOKENS, 32)
    assert dump["context"].any()
    assert dump["output"].any()


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
def test_icarus_sees_no_unknown_before_inputs_change(tmp_path):
    """Icarus leaves a combinational block unevaluated until an input changes: ready was X, and stayed X."""
    report, _ = simulate(tmp_path, "--no-scheduler", "--layers", "1", "--simulator", "icarus", "--stalls", "4")
    assert report["mismatches"] == 0


@pytest.mark.parametrize(
    "options",
    [
        ("refuse", "--budget", "30", "--mode", "hybrid", "--min-active", "4"),
        ("streaming", "--normaliser", "none"),
        ("h2o", "--stalls", "2", "--normaliser", "sum"),
        ("h2o", "--normalised", "--mode", "softmax"),
        ("buzz", "--stride", "2", "--gating", "4"),
        ("nacl", "--seed", "7", "--mask", "2"),
        ("dms", "--gating", "2:2000:5", "--stalls", "3"),
    ],
    ids=lambda options: "_".join(option.strip("-") for option in options[:2]),
)
def test_system_with_a_policy(tmp_path, options):
    budget = () if "--budget" in options else ("--budget", "20")
    report, dump = simulate(tmp_path, "--layers", "0,2", "--tokens", "40", "--policy", *options, *budget)
    assert (report["mismatches"], report["kept_mismatches"]) == (0, 0)
    refused = 20 if options[0] == "refuse" else 0
    assert (report["refused_steps"], report["steps"]) == (refused, 80 - refused)
    assert (report["evictions"] > 0) == (options[0] != "refuse")
    assert (report["heads_off"] > 0) == ("--gating" in options)
    kept = dump["kept"]
    assert kept.shape == (2, 2, 40 - refused // 2, 30 if refused else 20)
    assert report["firmware"]["instructions"] > 0
