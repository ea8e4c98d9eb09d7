"""A model that a user names: a deployed file, a folder of ``reluctant train``, or one that comes with the package."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reluctant.golden.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from reluctant.golden.decoder import Decoder
    from reluctant.golden.deployed import DeployedModel
    from reluctant.golden.head_mask import HeadMask
    from reluctant.golden.tokenizer import Tokenizer

__all__ = ["SHIPPED", "Loaded", "encode_text", "model_path", "open_deployed", "open_mask", "open_model"]

FOLDER = Path(__file__).parent / "data" / "models"
SHIPPED = {"relu": FOLDER / "relu.safetensors", "softmax": FOLDER / "softmax.safetensors"}
"""Models that come with the package, by name."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model: its host part, and all of it where it is deployed."""

    decoder: "Decoder"
    tokenizer: "Tokenizer"
    deployed: "DeployedModel | None"


def require_torch() -> None:
    """UserError if PyTorch is missing."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise UserError("torch is not installed: pip install 'reluctant[golden]' brings it")


def model_path(name: str) -> Path:
    """The file or folder of a model: a path, or the name of one that comes with the package.

    Raises
    ------
    UserError
        If there is none.
    """
    path = Path(name)
    if path.exists():
        return path
    if name in SHIPPED:
        return SHIPPED[name]
    raise UserError(f"{name}: no such model: a file, a folder, or one of {', '.join(SHIPPED)} is needed")


def open_deployed(name: str) -> "DeployedModel":
    """A deployed model.

    Raises
    ------
    UserError
        If there is none of that name, or it is damaged or not deployed.
    """
    require_torch()
    from reluctant.golden.deployed_file import load_deployed

    path = model_path(name)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not deployed yet: 'reluctant import {path} --text FILE --out MODEL'")
    try:
        return load_deployed(path)
    except ValueError as error:
        raise UserError(str(error)) from None


def open_model(name: str) -> Loaded:
    """A model, deployed or not.

    Raises
    ------
    UserError
        If there is none of that name, or it is damaged.
    """
    require_torch()
    if not model_path(name).is_dir():
        model = open_deployed(name)
        return Loaded(model.decoder, model.tokenizer, model)
    decoder, tokenizer = open_folder(model_path(name))
    return Loaded(decoder, tokenizer, None)


def open_folder(folder: Path) -> tuple["Decoder", "Tokenizer"]:
    """What ``reluctant train`` wrote.

    Raises
    ------
    UserError
        If a file is missing or damaged, or the unit cannot compute the model's attention.
    """
    import json

    from reluctant.golden.checkpoint import load_model
    from reluctant.golden.decoder import from_language_model
    from reluctant.golden.tokenizer import BYTES, byte_tokenizer, load_tokenizer

    try:
        model = load_model(folder)
        training = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("training", {})
        decoder = from_language_model(model, training.get("context", 128))
        if (folder / "tokenizer.json").exists():
            return decoder, load_tokenizer(folder / "tokenizer.json")
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(str(error)) from None
    if model.config.vocabulary != BYTES:
        raise UserError(f"{folder / 'tokenizer.json'}: no such file: {model.config.vocabulary} symbols are no bytes")
    return decoder, byte_tokenizer()


def open_mask(path: Path, model: Loaded) -> "HeadMask":
    """The mask in a file, or the one that comes with a model of the package, by the model's name.

    Raises
    ------
    UserError
        If it is damaged, or of another model.
    """
    from reluctant.golden.head_mask import load_mask

    if not path.exists() and path.name in SHIPPED and path.parent == Path():
        path = FOLDER / f"{path}.mask.json"
    try:
        mask = load_mask(path)
        mask.check(model.decoder.config.layers, model.decoder.config.heads)
    except ValueError as error:
        raise UserError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
    return mask


def encode_text(path: Path, tokenizer: "Tokenizer", context: int) -> "np.ndarray":
    """The symbols of a text file, int64; ``.xz`` is unpacked.

    Raises
    ------
    UserError
        If it cannot be read, or is not longer than a window of ``context`` symbols.
    """
    import numpy as np

    symbols = encode_bytes(read_text(path), path, tokenizer).astype(np.int64)
    if len(symbols) <= context:
        raise UserError(f"{path}: has {len(symbols)} symbols: more than {context} (a window) are needed")
    return symbols


def read_text(path: Path) -> bytes:
    """The bytes of a file, unpacked; UserError if it is empty, damaged or cannot be read."""
    from reluctant.golden.tokenizer import read_bytes

    try:
        return read_bytes(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): a text file is needed") from None
    except ValueError as error:
        raise UserError(str(error)) from None


def encode_bytes(data: bytes, path: Path, tokenizer: "Tokenizer") -> "np.ndarray":
    """Symbols of what was read from ``path``; UserError if the tokenizer cannot take it."""
    try:
        return tokenizer.encode(data)
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8, byte pairs need it") from None
    except ValueError as error:
        raise UserError(str(error)) from None
