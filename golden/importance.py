"""Which heads a model can do without: by gradients first, then by leaving them out.

The importance of a head is that of Michel, Levy, Neubig, "Are Sixteen Heads Really Better than One?", NeurIPS 2019: the
derivative of a window's loss with respect to a factor of 1 on the head's contexts, its magnitude averaged over windows,
divided by the L2 norm over the heads of the layer.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from .decoder import Decoder
from .evaluation import masked
from .head_mask import HeadMask

__all__ = ["Pruning", "Trial", "importance", "prune"]

BATCH = 4
CANDIDATES = 5
"""Heads that are left out in turn before one is dropped."""
NEGLIGIBLE = 0.1
"""A head that raises the loss by less than this part of its share of the limit is dropped without trying others."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A head that was left out on top of ``after`` others: the loss then, and whether it was dropped for good."""

    after: int
    layer: int
    head: int
    importance: float
    loss: float
    dropped: bool


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What :func:`prune` did.

    Attributes
    ----------
    mask
        Heads that were dropped.
    wanted
        How many were to be dropped; fewer are where the loss would rise too much.
    loss
        With all heads, in nats a token.
    trials
        In the order in which heads were tried.
    importance
        (layers, heads)
    """

    mask: HeadMask
    wanted: int
    loss: float
    trials: tuple[Trial, ...]
    importance: tuple[tuple[float, ...], ...]

    @property
    def pruned_loss(self) -> float:
        """With the mask."""
        return next((trial.loss for trial in reversed(self.trials) if trial.dropped), self.loss)

    def as_dict(self) -> dict:
        """Plain values, for JSON; ``curve`` is the loss with 0, 1, ... heads dropped."""
        values = asdict(self)
        del values["mask"]
        curve = [self.loss, *(trial.loss for trial in self.trials if trial.dropped)]
        return values | {"dropped": self.mask.dropped, "pruned_loss": self.pruned_loss, "curve": curve}


def _losses(decoder: Decoder, chunk: Tensor, masks: Tensor) -> Tensor:
    """(batch,): mean loss of each window (batch, context + 1)."""
    logits = decoder.forward(chunk[:, :-1], masked(decoder.attention, masks))
    return functional.cross_entropy(logits.transpose(1, 2), chunk[:, 1:], reduction="none").mean(1)


@torch.enable_grad()
def importance(decoder: Decoder, windows: Tensor, progress: Callable[[int], None] = lambda windows: None) -> Tensor:
    """Importance of each head, (layers, heads), on windows (n, context + 1) of symbols; float attention.

    A layer none of whose heads matters has zeros.
    """
    config, total = decoder.config, 0
    for chunk in windows.split(BATCH):
        masks = torch.ones(config.layers, len(chunk), config.heads, requires_grad=True)
        (gradient,) = torch.autograd.grad(_losses(decoder, chunk, masks).sum(), masks)
        total = total + gradient.abs().sum(1)
        progress(len(chunk))
    return functional.normalize(total / len(windows), dim=1)


@torch.no_grad()
def _loss(decoder: Decoder, windows: Tensor, mask: HeadMask) -> float:
    kept = [[not off for off in mask.of_layer(layer)] for layer in range(decoder.config.layers)]
    masks = torch.tensor(kept).float()
    return torch.cat([_losses(decoder, chunk, masks) for chunk in windows.split(BATCH)]).double().mean().item()


def prune(
    decoder: Decoder,
    windows: Tensor,
    share: float,
    *,
    limit: float,
    check: int | None = None,
    progress: Callable[[int], None] = lambda windows: None,
) -> Pruning:
    """Drop heads one by one: of the few least important ones left, that without which the loss is lowest.

    It ends early when the loss would be more than ``limit`` above that of the model with all heads.

    Parameters
    ----------
    windows
        (n, context + 1): symbols.
    share
        Of all heads, 0 to 1.
    limit
        Rise of the loss, in nats a token, with all heads dropped.
    check
        Windows of which heads are left out, evenly chosen; all without it.
    progress
        Called with the number of windows behind their gradients, and with 0 behind each head that was dropped.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"drop is {share}: 0 to 1 is allowed")
    if not limit >= 0:
        raise ValueError(f"limit is {limit}: 0 or more is needed")
    config = decoder.config
    ranks = importance(decoder, windows, progress)
    shown = windows if check is None else windows[torch.linspace(0, len(windows) - 1, min(check, len(windows))).long()]
    wanted = round(share * config.layers * config.heads)
    left = [divmod(int(index), config.heads) for index in ranks.flatten().argsort(stable=True)]
    dropped: list[tuple[int, int]] = []
    trials: list[Trial] = []
    whole = loss = _loss(decoder, shown, HeadMask.of(config.layers, config.heads))
    while len(dropped) < wanted:
        first = len(trials)
        for layer, head in left[:CANDIDATES]:
            without = _loss(decoder, shown, HeadMask.of(config.layers, config.heads, [*dropped, (layer, head)]))
            rank = ranks[layer, head].item()
            trial = Trial(after=len(dropped), layer=layer, head=head, importance=rank, loss=without, dropped=False)
            trials.append(trial)
            if without - loss <= NEGLIGIBLE * limit / wanted:
                break
        best = min(range(first, len(trials)), key=lambda index: trials[index].loss)
        if trials[best].loss - whole > limit:
            break
        trials[best] = replace(trials[best], dropped=True)
        loss = trials[best].loss
        dropped.append((trials[best].layer, trials[best].head))
        left.remove(dropped[-1])
        progress(0)
    return Pruning(
        mask=HeadMask.of(config.layers, config.heads, dropped),
        wanted=wanted,
        loss=whole,
        trials=tuple(trials),
        importance=tuple(map(tuple, ranks.tolist())),
    )
