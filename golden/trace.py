"""Traces: the int8 queries, keys and values of a model's attention layers, in one ``.npz`` file.

Only numpy is needed here. The arrays of a file:

============== ================================= ====================================================================
``q``          (layers, heads, tokens, head_dim) int8, tokens in causal order
``k``, ``v``   (layers, kv_heads, tokens, d)     int8
``score_scale`` (layers, heads)                  optional: real value of one unit of score (softmax needs it)
``theta``      (layers, heads)                   optional: threshold in units of score; 0 without it
``sink``       (layers, heads)                   optional: sink of the ``sum`` normaliser, likewise; 0 without it
``gain``       (layers, heads, head_dim)         optional: gain of the RMS normalisers, in units of the int8 output
``flags``      (layers, tokens)                  optional: tokens that the model wants evicted early (policy ``dms``)
============== ================================= ====================================================================

Other arrays are ignored.
"""

import io
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from . import formats
from .settings import DEFAULT_GAIN, DEFAULT_SCORE_SCALE, LayerSettings

__all__ = ["Trace", "TraceError", "load_trace", "make_trace", "quantise", "save_trace"]

_NEEDED = ("q", "k", "v")
_OPTIONAL = ("score_scale", "theta", "gain", "flags", "sink")
_MAX_SCORE_SCALE = 88.0
"""kappa, log2(e) times as much, goes up to 127."""
_MAX_SINK = (1 << formats.SINK_BITS) - 1
_MAX_GAIN = 1 << (formats.GAIN_BITS - formats.GAIN_FRACTION - 1)


class TraceError(ValueError):
    """A trace that cannot be used: one line with the file, the array, what is wrong and what is allowed."""


@dataclass(frozen=True, eq=False)
class Trace:
    """The inputs of a model's attention layers, checked.

    Attributes
    ----------
    q
        (layers, heads, tokens, head_dim), int8.
    k, v
        (layers, kv_heads, tokens, head_dim), int8; ``kv_heads`` divides ``heads``.
    score_scale
        (layers, heads), float32; 1/256 when None is given.
    theta
        (layers, heads), int32 that fits ``formats.score_bits(head_dim)``; 0 when None is given; real numbers are
        rounded.
    gain
        (layers, heads, head_dim), float32 within +-128; 32 when None is given.
    flags
        (layers, tokens), bool: tokens that the model wants evicted when they leave the recent window; may stay None.
    sink
        (layers, heads), int32 from 0 to 2**24 - 1, in units of score; 0 when None is given; real numbers are rounded.

    Raises
    ------
    TraceError
        If an array does not fit the above.
    """

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    score_scale: np.ndarray | None = None
    theta: np.ndarray | None = None
    gain: np.ndarray | None = None
    flags: np.ndarray | None = None
    sink: np.ndarray | None = None

    def __post_init__(self):
        for name in _NEEDED:
            array = getattr(self, name)
            _require(array.dtype == np.int8, name, f"dtype {array.dtype}", "int8 is needed")
            _require(array.ndim == 4, name, f"{array.ndim} axes", "4 (layers, heads, tokens, head_dim) are needed")
            _require(array.size > 0, name, f"shape {array.shape}", "no axis may be empty")
        layers, heads, tokens, head_dim = self.q.shape
        wanted = f"({layers}, kv_heads, {tokens}, {head_dim}) like q is needed"
        same = (self.k.shape[0], *self.k.shape[2:]) == (layers, tokens, head_dim)
        _require(same, "k", f"shape {self.k.shape}", wanted)
        _require(self.v.shape == self.k.shape, "v", f"shape {self.v.shape}", f"{self.k.shape} like k is needed")
        kv_heads = self.k.shape[1]
        _require(heads % kv_heads == 0, "k", f"{kv_heads} heads", f"a divisor of the {heads} heads of q is needed")
        _require(
            head_dim <= formats.MAX_HEAD_DIM, "q", f"head_dim {head_dim}", f"1 to {formats.MAX_HEAD_DIM} is allowed"
        )
        _require(tokens <= formats.MAX_ROWS, "q", f"{tokens} tokens", f"1 to {formats.MAX_ROWS} are allowed")
        limit = 1 << (formats.score_bits(head_dim) - 1)
        for name, shape, low, high, default, dtype in (
            ("score_scale", (layers, heads), 0, _MAX_SCORE_SCALE, DEFAULT_SCORE_SCALE, np.float32),
            ("theta", (layers, heads), -limit, limit - 1, 0, np.int32),
            ("sink", (layers, heads), 0, _MAX_SINK, 0, np.int32),
            ("gain", (layers, heads, head_dim), -_MAX_GAIN, _MAX_GAIN, DEFAULT_GAIN, np.float32),
        ):
            array = getattr(self, name)
            checked = np.full(shape, default, dtype) if array is None else _real(name, array, shape, low, high, dtype)
            object.__setattr__(self, name, checked)
        if self.flags is not None:
            _require(self.flags.dtype == np.bool_, "flags", f"dtype {self.flags.dtype}", "bool is needed")
            shape = (layers, tokens)
            _require(self.flags.shape == shape, "flags", f"shape {self.flags.shape}", f"{shape} is needed")

    @property
    def layers(self) -> int:
        return self.q.shape[0]

    @property
    def heads(self) -> int:
        return self.q.shape[1]

    @property
    def kv_heads(self) -> int:
        return self.k.shape[1]

    @property
    def tokens(self) -> int:
        return self.q.shape[2]

    @property
    def head_dim(self) -> int:
        return self.q.shape[3]

    def settings(self, layer: int, **choices: Any) -> LayerSettings:
        """Settings of one layer: the trace's arrays, and ``choices`` as in LayerSettings.create."""
        own = {
            "theta": self.theta[layer].tolist(),
            "sink": self.sink[layer].tolist(),
            "score_scale": self.score_scale[layer].tolist(),
            "gain": self.gain[layer].tolist(),
        }
        return LayerSettings.create(self.heads, self.head_dim, kv_heads=self.kv_heads, **{**own, **choices})


