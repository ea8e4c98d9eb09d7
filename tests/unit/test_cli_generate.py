"""``reluctant generate`` and ``presets``, configuration files, and help."""

import hashlib
import json
import re
import subprocess
import sys
import tomllib

import pytest

from reluctant.boards.presets import PRESETS
from reluctant.cli import main
from reluctant.configuration import choose
from reluctant.firmware.build import Firmware, FirmwareError, build
from reluctant.golden.errors import UserError
from reluctant.golden.files import new_file, new_folder
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.messages import c_header
from reluctant.hdl.system_config import SystemConfig

COMMANDS = ("generate", "simulate", "demo", "presets")


UNIT_FILES = {"registers.rdl", "registers.h", "registers.html/index.html", "config.json"}
SYSTEM_FILES = {
    *UNIT_FILES,
    *(f"system_{name}" for name in ("registers.rdl", "registers.h", "registers.html/index.html")),
    *(f"firmware/{name}" for name in ("Makefile", "link.ld", "main.c", "config.h", "registers.h", "scheduler.h")),
    "firmware.bin",
    "messages.h",
}


def _tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(name="stub")
def _stub(monkeypatch):
    """No conversion to Verilog and no compiler, which take seconds; returns what the firmware was built for."""
    built = []

    def build(config):
        built.append(config)
        if config.memory < 32768:
            raise FirmwareError("the firmware does not fit\nreally not")
        return Firmware(bytes(8), 8, 0, 64)

    monkeypatch.setattr("reluctant.firmware.build.build", build)
    monkeypatch.setattr("reluctant.hdl.verilog.to_verilog", lambda config, name: f"module {name}; endmodule\n")
    monkeypatch.setattr("reluctant.hdl.verilog.system_to_verilog", lambda config, image, name: f"module {name};\n")
    return built


def test_a_unit_is_complete_and_reproducible(tmp_path, capsys):
    options = ["--no-scheduler", "--preset", "tiny", "--name", "tiny_unit"]
    for name in ("a", "b"):
        assert main(["generate", *options, "--out", str(tmp_path / name)]) == 0
    first = _tree(tmp_path / "a")
    assert first == _tree(tmp_path / "b")
    assert {*UNIT_FILES, "tiny_unit.v"} <= first.keys()
    assert not {*SYSTEM_FILES} - UNIT_FILES & first.keys()
    assert re.search(rb"^module tiny_unit\(", first["tiny_unit.v"], re.MULTILINE)
    config = PRESETS["tiny"].unit
    assert f"{config.hash:#010x}u".encode() in first["registers.h"]
    description = json.loads(first["config.json"])
    assert description["hash"] == f"{config.hash:08x}"
    assert description["configuration"]["normalisers"] == list(config.normalisers)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert "tiny_unit.v" in capsys.readouterr().out


def test_a_system_is_complete_and_reproducible(tmp_path, capsys):
    options = ["--preset", "tiny", "--set", "sequences=2", "--set", "slots=64"]
    for name in ("a", "b"):
        assert main(["generate", *options, "--out", str(tmp_path / name)]) == 0
    first = _tree(tmp_path / "a")
    assert first == _tree(tmp_path / "b")
    assert {*SYSTEM_FILES, "sparse_attention_system.v"} <= first.keys()
    config = SystemConfig(unit=PRESETS["tiny"].unit.with_settings(slots=64), sequences=2)
    assert f"RELUCTANT_SYSTEM_CONFIG_HASH {config.hash:#010x}u".encode() in first["system_registers.h"]
    assert f"RELUCTANT_CONFIG_HASH {config.unit.hash:#010x}u".encode() in first["registers.h"]
    assert first["messages.h"] == first["firmware/messages.h"] == c_header().encode()
    description = json.loads(first["config.json"])
    unit = description["configuration"]
    unit["normalisers"] = tuple(unit["normalisers"])
    assert SystemConfig(unit=UnitConfig(**unit), **description["scheduler"]) == config
    assert (description["hash"], description["unit_hash"]) == (f"{config.hash:08x}", f"{config.unit.hash:08x}")
    image = first["firmware.bin"]
    assert image == build(config).image
    assert description["firmware"]["sha256"] == hashlib.sha256(image).hexdigest()
    verilog = first["sparse_attention_system.v"]
    assert f", firmware {hashlib.sha256(image).hexdigest()[:8]}.".encode() in verilog.splitlines()[0]
    assert re.search(rb"^module sparse_attention_system\(", verilog, re.MULTILINE)
    assert "sparse_attention_system.v" in capsys.readouterr().out


