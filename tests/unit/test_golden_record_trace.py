"""Traces of a language model, and the command that trains one for its trace."""

import lzma

import pytest
import torch

from reluctant.golden import integer, train
from reluctant.golden.checkpoint import load_model
from reluctant.golden.formats import Normaliser
from reluctant.golden.reference import AttentionKind
from reluctant.golden.trace import load_trace
from tests.unit.language_models import SMALL, small_model, small_text


def test_trace_reproduces_the_model():
    """The integer model on the trace gives what the float model gave, in units of the trace's gain."""
    model = small_model()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.gain.uniform_(0.5, 1.5)
    symbols = small_text()[:64]
    trace = train.record_trace(model, symbols)
    assert (trace.layers, trace.heads, trace.kv_heads, trace.tokens, trace.head_dim) == (2, 4, 2, 64, 8)
    _, records = model.run(symbols.long()[None])
    for layer, record in enumerate(records):
        inputs = (torch.from_numpy(array[layer]) for array in (trace.q, trace.k, trace.v))
        output = integer.run_layer(trace.settings(layer, normaliser=Normaliser.RMS_HEAD), *inputs).output
        expected = record.output[0] * 127 / record.output.abs().max()
        error = (output - expected).square().mean().sqrt() / expected.square().mean().sqrt()
        assert output.abs().max() > 120
        assert error < 0.05


def test_trace_holds_thresholds():
    model = small_model(attention=AttentionKind.LENGTH)
    with torch.no_grad():
        model.blocks[1].attention.theta.copy_(torch.tensor([0.0, 0.01, -0.02, 0.03]))
    trace = train.record_trace(model, small_text()[:32])
    real = trace.theta * trace.score_scale
    assert real[0].tolist() == [0] * 4
    assert real[1].tolist() == pytest.approx([0.0, 0.01, -0.02, 0.03], abs=float(trace.score_scale.max()))


def test_trace_of_a_sum_reproduces_the_model():
    """Sinks and thresholds in units of score; outputs in units of the values."""
    model = small_model(attention=AttentionKind.RELU_SUM)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.query.weight.mul_(8)
            block.attention.sink.uniform_(-3, 1)
    symbols = small_text()[:64]
    trace = train.record_trace(model, symbols)
    assert len(set(trace.sink.flatten().tolist())) == 8
    _, records = model.run(symbols.long()[None])
    for layer, record in enumerate(records):
        inputs = (torch.from_numpy(array[layer]) for array in (trace.q, trace.k, trace.v))
        output = integer.run_layer(trace.settings(layer, normaliser=Normaliser.SUM), *inputs).output
        expected = record.output[0] * 127 / record.v.abs().max()
        error = (output - expected).square().mean().sqrt() / expected.square().mean().sqrt()
        assert error < 0.05


def _command(tmp_path, *extra, text="text.txt"):
    sizes = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    paths = ["--text", str(tmp_path / text), "--out", str(tmp_path / "t.npz")]
    return train.main([*paths, *sizes, "--steps", "3", "--batch", "2", "--context", "16", *extra])


def test_command(tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes(bytes(small_text().tolist()))
    assert _command(tmp_path, "--model", str(tmp_path / "m"), "--trace-tokens", "24") == 0
    printed = capsys.readouterr().out
    assert "step 3/3  loss " in printed
    assert "held-out loss " in printed
    first = (tmp_path / "t.npz").read_bytes()
    assert load_trace(tmp_path / "t.npz").q.shape == (2, 4, 24, 8)
    assert load_model(tmp_path / "m").config.head_dim == 8
    assert _command(tmp_path, "--trace-tokens", "24") == 0
    assert (tmp_path / "t.npz").read_bytes() == first


def test_command_reads_xz(tmp_path):
    (tmp_path / "text.xz").write_bytes(lzma.compress(bytes(small_text().tolist())))
    assert _command(tmp_path, "--trace-tokens", "8", text="text.xz") == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--kv-heads", "3"], "kv_heads is 3: a divisor of heads (4) is allowed"),
        (["--trace-tokens", "5000"], "trace is symbols 0 to 5000 of the held-out text: it has 200"),
        (["--context", "3900", "--trace-tokens", "8"], "text has 3800 symbols: more than 3900 (a window) are needed"),
        (["--valid", "nowhere.txt"], "No such file or directory: 'nowhere.txt'"),
        (["--steps", "0"], "steps is 0: 1 or more is needed"),
    ],
)
def test_command_tells_mistakes(tmp_path, capsys, extra, message):
    (tmp_path / "text.txt").write_bytes(bytes(small_text().tolist()))
    assert _command(tmp_path, *extra) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "t.npz").exists()


def test_empty_and_damaged_text(tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes(b"")
    assert _command(tmp_path) == 2
    assert "text.txt: empty, text is needed" in capsys.readouterr().err
    (tmp_path / "text.xz").write_bytes(b"no xz")
    assert _command(tmp_path, text="text.xz") == 2
    assert "text.xz: is no .xz file, or damaged (" in capsys.readouterr().err
