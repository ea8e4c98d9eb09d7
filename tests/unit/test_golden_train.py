"""Training: it learns, repeats itself, survives interruptions, and leaves whole files and traces."""

import json
import math
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import reluctant
from reluctant.golden import checkpoint, pretrain, trainer
from reluctant.golden.checkpoint import load_model
from reluctant.golden.errors import UserError
from reluctant.golden.language_model import ModelConfig
from reluctant.golden.presets import Preset
from reluctant.golden.reference import AttentionKind
from reluctant.golden.tokenizer import byte_tokenizer
from reluctant.golden.trainer import TrainingConfig, choose_device, evaluate, windows
from tests.unit.language_models import SMALL, small_model, small_text

KINDS = pytest.mark.parametrize("kind", list(AttentionKind))


@KINDS
def test_training_learns_and_is_reproducible(kind):
    config = TrainingConfig(steps=25, batch=4, context=24, rate=1e-2)
    losses = []
    for _ in range(2):
        model, seen = small_model(attention=kind), []
        trainer.train(model, small_text(), config, lambda step, loss, seen=seen: seen.append(loss))
        losses.append(seen)
    assert losses[0] == losses[1]
    assert len(losses[0]) == 25
    assert losses[0][-1] < 0.7 * losses[0][0]
    assert evaluate(model, small_text(), 32) < 0.7 * losses[0][0]


def test_rate_rises_and_falls():
    config = TrainingConfig(steps=100, rate=0.01)
    rates = [config.rate_at(step) for step in range(100)]
    assert max(rates) == rates[4] == pytest.approx(0.01)
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.001, rel=0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"batch": 0},
        {"context": 0},
        {"rate": 0.0},
        {"rate": math.nan},
        {"penalty": -1.0},
        {"weight_decay": math.inf},
        {"interval": 0},
    ],
)
def test_training_config_is_checked(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} is "):
        TrainingConfig(**change)


def test_penalty_makes_weights_zero():
    shares = []
    for penalty in (0.0, 0.3):
        model = small_model(attention=AttentionKind.RELU_SUM)
        trainer.train(model, small_text(), TrainingConfig(steps=60, batch=4, context=24, rate=1e-2, penalty=penalty))
        shares.append(np.mean(trainer.zero_shares(model, small_text(), 24)))
    assert shares[1] > shares[0] + 0.2


def test_penalty_of_softmax():
    with pytest.raises(ValueError, match=r"^penalty is 0.1: softmax has no zero weights: 0 is needed$"):
        trainer.Trainer(small_model(attention="softmax"), small_text(), TrainingConfig(context=8, penalty=0.1))


def test_divergence_is_told():
    model = small_model()
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    with pytest.raises(ValueError, match=r"^loss is nan at step 1: training diverged: choose a lower rate$"):
        trainer.train(model, small_text(), TrainingConfig(steps=1, context=8))


def test_evaluation_sees_whole_windows():
    text = torch.arange(100)
    assert torch.equal(windows(text, 99), text[None])
    assert windows(text, 9, 4)[:, 0].tolist() == [0, 30, 60, 90]
    assert windows(text, 9).shape == (10, 10)
    with pytest.raises(ValueError, match=r"held-out text has 100 symbols: more than 100 \(a window\) are needed"):
        windows(text, 100)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"^device is cuda: PyTorch finds no GPU here: choose cpu, or auto$"):
        choose_device("cuda")
    with pytest.raises(ValueError, match=r"^device is tpu: auto, cpu or cuda is allowed$"):
        choose_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")


# Runs -----------------------------------------------------------------------------------------------------------------


def _preset(model=None, **training):
    settings = {"steps": 12, "batch": 2, "context": 16, "interval": 5, "rate": 1e-2}
    model = SMALL | {"attention": "relu_sum"} | (model or {})
    return Preset(ModelConfig(**model), TrainingConfig(**settings | training))


def _corpus():
    return pretrain.Corpus(small_text(2000).numpy(), small_text(400).numpy()[5:], byte_tokenizer())


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class _StopError(Exception):
    """Raised in the middle of a run."""


def _stop_at(step):
    def report(progress):
        if progress.step == step:
            raise _StopError

    return report


