"""Texts as symbols: bytes, or byte pairs learnt from a text.

Both are one format, the JSON of the ``tokenizers`` library; bytes are byte pairs without merges. The library is needed
only to learn pairs and to encode with them: reading a file, decoding and counting characters need none.
"""

import json
import lzma
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

__all__ = ["BYTES", "Tokenizer", "byte_tokenizer", "learn_tokenizer", "load_tokenizer", "read_bytes"]

BYTES = 256
"""Symbols of :func:`byte_tokenizer`: symbol i is byte i."""
MOST_SYMBOLS = 1 << 16
CHUNK = 1 << 18
"""Bytes encoded at a time."""


def _letters() -> list[str]:
    """The printable character that stands for each byte in a file: itself, or one from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


LETTERS = _letters()
_BYTE_OF = {letter: byte for byte, letter in enumerate(LETTERS)}


class Tokenizer:
    """Symbols 0 to ``vocabulary - 1``, each of which stands for the bytes ``pieces[symbol]``.

    Parameters
    ----------
    text
        JSON of the ``tokenizers`` library: a byte-level byte pair encoding.

    Raises
    ------
    ValueError
        If ``text`` is none.
    """

    def __init__(self, text: str):
        try:
            model = json.loads(text)["model"]
            symbols = sorted(model["vocab"], key=model["vocab"].get)
            numbered = [model["vocab"][symbol] for symbol in symbols] == list(range(len(symbols)))
            self.pieces = tuple(bytes(_BYTE_OF[letter] for letter in symbol) for symbol in symbols)
            self._merges = bool(model["merges"])
        except (ValueError, KeyError, TypeError, AttributeError):
            numbered = False
        if not numbered or not BYTES <= len(symbols) <= MOST_SYMBOLS:
            raise ValueError("no byte-level byte pair encoding in JSON, with symbols numbered from 0")
        self.text = text
        self._symbol = np.zeros(BYTES, np.uint16)
        for symbol, piece in enumerate(self.pieces):
            if len(piece) == 1:
                self._symbol[piece[0]] = symbol
        # A character of UTF-8 is counted where it starts, so that a span may cut characters in two.
        self._starts = np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in self.pieces])

    @property
    def vocabulary(self) -> int:
        return len(self.pieces)

    def encode(self, text: str | bytes) -> np.ndarray:
        """Symbols, (n,) uint16.

        Raises
        ------
        ValueError
            If byte pairs meet bytes that are no UTF-8, or ``tokenizers`` is not installed and needed.
        """
        data = text.encode() if isinstance(text, str) else bytes(text)
        if not self._merges:
            return self._symbol[np.frombuffer(data, np.uint8)]
        encoder = _library().Tokenizer.from_str(self.text)
        parts = [np.array(encoder.encode(part).ids, np.uint16) for part in _chunks(data)]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint16)

    def decode(self, symbols: Iterable[int]) -> str:
        """Text; bytes that are no UTF-8, such as half a character, become U+FFFD."""
        return b"".join(self.pieces[symbol] for symbol in symbols).decode(errors="replace")

    def characters(self, symbols: np.ndarray) -> int:
        """Characters that start in a span of symbols, (n,) integers: what a loss per character is divided by."""
        return int(self._starts[np.asarray(symbols, np.int64)].sum())


def _library():
    try:
        import tokenizers
    except ImportError:
        raise ValueError("tokenizers is not installed, byte pairs need it: pip install 'reluctant[golden]'") from None
    return tokenizers


def _chunks(data: bytes) -> Iterator[str]:
    """UTF-8 text in pieces of whole lines, where a line is not endless."""
    text = data.decode("utf-8")
    start = 0
    while start < len(text):
        stop = text.find("\n", start + CHUNK) + 1
        if not 0 < stop <= start + 2 * CHUNK:
            stop = start + 2 * CHUNK
        yield text[start:stop]
        start = stop


def _description(vocab: dict[str, int], merges: list) -> str:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    }
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": model,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def byte_tokenizer() -> Tokenizer:
    """A symbol for each byte."""
    return Tokenizer(_description({letter: byte for byte, letter in enumerate(LETTERS)}, []))


def learn_tokenizer(text: str | bytes, vocabulary: int) -> Tokenizer:
    """The most frequent byte pairs of a text, merged until there are ``vocabulary`` symbols, or no pair is left.

    Equal texts give equal tokenizers. 256 symbols are bytes and need no library.

    Raises
    ------
    ValueError
        If ``vocabulary`` is not 256 to 65,536, the text is no UTF-8, or ``tokenizers`` is not installed.
    """
    if not BYTES <= vocabulary <= MOST_SYMBOLS:
        raise ValueError(f"vocabulary is {vocabulary}: {BYTES} to {MOST_SYMBOLS} is allowed")
    if vocabulary == BYTES:
        return byte_tokenizer()
    library = _library()
    learner = library.Tokenizer(library.models.BPE())
    learner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=sorted(LETTERS), show_progress=False, special_tokens=[]
    )
    learner.train_from_iterator(_chunks(text.encode() if isinstance(text, str) else text), trainer)
    model = json.loads(learner.to_str())["model"]
    return Tokenizer(_description(dict(sorted(model["vocab"].items(), key=lambda item: item[1])), model["merges"]))


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """The tokenizer in a file; ValueError if it holds none, OSError if it cannot be read."""
    try:
        return Tokenizer(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_bytes(path: str | os.PathLike) -> bytes:
    """The bytes of a file, unpacked if its name ends in ``.xz``; at least one.

    Raises
    ------
    ValueError
        If the file is empty, or damaged.
    """
    data = Path(path).read_bytes()
    if os.fspath(path).endswith(".xz"):
        try:
            data = lzma.decompress(data)
        except lzma.LZMAError as error:
            raise ValueError(f"{path}: is no .xz file, or damaged ({error})") from None
    if not data:
        raise ValueError(f"{path}: empty, text is needed")
    return data