def test_the_firmware_can_be_made_from_what_was_written(tmp_path, stub):
    assert main(["generate", "--preset", "tiny", "--set", "memory=32768", "--out", str(tmp_path / "x")]) == 0
    folder = tmp_path / "x" / "firmware"
    command = ["make", "--silent", f"PYTHON={sys.executable}"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")
    made, image = (folder / "firmware.bin").read_bytes(), build(stub[0]).image
    assert made.ljust(len(image), b"\0") == image
    assert len(image) - len(made) < 4


def test_memory_grows_unless_it_was_given(tmp_path, stub, capsys):
    out = str(tmp_path / "x")
    assert main(["generate", "--out", out]) == 0
    assert [config.memory for config in stub] == [16384, 32768]
    assert json.loads((tmp_path / "x" / "config.json").read_text())["scheduler"]["memory"] == 32768
    capsys.readouterr()
    assert main(["generate", "--set", "memory=16384", "--out", out]) == 2
    assert capsys.readouterr().err == "error: memory is 16384: the firmware does not fit\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "statistics=false"], "statistics is False: the scheduler needs a unit with slot statistics: add"),
        (["--set", "sequences=17"], "sequences is 17: 1 to 16 is allowed"),
        (["--no-scheduler", "--set", "sequences=2"], "--set sequences=2: sequences is no setting: lanes, head_dim,"),
    ],
)
def test_settings_of_the_scheduler_are_checked(tmp_path, stub, capsys, options, message):
    assert main(["generate", *options, "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_settings_of_the_scheduler_from_a_file(tmp_path, stub):
    file = tmp_path / "system.toml"
    file.write_text("lanes = 32\nmessages = 8\nmultiply = true\nmemory = 65536\n")
    assert main(["generate", "--config", str(file), "--set", "messages=2", "--out", str(tmp_path / "x")]) == 0
    unit = UnitConfig(lanes=32)
    assert stub == [SystemConfig(unit=unit, messages=2, multiply=True, memory=65536)]


def test_a_missing_compiler_is_one_line(tmp_path, stub, monkeypatch, capsys):
    monkeypatch.setattr("reluctant.generate.find_spec", lambda name: None)
    assert main(["generate", "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ziglang, which compiles the scheduler's firmware, is not installed: pip install")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert main(["generate", "--no-scheduler", "--out", str(tmp_path / "x")]) == 0


@pytest.mark.parametrize("scheduler", [True, False])
@pytest.mark.parametrize(("preset", "file"), [("icebreaker", "unit.pcf"), ("ulx3s-85f", "unit.lpf"), ("tiny", None)])
def test_constraints_for_boards_only(tmp_path, stub, preset, file, scheduler):
    options = [] if scheduler else ["--no-scheduler"]
    assert main(["generate", *options, "--preset", preset, "--out", str(tmp_path / "x"), "--name", "unit"]) == 0
    found = {path.name for path in (tmp_path / "x").glob("*.?[cp]f")}
    assert found == ({file} if file else set())


@pytest.mark.parametrize(("options", "function"), [([], "system_to_verilog"), (["--no-scheduler"], "to_verilog")])
def test_generate_leaves_nothing_behind_when_it_fails(tmp_path, stub, monkeypatch, options, function):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(f"reluctant.hdl.verilog.{function}", fail)
    assert main(["generate", *options, "--out", str(tmp_path / "x")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_generate_replaces_only_its_own_folders(tmp_path, stub, capsys):
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    assert main(["generate", "--out", str(mine), "--name", "old"]) == 0
    assert main(["generate", "--no-scheduler", "--out", str(mine), "--name", "new"]) == 0
    assert [path.name for path in mine.glob("*.v")] == ["new.v"]
    assert not (mine / "firmware").exists()
    capsys.readouterr()
    assert main(["generate", "--out", str(theirs)]) == 2
    assert "holds files that are not from here" in capsys.readouterr().err
    assert (theirs / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["2fast", "a-b", "", "größe"])
def test_generate_wants_a_verilog_name(tmp_path, stub, capsys, name):
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
    for name, system in PRESETS.items():
        config = system.unit
        line = next(line for line in out.splitlines() if line.startswith(f"{name} "))
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
    for key, value in PRESETS["icebreaker"].unit.as_dict().items():
        lines.append(f"{key} = {json.dumps(list(value) if isinstance(value, tuple) else value)}")
    file = tmp_path / "unit.toml"
    file.write_text("\n".join(lines))
    assert tomllib.loads(file.read_text()).keys() == PRESETS["default"].unit.as_dict().keys()
    assert choose("default", file).config == PRESETS["icebreaker"].unit