@pytest.mark.parametrize("stop", [5, 7, 11])
def test_interrupted_run_ends_the_same(tmp_path, stop):
    preset = _preset({"dropout": 0.2}, penalty=0.1)
    results = pretrain.pretrain(preset, _corpus(), tmp_path / "whole")
    with pytest.raises(_StopError):
        pretrain.pretrain(preset, _corpus(), tmp_path / "parts", report=_stop_at(stop))
    assert list(_files(tmp_path / "parts")) == ["checkpoint.pt"]
    with pytest.raises(ValueError, match=r"checkpoint.pt: a run was interrupted here: resume it, remove the file"):
        pretrain.pretrain(preset, _corpus(), tmp_path / "parts")
    steps = []
    again = pretrain.pretrain(
        preset, _corpus(), tmp_path / "parts", resume=True, report=lambda progress: steps.append(progress.step)
    )
    assert steps == list(range(stop // 5 * 5 + 1, 13))
    assert again == results
    assert _files(tmp_path / "parts") == _files(tmp_path / "whole")
    assert _files(tmp_path / "whole").keys() == {"config.json", "losses.json", "model.safetensors", "tokenizer.json"}


def test_results_are_of_the_model_in_the_folder(tmp_path):
    corpus = _corpus()
    results = pretrain.pretrain(_preset(), corpus, tmp_path)
    assert results == json.loads((tmp_path / "losses.json").read_text())
    held_out = torch.from_numpy(corpus.held_out)
    assert evaluate(load_model(tmp_path), held_out, 16) == pytest.approx(results["held_out_loss"], rel=1e-6)
    # Bytes of ASCII are characters.
    assert results["bits_per_character"] == pytest.approx(results["held_out_loss"] / math.log(2))
    assert [step for step, _ in results["held_out_losses"]] == [5, 10, 12]
    assert len(results["losses"]) == 12
    assert len(results["zero_shares"]) == 2


@pytest.mark.parametrize("keep_best", [True, False])
def test_best_weights_are_kept(tmp_path, monkeypatch, keep_best):
    """The held-out text looks best after 10 of 12 steps."""
    measured = iter([3.0, 2.0, 2.5, 7.0])
    seen = []

    def fake(model, text, context):
        seen.append(model.embedding.weight.detach().clone())
        return next(measured)

    monkeypatch.setattr(pretrain, "evaluate", fake)
    results = pretrain.pretrain(_preset(keep_best=keep_best), _corpus(), tmp_path, half=False)
    assert results["step"] == (10 if keep_best else 12)
    assert results["held_out_loss"] == 7.0
    kept = load_model(tmp_path).embedding.weight
    assert torch.equal(kept, seen[1 if keep_best else 2])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preset": _preset(rate=0.02)}, "is of another configuration: rate is 0.01 there, 0.02 here"),
        ({"preset": _preset({"heads": 8})}, "is of another configuration: heads is 4 there, 8 here"),
        ({"corpus": pretrain.Corpus(small_text(1999).numpy(), small_text().numpy())}, "training text is "),
    ],
)
def test_checkpoint_of_another_run(tmp_path, change, message):
    with pytest.raises(_StopError):
        pretrain.pretrain(_preset(), _corpus(), tmp_path, report=_stop_at(6))
    arguments = {"preset": _preset(), "corpus": _corpus()} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        pretrain.pretrain(**arguments, out=tmp_path, resume=True)


