"""``reluctant chat``, with a stand-in for the system behind its transport, and with the integer model."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from reluctant import system_runs
from reluctant.attention_steps import ModelSteps
from reluctant.chat import _Screen
from reluctant.cli import main
from reluctant.firmware.build import Firmware
from reluctant.golden.calibration import deploy
from reluctant.golden.deployed_file import save_deployed
from reluctant.golden.errors import UserError
from reluctant.golden.head_mask import HeadMask, save_mask
from reluctant.golden.kinds import AttentionKind
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.tokenizer import byte_tokenizer
from reluctant.golden.unit_attention import UnitOptions
from reluctant.hdl.messages import Operation, Status
from reluctant.sampling import Sampler

from .deployed_models import CONTEXT, TEXT, deployed_model, language_model, trained_model
from .system_model import ModelSystem

PROMPT = "the cat sat"
STEPS = len(PROMPT) + 20 - 1
SUMS = ("steps", "key_rows", "value_rows", "null_heads", "heads_off", "evictions")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Deployed models ``m`` (knows its text), ``s`` (softmax), ``r`` (an RMS norm) and ``e`` in the working folder.

    ``e`` has more symbols than its tokenizer.
    """
    monkeypatch.chdir(tmp_path)
    save_deployed("m", deploy(trained_model(), byte_tokenizer(), TEXT, context=CONTEXT))
    save_deployed("s", deployed_model(AttentionKind.SOFTMAX))
    save_deployed("r", deployed_model(AttentionKind.RELA_HEAD))
    save_deployed("e", deploy(language_model(vocabulary=300), byte_tokenizer(), TEXT, context=CONTEXT))
    save_mask("mask.json", HeadMask.of(2, 4, [(0, 1), (1, 3)]))
    return tmp_path


@pytest.fixture
def systems(monkeypatch):
    """Stand-ins for the simulated systems that are opened, in order."""
    opened = []

    class Stand:
        def __init__(self, verilog):
            assert verilog == "// Verilog\n"

        def compile(self):
            pass

        def open(self, config):
            opened.append(ModelSystem(config))
            return opened[-1]

    monkeypatch.setattr(system_runs, "SystemSimulator", Stand)
    monkeypatch.setattr(system_runs, "system_verilog", lambda config, image: "// Verilog\n")
    monkeypatch.setattr("reluctant.firmware.build.build", lambda config: Firmware(b"", 7000, 500, 300))
    return opened


def _chat(*extra, model="m", tokens=20):
    words = ["--prompt", PROMPT, "--tokens", tokens, "--lanes", 8, "--report", "r.json", *extra]
    return main(["chat", model, *map(str, words)])


def _report():
    with open("r.json", encoding="utf-8") as file:
        return json.load(file)


class _Impatient(Sampler):
    """A user who presses Ctrl-C when the fifth symbol is there."""

    def choose(self, logits):
        self.count = getattr(self, "count", 0) + 1
        if self.count == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return super().choose(logits)


@pytest.mark.parametrize("extra", [(), ("--fast",)])
def test_ctrl_c_ends_the_text_and_tells_what_it_cost(files, systems, capsys, monkeypatch, extra):
    assert _chat(*extra) == 0
    whole, out = _report(), capsys.readouterr().out
    monkeypatch.setattr("reluctant.sampling.Sampler", _Impatient)
    before = signal.getsignal(signal.SIGINT)
    assert _chat(*extra) == 130
    assert signal.getsignal(signal.SIGINT) is before
    early, shown = _report(), capsys.readouterr()
    assert (early["interrupted"], early["new_tokens"], whole["interrupted"]) == (True, 5, False)
    assert early["text"] == whole["text"][:5]
    assert early["steps"] == 2 * (len(PROMPT) + 5 - 1)
    assert "11 of the prompt, 5 new" in shown.out
    assert "rows read" in shown.out
    assert shown.out.startswith(out[: len(PROMPT) + 5] + "\n")
    assert shown.err == ""


