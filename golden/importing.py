"""Decoders of other tools, with the names that LLaMA's weights have, as a :class:`decoder.Decoder`.

============================================================== ======================================================
``model.embed_tokens.weight``                                  (vocab_size, hidden_size)
``model.layers.N.input_layernorm.weight``                      (hidden_size,); ``post_attention_layernorm`` too
``model.layers.N.self_attn.q_proj.weight``, ``k_proj``, ...    (heads * head_dim, hidden_size); ``o_proj`` turned
``model.layers.N.mlp.up_proj.weight``, ``gate_proj``           (intermediate_size, hidden_size); ``down_proj`` turned
``model.norm.weight``                                          (hidden_size,)
``lm_head.weight``                                             (vocab_size, hidden_size), unless embeddings are tied
============================================================== ======================================================

The prefix ``model.`` may be missing. Without ``gate_proj`` the feed-forward layers are not gated. The configuration is
that of Hugging Face's ``config.json``. One entry is ours: ``attention``, a :class:`kinds.AttentionKind`; softmax
without it. Its parameters are ``model.layers.N.self_attn.theta``, ``sink``, ``alpha`` or ``gain``, in units of scores.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .decoder import Activation, Decoder, DecoderConfig
from .kinds import AttentionKind

__all__ = ["Imported", "import_decoder", "read_checkpoint", "read_config"]

LONGEST_CONTEXT = 512
"""Symbols of a window that scales are calibrated on, where the model takes more."""
_GLOBAL = {"embedding": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight"}
_LAYER = {
    "attention_norm": "input_layernorm.weight",
    "feed_forward_norm": "post_attention_layernorm.weight",
    "query": "self_attn.q_proj.weight",
    "key": "self_attn.k_proj.weight",
    "value": "self_attn.v_proj.weight",
    "output": "self_attn.o_proj.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
_REASONS = (
    (r"\.bias$", "projections have no biases here"),
    (r"\.(q_norm|k_norm)\.", "queries and keys are not normed here"),
    (r"\.(block_sparse_moe|experts?|router)\b|\.experts\.|\.mlp\.gate\.", "mixtures of experts are not supported"),
    (r"\.(pre|post)_feedforward_layernorm\.", "a layer has two norms here"),
    (r"\.(qkv_proj|gate_up_proj|W_pack)\.", "projections must be separate tensors"),
    (r"\.lora_", "adapters must be merged into the weights"),
    (r"\.(weight_scale|qweight|qzeros|scales|absmax|quant_)", "weights must be float, not quantised"),
)
_UNKNOWN = "nothing of that name is in a decoder of this form"


@dataclass(frozen=True, eq=False)
class Imported:
    """A decoder, and what of the checkpoint is not in it.

    Attributes
    ----------
    unmapped
        (name, why) of tensors that the model would need to be itself.
    ignored
        (name, why) of tensors that change nothing.
    """

    decoder: Decoder
    unmapped: tuple[tuple[str, str], ...]
    ignored: tuple[tuple[str, str], ...]


# Files ----------------------------------------------------------------------------------------------------------------


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` file, a file of ``torch.save``, or all such files of a folder.

    Where a folder has both, the former are read. Nothing but tensors and plain values is unpickled.

    Raises
    ------
    ValueError
        If there is none, or one is damaged.
    """
    if not path.is_dir():
        return _read(path)
    for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth"):
        tensors: dict[str, Tensor] = {}
        for file in sorted(path.glob(pattern)):
            tensors |= _read(file)
        if tensors:
            return tensors
    raise ValueError(f"{path}: has no .safetensors, .bin, .pt or .pth file: weights are needed")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.torch import load

            try:
                return load(path.read_bytes())
            except SafetensorError as error:
                raise ValueError(f"{path}: is damaged ({error})") from None
        with path.open("rb") as file:
            values = _unpickle(path, file)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): weights are needed") from None
    for key in ("state_dict", "model"):  # As training scripts save it, beside an optimiser.
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    if not isinstance(values, Mapping):
        raise ValueError(f"{path}: holds no named tensors: a state dict is needed")
    return {name: value for name, value in values.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _unpickle(path: Path, file) -> Any:
    try:
        return torch.load(file, weights_only=True, map_location="cpu")
    except Exception:  # Damaged bytes make the unpickler trip over anything.
        raise ValueError(f"{path}: is damaged, or holds more than tensors: save the state dict alone") from None


def read_config(path: Path) -> dict:
    """The JSON object in a file; ValueError if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): the model's config.json is needed") from None
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: is no JSON object")
    return values


# Names ----------------------------------------------------------------------------------------------------------------


def import_decoder(tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, context: int | None = None) -> Imported:
    """A decoder from named tensors of any float type, and the values of a ``config.json``.

    ``context`` are the symbols of a window; at most 512 of what the configuration says without it.

    Raises
    ------
    ValueError
        If the configuration asks for what a decoder cannot do, or a tensor is missing or does not fit; the message
        names the tensor or the entry, what it is, and what is needed.
    """
    tensors = _prefixed(tensors)
    config = _config(values, gated=_name("layers.0.gate") in tensors, context=context)
    weights = {}
    for name, shape in {**config.matrices(), **config.vectors()}.items():
        weights[name] = _tensor(tensors, _name(name), shape)
    used = {_name(name) for name in weights}
    found = {True: [], False: []}
    for name in sorted(tensors.keys() - used, key=_natural):
        harmless, why = _reason(name, tensors, config)
        found[harmless].append((name, why))
    return Imported(Decoder(config, weights), tuple(found[False]), tuple(found[True]))


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "embed_tokens.weight" not in tensors:
        return dict(tensors)
    return {name if name.startswith("lm_head.") else f"model.{name}": value for name, value in tensors.items()}


def _name(name: str) -> str:
    """The name in the checkpoint."""
    if name in _GLOBAL:
        return _GLOBAL[name]
    _, layer, part = name.split(".")
    return f"model.layers.{layer}.{_LAYER.get(part, f'self_attn.{part}')}"


def _natural(name: str) -> list:
    """Sorts layer 2 before layer 10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in name.split(".")]


