"""``reluctant study``: what it refuses, before anything long starts."""

import pytest

from reluctant.cli import main
from reluctant.firmware.build import Firmware
from reluctant.golden.calibration import deploy
from reluctant.golden.deployed_file import save_deployed
from reluctant.golden.head_mask import HeadMask, save_mask
from reluctant.golden.kinds import AttentionKind
from reluctant.golden.tokenizer import byte_tokenizer, learn_tokenizer

from .deployed_models import CONTEXT, TEXT, deployed_model, language_model

MODELS = ["--relu", "r", "--softmax", "s", "--mask", "m.json", "--softmax-mask", "m.json"]


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    softmax, words = AttentionKind.SOFTMAX, learn_tokenizer(TEXT, 260)
    models = {
        "r": deployed_model(),
        "s": deployed_model(softmax),
        "deep": deploy(language_model(softmax, layers=3), byte_tokenizer(), TEXT, context=CONTEXT),
        "short": deploy(language_model(softmax), byte_tokenizer(), TEXT, context=12),
        "r12": deploy(language_model(), byte_tokenizer(), TEXT, context=12),
        "pairs": deploy(language_model(softmax, vocabulary=words.vocabulary), words, TEXT, context=CONTEXT),
    }
    for name, model in models.items():
        save_deployed(folder / name, model)
    save_mask(folder / "m.json", HeadMask.of(2, 4, [(0, 1), (1, 3)]))
    save_mask(folder / "other.json", HeadMask.of(6, 8))
    (folder / "t.txt").write_text(TEXT)
    (folder / "tiny.txt").write_text("too short")
    (folder / "old").mkdir()
    (folder / "old" / "study.json").write_text("{}")
    return folder


@pytest.fixture(autouse=True)
def _nothing_begins(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("reluctant.firmware.build.build", lambda config: Firmware(b"", 7000, 500, 300))
    monkeypatch.setattr("reluctant.study_run._measure_all", lambda parts, results: pytest.fail("it began"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--relu", "nowhere"], "nowhere: no such model"),
        (["--relu", "s"], "--relu: the model's attention is softmax: another is needed"),
        (["--softmax", "r"], "--softmax: the model's attention is relu_sum: another is needed"),
        (["--softmax", "deep"], "--softmax deep: layers is 3: the ReLU model has 2"),
        (["--softmax", "short"], "--softmax short: context is 12: the ReLU model has 24"),
        (["--softmax", "pairs"], "--softmax pairs: has other symbols than the ReLU model: no loss compares"),
        (["--relu", "r12", "--softmax", "short"], "the models' context is 12: a multiple of 4 from 16 on is needed"),
        (["--mask", "nowhere.json"], "nowhere.json: cannot be read"),
        (["--mask", "other.json"], "other.json: mask is of 6 layers of 8 heads: the model has 2 of 4"),
        (["--text", "tiny.txt"], "tiny.txt: has 9 symbols: more than 24 (a window) are needed"),
        (["--text", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--policies", "h2o,lru"], "--policies lru: no such policy: streaming, h2o, buzz, nacl, dms are allowed"),
        (["--policies", "refuse"], "--policies refuse: no such policy"),
        (["--budgets", "8,x"], "--budgets x: a number from 1 on, or one for each layer such as 24/24/192, is needed"),
        (["--budgets", "0"], "--budgets 0: a number from 1 on"),
        (["--budgets", "8/9/8"], "--budgets 8/9/8: one number, or 2, one for each layer, is needed"),
        (["--budgets", "24"], "--budgets 24: a window has 24 tokens: a smaller budget is needed"),
        (["--policies", "streaming", "--budgets", "4"], "--policies streaming, --budgets 4: sinks is 4: 0 to 3"),
        (["--lanes", "16"], "lanes is 16: the model's head dimension 8 is no multiple of it: try --set lanes=8"),
        (["--lanes", "8", "--out", "old"], "old/study.json: is no study: move it away, or choose another folder"),
        (["--contexts", "8,x"], "--contexts 8,x: numbers from 4 to 32768 are needed, such as 128,512"),
        (["--contexts", "2,24"], "--contexts 2,24: numbers from 4 to 32768 are needed"),
        (["--contexts", "8,48"], "--contexts 8,48: the models' own, 24, is needed too"),
        (["--tokens", "0"], "--tokens"),
    ],
)
def test_wrong_use(capsys, options, message):
    assert main(["study", "--text", "t.txt", *MODELS, *options]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert message in errors
    assert errors.count("\n") == 1


def test_a_model_of_ones_own_needs_a_mask(capsys):
    assert main(["study", "--text", "t.txt", "--relu", "r", "--softmax", "s"]) == 2
    message = "--mask is needed: 'reluctant prune r --text FILE --out mask.json' makes one"
    assert message in capsys.readouterr().err
