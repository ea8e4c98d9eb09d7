"""Float reference of attention, batched, causal and differentiable: what models train with and quality is judged by.

Shapes: queries (batch, heads, T, d), keys and values (batch, kv_heads, T, d); heads share KV heads in groups of
consecutive heads. Token t attends to rows 0...t.

References
----------
ReLA: Zhang, Titov, Sennrich, "Sparse Attention with Linear Units", EMNLP 2021 (RMS over all heads of a layer, gain,
optional gate). ReLU/L: Wortsman, Lee, Gilmer, Kornblith, "Replacing softmax with ReLU in vision transformers", 2023.
"""

import math
from enum import StrEnum

import torch
from torch import Tensor

__all__ = ["EPSILON", "AttentionKind", "attention", "length_attention", "rela", "scores", "softmax_attention"]

EPSILON = 1e-6
"""Added to the mean of squares; the unit adds nothing and gives zeros for zeros."""


class AttentionKind(StrEnum):
    """How a layer turns scores into contexts."""

    SOFTMAX = "softmax"
    RELA_HEAD = "rela_head"
    RELA_LAYER = "rela_layer"
    LENGTH = "length"


def scores(q: Tensor, k: Tensor) -> Tensor:
    """``q . k / sqrt(d)``: (batch, heads, T, T), rows not yet there included."""
    batch, heads, tokens, head_dim = q.shape
    grouped = q.reshape(batch, k.shape[1], -1, head_dim)
    return (grouped @ k.transpose(2, 3)).reshape(batch, heads, tokens, k.shape[2]) / math.sqrt(head_dim)


def _contexts(weights: Tensor, v: Tensor) -> Tensor:
    batch, heads, tokens, rows = weights.shape
    return (weights.reshape(batch, v.shape[1], -1, rows) @ v).reshape(batch, heads, tokens, v.shape[3])


def _future(values: Tensor) -> Tensor:
    """True where row > token."""
    return torch.ones(values.shape[-2:], dtype=torch.bool, device=values.device).triu(1)


def _relu_contexts(q: Tensor, k: Tensor, v: Tensor, theta: Tensor | float) -> Tensor:
    """ReLU(scores - theta) V; theta is a number or has one entry a head."""
    if isinstance(theta, Tensor):
        theta = theta.reshape(-1, 1, 1)
    shifted = scores(q, k) - theta
    return _contexts(shifted.relu().masked_fill(_future(shifted), 0), v)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``softmax(q . k / sqrt(d)) V``: (batch, heads, T, d)."""
    values = scores(q, k)
    return _contexts(values.masked_fill(_future(values), -math.inf).softmax(dim=-1), v)


def rela(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    theta: Tensor | float = 0.0,
    gain: Tensor | float = 1.0,
    gate: Tensor | None = None,
    whole_layer: bool = False,
    epsilon: float = EPSILON,
) -> Tensor:
    """``ReLU(scores - theta) V``, divided by its root mean square, times gain: (batch, heads, T, d).

    Parameters
    ----------
    theta
        Threshold, a number or (heads,).
    gain
        A number or (heads, d).
    gate
        (heads, d) or None: the result is multiplied by ``sigmoid(gate * context)`` too.
    whole_layer
        One root mean square for all heads of the layer, as in the paper, instead of one a head.
    """
    context = _relu_contexts(q, k, v, theta)
    mean = context.square().mean(dim=(1, 3) if whole_layer else 3, keepdim=True)
    if isinstance(gain, Tensor):
        gain = gain[:, None, :]
    output = context * (mean + epsilon).rsqrt() * gain
    return output if gate is None else output * torch.sigmoid(gate[:, None, :] * context)


def length_attention(
    q: Tensor, k: Tensor, v: Tensor, *, theta: Tensor | float = 0.0, alpha: Tensor | float = 1.0
) -> Tensor:
    """ReLU/L: ``alpha * ReLU(scores - theta) V / n`` with n = t + 1 rows: (batch, heads, T, d).

    ``theta`` and ``alpha`` are numbers or (heads,).
    """
    if isinstance(alpha, Tensor):
        alpha = alpha.reshape(-1, 1, 1)
    rows = torch.arange(1, q.shape[2] + 1, device=q.device, dtype=q.dtype)[:, None]
    return _relu_contexts(q, k, v, theta) * alpha / rows


def attention(
    kind: AttentionKind,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    theta: Tensor | float = 0.0,
    gain: Tensor | float = 1.0,
    gate: Tensor | None = None,
    alpha: Tensor | float = 1.0,
) -> Tensor:
    """Attention of one kind; what a kind has no use for is ignored."""
    if kind is AttentionKind.SOFTMAX:
        return softmax_attention(q, k, v)
    if kind is AttentionKind.LENGTH:
        return length_attention(q, k, v, theta=theta, alpha=alpha)
    return rela(q, k, v, theta=theta, gain=gain, gate=gate, whole_layer=kind is AttentionKind.RELA_LAYER)
