"""Scripts for Yosys, one for each family."""

from .board import Board

__all__ = ["synthesis_script"]

# No memory is read where it is written in the same cycle (hdl/memory.py): -no-rw-check saves the logic for it.
# iCE40: no -dsp, which would rewrite SB_MAC16 that are instantiated. ABC would compare what it made with what it was
# given, which takes minutes and overflows the stack of the WebAssembly build; the tests simulate the netlist instead.
COMMANDS = {
    "ice40": "scratchpad -set abc9.verify 0\nsynth_ice40 -abc9 -device u -dff -no-rw-check -top top -json top.json",
    "ecp5": "synth_ecp5 -no-rw-check -top top -json top.json",
    "gowin": "synth_gowin -family {gowin} -no-rw-check -top top -json top.json",
}
GOWIN = {"GW1NR-9C": "gw1n", "GW2AR-18C": "gw2a"}
"""Yosys's name of the family, by Board.pll_device."""


def synthesis_script(board: Board, sources: tuple[str, ...]) -> str:
    """Text of a script that makes ``top.json`` of Verilog files."""
    command = COMMANDS[board.family].format(gowin=GOWIN.get(board.pll_device, "gw1n"))
    return f"read_verilog {' '.join(sources)}\n{command}\n"