def _require(ok: bool, name: str, found: str, allowed: str) -> None:
    if not ok:
        raise TraceError(f"array {name} has {found}: {allowed}")


def _real(name: str, array: np.ndarray, shape: tuple[int, ...], low: float, high: float, dtype: type) -> np.ndarray:
    _require(array.dtype.kind in "iuf", name, f"dtype {array.dtype}", "a real number type such as float32 is needed")
    _require(array.shape == shape, name, f"shape {array.shape}", f"{shape} is needed")
    wrong = ~(np.isfinite(array) & (array >= low) & (array <= high))
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        _require(False, name, f"{array[index].item()!r} at {index}", f"{low:g} to {high:g} is allowed")
    return np.rint(array).astype(dtype) if dtype is np.int32 else array.astype(dtype)


# Files ----------------------------------------------------------------------------------------------------------------


def load_trace(path: str | os.PathLike) -> Trace:
    """The trace in a file.

    Raises
    ------
    TraceError
        If the file cannot be read, is no complete ``.npz``, or holds arrays that are missing or unfit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            arrays = {}
            for name in (*_NEEDED, *_OPTIONAL):
                info = members.get(f"{name}.npy")
                if info is not None:
                    arrays[name] = _read_member(archive, info, name)
                elif name in _NEEDED:
                    found = ", ".join(sorted(key.removesuffix(".npy") for key in members)) or "nothing"
                    raise TraceError(f"array {name} is missing: q, k and v are needed, the file has {found}")
        return Trace(**arrays)
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error}): an .npz file is needed") from None
    except zipfile.BadZipFile as error:
        reason = str(error).rstrip(".").lower()
        raise TraceError(f"{path}: not a zip archive, or cut short ({reason}): an .npz file is needed") from None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    try:
        with archive.open(info) as stream:
            version = npy.read_magic(stream)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = header(stream)
            # What the header claims is checked against the archive before anything of that size is allocated.
            size = dtype.itemsize * int(np.prod(shape, dtype=object))
            _require(not dtype.hasobject, name, "dtype object", "Python objects are never loaded, numbers are needed")
            whole = stream.tell() + size == info.file_size
            _require(whole, name, f"shape {shape}", f"its {info.file_size} bytes do not hold that; save it again")
        with archive.open(info) as stream:
            return npy.read_array(stream, allow_pickle=False)
    except (EOFError, ValueError, zlib.error, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"array {name} is damaged ({error}): save it again with numpy.savez") from None


def save_trace(path: str | os.PathLike, trace: Trace) -> None:
    """Write a trace; equal traces give equal bytes (fixed dates and attributes inside the archive)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in (*_NEEDED, *_OPTIONAL):
            if getattr(trace, name) is None:
                continue
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            member = io.BytesIO()
            npy.write_array(member, np.ascontiguousarray(getattr(trace, name)), version=(1, 0), allow_pickle=False)
            archive.writestr(info, member.getvalue(), compresslevel=9)
    Path(path).write_bytes(buffer.getvalue())


