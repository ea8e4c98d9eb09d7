"""Train a language model on symbols and write it to a folder; long runs can be resumed.

>>> python -m reluctant.golden.pretrain --tokens train.npy --valid valid.npy --out model --preset base

Needs PyTorch and numpy only. Token files are one-dimensional integer arrays of :func:`numpy.save`. In the root of a
tree that is not installed, this finds the packages:

>>> python -c "import runpy, sys, types
... sys.modules['reluctant'] = package = types.ModuleType('reluctant'); package.__path__ = ['reluctant', '.']
... runpy.run_module('reluctant.golden.pretrain', run_name='__main__')" --tokens train.npy ...
"""

import argparse
import hashlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .checkpoint import load_checkpoint, save_checkpoint, save_model, write_json
from .errors import UserError
from .files import new_file
from .kinds import AttentionKind
from .language_model import LanguageModel
from .presets import PRESETS, Preset, choose
from .tokenizer import Tokenizer, load_tokenizer
from .trainer import Trainer, TrainingConfig, choose_device, evaluate, windows, zero_shares

__all__ = ["CHECKPOINT", "Corpus", "Progress", "pretrain", "read_tokens"]

CHECKPOINT = "checkpoint.pt"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Corpus:
    """Symbols to train on and held out, (n,) integers, and the tokenizer that made them, if it is known."""

    text: np.ndarray
    held_out: np.ndarray
    tokenizer: Tokenizer | None = None


@dataclass(frozen=True)
class Progress:
    """A step that is done: how many are, its loss and learning rate, and the held-out loss if one was measured."""

    step: int
    loss: float
    rate: float
    held_out: float | None


@dataclass
class _History:
    """What a run measured so far, and the weights that were best; plain values and tensors."""

    losses: list[float] = field(default_factory=list)
    held_out: list[list] = field(default_factory=list)
    best: dict | None = None

    def note(self, step: int, loss: float, model: LanguageModel) -> None:
        """A held-out loss after ``step`` steps."""
        self.held_out.append([step, loss])
        if self.best is None or loss < self.best["loss"]:
            weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            self.best = {"step": step, "loss": loss, "weights": weights}


