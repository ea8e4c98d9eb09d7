"""``reluctant simulate`` and ``demo`` of the whole system, with a stand-in behind its transport."""

import json

import numpy as np
import pytest
import torch

from reluctant import system_runs
from reluctant.cli import main
from reluctant.firmware.build import Firmware, FirmwareError
from reluctant.golden.eviction import run_policy
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.hdl.messages import Operation, Status
from tests.unit.system_model import ModelSystem

NO_GATING = {"active": 0, "mass": 0, "probe": 16}
LAYERS, HEADS, KV_HEADS, TOKENS, HEAD_DIM = 3, 4, 2, 12, 32


def _arrays():
    random = np.random.default_rng(5)
    shapes = {"q": HEADS, "k": KV_HEADS, "v": KV_HEADS}
    return {
        name: random.integers(-128, 128, (LAYERS, heads, TOKENS, HEAD_DIM), dtype=np.int8)
        for name, heads in shapes.items()
    }


@pytest.fixture(name="trace")
def _trace(tmp_path):
    path = tmp_path / "trace.npz"
    np.savez(path, **_arrays())
    return path


class Stand:
    """Replaces :class:`reluctant.system_runs.SystemSimulator`; ``prepare`` may change each fresh stand-in."""

    def __init__(self):
        self.models, self.prepare, self.memories = [], lambda model: None, []

    def compile(self):
        pass

    def open(self, config):
        self.models.append(ModelSystem(config))
        self.prepare(self.models[-1])
        return self.models[-1]

    def build(self, config):
        """In the firmware's place; needs 32 KiB."""
        self.memories.append(config.memory)
        if config.memory < 32768:
            raise FirmwareError("the firmware does not fit")
        return Firmware(b"", 7000, 500, 300)


@pytest.fixture(name="stand")
def _stand(monkeypatch):
    stand = Stand()

    def make(verilog, *arguments):
        stand.verilog, stand.arguments = verilog, arguments
        return stand

    monkeypatch.setattr(system_runs, "SystemSimulator", make)
    monkeypatch.setattr(system_runs, "system_verilog", lambda config, image: f"// {config.hash:08x}\n")
    monkeypatch.setattr("reluctant.firmware.build.build", stand.build)
    return stand


def _simulate(trace, *options):
    return main(["simulate", str(trace), *map(str, options)])


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ([], {"policy": "refuse", "budget": 12}),
        (["--policy", "streaming", "--budget", 8], {"policy": "streaming", "budget": 8, "sinks": 4}),
        (["--policy", "h2o", "--budget", 7, "--normalised"], {"recent": 3, "normalised": True}),
        (["--policy", "buzz", "--budget", 8, "--sinks", 1, "--stride", 2], {"sinks": 1, "recent": 2, "stride": 2}),
        (["--policy", "nacl", "--budget", 6, "--share", 128, "--seed", 9], {"share": 128, "seed": 9, "stride": 4}),
        (["--policy", "dms", "--budget", 9, "--recent", 2], {"recent": 2}),
        (["--gating", "5:1000:3", "--mask", "0"], {"budget": 12}),
    ],
)
def test_policies_and_gating(trace, stand, tmp_path, capsys, options, numbers):
    path = tmp_path / "report.json"
    assert _simulate(trace, *options, "--report", path) == 0
    report = json.loads(path.read_text())
    policy = report["scenario"]["policy"]
    assert policy.items() >= numbers.items()
    assert (report["mismatches"], report["kept_mismatches"], report["steps"]) == (0, 0, LAYERS * TOKENS)
    budget = policy["budget"]
    if policy["policy"] not in ("refuse", "dms"):
        assert report["evictions"] == LAYERS * KV_HEADS * (TOKENS - budget)
    firmware = report["firmware"]
    assert firmware["text_bytes"] == 7000
    assert report["counters"]["JOBS"] == LAYERS * TOKENS
    assert report["cycles"] == sum(layer["cycles"] for layer in report["layers"])
    gating = "--gating" in options
    assert (report["heads_off"] > 0) == gating
    assert report["scenario"]["gating"] == ({"active": 5, "mass": 1000, "probe": 3} if gating else NO_GATING)
    out = capsys.readouterr().out
    assert f"policy {policy['policy']} (budget {budget}" in out
    assert f"bit-exact: {LAYERS * TOKENS * HEADS} head results equal the integer model's" in out


def test_system_is_sized_to_the_run(trace, stand):
    options = ("--policy", "streaming", "--budget", 9, "--set", "sequences=2", "--set", "messages=8")
    assert _simulate(trace, "--layers", "0,2", *options, "--stalls", 3) == 0
    config = stand.models[0].config
    assert (config.unit.profiles, config.unit.slots, config.unit.heads, config.unit.kv_heads) == (2, 32, 4, 2)
    assert (config.sequences, config.messages, config.memory) == (2, 8, 32768)
    assert stand.memories == [16384, 32768]
    assert stand.verilog == f"// {config.hash:08x}\n"
    assert stand.arguments == ("verilator", 3, None)
    assert _simulate(trace, "--set", "memory=65536", "--set", "slots=64", "--set", "profiles=5") == 0
    config = stand.models[1].config
    assert (config.unit.slots, config.unit.profiles, config.memory) == (64, 5, 65536)


