"""The firmware's pure parts as a library of the host: every undefined operation in them traps."""

import ctypes
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from reluctant.firmware.build import FOLDER, write_headers
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig

CONFIG = SystemConfig(unit=UnitConfig(slots=4096, heads=8, kv_heads=2, profiles=3), sequences=5, memory=65536)
SEGMENTS = 32
EXPORTS = """
#include "policies.h"
void copy_region(const struct policy *policy, struct region *to, const struct region *from);
void copy_region(const struct policy *policy, struct region *to, const struct region *from)
{
    region_copy(policy, to, from);
}
"""
WORD = ctypes.c_uint32


class PolicyWords(ctypes.Structure):
    """``struct policy``."""

    _fields_ = [(name, WORD) for name in ("kind", "normalised", "budget", "sinks", "recent", "stride", "share")]


class Segments(ctypes.Structure):
    """``struct segments``."""

    _fields_ = [("size", WORD), ("start", WORD), ("current", WORD), ("counts", ctypes.c_uint16 * SEGMENTS)]


class Region(ctypes.Structure):
    """``struct region``; the flags of DMS are in the place of the segments."""

    _fields_ = [("n", WORD), ("position", WORD), ("random", WORD), ("segments", Segments)]


class Plan(ctypes.Structure):
    """``struct plan``."""

    _fields_ = [(name, WORD) for name in ("refuse", "evict", "silent", "low", "recent", "metric")]


class GatingWords(ctypes.Structure):
    """``struct gating``."""

    _fields_ = [(name, WORD) for name in ("active", "mass", "probe")]


class Gate(ctypes.Structure):
    """``struct gate``."""

    _fields_ = [
        ("off", WORD),
        ("known", WORD),
        ("active", WORD * CONFIG.unit.heads),
        ("mass", WORD * CONFIG.unit.heads),
        ("rest", ctypes.c_uint8 * CONFIG.unit.heads),
    ]


class Sequence(ctypes.Structure):
    """``struct sequence``."""

    _fields_ = [
        ("policy", PolicyWords),
        ("gating", GatingWords),
        *((name, WORD) for name in ("seed", "layers", "first", "slots")),
        ("open", WORD),
        ("damaged", WORD),
    ]


class Sequences(ctypes.Structure):
    """``struct sequences``."""

    _fields_ = [("all", Sequence * CONFIG.sequences), ("order", ctypes.c_uint8 * CONFIG.sequences), ("count", WORD)]


@cache
def library() -> ctypes.CDLL:
    """The compiled parts."""
    with TemporaryDirectory(prefix="firmware-library-") as name:
        result = _compile(Path(name))
    for function in ("policy_check", "gating_check", "sequences_place"):
        getattr(result, function).restype = WORD
    result.sequences_sound.restype = ctypes.c_bool
    return result


def _compile(folder: Path) -> ctypes.CDLL:
    write_headers(CONFIG, folder, "1")
    (folder / "exports.c").write_text(EXPORTS)
    sources = ["exports.c", *(str(FOLDER / f"{name}.c") for name in ("policies", "gating", "sequences"))]
    options = ["-shared", "-fPIC", "-O1", "-std=c11", "-Wall", "-Wextra", "-Werror"]
    options += ["-fsanitize=undefined", "-fsanitize-trap=undefined"]
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        *options,
        "-I",
        ".",
        "-I",
        str(FOLDER),
        *sources,
        "-o",
        "library.so",
    ]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "library.so"))
