"""How well a configuration predicts the held-out text, by the integer model."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from reluctant.golden.policies import Policy

if TYPE_CHECKING:
    from torch import Tensor

    from reluctant.golden.deployed import DeployedModel
    from reluctant.golden.unit_attention import UnitOptions

__all__ = ["difference", "measure_loss", "stride_of"]

BATCH = 32
SLOW_STRIDE = 8
"""DMS lets each window keep another number of rows, so windows cannot run together: one in so many has to do."""


def stride_of(options: "UnitOptions") -> int:
    """One window in so many is evaluated."""
    policies = options.policy if isinstance(options.policy, tuple) else (options.policy,)
    return SLOW_STRIDE if any(item and item.policy is Policy.DMS for item in policies) else 1


def measure_loss(
    model: "DeployedModel",
    options: "UnitOptions",
    windows: "Tensor",
    progress: Callable[[int], None] = lambda windows: None,
) -> dict:
    """Of windows (n, context + 1) of symbols; plain values, for JSON: those of an evaluation, and each layer's."""
    from reluctant.golden.evaluation import evaluate_windows
    from reluctant.golden.unit_attention import UnitAttention

    stride = stride_of(options)
    attention = UnitAttention(model, options)
    result = evaluate_windows(
        model.decoder,
        model.tokenizer,
        windows[::stride],
        attend=attention,
        counts=model.counts,
        batch=BATCH,
        progress=progress,
    )
    return {**result.as_dict(), "stride": stride, "layers": [part.as_dict() for part in attention.activity]}


def difference(loss: dict, reference: dict) -> dict:
    """``mean`` rise of the loss over that of a reference, window by window, and its ``standard_error``."""
    from reluctant.golden.evaluation import standard_error

    others = reference["window_losses"][:: loss["stride"] // reference["stride"]]
    rises = [one - other for one, other in zip(loss["window_losses"], others, strict=True)]
    return {"mean": sum(rises) / len(rises), "standard_error": standard_error(rises)}
