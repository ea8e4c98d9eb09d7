"""``reluctant train``."""

import builtins
import json
import resource
import sys

import pytest
import torch

from reluctant.cli import main
from reluctant.golden.checkpoint import load_model
from reluctant.golden.presets import PRESETS
from reluctant.golden.reference import AttentionKind
from reluctant.golden.tokenizer import load_tokenizer

TEXT = "The quality of mercy is not strained; it droppeth as the gentle rain from heaven — größer.\n" * 60
FILES = {"config.json", "losses.json", "model.safetensors", "tokenizer.json"}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def _train(text, out, *extra):
    sizes = ["--steps", "6", "--batch", "2", "--context", "32", "--interval", "3", "--device", "cpu"]
    return main(["train", "--text", str(text), "--out", str(out), *sizes, *extra])


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_train(tmp_path, text, capsys):
    assert _train(text, tmp_path / "a", "--penalty", "0.03") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "symbols of 256 kinds to train on" in printed.out
    assert "step 3/6  loss " in printed.out
    assert "bits a character (step " in printed.out
    files = _files(tmp_path / "a")
    assert files.keys() == FILES
    assert load_model(tmp_path / "a").config == PRESETS["tiny"].model
    assert json.loads(files["config.json"])["training"]["penalty"] == 0.03
    assert _train(text, tmp_path / "b", "--penalty", "0.03") == 0
    assert _files(tmp_path / "b") == files
    # An earlier model is replaced.
    assert _train(text, tmp_path / "b", "--seed", "1") == 0
    again = _files(tmp_path / "b")
    assert again.keys() == FILES
    assert again["model.safetensors"] != files["model.safetensors"]


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_byte_pairs_and_every_kind(tmp_path, text, kind):
    held_out = tmp_path / "valid.txt"
    held_out.write_text(TEXT[:3000], encoding="utf-8")
    extra = ["--valid", str(held_out), "--vocabulary", "300", "--attention", kind.value, "--dropout", "0.1"]
    assert _train(text, tmp_path / "m", *extra) == 0
    tokenizer = load_tokenizer(tmp_path / "m" / "tokenizer.json")
    config = load_model(tmp_path / "m").config
    assert (config.attention, config.dropout) == (kind, 0.1)
    assert 256 < config.vocabulary == tokenizer.vocabulary <= 300
    losses = json.loads((tmp_path / "m" / "losses.json").read_text())
    # A symbol stands for more than a character.
    assert losses["bits_per_character"] < losses["held_out_loss"] / 0.7


def test_interrupted_run_goes_on(tmp_path, text, capsys, monkeypatch):
    assert _train(text, tmp_path / "whole") == 0

    def interrupt(*arguments, **options):
        if "step 3/6" in arguments[0]:
            raise KeyboardInterrupt
        real(*arguments, **options)

    real = builtins.print
    monkeypatch.setattr(builtins, "print", interrupt)
    assert _train(text, tmp_path / "parts") == 130
    monkeypatch.undo()
    assert list(_files(tmp_path / "parts")) == ["checkpoint.pt"]
    capsys.readouterr()
    assert _train(text, tmp_path / "parts") == 2
    assert "a run was interrupted here: resume it" in capsys.readouterr().err
    assert _train(text, tmp_path / "parts", "--resume", "--rate", "0.1") == 2
    assert "checkpoint.pt: is of another configuration: rate is 0.005 there, 0.1 here" in capsys.readouterr().err
    assert _train(text, tmp_path / "parts", "--resume") == 0
    assert "step 3/6" not in capsys.readouterr().out
    assert _files(tmp_path / "parts") == _files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--text", "nowhere.txt"], "nowhere.txt: cannot be read (No such file or directory): a text file is needed"),
        (["--valid", "nowhere.txt"], "nowhere.txt: cannot be read (No such file or directory): a text file is needed"),
        (["--context", "9999"], "symbols: more than 9999 (a window) are needed"),
        (["--device", "cuda"], "device is cuda: PyTorch finds no GPU here: choose cpu, or auto"),
        (["--preset", "huge"], "preset is huge: tiny or base is allowed"),
        (["--vocabulary", "10"], "vocabulary is 10: 256 to 65536 is allowed"),
        (["--attention", "softmax", "--penalty", "1"], "penalty is 1.0: softmax has no zero weights: 0 is needed"),
        (["--resume"], "checkpoint.pt: no such checkpoint: nothing to resume"),
        (["--attention", "linear"], "see 'reluctant train --help'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, text, capsys, monkeypatch, extra, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _train(text, tmp_path / "x", *extra) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_text_that_is_none(tmp_path, text, capsys):
    (tmp_path / "bad").write_bytes(b"\xff" * 4000)
    assert _train(tmp_path / "bad", tmp_path / "x", "--vocabulary", "300") == 2
    assert f"{tmp_path / 'bad'}: is no text in UTF-8, byte pairs need it" in capsys.readouterr().err
    assert _train(text, tmp_path / "x", "--vocabulary", "300", "--valid", str(tmp_path / "bad")) == 2
    assert f"{tmp_path / 'bad'}: is no text in UTF-8, byte pairs need it" in capsys.readouterr().err
    assert _train(tmp_path / "bad", tmp_path / "x") == 0


def test_missing_packages(tmp_path, text, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert _train(text, tmp_path / "x", "--vocabulary", "300") == 2
    assert "tokenizers is not installed, byte pairs need it: pip install" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert _train(text, tmp_path / "x") == 2
    assert "torch is not installed: pip install" in capsys.readouterr().err


def test_full_disk(tmp_path, text, capsys):
    """A checkpoint that does not fit leaves nothing half-written: here no file may grow beyond 50 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        assert _train(text, tmp_path / "x") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert "checkpoint.pt: cannot be written (File too large)" in error
    assert error.count("\n") == 1
    assert list((tmp_path / "x").iterdir()) == []


def test_help_has_an_example(capsys):
    assert main(["train", "--help"]) == 0
    assert "  reluctant train --text " in capsys.readouterr().out