def _tensor(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{name} is missing: a tensor of shape {shape} is needed")
    tensor = tensors[name]
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}: {shape} is needed")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} is {tensor.dtype}: a float type is needed, weights must not be quantised yet")
    tensor = tensor.detach().to(torch.float32)
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} has NaN or infinite elements")
    return tensor.contiguous()


def _reason(name: str, tensors: Mapping[str, Tensor], config: DecoderConfig) -> tuple[bool, str]:
    """(it changes nothing, why it is not mapped)"""
    if name.endswith("rotary_emb.inv_freq"):
        return True, "frequencies follow from rope_theta"
    if name == _GLOBAL["head"] and config.tied:
        same = torch.equal(tensors[name], tensors[_GLOBAL["embedding"]])
        return same, "embeddings are tied" if same else "is not the embedding: tie_word_embeddings must be false"
    if name.endswith(".bias") and not tensors[name].any():
        return True, "all zeros"
    layer = re.match(r"model\.layers\.(\d+)\.", name)
    if layer and int(layer[1]) >= config.layers:
        return False, f"the configuration has {config.layers} layers"
    return False, next((why for pattern, why in _REASONS if re.search(pattern, name)), _UNKNOWN)


# Configuration --------------------------------------------------------------------------------------------------------


def _config(values: Mapping[str, Any], gated: bool, context: int | None) -> DecoderConfig:
    def size(name: str, default: int | None = None) -> int:
        value = values.get(name)
        value = default if value is None else value
        if type(value) is not int or value < 1:
            raise ValueError(f"config: {name} is {value!r}: an integer of 1 or more is needed")
        return value

    width, heads = size("hidden_size"), size("num_attention_heads")
    if values.get("head_dim") is None and width % heads:
        raise ValueError(f"config: hidden_size {width} is no multiple of {heads} heads: head_dim is needed")
    limit = size("max_position_embeddings", LONGEST_CONTEXT)
    context = min(limit, LONGEST_CONTEXT) if context is None else context
    if context > limit:
        raise ValueError(f"context is {context}: the model takes at most {limit} (max_position_embeddings)")
    try:
        return DecoderConfig(
            layers=size("num_hidden_layers"),
            heads=heads,
            kv_heads=size("num_key_value_heads", heads),
            head_dim=size("head_dim", width // heads),
            width=width,
            hidden=size("intermediate_size"),
            vocabulary=size("vocab_size"),
            attention=_choice(values, "attention", AttentionKind, "softmax"),
            context=context,
            activation=_choice(values, "hidden_act", Activation, "silu"),
            gated=gated,
            tied=values.get("tie_word_embeddings", False),
            rope_base=_rope_base(values),
            epsilon=values.get("rms_norm_eps", 1e-6),
        )
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith("config") else f"config: {message}") from None


def _choice(values: Mapping[str, Any], name: str, kinds: type, default: str) -> Any:
    value = values.get(name, default)
    if value not in list(kinds):
        raise ValueError(f"config: {name} is {value!r}: {' or '.join(kinds)} is supported")
    return kinds(value)


def _rope_base(values: Mapping[str, Any]) -> float:
    """Only plain rotary positions are known: as an entry, or as newer configurations nest it."""
    nested = values.get("rope_parameters") or {}
    scaling = values.get("rope_scaling") or nested
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise ValueError(f"config: rotary positions are of type {kind!r}: only plain ones are supported")
    if values.get("partial_rotary_factor", 1) != 1:
        raise ValueError("config: partial_rotary_factor is not 1: positions turn whole heads here")
    return float(values.get("rope_theta", nested.get("rope_theta", 10_000.0)))
