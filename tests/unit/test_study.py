"""What a study compares, when tokens attend, what it keeps, its table and its page; without a simulation."""

import json
import re

import numpy as np
import pytest

from reluctant.golden.errors import UserError
from reluctant.golden.head_mask import HeadMask
from reluctant.golden.policies import Policy
from reluctant.study_configurations import configurations
from reluctant.study_page import write_page
from reluctant.study_quality import difference
from reluctant.study_results import Results, bound, fingerprint
from reluctant.study_schedule import MEASURED, SETTLING, schedule
from reluctant.study_tables import print_study, verdict

from .study_values import LOSSES, measured, parts


@pytest.fixture(name="study")
def _study(tmp_path):
    kept, keys, head = parts()
    results = Results(tmp_path / "new" / "study.json")
    for key, values in kept.items():
        results.add(key, values)
    return results.finish(head, keys)


def test_default_configurations():
    every = configurations(512, best=[96, (24, 24, 192)])
    names = [item.name for item in every]
    assert len(set(names)) == len(names)
    assert [item.group for item in every] == ["a", "b", "c", *"d" * 11, *"eee"]
    assert {item.policy.policy for item in every[3:12]} == set(Policy) - {Policy.REFUSE}
    assert {item.policy.budget for item in every[3:12]} == {64, 128}
    assert [policy.budget for policy in every[13].policy] == [24, 24, 192]
    assert every[13].as_dict()["policy"] == {"policy": "streaming", "budget": [24, 24, 192], "sinks": 4}
    assert names[13] == "streaming 24 (layer 2: 192)"
    assert [(item.policy == every[13].policy, item.min_active, item.gating is None) for item in every[14:]] == [
        (True, 0, False),
        (True, 1, True),
        (True, 1, False),
    ]
    assert [(item.softmax, item.pruned) for item in every[:4]] == [
        (True, False),
        (True, True),
        (False, True),
        (False, True),
    ]
    # Which rows stay follows from weights; streaming and DMS look at none.
    assert {item.name.split()[0] for item in every if item.changes} == {"h2o", "buzz", "nacl", "streaming"}
    assert [item.changes for item in every if "streaming" in item.name] == [*[False] * 4, True, False, True]


def test_options_of_configurations():
    mask = HeadMask(2, (1, 2))
    every = configurations(512, [Policy.BUZZ], [32])
    assert [item.name for item in every[3:]] == [
        "buzz 32", "buzz 32, gating", "buzz 32, fallback", "buzz 32, fallback, gating"
    ]  # fmt: skip
    options = [item.options(mask) for item in every]
    assert [item.mask for item in options[:3]] == [None, mask, mask]
    assert [(item.min_active, item.mode is None) for item in options[3:]] == [
        (0, True),
        (0, True),
        (1, False),
        (1, False),
    ]
    assert len(configurations(64, quick=True)) == 6


@pytest.mark.parametrize(
    ("policies", "budgets", "message"),
    [
        (None, [512], "--budgets 512: a window has 512 tokens: a smaller budget is needed"),
        ([Policy.STREAMING], [4], "--policies streaming, --budgets 4: sinks is 4: 0 to 3 is allowed"),
        ([Policy.STREAMING], [(8, 4)], "--policies streaming, --budgets 4 (layer 0: 8): sinks is 4: 0 to 3 is allowed"),
    ],
)
def test_budgets_that_do_not_fit(policies, budgets, message):
    with pytest.raises(UserError, match=re.escape(message)):
        configurations(512, policies, budgets)


@pytest.mark.parametrize("changes", [False, True])
def test_schedule(changes):
    plan = schedule([128, 256, 1024], changes=changes)
    lead = SETTLING if changes else 1
    wanted = np.zeros(1024, bool)
    for context in (128, 256, 1024):
        wanted[context - MEASURED - lead : context] = True
    np.testing.assert_array_equal(plan.attends, wanted)
    assert [(part.context, part.first, part.tokens) for part in plan.stretches] == [
        (128, 112, 16), (256, 240, 16), (1024, 1008, 16)
    ]  # fmt: skip
    blocks = list(plan.blocks())
    assert [start for start, _, _ in blocks] == [0, *(stop for _, stop, _ in blocks[:-1])]
    assert [attends for _, _, attends in blocks] == [False, True] * 3
    assert all(plan.attends[start:stop].all() == attends for start, stop, attends in blocks)


