"""The register map against the configuration and the RDL model, and its exports."""

import filecmp
import re
import shutil
import subprocess
import sys
from functools import reduce

import pytest
from systemrdl import RDLCompiler

from reluctant.golden import formats
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import SOURCE, RegisterMap, parameters

SMALL = UnitConfig(
    lanes=4, head_dim=16, slots=2, heads=1, kv_heads=1, softmax=False, normalisers=(), statistics=False, counter_bits=16
)
ODD = UnitConfig(lanes=8, head_dim=24, slots=100, heads=6, kv_heads=3, profiles=5, normalisers=("rms_head", "sum"))
LARGE = UnitConfig(
    lanes=128, head_dim=256, slots=65_536, heads=32, kv_heads=32, profiles=256, mass_bits=32, position_bits=32,
    job_queue=16, counter_bits=64, store="single",
)  # fmt: skip
CONFIGS = {"default": UnitConfig(), "small": SMALL, "odd": ODD, "large": LARGE}


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def test_names_the_sizes_of_the_build(config):
    registers = RegisterMap(config)

    def constants(name):
        return {field.name: field.reset for field in registers.fields(name).values()}

    assert constants("ID") == {"value": int.from_bytes(b"RLCT", "big")}
    assert constants("CONFIG_HASH") == {"value": config.hash}
    datapath = {"lanes": config.lanes, "head_dim": config.head_dim, "job_queue": config.job_queue}
    assert constants("CONFIG_DATAPATH") == datapath
    assert constants("CONFIG_STORE") == {
        "slots": config.slots,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "single_port": config.store == "single",
    }
    assert constants("CONFIG_FEATURES") == {
        "profiles": config.profiles,
        "softmax": config.softmax,
        "statistics": config.statistics,
        "rate": config.statistics and config.phases != "serial",
        "head_log": config.head_log,
        "normalisers": 1 + sum(1 << formats.Normaliser[name.upper()] for name in config.normalisers),
        "normaliser_lanes": config.sizes.normaliser_lanes,
    }
    widths = {name: getattr(config, name) for name in ("mass_bits", "position_bits", "counter_bits")}
    assert constants("CONFIG_WIDTHS") == widths


