"""Train a small language model on a text and keep a trace of its attention on held-out text.

>>> python -m reluctant.golden.train --text train.txt --valid valid.txt --out trace.npz --model model.pt

Text files may be compressed (``.xz``). The same options on the same machine give the same trace.
"""

import argparse
import lzma
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from .language_model import LanguageModel, ModelConfig, save_model
from .reference import AttentionKind
from .trace import Trace, make_trace, save_trace

__all__ = ["TrainingConfig", "evaluate", "read_text", "record_trace", "train", "zero_shares"]

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; it then falls along a cosine to a tenth."""
WEIGHT_DECAY = 0.05
CLIP_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long and how fast: ``steps`` of ``batch`` windows of ``context`` symbols, highest ``rate``, ``seed``."""

    steps: int = 1500
    batch: int = 16
    context: int = 128
    rate: float = 3e-3
    seed: int = 0

    def __post_init__(self):
        for field in ("steps", "batch", "context"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}: 1 or more is needed")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is {self.rate}: a number between 0 and 1 is needed")

    def rate_at(self, step: int) -> float:
        """Learning rate of one step."""
        warm_up = max(1, round(WARM_UP * self.steps))
        if step < warm_up:
            return self.rate * (step + 1) / warm_up
        progress = (step - warm_up) / max(1, self.steps - warm_up)
        return self.rate * (0.55 + 0.45 * math.cos(math.pi * progress))


