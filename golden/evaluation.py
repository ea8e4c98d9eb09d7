"""How well a model predicts held-out text, with whatever computes its attention."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from .decoder import Attend, Decoder
from .tokenizer import Tokenizer
from .trainer import windows

__all__ = [
    "Ablation",
    "Evaluation",
    "Group",
    "ablated",
    "evaluate",
    "evaluate_windows",
    "frequency_groups",
    "masked",
    "standard_error",
]

GROUPS = 5
LOGITS_AT_ONCE = 1 << 25
LEAST_BATCH = 3
"""Batches of almost equal size, none larger than this or more, have two windows each where there are two at all."""


class Ablation(StrEnum):
    """What is done to a layer's contexts: ``shuffle`` gives each window those of the next one, ``remove`` zeros."""

    SHUFFLE = "shuffle"
    REMOVE = "remove"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Symbols that were alike in frequency in the training text.

    Attributes
    ----------
    least, most
        Of their counts there.
    symbols
        Number of symbols.
    tokens, loss
        Held-out tokens that are one of them, and their mean loss in nats (None without tokens).
    """

    least: int
    most: int
    symbols: int
    tokens: int
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out loss.

    Attributes
    ----------
    windows, context, tokens
        Windows, tokens that were predicted in each, and in all.
    loss
        Mean, in nats a token.
    bits_per_character
        The same in bits for each character that starts in the tokens predicted.
    groups
        The most frequent symbols first; empty where their counts are not known.
    window_losses
        Mean of each window, in the order of the text.
    """

    windows: int
    context: int
    tokens: int
    loss: float
    bits_per_character: float
    groups: tuple[Group, ...]
    window_losses: tuple[float, ...]

    @property
    def standard_error(self) -> float | None:
        """Of the loss, were the windows drawn at random; None of a single window."""
        return standard_error(self.window_losses)

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        values = asdict(self) | {"groups": [asdict(group) for group in self.groups]}
        return values | {"standard_error": self.standard_error, "window_losses": list(self.window_losses)}


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean of independent values; None of fewer than two."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def masked(attend: Attend, masks: Tensor) -> Attend:
    """``attend`` with contexts times ``masks``, (layers, heads) or (layers, batch, heads); differentiable."""
    return lambda layer, q, k, v: attend(layer, q, k, v) * masks[layer][..., None, None]


def ablated(attend: Attend, ablations: Mapping[int, Ablation]) -> Attend:
    """``attend`` with the contexts of some layers (keys) damaged."""

    def damaged(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        what = ablations.get(layer)
        if what is Ablation.REMOVE:
            return torch.zeros_like(q)
        contexts = attend(layer, q, k, v)
        if what is None:
            return contexts
        if len(contexts) < 2:
            raise ValueError("shuffle needs two windows: evaluate more tokens")
        return contexts.roll(1, 0)

    return damaged


def evaluate(
    decoder: Decoder,
    tokenizer: Tokenizer,
    symbols: Tensor,
    *,
    context: int | None = None,
    count: int | None = None,
    **rest,
) -> Evaluation:
    """The loss on windows of held-out symbols (n,), evenly spread, each from an empty context.

    Parameters
    ----------
    context
        Tokens predicted in a window; those of the model's training without it.
    count
        Windows at most; as many as the text has without it.
    rest
        As in :func:`evaluate_windows`.

    Raises
    ------
    ValueError
        If the text is not longer than a window, or the attention refuses.
    """
    context = decoder.config.context if context is None else context
    whole = max(1, len(symbols) // (context + 1))
    chosen = windows(symbols, context, whole if count is None else min(count, whole))
    return evaluate_windows(decoder, tokenizer, chosen, **rest)


@torch.no_grad()
def evaluate_windows(
    decoder: Decoder,
    tokenizer: Tokenizer,
    chosen: Tensor,
    *,
    attend: Attend | None = None,
    counts: Tensor | None = None,
    batch: int = 8,
    progress: Callable[[int], None] = lambda windows: None,
) -> Evaluation:
    """The loss on windows (n, context + 1) of symbols, each from an empty context.

    Parameters
    ----------
    attend
        Computes the attention; the model's own in float without it.
    counts
        (vocabulary,): how often each symbol is in the training text.
    batch
        Windows at a time, at most.
    progress
        Called with the number of windows that are done.

    Raises
    ------
    ValueError
        If the attention refuses.
    """
    context = chosen.shape[1] - 1
    size = max(LEAST_BATCH, min(batch, LOGITS_AT_ONCE // (context * decoder.config.vocabulary)))
    losses = []
    for chunk in chosen.tensor_split(-(-len(chosen) // size)):
        logits = decoder.forward(chunk[:, :-1], attend)
        losses.append(functional.cross_entropy(logits.flatten(0, 1), chunk[:, 1:].flatten(), reduction="none"))
        progress(len(chunk))
    targets, loss = chosen[:, 1:].flatten(), torch.cat(losses).double()
    characters = max(1, tokenizer.characters(targets.numpy()))
    return Evaluation(
        windows=len(chosen),
        context=context,
        tokens=len(targets),
        loss=loss.mean().item(),
        bits_per_character=loss.sum().item() / math.log(2) / characters,
        groups=() if counts is None else frequency_groups(counts, targets, loss),
        window_losses=tuple(loss.view(len(chosen), context).mean(1).tolist()),
    )


def frequency_groups(counts: Tensor, targets: Tensor, loss: Tensor) -> tuple[Group, ...]:
    """Quintiles of the symbols by ``counts`` (vocabulary,): losses (n,) of targets (n,) in each."""
    groups = []
    for members in counts.argsort(descending=True, stable=True).tensor_split(GROUPS):
        if not len(members):
            continue
        inside = torch.isin(targets, members)
        tokens = int(inside.sum())
        groups.append(
            Group(
                least=int(counts[members].min()),
                most=int(counts[members].max()),
                symbols=len(members),
                tokens=tokens,
                loss=loss[inside].mean().item() if tokens else None,
            )
        )
    return tuple(groups)
