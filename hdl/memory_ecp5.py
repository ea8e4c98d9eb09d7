"""Memories on ECP5: block RAM with its output register, which synthesis would leave outside."""

from amaranth.hdl import Array, ClockSignal, Instance, Module, Signal

__all__ = ["block_shape", "ram"]

ADDRESS_BITS = 14
"""Of a DP16KD, in units of the narrowest data."""
WIDTHS = {1: 16384, 2: 8192, 4: 4096, 9: 2048, 18: 1024}
"""Bits of a DP16KD's row, and how many rows it then has."""
BLOCK_BITS = 18432
LEAST_USE = 4
"""A memory that would use less than one in so many bits of its blocks is left to LUTs."""
BANK_COST = 9 / 8
"""More blocks, by so much, are better than banks, whose multiplexer stands between block RAM and register."""


def block_shape(width: int, depth: int) -> tuple[int, int, int]:
    """Bits of a block's row, and the numbers of columns and banks of such blocks that hold the memory."""

    def price(shape):
        _, columns, banks = shape
        return columns * banks * (1 if banks == 1 else BANK_COST)

    shapes = [(bits, -(-width // bits), -(-depth // rows)) for bits, rows in WIDTHS.items()]
    return min(shapes, key=price)


def ram(component) -> Module | None:
    """A module for :class:`reluctant.hdl.memory.Ram` of latency 2.

    None for what synthesis does as well: latency 1, contents at power-up, partial writes, few bits.
    """
    width, depth = component.width, component.depth
    if component.latency != 2 or component.granularity != width or any(component.init):
        return None
    bits, columns, banks = block_shape(width, depth)
    if LEAST_USE * width * depth < columns * banks * BLOCK_BITS:
        return None
    m = Module()
    row_bits = (WIDTHS[bits] - 1).bit_length()
    write_bank, read_bank = component.write_addr[row_bits:], component.read_addr[row_bits:]
    data = []
    for bank in range(banks):
        read_data = Signal(columns * bits, name=f"read_data_{bank}")
        write_en = component.write_en if banks == 1 else component.write_en & (write_bank == bank)
        for column in range(columns):
            part = slice(column * bits, (column + 1) * bits)
            m.submodules[f"block_{bank}_{column}"] = _block(
                bits=bits,
                write_en=write_en,
                write_addr=component.write_addr[:row_bits],
                write_data=component.write_data[part],
                read_en=component.read_en,
                read_addr=component.read_addr[:row_bits],
                read_data=read_data[part],
            )
        data.append(read_data)
    if banks == 1:
        m.d.comb += component.read_data.eq(data[0])
    else:
        addressed, selected = Signal.like(read_bank), Signal.like(read_bank)
        with m.If(component.read_en):
            m.d.sync += addressed.eq(read_bank)
        m.d.sync += selected.eq(addressed)
        m.d.comb += component.read_data.eq(Array(data)[selected])
    return m


def _block(*, bits, write_en, write_addr, write_data, read_en, read_addr, read_data) -> Instance:
    """A DP16KD that port A writes and port B reads, 2 cycles later (Lattice FPGA-TN-02204, ECP5 memory usage).

    Rows of fewer than 18 bits: the address is aligned to the upper end of the 14 address bits. At 18 bits address bits
    0 and 1 of the writing port enable its two bytes.
    """
    shift = ADDRESS_BITS - (WIDTHS[bits] - 1).bit_length()
    low = (1 << shift) - 1 if bits == 18 else 0
    pins = {}
    for port, addr in (("A", write_addr), ("B", read_addr)):
        for bit in range(ADDRESS_BITS):
            index = bit - shift
            constant = low >> bit & 1 if port == "A" else 0
            pins[f"i_AD{port}{bit}"] = addr[index] if 0 <= index < len(addr) else constant
        for bit in range(18):
            driven = port == "A" and bit < len(write_data)
            pins[f"i_DI{port}{bit}"] = write_data[bit] if driven else 0
        for bit in range(3):
            pins[f"i_CS{port}{bit}"] = 0
        pins |= {f"i_CLK{port}": ClockSignal(), f"i_OCE{port}": 1, f"i_RST{port}": 0}
    return Instance(
        "DP16KD",
        p_DATA_WIDTH_A=bits,
        p_DATA_WIDTH_B=bits,
        p_REGMODE_A="NOREG",
        p_REGMODE_B="OUTREG",
        p_WRITEMODE_A="NORMAL",
        p_WRITEMODE_B="NORMAL",
        p_RESETMODE="SYNC",
        p_CSDECODE_A="0b000",
        p_CSDECODE_B="0b000",
        p_GSR="DISABLED",
        **pins,
        i_WEA=write_en,
        i_CEA=1,
        i_WEB=0,
        i_CEB=read_en,
        **{f"o_DOB{bit}": read_data[bit] for bit in range(min(bits, len(read_data)))},
    )