@pytest.mark.parametrize(
    "extra",
    [
        (),
        ("--policy", "refuse", "--budget", STEPS),
        ("--budget", 9, "--sinks", 2, "--temperature", 0),
        ("--policy", "h2o", "--budget", 8, "--normalised", "--top-k", 5),
        ("--policy", "buzz", "--budget", 10, "--stride", 2),
        ("--policy", "nacl", "--budget", 9, "--share", 128, "--seed", 7),
        ("--policy", "dms", "--budget", 10, "--recent", 3),
        ("--gating", "3:0:4", "--mask", "mask.json"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_system_and_model_write_the_same(files, systems, capsys, extra):
    assert _chat(*extra) == 0
    system = _report()
    assert _chat(*extra, "--fast") == 0
    fast = _report()
    assert capsys.readouterr().err == ""
    assert len(systems) == 1
    assert (system["attention"], fast["attention"]) == ("rtl", "model")
    assert system["text"] == fast["text"]
    assert [system[name] for name in SUMS] == [fast[name] for name in SUMS]
    assert system["steps"] == 2 * STEPS
    assert (system["heads_off"] > 0) == ("--gating" in extra)
    budget, kv_heads = system["policy"]["budget"], 2
    if system["policy"]["policy"] != "dms":
        assert system["evictions"] == 2 * kv_heads * max(0, STEPS - budget)
    assert system["cycles_per_token"] == system["cycles"] / STEPS > 0
    assert fast["cycles_per_token"] is fast["cycles"] is None


def test_what_is_printed(files, systems, capsys):
    assert _chat("--policy", "h2o", "--budget", 8, "--gating", 2, model="s", tokens=6) == 0
    out, values = capsys.readouterr().out, _report()
    assert len(values["text"].encode()) >= 6
    text, _, table = out.partition("\n\n")
    assert text.startswith(PROMPT)
    for words in (
        "tokens        11 of the prompt, 6 new",
        f"{values['key_rows']:,} keys, {values['value_rows']:,} values",
        f"zero weights  {values['zero_share']:.1%}",
        f"evictions     {2 * 2 * (16 - 8)} (h2o, budget 8)",
        f"heads off     {values['heads_off']:,} by gating",
        f"cycles        {values['cycles_per_token']:,.0f} a token, the unit busy in ",
        "firmware      0 cycles a token",
        " tokens a second (Verilog)",
    ):
        assert words in table, words
    assert (values["prompt"], values["prompt_tokens"], values["new_tokens"]) == (PROMPT, 11, 6)
    assert (values["temperature"], values["top_k"], values["seed"]) == (0.8, None, 0)
    assert values["configuration"]["hash"] == f"{systems[0].config.hash:08x}"
    assert _chat("--fast", tokens=6) == 0
    table = capsys.readouterr().out
    assert " tokens a second (integer model)" in table
    assert "firmware" not in table
    assert "off" not in table


def test_the_model_knows_its_text(files, capsys):
    assert _chat("--fast", "--temperature", 0) == 0
    assert capsys.readouterr().out.startswith("the cat sat on the mat, and the\n\n")


def test_seeds_and_chances(files):
    texts = []
    for extra in (["--seed", 1], ["--seed", 1], ["--seed", 2], ["--seed", 1, "--temperature", 5]):
        assert _chat("--fast", *extra) == 0
        texts.append(_report()["text"])
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_symbols_that_the_tokenizer_lacks_are_not_chosen(files):
    assert _chat("--fast", "--temperature", 100, model="e", tokens=200) == 0
    assert _report()["new_tokens"] == 200


def test_system_is_sized_to_the_model(files, systems):
    assert _chat("--set", "sequences=2", tokens=1) == 0
    config = systems[0].config
    unit = config.unit
    assert (unit.lanes, unit.head_dim, unit.heads, unit.kv_heads, unit.profiles) == (8, 16, 4, 2, 2)
    assert unit.slots == 64 >= 2 * CONTEXT
    assert config.sequences == 2


def test_masses_are_as_wide_as_the_unit_s(files):
    """With 8 bits, masses saturate soon and h2o evicts others."""
    texts = set()
    for bits in (8, 24):
        assert _chat("--fast", "--policy", "h2o", "--budget", 8, "--set", f"mass_bits={bits}", model="s") == 0
        texts.add(_report()["text"])
    assert len(texts) == 2


def test_counts_of_the_integer_model():
    model = deployed_model()
    steps = ModelSteps(model, PolicySettings.create(Policy.STREAMING, 5, sinks=1), UnitOptions(), 24)
    session = model.start()
    for symbol in b"who saw":
        session.token(symbol, steps)
    totals = steps.totals()
    assert totals.steps == 2 * 7
    assert totals.key_rows == 2 * 4 * (1 + 2 + 3 + 4 + 5 + 5 + 5)
    assert totals.evictions == 2 * 2 * 2
    assert 0 < totals.value_rows < totals.key_rows
    assert totals.zero_share == 1 - totals.value_rows / totals.key_rows
    assert totals.as_dict()["zero_share"] == totals.zero_share


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--temperature", "-1"], "--temperature -1: 0 or more is needed, 0.8 is usual"),
        (["--temperature", "nan"], "--temperature nan: 0 or more is needed"),
        (["--top-k", "0"], "--top-k 0: 1 or more is needed"),
        (["--seed", "-1"], "--seed -1: 0 or more is needed"),
        (["--tokens", "0"], "Invalid value for '--tokens': Input should be greater than or equal to 1"),
        (["--prompt", ""], "--prompt is empty: a letter at least is needed"),
        (["--budget", "4"], "--policy streaming --budget 4: sinks is 4: 0 to 3 is allowed"),
        (["--budget", "0"], "--policy streaming --budget 0: budget is 0: 1 to 65536 is allowed"),
        (
            ["--policy", "refuse"],
            "--budget 24: refuse keeps every row, prompt and text have 30: add --policy streaming, or fewer --tokens",
        ),
        (["--policy", "h2o", "--stride", "3"], "--policy h2o: stride is 3: h2o has none"),
        (["--gating", "x"], "--gating x: ACTIVE[:MASS[:PROBE]] is needed"),
        (["--mask", "none.json"], "none.json: cannot be read (No such file or directory): a mask's file is needed"),
        (["--mask", "other.json"], "other.json: mask is of 1 layers of 4 heads: the model has 2 of 4"),
        (["--lanes", "16"], "lanes is 16: the model's head dimension 8 is no multiple of it: try --set lanes=8"),
        (["--set", "heads=8"], "heads is 8: the model has 4: leave it out or set that"),
        (["--set", "slots=32"], "slots is 32: the number of layers times the budget is 48: at least that is needed"),
        (["--set", "normalisers=rms_head"], "normalisers is rms_head: the model needs sum: add --set normalisers=sum"),
        (["--set", "position_bits=8", "--tokens", "300"], "position_bits is 8: 310 tokens are more than 256"),
        (["--set", "statistics=false"], "statistics is False: the scheduler needs a unit with slot statistics"),
        (["--preset", "none"], "--preset none: no such preset"),
    ],
)
@pytest.mark.parametrize("fast", [[], ["--fast"]], ids=["", "fast"])
def test_mistakes_are_one_line(files, systems, capsys, fast, extra, message):
    save_mask("other.json", HeadMask(4, (3,)))
    assert _chat(*fast, *extra) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert systems == []
    assert not (files / "r.json").exists()


@pytest.mark.parametrize(
    ("name", "extra", "message"),
    [
        ("none", [], "none: no such model: a file, a folder, or one of relu, softmax is needed"),
        ("mask.json", [], "mask.json: is no deployed model, or damaged"),
        (".", [], ".: is a folder, not deployed yet: 'reluctant import . --text FILE --out MODEL'"),
        ("s", ["--set", "softmax=false"], "softmax is False: the model's attention is softmax: add --set softmax=true"),
        ("r", ["--set", "normalisers=sum"], "normalisers is sum: the model needs rms_head: add --set normalisers="),
        ("wide", [], "layer 1: theta"),
    ],
)
def test_models_that_do_not_fit(files, capsys, monkeypatch, name, extra, message):
    if name == "wide":
        save_deployed("wide", deployed_model())
        monkeypatch.setattr("reluctant.golden.unit_attention.UnitOptions.settings", _too_wide)
    assert _chat(*extra, model=name) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def _too_wide(_, model, layer):
    settings = model.settings(layer)
    return replace(settings, theta=(1 << 40,) * 4) if layer == 1 else settings


def test_a_prompt_that_is_no_text(files, capsys):
    """A byte that is no UTF-8, as Python hands it over; bytes as symbols take it, byte pairs do not."""
    assert main(["chat", "m", "--prompt", "caf\udce9", "--tokens", "1", "--lanes", "8", "--fast"]) == 0
    assert capsys.readouterr().out.startswith("caf\ufffd")
    assert main(["chat", "relu", "--prompt", "caf\udce9"]) == 2
    assert capsys.readouterr().err == "error: --prompt: is no text in UTF-8, byte pairs need it\n"


def test_a_system_that_fails(files, systems, capsys, monkeypatch):
    opened = ModelSystem.__init__

    def broken(self, config):
        opened(self, config)
        self.faults = {20: Status.FAULT}

    monkeypatch.setattr(ModelSystem, "__init__", broken)
    assert _chat() == 1
    assert capsys.readouterr().err.startswith("error: STEP of sequence 0, layer ")
    assert systems[0].closed
    assert systems[0].commands[-1][0] & 0xFF == Operation.STEP


def test_missing_packages(files, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ziglang" else name)
    assert _chat() == 2
    assert "ziglang is not installed: pip install 'reluctant[firmware]' brings it" in capsys.readouterr().err
    assert _chat("--fast", tokens=1) == 0
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert _chat("--fast") == 2
    assert "torch is not installed: pip install" in capsys.readouterr().err


def test_threads_are_given_back(files):
    threads = torch.get_num_threads()
    assert _chat("--fast", tokens=1) == 0
    assert torch.get_num_threads() == threads


def test_screen(capsys):
    """Characters come when they are whole; what would command a terminal does not come."""
    screen, seen = _Screen(byte_tokenizer()), []
    symbols = byte_tokenizer().encode("é\x1b[31m\t".encode() + b"\xff\xe2")
    for symbol in symbols:
        screen.show(symbol)
        seen.append(capsys.readouterr().out)
    screen.end()
    assert seen == ["", "é", "\ufffd", "[", "3", "1", "m", "\t", "\ufffd", ""]
    assert capsys.readouterr().out == "\ufffd\n"


def test_sampler():
    logits = np.log(np.array([0.1, 0.6, 0.0001, 0.2999], np.float32))
    assert Sampler(0, None, 0).choose(logits) == 1
    assert Sampler(0, None, 0).choose(np.zeros(4, np.float32)) == 0
    assert {Sampler(5.0, 1, seed).choose(logits) for seed in range(20)} == {1}
    sampler = Sampler(1.0, None, 3)
    shares = np.bincount([sampler.choose(logits) for _ in range(5000)], minlength=4) / 5000
    assert np.abs(shares - np.exp(logits)).max() < 0.025
    sampler = Sampler(1.0, 2, 3)
    shares = np.bincount([sampler.choose(logits) for _ in range(3000)], minlength=4) / 3000
    assert np.abs(shares - np.array([0, 2 / 3, 0, 1 / 3])).max() < 0.03
    likely = [np.mean([Sampler(heat, None, seed).choose(logits) == 1 for seed in range(500)]) for heat in (0.3, 1, 9)]
    assert all(more > less for more, less in pairwise(likely))
    assert Sampler(1e-320, None, 0).choose(logits) == 1
    with pytest.raises(UserError, match="--temperature inf: 0 or more is needed"):
        Sampler(np.inf, None, 0)


def test_help(capsys):
    assert main(["chat", "--help"]) == 0
    assert '  reluctant chat relu --prompt "Friends' in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from reluctant.cli import main; main(['chat', '--help']); "
        "sys.exit(any(name in sys.modules for name in ('numpy', 'torch', 'amaranth')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