# From a model's floats ------------------------------------------------------------------------------------------------


def _floats(name: str, values: Any) -> np.ndarray:
    """A float64 array of a numpy array, a nested list or a PyTorch tensor (detached, whatever its device)."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise TraceError(f"array {name} has NaN or infinite elements: finite numbers are needed")
    return array


def quantise(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """(int8 array, scale (layers,)) with ``values ~ int8 * scale``, one scale for each entry of the first axis.

    Symmetric: a layer's largest magnitude becomes 127. Rounds half up. A layer of zeros has scale 1.

    Raises
    ------
    TraceError
        If an element is not finite.
    """
    array = _floats("values", values)
    peak = np.abs(array).reshape(len(array), -1).max(axis=1, initial=0)
    scale = np.where(peak > 0, peak / 127, 1.0)
    column = scale.reshape(-1, *[1] * (array.ndim - 1))
    return np.clip(np.floor(array / column + 0.5), -127, 127).astype(np.int8), scale


def make_trace(
    q: Any, k: Any, v: Any, *, theta: Any = None, gain: Any = None, flags: Any = None, sink: Any = None
) -> Trace:
    """The trace of a model whose attention uses scores ``q . k / sqrt(head_dim)``.

    Parameters
    ----------
    q, k, v
        (layers, heads, tokens, head_dim), the latter two (layers, kv_heads, tokens, head_dim): numpy arrays or PyTorch
        tensors of any float type, as they enter the scores (positions applied, no division by the root yet).
    theta
        (layers, heads): threshold that the model subtracts from its scores; 0 without it.
    sink
        (layers, heads): what the model adds to the sum of its weights, in units of its scores; 0 without it.
    gain
        (layers, heads, head_dim): as in :class:`Trace`, in units of the int8 output.
    flags
        (layers, tokens), bool: tokens to be evicted early; an array, a nested list or a tensor.

    Raises
    ------
    TraceError
        If an array is not finite or does not fit the others.
    """
    arrays = {name: _floats(name, values) for name, values in (("q", q), ("k", k), ("v", v))}
    for name, array in arrays.items():
        _require(array.ndim == 4, name, f"{array.ndim} axes", "4 (layers, heads, tokens, head_dim) are needed")
    quantised = {name: quantise(array) for name, array in arrays.items()}
    layers, heads, _, head_dim = arrays["q"].shape
    _require(len(arrays["k"]) == layers, "k", f"{len(arrays['k'])} layers", f"{layers} like q are needed")
    scale = quantised["q"][1] * quantised["k"][1] / np.sqrt(head_dim)
    score_scale = np.repeat(scale[:, None], heads, axis=1)
    theta, sink = (_in_scores(*item, score_scale) for item in (("theta", theta), ("sink", sink)))
    if gain is not None:
        gain = _floats("gain", gain).astype(np.float32)
    if flags is not None:
        flags = np.asarray(flags.detach().cpu() if hasattr(flags, "detach") else flags)
    return Trace(
        *(quantised[name][0] for name in _NEEDED),
        score_scale=score_scale.astype(np.float32),
        theta=theta,
        gain=gain,
        flags=flags,
        sink=sink,
    )


def _in_scores(name: str, values: Any, score_scale: np.ndarray) -> np.ndarray | None:
    """Real values of a model's scores in units of score, (layers, heads)."""
    if values is None:
        return None
    array = _floats(name, values)
    _require(array.shape == score_scale.shape, name, f"shape {array.shape}", f"{score_scale.shape} is needed")
    return array / score_scale