def pretrain(
    preset: Preset,
    corpus: Corpus,
    out: Path | str,
    *,
    device: str = "auto",
    resume: bool = False,
    compiled: bool = True,
    half: bool = True,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict:
    """Train, and write a model's folder as :mod:`checkpoint` describes; gives what ``losses.json`` holds.

    Every ``interval`` steps the held-out loss is measured and a checkpoint written, which is removed at the end. A run
    that was interrupted and resumed on a CPU ends with the same bytes as one that was not.

    Parameters
    ----------
    out
        Folder to write; files of a finished model in it are replaced.
    device
        As in :func:`trainer.choose_device`.
    resume
        Go on from the checkpoint in ``out``.
    compiled
        Use torch.compile on a GPU.
    half
        Weights are rounded to float16, before the final held-out loss is measured.
    report
        Called after every step.

    Raises
    ------
    ValueError
        If options, corpus and checkpoint do not fit each other, or training diverges.
    UserError
        If a file cannot be written.
    """
    out, where, training = Path(out), choose_device(device), preset.training
    text, held_out = (_symbols(symbols, preset, where) for symbols in (corpus.text, corpus.held_out))
    windows(held_out, training.context, 1)
    torch.manual_seed(training.seed)
    model = LanguageModel(preset.model).to(where)
    trainer = Trainer(model, text, training, compiled=compiled and where.type == "cuda")
    description = {
        "model": preset.model.as_dict(),
        "training": training.as_dict(),
        "corpus": {"training text": _digest(corpus.text), "held-out text": _digest(corpus.held_out)},
    }
    history = _start(out / CHECKPOINT, description, trainer, resume)
    while trainer.step < training.steps:
        loss, held_out_loss = trainer.advance(), None
        history.losses.append(loss)
        if trainer.step % training.interval == 0 or trainer.step == training.steps:
            held_out_loss = evaluate(model, held_out, training.context)
            history.note(trainer.step, held_out_loss, model)
            save_checkpoint(out / CHECKPOINT, description, {"trainer": trainer.state(), "history": vars(history)})
        report(Progress(trainer.step, loss, training.rate_at(trainer.step - 1), held_out_loss))
    return _finish(out, model, history, training, held_out, corpus.tokenizer, half)


def _start(path: Path, description: dict, trainer: Trainer, resume: bool) -> _History:
    if resume:
        state = load_checkpoint(path, description)
        trainer.restore(state["trainer"])
        return _History(**state["history"])
    if path.exists():
        raise ValueError(f"{path}: a run was interrupted here: resume it, remove the file, or choose another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path.parent}: cannot be made ({error.strerror}): choose another folder") from None
    return _History()


def _symbols(symbols: np.ndarray, preset: Preset, device: torch.device) -> Tensor:
    most = int(symbols.max(initial=0))
    if most >= preset.model.vocabulary:
        raise ValueError(f"vocabulary is {preset.model.vocabulary}: symbol {most} of the text needs {most + 1} or more")
    return torch.from_numpy(symbols.astype(np.int32)).to(device)


def _digest(symbols: np.ndarray) -> str:
    return hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest()[:16]


def _finish(
    out: Path,
    model: LanguageModel,
    history: _History,
    training: TrainingConfig,
    held_out: Tensor,
    tokenizer: Tokenizer | None,
    half: bool,
) -> dict:
    if training.keep_best:
        model.load_state_dict(history.best["weights"])
    if half:
        model.half().float()
    loss = evaluate(model, held_out, training.context)
    results = {
        "held_out_loss": loss,
        "step": history.best["step"] if training.keep_best else training.steps,
        "zero_shares": zero_shares(model, held_out, training.context),
        "held_out_losses": history.held_out,
        "losses": history.losses,
    }
    if tokenizer is not None:
        targets = windows(held_out, training.context)[:, 1:].flatten().cpu().numpy()
        characters = max(1, tokenizer.characters(targets))
        results = {"bits_per_character": loss / math.log(2) * len(targets) / characters, **results}
        with new_file(out / TOKENIZER) as part:
            part.write_text(tokenizer.text, encoding="utf-8")
    write_json(out / "losses.json", results)
    save_model(out, model, half=half, training=training.as_dict())
    (out / CHECKPOINT).unlink()
    return results


# The command ----------------------------------------------------------------------------------------------------------


def read_tokens(path: Path | str) -> np.ndarray:
    """The symbols in a file of :func:`numpy.save`.

    Raises
    ------
    ValueError
        If it holds anything but a one-dimensional array of integers that are not negative.
    """
    try:
        symbols = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(f"{path}: is no array of numpy.save, or damaged") from None
    if not isinstance(symbols, np.ndarray) or symbols.ndim != 1 or symbols.dtype.kind not in "iu":
        raise ValueError(f"{path}: a one-dimensional array of integers is needed")
    if symbols.min(initial=0) < 0:
        raise ValueError(f"{path}: holds negative symbols: 0 or more is needed")
    return symbols


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reluctant.golden.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", required=True, metavar="FILE.npy", help="symbols to train on")
    parser.add_argument("--valid", required=True, metavar="FILE.npy", help="held-out symbols")
    parser.add_argument("--tokenizer", metavar="FILE.json", help="what made the symbols: copied, and counts characters")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="model to write")
    parser.add_argument("--preset", choices=list(PRESETS), default="base")
    parser.add_argument("--attention", choices=[kind.value for kind in AttentionKind], help="kind of attention")
    for name in ("vocabulary", "steps", "batch", "context", "interval", "seed"):
        parser.add_argument(f"--{name}", type=int, help="instead of the preset's")
    for name in ("rate", "penalty", "dropout"):
        parser.add_argument(f"--{name}", type=float, help="instead of the preset's")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder")
    parser.add_argument("--no-compile", action="store_true", help="do without torch.compile on a GPU")
    parser.add_argument("--float32", action="store_true", help="write float32 weights instead of float16")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    names = ("attention", "vocabulary", "steps", "batch", "context", "interval", "seed", "rate", "penalty", "dropout")
    tokenizer = None if arguments.tokenizer is None else load_tokenizer(arguments.tokenizer)
    if tokenizer is not None and arguments.vocabulary is None:
        arguments.vocabulary = tokenizer.vocabulary
    preset = choose(arguments.preset, **{name: getattr(arguments, name) for name in names})
    corpus = Corpus(read_tokens(arguments.tokens), read_tokens(arguments.valid), tokenizer)

    def report(progress: Progress) -> None:
        if progress.held_out is not None:
            print(
                f"step {progress.step}/{preset.training.steps}  loss {progress.loss:.3f}  "
                f"held-out loss {progress.held_out:.4f}",
                flush=True,
            )

    results = pretrain(
        preset,
        corpus,
        arguments.out,
        device=arguments.device,
        resume=arguments.resume,
        compiled=not arguments.no_compile,
        half=not arguments.float32,
        report=report,
    )
    shares = " ".join(f"{share:.3f}" for share in results["zero_shares"])
    print(f"held-out loss {results['held_out_loss']:.4f} nats/symbol, of step {results['step']}; zero weights {shares}")


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 0, or 2 for a mistake in the options or files, told in one line."""
    parsed = _parser().parse_args(arguments)
    try:
        _run(parsed)
    except (OSError, ValueError, UserError) as error:
        print(f"pretrain: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
