"""``reluctant ondevice`` with a stand-in for the device: what it writes, and how it ends when something is wrong."""

import fcntl
import json
import os
import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest
from junitparser import JUnitXml

from reluctant import device as device_module
from reluctant.boards.host import System
from reluctant.boards.presets import PRESETS
from reluctant.boards.transport import TransportError
from reluctant.cli import main
from reluctant.device import DeviceRequest, connect
from reluctant.device_checks import all_checks
from reluctant.golden.errors import UserError
from reluctant.hdl.link_protocol import PROTOCOL, Identity
from tests.unit.system_model import ModelSystem

CONFIG = PRESETS["tiny"]


class ModelDevice(ModelSystem):
    """A stand-in whose line is lost, or whose user has enough, before step number ``end``."""

    def __init__(self, name="tiny", config_hash=None, end=None, error=None):
        super().__init__(CONFIG)
        self.session = SimpleNamespace(retries=3, port=SimpleNamespace(sent=100, received=200))
        self.identity = Identity(PROTOCOL, CONFIG.unit.lanes, 512, config_hash or CONFIG.hash, 12_000_000, name)
        self.end, self.error, self.sent = end, error or TransportError("the port has gone"), 0

    def send(self, packet):
        self.sent += 1
        if self.end is not None and self.sent > self.end:
            raise self.error
        super().send(packet)

    def _write(self, name, index, word, address):
        if name != "ERROR":  # nothing sets a bit of it
            super()._write(name, index, word, address)


@pytest.fixture(name="opened")
def _opened(monkeypatch):
    """Sets the device that is at every port."""

    def put(model):
        monkeypatch.setattr("reluctant.device_port.open_device", lambda port, bauds: model)
        return model

    return put


def _run(tmp_path, *arguments):
    files = ["--report", str(tmp_path / "d.json"), "--junit", str(tmp_path / "d.xml")]
    return main(["ondevice", "--port", "/dev/ttyX", "--minutes", "0", *files, *arguments])


def _files(tmp_path):
    (suite,) = JUnitXml.fromfile(str(tmp_path / "d.xml"))
    return json.loads((tmp_path / "d.json").read_text()), suite


def test_reports_what_passed(opened, tmp_path, capsys):
    model = opened(ModelDevice())
    assert _run(tmp_path, "--only", "modes/relu,policies/h2o,registers/identity", "--seed", "4") == 0
    report, suite = _files(tmp_path)
    names = [
        check.name for check in all_checks() if check.name.startswith(("modes/relu", "policies/h2o", "registers/id"))
    ]
    assert [check["name"] for check in report["checks"]] == names
    assert (report["passed"], report["failed"], report["mismatches"]) == (len(names), 0, 0)
    assert report["evictions"] == report["layers"][-2]["evictions"] + report["layers"][-1]["evictions"] > 0
    assert report["steps"] == report["counters"]["JOBS"] == sum(layer["steps"] for layer in report["layers"])
    assert report["link"] == {"retries": 3, "bytes_sent": 100, "bytes_received": 200}
    assert (report["preset"], report["seed"], report["port"]) == ("tiny", 4, "/dev/ttyX")
    assert (suite.tests, suite.failures, suite.skipped) == (len(names), 0, 0)
    assert f"bit-exact: {len(names)} checks passed" in capsys.readouterr().out
    assert model.closed


def test_report_has_all_that_simulate_reports(opened, tmp_path, trace_report):
    opened(ModelDevice())
    assert _run(tmp_path, "--only", "modes/relu-none") == 0
    report, _ = _files(tmp_path)
    missing = trace_report.keys() - report.keys()
    assert not missing
    assert not trace_report["layers"][0].keys() - report["layers"][0].keys()
    assert report["scenario"]["checks"] == ["modes/relu-none", "modes/relu-none-masked"]


@pytest.fixture(name="trace_report")
def _trace_report(tmp_path, monkeypatch):
    """What ``simulate`` writes, of a stand-in too."""
    import numpy as np

    from reluctant.firmware.build import Firmware

    random, path = np.random.default_rng(1), tmp_path / "trace.npz"
    rows = {
        name: random.integers(-128, 128, (1, heads, 3, 16), np.int8) for name, heads in (("q", 2), ("k", 1), ("v", 1))
    }
    np.savez(path, **rows)
    monkeypatch.setattr("reluctant.system_runs.SystemSimulator.compile", lambda self: None)
    monkeypatch.setattr("reluctant.system_runs.SystemSimulator.open", lambda self, config: ModelSystem(config))
    monkeypatch.setattr("reluctant.system_runs.system_verilog", lambda config, image: "")
    monkeypatch.setattr("reluctant.firmware.build.build", lambda config: Firmware(b"", 7000, 500, 300))
    report = tmp_path / "simulated.json"
    assert main(["simulate", str(path), "--preset", "tiny", "--report", str(report)]) == 0
    return json.loads(report.read_text())


def test_wrong_bit_fails_its_check_and_the_others_run(opened, tmp_path, capsys):
    def damage(packet, number):
        if number == 2:
            packet[-1] ^= 1

    opened(ModelDevice()).damage = damage
    assert _run(tmp_path, "--only", "modes/relu-none,policies/streaming") == 1
    report, suite = _files(tmp_path)
    assert [check["result"] for check in report["checks"]] == ["failed", "passed", "passed"]
    assert report["mismatches"] == report["layers"][0]["mismatches"] == 1
    assert "context of head 1 at token 2" in report["checks"][0]["message"]
    assert suite.failures == 1
    assert "1 of 3 checks failed" in capsys.readouterr().out


