"""The setting ``unit_clock``: what is refused, what it changes, and what it leaves alone."""

import re
from dataclasses import replace

import pytest

from reluctant.hdl.config import ConfigError, UnitConfig, hash_of
from reluctant.hdl.link_config import LinkConfig
from reluctant.hdl.system_config import SystemConfig
from reluctant.hdl.verilog import linked_system_to_verilog, system_to_verilog

SHARED = SystemConfig(unit=UnitConfig(lanes=4, head_dim=16, slots=4, heads=1, kv_heads=1), memory=8192)
OWN = replace(SHARED, unit_clock="own")


def ports(verilog: str, top: str) -> set[str]:
    return set(re.findall(r"\w+", re.search(rf"\bmodule {top}\(([^)]*)\);", verilog)[1]))


def test_wrong_clocks_are_refused():
    for value in ("none", "", True):
        with pytest.raises(ConfigError, match=r"^unit_clock is .*: "):
            replace(SHARED, unit_clock=value)


def test_a_shared_clock_leaves_no_trace():
    """Neither in the hash, which was there before the setting, nor in the Verilog."""
    values = SHARED.as_dict()
    assert values.pop("unit_clock") == "shared"
    assert SHARED.hash == hash_of(values) != OWN.hash
    assert not re.search(r"unit_clk|unit_rst|crossing", system_to_verilog(SHARED, b""))


def test_tops_have_the_second_clock():
    top, link = "sparse_attention_system", LinkConfig("board", 48_000_000, 1_000_000)
    shared, own = (ports(system_to_verilog(config, b""), top) for config in (SHARED, OWN))
    assert own == shared | {"unit_clk", "unit_rst"}
    linked = ports(linked_system_to_verilog(OWN, b"", link), "sparse_attention_linked_system")
    assert linked == {"clk", "rst", "unit_clk", "unit_rst", "rx", "tx", "led"}
