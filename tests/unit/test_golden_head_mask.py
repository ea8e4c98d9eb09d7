"""Masks of heads and their files."""

import json

import pytest

from reluctant.golden.errors import UserError
from reluctant.golden.head_mask import HeadMask, load_mask, save_mask


def test_bits_are_heads():
    mask = HeadMask.of(3, 4, [(0, 1), (2, 0), (2, 3), (0, 1)])
    assert mask.masks == (0b0010, 0, 0b1001)
    assert mask.dropped == [(0, 1), (2, 0), (2, 3)]
    assert mask.of_layer(2) == (True, False, False, True)
    mask.check(3, 4)
    for sizes in ((2, 4), (3, 8)):
        with pytest.raises(ValueError, match="mask is of 3 layers of 4 heads"):
            mask.check(*sizes)


def test_a_file(tmp_path):
    mask = HeadMask.of(2, 8, [(1, 7)])
    save_mask(tmp_path / "m.json", mask, loss=1.5)
    assert json.loads((tmp_path / "m.json").read_text()) == {"heads": 8, "masks": [0, 128], "loss": 1.5}
    assert load_mask(tmp_path / "m.json") == mask
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        save_mask(tmp_path / "d", mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no mask of heads: JSON with heads and masks is needed"),
        ("[1, 2]", "is no mask of heads"),
        ('{"heads": 4}', "is no mask of heads"),
        ('{"heads": 4, "masks": 7}', "is no mask of heads"),
        ('{"heads": 4, "masks": []}', "masks is empty"),
        ('{"heads": 4, "masks": [0, 16]}', "mask of layer 1 is 16: 0 to 15 is allowed"),
        ('{"heads": 4, "masks": [true]}', "mask of layer 0 is True: 0 to 15 is allowed"),
        ('{"heads": 0, "masks": [0]}', "heads is 0: 1 to 64 is allowed"),
    ],
)
def test_files_that_are_none(tmp_path, text, message):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(ValueError, match=f"m.json: {message}"):
        load_mask(tmp_path / "m.json")


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        load_mask(tmp_path / "m.json")
