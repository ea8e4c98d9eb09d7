"""The file of a :class:`deployed.DeployedModel`: safetensors, with all that is not a tensor as JSON in its header.

A matrix is a tensor of its name, int8, and ``NAME.scale``. Equal models give equal bytes.
"""

import json
import os
from pathlib import Path

import torch
from torch import Tensor

from .decoder import DecoderConfig
from .deployed import DeployedModel, Matrix, Scales
from .files import new_file
from .tokenizer import Tokenizer

__all__ = ["load_deployed", "save_deployed"]

KEY = "reluctant"
"""The one entry of the header: two would be in any order."""
VERSION = 1
_ROWS = ("q", "k", "v", "output")


def save_deployed(path: str | os.PathLike, model: DeployedModel) -> None:
    """Write a model.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {"counts": model.counts, **model.vectors}
    for name, matrix in model.matrices.items():
        tensors |= {name: matrix.values, f"{name}.scale": matrix.scale}
    tensors |= {f"rows.{name}": getattr(model.scales, name) for name in _ROWS}
    about = {
        "version": VERSION,
        "config": model.config.as_dict(),
        "about": model.about,
        "tokenizer": model.tokenizer.text,
    }
    data = save({name: value.contiguous() for name, value in tensors.items()}, metadata={KEY: json.dumps(about)})
    with new_file(path) as part:
        part.write_bytes(data)


def load_deployed(path: str | os.PathLike) -> DeployedModel:
    """The model in a file.

    Raises
    ------
    ValueError
        If the file cannot be read, is damaged, or is no deployed model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): a deployed model is needed") from None
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"{path}: is no deployed model, or damaged ({error})") from None
    try:
        about = _about(data)
        config = DecoderConfig(**about["config"])
        tokenizer = Tokenizer(about["tokenizer"])
        return _assemble(config, tokenizer, tensors, about["about"])
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: is no deployed model: {reason}") from None


def _about(data: bytes) -> dict:
    length = int.from_bytes(data[:8], "little")
    about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][KEY])
    if about["version"] != VERSION:
        raise ValueError(f"version is {about['version']}: {VERSION} is needed")
    return about


def _assemble(config: DecoderConfig, tokenizer: Tokenizer, tensors: dict[str, Tensor], about: dict) -> DeployedModel:
    def take(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        tensor = tensors[name]
        if tensor.dtype is not dtype or tuple(tensor.shape) != shape:
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise ValueError(f"{name} is {found}: {dtype} {shape} is needed")
        return tensor

    if tokenizer.vocabulary > config.vocabulary:
        raise ValueError(f"tokenizer has {tokenizer.vocabulary} symbols: {config.vocabulary} are in the model")
    heads = {"q": config.heads, "k": config.kv_heads, "v": config.kv_heads, "output": config.heads}
    scales = {name: take(f"rows.{name}", torch.float32, (config.layers, heads[name])) for name in _ROWS}
    matrices = {
        name: Matrix(take(name, torch.int8, shape), take(f"{name}.scale", torch.float32, shape[:1]))
        for name, shape in config.matrices().items()
    }
    vectors = {name: take(name, torch.float32, shape) for name, shape in config.vectors().items()}
    for name, values in {**vectors, **scales, **{name: matrix.scale for name, matrix in matrices.items()}}.items():
        if not torch.isfinite(values).all():
            raise ValueError(f"{name} has NaN or infinite elements")
    if any((values <= 0).any() for values in scales.values()):
        raise ValueError("scales of rows must be above 0")
    counts = take("counts", torch.int64, (config.vocabulary,))
    return DeployedModel(config, tokenizer, matrices, vectors, Scales(**scales), counts, about)