def test_a_schedule_of_short_contexts_starts_at_once():
    plan = schedule([4, 8], changes=True)
    assert plan.attends.all()
    assert [part.first for part in plan.stretches] == [2, 4]
    assert list(plan.blocks()) == [(0, 8, True)]


def test_differences_are_window_by_window():
    reference, other = measured("c")[0], measured("d1")[0]
    other["window_losses"][0] += 0.04
    rise = difference(other, reference)
    assert rise["mean"] == pytest.approx(0.03)
    # Rises are 0.06, 0.02, 0.02, 0.02: a deviation of 0.02.
    assert rise["standard_error"] == pytest.approx(0.01)
    assert difference(measured("d2", stride=2)[0], reference)["mean"] == pytest.approx(0.1)


def test_the_bound_takes_the_fastest_that_is_good_enough(study):
    assert study["bound"]["best"] == "<e>"
    assert study["bound"]["ratio"] == pytest.approx(10)
    assert study["bound"]["rise"]["mean"] == pytest.approx(LOSSES["e"] - LOSSES["c"])
    entries = study["configurations"]
    assert bound(entries, 16, 0.03)["best"] == "<d1>"
    assert bound(entries, 16, 0.2)["ratio"] == pytest.approx(20)
    nothing = bound(entries, 16, 0.001)
    assert nothing["best"] is None
    assert verdict(study | {"bound": nothing}) == "No configuration of (d) and (e) is within 0.001 nats of (c)."


def test_the_file_keeps_what_was_measured(tmp_path, study):
    path = tmp_path / "new" / "study.json"
    written = json.loads(path.read_text())
    assert written.pop("measured").keys() == parts()[0].keys()
    assert written == study
    assert (study["complete"], study["mismatches"], study["head_results"]) == (True, 0, 6 * 96)
    again = Results(path)
    assert again["c loss"] == measured("c")[0]
    assert ("c cycles" in again, "other" in again) == (True, False)
    again.add("other", {"loss": 1})
    assert json.loads(path.read_text())["complete"] is False
    # What no configuration has any more goes.
    assert again.finish(parts()[2], parts()[1]) == study
    assert "other" not in Results(path)


@pytest.mark.parametrize("text", ["{", "[]", '{"complete": true}', '{"measured": 3}'])
def test_other_files_are_left_alone(tmp_path, text):
    path = tmp_path / "study.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is no study: move it away"):
        Results(path)
    assert path.read_text() == text


def test_fingerprints_tell_inputs_apart():
    prints = {
        fingerprint(*parts) for parts in (("a", b"b"), ("ab",), ("a", b"c"), ({"x": 1},), ({"x": 2},), (b"",), ())
    }
    assert len(prints) == 7
    assert fingerprint({"x": 1, "y": 2}) == fingerprint({"y": 2, "x": 1})


def test_table(study, capsys):
    print_study(study)
    out = capsys.readouterr().out
    lines = {line.split()[1]: line.split() for line in out.splitlines() if " <" in line}
    energy = measured("a")[1]["contexts"][1]["energy_pj"]["total"] / 1e6
    assert lines["<a>"][2:] == ["2.0000", "-0.2000", "0.0000", "800", "1.0x", "64", "16", "1", f"{energy:.3g}"]
    assert lines["<e>"][2:7] == ["2.2400", "+0.0400", "0.0000", "80", "10.0x"]
    assert "<e>: 80 cycles a token at context 16, 10.00 times fewer than dense softmax's 800, for +0.0400" in out
    assert "bit-exact: 576 head results" in out
    print_study(study | {"mismatches": 3})
    assert "3 mismatches in 576 head results" in capsys.readouterr().out


def test_page(study, tmp_path):
    write_page(study, tmp_path / "a.html")
    write_page(study, tmp_path / "b.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 5
    # It needs nothing else: no file, no script, no address but names of namespaces.
    assert not re.search(r"<(script|link|img)|src=|url\((?!#)", text)
    assert "held &amp; out.txt" in text
    assert "&lt;e&gt;" in text
    assert "10.0x fewer" in text
    assert not re.search(r"#0[1-9a]0[0-9a-f]0[0-9a-f]\b", text)
    assert re.search(r"fill: var\(--ink\)", text)


def test_a_page_of_differences_says_so(study, tmp_path):
    nothing = bound(study["configurations"], 16, 0.001)
    write_page(study | {"mismatches": 7, "bound": nothing, "quick": True}, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "7 mismatches" in text
    assert "A quick run" in text
    assert "is within 0.001 nats" in text
