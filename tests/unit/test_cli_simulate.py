"""``reluctant simulate --no-scheduler``, with the integer model in the unit's place."""

import json

import numpy as np
import pytest

from reluctant import runs
from reluctant.boards.presets import PRESETS
from reluctant.cli import main
from reluctant.energy import SRAM_PJ, Work, energy_pj, sram_pj_per_byte
from reluctant.golden.head_mask import HeadMask, save_mask
from tests.unit.cli_model import PIPELINE_WAIT, ModelUnit

LAYERS, HEADS, KV_HEADS, TOKENS, HEAD_DIM = 3, 4, 2, 12, 32


@pytest.fixture(name="trace")
def _trace(tmp_path):
    random = np.random.default_rng(5)

    def rows(heads):
        return random.integers(-128, 128, (LAYERS, heads, TOKENS, HEAD_DIM), dtype=np.int8)

    path = tmp_path / "trace.npz"
    np.savez(path, q=rows(HEADS), k=rows(KV_HEADS), v=rows(KV_HEADS))
    return path


@pytest.fixture(name="unit")
def _unit(monkeypatch):
    """The stand-in of the unit; keeps what it was asked for."""
    unit = ModelUnit()

    def make(verilog, *arguments):
        unit.verilog, unit.arguments = verilog, arguments
        return unit

    monkeypatch.setattr(runs, "Simulator", make)
    monkeypatch.setattr("reluctant.hdl.verilog.to_verilog", lambda config, name="": f"// {config.hash:08x}\n")
    return unit


def _simulate(trace, *options):
    return main(["simulate", str(trace), "--no-scheduler", *map(str, options)])


