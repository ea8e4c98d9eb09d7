"""Dividers of PLLs: within their data sheets' limits, exact where that is possible, never above what was asked for."""

import pytest

from reluctant.boards.pll import find_pll
from reluctant.golden.errors import UserError


def _ice40(pll, mhz):
    p = pll.parameters
    detector = mhz / (p["DIVR"] + 1)
    oscillator = detector * (p["DIVF"] + 1)
    assert 10 <= detector <= 133
    assert 533 <= oscillator <= 1066
    assert (0 <= p["DIVR"] <= 15, 0 <= p["DIVF"] <= 127, 1 <= p["DIVQ"] <= 6) == (True, True, True)
    return oscillator / 2 ** p["DIVQ"]


@pytest.mark.parametrize(("wanted", "made"), [(18, 18), (24, 24), (33, 33), (48, 48), (40, 39.75), (60, 60)])
def test_ice40(wanted, made):
    pll = find_pll("ice40", 12, wanted)
    assert pll.cell == "SB_PLL40_PAD"
    assert _ice40(pll, 12) == pytest.approx(pll.mhz) == pytest.approx(made)
    assert 16 <= pll.mhz <= 275


@pytest.mark.parametrize(("mhz", "band"), [(12, 1), (20, 2), (30, 3), (50, 4), (75, 5), (133, 6)])
def test_ice40_filter_follows_the_phase_detector(mhz, band):
    pll = find_pll("ice40", mhz, 100)
    detector = mhz / (pll.parameters["DIVR"] + 1)
    limits = (17, 26, 44, 66, 101)
    assert pll.parameters["FILTER_RANGE"] == 1 + sum(detector >= limit for limit in limits)
    assert pll.parameters["FILTER_RANGE"] <= band


def test_ice40_two_clocks_are_one_and_its_half():
    pll = find_pll("ice40", 12, 24, 48)
    assert (pll.cell, pll.mhz, pll.unit_mhz) == ("SB_PLL40_2F_PAD", 24, 48)
    assert _ice40(pll, 12) == 48
    assert (pll.output, pll.unit_output) == ("PLLOUTGLOBALB", "PLLOUTGLOBALA")
    assert pll.parameters["PLLOUT_SELECT_PORTB"] == "GENCLK_HALF"


def test_ice40_clock_from_an_ordinary_pin():
    pll = find_pll("ice40", 12, 24, pad=False)
    assert (pll.cell, pll.input) == ("SB_PLL40_CORE", "REFERENCECLK")


@pytest.mark.parametrize(
    ("mhz", "wanted", "unit"),
    [(25, 75, None), (25, 60, None), (25, 62.5, 125), (25, 60, 120), (48, 60, 120), (48, 96, None), (25, 65, 130)],
)
def test_ecp5(mhz, wanted, unit):
    pll = find_pll("ecp5", mhz, wanted, unit)
    p = pll.parameters
    detector = mhz / p["CLKI_DIV"]
    feedback = detector * p["CLKFB_DIV"]
    oscillator = feedback * p["CLKOP_DIV"]
    assert 10 <= detector <= 400
    assert 400 <= oscillator <= 800
    assert oscillator / p["CLKOS_DIV"] == pytest.approx(pll.mhz)
    assert wanted * 0.95 <= pll.mhz <= wanted * (1 + 1e-9)
    assert all(1 <= value <= 128 for name, value in p.items() if name.endswith("_DIV"))
    if unit is None:
        assert pll.unit_mhz is None
        assert "CLKOS2_DIV" not in p
    else:
        assert oscillator / p["CLKOS2_DIV"] == pytest.approx(pll.unit_mhz)
        assert unit * 0.95 <= pll.unit_mhz <= unit * (1 + 1e-9)


def test_ecp5_is_exact_where_it_can_be():
    for mhz, wanted, unit in ((25, 60, 120), (48, 60, 120), (25, 62.5, 125)):
        pll = find_pll("ecp5", mhz, wanted, unit)
        assert (pll.mhz, pll.unit_mhz) == (pytest.approx(wanted), pytest.approx(unit))


@pytest.mark.parametrize(
    ("device", "wanted", "unit"),
    [("GW1NR-9C", 54, None), ("GW1NR-9C", 33, None), ("GW2AR-18C", 60, None), ("GW2AR-18C", 40, 80)],
)
def test_gowin(device, wanted, unit):
    pll = find_pll("gowin", 27, wanted, unit, device=device)
    p = pll.parameters
    out = 27 * (p["FBDIV_SEL"] + 1) / (p["IDIV_SEL"] + 1)
    low, high = {"GW1NR-9C": (400, 1200), "GW2AR-18C": (500, 1250)}[device]
    assert low <= out * p["ODIV_SEL"] <= high
    assert 27 / (p["IDIV_SEL"] + 1) >= 3
    assert wanted * 0.95 <= pll.mhz <= wanted * (1 + 1e-9)
    if unit is None:
        assert out == pytest.approx(pll.mhz)
    else:
        assert (pll.output, pll.unit_output) == ("CLKOUTD", "CLKOUT")
        assert out == pytest.approx(pll.unit_mhz)
        assert pll.unit_mhz == pytest.approx(pll.mhz * p["DYN_SDIV_SEL"])


def test_no_pll_where_the_input_will_do():
    assert find_pll("gowin", 27, 27, device="GW1NR-9C").cell == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ice40", 12, 300), "the PLL \\(ice40\\) cannot make 300 MHz of 12 MHz: 16 to 275 MHz is possible"),
        (("ice40", 12, 20, 60), "cannot make 20 MHz and 60 MHz of 12 MHz"),
        (("ecp5", 25, 900), "cannot make 900 MHz of 25 MHz: 3.2 to 400"),
        (("ecp5", 5, 50), "cannot make 50 MHz of 5 MHz"),
        (("gowin", 27, 30, 45), "cannot make 30 MHz and 45 MHz"),
    ],
)
def test_what_cannot_be_made(arguments, message):
    with pytest.raises(UserError, match=message):
        find_pll(*arguments, device="GW1NR-9C")


def test_gowin_device_must_be_known():
    with pytest.raises(UserError, match="pll_device is 'GW5A-25': limits of GW1NR-9C, GW2AR-18C are known"):
        find_pll("gowin", 27, 54, device="GW5A-25")
