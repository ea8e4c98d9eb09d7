"""Pins of the boards, as their constraint files say them."""

from dataclasses import replace

import pytest
from amaranth.build import Attrs, Clock, Connector, Pins, PinsN, Resource, Subsignal
from amaranth.build.res import ResourceManager

from reluctant.boards.board import boards
from reluctant.boards.constraints import constraints, input_mhz, pins
from reluctant.golden.errors import UserError

pytest.importorskip("amaranth_boards")


def _board(resources, connectors=(), **changes):
    board = boards()["icebreaker"]
    return replace(board, platform=lambda: ResourceManager(resources, list(connectors)), clock="clk", **changes)


CLOCK = Resource("clk", 0, Pins("A1", dir="i"), Clock(50e6), Attrs(IO_TYPE="LVCMOS33"))
LED = Resource("led", 0, PinsN("B1", dir="o"))
UART = Resource("uart", 0, Subsignal("rx", Pins("0", conn=("io", 0))), Subsignal("tx", Pins("C2")), Attrs(PULLUP=1))
HEADER = Connector("io", 0, {"0": "C1"})


def test_icebreaker():
    assert constraints(boards()["icebreaker"]).splitlines()[1:] == [
        "set_io clock 35",
        "set_io -pullup yes rx 6",
        "set_io -pullup yes tx 9",
        "set_io led 11",
        "set_frequency clock 12",
    ]


def test_orangecrab_has_its_serial_port_on_the_header():
    text = constraints(boards()["orangecrab-25f"])
    assert 'LOCATE COMP "rx" SITE "N17";' in text
    assert 'LOCATE COMP "tx" SITE "M18";' in text
    assert 'FREQUENCY PORT "clock" 48 MHZ;' in text
    assert 'IOBUF PORT "rx" IO_TYPE=LVCMOS33;' in text


def test_tang_nano_20k():
    text = constraints(boards()["tang-nano-20k"])
    for line in ('IO_LOC "clock" 4;', 'IO_LOC "rx" 70;', 'IO_LOC "tx" 69;', 'IO_LOC "led" 15;'):
        assert line in text
    assert 'IO_PORT "led" IO_TYPE=LVCMOS33;' in text


@pytest.mark.parametrize("name", boards())
def test_every_board_has_its_pins(name):
    found = pins(boards()[name])
    assert list(found) == ["clock", "rx", "tx", "led"]
    assert len({pin.site for pin in found.values()}) == 4
    assert 10 <= input_mhz(boards()[name]) <= 50


def test_connectors_inversion_and_attributes():
    found = pins(_board([CLOCK, LED, UART], [HEADER]))
    assert (found["rx"].site, found["tx"].site) == ("C1", "C2")
    assert (found["led"].inverted, found["rx"].inverted) == (True, False)
    assert found["tx"].attributes == {"PULLUP": "1"}


@pytest.mark.parametrize(
    ("resources", "changes", "message"),
    [
        ([CLOCK, UART], {}, "board icebreaker has no resource led.0: led needs one"),
        ([CLOCK, LED], {}, "has no resource uart.0.rx: rx needs one"),
        ([CLOCK, LED, UART], {"uart": ("led", 0)}, "has no subsignal led.0.rx: rx needs one"),
        ([CLOCK, Resource("led", 0, Pins("1 2")), UART], {}, "resource led.0 of board icebreaker is not one pin"),
        ([Resource("clk", 0, Pins("1")), LED, UART], {}, "resource clk of board icebreaker has no Clock"),
    ],
)
def test_what_a_board_lacks_is_named(resources, changes, message):
    with pytest.raises(UserError, match=message):
        constraints(_board(resources, [HEADER], **changes))
