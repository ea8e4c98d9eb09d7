"""A small decoder language model over bytes or byte pairs, with any kind of attention."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .reference import AttentionKind, attention, scores

__all__ = ["LanguageModel", "LayerRecord", "ModelConfig", "rotate"]

ROPE_BASE = 10_000.0
FIRST_THETA = -0.5
"""Threshold that ``relu_sum`` starts with: most rows take part at first, and all learn."""
ACTIVITY_WIDTH = 0.5
"""Units of score over which :meth:`LanguageModel.activity` goes from not counting a weight to counting it."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and choices of a :class:`LanguageModel`.

    Attributes
    ----------
    layers, heads, kv_heads, head_dim
        Of the attention; ``kv_heads`` divides ``heads``, ``head_dim`` is even (rotary positions turn pairs).
    width
        Elements of the residual stream.
    hidden
        Neurons of a ReLU feed-forward layer.
    vocabulary
        Symbols: 256 for bytes.
    attention
        :class:`reference.AttentionKind`.
    threshold
        Learn a threshold per head (ReLA); ``length`` and ``relu_sum`` always learn one.
    gate
        Gate the output of ReLA.
    dropout
        Share of the elements of the embeddings and of each layer's outputs that training drops.
    """

    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    width: int = 128
    hidden: int = 512
    vocabulary: int = 256
    attention: AttentionKind = AttentionKind.RELA_HEAD
    threshold: bool = False
    gate: bool = False
    dropout: float = 0.0

    def __post_init__(self):
        for field in ("layers", "heads", "kv_heads", "head_dim", "width", "hidden", "vocabulary"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}: 1 or more is needed")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads is {self.kv_heads}: a divisor of heads ({self.heads}) is allowed")
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}: an even number is needed")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: 0 or more, and less than 1, is needed")
        object.__setattr__(self, "attention", AttentionKind(self.attention))

    def as_dict(self) -> dict:
        """Plain values, for JSON; ``ModelConfig(**values)`` is the same configuration."""
        return asdict(self) | {"attention": self.attention.value}


@dataclass(frozen=True)
class LayerRecord:
    """What one layer's attention took and gave, (batch, heads, T, d): q, k, v (positions applied) and its contexts.

    ``output`` are the contexts that the output projection takes: normalised, gated, and 0 where a mask is.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    output: Tensor


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Rotary positions: (..., T, d) with element i and i + d/2 turned by ``position * base**(-2i/d)``."""
    half = x.shape[-1] // 2
    frequency = ROPE_BASE ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = positions[:, None].to(torch.float32) * frequency
    cosine, sine = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    low, high = x[..., :half], x[..., half:]
    return torch.cat((low * cosine - high * sine, low * sine + high * cosine), dim=-1)


def fused_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """:func:`reference.softmax_attention` by PyTorch's kernel, which keeps no scores."""
    shared = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Attention(nn.Module):
    """Projections around :func:`reference.attention`. ``forward`` gives (output of the layer, its record).

    The sink of ``relu_sum`` is ``softplus(sink)``, so that it stays positive.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        heads, head_dim, kind = config.heads, config.head_dim, config.attention
        self.query = nn.Linear(config.width, heads * head_dim, bias=False)
        self.key = nn.Linear(config.width, config.kv_heads * head_dim, bias=False)
        self.value = nn.Linear(config.width, config.kv_heads * head_dim, bias=False)
        self.output = nn.Linear(heads * head_dim, config.width, bias=False)
        is_rela = kind in (AttentionKind.RELA_HEAD, AttentionKind.RELA_LAYER)
        is_sum = kind is AttentionKind.RELU_SUM
        learns_theta = is_sum or kind is AttentionKind.LENGTH or (is_rela and config.threshold)
        first = torch.full((heads,), FIRST_THETA if is_sum else 0.0)
        self.theta = nn.Parameter(first) if learns_theta else None
        self.alpha = nn.Parameter(torch.ones(heads)) if kind is AttentionKind.LENGTH else None
        self.sink = nn.Parameter(torch.zeros(heads)) if is_sum else None
        self.gain = nn.Parameter(torch.ones(heads, head_dim)) if is_rela else None
        self.gate = nn.Parameter(torch.zeros(heads, head_dim)) if is_rela and config.gate else None

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, LayerRecord]:
        batch, tokens, _ = x.shape

        def split(projected: Tensor) -> Tensor:
            return projected.reshape(batch, tokens, -1, self.config.head_dim).transpose(1, 2)

        q, k = rotate(split(self.query(x)), positions), rotate(split(self.key(x)), positions)
        v = split(self.value(x))
        context = self._contexts(q, k, v)
        if mask is not None:
            context = context * mask[..., None, None]
        return self.output(context.transpose(1, 2).reshape(batch, tokens, -1)), LayerRecord(q, k, v, context)

    def _contexts(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.config.attention is AttentionKind.SOFTMAX and q.is_cuda:
            return fused_softmax(q, k, v)
        sink = None if self.sink is None else functional.softplus(self.sink)
        settings = {"theta": self.theta, "gain": self.gain, "gate": self.gate, "alpha": self.alpha, "sink": sink}
        settings = {name: value for name, value in settings.items() if value is not None}
        return attention(self.config.attention, q, k, v, **settings)

    def _above(self, record: LayerRecord) -> tuple[Tensor, Tensor]:
        """(score - theta of all rows (batch, heads, T, T), where rows are 0...t)."""
        values = scores(record.q, record.k)
        visible = torch.ones(values.shape[-2:], dtype=torch.bool, device=values.device).tril()
        return (values if self.theta is None else values - self.theta.reshape(-1, 1, 1)), visible

    def zero_share(self, record: LayerRecord) -> float:
        """Share of the weights on rows 0...t that ReLU makes zero (0 for softmax)."""
        if self.config.attention is AttentionKind.SOFTMAX:
            return 0.0
        above, visible = self._above(record)
        return (above <= 0)[visible.expand_as(above)].float().mean().item()

    def activity(self, record: LayerRecord) -> Tensor:
        """:meth:`LanguageModel.activity` of one layer."""
        above, visible = self._above(record)
        counted = torch.sigmoid(above.float() / ACTIVITY_WIDTH) * visible
        return counted.sum() / (counted.shape[:2].numel() * visible.sum())


class Block(nn.Module):
    """Attention and a ReLU feed-forward layer, each behind an RMS norm and beside the residual stream."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.width)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, LayerRecord]:
        attended, record = self.attention(self.attention_norm(x), positions, mask)
        x = x + self.dropout(attended)
        return x + self.dropout(self.down(self.up(self.feed_forward_norm(x)).relu())), record


