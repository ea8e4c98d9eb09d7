"""``reluctant chat`` on the whole system: the Verilog and the integer model write the same text, at the same cost."""

import json

import pytest

from reluctant.cli import main
from reluctant.golden.calibration import deploy
from reluctant.golden.deployed_file import save_deployed
from reluctant.golden.head_mask import HeadMask, save_mask
from reluctant.golden.kinds import AttentionKind
from reluctant.golden.tokenizer import byte_tokenizer
from tests.unit.deployed_models import CONTEXT, TEXT, deployed_model, trained_model

PROMPT = "the dog sat"
TOKENS = 12
SUMS = ("steps", "key_rows", "value_rows", "null_heads", "heads_off", "evictions")
KINDS = {kind.value: kind for kind in AttentionKind}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _chat(model, *extra):
    """The report; every size is given, so that all runs share one build."""
    words = ["--prompt", PROMPT, "--tokens", TOKENS, "--lanes", 8, "--set", "slots=64", "--report", "r.json", *extra]
    assert main(["chat", model, *map(str, words)]) == 0
    with open("r.json", encoding="utf-8") as file:
        return json.load(file)


def _check(model, *extra):
    """The system's report, after a look at the integer model's."""
    system, fast = _chat(model, *extra), _chat(model, *extra, "--fast")
    assert system["text"] == fast["text"]
    assert [system[name] for name in SUMS] == [fast[name] for name in SUMS]
    assert system["cycles"] > system["unit_cycles"] > 0
    assert system["firmware_cycles"] >= system["firmware_exposed"] > 0
    return system


@pytest.mark.parametrize(
    "extra",
    [
        ("--policy", "refuse"),
        ("--policy", "streaming", "--budget", 9),
        ("--policy", "h2o", "--budget", 8),
        ("--policy", "h2o", "--budget", 8, "--normalised", "--top-k", 5, "--seed", 3),
        ("--policy", "buzz", "--budget", 10, "--stride", 2),
        ("--policy", "nacl", "--budget", 9, "--share", 128, "--seed", 7),
        ("--policy", "dms", "--budget", 10, "--recent", 3, "--temperature", 0),
        ("--gating", "3:0:4", "--mask", "mask.json"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_policies(extra):
    save_deployed("m", deploy(trained_model(), byte_tokenizer(), TEXT, context=CONTEXT))
    save_mask("mask.json", HeadMask.of(2, 4, [(0, 1), (1, 3)]))
    values = _check("m", *extra)
    assert (values["evictions"] > 0) == ("--budget" in extra)
    assert (values["heads_off"] > 0) == ("--gating" in extra)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_attention(kind):
    save_deployed("m", deployed_model(KINDS[kind]))
    _check("m", "--policy", "h2o", "--budget", 12)
