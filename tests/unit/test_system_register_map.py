"""The register maps of a system: what the host sees and what the scheduler's core sees."""

import re
import shutil
import subprocess

import pytest
from systemrdl import RDLCompiler

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.messages import MESSAGE_WORDS, c_header
from reluctant.hdl.register_map import scheduler_map, system_map
from reluctant.hdl.system_config import SystemConfig

SMALL = SystemConfig(
    unit=UnitConfig(lanes=4, head_dim=16, slots=2, heads=1, kv_heads=1), sequences=1, memory=8192, messages=2
)
LARGE = SystemConfig(unit=UnitConfig(profiles=256), sequences=16, memory=65536, messages=16, multiply=True)
CONFIGS = {"default": SystemConfig(), "small": SMALL, "large": LARGE}
MAPS = {"sparse_attention_system": system_map, "scheduler": scheduler_map}
PREFIXES = {"sparse_attention_system": "RELUCTANT_SYSTEM_", "scheduler": "SCHEDULER_"}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_names_the_sizes_of_the_build(config):
    registers = system_map(config)

    def constants(name):
        return {field.name: field.reset for field in registers.fields(name).values()}

    assert constants("ID") == {"value": int.from_bytes(b"RLCS", "big")}
    assert constants("CONFIG_HASH") == {"value": config.hash}
    assert constants("CONFIG_SCHEDULER") == {
        "messages": config.messages,
        "words": MESSAGE_WORDS,
        "sequences": config.sequences,
        "multiply": config.multiply,
    }
    assert constants("CONFIG_MEMORY") == {"layers": config.unit.profiles, "memory": config.memory}
    # The reset of a field that is too narrow would be cut.
    for name in ("CONFIG_SCHEDULER", "CONFIG_MEMORY"):
        for field in registers.fields(name).values():
            assert field.reset < 1 << field.width, (name, field.name)
    assert (1 << registers.fields("MEMORY_ADDRESS")["value"].width) == config.memory


@pytest.mark.parametrize("top", MAPS)
def test_no_two_registers_share_a_word_and_counts_fit(top):
    registers = MAPS[top](LARGE)
    words = [
        registers.address(register.name, *index)
        for register in registers.registers.values()
        for index in ([(i,) for i in range(register.count)] if register.dimensions else [()])
    ]
    assert len(words) == len(set(words))
    assert max(words) < 1 << registers.address_width
    assert all(address % 4 == 0 for address in words)
    status = {"sparse_attention_system": "STATUS.room", "scheduler": "COMMAND_STATUS.count"}[top]
    name, field = status.split(".")
    assert registers.register(name).field(field).width == LARGE.messages.bit_length()
    assert registers.address("COMMAND", 31) == registers.address("COMMAND", 0) + 4 * (MESSAGE_WORDS - 1)
    with pytest.raises(IndexError):
        registers.address("REPLY", MESSAGE_WORDS)


def test_encode_and_decode():
    registers = system_map(SMALL)
    assert registers.encode("CONTROL", hold=1, flush=1) == 1 | 1 << 9
    word = 2 | 1 << 8 | 32 << 16 | 1 << 25 | 3 << 28
    assert {name for name, value in registers.decode("STATUS", word).items() if value} == {
        *("room", "replies", "words", "sleeping", "cause"),
    }
    assert registers.decode("STATUS", word)["cause"] == 3
    assert scheduler_map(SMALL).encode("EVENT_ENABLE", mask=0b10101) == 0b10101


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_headers_compile_together_and_agree_with_the_maps(tmp_path):
    checks = []
    for top, make in MAPS.items():
        registers = make(LARGE)
        registers.write_header(tmp_path / f"{top}.h")
        for register in registers.registers.values():
            index = f"({register.count - 1})" if register.dimensions else ""
            address = registers.address(register.name, *([register.count - 1] if register.dimensions else []))
            checks.append(f"IS({PREFIXES[top]}OFFSET_{register.name.replace('.', '_')}{index}, {address});")
        checks.append(f"IS({PREFIXES[top]}MESSAGES, 16);")
    checks.append(f"IS(RELUCTANT_SYSTEM_CONFIG_HASH, {LARGE.hash}u);")
    checks.append("IS(SCHEDULER__EVENTS__JOB_bm, 4);")
    checks.append("IS(MESSAGE_WORDS, SCHEDULER_MESSAGE_WORDS);")
    (tmp_path / "messages.h").write_text(c_header())
    includes = "".join(f'#include "{name}.h"\n' for name in (*MAPS, "messages"))
    define = "#define IS(value, expected) static_assert((value) == (expected), #value)\n"
    (tmp_path / "check.c").write_text(includes + define + "\n".join(checks) + "\n")
    subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "check.c"], cwd=tmp_path, check=True
    )


@pytest.mark.parametrize("top", MAPS)
def test_exported_systemrdl_is_this_map_of_this_build(tmp_path, top):
    registers = MAPS[top](LARGE)
    registers.write_systemrdl(tmp_path / "system.rdl")
    assert re.findall(r"(?m)^addrmap (\w+)", (tmp_path / "system.rdl").read_text()) == [top]
    compiler = RDLCompiler()
    compiler.compile_file(str(tmp_path / "system.rdl"))
    node = compiler.elaborate(top).top
    elements = {
        re.sub(r"\[\]", "", register.get_rel_path(node)): register.raw_absolute_address
        for register in node.descendants(unroll=False)
        if type(register).__name__ == "RegNode"
    }
    assert elements == {name: register.address for name, register in registers.registers.items()}
    if top == "sparse_attention_system":
        field = node.get_child_by_name("CONFIG_HASH").get_child_by_name("value")
        assert field.get_property("reset") == LARGE.hash


@pytest.mark.parametrize("top", MAPS)
def test_html_names_every_register_and_no_path(tmp_path, top):
    MAPS[top](SMALL).write_html(tmp_path / "html")
    content = "".join(
        path.read_text(encoding="utf-8") for path in (tmp_path / "html").rglob("*") if path.suffix in (".js", ".html")
    )
    for name in ("COMMAND", "REPLY", "CONTROL" if top == "sparse_attention_system" else "GATE_ABORT"):
        assert name in content
    assert str(tmp_path) not in content
    assert __file__.rpartition("/tests/")[0] not in content
