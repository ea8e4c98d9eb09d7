"""Float reference of attention, batched, causal and differentiable: what models train with and quality is judged by.

Shapes: queries (batch, heads, T, d), keys and values (batch, kv_heads, T, d); heads share KV heads in groups of
consecutive heads. Token t attends to rows 0...t. With scores ``s_j = q . k_j / sqrt(d)``, weights
``w_j = ReLU(s_j - theta)`` and sums over the rows j:

============== ===========================================================================================
``softmax``    ``sum exp(s_j) v_j / sum exp(s_j)``
``rela_head``  ``c / rms(c) * gain`` with ``c = sum w_j v_j``, the root mean square over one head
``rela_layer`` the same, the root mean square over all heads of the layer
``length``     ``alpha * sum w_j v_j / (t + 1)``
``relu_sum``   ``sum w_j v_j / (sum w_j + sink)``: an average of the rows above the threshold and of a zero row
============== ===========================================================================================

References
----------
ReLA: Zhang, Titov, Sennrich, "Sparse Attention with Linear Units", EMNLP 2021 (RMS over all heads of a layer, gain,
optional gate). ReLU/L: Wortsman, Lee, Gilmer, Kornblith, "Replacing softmax with ReLU in vision transformers", 2023.
"""

import math

import torch
from torch import Tensor

from .kinds import AttentionKind

__all__ = [
    "EPSILON",
    "AttentionKind",
    "attention",
    "length_attention",
    "rela",
    "relu_sum",
    "scores",
    "softmax_attention",
]

EPSILON = 1e-6
"""Added to the mean of squares and to the sum of weights; the unit adds nothing and gives zeros for zeros."""


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


def _by_head(setting: Tensor | float) -> Tensor | float:
    """A number, or (heads,) as (heads, 1, 1), to meet (batch, heads, T, anything)."""
    return setting.reshape(-1, 1, 1) if isinstance(setting, Tensor) else setting


def _wide(values: Tensor) -> torch.dtype:
    """float32 at least: means and sums of bfloat16 would be off by a percent."""
    return torch.promote_types(values.dtype, torch.float32)


def _relu_weights(q: Tensor, k: Tensor, theta: Tensor | float) -> Tensor:
    """ReLU(scores - theta), 0 for rows not yet there: (batch, heads, T, T)."""
    shifted = scores(q, k) - _by_head(theta)
    return shifted.relu().masked_fill(_future(shifted), 0)


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
    context = _contexts(_relu_weights(q, k, theta), v)
    mean = context.to(_wide(context)).square().mean(dim=(1, 3) if whole_layer else 3, keepdim=True)
    if isinstance(gain, Tensor):
        gain = gain[:, None, :]
    output = context * (mean + epsilon).rsqrt().to(context.dtype) * gain
    return output if gate is None else output * torch.sigmoid(gate[:, None, :] * context)


def length_attention(
    q: Tensor, k: Tensor, v: Tensor, *, theta: Tensor | float = 0.0, alpha: Tensor | float = 1.0
) -> Tensor:
    """ReLU/L: ``alpha * ReLU(scores - theta) V / n`` with n = t + 1 rows: (batch, heads, T, d).

    ``theta`` and ``alpha`` are numbers or (heads,).
    """
    rows = torch.arange(1, q.shape[2] + 1, device=q.device, dtype=_wide(q))[:, None]
    return (_contexts(_relu_weights(q, k, theta), v) * _by_head(alpha) / rows).to(v.dtype)


def relu_sum(q: Tensor, k: Tensor, v: Tensor, *, theta: Tensor | float = 0.0, sink: Tensor | float = 0.0) -> Tensor:
    """``ReLU(scores - theta) V / (sum of ReLU(scores - theta) + sink)``: (batch, heads, T, d).

    ``theta`` and ``sink``, which is not negative, are numbers or (heads,), in units of scores. The sink makes contexts
    of little weight small, instead of scaling their noise up.
    """
    weights = _relu_weights(q, k, theta)
    total = weights.sum(dim=-1, keepdim=True, dtype=_wide(weights))
    return (_contexts(weights, v) / (total + _by_head(sink) + EPSILON)).to(v.dtype)


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
    sink: Tensor | float = 0.0,
) -> Tensor:
    """Attention of one kind; what a kind has no use for is ignored."""
    if kind is AttentionKind.SOFTMAX:
        return softmax_attention(q, k, v)
    if kind is AttentionKind.LENGTH:
        return length_attention(q, k, v, theta=theta, alpha=alpha)
    if kind is AttentionKind.RELU_SUM:
        return relu_sum(q, k, v, theta=theta, sink=sink)
    return rela(q, k, v, theta=theta, gain=gain, gate=gate, whole_layer=kind is AttentionKind.RELA_LAYER)