def test_dump_has_the_positions_that_were_kept(trace, stand, tmp_path):
    path = tmp_path / "dump.npz"
    options = ("--policy", "h2o", "--budget", 5, "--normaliser", "none")
    assert _simulate(trace, *options, "--layers", "1,2", "--dump", path) == 0
    dump, arrays = np.load(path), _arrays()
    assert dump["kept"].shape == (2, KV_HEADS, TOKENS, 5)
    settings = LayerSettings.create(HEADS, HEAD_DIM, kv_heads=KV_HEADS)
    for index, layer in enumerate((1, 2)):
        rows = (torch.from_numpy(arrays[name][layer]) for name in "qkv")
        run = run_policy(settings, PolicySettings.create(Policy.H2O, 5), *rows, layer=index)
        assert (dump["kept"][index] == run.kept.permute(1, 0, 2).numpy()).all()
    assert (dump["kept"][0, 0, 2] == [0, 1, 2, -1, -1]).all()
    assert dump["context"].shape == (2, HEADS, TOKENS, HEAD_DIM)


def test_refused_steps_are_counted(trace, stand, tmp_path, capsys):
    path, dump = tmp_path / "report.json", tmp_path / "dump.npz"
    assert _simulate(trace, "--budget", 7, "--report", path, "--dump", dump) == 0
    report = json.loads(path.read_text())
    assert (report["refused_steps"], report["steps"], report["evictions"]) == (LAYERS * 5, LAYERS * 7, 0)
    assert np.load(dump)["kept"].shape == (LAYERS, KV_HEADS, 7, 7)
    assert "15 steps refused" in capsys.readouterr().out


def test_differences_are_counted_and_shown(trace, stand, tmp_path, capsys):
    def damage(packet, number):
        if number == 5:
            packet[4] ^= 1

    def prepare(model):
        model.damage = damage
        count = model._count
        model._count = lambda run, layer: count(run, layer) or model.counters.update(JOBS=0)
        tell = model._slots
        model._slots = lambda *words: [word + (words[-2] == 0 and words[1] == 2) for word in tell(*words)]

    stand.prepare, path = prepare, tmp_path / "report.json"
    assert _simulate(trace, "--report", path) == 1
    report = json.loads(path.read_text())
    assert report["mismatches"] == 3
    assert (report["kept_mismatches"], report["layers"][2]["kept_mismatches"]) == (1, 1)
    out = capsys.readouterr().out
    assert "layer 2: active of head 0 at token 1 is" in out
    assert "layer 2: kept at the end at token 0 is" in out
    assert "all layers: counter JOBS is 0: the model has 36" in out


def test_step_that_a_model_takes_and_the_system_refuses(trace, stand, tmp_path):
    def prepare(model):
        do = model._do

        def refuse_last_of_layer_1(command):
            if command[0] & 0xFFFFFF == Operation.STEP | 1 << 16 and len(model.sequences[0].rows[1]) == TOKENS - 1:
                model.faults[len(model.commands)] = Status.FULL
            do(command)

        model._do = refuse_last_of_layer_1

    stand.prepare = prepare
    path = tmp_path / "report.json"
    assert _simulate(trace, "--report", path) == 1
    layer = json.loads(path.read_text())["layers"][1]
    assert "11 steps were taken: the model takes 12" in layer["mismatch_examples"]


def test_firmware_that_fails_is_told(trace, stand, capsys):
    stand.prepare = lambda model: model.faults.update(dict.fromkeys(range(200), Status.FAULT))
    assert _simulate(trace) == 1
    assert "error: SET_HEAD of layer 0: the firmware failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--policy", "streaming", "--budget", "4"],
            "--policy streaming --budget 4: sinks is 4: 0 to 3 is allowed",
        ),
        (["--policy", "streaming", "--recent", "3"], "--policy streaming: recent is 3: streaming has none"),
        (["--policy", "h2o", "--budget", "0"], "--policy h2o --budget 0: budget is 0: 1 to 65536 is allowed"),
        (["--policy", "nacl", "--stride", "3"], "--policy nacl: stride is 3: a power of two from 1 to 128"),
        (["--policy", "lru"], "'lru' is not one of"),
        (["--gating", "x"], "--gating x: ACTIVE[:MASS[:PROBE]] is needed, such as 4 or 4:1000:16"),
        (["--gating", "1:2:0"], "--gating 1:2:0: gate probe is 0: 1 to 255 is allowed"),
        (["--set", "slots=35"], "slots is 35: the number of layers times the budget is 36: at least that is needed"),
        (["--set", "profiles=2"], "profiles is 2: the number of layers is 3: at least that is needed"),
        (["--set", "statistics=false"], "statistics is False: the scheduler needs a unit with slot statistics"),
        (["--set", "memory=20000"], "memory is 20000: a power of two from 8192 to 65536 is allowed"),
        (["--set", "memory=16384"], "memory is 16384: the firmware does not fit"),
    ],
)
def test_wrong_use_is_one_line(trace, stand, capsys, options, message):
    assert _simulate(trace, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert stand.models == []


def test_demo_writes_everything(trace, stand, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("reluctant.cli.DEMO_TRACE", trace)
    monkeypatch.setattr(
        "reluctant.hdl.verilog.system_to_verilog", lambda config, image, name: f"// {config.hash:08x}\n"
    )
    out = tmp_path / "demo"
    for _ in range(2):
        assert main(["demo", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["answers.npz", "report.json", "rows.png", "system"]
    description = json.loads((out / "system" / "config.json").read_text())
    report = json.loads((out / "report.json").read_text())
    assert description["hash"] == report["configuration"]["scheduler"]["hash"]
    assert stand.verilog == f"// {description['hash']}\n"
    assert stand.verilog == (out / "system" / "sparse_attention_system.v").read_text()
    assert str(out / "rows.png") in capsys.readouterr().out


def test_outputs_are_reproducible(trace, stand, tmp_path):
    files = {"--report": "r.json", "--dump": "d.npz", "--plot": "p.png"}
    for run in ("a", "b"):
        options = [item for option, name in files.items() for item in (option, tmp_path / run / name)]
        assert _simulate(trace, "--tokens", 4, *options) == 0
    for name in files.values():
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
