"""Tokenizers: every text comes back, files need no library, characters are counted right."""

import json
import lzma
import re
import sys

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from reluctant.golden import tokenizer
from reluctant.golden.tokenizer import Tokenizer, byte_tokenizer, learn_tokenizer, load_tokenizer, read_bytes

TEXT = "The quality of mercy is not strained. Größe, naïve — 水と火。\r\n\tIt droppeth as the gentle rain 🌧 \n" * 40
PAIRS = learn_tokenizer(TEXT, 300)


def test_bytes_are_themselves():
    data = bytes(range(256))
    symbols = byte_tokenizer().encode(data)
    assert symbols.dtype == np.uint16
    assert symbols.tolist() == list(range(256))
    assert byte_tokenizer().vocabulary == 256
    assert learn_tokenizer(TEXT, 256).text == byte_tokenizer().text


@pytest.mark.parametrize("one", [byte_tokenizer(), PAIRS], ids=["bytes", "pairs"])
@settings(max_examples=50, deadline=None)
@given(text=st.text())
def test_texts_come_back_and_characters_are_counted(one, text):
    symbols = one.encode(text)
    assert symbols.max(initial=0) < one.vocabulary
    assert one.decode(symbols) == text
    assert one.characters(symbols) == len(text)
    cut = len(symbols) // 2
    assert one.characters(symbols[:cut]) + one.characters(symbols[cut:]) == len(text)


def test_half_characters():
    one = byte_tokenizer()
    assert one.decode("ö".encode()[:1]) == "\ufffd"
    assert one.characters(np.frombuffer("ö水".encode(), np.uint8)[1:]) == 1


def test_pairs_are_learnt():
    assert PAIRS.vocabulary == 300
    assert len(PAIRS.encode(TEXT)) < 0.6 * len(TEXT.encode())
    assert learn_tokenizer(TEXT.encode(), 300).text == PAIRS.text
    # There are no more pairs than that in the text.
    few = learn_tokenizer("abab", 1000)
    assert few.pieces[256:] == (b"ab", b"abab")


@pytest.mark.parametrize("one", [byte_tokenizer(), PAIRS], ids=["bytes", "pairs"])
def test_the_library_reads_the_same(one):
    library = tokenizers.Tokenizer.from_str(one.text)
    assert library.encode(TEXT).ids == one.encode(TEXT).tolist()
    assert library.decode(one.encode(TEXT).tolist()) == TEXT


def test_long_texts_are_cut_between_lines(monkeypatch):
    text = TEXT.replace(" \n", "\n")
    whole = PAIRS.encode(text).tolist()
    monkeypatch.setattr(tokenizer, "CHUNK", 150)
    assert PAIRS.encode(text).tolist() == whole
    endless = TEXT.replace("\n", " ").replace("\r", " ")
    assert PAIRS.decode(PAIRS.encode(endless)) == endless


def test_files_need_no_library(tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text(PAIRS.text, encoding="utf-8")
    symbols = PAIRS.encode(TEXT)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    loaded = load_tokenizer(path)
    assert loaded.decode(symbols) == TEXT
    assert loaded.characters(symbols) == len(TEXT)
    assert byte_tokenizer().decode(byte_tokenizer().encode(TEXT)) == TEXT
    for fail in (lambda: loaded.encode(TEXT), lambda: learn_tokenizer(TEXT, 300)):
        with pytest.raises(ValueError, match=r"^tokenizers is not installed, byte pairs need it: pip install"):
            fail()


@pytest.mark.parametrize("vocabulary", [255, 65_537])
def test_vocabulary_is_checked(vocabulary):
    with pytest.raises(ValueError, match=f"^vocabulary is {vocabulary}: 256 to 65536 is allowed$"):
        learn_tokenizer(TEXT, vocabulary)


def test_pairs_need_text():
    for fail in (lambda: learn_tokenizer(b"\xff" * 9, 300), lambda: PAIRS.encode(b"\xff")):
        with pytest.raises(UnicodeDecodeError):
            fail()


def _changed(change):
    values = json.loads(byte_tokenizer().text)
    change(values["model"]["vocab"])
    return json.dumps(values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"model": {"vocab": {}, "merges": []}}',
        _changed(lambda vocab: vocab.update(a=999)),
        _changed(lambda vocab: vocab.update({"水": 256})),
        _changed(lambda vocab: vocab.update(aa=97)),
        _changed(lambda vocab: vocab.update(aa="97")),
    ],
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: no byte-level byte pair encoding in JSON"):
        load_tokenizer(path)
    with pytest.raises(ValueError, match=r"^no byte-level"):
        Tokenizer(text)


def test_read_bytes(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc")
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(b"abc"))
    assert read_bytes(tmp_path / "a.txt") == read_bytes(tmp_path / "a.txt.xz") == b"abc"
    (tmp_path / "a.txt.xz").write_bytes(b"abc" * 999)
    with pytest.raises(ValueError, match=r"a.txt.xz: is no .xz file, or damaged \("):
        read_bytes(tmp_path / "a.txt.xz")
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(b"abc" * 999)[:-20])
    with pytest.raises(ValueError, match=r"a.txt.xz: is no .xz file, or damaged \("):
        read_bytes(tmp_path / "a.txt.xz")
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a.txt: empty, text is needed"):
        read_bytes(tmp_path / "a.txt")