def test_no_two_registers_share_a_byte(config):
    registers = RegisterMap(config)
    plain, windows = {}, []
    for register in registers.registers.values():
        assert register.address % 4 == 0
        assert max(field.low + field.width for field in register.fields) <= 32
        masks = [field.mask for field in register.fields]
        assert sum(masks) == reduce(int.__or__, masks), f"fields of {register.name} overlap"
        if register.dimensions:
            last = registers.address(register.name, *(dimension - 1 for dimension in register.dimensions))
            assert last // registers.window == register.address // registers.window
            windows.append(register.address // registers.window)
        else:
            assert register.address not in plain
            plain[register.address] = register.name
    assert max(plain) < 0x100 <= registers.window
    assert sorted(set(windows)) == [1] + [2] * ("rms_head" in config.normalisers) + [3, 4] * config.statistics + [5, 6]
    assert max(r.address for r in registers.registers.values()) < 1 << registers.address_width


def test_agrees_with_the_rdl_model_unrolled():
    """Every element, visited by the compiler itself, is where the map says."""
    registers = RegisterMap(ODD)
    compiler = RDLCompiler()
    compiler.compile_file(str(SOURCE))
    top = compiler.elaborate("sparse_attention_unit", parameters=parameters(ODD)).top
    seen = 0
    for node in top.descendants(unroll=True):
        if type(node).__name__ != "RegNode":
            continue
        path = node.get_rel_path(top)
        indices = [int(index) for index in re.findall(r"\[(\d+)\]", path)]
        name = re.sub(r"\[\d+\]", "", path)
        assert registers.address(name, *indices) == node.absolute_address
        assert {f.inst_name: (f.low, f.width) for f in node.fields()} == {
            f.name: (f.low, f.width) for f in registers.register(name).fields
        }
        assert (node.has_sw_readable, node.has_sw_writable) == (
            registers.register(name).readable,
            registers.register(name).writable,
        )
        seen += 1
    assert seen == sum(register.count for register in registers.registers.values())


def test_defaults_of_tables_are_those_of_the_formats():
    registers = RegisterMap(UnitConfig())
    mantissa, exponent = formats.encode_alpha(1)
    alpha = registers.fields("HEAD_TABLE.ALPHA")
    assert (alpha["mantissa"].reset, alpha["exponent"].reset) == (mantissa, exponent)
    assert registers.fields("GAIN")["value"].reset == formats.encode_gain(32)
    assert registers.fields("HEAD_TABLE.KAPPA")["mantissa"].width == formats.KAPPA_BITS
    assert registers.fields("HEAD_TABLE.SINK")["value"].width == formats.SINK_BITS


def test_tables_that_are_not_built_are_absent():
    names = RegisterMap(SMALL).registers
    assert not {"GAIN", "SLOT_MASS", "SLOT_POSITION"} & set(names)
    assert "HEAD_TABLE.KAPPA" in names


def test_address_of_elements():
    registers = RegisterMap(ODD)
    base = registers.address("HEAD_TABLE.THETA", 0, 0)
    assert registers.address("HEAD_TABLE.ALPHA", 3, 5) == base + (3 * 6 + 5) * 32 + 0x14
    assert registers.address("HEAD_TABLE.SINK", 3, 5) == base + (3 * 6 + 5) * 32 + 0x18
    gain = registers.address("GAIN", 0, 0, 0)
    assert registers.address("GAIN", 4, 2, 23) == gain + 4 * ((4 * 6 + 2) * 24 + 23)
    assert registers.address("SLOT_POSITION", 2, 99) == registers.address("SLOT_POSITION", 0, 0) + 4 * (2 * 100 + 99)


def test_marks_signed_and_checked_fields():
    registers = RegisterMap(ODD).registers.values()
    names = [
        {f"{r.name}.{f.name}" for r in registers for f in r.fields if getattr(f, p)} for p in ("signed", "checked")
    ]
    assert names[0] == {"HEAD_TABLE.THETA.value", "HEAD_TABLE.ALPHA.exponent", "GAIN.value"}
    checked = ("N", "SLOT", "BASE", "POSITION", "HEAD_DIM", "SINKS", "RECENT")
    assert names[1] == {f"JOB_{name}.value" for name in checked}


def test_encode_and_decode():
    registers = RegisterMap(ODD)
    word = registers.encode("JOB_CONTROL", append=1, attend=1, normaliser=4, profile=3)
    assert word == 0b11 | 4 << 4 | 3 << 16
    assert registers.decode("JOB_CONTROL", word)["normaliser"] == 4
    assert registers.encode("HEAD_TABLE.ALPHA", exponent=-3) == 0x8000 | 0xFD << 16
    assert registers.decode("HEAD_TABLE.ALPHA", 0x8000 | 0xFD << 16) == {"mantissa": 0x8000, "exponent": -3}
    assert registers.decode("HEAD_TABLE.THETA", 0xFFFFFFFF) == {"value": -1}


def test_errors_name_what_is_wrong():
    registers = RegisterMap(ODD)
    with pytest.raises(KeyError, match="no register 'JOB_M' in this build: ID, VERSION"):
        registers.address("JOB_M")
    with pytest.raises(IndexError, match=re.escape("GAIN[0, 6, 0]: 6 is not below 6")):
        registers.address("GAIN", 0, 6, 0)
    with pytest.raises(IndexError, match=re.escape("HEAD_TABLE.MODE takes 2 indices (5, 6): got (1,)")):
        registers.address("HEAD_TABLE.MODE", 1)
    with pytest.raises(KeyError, match="register JOB_CONTROL has no field 'normalizer': append"):
        registers.encode("JOB_CONTROL", normalizer=1)
    with pytest.raises(ValueError, match=r"JOB_CONTROL\.metric is 4: 2 bits are there"):
        registers.encode("JOB_CONTROL", metric=4)


def export(registers, folder):
    folder.mkdir()
    registers.write_header(folder / "unit.h")
    registers.write_html(folder / "html")
    registers.write_systemrdl(folder / "unit.rdl")
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_exports_are_reproducible_and_hold_no_paths(tmp_path, monkeypatch):
    registers = RegisterMap(ODD)
    files = export(registers, tmp_path / "first")
    monkeypatch.setattr("time.time", lambda: 4e9)
    monkeypatch.chdir(tmp_path)
    assert export(registers, tmp_path / "second") == files
    names = [str(name) for name in files]
    assert filecmp.cmpfiles(tmp_path / "first", tmp_path / "second", names, shallow=False) == (names, [], [])
    for name in files:
        content = (tmp_path / "first" / name).read_bytes()
        for path in (str(tmp_path), __file__.rpartition("/tests/")[0], sys.prefix):
            assert path.encode() not in content, f"{name} holds {path}"


def test_header_describes_the_build(tmp_path):
    registers = RegisterMap(ODD)
    registers.write_header(tmp_path / "unit.h")
    text = (tmp_path / "unit.h").read_text()
    defines = dict(re.findall(r"#define (RELUCTANT_\w+) (\w+)u$", text, re.MULTILINE))
    assert int(defines["RELUCTANT_CONFIG_HASH"], 16) == ODD.hash
    assert int(defines["RELUCTANT_HEADS"]) == 6
    assert int(defines["RELUCTANT_SCORE_BITS"]) == formats.score_bits(24)
    assert int(defines["RELUCTANT_OFFSET_START"], 16) == registers.address("START")


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_header_compiles_and_agrees_with_the_map(tmp_path):
    registers = RegisterMap(ODD)
    registers.write_header(tmp_path / "unit.h")
    (tmp_path / "check.c").write_text(f"""
        #include <stddef.h>
        #include "unit.h"
        #define IS(value, expected) static_assert((value) == (expected), #value)
        IS(RELUCTANT_OFFSET_GAIN(4, 2, 23), {registers.address("GAIN", 4, 2, 23)});
        IS(RELUCTANT_OFFSET_HEAD_TABLE_ALPHA(3, 5), {registers.address("HEAD_TABLE.ALPHA", 3, 5)});
        IS(offsetof(sparse_attention_unit_t, START), {registers.address("START")});
        IS(offsetof(sparse_attention_unit_t, HEAD_TABLE[3][5].ALPHA), {registers.address("HEAD_TABLE.ALPHA", 3, 5)});
        IS(offsetof(sparse_attention_unit_t, JOBS.HI), {registers.address("JOBS.HI")});
    """)
    subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "check.c"], cwd=tmp_path, check=True
    )


def test_exported_systemrdl_is_the_build_without_parameters(tmp_path):
    RegisterMap(ODD).write_systemrdl(tmp_path / "unit.rdl")
    compiler = RDLCompiler()
    compiler.compile_file(str(tmp_path / "unit.rdl"))
    top = compiler.elaborate("sparse_attention_unit").top
    assert top.get_child_by_name("CONFIG_HASH").get_child_by_name("value").get_property("reset") == ODD.hash
    elements = {
        re.sub(r"\[\]", "", node.get_rel_path(top)): node.raw_absolute_address
        for node in top.descendants(unroll=False)
        if type(node).__name__ == "RegNode"
    }
    assert elements == {name: register.address for name, register in RegisterMap(ODD).registers.items()}
