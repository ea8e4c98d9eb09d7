"""``reluctant import``: a model of one's own, in int8, with scales for the unit's rows."""

from pathlib import Path
from typing import Annotated

import typer

from reluctant.golden.errors import UserError

__all__ = ["import_model"]

COMPARED = 8
"""Windows of the text on which the new model is compared with the float one."""


def import_model(
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_FOLDER", help="Weights, or a folder of train.")],
    text: Annotated[Path, typer.Option("--text", metavar="FILE", help="Text to calibrate on; .xz is unpacked.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="MODEL", help="Deployed model to write.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="JSON", help="Sizes. [default: config.json beside it]")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Byte pairs. [default: tokenizer.json beside it, or bytes]")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a window. [default: the model's, to 512]")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Go on without tensors that cannot be mapped.")] = False,
) -> None:
    """Make a decoder of your own run with the unit: int8 weights, and fixed scales of its rows.

    Takes .safetensors or PyTorch files with the names and the config.json of LLaMA, with SwiGLU or ReLU feed-forward
    layers, or a folder of 'reluctant train'. The text should be like what the model will see; training text is right.

    \b
    Examples:
      reluctant import out/model --text train.txt --out model.safetensors
      reluctant import weights.pt --config config.json --text train.txt --out model.safetensors
    """
    from .models import read_text, require_torch

    require_torch()
    decoder, words = _decoder(source, config, tokenizer, context, partial)
    data = read_text(text)

    from reluctant.golden.calibration import deploy
    from reluctant.golden.deployed_file import save_deployed

    from .models import encode_bytes

    symbols = encode_bytes(data, text, words)
    if len(symbols) <= decoder.config.context:
        raise UserError(f"{text}: has {len(symbols)} symbols: more than {decoder.config.context} (a window) are needed")
    try:
        model = deploy(decoder, words, data, about={"source": source.resolve().name, "calibrated": text.name})
        losses = _compare(decoder, model, symbols)
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None
    save_deployed(out, model)
    _tell(model, out, losses)


def _decoder(source: Path, config: Path | None, tokenizer: Path | None, context: int | None, partial: bool):
    """(decoder, tokenizer); UserError if there is none."""
    from reluctant.golden.importing import import_decoder, read_checkpoint, read_config

    from .models import open_folder

    beside = source if source.is_dir() else source.parent
    try:
        values = read_config(beside / "config.json" if config is None else config)
        if source.is_dir() and "model" in values:
            return open_folder(source)
        imported = import_decoder(read_checkpoint(source), values, context=context)
        words = _tokenizer(beside, tokenizer, imported.decoder.config.vocabulary)
    except ValueError as error:
        raise UserError(str(error)) from None
    for name, why in imported.ignored:
        print(f"ignored: {name}: {why}")
    for name, why in imported.unmapped:
        print(f"cannot be mapped: {name}: {why}")
    if imported.unmapped and not partial:
        raise UserError(f"{source}: {len(imported.unmapped)} tensors cannot be mapped: --partial leaves them out")
    return imported.decoder, words


def _tokenizer(folder: Path, path: Path | None, vocabulary: int):
    from reluctant.golden.tokenizer import BYTES, byte_tokenizer, load_tokenizer

    if path is None and not (folder / "tokenizer.json").exists():
        if vocabulary != BYTES:
            raise ValueError(f"{folder / 'tokenizer.json'}: no such file: {vocabulary} symbols are no bytes")
        return byte_tokenizer()
    path = folder / "tokenizer.json" if path is None else path
    try:
        return load_tokenizer(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): a tokenizer.json is needed") from None


def _compare(decoder, model, symbols) -> tuple[float, float]:
    """Losses of the float and of the deployed model on a few windows of the text."""
    import numpy as np
    import torch

    from reluctant.golden.evaluation import evaluate
    from reluctant.golden.unit_attention import UnitAttention

    text = torch.from_numpy(symbols.astype(np.int64))
    exact = evaluate(decoder, model.tokenizer, text, count=COMPARED)
    unit = evaluate(model.decoder, model.tokenizer, text, count=COMPARED, attend=UnitAttention(model))
    return exact.loss, unit.loss


def _tell(model, out: Path, losses: tuple[float, float]) -> None:
    config = model.config
    feed_forward = f"{'gated ' if config.gated else ''}{config.activation.value}"
    print(
        f"{config.layers} layers of {config.heads} heads on {config.kv_heads} KV heads of {config.head_dim}, width "
        f"{config.width}, feed-forward {config.hidden} ({feed_forward}), {config.vocabulary:,} symbols, attention "
        f"{config.attention.value}"
    )
    print(f"Loss on {COMPARED} windows of the text: {losses[0]:.4f} in float, {losses[1]:.4f} in int8 with the unit")
    print(f"Model in {out} ({out.stat().st_size:,} bytes)")