def test_report_counts_what_the_trace_asks_for(trace, unit, tmp_path, capsys):
    path = tmp_path / "new" / "report.json"
    assert _simulate(trace, "--layers", "0,2", "--tokens", 9, "--mask", "1", "--report", path) == 0
    report = json.loads(path.read_text())
    arrays, scores = np.load(trace), []
    for layer in (0, 2):
        k = np.repeat(arrays["k"][layer].astype(np.int64), HEADS // KV_HEADS, axis=0)[:, :9]
        scores.append(np.tril(arrays["q"][layer].astype(np.int64)[:, :9] @ k.transpose(0, 2, 1)))
    positive = np.maximum(np.stack(scores), 0)
    positive[:, 1] = 0
    shift = np.array([max(0, int(peak).bit_length() - 8) for peak in positive.max(-1).flat]).reshape(2, HEADS, 9, 1)
    values = int((((positive + ((1 << shift) >> 1)) >> shift) > 0).sum())
    keys, beats = 2 * (HEADS - 1) * 45, HEAD_DIM // 16
    assert report["rows_read"] == {"key": keys, "value": values}
    assert report["rows_dense"] == 2 * 2 * HEADS * 45
    assert report["bytes_read"] == (keys + values) * HEAD_DIM
    assert report["roofline_cycles"] == (keys + values) * beats
    assert report["cycles"] == (keys + values) * beats + 2 * 9 * PIPELINE_WAIT + 2 * 10
    assert report["mac_utilisation"] == pytest.approx(report["roofline_cycles"] / report["cycles"], abs=1e-6)
    assert (report["mismatches"], report["steps"], report["masked_heads"]) == (0, 18, 18)
    active = (positive > 0).any(-1)
    assert report["null_heads"] == int((~np.delete(active, 1, axis=1)).sum())
    assert report["latency_cycles"] == {"mean": 104.0, "max": 108, "last": 108}
    assert [layer["layer"] for layer in report["layers"]] == [0, 2]
    heads = [head["rows_read"] for layer in report["layers"] for head in layer["heads"]]
    assert sum(head["value"] for head in heads) == values
    assert heads[1] == {"key": 0, "value": 0}
    assert report["energy_pj"]["total"] < report["energy_dense_pj"]["total"]
    out = capsys.readouterr()
    assert "bit-exact: 72 head results equal the integer model's" in out.out


def test_unit_is_sized_to_the_trace(trace, unit):
    assert _simulate(trace, "--preset", "icebreaker", "--layers", "0", "--normaliser", "none") == 0
    config = unit.configs[0]
    assert (config.heads, config.kv_heads, config.head_dim, config.slots) == (HEADS, KV_HEADS, HEAD_DIM, 16)
    icebreaker = PRESETS["icebreaker"].unit
    assert (config.lanes, config.store) == (icebreaker.lanes, icebreaker.store)
    assert unit.verilog == f"// {config.hash:08x}\n"
    assert unit.compiled == 1
    assert _simulate(trace, "--set", "slots=100", "--set", "head_dim=64", "--layers", "0") == 0
    assert (unit.configs[1].slots, unit.configs[1].head_dim) == (100, 64)


def test_options_reach_the_unit(trace, unit):
    options = ("--mode", "hybrid", "--min-active", 3, "--min-mass", 900, "--theta", -70, "--normaliser", "length")
    assert _simulate(trace, *options, "--layers", "1", "--tokens", 3, "--simulator", "icarus", "--stalls", 11) == 0
    head, job = unit.programs[0].settings[0, 2], unit.programs[0].steps[2].job
    assert (head.mode, head.min_active, head.min_mass, head.theta) == (2, 3, 900, -70)
    assert head.kappa == (round(2**17 * 1.4426950408889634 / 256), 1)
    assert (job.n, job.slot, job.position, job.head_dim, job.emit_context) == (3, 2, 2, HEAD_DIM, True)
    assert job.normaliser == 3
    assert unit.arguments == ("icarus", 11, None)


@pytest.mark.parametrize("normaliser", ["none", "rms-layer", "sum"])
def test_dump_holds_the_answers(trace, unit, tmp_path, normaliser):
    path = tmp_path / "answers.npz"
    assert _simulate(trace, "--layers", "1-2", "--tokens", 5, "--normaliser", normaliser, "--dump", path) == 0
    dump = np.load(path)
    assert dump["layers"].tolist() == [1, 2]
    assert (dump["context"].shape, dump["context"].dtype) == ((2, HEADS, 5, HEAD_DIM), np.int32)
    assert all(dump[name].shape == (2, HEADS, 5) for name in ("exponent", "active", "mass", "weight_sum", "null"))
    assert ("output" in dump) == (normaliser != "none")
    # The first token sees one row: its context is that value row times its only weight.
    arrays, weight = np.load(trace), dump["weight_sum"][1, 3, 0]
    assert (dump["context"][1, 3, 0] == arrays["v"][2, 1, 0].astype(int) * weight).all()


def test_differences_are_counted_and_shown(trace, unit, tmp_path, capsys):
    def damage(steps, counters):
        steps[4].context[2, 7] += 1
        steps[4].output[2, 7] ^= 1
        steps[6].mass[0] += 1
        counters["VALUE_BEATS"] -= 2

    unit.damage, path = damage, tmp_path / "report.json"
    assert _simulate(trace, "--layers", "1", "--report", path) == 1
    report = json.loads(path.read_text())
    assert report["mismatches"] == 3
    text = "\n".join(report["layers"][0]["mismatch_examples"])
    assert "context of head 2 at token 4 element 7 is" in text
    assert "mass of head 0 at token 6 is" in text
    assert "counter VALUE_BEATS is" in text
    assert "3 mismatches in 48 head results" in capsys.readouterr().out


def test_error_bits_count_as_mismatches(trace, unit):
    unit.errors = ("packet_short",)
    assert _simulate(trace, "--layers", "0", "--tokens", 2) == 1


def test_outputs_are_reproducible(trace, unit, tmp_path):
    files = {"--report": "r.json", "--dump": "d.npz", "--plot": "p.png"}
    for run in ("a", "b"):
        options = [item for option, name in files.items() for item in (option, tmp_path / run / name)]
        assert _simulate(trace, "--tokens", 4, *options) == 0
    for name in files.values():
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert (tmp_path / "a" / "p.png").read_bytes().startswith(b"\x89PNG")
    assert b"tEXt" not in (tmp_path / "a" / "p.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(files.values())


def test_a_mask_from_a_file_has_heads_of_each_layer(trace, unit, tmp_path):
    path, mask = tmp_path / "report.json", tmp_path / "mask.json"
    save_mask(mask, HeadMask(HEADS, (0b0001, 0b1111, 0b1010)))
    assert _simulate(trace, "--layers", "0,2", "--tokens", 5, "--mask", mask, "--report", path) == 0
    report = json.loads(path.read_text())
    read = [[head["rows_read"]["key"] > 0 for head in layer["heads"]] for layer in report["layers"]]
    assert read == [[False, True, True, True], [True, False, True, False]]
    assert (report["masked_heads"], report["mismatches"]) == (3 * 5, 0)
    assert report["scenario"]["masks"] == [1, 15, 10]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"heads": 4, "masks": [1, 2]}', "is of 2 layers of 4 heads: the trace has 3 layers of 4 heads"),
        ('{"heads": 8, "masks": [1, 2, 3]}', "is of 3 layers of 8 heads: the trace has 3 layers of 4 heads"),
        ('{"heads": 4, "masks": [1, 2, 16]}', "mask of layer 2 is 16: 0 to 15 is allowed"),
        ("{", "is no mask of heads: JSON with heads and masks is needed"),
    ],
)
def test_wrong_masks(trace, tmp_path, capsys, text, message):
    mask = tmp_path / "mask.json"
    mask.write_text(text)
    assert _simulate(trace, "--mask", mask) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "3"], "--layers 3: 3 is no layer: the trace has 0 to 2"),
        (["--layers", "x"], "--layers x: 'x' is no number: numbers or ranges such as 0-2,5 are needed"),
        (["--tokens", "13"], "--tokens 13: 1 to 12 are in the trace"),
        (["--mask", "0-4"], "--mask 0-4: 0-4 is no head: the trace has 0 to 3"),
        (["--mask", "nose.json"], "--mask nose.json: no such file: heads such as 1,5 or the file of a mask are needed"),
        (["--mask", "1,x"], "--mask 1,x: no such file: heads such as 1,5 or the file of a mask are needed"),
        (["--min-active", "2"], "--min-active 2: only hybrid heads fall back: add --mode hybrid"),
        (["--preset", "board"], "--preset board: no such preset: default, tiny, icebreaker, ulx3s-85f, "),
        (["--preset", "tang-nano-20k", "--mode", "softmax"], "built without softmax: add --set softmax=true"),
        (["--preset", "tang-nano-20k", "--normaliser", "sum"], "add --set normalisers=rms_head,sum"),
        (
            ["--preset", "ulx3s-85f"],
            "lanes is 64: the trace's head dimension 32 is no multiple of it: try --set lanes=32",
        ),
        (["--set", "slots=8"], "slots is 8: the number of tokens is 12: at least that is needed"),
        (["--set", "heads=8"], "heads is 8: the trace has 4: leave it out or set that"),
        (["--waves", "w.fst"], "--waves w.fst: waves are of one layer: add --layers 0"),
        (["--theta", "9999999"], "layer 0: theta of head 0 is 9999999"),
        (["--mode", "gelu"], "'gelu' is not one of"),
        (["--policy", "h2o"], "--policy: the bare unit has no policy: leave out --no-scheduler"),
        (["--gating", "3"], "--gating: the bare unit has no policy: leave out --no-scheduler"),
        (["--set", "sequences=2"], "--set sequences=2: sequences is no setting: lanes, "),
    ],
)
def test_wrong_use_is_one_line(trace, unit, capsys, options, message):
    assert _simulate(trace, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert unit.programs == []


def test_unreadable_trace(tmp_path, unit, capsys):
    assert _simulate(tmp_path / "none.npz") == 2
    assert "none.npz: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("BuildError", 2), ("SimulationError", 1)])
def test_failures_of_the_simulation(trace, unit, capsys, name, code):
    from reluctant.sim import build, run

    error = getattr(build, name, None) or getattr(run, name)

    def fail(config, program):
        raise error("the tool said no")

    unit.run = fail
    assert _simulate(trace) == code
    assert capsys.readouterr().err.endswith("error: the tool said no\n")


def test_energy_follows_the_table():
    for size, energy in SRAM_PJ:
        assert sram_pj_per_byte(size) == pytest.approx(energy / 8)
    assert sram_pj_per_byte(1) == sram_pj_per_byte(8 << 10)
    assert sram_pj_per_byte(1 << 30) == sram_pj_per_byte(1 << 20)
    assert 2.5 < sram_pj_per_byte(200 << 10) < 12.5
    work = Work(
        key_rows=10,
        value_rows=4,
        score_reads=4,
        appended_rows=2,
        query_rows=1,
        result_rows=1,
        head_dim=16,
        beats=2,
        store_bytes=8 << 10,
    )
    parts = energy_pj(work)
    assert parts["store_read"] == pytest.approx(14 * 16 * 1.25)
    assert parts["multiply"] == pytest.approx(14 * 16 * 0.2)
    assert parts["weight_list"] == pytest.approx(4 * 3 * 3 * 1.25)
    assert parts["total"] == pytest.approx(sum(parts.values()) - parts["total"])
