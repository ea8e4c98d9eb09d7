"""``reluctant study`` on small models: one quick study on the Verilog, which then goes on from what it has."""

import json

import pytest

from reluctant import study_run
from reluctant.cli import main
from reluctant.golden.calibration import deploy
from reluctant.golden.deployed_file import save_deployed
from reluctant.golden.head_mask import HeadMask, save_mask
from reluctant.golden.kinds import AttentionKind
from reluctant.golden.tokenizer import byte_tokenizer
from tests.unit.deployed_models import TEXT, language_model, trained_model

CONTEXT = 16
MODELS = ["--relu", "r", "--softmax", "s", "--mask", "m.json", "--softmax-mask", "m.json"]


def _study():
    return main(["study", "--text", "t.txt", *MODELS, "--lanes", "8", "--quick", "--out", "out"])


@pytest.fixture(name="finished", scope="module")
def _finished(tmp_path_factory):
    """A folder with a finished study, and the study."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        softmax = language_model(AttentionKind.SOFTMAX)
        for name, model in (("r", trained_model()), ("s", softmax)):
            save_deployed(name, deploy(model, byte_tokenizer(), TEXT, context=CONTEXT))
        save_mask("m.json", HeadMask.of(2, 4, [(0, 1), (1, 3)]))
        folder.joinpath("t.txt").write_text(TEXT)
        assert _study() == 0
    return folder, json.loads((folder / "out" / "study.json").read_text())


def test_the_verilog_gives_what_the_model_gives(finished):
    study = finished[1]
    assert (study["complete"], study["mismatches"]) == (True, 0)
    assert [entry["group"] for entry in study["configurations"]] == list("abcdde")
    assert all(entry["cycles"]["head_results"] for entry in study["configurations"])


def test_rows_are_those_of_the_last_tokens(finished):
    dense, _, pruned, *kept, gated = finished[1]["configurations"]
    for number, context in enumerate((4, 8, 16, 32)):
        at = {entry["name"]: entry["cycles"]["contexts"][number] for entry in finished[1]["configurations"]}
        tokens = min(16, context // 2)
        rows = sum(range(context - tokens + 1, context + 1)) / tokens
        assert at[dense["name"]]["key_rows"] == 8 * rows
        assert at[pruned["name"]]["key_rows"] == 6 * rows
        bounded = sum(min(8, n) for n in range(context - tokens + 1, context + 1)) / tokens
        assert [at[entry["name"]]["key_rows"] for entry in kept] == [6 * bounded] * 2
        assert at[gated["name"]]["key_rows"] == pytest.approx(6 * bounded - _missed(at[gated["name"]], bounded), abs=4)
        for numbers in at.values():
            assert numbers["bytes"] == 8 * (numbers["key_rows"] + numbers["value_rows"])
            assert numbers["cycles"] >= numbers["key_rows"] + numbers["value_rows"]
            assert numbers["energy_pj"]["total"] > numbers["energy_pj"]["store_read"] > 0


def _missed(numbers, rows):
    return numbers["heads_off"] * rows


def test_losses_are_those_of_evaluate(finished, monkeypatch):
    folder, study = finished
    monkeypatch.chdir(folder)
    words = ["--text", "t.txt", "--tokens", "64", "--mask", "m.json", "--policy", "h2o", "--budget", "8"]
    assert main(["evaluate", "r", *words, "--report", "e.json"]) == 0
    wanted = json.loads((folder / "e.json").read_text())
    entry = next(entry for entry in study["configurations"] if entry["name"] == "h2o 8")
    assert entry["loss"]["tokens"] == wanted["tokens"] == 64
    assert entry["loss"]["loss"] == pytest.approx(wanted["loss"], rel=1e-6)


def test_a_study_goes_on_where_it_was(finished, monkeypatch):
    folder, study = finished
    monkeypatch.chdir(folder)
    before = {name: (folder / "out" / name).read_bytes() for name in ("study.json", "study.html")}
    monkeypatch.setattr(study_run, "measure_loss", lambda *_: pytest.fail("it was measured"))
    monkeypatch.setattr(study_run, "model_rows", lambda *_: pytest.fail("it was measured"))
    assert _study() == 0
    assert {name: (folder / "out" / name).read_bytes() for name in before} == before
    monkeypatch.undo()
    # One part is lost, and a user stops the study that measures it again.
    monkeypatch.chdir(folder)
    lost = next(key for key, part in study["measured"].items() if "window_losses" in part)
    part = study["measured"].pop(lost)
    (folder / "out" / "study.json").write_text(json.dumps(study))
    with monkeypatch.context() as patch:
        patch.setattr(study_run, "measure_loss", _interrupt)
        assert _study() == 130
    assert lost not in json.loads((folder / "out" / "study.json").read_text())["measured"]
    assert _study() == 0
    assert json.loads((folder / "out" / "study.json").read_text())["measured"][lost] == part
    assert (folder / "out" / "study.json").read_bytes() == before["study.json"]


def _interrupt(*_):
    raise KeyboardInterrupt