def test_damaged_and_missing_checkpoints(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(ValueError, match=r"checkpoint.pt: no such checkpoint: nothing to resume$"):
        checkpoint.load_checkpoint(path, {})
    torch.save([1], path)
    with pytest.raises(ValueError, match=r"checkpoint.pt: is no checkpoint of a training run$"):
        checkpoint.load_checkpoint(path, {})
    checkpoint.save_checkpoint(path, {"model": {"width": 3}}, {"step": 7})
    assert checkpoint.load_checkpoint(path, {"model": {"width": 3}}) == {"step": 7}
    for data in (path.read_bytes()[:-40], b"", b"text"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"checkpoint.pt: is damaged, or no file of PyTorch$"):
            checkpoint.load_checkpoint(path, {})


@pytest.fixture
def _small_disk():
    """No file may grow beyond 20 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("_small_disk")
def test_full_disk_leaves_nothing_half_written(tmp_path):
    with pytest.raises(UserError, match=r"checkpoint.pt: cannot be written \(File too large\)$"):
        pretrain.pretrain(_preset(), _corpus(), tmp_path / "x")
    assert list((tmp_path / "x").iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be made \(Not a directory\): choose another folder"):
        pretrain.pretrain(_preset(), _corpus(), tmp_path / "file" / "x")


# The command for token files ------------------------------------------------------------------------------------------


def _arguments(tmp_path, *extra):
    corpus = _corpus()
    np.save(tmp_path / "train.npy", corpus.text)
    np.save(tmp_path / "valid.npy", corpus.held_out)
    files = ["--tokens", "train.npy", "--valid", "valid.npy", "--out", "out"]
    files[1::2] = [str(tmp_path / name) for name in files[1::2]]
    return [*files, "--preset", "tiny", "--steps", "4", "--batch", "2", "--context", "16", "--interval", "2", *extra]


def test_pretrain_command(tmp_path, capsys):
    (tmp_path / "t.json").write_text(byte_tokenizer().text)
    assert pretrain.main(_arguments(tmp_path, "--tokenizer", str(tmp_path / "t.json"), "--attention", "length")) == 0
    printed = capsys.readouterr().out
    assert "step 2/4  loss " in printed
    assert "held-out loss " in printed
    assert load_model(tmp_path / "out").config.attention is AttentionKind.LENGTH
    assert (tmp_path / "out" / "tokenizer.json").read_text() == byte_tokenizer().text


def test_pretrain_from_a_tree_with_torch_and_numpy_only(tmp_path):
    """The bootstrap of the module's documentation, where nothing else can be imported."""
    root = Path(tmp_path / "tree")
    root.mkdir()
    for name, package in (("reluctant", reluctant), ("golden", pretrain)):
        (root / name).symlink_to(Path(package.__file__).parent)
    lines = [line[4:] for line in pretrain.__doc__.splitlines() if line.startswith((">>> python -c", "... "))]
    code = "\n".join(lines).split('"')[1]
    missing = ("safetensors", "tokenizers", "typer", "rich", "amaranth", "matplotlib")
    block = f"import sys; sys.modules |= dict.fromkeys({missing})\n"
    command = [sys.executable, "-S", "-c", block + code, *_arguments(tmp_path)]
    paths = {str(Path(module.__file__).parents[1]) for module in (torch, np)}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "model.pt").exists()
    assert load_model(tmp_path / "out").config.layers == 2


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--tokens", "no.npy"], "[Errno 2] No such file or directory: 'no.npy'"),
        (["--context", "1000"], "held-out text has 395 symbols: more than 1000 (a window) are needed"),
        (["--vocabulary", "100"], "vocabulary is 100: symbol 116 of the text needs 117 or more"),
        (["--resume"], "no such checkpoint: nothing to resume"),
        (["--steps", "0"], "steps is 0: 1 or more is needed"),
        (["--attention", "softmax", "--penalty", "0.1"], "penalty is 0.1: softmax has no zero weights: 0 is needed"),
    ],
)
def test_pretrain_tells_mistakes(tmp_path, capsys, extra, message):
    assert pretrain.main(_arguments(tmp_path, *extra)) == 2
    error = capsys.readouterr().err
    assert error.startswith("pretrain: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"text"), "is no array of numpy.save, or damaged"),
        (lambda path: path.write_bytes(b""), "is no array of numpy.save, or damaged"),
        (lambda path: np.save(path, np.zeros((2, 2), int)), "a one-dimensional array of integers is needed"),
        (lambda path: np.save(path, np.zeros(2)), "a one-dimensional array of integers is needed"),
        (lambda path: np.save(path, np.array([1, -1])), "holds negative symbols: 0 or more is needed"),
    ],
)
def test_token_files_are_checked(tmp_path, write, message):
    path = tmp_path / "x.npy"
    write(path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {message}$"):
        pretrain.read_tokens(path)
