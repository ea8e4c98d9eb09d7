"""Held-out loss, by frequency, with damaged attention."""

import math

import pytest
import torch

from reluctant.golden import trainer
from reluctant.golden.decoder import from_language_model
from reluctant.golden.evaluation import Ablation, ablated, evaluate, evaluate_windows, frequency_groups, masked
from reluctant.golden.reference import AttentionKind
from reluctant.golden.tokenizer import byte_tokenizer, learn_tokenizer
from reluctant.golden.unit_attention import UnitAttention

from .deployed_models import CONTEXT, TEXT, deployed_model, language_model


def _symbols(text=TEXT):
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()


@pytest.mark.parametrize("kind", list(AttentionKind))
def test_the_loss_is_that_of_training(kind):
    model = language_model(kind)
    decoder, done = from_language_model(model, CONTEXT), []
    result = evaluate(decoder, byte_tokenizer(), _symbols(), progress=done.append)
    assert result.loss == pytest.approx(trainer.evaluate(model, _symbols(), CONTEXT), rel=1e-4)
    assert (result.windows, result.context, result.tokens) == (len(TEXT) // 25, 24, len(TEXT) // 25 * 24)
    assert sum(done) == result.windows
    # A byte is a character here.
    assert result.bits_per_character == pytest.approx(result.loss / math.log(2))
    assert result.groups == ()


def test_windows_and_context():
    decoder = deployed_model().decoder
    result = evaluate(decoder, byte_tokenizer(), _symbols(), context=10, count=3)
    assert (result.windows, result.context, result.tokens) == (3, 10, 30)
    chunk = trainer.windows(_symbols(), 10, 3)
    with torch.no_grad():
        wanted = torch.nn.functional.cross_entropy(decoder.forward(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())
    assert result.loss == pytest.approx(wanted.item(), rel=1e-5)
    with pytest.raises(ValueError, match="more than 9999"):
        evaluate(decoder, byte_tokenizer(), _symbols(), context=9999)


def test_the_standard_error_is_that_of_windows():
    decoder = deployed_model().decoder
    result = evaluate(decoder, byte_tokenizer(), _symbols(), count=4)
    alone = [
        evaluate_windows(decoder, byte_tokenizer(), window[None]) for window in trainer.windows(_symbols(), CONTEXT, 4)
    ]
    assert result.window_losses == pytest.approx([part.loss for part in alone], rel=1e-5)
    assert result.loss == pytest.approx(sum(result.window_losses) / 4)
    deviation = torch.tensor(result.window_losses, dtype=torch.float64).std().item()
    assert result.standard_error == pytest.approx(deviation / 2)
    assert result.as_dict()["standard_error"] == result.standard_error
    assert alone[0].standard_error is None


def test_characters_are_counted():
    text = "größer als größer, süßer als süß " * 20
    tokenizer = learn_tokenizer(text, 270)
    decoder = from_language_model(language_model(vocabulary=tokenizer.vocabulary), CONTEXT)
    symbols = torch.from_numpy(tokenizer.encode(text).astype("int64"))
    result = evaluate(decoder, tokenizer, symbols, count=2)
    characters = tokenizer.characters(trainer.windows(symbols, CONTEXT, 2)[:, 1:].flatten().numpy())
    assert characters > 48
    assert result.bits_per_character == pytest.approx(result.loss * 48 / math.log(2) / characters)


def test_groups_share_the_tokens():
    model = deployed_model()
    result = evaluate(model.decoder, model.tokenizer, _symbols(), attend=UnitAttention(model), counts=model.counts)
    assert [group.symbols for group in result.groups] == [52, 51, 51, 51, 51]
    assert sum(group.tokens for group in result.groups) == result.tokens
    first = result.groups[0]
    # The text has fewer than 52 symbols.
    assert (first.tokens, first.least, first.most) == (result.tokens, 0, int(model.counts.max()))
    assert first.loss == pytest.approx(result.loss)
    assert result.groups[4].loss is None
    assert result.as_dict()["groups"][0]["tokens"] == result.tokens


def test_groups():
    counts = torch.tensor([5, 50, 0, 500, 50])
    groups = frequency_groups(counts, torch.tensor([3, 3, 1, 4, 0]), torch.tensor([1.0, 3.0, 5.0, 7.0, 9.0]))
    assert [(group.most, group.tokens, group.loss) for group in groups] == [
        (500, 2, 2.0),
        (50, 1, 5.0),
        (50, 1, 7.0),
        (5, 1, 9.0),
        (0, 0, None),
    ]
    assert len(frequency_groups(torch.tensor([3, 4]), torch.tensor([0]), torch.tensor([1.0]))) == 2


def test_ablations():
    decoder = deployed_model().decoder
    symbols = _symbols()
    whole = evaluate(decoder, byte_tokenizer(), symbols).loss
    removed = evaluate(decoder, byte_tokenizer(), symbols, attend=ablated(decoder.attention, {1: Ablation.REMOVE})).loss
    masks = torch.ones(2, 4)
    masks[1] = 0
    assert removed == evaluate(decoder, byte_tokenizer(), symbols, attend=masked(decoder.attention, masks)).loss
    shuffled = evaluate(
        decoder, byte_tokenizer(), symbols, attend=ablated(decoder.attention, {0: Ablation.SHUFFLE})
    ).loss
    assert len({whole, removed, shuffled}) == 3
    none = evaluate(decoder, byte_tokenizer(), symbols, attend=ablated(decoder.attention, {}))
    assert none.loss == whole


def test_shuffling_takes_the_contexts_of_another_window():
    q = torch.arange(3.0).reshape(3, 1, 1, 1)
    attend = ablated(lambda layer, q, k, v: q, {2: Ablation.SHUFFLE})
    assert attend(2, q, q, q).flatten().tolist() == [2, 0, 1]
    assert attend(1, q, q, q).flatten().tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="shuffle needs two windows"):
        attend(2, q[:1], q[:1], q[:1])
    # No batch has a window alone, whatever their number.
    decoder = deployed_model().decoder
    for count in range(2, 12):
        attend = ablated(decoder.attention, {0: Ablation.SHUFFLE})
        assert evaluate(decoder, byte_tokenizer(), _symbols(), attend=attend, count=count, batch=3).windows == count
