"""``reluctant import``: LLaMA-style checkpoints against a forward pass written out plainly; what cannot be mapped."""

import json

import pytest
import torch
from safetensors.torch import save_file

from reluctant.cli import main
from reluctant.golden.checkpoint import save_model
from reluctant.golden.deployed_file import load_deployed
from reluctant.golden.importing import import_decoder, read_checkpoint
from reluctant.golden.reference import AttentionKind
from reluctant.golden.tokenizer import learn_tokenizer
from reluctant.golden.unit_attention import UnitAttention

from .deployed_models import CONTEXT, TEXT, trained_model
from .llama_checkpoint import CONFIG, checkpoint, forward


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A text ``t.txt`` and a configuration ``c.json`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text(TEXT)
    (tmp_path / "c.json").write_text(json.dumps(CONFIG))
    return tmp_path


def _import(source, *extra):
    return main(["import", source, "--config", "c.json", "--text", "t.txt", "--out", "m", *extra])


SYMBOLS = torch.tensor(list(b"a rat ran off; who"))


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("changes", [{}, {"hidden_act": "relu", "tie_word_embeddings": True}])
@torch.no_grad()
def test_a_decoder_is_the_checkpoint(gated, changes):
    config = CONFIG | changes
    tensors = checkpoint(config, gated)
    imported = import_decoder(tensors, config)
    assert (imported.unmapped, imported.ignored) == ((), ())
    assert imported.decoder.config.context == 32
    wanted = forward(tensors, SYMBOLS, config)
    torch.testing.assert_close(imported.decoder.forward(SYMBOLS[None])[0].double(), wanted, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_sizes_that_are_said_otherwise():
    tensors = {name.removeprefix("model."): value.bfloat16() for name, value in checkpoint().items()}
    config = CONFIG | {"head_dim": 6, "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}
    del config["rope_theta"], config["rope_scaling"]
    decoder = import_decoder(tensors, config, context=16).decoder
    assert (decoder.config.context, decoder.config.rope_base) == (16, 500.0)
    wanted = forward(
        {f"{'' if 'lm_head' in name else 'model.'}{name}": value for name, value in tensors.items()}, SYMBOLS
    )
    torch.testing.assert_close(decoder.forward(SYMBOLS[None])[0].double(), wanted, rtol=1e-3, atol=1e-3)


def test_relu_attention_of_ones_own():
    config = CONFIG | {"attention": "relu_sum"}
    own = {
        f"model.layers.{n}.self_attn.{part}": torch.full((4,), n + 0.5) for n in range(2) for part in ("theta", "sink")
    }
    decoder = import_decoder(checkpoint() | own, config).decoder
    assert decoder.config.attention is AttentionKind.RELU_SUM
    assert decoder.parameters(1)["sink"].tolist() == [1.5] * 4
    with pytest.raises(ValueError, match=r"model.layers.0.self_attn.theta is missing: a tensor of shape \(4,\)"):
        import_decoder(checkpoint(), config)


@pytest.mark.parametrize("kind", ["w.safetensors", "w.pt", "folder", "shards"])
@torch.no_grad()
def test_import(files, capsys, kind):
    tensors = checkpoint()
    if kind == "w.safetensors":
        save_file(tensors, kind)
    elif kind == "w.pt":
        torch.save({"state_dict": tensors, "step": 7}, kind)
    else:
        (files / kind).mkdir()
        names = sorted(tensors)
        for part in range(1 if kind == "folder" else 2):
            of = names if kind == "folder" else names[part::2]
            save_file({name: tensors[name] for name in of}, files / kind / f"model-{part}.safetensors")
    assert _import(kind) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "2 layers of 4 heads on 2 KV heads of 6, width 24, feed-forward 40 (gated silu)" in printed.out
    model = load_deployed("m")
    assert f"Model in m ({(files / 'm').stat().st_size:,} bytes)" in printed.out
    assert model.about == {"source": kind, "calibrated": "t.txt"}
    wanted = forward(tensors, SYMBOLS)
    found = model.decoder.forward(SYMBOLS[None], UnitAttention(model))[0]
    assert (found - wanted).abs().mean() < 0.05 * wanted.std()


def test_a_folder_of_train(files, capsys):
    save_model(files / "f", trained_model(), half=False, training={"context": CONTEXT})
    assert main(["import", "f", "--text", "t.txt", "--out", "m"]) == 0
    assert "attention relu_sum" in capsys.readouterr().out
    assert load_deployed("m").config.context == CONTEXT
    assert main(["evaluate", "m", "--text", "t.txt"]) == 0


def test_a_tokenizer_beside_the_weights(files, capsys):
    tokenizer = learn_tokenizer(TEXT, 270)
    config = CONFIG | {"vocab_size": 300}
    (files / "c.json").write_text(json.dumps(config))
    save_file(checkpoint(config), "w.safetensors")
    assert _import("w.safetensors") == 2
    assert "tokenizer.json: no such file: 300 symbols are no bytes" in capsys.readouterr().err
    (files / "tokenizer.json").write_text(tokenizer.text, encoding="utf-8")
    assert _import("w.safetensors") == 0
    assert load_deployed("m").tokenizer.text == tokenizer.text
    assert _import("w.safetensors", "--tokenizer", "none.json") == 2
    assert (
        "none.json: cannot be read (No such file or directory): a tokenizer.json is needed" in capsys.readouterr().err
    )
    config["vocab_size"] = 260
    (files / "c.json").write_text(json.dumps(config))
    save_file(checkpoint(config), "w.safetensors")
    assert _import("w.safetensors") == 2
    assert "tokenizer has 270 symbols: the model has 260" in capsys.readouterr().err


def test_what_cannot_be_mapped_is_named(files, capsys):
    extra = {
        "model.layers.0.self_attn.q_proj.bias": torch.ones(24),
        "model.layers.1.self_attn.q_norm.weight": torch.ones(6),
        "model.layers.0.mlp.experts.3.w1.weight": torch.ones(6),
        "model.layers.2.mlp.up_proj.weight": torch.ones(6),
        "vision.weight": torch.ones(6),
        "model.layers.0.self_attn.k_proj.bias": torch.zeros(12),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3),
    }
    save_file(checkpoint() | extra, "w.safetensors")
    assert _import("w.safetensors") == 2
    printed = capsys.readouterr()
    for line in (
        "cannot be mapped: model.layers.0.self_attn.q_proj.bias: projections have no biases here",
        "cannot be mapped: model.layers.1.self_attn.q_norm.weight: queries and keys are not normed here",
        "cannot be mapped: model.layers.0.mlp.experts.3.w1.weight: mixtures of experts are not supported",
        "cannot be mapped: model.layers.2.mlp.up_proj.weight: the configuration has 2 layers",
        "cannot be mapped: vision.weight: nothing of that name is in a decoder of this form",
        "ignored: model.layers.0.self_attn.k_proj.bias: all zeros",
        "ignored: model.layers.0.self_attn.rotary_emb.inv_freq: frequencies follow from rope_theta",
    ):
        assert line in printed.out
    assert printed.err == "error: w.safetensors: 5 tensors cannot be mapped: --partial leaves them out\n"
    assert not (files / "m").exists()
    assert _import("w.safetensors", "--partial") == 0


def test_a_head_beside_tied_embeddings():
    config = CONFIG | {"tie_word_embeddings": True}
    tensors = checkpoint(config)
    same = import_decoder(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, config)
    assert same.ignored == (("lm_head.weight", "embeddings are tied"),)
    other = import_decoder(tensors | {"lm_head.weight": torch.ones(256, 24)}, config)
    assert other.unmapped == (("lm_head.weight", "is not the embedding: tie_word_embeddings must be false"),)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("model.layers.1.self_attn.k_proj.weight", None, "is missing: a tensor of shape (12, 24) is needed"),
        ("model.layers.1.self_attn.k_proj.weight", torch.ones(24, 24), "has shape (24, 24): (12, 24) is needed"),
        ("lm_head.weight", torch.ones(256, 24, dtype=torch.int8), "is torch.int8: a float type is needed"),
        ("model.norm.weight", torch.full((24,), float("nan")), "has NaN or infinite elements"),
    ],
)
def test_wrong_tensors_are_one_line(files, capsys, name, tensor, message):
    tensors = checkpoint()
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, "w.safetensors")
    assert _import("w.safetensors") == 2
    printed = capsys.readouterr()
    assert f"error: {name} {message}" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "config: hidden_size is None: an integer of 1 or more is needed"),
        ({"num_attention_heads": 5}, "config: hidden_size 24 is no multiple of 5 heads: head_dim is needed"),
        ({"num_key_value_heads": 3}, "config: kv_heads is 3: a divisor of heads (4) is allowed"),
        ({"hidden_act": "gelu"}, "config: hidden_act is 'gelu': relu or silu is supported"),
        ({"attention": "linear"}, "config: attention is 'linear': softmax or rela_head"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "config: rotary positions are of type 'llama3'"),
        ({"rope_scaling": {"type": "linear"}}, "config: rotary positions are of type 'linear'"),
        ({"partial_rotary_factor": 0.5}, "config: partial_rotary_factor is not 1"),
        ({"rms_norm_eps": 0}, "config: epsilon is 0: a number above 0 is needed"),
        ({"vocab_size": 300}, "model.embed_tokens.weight has shape (256, 24): (300, 24) is needed"),
    ],
)
def test_wrong_configurations_are_one_line(files, capsys, changes, message):
    (files / "c.json").write_text(json.dumps(CONFIG | changes))
    save_file(checkpoint(), "w.safetensors")
    assert _import("w.safetensors") == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", b"nothing", "w.pt: is damaged, or holds more than tensors: save the state dict alone"),
        ("w.safetensors", b"nothing", "w.safetensors: is damaged"),
        ("c.json", b"{", "c.json: is no JSON"),
        ("c.json", b"[]", "c.json: is no JSON object"),
    ],
)
def test_damaged_files(files, capsys, name, content, message):
    save_file(checkpoint(), "w.safetensors")
    (files / name).write_bytes(content)
    assert _import("w.pt" if name == "w.pt" else "w.safetensors") == 2
    assert message in capsys.readouterr().err


def test_files_that_are_not_there(files, capsys):
    assert _import("none.pt") == 2
    assert "none.pt: cannot be read (No such file or directory): weights are needed" in capsys.readouterr().err
    (files / "empty").mkdir()
    assert _import("empty") == 2
    assert "empty: has no .safetensors, .bin, .pt or .pth file: weights are needed" in capsys.readouterr().err
    torch.save([1, 2], "list.pt")
    assert _import("list.pt") == 2
    assert "list.pt: holds no named tensors: a state dict is needed" in capsys.readouterr().err
    save_file(checkpoint(), "w.safetensors")
    assert main(["import", "w.safetensors", "--text", "t.txt", "--out", "m"]) == 2
    assert "config.json: cannot be read (No such file or directory): the model's config.json" in capsys.readouterr().err
    assert _import("w.safetensors", "--context", "33") == 2
    assert "context is 33: the model takes at most 32 (max_position_embeddings)" in capsys.readouterr().err
    (files / "t.txt").write_text("short")
    assert _import("w.safetensors") == 2
    assert "t.txt: has 5 symbols: more than 32 (a window) are needed" in capsys.readouterr().err


def test_only_tensors_are_unpickled(files):
    torch.save({"a": torch.ones(2), "note": "x"}, "w.pt")
    assert list(read_checkpoint(files / "w.pt")) == ["a"]
    torch.save({"a": torch.ones(2), "code": print}, "w.pt")
    with pytest.raises(ValueError, match="holds more than tensors"):
        read_checkpoint(files / "w.pt")


def test_help_has_an_example(capsys):
    assert main(["import", "--help"]) == 0
    assert "  reluctant import out/model --text " in capsys.readouterr().out
