"""``reluctant evaluate`` and ``reluctant prune``."""

import json

import pytest

from reluctant.cli import main
from reluctant.golden.calibration import deploy
from reluctant.golden.checkpoint import save_model
from reluctant.golden.deployed_file import save_deployed
from reluctant.golden.head_mask import HeadMask, load_mask, save_mask
from reluctant.golden.reference import AttentionKind
from reluctant.golden.tokenizer import byte_tokenizer

from .deployed_models import CONTEXT, TEXT, language_model, trained_model


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A deployed model ``m``, a text ``t.txt`` and a folder ``f`` of train, in the working directory."""
    monkeypatch.chdir(tmp_path)
    save_deployed("m", deploy(trained_model(), byte_tokenizer(), TEXT, context=CONTEXT))
    (tmp_path / "t.txt").write_text(TEXT)
    save_model(tmp_path / "f", trained_model(), half=False, training={"context": CONTEXT})
    (tmp_path / "f" / "tokenizer.json").write_text(byte_tokenizer().text, encoding="utf-8")
    return tmp_path


def _evaluate(*extra):
    return main(["evaluate", "m", "--text", "t.txt", "--report", "r.json", *extra])


def _report():
    with open("r.json", encoding="utf-8") as file:
        return json.load(file)


def test_evaluate(files, capsys):
    assert _evaluate() == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "m in int8: 1,512 tokens in 63 windows of 24" in printed.out
    values = _report()
    assert f"loss {values['loss']:.4f} nats a token, {values['bits_per_character']:.4f} bits a character" in printed.out
    assert len(values["groups"]) == 5
    assert [part["run_share"] for part in values["layers"]] == [1, 1]
    assert 0.05 < values["layers"][0]["zero_share"] < 0.95
    assert (values["mode"], values["policy"], values["masks"], values["ablations"]) == (None, None, None, {})


def test_float_is_close(files, capsys):
    assert _evaluate() == 0
    unit = _report()["loss"]
    assert _evaluate("--float") == 0
    values = _report()
    assert values["layers"] == []
    assert values["arithmetic"] == "float"
    assert values["loss"] == pytest.approx(unit, rel=0.02)
    assert main(["evaluate", "f", "--text", "t.txt", "--report", "r.json", "--float"]) == 0
    assert _report()["loss"] == pytest.approx(values["loss"], rel=0.02)
    assert _report()["groups"] == []


@pytest.mark.parametrize(
    ("extra", "noted"),
    [
        (["--mode", "softmax"], {"mode": "softmax"}),
        (["--mode", "hybrid", "--min-active", "5"], {"mode": "hybrid", "min_active": 5}),
        (["--policy", "h2o", "--budget", "8"], {"policy": {"policy": "h2o", "budget": 8, "recent": 4}}),
        (
            ["--policy", "h2o", "--budget", "6/20"],
            {"policy": {"policy": "h2o", "budget": [6, 20], "recent": [3, 10]}},
        ),
        (["--gating", "3:0:4"], {"gating": {"active": 3, "mass": 0, "probe": 4}}),
        (["--ablate", "shuffle"], {"ablations": {"0": "shuffle", "1": "shuffle"}}),
        (["--ablate", "remove:1", "--ablate", "shuffle:0-0"], {"ablations": {"0": "shuffle", "1": "remove"}}),
        (["--mask", "mask.json"], {"masks": [3, 0]}),
        (["--mask", "mask.json", "--float"], {"masks": [3, 0]}),
    ],
)
def test_choices_matter(files, capsys, extra, noted):
    save_mask("mask.json", HeadMask(4, (3, 0)))
    same = [word for word in extra if word == "--float"]
    assert _evaluate("--tokens", "300", *same) == 0
    plain = _report()
    assert _evaluate("--tokens", "300", *extra) == 0
    values = _report()
    assert values["windows"] == 13
    assert values["loss"] != plain["loss"]
    assert noted.items() <= values.items()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--text", "none.txt"], "none.txt: cannot be read (No such file or directory): a text file is needed"),
        (["--context", "5000"], "t.txt: has 1580 symbols: more than 5000 (a window) are needed"),
        (["--min-active", "3"], "--min-active 3: only hybrid heads fall back: add --mode hybrid"),
        (["--float", "--budget", "8"], "--budget: float attention is the model's own, with all rows"),
        (["--float", "--mode", "relu"], "--mode: float attention is the model's own, with all rows"),
        (["--policy", "h2o", "--budget", "6/x"], "--budget 6/x: a number from 1 on, or one for each layer such as"),
        (["--policy", "h2o", "--budget", "6/7/8"], "--budget 6/7/8: one number, or 2, one for each layer, is needed"),
        (["--policy", "streaming", "--budget", "9/4"], "--policy streaming --budget 4: sinks is 4: 0 to 3 is allowed"),
        (["--budget", "8"], "--budget 8: refuse keeps all 24 rows of a window: add --policy h2o"),
        (["--policy", "h2o", "--stride", "3"], "--policy h2o: stride is 3: h2o has none, it must not be given"),
        (["--ablate", "burn:1"], "--ablate burn:1: shuffle or remove and layers are needed"),
        (["--ablate", "remove:x"], "--ablate remove:x: shuffle or remove and layers are needed"),
        (["--ablate", "remove:2"], "--ablate remove:2: the model has layers 0 to 1"),
        (["--ablate", "shuffle", "--tokens", "5"], "shuffle needs two windows: evaluate more tokens"),
        (["--mask", "none.json"], "none.json: cannot be read (No such file or directory): a mask's file is needed"),
        (["--mask", "other.json"], "other.json: mask is of 1 layers of 4 heads: the model has 2 of 4"),
    ],
)
def test_mistakes_are_one_line(files, capsys, extra, message):
    save_mask("other.json", HeadMask(4, (3,)))
    assert _evaluate(*extra) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (files / "r.json").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "none: no such model: a file, a folder, or one of relu, softmax is needed"),
        ("t.txt", "t.txt: is no deployed model, or damaged"),
        ("f", "the model is not deployed: add --float, or make it int8 with 'reluctant import'"),
        ("empty", "empty/config.json: cannot be read (No such file or directory): a model's folder is needed"),
    ],
)
def test_models_that_are_none(files, capsys, name, message):
    (files / "empty").mkdir()
    assert main(["evaluate", name, "--text", "t.txt"]) == 2
    assert message in capsys.readouterr().err


def test_folders_without_a_tokenizer(files, capsys):
    (files / "f" / "tokenizer.json").unlink()
    assert main(["evaluate", "f", "--text", "t.txt", "--float"]) == 0
    save_model(files / "g", language_model(vocabulary=300))
    assert main(["evaluate", "g", "--text", "t.txt", "--float"]) == 2
    assert "g/tokenizer.json: no such file: 300 symbols are no bytes" in capsys.readouterr().err
    save_model(files / "h", language_model(AttentionKind.RELA_HEAD, gate=True))
    assert main(["evaluate", "h", "--text", "t.txt", "--float"]) == 2
    assert "attention has a gate: the unit has none" in capsys.readouterr().err


def test_prune(files, capsys):
    extra = ["--tokens", "500", "--limit", "9", "--report", "r.json"]
    assert main(["prune", "m", "--text", "t.txt", "--drop", "0.3", "--out", "mask.json", *extra]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "2 of 8 heads dropped: loss" in printed.out
    mask, values = load_mask("mask.json"), _report()
    assert [list(head) for head in mask.dropped] == sorted(values["dropped"])
    assert len(values["curve"]) == 3
    assert " ".join(f"{bits:#x}" for bits in mask.masks) in printed.out
    assert _evaluate("--mask", "mask.json") == 0
    assert sum(part["run_share"] for part in _report()["layers"]) == 1.5
    # Nothing may cost anything, so some stay.
    assert main(["prune", "f", "--text", "t.txt", "--drop", "1", "--out", "mask.json", "--limit", "0"]) == 0
    assert "(8 were wanted: the others cost too much)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--drop", "1.5"], "--drop 1.5: a share from 0 to 1 is needed"),
        (["--limit", "-1"], "--limit -1: 0 or more is needed"),
        (["--out", "f"], "f: is a folder: give the name of a file"),
    ],
)
def test_prune_mistakes(files, capsys, extra, message):
    assert main(["prune", "m", "--text", "t.txt", "--out", "mask.json", "--tokens", "50", *extra]) == 2
    assert message in capsys.readouterr().err
    assert not (files / "mask.json").exists()


def test_missing_packages(files, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for words in (["evaluate", "m", "--text", "t.txt"], ["prune", "m", "--text", "t.txt", "--out", "x"]):
        assert main(words) == 2
        assert "torch is not installed: pip install" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "prune"])
def test_help_has_an_example(capsys, command):
    assert main([command, "--help"]) == 0
    assert f"  reluctant {command} relu --text " in capsys.readouterr().out
