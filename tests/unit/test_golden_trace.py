"""Trace files: what is read, what is refused and how it is told, and traces from floats."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

from reluctant.golden import formats
from reluctant.golden.trace import Trace, TraceError, load_trace, make_trace, quantise, save_trace

LAYERS, HEADS, KV_HEADS, TOKENS, HEAD_DIM = 2, 4, 2, 5, 16


def _arrays(**changes):
    source = np.random.default_rng(0)

    def random(heads):
        return source.integers(-128, 128, (LAYERS, heads, TOKENS, HEAD_DIM), dtype=np.int8)

    arrays = {"q": random(HEADS), "k": random(KV_HEADS), "v": random(KV_HEADS)} | changes
    return {name: array for name, array in arrays.items() if array is not None}


def _optional():
    source = np.random.default_rng(1)
    return {
        "score_scale": source.uniform(0, 0.1, (LAYERS, HEADS)).astype(np.float32),
        "theta": source.integers(-5000, 5000, (LAYERS, HEADS)).astype(np.int32),
        "gain": source.uniform(-100, 100, (LAYERS, HEADS, HEAD_DIM)).astype(np.float32),
        "flags": source.integers(0, 2, (LAYERS, TOKENS)).astype(bool),
        "sink": source.integers(0, 1 << formats.SINK_BITS, (LAYERS, HEADS)).astype(np.int32),
    }


def _full():
    return Trace(**_arrays(**_optional()))


def _ones(*shape):
    return np.ones(shape, dtype=np.int8)


def test_round_trip(tmp_path):
    trace = _full()
    save_trace(tmp_path / "t.npz", trace)
    loaded = load_trace(str(tmp_path / "t.npz"))
    for name in ("q", "k", "v", "score_scale", "theta", "gain", "flags", "sink"):
        got, expected = getattr(loaded, name), getattr(trace, name)
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected), name
    assert (loaded.layers, loaded.heads, loaded.kv_heads) == (LAYERS, HEADS, KV_HEADS)
    assert (loaded.tokens, loaded.head_dim) == (TOKENS, HEAD_DIM)


def test_no_flags_are_saved_as_none(tmp_path):
    save_trace(tmp_path / "t.npz", Trace(**_arrays()))
    assert load_trace(tmp_path / "t.npz").flags is None


def test_bytes_are_reproducible(tmp_path, monkeypatch):
    save_trace(tmp_path / "a.npz", _full())
    monkeypatch.setattr("time.time", lambda: 2e9)
    save_trace(tmp_path / "b.npz", _full())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpy_files_and_defaults(tmp_path, save):
    """What numpy writes is read; optional arrays get their defaults; unknown ones are ignored, objects included."""
    save(tmp_path / "t.npz", **_arrays(), note=np.array([{"a": 1}], dtype=object))
    trace = load_trace(tmp_path / "t.npz")
    assert np.array_equal(trace.q, _arrays()["q"])
    assert np.unique(trace.score_scale).tolist() == [1 / 256]
    assert np.unique(trace.theta).tolist() == np.unique(trace.sink).tolist() == [0]
    assert np.unique(trace.gain).tolist() == [32]
    assert trace.theta.shape == trace.sink.shape == trace.score_scale.shape == (LAYERS, HEADS)
    assert trace.gain.shape == (LAYERS, HEADS, HEAD_DIM)
    assert trace.flags is None


def test_fortran_order(tmp_path):
    arrays = {name: np.asfortranarray(array) for name, array in _arrays().items()}
    np.savez(tmp_path / "t.npz", **arrays)
    assert np.array_equal(load_trace(tmp_path / "t.npz").q, arrays["q"])


def test_settings():
    trace = _full()
    settings = trace.settings(1, normaliser=formats.Normaliser.RMS_LAYER, min_active=3)
    assert settings.theta == tuple(trace.theta[1].tolist())
    assert settings.sink == tuple(trace.sink[1].tolist())
    assert settings.kv_heads == KV_HEADS
    assert settings.kappa[2] == formats.encode_kappa(float(trace.score_scale[1, 2]) / np.log(2))
    assert settings.gain[3][4] == formats.encode_gain(float(trace.gain[1, 3, 4]))
    assert settings.min_active == (3,) * HEADS
    assert settings.alpha[0] == formats.encode_alpha((HEADS * HEAD_DIM) ** 0.5)
    assert trace.settings(1, theta=7).theta == (7,) * HEADS


def test_real_thresholds_and_sinks_are_rounded():
    theta, sink = (np.array([[0.4, 0.6, third, 100.0]] * LAYERS) for third in (-0.6, 2.4))
    trace = Trace(**_arrays(theta=theta, sink=sink))
    assert trace.theta.tolist() == [[0, 1, -1, 100]] * LAYERS
    assert trace.sink.tolist() == [[0, 1, 2, 100]] * LAYERS


NAN = np.full((LAYERS, HEADS), np.nan)
INFINITE = np.where(np.arange(HEADS) == 2, np.inf, 0.1) * np.ones((LAYERS, 1))
THETA_LIMIT = 1 << (formats.score_bits(HEAD_DIM) - 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": None}, "array k is missing: q, k and v are needed, the file has q, v"),
        ({"q": _ones(2, 4, 5, 16).astype(np.int16)}, "array q has dtype int16: int8 is needed"),
        ({"v": _ones(2, 2, 5, 16).astype(np.float32)}, "array v has dtype float32: int8 is needed"),
        ({"k": _ones(2, 2, 5, 16).astype(np.uint8)}, "array k has dtype uint8: int8 is needed"),
        (
            {"q": np.array([None, 1], dtype=object)},
            "array q has dtype object: Python objects are never loaded, numbers are needed",
        ),
        ({"q": _ones(4, 5, 16)}, "array q has 3 axes: 4 (layers, heads, tokens, head_dim) are needed"),
        ({"q": np.int8(3)}, "array q has 0 axes: 4 (layers, heads, tokens, head_dim) are needed"),
        ({"q": _ones(2, 4, 0, 16)}, "array q has shape (2, 4, 0, 16): no axis may be empty"),
        ({"k": _ones(2, 0, 5, 16)}, "array k has shape (2, 0, 5, 16): no axis may be empty"),
        ({"k": _ones(2, 2, 6, 16)}, "array k has shape (2, 2, 6, 16): (2, kv_heads, 5, 16) like q is needed"),
        ({"k": _ones(1, 2, 5, 16)}, "array k has shape (1, 2, 5, 16): (2, kv_heads, 5, 16) like q is needed"),
        ({"k": _ones(2, 2, 5, 8)}, "array k has shape (2, 2, 5, 8): (2, kv_heads, 5, 16) like q is needed"),
        ({"v": _ones(2, 4, 5, 16)}, "array v has shape (2, 4, 5, 16): (2, 2, 5, 16) like k is needed"),
        ({"k": _ones(2, 3, 5, 16)} | {"v": _ones(2, 3, 5, 16)}, "array k has 3 heads: a divisor of the 4 heads of q"),
        ({name: _ones(2, 4, 5, 257) for name in "qkv"}, "array q has head_dim 257: 1 to 256 is allowed"),
        ({name: _ones(1, 1, 65537, 1) for name in "qkv"}, "array q has 65537 tokens: 1 to 65536 are allowed"),
        ({"score_scale": NAN}, "array score_scale has nan at (0, 0): 0 to 88 is allowed"),
        ({"score_scale": INFINITE}, "array score_scale has inf at (0, 2): 0 to 88 is allowed"),
        ({"score_scale": 0 * NAN[:0]}, "array score_scale has shape (0, 4): (2, 4) is needed"),
        ({"score_scale": np.full((2, 4), -0.5)}, "array score_scale has -0.5 at (0, 0): 0 to 88 is allowed"),
        ({"score_scale": np.full((2, 4), 89.0)}, "array score_scale has 89.0 at (0, 0): 0 to 88 is allowed"),
        ({"score_scale": np.full((2, 4), "a")}, "array score_scale has dtype <U1: a real number type such as float32"),
        ({"score_scale": np.full((2, 4), 1j)}, "array score_scale has dtype complex128: a real number type"),
        ({"theta": np.zeros((2, 3))}, "array theta has shape (2, 3): (2, 4) is needed"),
        ({"theta": NAN}, "array theta has nan at (0, 0): -524288 to 524287 is allowed"),
        ({"theta": np.full((2, 4), THETA_LIMIT)}, "array theta has 524288 at (0, 0): -524288 to 524287 is allowed"),
        ({"sink": np.zeros((2, 3))}, "array sink has shape (2, 3): (2, 4) is needed"),
        ({"sink": np.full((2, 4), -0.5)}, "array sink has -0.5 at (0, 0): 0 to 1.67772e+07 is allowed"),
        ({"sink": np.full((2, 4), 1 << 24)}, "array sink has 16777216 at (0, 0): 0 to 1.67772e+07 is allowed"),
        ({"gain": np.ones((2, 4))}, "array gain has shape (2, 4): (2, 4, 16) is needed"),
        ({"gain": np.full((2, 4, 16), np.nan)}, "array gain has nan at (0, 0, 0): -128 to 128 is allowed"),
        ({"gain": np.full((2, 4, 16), 128.5)}, "array gain has 128.5 at (0, 0, 0): -128 to 128 is allowed"),
        ({"flags": np.zeros((2, 5), dtype=np.int8)}, "array flags has dtype int8: bool is needed"),
        ({"flags": np.zeros((2, 4), dtype=bool)}, "array flags has shape (2, 4): (2, 5) is needed"),
        ({"flags": np.zeros(5, dtype=bool)}, "array flags has shape (5,): (2, 5) is needed"),
    ],
)
def test_unfit_arrays(tmp_path, changes, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **_arrays(**changes))
    with pytest.raises(TraceError) as error:
        load_trace(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_no_zip(tmp_path):
    for name, data in (("text.npz", b"not a trace"), ("empty.npz", b"")):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(TraceError) as error:
            load_trace(path)
        assert str(error.value).startswith(f"{path}: not a zip archive, or cut short (")
    np.save(tmp_path / "one.npy", _ones(3))
    with pytest.raises(TraceError, match="not a zip archive"):
        load_trace(tmp_path / "one.npy")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(TraceError) as error:
        load_trace(tmp_path / "none.npz")
    expected = f"{tmp_path}/none.npz: cannot be read (No such file or directory): an .npz file is needed"
    assert str(error.value) == expected
    with pytest.raises(TraceError, match=r"cannot be read \(Is a directory\)"):
        load_trace(tmp_path)


def test_every_truncation_is_told(tmp_path):
    save_trace(tmp_path / "t.npz", _full())
    data = (tmp_path / "t.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for length in [*range(0, len(data), 37), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(TraceError, match=r"cut\.npz: "):
            load_trace(path)


def test_every_damage_is_told_or_harmless(tmp_path):
    """Any one byte of the file changed: either one clear error or a trace of the same arrays."""
    np.savez_compressed(tmp_path / "t.npz", **_arrays())
    data = (tmp_path / "t.npz").read_bytes()
    path = tmp_path / "flipped.npz"
    refused = 0
    for position in range(0, len(data), 3):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        try:
            trace = load_trace(path)
        except TraceError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
        else:
            assert np.array_equal(trace.q, _arrays()["q"])
    assert refused > len(data) // 6


def test_size_claimed_by_a_header_is_not_allocated(tmp_path):
    path = tmp_path / "huge.npz"
    header = "{'descr': '|i1', 'fortran_order': False, 'shape': (1000000, 1000000, 1000000, 16), }".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("q.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(TraceError, match=r"array q has shape \(1000000, .*: its 128 bytes do not hold that"):
        load_trace(path)


def test_constructor_says_the_array():
    with pytest.raises(TraceError, match=r"^array q has dtype float64: int8 is needed$"):
        Trace(**_arrays(q=np.ones((2, 4, 5, 16))))


# From floats ----------------------------------------------------------------------------------------------------------


def test_quantise():
    values = np.array([[0.0, 1.0, -2.0, 0.5], [0, 0, 0, 0], [1e-3, 2.54e-1, 0, -1.0e-3]])
    array, scale = quantise(values)
    assert array.dtype == np.int8
    assert array.tolist() == [[0, 64, -127, 32], [0] * 4, [1, 127, 0, 0]]
    assert scale.tolist() == pytest.approx([2 / 127, 1.0, 2e-3])
    assert np.abs(array * scale[:, None] - values).max() <= scale.max() / 2


def test_quantised_scores_are_near():
    source = np.random.default_rng(3)
    q, k, v = (source.normal(size=(LAYERS, heads, 40, 64)) for heads in (HEADS, KV_HEADS, KV_HEADS))
    theta, sink = source.normal(size=(LAYERS, HEADS)), source.uniform(0, 3, (LAYERS, HEADS))
    trace = make_trace(q, k, v, theta=theta, sink=sink)
    exact = q @ k.repeat(2, axis=1).swapaxes(2, 3) / 8
    integer = trace.q.astype(np.int64) @ trace.k.astype(np.int64).repeat(2, axis=1).swapaxes(2, 3)
    scale = trace.score_scale[:, :, None, None]
    assert np.abs(integer * scale - exact).std() < 0.02
    assert trace.theta * trace.score_scale == pytest.approx(theta, abs=float(scale.max()))
    assert trace.sink * trace.score_scale == pytest.approx(sink, abs=float(scale.max()))


def test_make_trace_takes_tensors():
    torch = pytest.importorskip("torch")
    q = torch.randn(LAYERS, HEADS, TOKENS, HEAD_DIM, requires_grad=True)
    k, v = (torch.randn(LAYERS, KV_HEADS, TOKENS, HEAD_DIM, dtype=torch.bfloat16) for _ in range(2))
    trace = make_trace(q, k, v, gain=torch.full((LAYERS, HEADS, HEAD_DIM), 20.0), flags=q[:, 0, :, 0] > 0)
    assert np.array_equal(trace.flags, q.detach().numpy()[:, 0, :, 0] > 0)
    assert np.array_equal(trace.q, quantise(q.detach().numpy())[0])
    assert np.array_equal(trace.v, quantise(v.float().numpy())[0])
    assert np.unique(trace.gain).tolist() == [20.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": np.full((LAYERS, HEADS, TOKENS, HEAD_DIM), np.nan)}, "array q has NaN or infinite elements"),
        ({"k": np.full((LAYERS, KV_HEADS, TOKENS, HEAD_DIM), np.inf)}, "array k has NaN or infinite elements"),
        ({"k": np.ones((TOKENS, HEAD_DIM))}, "array k has 2 axes: 4 (layers, heads, tokens, head_dim) are needed"),
        ({"k": np.ones((LAYERS + 1, KV_HEADS, TOKENS, HEAD_DIM))}, "array k has 3 layers: 2 like q are needed"),
        ({"theta": np.ones((LAYERS, 3))}, "array theta has shape (2, 3): (2, 4) is needed"),
        ({"theta": NAN}, "array theta has NaN or infinite elements: finite numbers are needed"),
        ({"theta": np.full((LAYERS, HEADS), 1e9)}, "array theta has "),
        ({"sink": np.ones((LAYERS, 3))}, "array sink has shape (2, 3): (2, 4) is needed"),
        ({"sink": -np.ones((LAYERS, HEADS))}, "array sink has -"),
        ({"gain": np.ones(3)}, "array gain has shape (3,): (2, 4, 16) is needed"),
        ({"flags": [[True] * TOKENS]}, "array flags has shape (1, 5): (2, 5) is needed"),
        ({"flags": np.ones((LAYERS, TOKENS))}, "array flags has dtype float64: bool is needed"),
    ],
)
def test_unfit_floats(changes, message):
    arrays = {name: array.astype(float) for name, array in _arrays().items()} | changes
    with pytest.raises(TraceError) as error:
        make_trace(**arrays)
    assert str(error.value).startswith(message)


def test_neither_formats_nor_traces_import_torch():
    code = "import sys, reluctant.golden.trace; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    code = "import sys, reluctant.golden.settings; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
