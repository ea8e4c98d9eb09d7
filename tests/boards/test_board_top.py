"""The top of a board: its reset, and its PLL's instance."""

import re

import pytest
from amaranth.back import verilog
from amaranth.sim import Simulator

from reluctant.boards.board_top import BoardTop, HeldReset
from reluctant.boards.pll import find_pll


def test_reset_is_held_until_the_pll_has_been_locked_for_a_while():
    held = HeldReset(cycles=5)
    seen = []

    async def bench(ctx):
        for locked, cycles in ((0, 10), (1, 4), (0, 6), (1, 20), (0, 6)):
            ctx.set(held.locked, locked)
            for _ in range(cycles):
                *_, rst = await ctx.tick().sample(held.rst)
                seen.append((locked, rst))

    simulator = Simulator(held)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    resets = [rst for _, rst in seen]
    assert resets[:20] == [1] * 20  # a lock that does not last does not count
    assert resets[20:40] == [1] * 8 + [0] * 12  # synchroniser 2, cycles 5, register 1
    assert resets[40:] == [0, 0, 0, 1, 1, 1]


def _text(family: str, *clocks, inverted=False, **options) -> str:
    top = BoardTop(find_pll(family, *clocks, **options), system="linked", led_inverted=inverted)
    return verilog.convert(top, name="top", emit_src=False, strip_internal_attrs=True)


@pytest.mark.parametrize(
    ("family", "clocks", "words"),
    [
        ("ice40", (12, 24), ("SB_PLL40_PAD", ".PLLOUTGLOBAL(clk)", ".PACKAGEPIN(clock)", ".RESETB(1'h1)")),
        ("ice40", (12, 24, 48), (".PLLOUTGLOBALB(clk)", ".PLLOUTGLOBALA(unit_clk)", ".unit_rst(")),
        ("ecp5", (25, 60), ("EHXPLLL", ".CLKOS(clk)")),
        ("ecp5", (25, 60, 120), (".CLKOS2(unit_clk)", ".unit_clk(unit_clk)")),
        ("gowin", (27, 54), ("rPLL", ".CLKOUT(clk)", '.FCLKIN("27")')),
        ("gowin", (27, 27), (".clk(clock)",)),
    ],
)
def test_instances(family, clocks, words):
    text = _text(family, *clocks, device="GW1NR-9C")
    assert all(word in text for word in words), text
    assert (".unit_clk(" in text) == (len(clocks) == 3)


def test_ecp5_feedback_goes_from_output_to_input():
    text = _text("ecp5", 25, 60)
    (output,), (back,) = (re.findall(rf"\.{port}\((.+?)\)", text) for port in ("CLKOP", "CLKFB"))
    assert output == back != "clk"


def test_led_is_inverted_where_the_board_wants_it():
    assert "~ lit" in _text("ecp5", 25, 60, inverted=True)
    assert "~ lit" not in _text("ecp5", 25, 60)
