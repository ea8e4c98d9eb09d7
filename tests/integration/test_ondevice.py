"""``reluctant virtual-board`` and ``reluctant ondevice`` at its port, as a user runs them."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from junitparser import JUnitXml

COMMAND = [sys.executable, "-m", "reluctant"]
FAULTS = ["--drop", "0.0005", "--flip", "0.0005", "--duplicate", "0.0005", "--seed", "3"]
CHECKS = (
    "registers,memory/kv-store-random,modes/relu-rms-layer,modes/hybrid-sum-masked,policies/nacl,policies/dms,gating/mass,"
    "prefill,counters,errors,restarts,soak"
)


@contextmanager
def _board(*options):
    """The port of a virtual board, which is ended as by Ctrl-C."""
    command = [*COMMAND, "virtual-board", "--preset", "tiny", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()


def _ondevice(port, folder, *arguments):
    files = ["--report", str(folder / "d.json"), "--junit", str(folder / "d.xml")]
    command = [*COMMAND, "ondevice", "--port", port, "--minutes", "0", *files, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result, json.loads((folder / "d.json").read_text()) if (folder / "d.json").is_file() else None


@pytest.mark.parametrize("options", [[], FAULTS], ids=["", "faults"])
def test_board_passes(tmp_path, options):
    with _board(*options) as port:
        assert os.path.exists(port)
        result, report = _ondevice(port, tmp_path, "--only", CHECKS if not options else "registers,policies/h2o,soak")
        assert result.returncode == 0, result.stdout + result.stderr
    assert report["failed"] == report["skipped"] == report["mismatches"] == 0
    assert report["passed"] == len(report["checks"]) > 5
    assert report["preset"] == "tiny"
    if options:
        assert report["link"]["retries"] > 0
    (suite,) = JUnitXml.fromfile(str(tmp_path / "d.xml"))
    assert (suite.tests, suite.failures, suite.errors) == (report["passed"], 0, 0)


def test_board_of_another_configuration_is_told(tmp_path):
    with _board() as port:
        result, report = _ondevice(port, tmp_path, "--preset", "default")
    assert (result.returncode, report) == (2, None)
    assert result.stderr.startswith("error: the device 'tiny' was built otherwise: its configuration is ")
    assert result.stderr.count("\n") == 1
