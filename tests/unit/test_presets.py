"""Presets: valid, described, and small enough for their boards."""

import pytest

from reluctant.boards.board import boards
from reluctant.boards.presets import CLOCKS, PRESETS, SUMMARIES, BoardClock, preset

ICE40_UP5K_SPRAM_BYTES = 128 << 10
ECP5_85F_BLOCKS, ECP5_BLOCK_BYTES = 208, 2 << 10


def test_every_preset_is_described_and_told_apart():
    assert SUMMARIES.keys() == PRESETS.keys()
    assert CLOCKS.keys() == boards().keys()
    for name, board in boards().items():
        assert board.name == name
        assert PRESETS[name] is board.system


def test_unknown_preset_names_those_that_exist():
    with pytest.raises(KeyError, match=r"no preset 'ulx3s': default, tiny, icebreaker, ulx3s-85f, "):
        preset("ulx3s")
    assert preset("tiny") is PRESETS["tiny"]


def test_boards_hold_their_stores():
    def store_bytes(name):
        config = PRESETS[name].unit
        return config.sizes.store_depth * config.lanes

    icebreaker = PRESETS["icebreaker"].unit
    # The core's 32 bits are half of the single-port RAM's width.
    assert store_bytes("icebreaker") + 2 * icebreaker.shared_memory <= ICE40_UP5K_SPRAM_BYTES
    assert icebreaker.store == "single"
    config = PRESETS["ulx3s-85f"].unit
    statistics = config.sizes.rows * (config.mass_bits + config.position_bits) // 8
    blocks = -(-(store_bytes("ulx3s-85f") + statistics) // ECP5_BLOCK_BYTES)
    assert blocks <= 0.75 * ECP5_85F_BLOCKS


def test_clock_constraints():
    assert BoardClock(24, ".pcf").constraint() == "set_frequency clk 24\n"
    assert BoardClock(100, ".lpf").constraint(own_unit_clock=True) == 'FREQUENCY PORT "clk" 100 MHZ;\n'
    assert BoardClock(60, ".lpf", 120).constraint() == 'FREQUENCY PORT "clk" 60 MHZ;\n'
    both = 'FREQUENCY PORT "clk" 60 MHZ;\nFREQUENCY PORT "unit_clk" 120 MHZ;\n'
    assert BoardClock(60, ".lpf", 120).constraint(own_unit_clock=True) == both
    assert BoardClock(27, ".sdc").constraint() == "create_clock -name clk -period 37.0370 [get_ports clk]\n"