def test_soak_names_the_seed_that_repeats_it(opened, tmp_path):
    opened(ModelDevice()).damage = lambda packet, number: packet.__setitem__(4, packet[4] ^ 1)
    assert _run(tmp_path, "--only", "soak", "--seed", "7") == 1
    assert "--only soak --seed 7 --minutes 0 repeats it" in _files(tmp_path)[0]["checks"][0]["message"]


def test_unplugged_device_leaves_complete_files(opened, tmp_path, capsys):
    opened(ModelDevice(end=12))
    assert _run(tmp_path, "--only", "modes/relu-none,policies/streaming") == 2
    assert capsys.readouterr().err == "error: the device was lost in modes/relu-none-masked: the port has gone\n"
    report, suite = _files(tmp_path)
    assert [check["result"] for check in report["checks"]] == ["passed", "failed", "skipped"]
    assert (suite.failures, suite.skipped) == (1, 1)


def test_interrupt_leaves_complete_files(opened, tmp_path):
    opened(ModelDevice(end=12, error=KeyboardInterrupt()))
    assert _run(tmp_path, "--only", "modes/relu-none,policies/streaming") == 130
    report, suite = _files(tmp_path)
    assert [check["message"] for check in report["checks"]] == ["", "interrupted", "interrupted"]
    assert (suite.failures, suite.skipped) == (0, 2)


def test_missing_features_are_skipped_with_their_reason(tmp_path):
    config = CONFIG.with_settings(softmax=False, normalisers=("sum",), sequences=1)
    reasons = {check.name: check.lacks(config) for check in all_checks()}
    assert reasons["modes/softmax-none"] == reasons["modes/hybrid-sum"] == "built without softmax"
    assert reasons["modes/relu-rms"] == "built without the normaliser rms"
    assert reasons["modes/relu-sum"] is reasons["policies/nacl"] is None
    assert reasons["sequences/share-the-unit"] == "built for one sequence"


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ({"name": "mine"}, [], "the device calls itself 'mine', which is no preset: say what it was built with"),
        ({"config_hash": 1}, [], f"configuration is 00000001, preset tiny is {CONFIG.hash:08x}: give the --preset"),
        ({}, ["--set", "lanes=8"], "the device 'tiny' was built otherwise"),
        ({}, ["--only", "modes,nonsense"], "no check begins with 'nonsense': registers, memory, modes"),
        ({}, ["--build", "nowhere"], "--build nowhere: has no config.json that can be read"),
        ({}, ["--build", "x", "--preset", "tiny"], "it says all: leave out --preset"),
    ],
)
def test_wrong_use_is_one_line(opened, tmp_path, capsys, model, arguments, message):
    opened(ModelDevice(**model))
    assert _run(tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_configuration_of_a_build(opened, tmp_path):
    """What ``build`` and what ``generate`` write."""
    config = CONFIG.with_settings(lanes=8, sequences=2)
    model = opened(ModelDevice("mine", config.hash))
    model.config, model.beat_bytes = config, 8
    unit, scheduler = config.unit.as_dict(), config.as_dict()
    del scheduler["unit"]
    descriptions = [{"configuration": config.as_dict()}, {"configuration": unit, "scheduler": scheduler}]
    (tmp_path / "firmware.bin").write_bytes(b"image")
    for description in descriptions:
        (tmp_path / "config.json").write_text(json.dumps(description))
        system, firmware = device_module._wanted(DeviceRequest(port="x", build=tmp_path))(model.identity)
        assert system == config
        assert firmware() == b"image"


def test_core_that_does_not_answer_gets_its_firmware(opened, tmp_path, monkeypatch):
    """A memory that starts with anything in it."""
    model = opened(ModelDevice())
    model.faults = {0: None}  # INFO of the restart is never answered
    monkeypatch.setattr("reluctant.boards.commands.PATIENCE", 10_000)
    loaded = []
    monkeypatch.setattr(System, "load_firmware", lambda system, image: loaded.append(image))
    (tmp_path / "config.json").write_text(json.dumps({"configuration": CONFIG.as_dict()}))
    (tmp_path / "firmware.bin").write_bytes(b"image")
    connect(DeviceRequest(port="x", build=tmp_path))
    assert loaded == [b"image"]


@pytest.mark.parametrize(
    ("port", "message"),
    [("/dev/nothing", "there is no such port"), ("/dev/null", "is no serial port")],
)
def test_port_that_is_none(port, message):
    with pytest.raises(UserError, match=message):
        connect(DeviceRequest(port=port, preset="tiny"))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "no answer to .* tries"),
        (b"login: ", "bytes came that are no answer: another device, or another bit rate"),
    ],
    ids=["silence", "another device"],
)
def test_port_where_no_device_answers(monkeypatch, answer, message):
    monkeypatch.setattr("reluctant.device_port.PATIENCE", 0.2)
    board, port = os.openpty()
    name = os.ttyname(port)

    def talk():
        with suppress(OSError):
            while os.read(board, 1024):
                if answer:
                    os.write(board, answer)

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        with pytest.raises(UserError, match=message):
            connect(DeviceRequest(port=name, baud=115200))
    finally:
        os.close(port)
        thread.join(10)
        os.close(board)


def test_port_that_another_program_has():
    board, port = os.openpty()
    try:
        fcntl.flock(port, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another program has it open"):
            connect(DeviceRequest(port=os.ttyname(port), baud=115200))
    finally:
        os.close(port)
        os.close(board)


def test_list_needs_no_port(capsys):
    assert main(["ondevice", "--list"]) == 0
    assert capsys.readouterr().out.split() == [check.name for check in all_checks()]
    assert main(["ondevice"]) == 2
    assert "--port PORT is needed" in capsys.readouterr().err
