"""Training of a language model, step by step, and its loss on held-out symbols."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .kinds import AttentionKind
from .language_model import LanguageModel

__all__ = ["Trainer", "TrainingConfig", "choose_device", "evaluate", "train", "windows", "zero_shares"]

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; it then falls along a cosine to a tenth."""
CLIP_NORM = 1.0
EVALUATION_WINDOWS = 256


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train.

    Attributes
    ----------
    steps, batch, context
        Steps of ``batch`` random windows of ``context`` symbols.
    rate
        Highest learning rate (AdamW).
    seed
        Of the initial weights, the windows and dropout.
    weight_decay
        Of matrices.
    penalty
        Weight of :meth:`LanguageModel.activity` in what is minimised. See the card of the shipped models for
        what 0.004 does with the preset ``base``. Softmax has no zero weights and takes none.
    interval
        Steps between held-out losses and checkpoints of a run.
    keep_best
        A run ends with the weights of the lowest held-out loss seen, not with the last.
    """

    steps: int = 1500
    batch: int = 16
    context: int = 128
    rate: float = 3e-3
    seed: int = 0
    weight_decay: float = 0.05
    penalty: float = 0.0
    interval: int = 100
    keep_best: bool = True

    def __post_init__(self):
        for field in ("steps", "batch", "context", "interval"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}: 1 or more is needed")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is {self.rate}: a number between 0 and 1 is needed")
        for field in ("weight_decay", "penalty"):
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(f"{field} is {getattr(self, field)}: 0 or more is needed")

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)

    def rate_at(self, step: int) -> float:
        """Learning rate of one step."""
        warm_up = max(1, round(WARM_UP * self.steps))
        if step < warm_up:
            return self.rate * (step + 1) / warm_up
        progress = (step - warm_up) / max(1, self.steps - warm_up)
        return self.rate * (0.55 + 0.45 * math.cos(math.pi * progress))


def choose_device(name: str) -> torch.device:
    """``cpu``, ``cuda``, or ``auto``: a GPU if there is one.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {name}: auto, cpu or cuda is allowed")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda: PyTorch finds no GPU here: choose cpu, or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _objective(model: LanguageModel, symbols: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """(what is minimised, the loss in it) of windows (batch, context + 1)."""
    logits, records = model.run(symbols[:, :-1])
    loss = _loss(logits, symbols[:, 1:])
    return (loss + penalty * model.activity(records) if penalty else loss), loss


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


class Trainer:
    """Trains ``model`` in place on random windows of ``text``, (n,) integers on any device.

    On a GPU steps run in bfloat16 (weights stay float32); on a CPU in float32, where equal configurations give equal
    weights. ``compiled`` steps run through torch.compile. :meth:`state` and :meth:`restore` carry a run over to another
    process, which on a CPU then ends with the same weights.

    Raises
    ------
    ValueError
        If the text is not longer than a window, or the penalty means nothing to the model.
    """

    def __init__(self, model: LanguageModel, text: Tensor, config: TrainingConfig, *, compiled: bool = False):
        if len(text) <= config.context:
            raise ValueError(f"text has {len(text)} symbols: more than {config.context} (a window) are needed")
        if config.penalty and model.config.attention is AttentionKind.SOFTMAX:
            raise ValueError(f"penalty is {config.penalty}: softmax has no zero weights: 0 is needed")
        self.model, self.config, self.step = model, config, 0
        self._device = next(model.parameters()).device
        self._text = text.to(self._device)
        self._source = torch.Generator().manual_seed(config.seed)
        self._window = torch.arange(config.context + 1)
        matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
        vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self._optimiser = torch.optim.AdamW(groups, lr=config.rate, betas=(0.9, 0.95))
        self._objective = torch.compile(_objective) if compiled else _objective

    def advance(self) -> float:
        """Do a step and give its loss, without the penalty, in nats per symbol.

        Raises
        ------
        ValueError
            If training diverged: the loss is not finite.
        """
        self.model.train()
        for group in self._optimiser.param_groups:
            group["lr"] = self.config.rate_at(self.step)
        starts = torch.randint(len(self._text) - self.config.context, (self.config.batch, 1), generator=self._source)
        symbols = self._text[(starts + self._window).to(self._device)].long()
        with torch.autocast("cuda", torch.bfloat16) if self._device.type == "cuda" else nullcontext():
            objective, loss = self._objective(self.model, symbols, self.config.penalty)
        self._optimiser.zero_grad(set_to_none=True)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self._optimiser.step()
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(f"loss is {value} at step {self.step + 1}: training diverged: choose a lower rate")
        self.step += 1
        return value

    def state(self) -> dict:
        """All that the next steps depend on: tensors and plain values."""
        random = {"source": self._source.get_state(), "cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        return {
            "step": self.step,
            "weights": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "random": random,
        }

    def restore(self, state: dict) -> None:
        """Go on from a :meth:`state` of the same configuration."""
        self.step = state["step"]
        self.model.load_state_dict(state["weights"])
        self._optimiser.load_state_dict(state["optimiser"])
        random = state["random"]
        self._source.set_state(random["source"])
        torch.set_rng_state(random["cpu"])
        if self._device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"])


def train(
    model: LanguageModel,
    text: Tensor,
    config: TrainingConfig,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train in place; ``report(step, loss)`` is called after every step. Raises what :class:`Trainer` raises."""
    trainer = Trainer(model, text, config)
    for step in range(config.steps):
        report(step, trainer.advance())


def windows(text: Tensor, context: int, count: int = EVALUATION_WINDOWS) -> Tensor:
    """Up to ``count`` windows of ``context + 1`` symbols, evenly spread over the text: (count, context + 1).

    Raises
    ------
    ValueError
        If the text is not longer than a window.
    """
    if len(text) <= context:
        raise ValueError(f"held-out text has {len(text)} symbols: more than {context} (a window) are needed")
    count = min(count, len(text) // (context + 1))
    starts = torch.linspace(0, len(text) - context - 1, count).long()
    return text[(starts[:, None] + torch.arange(context + 1)).to(text.device)].long()


@torch.no_grad()
def evaluate(model: LanguageModel, text: Tensor, context: int, count: int = EVALUATION_WINDOWS) -> float:
    """Mean loss in nats per symbol over :func:`windows` of a held-out text on the model's device, in float32."""
    model.eval()
    chunks = windows(text, context, count).split(32)
    losses = [_loss(model(chunk[:, :-1]), chunk[:, 1:]).item() * len(chunk) for chunk in chunks]
    return sum(losses) / sum(map(len, chunks))


@torch.no_grad()
def zero_shares(model: LanguageModel, text: Tensor, context: int, count: int = 32) -> list[float]:
    """Per layer: the share of the weights on rows 0...t that are zero."""
    model.eval()
    _, records = model.run(windows(text, context, count)[:, :-1])
    return [block.attention.zero_share(record) for block, record in zip(model.blocks, records, strict=True)]