class LanguageModel(nn.Module):
    """Logits of the next symbol, (batch, T, vocabulary), of symbols (batch, T), int64.

    ``masks``, (layers, heads) or (layers, batch, heads), multiply the contexts of the heads: 0 prunes a head, and a
    gradient with respect to a mask of ones is the head's importance.

    Initial weights follow PyTorch's global seed. The output projection is the embedding's transpose.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and not name.endswith((".gain", ".gate")):
                depth = (2 * config.layers) ** -0.5 if name.endswith(("output.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=depth * config.width**-0.5)

    def forward(self, symbols: Tensor, masks: Tensor | None = None) -> Tensor:
        return self.run(symbols, masks)[0]

    def run(self, symbols: Tensor, masks: Tensor | None = None) -> tuple[Tensor, list[LayerRecord]]:
        """(logits, a record per layer)."""
        positions = torch.arange(symbols.shape[1], device=symbols.device)
        x, records = self.dropout(self.embedding(symbols)), []
        for layer, block in enumerate(self.blocks):
            x, record = block(x, positions, None if masks is None else masks[layer])
            records.append(record)
        return self.norm(x) @ self.embedding.weight.T, records

    def activity(self, records: list[LayerRecord]) -> Tensor:
        """A differentiable stand-in for the share of weights that are not zero, a scalar from 0 to 1.

        The mean over layers, sequences, heads and rows 0...t of ``sigmoid((score - theta) / ACTIVITY_WIDTH)``. Training
        that adds it to the loss, times a penalty, makes attention sparser.
        """
        layers = zip(self.blocks, records, strict=True)
        return torch.stack([block.attention.activity(record) for block, record in layers]).mean()
