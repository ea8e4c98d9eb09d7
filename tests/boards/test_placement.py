"""nextpnr's report and log, read."""

import pytest

from reluctant.boards.placement import CriticalPath, overfull, parse_report
from tests.boards.fake_tools import report_json

LOG = """
Info: Device utilisation:
Info: 	         ICESTORM_LC:  6107/  5280   115%
Info: 	        ICESTORM_RAM:    31/    30   103%
Info: 	               SB_IO:     4/    39    10%
Info: 	          DUMMY_CELL:     4/     0   100%
"""


def test_report():
    placement = parse_report(report_json(30.004), 7, {"clk": 24.0})
    assert placement.seed == 7
    assert placement.cells == {"ICESTORM_LC": (4224, 5280), "ICESTORM_RAM": (27, 30), "ICESTORM_PLL": (1, 1)}
    clock = placement.clocks["clk"]
    assert (clock.mhz, clock.fmax_mhz, clock.met) == (24.0, 30.0, True)
    assert clock.path == CriticalPath("clk", "system.core.pc", "system.core.target", 3.25, 5.25, 1)
    assert clock.path.words == ("system.core.pc to system.core.target: 8.5 ns, 3.2 in 1 cells, 5.2 in wires")
    assert placement.margin == pytest.approx(1.25)


@pytest.mark.parametrize(("fmax", "met"), [(23.99, False), (23.999, True), (24.0, True)])
def test_timing_is_met_up_to_nextpnrs_rounding(fmax, met):
    assert parse_report(report_json(fmax), 1, {"clk": 24.0}).met is met


def test_a_clock_that_is_not_there():
    with pytest.raises(ValueError, match=r"reports the clocks clk\$SB.*: clk, unit_clk are needed"):
        parse_report(report_json(30), 1, {"clk": 24.0, "unit_clk": 48.0})


@pytest.mark.parametrize(
    ("net", "clock"), [("$glbnet$clk", "clk"), ("$glbnet$system.unit_clk", "unit_clk"), ("unit_clk", "unit_clk")]
)
def test_names_of_clock_nets(net, clock):
    text = report_json(99).replace("clk$SB_IO_IN_$glb_clk", net)
    assert parse_report(text, 1, {clock: 24.0}).clocks[clock].path.start == "system.core.pc"


def test_what_does_not_fit():
    assert overfull(LOG, "ice40") == ["6,107 logic cells of 5,280", "31 block RAM of 30"]
    assert overfull(LOG.replace("6107", "5107").replace("31/", "30/"), "ice40") == []
