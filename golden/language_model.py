"""A small decoder language model over bytes, whose attention is softmax, ReLA or ReLU/L."""

import os
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from .reference import AttentionKind, attention, scores

__all__ = ["LanguageModel", "LayerRecord", "ModelConfig", "load_model", "rotate", "save_model"]

ROPE_BASE = 10_000.0


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
        Learn a threshold per head (ReLA); ``length`` always learns one.
    gate
        Gate the output of ReLA.
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

    def __post_init__(self):
        for field in ("layers", "heads", "kv_heads", "head_dim", "width", "hidden", "vocabulary"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}: 1 or more is needed")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads is {self.kv_heads}: a divisor of heads ({self.heads}) is allowed")
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}: an even number is needed")
        object.__setattr__(self, "attention", AttentionKind(self.attention))


@dataclass(frozen=True)
class LayerRecord:
    """What one layer's attention took and gave: q, k, v (positions applied) and its output, (batch, heads, T, d)."""

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


class Attention(nn.Module):
    """Projections around :func:`reference.attention`. ``forward`` gives (output of the layer, its record)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        heads, head_dim, kind = config.heads, config.head_dim, config.attention
        self.query = nn.Linear(config.width, heads * head_dim, bias=False)
        self.key = nn.Linear(config.width, config.kv_heads * head_dim, bias=False)
        self.value = nn.Linear(config.width, config.kv_heads * head_dim, bias=False)
        self.output = nn.Linear(heads * head_dim, config.width, bias=False)
        is_rela = kind in (AttentionKind.RELA_HEAD, AttentionKind.RELA_LAYER)
        learns_theta = kind is AttentionKind.LENGTH or (is_rela and config.threshold)
        self.theta = nn.Parameter(torch.zeros(heads)) if learns_theta else None
        self.alpha = nn.Parameter(torch.ones(heads)) if kind is AttentionKind.LENGTH else None
        self.gain = nn.Parameter(torch.ones(heads, head_dim)) if is_rela else None
        self.gate = nn.Parameter(torch.zeros(heads, head_dim)) if is_rela and config.gate else None

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, LayerRecord]:
        batch, tokens, _ = x.shape

        def split(projected: Tensor) -> Tensor:
            return projected.reshape(batch, tokens, -1, self.config.head_dim).transpose(1, 2)

        q, k = rotate(split(self.query(x)), positions), rotate(split(self.key(x)), positions)
        v = split(self.value(x))
        settings = {"theta": self.theta, "gain": self.gain, "gate": self.gate, "alpha": self.alpha}
        settings = {name: value for name, value in settings.items() if value is not None}
        result = attention(self.config.attention, q, k, v, **settings)
        return self.output(result.transpose(1, 2).reshape(batch, tokens, -1)), LayerRecord(q, k, v, result)

    def zero_share(self, record: LayerRecord) -> float:
        """Share of the weights on rows 0...t that ReLU makes zero (0 for softmax)."""
        if self.config.attention is AttentionKind.SOFTMAX:
            return 0.0
        values = scores(record.q, record.k)
        theta = 0.0 if self.theta is None else self.theta.reshape(-1, 1, 1)
        visible = torch.ones(values.shape[-2:], dtype=torch.bool, device=values.device).tril().expand_as(values)
        return (values <= theta)[visible].float().mean().item()


class Block(nn.Module):
    """Attention and a ReLU feed-forward layer, each behind an RMS norm and beside the residual stream."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width)
        self.attention = Attention(config)
        self.feed_forward_norm = nn.RMSNorm(config.width)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, LayerRecord]:
        attended, record = self.attention(self.attention_norm(x), positions)
        x = x + attended
        return x + self.down(self.up(self.feed_forward_norm(x)).relu()), record


class LanguageModel(nn.Module):
    """Logits of the next symbol, (batch, T, vocabulary), of symbols (batch, T), int64.

    Initial weights follow PyTorch's global seed. The output projection is the embedding's transpose.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and not name.endswith((".gain", ".gate")):
                depth = (2 * config.layers) ** -0.5 if name.endswith(("output.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=depth * config.width**-0.5)

    def forward(self, symbols: Tensor) -> Tensor:
        return self.run(symbols)[0]

    def run(self, symbols: Tensor) -> tuple[Tensor, list[LayerRecord]]:
        """(logits, a record per layer)."""
        positions = torch.arange(symbols.shape[1], device=symbols.device)
        x, records = self.embedding(symbols), []
        for block in self.blocks:
            x, record = block(x, positions)
            records.append(record)
        return self.norm(x) @ self.embedding.weight.T, records


def save_model(path: str | os.PathLike, model: LanguageModel) -> None:
    """Write configuration and weights."""
    config = asdict(model.config) | {"attention": model.config.attention.value}
    torch.save({"config": config, "weights": model.state_dict()}, path)


def load_model(path: str | os.PathLike) -> LanguageModel:
    """The model that :func:`save_model` wrote; nothing but tensors and plain values is ever unpickled."""
    stored = torch.load(path, weights_only=True, map_location="cpu")
    model = LanguageModel(ModelConfig(**stored["config"]))
    model.load_state_dict(stored["weights"])
    return model
