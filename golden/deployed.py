"""A language model as it runs with the unit: int8 weights, int8 rows, and what each layer's attention is set to.

The host computes in float with weights that are int8 times a scale per output row. Queries, keys, values and the unit's
outputs are int8 with fixed scales, a head each, that :mod:`calibration` found. Files are in :mod:`deployed_file`.

With a head's scales ``q``, ``k``, ``v`` and ``output``, a unit of score is worth ``q * k / sqrt(head_dim)``; thresholds
and sinks are divided by that. The factor alpha and the gains of the unit's normaliser are such that its output, times
``output``, is what the float model's attention gives.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from . import formats
from .decoder import Decoder, DecoderConfig
from .formats import Mode, Normaliser
from .kinds import AttentionKind
from .settings import LayerSettings
from .tokenizer import Tokenizer

__all__ = ["NORMALISERS", "DeployedModel", "Matrix", "Scales", "Session", "Step", "quantise_matrix", "quantise_rows"]

NORMALISERS = {
    AttentionKind.SOFTMAX: Normaliser.SUM,
    AttentionKind.RELU_SUM: Normaliser.SUM,
    AttentionKind.LENGTH: Normaliser.LENGTH,
    AttentionKind.RELA_HEAD: Normaliser.RMS_HEAD,
    AttentionKind.RELA_LAYER: Normaliser.RMS_LAYER,
}
ROW_LIMIT = 127
"""Largest magnitude of a quantised element: symmetric, -128 is not used."""

Step = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(layer, q (heads, d), k and v (kv_heads, d)) -> outputs (heads, d), all int8: one token's attention to the rows that
the layer got so far, its own included. It also keeps those rows."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """``values * scale[:, None]``: int8 (rows, columns) and float32 (rows,)."""

    values: Tensor
    scale: Tensor

    def real(self) -> Tensor:
        """float32"""
        return self.values.to(torch.float32) * self.scale[:, None]


@dataclass(frozen=True, eq=False)
class Scales:
    """Real value of one unit of the int8 rows: q and output (layers, heads), k and v (layers, kv_heads), float32."""

    q: Tensor
    k: Tensor
    v: Tensor
    output: Tensor


def quantise_matrix(weights: Tensor) -> Matrix:
    """The largest magnitude of a row becomes 127; a row of zeros has scale 1."""
    peak = weights.abs().amax(1)
    scale = torch.where(peak > 0, peak / ROW_LIMIT, 1.0)
    return Matrix(quantise_rows(weights, scale[:, None]), scale)


def quantise_rows(values: Tensor, scale: Tensor) -> Tensor:
    """int8, rounded half up, saturated; ``scale`` broadcasts against ``values``."""
    return (values / scale + 0.5).floor().clamp(-ROW_LIMIT, ROW_LIMIT).to(torch.int8)


@dataclass(frozen=True, eq=False)
class DeployedModel:
    """A model for the unit.

    Attributes
    ----------
    config
        Its sizes.
    tokenizer
        Makes its symbols.
    matrices, vectors
        By the names of ``config.matrices()`` and ``config.vectors()``; vectors are float32.
    scales
        Of the rows.
    counts
        (vocabulary,) int64: how often each symbol is in the text that it was deployed with.
    about
        Plain values: where it comes from.
    """

    config: DecoderConfig
    tokenizer: Tokenizer
    matrices: dict[str, Matrix]
    vectors: dict[str, Tensor]
    scales: Scales
    counts: Tensor
    about: dict = field(default_factory=dict)

    @cached_property
    def decoder(self) -> Decoder:
        """The host's arithmetic, on the weights as they are in int8."""
        return Decoder(self.config, {name: matrix.real() for name, matrix in self.matrices.items()} | self.vectors)

    def settings(
        self,
        layer: int,
        *,
        mode: Mode | None = None,
        min_active: int = 0,
        min_mass: int = 0,
        mask: tuple[bool, ...] | bool = False,
    ) -> LayerSettings:
        """What the unit is set to for a layer; ``mode`` of all heads is the model's own unless given.

        Raises
        ------
        ValueError
            If a value does not fit its format.
        """
        kind, normaliser = self.config.attention, NORMALISERS[self.config.attention]
        own = Mode.SOFTMAX if kind is AttentionKind.SOFTMAX else Mode.RELU
        real = {name: value.double() for name, value in self.decoder.parameters(layer).items()}
        scale, output = self.score_scales(layer), self.scales.output[layer].double()
        v = self._by_head(self.scales.v[layer])
        zero = torch.zeros_like(scale)
        limit = 1 << (formats.score_bits(self.config.head_dim) - 1)
        choices = {"theta": (real.get("theta", zero) / scale).round().clamp(-limit, limit - 1).long().tolist()}
        if "sink" in real:
            choices["sink"] = (real["sink"] / scale).round().clamp(0, (1 << formats.SINK_BITS) - 1).long().tolist()
        if "gain" in real:
            choices["gain"] = (real["gain"] / output[:, None]).tolist()
        settings = LayerSettings.create(
            self.config.heads,
            self.config.head_dim,
            kv_heads=self.config.kv_heads,
            normaliser=normaliser,
            mode=own if mode is None else mode,
            score_scale=scale.tolist(),
            min_active=min_active,
            min_mass=min_mass,
            mask=mask,
            **choices,
        )
        factors = {Normaliser.SUM: v / output, Normaliser.LENGTH: real.get("alpha", zero) * scale * v / output}
        if normaliser in factors:
            alpha = tuple(formats.encode_alpha(value) for value in factors[normaliser].tolist())
            settings = replace(settings, alpha=alpha)
        return settings

    def score_scales(self, layer: int) -> Tensor:
        """(heads,) float64: real value of one unit of score."""
        return self.scales.q[layer].double() * self._by_head(self.scales.k[layer]) / math.sqrt(self.config.head_dim)

    def quantise(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """int8 rows of real ones, (..., heads, T, d) and (..., kv_heads, T, d)."""
        of = zip((q, k, v), (self.scales.q, self.scales.k, self.scales.v), strict=True)
        return tuple(quantise_rows(values, scale[layer][:, None, None]) for values, scale in of)

    def real_outputs(self, layer: int, outputs: Tensor) -> Tensor:
        """Contexts (..., heads, T, d), float32, that the unit's int8 outputs stand for."""
        return outputs.to(torch.float32) * self.scales.output[layer][:, None, None]

    def start(self) -> "Session":
        """A text from its first symbol on."""
        return Session(self)

    def _by_head(self, values: Tensor) -> Tensor:
        return values.double().repeat_interleave(self.config.heads // self.config.kv_heads)


class Session:
    """A text, symbol by symbol. The session keeps no rows: whoever computes the attention does.

    Attributes
    ----------
    position
        Symbols so far.
    """

    def __init__(self, model: DeployedModel):
        self.model, self.position = model, 0

    @torch.no_grad()
    def token(self, symbol: int, attend: Step) -> np.ndarray:
        """Logits of the next symbol, (vocabulary,) float32; ``attend`` is called for each layer in turn.

        A text that goes on after ``attend`` raised must start afresh: layers would then have different rows.

        Raises
        ------
        ValueError
            If there is no such symbol.
        """
        model = self.model
        if not 0 <= symbol < model.config.vocabulary:
            raise ValueError(f"symbol is {symbol}: 0 to {model.config.vocabulary - 1} is allowed")
        positions, x = torch.tensor([self.position]), model.decoder.embed(torch.tensor([[symbol]]))
        for layer in range(model.config.layers):
            rows = model.quantise(layer, *model.decoder.rows(layer, x, positions))
            outputs = np.asarray(attend(layer, *(part[0, :, 0].numpy() for part in rows)))
            contexts = model.real_outputs(layer, torch.from_numpy(outputs)[None, :, None])
            x = model.decoder.advance(layer, x, contexts)
        self.position += 1
        return model.decoder.logits(x)[0, 0].numpy()
