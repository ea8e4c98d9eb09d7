"""The language model: causal, switchable, prunable, and the same on every path."""

import json
import math
import re
import sys

import pytest
import torch

from reluctant.golden import reference, trainer
from reluctant.golden.checkpoint import load_model, save_model
from reluctant.golden.language_model import ModelConfig, fused_softmax, rotate
from reluctant.golden.presets import PRESETS, choose
from reluctant.golden.reference import AttentionKind
from tests.unit.language_models import SMALL, small_model, small_text


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
    model = small_model(attention=kind, threshold=True, gate=True)
    symbols = small_text()[:24].long()[None]
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
    assert trainer.evaluate(small_model(), small_text(), 32) == pytest.approx(math.log(256), rel=0.2)


def test_zero_share_counts_rows_seen():
    model = small_model(attention=AttentionKind.LENGTH)
    record = model.run(small_text()[:16].long()[None])[1][0]
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
        ({"dropout": 1.0}, "dropout is 1.0: 0 or more, and less than 1, is needed"),
        ({"attention": "relu"}, "'relu' is not a valid AttentionKind"),
    ],
)
def test_model_config_is_checked(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**SMALL | change)


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_masks_prune_heads(kind):
    """A mask of ones changes nothing; a head whose mask is 0 might as well have a zero output projection."""
    model = small_model(attention=kind)
    symbols = small_text()[:20].long()[None].expand(2, 20)
    ones = torch.ones(2, 4, requires_grad=True)
    logits = model(symbols, ones)
    assert torch.equal(logits, model(symbols))
    (importance,) = torch.autograd.grad(logits.square().sum(), ones)
    assert (importance != 0).all()
    masks = torch.ones(2, 4)
    masks[1, 2] = 0
    pruned, records = model.run(symbols, masks)
    assert records[1].output[:, 2].abs().max() == 0
    by_sequence = torch.stack((torch.ones(2, 4), masks), dim=1)
    mixed = model(symbols, by_sequence)
    torch.testing.assert_close(mixed, torch.stack((logits[0], pruned[1])))
    with torch.no_grad():
        model.blocks[1].attention.output.weight[:, 16:24] = 0
    torch.testing.assert_close(model(symbols), pruned)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_fused_softmax_is_the_reference(kv_heads):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 9, 8, generator=generator) for heads in (4, kv_heads, kv_heads))
    torch.testing.assert_close(fused_softmax(q, k, v), reference.softmax_attention(q, k, v))


def test_activity_approaches_the_share_of_weights():
    """Far from the threshold it is 1 less the share of zeros; at it, a half; and its gradient raises thresholds."""
    model = small_model(attention=AttentionKind.RELU_SUM)
    records = model.run(small_text()[:16].long()[None].expand(3, 16))[1]
    theta = model.blocks[0].attention.theta
    with torch.no_grad():
        for block in model.blocks:
            block.attention.theta.copy_(torch.tensor([1e9, -1e9, -1e9, -1e9]))
        assert model.activity(records) == pytest.approx(0.75)
        for block in model.blocks:
            block.attention.theta.zero_()
        flat = [type(record)(record.q * 0, record.k, record.v, record.output) for record in records]
        assert model.activity(flat) == pytest.approx(0.5)
    model.activity(records).backward()
    assert (theta.grad < 0).all()


def test_dropout_in_training_only():
    model = small_model(dropout=0.5)
    symbols = small_text()[:20].long()[None]
    assert not torch.equal(model(symbols), model(symbols))
    model.eval()
    assert torch.equal(model(symbols), model(symbols))
    with torch.no_grad():
        expected = small_model().eval()(symbols)
    assert torch.equal(model(symbols), expected)


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_step_is_one_graph_in_bfloat16(kind):
    """What a GPU compiles: no breaks, and in bfloat16 nearly the loss of float32."""
    model = small_model(attention=kind)
    symbols = small_text()[:66].long().reshape(2, 33)
    penalty = 0.0 if kind is AttentionKind.SOFTMAX else 0.1
    _, expected = trainer._objective(model, symbols, penalty)
    whole = torch.compile(trainer._objective, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        objective, loss = whole(model, symbols, penalty)
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)
    assert (objective > loss) == bool(penalty)
    objective.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_presets():
    base = PRESETS["base"].model
    sizes = (base.layers, base.heads, base.kv_heads, base.head_dim, base.width, base.hidden, base.vocabulary)
    assert sizes == (6, 8, 8, 32, 256, 1024, 1024)
    assert PRESETS["base"].training.context == 512
    changed = choose("tiny", attention="softmax", steps=3, rate=None, penalty=0.5)
    assert changed.model.attention is AttentionKind.SOFTMAX
    assert (changed.training.steps, changed.training.penalty) == (3, 0.5)
    assert changed.training.rate == PRESETS["tiny"].training.rate
    with pytest.raises(ValueError, match=r"^preset is huge: tiny or base is allowed$"):
        choose("huge")


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(AttentionKind))
@pytest.mark.parametrize("library", [True, False])
def test_saved_model_is_the_same(tmp_path, monkeypatch, kind, library):
    if not library:
        monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    model = small_model(attention=kind, dropout=0.1).eval()
    save_model(tmp_path, model, half=False, training={"steps": 3})
    weights = "model.safetensors" if library else "model.pt"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", weights]
    loaded = load_model(tmp_path)
    symbols = small_text()[:20].long()[None]
    assert loaded.config == model.config
    assert torch.equal(loaded(symbols), model(symbols))
    assert json.loads((tmp_path / "config.json").read_text())["training"] == {"steps": 3}


def test_half_precision_halves_the_file(tmp_path):
    model = small_model(width=64).eval()
    save_model(tmp_path / "a", model, half=False)
    save_model(tmp_path / "b", model)
    size = [(tmp_path / name / "model.safetensors").stat().st_size for name in "ab"]
    assert 0.5 < size[1] / size[0] < 0.55
    symbols = small_text()[:20].long()[None]
    expected = model.half().float()(symbols)
    assert torch.equal(load_model(tmp_path / "b")(symbols), expected)


def _flip(path):
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json: cannot be read (No such file or directory)"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: describes no model ("),
        (lambda folder: (folder / "config.json").write_text('{"model": {"depth": 3}}'), "describes no model ("),
        (lambda folder: (folder / "model.safetensors").unlink(), "the model's weights are needed"),
        (lambda folder: _flip(folder / "model.safetensors"), "model.safetensors: is damaged ("),
        (lambda folder: save_model(folder / "x", small_model(width=8)), None),
    ],
)
def test_damaged_models(tmp_path, damage, message):
    save_model(tmp_path, small_model())
    damage(tmp_path)
    if message is None:
        (tmp_path / "x" / "model.safetensors").replace(tmp_path / "model.safetensors")
        message = "weights and config.json are of different models"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)
