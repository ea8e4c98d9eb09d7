"""``reluctant train``: a language model from a text."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reluctant.golden.errors import UserError
from reluctant.golden.kinds import AttentionKind

__all__ = ["train"]


class DeviceName(StrEnum):
    """What trains."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def train(
    text: Annotated[Path, typer.Option("--text", metavar="FILE", help="Text to train on; .xz is unpacked.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    valid: Annotated[
        Path | None, typer.Option("--valid", metavar="FILE", help="Held-out text. [default: the last 5% of --text]")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", "-p", metavar="NAME", help="tiny (bytes, a CPU) or base (byte pairs, a GPU).")
    ] = "tiny",
    attention: Annotated[AttentionKind, typer.Option(help="How scores become contexts.")] = AttentionKind.RELU_SUM,
    vocabulary: Annotated[
        int | None, typer.Option(help="Symbols: 256 are bytes, more byte pairs. [default: the preset's]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of training. [default: the preset's]")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows of text a step. [default: the preset's]")] = None,
    context: Annotated[int | None, typer.Option(help="Symbols a window. [default: the preset's]")] = None,
    interval: Annotated[
        int | None, typer.Option(help="Steps between held-out losses and checkpoints. [default: the preset's]")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate. [default: the preset's]")] = None,
    penalty: Annotated[float, typer.Option(help="Weight of sparsity in the loss, such as 0.004.")] = 0.0,
    dropout: Annotated[float, typer.Option(help="Share of elements that training drops.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal models, on a CPU.")] = 0,
    device: Annotated[DeviceName, typer.Option(help="What trains.")] = DeviceName.AUTO,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Use torch.compile on a GPU.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
) -> None:
    """Train a small language model with sparse attention.

    The folder gets model.safetensors, config.json, tokenizer.json and losses.json. The weights are those of the lowest
    held-out loss. A run that was interrupted goes on with the same options and --resume, to the same result.

    \b
    Examples:
      reluctant train --text book.txt --out out/model
      reluctant train --text train.txt --valid valid.txt --out out/model --preset base --penalty 0.004
    """
    _require_torch()
    from reluctant.golden.presets import choose
    from reluctant.golden.pretrain import Corpus, pretrain

    options = {"attention": attention, "steps": steps, "batch": batch, "context": context, "interval": interval}
    options |= {"rate": rate, "penalty": penalty, "dropout": dropout, "seed": seed}
    try:
        chosen = choose(preset, vocabulary=vocabulary, **options)
        tokenizer, symbols, held_out = _encode(text, valid, chosen.model.vocabulary)
        chosen = chosen.changed(vocabulary=tokenizer.vocabulary)
        print(f"{len(symbols):,} symbols of {tokenizer.vocabulary:,} kinds to train on, {len(held_out):,} held out")
        with _bar(chosen.training.steps) as report:
            results = pretrain(
                chosen,
                Corpus(symbols, held_out, tokenizer),
                out,
                device=device.value,
                resume=resume,
                compiled=compiled,
                report=report,
            )
    except ValueError as error:
        raise UserError(str(error)) from None
    _tell(results, out)


def _require_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise UserError("torch is not installed: pip install 'reluctant[golden]' brings it")


def _encode(text: Path, valid: Path | None, vocabulary: int):
    """(tokenizer, symbols to train on, held-out symbols); the tokenizer learns from the former alone."""
    from reluctant.golden.tokenizer import learn_tokenizer

    data = _read(text)
    if valid is None:
        # A cut between lines, if there are any, leaves both parts whole text.
        cut = data.rfind(b"\n", 0, len(data) - len(data) // 20) + 1 or len(data) - len(data) // 20
        data, held_out = data[:cut], data[cut:]
    else:
        held_out = _read(valid)
    tokenizer = None
    try:
        tokenizer = learn_tokenizer(data, vocabulary)
        return tokenizer, tokenizer.encode(data), tokenizer.encode(held_out)
    except UnicodeDecodeError:
        file = text if valid is None or tokenizer is None else valid
        raise UserError(f"{file}: is no text in UTF-8, byte pairs need it: --vocabulary 256 takes any bytes") from None


def _read(path: Path) -> bytes:
    from reluctant.golden.tokenizer import read_bytes

    try:
        return read_bytes(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): a text file is needed") from None


@contextmanager
def _bar(steps: int) -> Iterator[Callable]:
    """What to call with the Progress of each step: draws a bar on the standard error, and prints held-out losses."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=steps)

        def report(progress) -> None:
            description = f"loss {progress.loss:.3f}  rate {progress.rate:.5f}"
            bar.update(task, completed=progress.step, description=description)
            if progress.held_out is not None:
                print(f"step {progress.step}/{steps}  {description}  held-out loss {progress.held_out:.4f}", flush=True)

        yield report


def _tell(results: dict, out: Path) -> None:
    shares = ", ".join(f"{share:.0%}" for share in results["zero_shares"])
    print(
        f"Held-out loss {results['held_out_loss']:.4f} nats a symbol, {results['bits_per_character']:.4f} bits a "
        f"character (step {results['step']}); zero weights by layer: {shares}"
    )
    print(f"Model in {out}:")
    for path in sorted(out.iterdir()):
        print(f"  {path.name}")
