"""The language model, its training and the trace that it leaves."""

import lzma
import math

import pytest
import torch

from reluctant.golden import integer, train
from reluctant.golden.formats import Normaliser
from reluctant.golden.language_model import LanguageModel, ModelConfig, load_model, rotate, save_model
from reluctant.golden.reference import AttentionKind
from reluctant.golden.trace import load_trace


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads only get in each other's way at these sizes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SMALL = {"layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8, "width": 16, "hidden": 32}


def _model(**changes):
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(**SMALL | changes))


def _text(count=4000):
    return torch.frombuffer(bytearray(b"the cat sat on the mat. " * (count // 24 + 1)), dtype=torch.uint8)[:count]


def test_rotary_scores_depend_on_distance():
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([0, 3, 50, 53])
    q, k = rotate(q.expand(4, 8), positions), rotate(k.expand(4, 8), positions)
    assert q[1] @ k[0] == pytest.approx(float(q[3] @ k[2]), abs=1e-5)
    assert abs(q[1] @ k[0] - q[0] @ k[1]) > 1e-3
    assert torch.equal(q[0], rotate(q[:1], torch.tensor([0]))[0])
    torch.testing.assert_close(q.norm(dim=1), q[0].norm().expand(4))


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_model_is_causal_and_every_parameter_learns(kind):
    model = _model(attention=kind, threshold=True, gate=True)
    symbols = _text()[:24].long()[None]
    logits, records = model.run(symbols)
    assert logits.shape == (1, 24, 256)
    assert [record.k.shape for record in records] == [(1, 2, 24, 8)] * 2
    changed = symbols.clone()
    changed[0, 12:] = 7
    assert torch.allclose(model(changed)[:, :12], logits[:, :12], atol=1e-6)
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_untrained_loss_is_that_of_guessing():
    assert train.evaluate(_model(), _text(), 32) == pytest.approx(math.log(256), rel=0.2)


def test_zero_share_counts_rows_seen():
    model = _model(attention=AttentionKind.LENGTH)
    record = model.run(_text()[:16].long()[None])[1][0]
    attention = model.blocks[0].attention
    with torch.no_grad():
        attention.theta.fill_(1e9)
        assert attention.zero_share(record) == 1.0
        attention.theta.fill_(-1e9)
        assert attention.zero_share(record) == 0.0
        attention.theta.copy_(torch.tensor([1e9, -1e9, -1e9, -1e9]))
        assert attention.zero_share(record) == 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_heads": 3}, r"kv_heads is 3: a divisor of heads \(4\) is allowed"),
        ({"head_dim": 7}, "head_dim is 7: an even number is needed"),
        ({"layers": 0}, "layers is 0: 1 or more is needed"),
    ],
)
def test_model_config_is_checked(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**SMALL | change)


def test_saved_model_is_the_same(tmp_path):
    model = _model(attention=AttentionKind.LENGTH)
    save_model(tmp_path / "m.pt", model)
    loaded = load_model(tmp_path / "m.pt")
    symbols = _text()[:20].long()[None]
    assert loaded.config == model.config
    assert torch.equal(loaded(symbols), model(symbols))


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_training_learns_and_is_reproducible(kind):
    config = train.TrainingConfig(steps=25, batch=4, context=24, rate=1e-2)
    losses = []
    for _ in range(2):
        model, seen = _model(attention=kind), []
        train.train(model, _text(), config, lambda step, loss, seen=seen: seen.append(loss))
        losses.append(seen)
    assert losses[0] == losses[1]
    assert len(losses[0]) == 25
    assert losses[0][-1] < 0.7 * losses[0][0]
    assert train.evaluate(model, _text(), 32) < 0.7 * losses[0][0]


def test_rate_rises_and_falls():
    config = train.TrainingConfig(steps=100, rate=0.01)
    rates = [config.rate_at(step) for step in range(100)]
    assert max(rates) == rates[4] == pytest.approx(0.01)
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.001, rel=0.01)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 0}, {"context": 0}, {"rate": 0.0}, {"rate": math.nan}])
def test_training_config_is_checked(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} is "):
        train.TrainingConfig(**change)


def test_trace_reproduces_the_model():
    """The integer model on the trace gives what the float model gave, in units of the trace's gain."""
    model = _model()
    with torch.no_grad():
        for block in model.blocks:
            block.attention.gain.uniform_(0.5, 1.5)
    symbols = _text()[:64]
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
    model = _model(attention=AttentionKind.LENGTH)
    with torch.no_grad():
        model.blocks[1].attention.theta.copy_(torch.tensor([0.0, 0.01, -0.02, 0.03]))
    trace = train.record_trace(model, _text()[:32])
    real = trace.theta * trace.score_scale
    assert real[0].tolist() == [0] * 4
    assert real[1].tolist() == pytest.approx([0.0, 0.01, -0.02, 0.03], abs=float(trace.score_scale.max()))


def _command(tmp_path, *extra, text="text.txt"):
    sizes = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    paths = ["--text", str(tmp_path / text), "--out", str(tmp_path / "t.npz")]
    return train.main([*paths, *sizes, "--steps", "3", "--batch", "2", "--context", "16", *extra])


def test_command(tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes(bytes(_text().tolist()))
    assert _command(tmp_path, "--model", str(tmp_path / "m.pt"), "--trace-tokens", "24") == 0
    printed = capsys.readouterr().out
    assert "step 3/3  loss " in printed
    assert "held-out loss " in printed
    first = (tmp_path / "t.npz").read_bytes()
    assert load_trace(tmp_path / "t.npz").q.shape == (2, 4, 24, 8)
    assert load_model(tmp_path / "m.pt").config.head_dim == 8
    assert _command(tmp_path, "--trace-tokens", "24") == 0
    assert (tmp_path / "t.npz").read_bytes() == first


def test_command_reads_xz(tmp_path):
    (tmp_path / "text.xz").write_bytes(lzma.compress(bytes(_text().tolist())))
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
    (tmp_path / "text.txt").write_bytes(bytes(_text().tolist()))
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
    assert capsys.readouterr().err.startswith("train: ")
