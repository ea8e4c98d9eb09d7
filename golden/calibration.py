"""From a float model to a deployed one: int8 weights, and scales of the rows that a text fits into."""

import numpy as np
import torch
from torch import Tensor

from .decoder import Decoder, from_language_model
from .deployed import ROW_LIMIT, DeployedModel, Scales, quantise_matrix
from .kinds import AttentionKind
from .language_model import LanguageModel
from .tokenizer import Tokenizer
from .trainer import windows

__all__ = ["CALIBRATION_WINDOWS", "calibrate", "deploy"]

CALIBRATION_WINDOWS = 64
"""Windows of the text that the scales are found on, evenly spread over it."""
BATCH = 8
DEFAULT_CONTEXT = 512


@torch.no_grad()
def calibrate(decoder: Decoder, symbols: Tensor, count: int = CALIBRATION_WINDOWS) -> Scales:
    """Scales under which the largest magnitudes that occur in windows of ``symbols`` (n,) become 127.

    Where one root mean square is taken over a layer, all its heads have the same scales.

    Raises
    ------
    ValueError
        If the text is not longer than a window, or the model computes no finite numbers on it.
    """
    config = decoder.config
    peaks = {name: torch.zeros(config.layers, config.heads) for name in ("q", "output")}
    peaks |= {name: torch.zeros(config.layers, config.kv_heads) for name in ("k", "v")}

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        contexts = decoder.attention(layer, q, k, v)
        for name, values in (("q", q), ("k", k), ("v", v), ("output", contexts)):
            peaks[name][layer] = torch.maximum(peaks[name][layer], values.abs().amax((0, 2, 3)))
        return contexts

    for chunk in windows(symbols, config.context, count).split(BATCH):
        decoder.stream(chunk[:, :-1], attend)
    if config.attention is AttentionKind.RELA_LAYER:
        peaks = {name: values.amax(1, keepdim=True).expand_as(values) for name, values in peaks.items()}
    if not all(torch.isfinite(values).all() for values in peaks.values()):
        raise ValueError("the model's rows are not finite on this text: its weights are damaged")
    return Scales(**{name: torch.where(peak > 0, peak / ROW_LIMIT, 1.0) for name, peak in peaks.items()})


def deploy(
    model: LanguageModel | Decoder,
    tokenizer: Tokenizer,
    text: str | bytes,
    *,
    context: int = DEFAULT_CONTEXT,
    about: dict | None = None,
) -> DeployedModel:
    """A model with int8 weights, whose scales are calibrated on windows of a text like those that it will see.

    Parameters
    ----------
    text
        Training text; its symbols are counted too.
    context
        Symbols of a window; a :class:`Decoder` knows its own.
    about
        Plain values to keep with the model.

    Raises
    ------
    ValueError
        If model, tokenizer and text do not fit each other, or the unit cannot compute the model's attention.
    """
    decoder = from_language_model(model, context) if isinstance(model, LanguageModel) else model
    config = decoder.config
    if tokenizer.vocabulary > config.vocabulary:
        raise ValueError(f"tokenizer has {tokenizer.vocabulary} symbols: the model has {config.vocabulary}")
    symbols = tokenizer.encode(text).astype(np.int64)
    matrices = {name: quantise_matrix(decoder.weights[name]) for name in config.matrices()}
    vectors = {name: decoder.weights[name] for name in config.vectors()}
    rounded = Decoder(config, {name: matrix.real() for name, matrix in matrices.items()} | vectors)
    scales = calibrate(rounded, torch.from_numpy(symbols))
    counts = torch.from_numpy(np.bincount(symbols, minlength=config.vocabulary))
    deployed = DeployedModel(config, tokenizer, matrices, vectors, scales, counts, about or {})
    for layer in range(config.layers):  # What does not fit the unit is told now.
        deployed.settings(layer)
    return deployed
