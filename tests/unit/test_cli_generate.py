"""``reluctant generate`` and ``presets``, configuration files, and help."""

import json
import re
import subprocess
import sys
import tomllib

import pytest

from reluctant.boards.presets import PRESETS
from reluctant.cli import main
from reluctant.configuration import choose
from reluctant.errors import UserError
from reluctant.files import new_file, new_folder

COMMANDS = ("generate", "simulate", "demo", "presets")


def _tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_generate_is_complete_and_reproducible(tmp_path, capsys):
    for name in ("a", "b"):
        assert main(["generate", "--preset", "tiny", "--out", str(tmp_path / name), "--name", "tiny_unit"]) == 0
    first = _tree(tmp_path / "a")
    assert first == _tree(tmp_path / "b")
    assert {"tiny_unit.v", "registers.rdl", "registers.h", "registers.html/index.html", "config.json"} <= first.keys()
    assert re.search(rb"^module tiny_unit\(", first["tiny_unit.v"], re.MULTILINE)
    config = PRESETS["tiny"]
    assert f"{config.hash:#010x}u".encode() in first["registers.h"]
    description = json.loads(first["config.json"])
    assert description["hash"] == f"{config.hash:08x}"
    assert description["configuration"]["normalisers"] == list(config.normalisers)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert "tiny_unit.v" in capsys.readouterr().out


@pytest.mark.parametrize(("preset", "file"), [("icebreaker", "unit.pcf"), ("ulx3s-85f", "unit.lpf"), ("tiny", None)])
def test_constraints_for_boards_only(tmp_path, monkeypatch, preset, file):
    monkeypatch.setattr("reluctant.generate.to_verilog", lambda config, name: f"module {name}; endmodule\n")
    assert main(["generate", "--preset", preset, "--out", str(tmp_path / "x"), "--name", "unit"]) == 0
    found = {path.name for path in (tmp_path / "x").glob("*.?[cp]f")}
    assert found == ({file} if file else set())


def test_generate_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    def fail(config, name):
        raise OSError("disk full")

    monkeypatch.setattr("reluctant.generate.to_verilog", fail)
    assert main(["generate", "--out", str(tmp_path / "x")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_generate_replaces_only_its_own_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("reluctant.generate.to_verilog", lambda config, name: f"module {name}; endmodule\n")
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    assert main(["generate", "--out", str(mine), "--name", "old"]) == 0
    assert main(["generate", "--out", str(mine), "--name", "new"]) == 0
    assert [path.name for path in mine.glob("*.v")] == ["new.v"]
    capsys.readouterr()
    assert main(["generate", "--out", str(theirs)]) == 2
    assert "holds files that are not from here" in capsys.readouterr().err
    assert (theirs / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["2fast", "a-b", "", "größe"])
def test_generate_wants_a_verilog_name(tmp_path, capsys, name):
    assert main(["generate", "--out", str(tmp_path / "x"), "--name", name]) == 2
    assert f"--name {name}: letters, digits and underscores" in capsys.readouterr().err


def test_preset_file_and_settings_compose(tmp_path):
    file = tmp_path / "unit.toml"
    file.write_text('lanes = 32\nslots = 64\nnormalisers = ["length"]\nsoftmax = false\n')
    choice = choose("default", file, ["slots=0x80", "store = single", "statistics=off"])
    config = choice.config
    assert (config.lanes, config.slots, config.normalisers, config.softmax) == (32, 128, ("length",), False)
    assert (config.store, config.statistics, config.heads) == ("single", False, 8)
    assert choice.explicit == {"lanes", "slots", "normalisers", "softmax", "store", "statistics"}
    assert choose("tiny", None, ["normalisers=rms_head,sum"]).config.normalisers == ("rms_head", "sum")
    assert choose("tiny", None, ["normalisers=none"]).config.normalisers == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("lanes", "--set lanes: key=value is needed, such as lanes=16"),
        ("lane=4", "--set lane=4: lane is no setting: lanes, head_dim,"),
        ("lanes=many", "--set lanes=many: a whole number is needed"),
        ("lanes=12", "--set: lanes is 12: a power of two from 4 to 128 is allowed"),
        ("softmax=maybe", "--set softmax=maybe: true or false is needed"),
        ("normalisers=l2", "--set: normalisers is 'l2': any of rms_head, rms_layer, length, sum is allowed"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(UserError) as caught:
        choose("default", None, [settings])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"lane = 4", "lane is no setting: lanes, head_dim,"),
        (b'lanes = "4"', "lanes is '4': int is needed"),
        (b"softmax = 1", "softmax is 1: bool is needed"),
        (b"normalisers = [1]", "normalisers is (1,): a tuple of names is needed"),
        (b"[unit]\nlanes = 4", "unit is no setting: lanes, head_dim,"),
        (b"lanes: 4", "is no TOML ("),
        (b"\xff\xfe", "is no text in UTF-8: a TOML file is needed"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    file = tmp_path / "unit.toml"
    file.write_bytes(text)
    with pytest.raises(UserError) as caught:
        choose("default", file)
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path, capsys):
    assert main(["generate", "--config", str(tmp_path / "no.toml"), "--out", str(tmp_path / "x")]) == 2
    assert "no.toml: cannot be read (No such file or directory): a TOML file is needed" in capsys.readouterr().err


def test_files_are_complete_or_absent(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("before")

    def fail_half_way():
        with new_file(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text() == "before"
    with pytest.raises(UserError, match="is a folder: give the name of a file"), new_file(tmp_path):
        pass
    with pytest.raises(UserError, match="is a file: give the name of a folder"), new_folder(path):
        pass
    with pytest.raises(UserError, match="cannot be made"), new_file(path / "deeper" / "x"):
        pass
    assert [item.name for item in tmp_path.iterdir()] == ["report.json"]


def test_presets_lists_all(capsys):
    assert main(["presets"]) == 0
    out = capsys.readouterr().out
    for name, config in PRESETS.items():
        line = next(line for line in out.splitlines() if line.startswith(name))
        assert line.split()[1:6] == [
            str(value) for value in (config.lanes, config.head_dim, config.slots, config.heads, config.kv_heads)
        ]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(capsys, command):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Example" in out
    assert f"  reluctant {command}" in out


def test_help_and_version(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"  {command} " in out for command in COMMANDS)
    assert main(["--version"]) == 0
    assert re.fullmatch(r"reluctant \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [["bogus"], ["generate", "--lanes", "4"], ["simulate"]])
def test_usage_errors_are_one_line(capsys, arguments):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "--help" in error
    assert error.count("\n") == 1


def test_module_runs_and_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['reluctant', '--help']\n"
        "import runpy\n"
        "try:\n    runpy.run_module('reluctant', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "print([name for name in ('torch', 'amaranth', 'numpy', 'matplotlib', 'rich') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert result.stdout.splitlines()[-1] == "[]"


def test_generate_needs_no_torch():
    code = "import sys, reluctant.generate, reluctant.configuration; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout == "False\n"


def test_config_file_round_trip(tmp_path):
    """Every setting can be given in a file."""
    lines = []
    for key, value in PRESETS["icebreaker"].as_dict().items():
        lines.append(f"{key} = {json.dumps(list(value) if isinstance(value, tuple) else value)}")
    file = tmp_path / "unit.toml"
    file.write_text("\n".join(lines))
    assert tomllib.loads(file.read_text()).keys() == PRESETS["default"].as_dict().keys()
    assert choose("default", file).config == PRESETS["icebreaker"]
