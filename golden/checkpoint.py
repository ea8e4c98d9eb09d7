"""Files of a training run: checkpoints to resume from, and finished models. Each is complete or absent.

A model's folder:

===================== ==============================================================================================
``config.json``       ``model``: :class:`language_model.ModelConfig`; ``training``: :class:`trainer.TrainingConfig`
``model.safetensors`` weights, float16 or float32; ``model.pt``, of :func:`torch.save`, where safetensors is missing
``tokenizer.json``    :class:`tokenizer.Tokenizer`, if the run knew it
``losses.json``       what the run measured
===================== ==============================================================================================
"""

import io
import json
import os
from pathlib import Path

import torch
from torch import Tensor

from .files import new_file
from .language_model import LanguageModel, ModelConfig

__all__ = ["load_checkpoint", "load_model", "save_checkpoint", "save_model", "write_json"]

CONFIG, WEIGHTS, WEIGHTS_TORCH = "config.json", "model.safetensors", "model.pt"


def write_json(path: str | os.PathLike, values: dict) -> None:
    """Write plain values; UserError if the file cannot be written."""
    with new_file(path) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _packed(values: dict) -> bytes:
    """What torch.save writes, made in memory: a disk that is full then fails as any file does."""
    buffer = io.BytesIO()
    torch.save(values, buffer)
    return buffer.getvalue()


def _unpacked(path: Path) -> dict:
    """What a file of torch.save holds; nothing but tensors and plain values is ever unpickled."""
    data = path.read_bytes()
    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception:  # Damaged bytes make the unpickler trip over anything.
        raise ValueError(f"{path}: is damaged, or no file of PyTorch") from None


# Checkpoints ----------------------------------------------------------------------------------------------------------


def save_checkpoint(path: str | os.PathLike, description: dict, state: dict) -> None:
    """Write the state of a run, tensors and plain values, in place of an earlier one.

    Raises
    ------
    UserError
        If the file cannot be written; the earlier one is then still there.
    """
    data = _packed({"description": description, "state": state})
    with new_file(path) as part:
        part.write_bytes(data)


def load_checkpoint(path: str | os.PathLike, description: dict) -> dict:
    """The state that :func:`save_checkpoint` wrote for a run of this description: groups of named plain values.

    Raises
    ------
    ValueError
        If there is no such file, it is damaged, or it is of another run.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint: nothing to resume")
    stored = _unpacked(path)
    if not isinstance(stored, dict) or stored.keys() != {"description", "state"}:
        raise ValueError(f"{path}: is no checkpoint of a training run")
    for group, values in description.items():
        for name, value in values.items():
            other = stored["description"].get(group, {}).get(name)
            if other != value:
                raise ValueError(f"{path}: is of another configuration: {name} is {other} there, {value} here")
    return stored["state"]


# Models ---------------------------------------------------------------------------------------------------------------


def save_model(folder: str | os.PathLike, model: LanguageModel, *, half: bool = True, **about: dict) -> None:
    """Write ``config.json``, with ``about`` as further groups, and the weights in float16 (or float32).

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    folder, dtype = Path(folder), torch.float16 if half else torch.float32
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    name, data = _weights_file(weights)
    with new_file(folder / name) as part:
        part.write_bytes(data)
    write_json(folder / CONFIG, {"model": model.config.as_dict(), **about})


def _weights_file(weights: dict[str, Tensor]) -> tuple[str, bytes]:
    """(name, content)"""
    try:
        from safetensors.torch import save
    except ImportError:
        return WEIGHTS_TORCH, _packed(weights)
    return WEIGHTS, save(weights)


def load_model(folder: str | os.PathLike) -> LanguageModel:
    """The model in a folder, float32, on the CPU, ready to evaluate.

    Raises
    ------
    ValueError
        If a file is missing, damaged, or does not fit the other.
    """
    folder = Path(folder)
    try:
        model = LanguageModel(ModelConfig(**json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model"]))
    except OSError as error:
        raise ValueError(f"{folder / CONFIG}: cannot be read ({error.strerror}): a model's folder is needed") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG}: describes no model ({error})") from None
    weights = _read_weights(folder)
    expected = {name: value.shape for name, value in model.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != expected:
        raise ValueError(f"{folder}: weights and {CONFIG} are of different models")
    model.load_state_dict(weights)
    return model.eval()


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        if (folder / WEIGHTS_TORCH).is_file():
            return _unpacked(folder / WEIGHTS_TORCH)
        raise ValueError(f"{path}: no such file: the model's weights are needed")
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError:
        raise ValueError(f"{path}: safetensors is not installed: pip install 'reluctant[golden]'") from None
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: is damaged ({error})") from None
