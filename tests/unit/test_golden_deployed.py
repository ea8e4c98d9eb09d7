"""Deployed models: the same function as the float model, in int8; files; calibration."""

import json
import math

import pytest
import torch

from reluctant.golden.calibration import calibrate, deploy
from reluctant.golden.decoder import Decoder, DecoderConfig, from_language_model
from reluctant.golden.deployed import DeployedModel, quantise_matrix, quantise_rows
from reluctant.golden.deployed_file import load_deployed, save_deployed
from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.reference import AttentionKind
from reluctant.golden.tokenizer import byte_tokenizer, learn_tokenizer
from reluctant.golden.unit_attention import UnitAttention, UnitOptions

from .deployed_models import CONTEXT, SIZES, TEXT, deployed_model, language_model

KINDS = list(AttentionKind)


def _windows(count=3):
    return torch.frombuffer(bytearray(TEXT.encode()), dtype=torch.uint8)[: CONTEXT * count].long().reshape(count, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_is_the_language_model(kind):
    model = language_model(kind)
    decoder = from_language_model(model, CONTEXT)
    assert decoder.config.context == CONTEXT
    with torch.no_grad():
        torch.testing.assert_close(decoder.forward(_windows()), model(_windows()), rtol=1e-4, atol=1e-4)


def test_what_a_decoder_is_not():
    with pytest.raises(ValueError, match="attention has a gate: the unit has none"):
        from_language_model(language_model(AttentionKind.RELA_HEAD, gate=True), CONTEXT)
    decoder = from_language_model(language_model(), CONTEXT)
    del decoder.weights["layers.1.up"]
    with pytest.raises(ValueError, match=r"layers.1.up is missing: a tensor of shape \(48, 32\) is needed"):
        Decoder(decoder.config, decoder.weights)
    with pytest.raises(ValueError, match=r"norm has shape \(3,\): \(32,\) is needed"):
        Decoder(decoder.config, decoder.weights | {"layers.1.up": torch.zeros(48, 32), "norm": torch.zeros(3)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers is 0: an integer of 1 or more"),
        ({"width": 1.5}, "width is 1.5: an integer of 1 or more"),
        ({"kv_heads": 3}, "kv_heads is 3: a divisor of heads"),
        ({"head_dim": 7}, "head_dim is 7: an even number"),
        ({"rope_base": 0}, "rope_base is 0: a number above 0"),
        ({"epsilon": math.nan}, "epsilon is nan: a number above 0"),
        ({"tied": 1}, "tied is 1: true or false"),
        ({"activation": "tanh"}, "'tanh' is not a valid Activation"),
    ],
)
def test_configurations_that_are_none(changes, message):
    values = SIZES | {"vocabulary": 256, "attention": "softmax", "context": 8} | changes
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**values)


