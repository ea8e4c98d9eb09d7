"""The models that come with the package: small enough, as good in int8 as in float, and mostly zero weights."""

import json

import pytest
import torch

from reluctant.cli import main
from reluctant.golden.evaluation import evaluate
from reluctant.golden.head_mask import load_mask
from reluctant.golden.kinds import AttentionKind
from reluctant.golden.unit_attention import UnitAttention, UnitOptions
from reluctant.models import SHIPPED, open_deployed

MOST_BYTES = 8_000_000
# Shakespeare, Julius Caesar, act 3, scene 2: a play that is held out.
TEXT = """ANTONY.
Friends, Romans, countrymen, lend me your ears;
I come to bury Caesar, not to praise him.
The evil that men do lives after them,
The good is oft interred with their bones;
So let it be with Caesar. The noble Brutus
Hath told you Caesar was ambitious.
If it were so, it was a grievous fault,
And grievously hath Caesar answer'd it.
Here, under leave of Brutus and the rest,
For Brutus is an honourable man,
So are they all, all honourable men,
Come I to speak in Caesar's funeral.
He was my friend, faithful and just to me;
But Brutus says he was ambitious,
And Brutus is an honourable man.
He hath brought many captives home to Rome,
Whose ransoms did the general coffers fill:
Did this in Caesar seem ambitious?
When that the poor have cried, Caesar hath wept;
Ambition should be made of sterner stuff:
Yet Brutus says he was ambitious;
And Brutus is an honourable man.
"""


def _losses(model, options=None):
    """(loss in float, loss in int8, the unit's share of zero weights)"""
    symbols = torch.from_numpy(model.tokenizer.encode(TEXT).astype("int64"))
    unit = UnitAttention(model, options)
    exact, whole = (
        evaluate(model.decoder, model.tokenizer, symbols, attend=attend, context=len(symbols) - 1).loss
        for attend in (None, unit)
    )
    return exact, whole, sum(part.zero_share for part in unit.activity) / len(unit.activity)


@pytest.mark.parametrize("name", list(SHIPPED))
def test_a_model_is_small_and_as_good_as_in_float(name):
    assert SHIPPED[name].stat().st_size <= MOST_BYTES
    model = open_deployed(name)
    assert model.tokenizer.decode(model.tokenizer.encode(TEXT)) == TEXT
    exact, unit, _ = _losses(model)
    # A model that knows nothing has log(1024) = 6.93.
    assert unit < 3.2
    assert unit == pytest.approx(exact, abs=0.02)


def test_most_weights_are_zero():
    model = open_deployed("relu")
    assert model.config.attention is AttentionKind.RELU_SUM
    _, unit, zeros = _losses(model)
    assert zeros > 0.75
    mask = load_mask(SHIPPED["relu"].with_name("relu.mask.json"))
    assert len(mask.dropped) == round(0.3 * model.config.layers * model.config.heads)
    _, pruned, more = _losses(model, UnitOptions(mask=mask))
    assert pruned < unit + 0.1
    assert more > zeros


def test_the_pair_differs_in_attention_only():
    relu, softmax = open_deployed("relu"), open_deployed("softmax")
    assert softmax.config.as_dict() == relu.config.as_dict() | {"attention": "softmax"}
    assert softmax.tokenizer.text == relu.tokenizer.text
    assert torch.equal(softmax.counts, relu.counts)


def test_models_and_masks_have_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text(TEXT)
    words = ["evaluate", "relu", "--text", "t.txt", "--context", "100", "--report", "r.json"]
    assert main([*words, "--mask", "relu"]) == 0
    assert sum(mask.bit_count() for mask in json.loads((tmp_path / "r.json").read_text())["masks"]) == 14
    assert "relu in int8: " in capsys.readouterr().out
