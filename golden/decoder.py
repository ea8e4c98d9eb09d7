"""A decoder as the host of a unit sees it: float arithmetic around an attention that somebody else computes.

One form for all models that can be deployed: rotary positions (element i turns with element i + d/2), RMS norms before
attention and before a feed-forward layer, a residual stream, no biases.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from . import reference
from .kinds import AttentionKind
from .language_model import ROPE_BASE, LanguageModel

__all__ = ["PARAMETERS", "Activation", "Attend", "Decoder", "DecoderConfig", "from_language_model"]

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q (batch, heads, T, d), k and v (batch, kv_heads, T, d)) -> contexts (batch, heads, T, d), causal."""


class Activation(StrEnum):
    """What a feed-forward layer does to its neurons."""

    RELU = "relu"
    SILU = "silu"


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Sizes and choices of a :class:`Decoder`.

    Attributes
    ----------
    layers, heads, kv_heads, head_dim, width, hidden, vocabulary
        As in :class:`language_model.ModelConfig`.
    attention
        :class:`kinds.AttentionKind`.
    context
        Symbols of the windows that it was trained on.
    activation
        Of the feed-forward layers.
    gated
        The feed-forward layers multiply ``up`` by the activation of ``gate``; else the activation is that of ``up``.
    tied
        The output projection is the embedding's transpose.
    rope_base
        Of the rotary positions.
    epsilon
        Added to the mean of squares of RMS norms.
    """

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    hidden: int
    vocabulary: int
    attention: AttentionKind
    context: int
    activation: Activation = Activation.RELU
    gated: bool = False
    tied: bool = True
    rope_base: float = ROPE_BASE
    epsilon: float = torch.finfo(torch.float32).eps

    def __post_init__(self):
        for field in ("layers", "heads", "kv_heads", "head_dim", "width", "hidden", "vocabulary", "context"):
            value = getattr(self, field)
            if type(value) is not int or value < 1:
                raise ValueError(f"{field} is {value!r}: an integer of 1 or more is needed")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads is {self.kv_heads}: a divisor of heads ({self.heads}) is allowed")
        if self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}: an even number is needed")
        for field in ("rope_base", "epsilon"):
            value = getattr(self, field)
            if type(value) not in (int, float) or not 0 < value < math.inf:
                raise ValueError(f"{field} is {value!r}: a number above 0 is needed")
        for field in ("gated", "tied"):
            if type(getattr(self, field)) is not bool:
                raise ValueError(f"{field} is {getattr(self, field)!r}: true or false is needed")
        object.__setattr__(self, "attention", AttentionKind(self.attention))
        object.__setattr__(self, "activation", Activation(self.activation))

    def as_dict(self) -> dict:
        """Plain values, for JSON; ``DecoderConfig(**values)`` is the same configuration."""
        return asdict(self) | {"attention": self.attention.value, "activation": self.activation.value}

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Names and shapes (outputs, inputs) of the matrices, which are held in int8; embeddings: (symbols, width)."""
        shapes = {"embedding": (self.vocabulary, self.width)}
        if not self.tied:
            shapes["head"] = (self.vocabulary, self.width)
        inner, outer = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for layer in range(self.layers):
            of = {"query": (inner, self.width), "key": (outer, self.width), "value": (outer, self.width)}
            of |= {"output": (self.width, inner), "up": (self.hidden, self.width), "down": (self.width, self.hidden)}
            if self.gated:
                of["gate"] = (self.hidden, self.width)
            shapes |= {f"layers.{layer}.{name}": shape for name, shape in of.items()}
        return shapes

    def vectors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what stays float: norms and the parameters of attention."""
        shapes: dict[str, tuple[int, ...]] = {"norm": (self.width,)}
        for layer in range(self.layers):
            of = {name: (self.width,) for name in ("attention_norm", "feed_forward_norm")}
            of |= {name: (self.heads,) for name in PARAMETERS[self.attention] if name != "gain"}
            if "gain" in PARAMETERS[self.attention]:
                of["gain"] = (self.heads, self.head_dim)
            shapes |= {f"layers.{layer}.{name}": shape for name, shape in of.items()}
        return shapes


PARAMETERS = {
    AttentionKind.SOFTMAX: (),
    AttentionKind.RELA_HEAD: ("theta", "gain"),
    AttentionKind.RELA_LAYER: ("theta", "gain"),
    AttentionKind.LENGTH: ("theta", "alpha"),
    AttentionKind.RELU_SUM: ("theta", "sink"),
}
"""Real parameters of each kind, named as :func:`reference.attention` names them."""


class Decoder:
    """The arithmetic, in float32.

    Parameters
    ----------
    weights
        A float32 tensor for each name of ``config.matrices()`` and ``config.vectors()``.

    Raises
    ------
    ValueError
        If a tensor is missing, or its shape does not fit.
    """

    def __init__(self, config: DecoderConfig, weights: dict[str, Tensor]):
        wanted = {**config.matrices(), **config.vectors()}
        for name, shape in wanted.items():
            if name not in weights:
                raise ValueError(f"{name} is missing: a tensor of shape {shape} is needed")
            if tuple(weights[name].shape) != shape:
                raise ValueError(f"{name} has shape {tuple(weights[name].shape)}: {shape} is needed")
        self.config, self.weights = config, {name: weights[name] for name in wanted}

    def embed(self, symbols: Tensor) -> Tensor:
        """Residual stream (..., width) of symbols (...), int64."""
        return self.weights["embedding"][symbols]

    def rows(self, layer: int, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (batch, heads, T, d), k and v (batch, kv_heads, T, d) of x (batch, T, width) at positions (T,)."""
        normed = self._norm(x, f"layers.{layer}.attention_norm")
        q, k, v = (self._project(normed, layer, name) for name in ("query", "key", "value"))
        return self._rotate(q, positions), self._rotate(k, positions), v

    def advance(self, layer: int, x: Tensor, contexts: Tensor) -> Tensor:
        """The residual stream behind a layer, from the one before it and its contexts (batch, heads, T, d)."""
        joined = contexts.transpose(1, 2).flatten(2)
        x = x + joined @ self.weights[f"layers.{layer}.output"].T
        normed, at = self._norm(x, f"layers.{layer}.feed_forward_norm"), f"layers.{layer}."
        act = functional.relu if self.config.activation is Activation.RELU else functional.silu
        neurons = normed @ self.weights[at + "up"].T
        neurons = act(normed @ self.weights[at + "gate"].T) * neurons if self.config.gated else act(neurons)
        return x + neurons @ self.weights[at + "down"].T

    def logits(self, x: Tensor) -> Tensor:
        """(..., vocabulary)"""
        return self._norm(x, "norm") @ self.weights["embedding" if self.config.tied else "head"].T

    def stream(self, symbols: Tensor, attend: Attend | None = None) -> Tensor:
        """The residual stream behind the last layer, (batch, T, width), of symbols (batch, T)."""
        positions, x = torch.arange(symbols.shape[1]), self.embed(symbols)
        for layer in range(self.config.layers):
            x = self.advance(layer, x, (attend or self.attention)(layer, *self.rows(layer, x, positions)))
        return x

    def forward(self, symbols: Tensor, attend: Attend | None = None) -> Tensor:
        """Logits (batch, T, vocabulary) of symbols (batch, T); the model's own float attention without ``attend``."""
        return self.logits(self.stream(symbols, attend))

    def attention(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The model's own attention, in float; differentiable."""
        return reference.attention(self.config.attention, q, k, v, **self.parameters(layer))

    def parameters(self, layer: int) -> dict[str, Tensor]:
        """Real parameters of a layer's attention, (heads,), or (heads, d) for ``gain``."""
        return {name: self.weights[f"layers.{layer}.{name}"] for name in PARAMETERS[self.config.attention]}

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.rms_norm(x, (self.config.width,), self.weights[name], self.config.epsilon)

    def _project(self, x: Tensor, layer: int, name: str) -> Tensor:
        projected = x @ self.weights[f"layers.{layer}.{name}"].T
        return projected.unflatten(2, (-1, self.config.head_dim)).transpose(1, 2)

    def _rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        half = self.config.head_dim // 2
        frequency = self.config.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
        angle = positions[:, None].to(torch.float32) * frequency
        low, high = x[..., :half], x[..., half:]
        return torch.cat((low * angle.cos() - high * angle.sin(), low * angle.sin() + high * angle.cos()), dim=-1)


def from_language_model(model: LanguageModel, context: int) -> Decoder:
    """The same model, without dropout.

    Raises
    ------
    ValueError
        If it has what a decoder has not: a gate on its attention.
    """
    config = model.config
    if model.blocks[0].attention.gate is not None:
        raise ValueError("attention has a gate: the unit has none, train without it")
    sizes = ("layers", "heads", "kv_heads", "head_dim", "width", "hidden", "vocabulary", "attention")
    weights = {"embedding": model.embedding.weight, "norm": model.norm.weight}
    for layer, block in enumerate(model.blocks):
        attention = block.attention
        of = {name: getattr(attention, name).weight for name in ("query", "key", "value", "output")}
        of |= {"up": block.up.weight, "down": block.down.weight}
        of |= {"attention_norm": block.attention_norm.weight, "feed_forward_norm": block.feed_forward_norm.weight}
        of |= {name: _parameter(attention, name) for name in PARAMETERS[config.attention]}
        weights |= {f"layers.{layer}.{name}": value for name, value in of.items()}
    weights = {name: value.detach().to("cpu", torch.float32).clone() for name, value in weights.items()}
    return Decoder(DecoderConfig(**{name: getattr(config, name) for name in sizes}, context=context), weights)


def _parameter(attention, name: str) -> Tensor:
    value = getattr(attention, name)
    if value is None:  # ReLA that learnt no threshold.
        return torch.zeros(attention.config.heads)
    return functional.softplus(value) if name == "sink" else value