def read_text(path: str | os.PathLike) -> Tensor:
    """The bytes of a file, unpacked if its name ends in ``.xz``, as a uint8 tensor."""
    data = Path(path).read_bytes()
    if os.fspath(path).endswith(".xz"):
        data = lzma.decompress(data)
    if not data:
        raise ValueError(f"{path}: empty, text is needed")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def train(
    model: LanguageModel,
    text: Tensor,
    config: TrainingConfig,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train in place on random windows of ``text``; ``report(step, loss)`` is called after every step.

    Raises
    ------
    ValueError
        If the text is not longer than a window.
    """
    if len(text) <= config.context:
        raise ValueError(f"text has {len(text)} symbols: more than {config.context} (a window) are needed")
    source = torch.Generator().manual_seed(config.seed)
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.95))
    window = torch.arange(config.context + 1)
    model.train()
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.rate_at(step)
        starts = torch.randint(len(text) - config.context, (config.batch, 1), generator=source)
        symbols = text[starts + window].long()
        loss = _loss(model(symbols[:, :-1]), symbols[:, 1:])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimiser.step()
        report(step, loss.item())


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _windows(text: Tensor, context: int, count: int) -> Tensor:
    """Up to ``count`` windows of ``context + 1`` symbols, evenly spread over the text: (count, context + 1)."""
    if len(text) <= context:
        raise ValueError(f"held-out text has {len(text)} symbols: more than {context} (a window) are needed")
    count = min(count, len(text) // (context + 1))
    starts = torch.linspace(0, len(text) - context - 1, count).long()
    return text[starts[:, None] + torch.arange(context + 1)].long()


@torch.no_grad()
def evaluate(model: LanguageModel, text: Tensor, context: int, windows: int = 256) -> float:
    """Mean loss in nats per symbol over windows spread evenly over a held-out text."""
    model.eval()
    chunks = _windows(text, context, windows).split(32)
    losses = [_loss(model(chunk[:, :-1]), chunk[:, 1:]).item() * len(chunk) for chunk in chunks]
    return sum(losses) / sum(map(len, chunks))


@torch.no_grad()
def zero_shares(model: LanguageModel, text: Tensor, context: int, windows: int = 32) -> list[float]:
    """Per layer: the share of the weights on rows 0...t that are zero."""
    model.eval()
    _, records = model.run(_windows(text, context, windows)[:, :-1])
    return [block.attention.zero_share(record) for block, record in zip(model.blocks, records, strict=True)]


@torch.no_grad()
def record_trace(model: LanguageModel, symbols: Tensor) -> Trace:
    """The trace of a model on one text, (tokens,).

    The gain of a ReLA model becomes units of the int8 output such that each layer's largest output is 127.
    """
    model.eval()
    _, records = model.run(symbols.long()[None])
    arrays = {name: torch.stack([getattr(record, name)[0] for record in records]) for name in ("q", "k", "v")}
    attentions = [block.attention for block in model.blocks]
    if attentions[0].theta is not None:
        arrays["theta"] = torch.stack([attention.theta for attention in attentions])
    if attentions[0].gain is not None and attentions[0].gate is None:
        peaks = torch.stack([record.output.abs().max() for record in records]).clamp(min=1e-6)
        gain = torch.stack([attention.gain for attention in attentions]) * 127 / peaks[:, None, None]
        arrays["gain"] = gain.clamp(-128, 128)
    return make_trace(**arrays)


# The command ----------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    model, training = ModelConfig(), TrainingConfig()
    parser = argparse.ArgumentParser(prog="python -m reluctant.golden.train", description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True, metavar="FILE", help="text to train on (.xz is unpacked)")
    parser.add_argument("--valid", metavar="FILE", help="held-out text; without it, the last twentieth of --text")
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="trace to write")
    parser.add_argument("--model", metavar="FILE.pt", help="weights to write")
    kinds = [kind.value for kind in AttentionKind]
    parser.add_argument("--attention", choices=kinds, default=model.attention.value)
    parser.add_argument("--threshold", action="store_true", help="learn a threshold per head (ReLA)")
    parser.add_argument("--gate", action="store_true", help="gate the output of ReLA")
    for name in ("layers", "heads", "kv_heads", "head_dim", "width", "hidden"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(model, name))
    for name in ("steps", "batch", "context", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(training, name))
    parser.add_argument("--rate", type=float, default=training.rate, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--trace-start", type=int, default=0, help="first held-out symbol of the trace")
    parser.add_argument("--trace-tokens", type=int, default=training.context)
    for action in parser._actions:
        if action.default not in (None, argparse.SUPPRESS, False) and "default" not in (action.help or ""):
            action.help = f"{action.help or ''} (default: %(default)s)".strip()
    return parser


def _texts(arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    text = read_text(arguments.text)
    if arguments.valid is not None:
        return text, read_text(arguments.valid)
    cut = len(text) - len(text) // 20
    return text[:cut], text[cut:]


def _run(arguments: argparse.Namespace) -> None:
    names = ("layers", "heads", "kv_heads", "head_dim", "width", "hidden", "attention", "threshold", "gate")
    model_config = ModelConfig(**{name: getattr(arguments, name) for name in names})
    names = ("steps", "batch", "context", "rate", "seed")
    config = TrainingConfig(**{name: getattr(arguments, name) for name in names})
    text, held_out = _texts(arguments)
    start, stop = arguments.trace_start, arguments.trace_start + arguments.trace_tokens
    if not 0 <= start < stop <= len(held_out):
        raise ValueError(f"trace is symbols {start} to {stop} of the held-out text: it has {len(held_out)}")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(config.seed)
    model = LanguageModel(model_config)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(text):,} symbols of text", flush=True)
    began = time.monotonic()

    def report(step: int, loss: float) -> None:
        if (step + 1) % 50 == 0 or step + 1 == config.steps:
            print(f"step {step + 1}/{config.steps}  loss {loss:.3f}  {time.monotonic() - began:.0f} s", flush=True)

    train(model, text, config, report)
    if arguments.model is not None:
        save_model(arguments.model, model)
    print(f"held-out loss {evaluate(model, held_out, config.context):.4f} nats/symbol")
    shares = zero_shares(model, held_out, config.context)
    print("zero weights by layer " + " ".join(f"{share:.3f}" for share in shares))
    save_trace(arguments.out, record_trace(model, held_out[start:stop]))
    print(f"wrote {arguments.out} ({Path(arguments.out).stat().st_size:,} bytes)")


def main(arguments: list[str] | None = None) -> int:
    """The command; exit code 0, or 2 for a mistake in the options or files, told in one line."""
    parsed = _parser().parse_args(arguments)
    try:
        _run(parsed)
    except (OSError, ValueError, lzma.LZMAError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
