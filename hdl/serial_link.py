"""AXI4-Lite, packets and an interrupt line over a serial line."""

from amaranth.hdl import Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .axi_lite import AxiLiteSignature
from .config import require
from .link_buffer import LinkBuffer
from .link_config import LinkConfig
from .link_executor import LinkExecutor, link_beat
from .link_framer import LinkFramer
from .link_protocol import PROTOCOL, Identity
from .uart_receiver import UartReceiver
from .uart_transmitter import UartTransmitter

__all__ = ["SerialLink"]


class SerialLink(wiring.Component):
    """The device's end of the host link; docs/link.md says what passes over the line.

    Parameters
    ----------
    link
        The line.
    addr_width
        Bits of a byte address.
    lanes
        Bytes of a beat.
    config_hash
        Of the device, for the host to read.

    Members
    -------
    rx : In(1), tx : Out(1)
    axi : Out(AxiLiteSignature(addr_width))
    o : Out(stream(link_beat(lanes)))
        Packets to the device.
    i : In(stream(link_beat(lanes)))
        Packets from the device.
    irq : In(1)
    session : Out(1)
        A host has spoken since the reset.
    """

    def __init__(self, link: LinkConfig, *, addr_width: int, lanes: int, config_hash: int):
        require(
            lanes & (lanes - 1) == 0 and 4 <= lanes <= 128, "lanes", lanes, "a power of two from 4 to 128 is allowed"
        )
        self.link, self.addr_width = link, addr_width
        self.identity = Identity(PROTOCOL, lanes, link.buffer, config_hash, link.clock_hz, link.name)
        beats = stream.Signature(link_beat(lanes))
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1),
                "axi": Out(AxiLiteSignature(addr_width)),
                "o": Out(beats),
                "i": In(beats),
                "irq": In(1),
                "session": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self.link)
        m.submodules.transmitter = transmitter = UartTransmitter(self.link)
        m.submodules.framer = framer = LinkFramer()
        m.submodules.buffer = buffer = LinkBuffer(self.link)
        m.submodules.executor = executor = LinkExecutor(self.addr_width, self.identity)
        connect(m, flipped(self.axi), executor.axi)
        connect(m, flipped(self.o), executor.o)
        connect(m, flipped(self.i), executor.i)
        connect(m, framer.o, transmitter.i)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            framer.rx_valid.eq(receiver.valid),
            framer.rx_data.eq(receiver.data),
            framer.listen.eq(executor.listen),
            framer.send.eq(executor.send),
            framer.read.eq(buffer.data),
            framer.settled.eq(buffer.settled),
            framer.at_end.eq(buffer.at_end),
            framer.full.eq(buffer.full),
            buffer.receive.eq(framer.receive),
            buffer.put.eq(framer.put | executor.put),
            buffer.put_data.eq(Mux(executor.listen, framer.data, executor.put_data)),
            buffer.take.eq(framer.take | executor.take),
            executor.received.eq(framer.received),
            executor.sent.eq(framer.sent),
            executor.irq.eq(self.irq),
            self.session.eq(executor.session),
        ]
        for name in ("data", "settled", "at_end", "written", "end"):
            m.d.comb += getattr(executor, name).eq(getattr(buffer, name))
        for name in ("open", "execute", "finish", "reply"):
            m.d.comb += getattr(buffer, name).eq(getattr(executor, name))
        return m