def test_quantising():
    matrix = quantise_matrix(torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]))
    assert matrix.values.tolist() == [[64, -127, 32], [0, 0, 0]]
    assert matrix.scale.tolist() == pytest.approx([2 / 127, 1])
    torch.testing.assert_close(matrix.real()[0], torch.tensor([1.0, -2.0, 0.5]), atol=1 / 127, rtol=0)
    rows = quantise_rows(torch.tensor([0.5, -0.5, 1e9, -1e9, 3.49]), torch.tensor(1.0))
    assert rows.tolist() == [1, 0, 127, -127, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_int8_stays_close_to_float(kind):
    """On rows that were calibrated on, the unit's contexts are those of the float model but for a few percent."""
    model, seen = deployed_model(kind), []
    unit = UnitAttention(model)

    def attend(layer, q, k, v):
        exact, contexts = model.decoder.attention(layer, q, k, v), unit(layer, q, k, v)
        error = (contexts - exact).abs().mean((0, 2, 3)) / exact.abs().mean((0, 2, 3))
        seen.append(error.max().item())
        return exact

    with torch.no_grad():
        model.decoder.forward(_windows(), attend)
    assert len(seen) == SIZES["layers"]
    assert max(seen) < 0.05


def test_scales_are_those_of_the_largest_rows():
    model = deployed_model()
    symbols = torch.frombuffer(bytearray(TEXT.encode()), dtype=torch.uint8).long()
    scales = calibrate(model.decoder, symbols)
    assert torch.equal(scales.q, model.scales.q)
    assert (scales.q.shape, scales.k.shape) == ((2, 4), (2, 2))
    assert (scales.v.shape, scales.output.shape) == ((2, 2), (2, 4))
    # A quarter of the windows cannot have larger rows.
    few = calibrate(model.decoder, symbols, 16)
    assert (few.k <= scales.k).all()
    together = deployed_model(AttentionKind.RELA_LAYER).scales
    assert (together.k == together.k[:, :1]).all()
    assert torch.equal(model.counts, torch.bincount(symbols, minlength=256))


def test_settings():
    model = deployed_model()
    decoder, d = model.decoder, SIZES["head_dim"]
    settings = model.settings(1)
    unit = [float(model.scales.q[1, h] * model.scales.k[1, h // 2]) / math.sqrt(d) for h in range(4)]
    parameters = decoder.parameters(1)
    assert settings.theta == tuple(round(float(parameters["theta"][h]) / unit[h]) for h in range(4))
    assert settings.sink == tuple(round(float(parameters["sink"][h]) / unit[h]) for h in range(4))
    assert settings.mode == (Mode.RELU,) * 4
    assert (settings.normaliser, settings.kv_heads, settings.mask) == (Normaliser.SUM, 2, (False,) * 4)
    for h, (mantissa, exponent) in enumerate(settings.alpha):
        factor = float(model.scales.v[1, h // 2] / model.scales.output[1, h])
        assert mantissa * 2.0 ** (exponent - 15) == pytest.approx(factor, rel=1e-4)
    other = model.settings(0, mode=Mode.HYBRID, min_active=3, min_mass=9, mask=(True, False, False, True))
    assert (other.mode, other.min_active, other.min_mass) == ((Mode.HYBRID,) * 4, (3,) * 4, (9,) * 4)
    assert other.mask == (True, False, False, True)
    assert deployed_model(AttentionKind.SOFTMAX).settings(0).mode == (Mode.SOFTMAX,) * 4


def test_a_head_whose_theta_does_not_fit_is_saturated():
    model = deployed_model()
    vectors = model.vectors | {"layers.0.theta": torch.tensor([1e9, -1e9, 0.0, 0.0])}
    model = DeployedModel(model.config, model.tokenizer, model.matrices, vectors, model.scales, model.counts)
    assert model.settings(0).theta[:2] == (2**17 * 2 - 1, -(2**17) * 2)


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_file_holds_all(tmp_path):
    model = deployed_model()
    save_deployed(tmp_path / "a", model)
    save_deployed(tmp_path / "b", deploy(language_model(), byte_tokenizer(), TEXT, context=CONTEXT))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = load_deployed(tmp_path / "a")
    assert again.config == model.config
    assert again.tokenizer.text == model.tokenizer.text
    assert [again.settings(layer) for layer in range(2)] == [model.settings(layer) for layer in range(2)]
    with torch.no_grad():
        unit = [UnitAttention(which, UnitOptions()) for which in (model, again)]
        logits = [which.decoder.forward(_windows(), attend) for which, attend in zip((model, again), unit, strict=True)]
    assert torch.equal(*logits)
    save_deployed(tmp_path / "c", again)
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()


def test_byte_pairs_and_notes_are_kept(tmp_path):
    tokenizer = learn_tokenizer(TEXT, 280)
    model = language_model(vocabulary=tokenizer.vocabulary)
    save_deployed(tmp_path / "m", deploy(model, tokenizer, TEXT, context=CONTEXT, about={"note": "größer"}))
    again = load_deployed(tmp_path / "m")
    assert again.about == {"note": "größer"}
    assert again.tokenizer.decode(again.tokenizer.encode(TEXT)) == TEXT


def _header(path, change):
    """The file with the JSON in its header changed."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = json.loads(header["__metadata__"]["reluctant"])
    header["__metadata__"]["reluctant"] = json.dumps(change(about))
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about | {"version": 9}, "version is 9: 1 is needed"),
        (lambda about: about | {"config": about["config"] | {"layers": 3}}, r"rows.q is torch.float32 \(2, 4\)"),
        (lambda about: about | {"config": about["config"] | {"tied": False}}, "head is missing"),
        (lambda about: about | {"config": about["config"] | {"heads": 2}}, "rows.q is torch.float32"),
        (lambda about: about | {"config": about["config"] | {"size": 2}}, "unexpected keyword argument 'size'"),
        (lambda about: about | {"tokenizer": "{}"}, "no byte-level byte pair encoding"),
        (lambda about: {"version": 1}, "config is missing"),
    ],
)
def test_files_of_something_else(tmp_path, change, message):
    save_deployed(tmp_path / "m", deployed_model())
    _header(tmp_path / "m", change)
    with pytest.raises(ValueError, match=f"m: is no deployed model: .*{message}"):
        load_deployed(tmp_path / "m")


def test_damaged_files(tmp_path):
    save_deployed(tmp_path / "m", deployed_model())
    data = (tmp_path / "m").read_bytes()
    for damaged in (b"", data[:100], data[:-1], b"PK" + data):
        (tmp_path / "m").write_bytes(damaged)
        with pytest.raises(ValueError, match="m: is no deployed model, or damaged"):
            load_deployed(tmp_path / "m")
    with pytest.raises(ValueError, match=r"none: cannot be read \(No such file or directory\)"):
        load_deployed(tmp_path / "none")


def test_numbers_that_are_none(tmp_path):
    model = deployed_model()
    bad = model.vectors | {"norm": torch.full((32,), math.nan)}
    save_deployed(
        tmp_path / "m", DeployedModel(model.config, model.tokenizer, model.matrices, bad, model.scales, model.counts)
    )
    with pytest.raises(ValueError, match="norm has NaN or infinite elements"):
        load_deployed(tmp_path / "m")


def test_what_cannot_be_deployed():
    with pytest.raises(ValueError, match="tokenizer has 256 symbols: the model has 100"):
        deploy(language_model(vocabulary=100), byte_tokenizer(), TEXT, context=CONTEXT)
    with pytest.raises(ValueError, match="text has 3 symbols: more than 24"):
        deploy(language_model(), byte_tokenizer(), "abc", context=CONTEXT)
    model = language_model()
    model.blocks[0].attention.key.weight.data[0, 0] = math.inf
    with pytest.raises(ValueError, match="not finite"):
        deploy(model, byte_tokenizer(), TEXT, context=CONTEXT)
