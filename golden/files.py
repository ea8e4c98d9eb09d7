"""Files that are either complete or absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

__all__ = ["new_file", "new_folder"]

MARK = "config.json"
"""A folder with this file was made here and may be replaced."""


def _beside(path: Path) -> Path:
    """A name for the unfinished version of ``path``, in the same folder, so that renaming is atomic."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror}): give a folder you can write to") from None
    return path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` at the end, or nothing if the block fails.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder: give the name of a file")
    part = _beside(path)
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """A folder to fill; it becomes ``path`` at the end, in place of an earlier one, or nothing if the block fails.

    Raises
    ------
    UserError
        If ``path`` exists and is neither empty nor an earlier output, or cannot be written.
    """
    path = Path(os.path.abspath(path))
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file: give the name of a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / MARK).is_file():
        raise UserError(f"{path}: holds files that are not from here: give a new or an empty folder")
    part, old = _beside(path), path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        part.mkdir()
        yield part
        if path.exists():
            path.rename(old)
        part.rename(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
