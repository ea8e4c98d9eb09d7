"""A small device behind a serial link, its model, and a board with it: for what the link itself promises."""

from functools import lru_cache

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from reluctant.boards.serial_transport import SerialTransport, open_serial
from reluctant.hdl.axi_lite import AxiLiteSlave
from reluctant.hdl.link_config import LinkConfig
from reluctant.hdl.link_executor import link_beat
from reluctant.hdl.memory import Ram
from reluctant.hdl.serial_link import SerialLink
from reluctant.hdl.stream_fifo import StreamFifo
from reluctant.sim.virtual_board import Faults, VirtualBoard

__all__ = ["ADDER", "DEPTH", "INTERRUPT", "LANES", "LINK", "MUTE", "WORDS", "Model", "board", "connect_host"]

LINK = LinkConfig("test", clock_hz=8_000_000, baud=2_000_000, buffer=256)
LANES, DEPTH = 4, 8
"""Bytes of a beat, and beats that the device keeps until they are taken back."""
ADDRESS_BITS = 9
WORDS = 64
"""Registers that keep what is written."""
ADDER, INTERRUPT, MUTE = (4 * (WORDS + place) for place in range(3))
"""A register that writes add to and reads count up, one that is the interrupt line, and one that never answers."""


class LinkedDevice(wiring.Component):
    """Registers, and packets that come back; other addresses are refused. Ports as those of a linked system."""

    def __init__(self):
        super().__init__({"rx": In(1, init=1), "tx": Out(1), "led": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = SerialLink(LINK, addr_width=ADDRESS_BITS, lanes=LANES, config_hash=0x12345678)
        m.submodules.slave = slave = AxiLiteSlave(ADDRESS_BITS)
        m.submodules.ram = ram = Ram(width=32, depth=WORDS)
        m.submodules.fifo = fifo = StreamFifo(link_beat(LANES), DEPTH)
        connect(m, link.axi, slave.axi)
        connect(m, link.o, fifo.i)
        connect(m, fifo.o, link.i)
        bus, total, irq, ready, state = slave.bus, Signal(32), Signal(), Signal(), Signal(32)
        plain = bus.addr < WORDS
        m.d.comb += [
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            self.led.eq(link.session),
            link.irq.eq(irq),
            ram.read_addr.eq(bus.addr),
            ram.write_addr.eq(bus.addr),
            ram.write_data.eq(bus.data),
            ram.write_en.eq(bus.done & bus.write & plain),
            bus.read_data.eq(Mux(plain, ram.read_data, state)),
            bus.error.eq(bus.addr * 4 > MUTE),
        ]
        m.d.sync += ready.eq(bus.request & ~ready)
        m.d.comb += bus.done.eq(ready & (bus.addr * 4 != MUTE))
        with m.If(ready & (bus.addr * 4 == ADDER)):
            m.d.sync += [state.eq(total), total.eq(total + Mux(bus.write, bus.data, 1))]
        with m.If(ready & bus.write & (bus.addr * 4 == INTERRUPT)):
            m.d.sync += [irq.eq(bus.data[0]), state.eq(bus.data)]
        return m


class Model:
    """What registers do. :attr:`words` are undefined until written."""

    def __init__(self):
        self.words: dict[int, int] = {}
        self.total = 0

    def access(self, address: int, word: int | None) -> int | None:
        """The word of a read; None for a write; raises KeyError for a refused access."""
        if address == ADDER:
            before = self.total
            self.total = (self.total + (1 if word is None else word)) & 0xFFFFFFFF
            return before if word is None else None
        if address >= 4 * WORDS:
            raise KeyError(address)
        if word is not None:
            self.words[address] = word
            return None
        return self.words[address]


@lru_cache(maxsize=1)
def _verilog() -> str:
    from amaranth.back import verilog

    return verilog.convert(LinkedDevice(), name="linked_device", emit_src=False, strip_internal_attrs=True)


def board(**faults) -> VirtualBoard:
    """The device in simulation; arguments of :class:`Faults`."""
    return VirtualBoard(_verilog(), LINK, faults=Faults(**faults), top="linked_device")


def connect_host(device: VirtualBoard, **options) -> SerialTransport:
    """A host at the other end."""
    return open_serial(device.port, LINK.baud, **{"timeout": 0.01, **options})
