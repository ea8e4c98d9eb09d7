"""Single-port RAM of iCE40 UltraPlus, by instance."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal

__all__ = ["single_port_ram"]

WIDTH, DEPTH = 16, 16384
"""Of one SB_SPRAM256KA."""


def single_port_ram(component) -> Module | None:
    """A module with the behaviour of :class:`~reluctant.hdl.memory.SinglePortRam`; None for one that block RAM holds.

    Banks of 16,384 rows, each as many cells wide as it takes. ``read_data`` holds without a read, as a deselected cell
    keeps its output.
    """
    if component.latency != 1 or component.width * component.depth < WIDTH * DEPTH // 4:
        return None
    m = Module()
    cells, banks = -(-component.width // WIDTH), -(-component.depth // DEPTH)
    addr = Signal(14)
    data = Signal(cells * WIDTH)
    words = []
    m.d.comb += [addr.eq(component.addr), data.eq(component.write_data)]
    for bank in range(banks):
        selected = component.addr[14:] == bank if banks > 1 else Const(1, 1)
        word = Signal(cells * WIDTH, name=f"word_{bank}")
        for cell in range(cells):
            bits = slice(cell * WIDTH, (cell + 1) * WIDTH)
            m.submodules[f"cell_{bank}_{cell}"] = Instance(
                "SB_SPRAM256KA",
                ("i", "CLOCK", ClockSignal()),
                ("i", "ADDRESS", addr),
                ("i", "DATAIN", data[bits]),
                ("i", "MASKWREN", _mask(component, cell)),
                ("i", "WREN", component.write_en.any()),
                ("i", "CHIPSELECT", (component.write_en.any() | component.read_en) & selected),
                ("i", "STANDBY", Const(0, 1)),
                ("i", "SLEEP", Const(0, 1)),
                ("i", "POWEROFF", Const(1, 1)),
                ("o", "DATAOUT", word[bits]),
            )
        words.append(word)
    if banks == 1:
        m.d.comb += component.read_data.eq(words[0])
        return m
    chosen = Signal.like(component.addr[14:], name="chosen")
    with m.If(component.read_en & ~component.write_en.any()):
        m.d.sync += chosen.eq(component.addr[14:])
    value = words[0]
    for bank in range(1, banks):
        value = Mux(chosen == bank, words[bank], value)
    m.d.comb += component.read_data.eq(value)
    return m


def _mask(component, cell: int):
    """Nibbles of a cell that are written."""
    enables = [
        component.write_en[min(cell * WIDTH + 4 * n, component.width - 1) // component.granularity] for n in range(4)
    ]
    return Cat(enables)
