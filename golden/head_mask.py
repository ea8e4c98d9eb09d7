"""Which heads of a model's layers do not run, and the file that says so.

The file is JSON: ``heads`` and, for each layer, an integer in ``masks`` whose bit h is set where head h does not run:
the mask of the firmware's SET_LAYER. Other entries are allowed and ignored, such as how the mask came about. Neither
PyTorch nor numpy is needed here.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .files import new_file

__all__ = ["HeadMask", "load_mask", "save_mask"]


@dataclass(frozen=True)
class HeadMask:
    """Per layer, an integer: bit h is set where head h does not run.

    Raises
    ------
    ValueError
        If there is no layer, or a mask does not fit the heads.
    """

    heads: int
    masks: tuple[int, ...]

    def __post_init__(self):
        if type(self.heads) is not int or not 1 <= self.heads <= 64:
            raise ValueError(f"heads is {self.heads!r}: 1 to 64 is allowed")
        if not self.masks:
            raise ValueError("masks is empty: an integer for each layer is needed")
        for layer, mask in enumerate(self.masks):
            if type(mask) is not int or not 0 <= mask < 1 << self.heads:
                raise ValueError(f"mask of layer {layer} is {mask!r}: 0 to {(1 << self.heads) - 1} is allowed")

    @classmethod
    def of(cls, layers: int, heads: int, dropped: Iterable[tuple[int, int]] = ()) -> "HeadMask":
        """The mask that drops the given (layer, head)."""
        masks = [0] * layers
        for layer, head in dropped:
            masks[layer] |= 1 << head
        return cls(heads, tuple(masks))

    @property
    def dropped(self) -> list[tuple[int, int]]:
        """(layer, head) of the heads that do not run."""
        layers = enumerate(self.masks)
        return [(layer, head) for layer, mask in layers for head in range(self.heads) if mask >> head & 1]

    def of_layer(self, layer: int) -> tuple[bool, ...]:
        """Per head: True where it does not run."""
        return tuple(bool(self.masks[layer] >> head & 1) for head in range(self.heads))

    def check(self, layers: int, heads: int) -> None:
        """ValueError if the mask is of another model."""
        if (len(self.masks), self.heads) != (layers, heads):
            raise ValueError(
                f"mask is of {len(self.masks)} layers of {self.heads} heads: the model has {layers} of {heads}"
            )


def load_mask(path: str | os.PathLike) -> HeadMask:
    """The mask in a file.

    Raises
    ------
    ValueError
        If the file cannot be read, or holds no mask.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        return HeadMask(values["heads"], tuple(values["masks"]))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): a mask's file is needed") from None
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{path}: is no mask of heads: JSON with heads and masks is needed") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_mask(path: str | os.PathLike, mask: HeadMask, **about) -> None:
    """Write a mask, with ``about`` as further entries; UserError if the file cannot be written."""
    values = {"heads": mask.heads, "masks": list(mask.masks), **about}
    with new_file(path) as part:
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
