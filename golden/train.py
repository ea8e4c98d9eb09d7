"""Train a small language model on a text's bytes and keep a trace of its attention on held-out text.

>>> python -m reluctant.golden.train --text train.txt --valid valid.txt --out trace.npz --model model

Text files may be compressed (``.xz``). The same options on the same machine give the same trace. Models that are to be
kept are better trained by ``reluctant train``, which also resumes; its modules are :mod:`trainer` and :mod:`pretrain`.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint import save_model
from .errors import UserError
from .language_model import LanguageModel, ModelConfig
from .reference import AttentionKind
from .tokenizer import read_bytes
from .trace import Trace, make_trace, save_trace
from .trainer import TrainingConfig, evaluate, train, zero_shares

__all__ = ["record_trace"]


@torch.no_grad()
def record_trace(model: LanguageModel, symbols: Tensor) -> Trace:
    """The trace of a model on one text, (tokens,).

    The gain of a ReLA model becomes units of the int8 output such that each layer's largest output is 127. The sink is
    stored as the model uses it, positive.
    """
    model.eval()
    _, records = model.run(symbols.long()[None])
    arrays = {name: torch.stack([getattr(record, name)[0] for record in records]) for name in ("q", "k", "v")}
    attentions = [block.attention for block in model.blocks]
    if attentions[0].theta is not None:
        arrays["theta"] = torch.stack([attention.theta for attention in attentions])
    if attentions[0].sink is not None:
        arrays["sink"] = torch.stack([torch.nn.functional.softplus(attention.sink) for attention in attentions])
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
    parser.add_argument("--model", metavar="FOLDER", help="model to write")
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


def _read(path: str) -> Tensor:
    return torch.frombuffer(bytearray(read_bytes(path)), dtype=torch.uint8)


def _texts(arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    text = _read(arguments.text)
    if arguments.valid is not None:
        return text, _read(arguments.valid)
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
        save_model(arguments.model, model, half=False, training=config.as_dict())
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
    except (OSError, ValueError, UserError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
