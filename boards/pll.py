"""Dividers of the PLLs that make a board's clocks, found by search within the limits of their data sheets.

Every search gives the highest frequency that is not above the wanted one, so that what timing analysis proves holds.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from reluctant.golden.errors import UserError

__all__ = ["Pll", "find_pll"]

WORST_ERROR = 0.05
"""Share by which a clock may be below what was asked for."""
_ABOVE = 1 + 1e-9
"""Frequencies are floats: equal ones may differ by so much."""


@dataclass(frozen=True)
class Pll:
    """A PLL's cell and what it makes.

    Attributes
    ----------
    cell
        Of the FPGA's library; empty: the input is the clock.
    mhz, unit_mhz
        Frequencies of clk and of unit_clk; ``unit_mhz`` None: there is one clock.
    parameters, attributes
        Of the cell.
    input, locked, output, unit_output
        Its ports.
    low
        Inputs that are tied to 0, with their widths.
    high
        Inputs that are tied to 1.
    feedback
        (output, input) that are connected outside the cell, to nothing else.
    """

    cell: str
    mhz: float
    unit_mhz: float | None = None
    parameters: dict = field(default_factory=dict)
    attributes: dict = field(default_factory=dict)
    input: str = ""
    locked: str = ""
    output: str = ""
    unit_output: str = ""
    low: dict = field(default_factory=dict)
    high: tuple[str, ...] = ()
    feedback: tuple[str, str] | None = None


def find_pll(
    family: str, input_mhz: float, mhz: float, unit_mhz: float | None = None, *, pad: bool = True, device: str = ""
) -> Pll:
    """The PLL that makes ``mhz``, and ``unit_mhz`` where that is not None, of ``input_mhz``.

    Parameters
    ----------
    family
        ``ice40``, ``ecp5`` or ``gowin``.
    pad
        iCE40: the input is the pin that belongs to the PLL.
    device
        Gowin: the family's name as in ``DEVICE`` of rPLL, such as ``GW1NR-9C``.

    Raises
    ------
    UserError
        If no dividers come within 5% below a wanted frequency.
    """
    if unit_mhz is None and mhz == input_mhz:
        return Pll("", mhz)
    search: Callable[..., Iterator[Pll]] = {"ice40": _ice40, "ecp5": _ecp5, "gowin": _gowin}[family]
    best = max(
        (pll for pll in search(input_mhz, mhz, unit_mhz, pad=pad, device=device) if _allowed(pll, mhz, unit_mhz)),
        key=lambda pll: pll.mhz / mhz + (pll.unit_mhz / unit_mhz if unit_mhz else 0),
        default=None,
    )
    if best is None:
        clocks = f"{mhz:g} MHz" if unit_mhz is None else f"{mhz:g} MHz and {unit_mhz:g} MHz"
        raise UserError(f"the PLL ({family}) cannot make {clocks} of {input_mhz:g} MHz: {_REACH[family]}")
    return best


_REACH = {
    "ice40": "16 to 275 MHz is possible, a clock of the unit only at twice the system's",
    "ecp5": "3.2 to 400 MHz is possible",
    "gowin": "3.2 to 600 MHz is possible, a clock of the unit only at an even multiple of the system's",
}


def _allowed(pll: Pll, mhz: float, unit_mhz: float | None) -> bool:
    pairs = [(pll.mhz, mhz)] + ([(pll.unit_mhz, unit_mhz)] if unit_mhz else [])
    return all(wanted * (1 - WORST_ERROR) <= made <= wanted * _ABOVE for made, wanted in pairs)


def _ice40(input_mhz: float, mhz: float, unit_mhz: float | None, *, pad: bool, device: str) -> Iterator[Pll]:
    """SB_PLL40, simple feedback: Lattice FPGA-TN-02052, DS1040 table of PLL characteristics.

    Input 10 to 133 MHz, phase detector 10 to 133, oscillator 533 to 1066, output 16 to 275. With two clocks, port A is
    the full and port B half the frequency.
    """
    wanted = mhz if unit_mhz is None else unit_mhz
    if not 10 <= input_mhz <= 133:
        return
    for divr in range(16):
        detector = input_mhz / (divr + 1)
        if not 10 <= detector <= 133:
            continue
        for divq in range(1, 7):
            divf = min(127, int(wanted * _ABOVE * 2**divq / detector) - 1)
            oscillator = detector * (divf + 1)
            made = oscillator / 2**divq
            if divf >= 0 and 533 <= oscillator <= 1066 and 16 <= made <= 275:
                yield _ice40_cell(divr, divf, divq, detector, made, two=unit_mhz is not None, pad=pad)


def _ice40_cell(divr: int, divf: int, divq: int, detector: float, made: float, *, two: bool, pad: bool) -> Pll:
    # FILTER_RANGE by the phase detector's frequency: FPGA-TN-02052, and icepll of Project IceStorm.
    ranges = (17, 26, 44, 66, 101)
    parameters = {
        "FEEDBACK_PATH": "SIMPLE",
        "DIVR": divr,
        "DIVF": divf,
        "DIVQ": divq,
        "FILTER_RANGE": 1 + sum(detector >= limit for limit in ranges),
    }
    select = (
        {"PLLOUT_SELECT_PORTA": "GENCLK", "PLLOUT_SELECT_PORTB": "GENCLK_HALF"} if two else {"PLLOUT_SELECT": "GENCLK"}
    )
    kind = ("SB_PLL40_2F_PAD" if pad else "SB_PLL40_2F_CORE") if two else ("SB_PLL40_PAD" if pad else "SB_PLL40_CORE")
    return Pll(
        kind,
        mhz=made / 2 if two else made,
        unit_mhz=made if two else None,
        parameters=parameters | select,
        input="PACKAGEPIN" if pad else "REFERENCECLK",
        locked="LOCK",
        output="PLLOUTGLOBALB" if two else "PLLOUTGLOBAL",
        unit_output="PLLOUTGLOBALA" if two else "",
        low={"BYPASS": 1},
        high=("RESETB",),
    )


def _ecp5(input_mhz: float, mhz: float, unit_mhz: float | None, *, pad: bool, device: str) -> Iterator[Pll]:
    """EHXPLLL: Lattice FPGA-TN-02200; limits of FPGA-DS-02012, table of sysCLOCK PLL timing.

    Input 8 to 400 MHz, phase detector 10 to 400, oscillator 400 to 800, outputs 3.125 to 400. CLKOP closes the loop
    and goes nowhere else, so that CLKOS, the system's clock, and CLKOS2, the unit's, divide the oscillator freely.
    """
    if not 8 <= input_mhz <= 400:
        return
    for clki in range(1, 129):
        detector = input_mhz / clki
        if not 10 <= detector <= 400:
            continue
        for clkfb in range(1, min(128, int(400 / detector)) + 1):
            for clkop in range(1, 129):
                oscillator = detector * clkfb * clkop
                if 400 <= oscillator <= 800:
                    outputs = [_divider(oscillator, wanted) for wanted in (mhz, unit_mhz) if wanted is not None]
                    if all(3.125 <= oscillator / divider <= 400 for divider in outputs):
                        yield _ecp5_cell(clki, clkfb, clkop, outputs, oscillator)


def _divider(oscillator: float, wanted: float) -> int:
    """The smallest divider whose output is not above ``wanted``."""
    return min(128, max(1, math.ceil(oscillator / (wanted * _ABOVE))))


def _ecp5_cell(clki: int, clkfb: int, clkop: int, outputs: list[int], oscillator: float) -> Pll:
    parameters = {
        "FEEDBK_PATH": "CLKOP",
        "CLKI_DIV": clki,
        "CLKFB_DIV": clkfb,
        "STDBY_ENABLE": "DISABLED",
        "DPHASE_SOURCE": "DISABLED",
        "PLLRST_ENA": "DISABLED",
        "INTFB_WAKE": "DISABLED",
    }
    ports = ("CLKOP", "CLKOS", "CLKOS2")
    for port, letter, divider in zip(ports, "ABC", (clkop, *outputs), strict=False):
        parameters |= {
            f"{port}_ENABLE": "ENABLED",
            f"{port}_DIV": divider,
            # Edges of all outputs fall together.
            f"{port}_CPHASE": divider - 1,
            f"{port}_FPHASE": 0,
            f"OUTDIVIDER_MUX{letter}": f"DIV{letter}",
        }
    return Pll(
        "EHXPLLL",
        mhz=oscillator / outputs[0],
        unit_mhz=oscillator / outputs[1] if len(outputs) > 1 else None,
        parameters=parameters,
        # Loop filter as ecppll of Project Trellis sets it.
        attributes={"ICP_CURRENT": "12", "LPF_RESISTOR": "8", "MFG_ENABLE_FILTEROPAMP": "1", "MFG_GMCREF_SEL": "2"},
        input="CLKI",
        locked="LOCK",
        output="CLKOS",
        unit_output="CLKOS2" if len(outputs) > 1 else "",
        low=dict.fromkeys(("RST", "STDBY", "PHASESEL0", "PHASESEL1", "PLLWAKESYNC", "ENCLKOP"), 1),
        high=("PHASEDIR", "PHASESTEP", "PHASELOADREG"),
        feedback=("CLKOP", "CLKFB"),
    )


@dataclass(frozen=True)
class _GowinLimits:
    """MHz: phase detector, oscillator, output."""

    detector: tuple[float, float]
    oscillator: tuple[float, float]
    output: tuple[float, float]


_GOWIN = {
    "GW1NR-9C": _GowinLimits((3, 400), (400, 1200), (3.125, 600)),
    "GW2AR-18C": _GowinLimits((3, 500), (500, 1250), (3.90625, 625)),
}
"""Tables of PLL switching characteristics: Gowin DS117 (GW1NR, speed C6/I5) and DS226 (GW2AR, speed C8/I7)."""


def _gowin(input_mhz: float, mhz: float, unit_mhz: float | None, *, pad: bool, device: str) -> Iterator[Pll]:
    """rPLL, internal feedback: Gowin UG286. With two clocks, CLKOUT is the unit's; CLKOUTD, divided, the system's."""
    if device not in _GOWIN:
        raise UserError(f"pll_device is {device!r}: limits of {', '.join(_GOWIN)} are known")
    limits = _GOWIN[device]
    wanted = mhz if unit_mhz is None else unit_mhz
    for idiv in range(64):
        detector = input_mhz / (idiv + 1)
        if not limits.detector[0] <= detector <= limits.detector[1]:
            continue
        fbdiv = min(63, int(wanted * _ABOVE / detector) - 1)
        made = detector * (fbdiv + 1)
        if fbdiv < 0 or not limits.output[0] <= made <= limits.output[1]:
            continue
        for odiv in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128):
            if limits.oscillator[0] <= made * odiv <= limits.oscillator[1]:
                yield _gowin_cell(idiv, fbdiv, odiv, input_mhz, made, mhz, device, two=unit_mhz is not None)


def _gowin_cell(
    idiv: int, fbdiv: int, odiv: int, input_mhz: float, made: float, mhz: float, device: str, *, two: bool
) -> Pll:
    divided = min(128, max(2, 2 * math.ceil(made / (2 * mhz * _ABOVE))))
    return Pll(
        "rPLL",
        mhz=made / divided if two else made,
        unit_mhz=made if two else None,
        parameters={
            "FCLKIN": f"{input_mhz:g}",
            "IDIV_SEL": idiv,
            "FBDIV_SEL": fbdiv,
            "ODIV_SEL": odiv,
            "DYN_SDIV_SEL": divided,
            "DEVICE": device,
            "CLKFB_SEL": "internal",
            "CLKOUTD_SRC": "CLKOUT",
            "DYN_IDIV_SEL": "false",
            "DYN_FBDIV_SEL": "false",
            "DYN_ODIV_SEL": "false",
            "DYN_DA_EN": "false",
            "PSDA_SEL": "0000",
            "DUTYDA_SEL": "1000",
        },
        input="CLKIN",
        locked="LOCK",
        output="CLKOUTD" if two else "CLKOUT",
        unit_output="CLKOUT" if two else "",
        low={
            **dict.fromkeys(("RESET", "RESET_P", "CLKFB"), 1),
            **dict.fromkeys(("FBDSEL", "IDSEL", "ODSEL"), 6),
            **dict.fromkeys(("PSDA", "DUTYDA", "FDLY"), 4),
        },
    )
