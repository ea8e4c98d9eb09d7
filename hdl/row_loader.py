"""Takes the packets of the input stream and keeps them until they are used."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from . import layouts
from .config import UnitConfig
from .memory import Ram

__all__ = ["RowLoader", "input_beat"]


def input_beat(config: UnitConfig) -> data.StructLayout:
    """One beat of an input packet; ``last`` marks the packet's last, and ``bad`` with it a packet that is broken."""
    return data.StructLayout({"data": config.lanes * 8, "last": 1, "bad": 1})


class RowLoader(wiring.Component):
    """Pairs each job with its packet and stores the packet in one of two input banks.

    A packet has, in this order, the K rows and the V rows of all KV heads (jobs that append), then the Q rows of all
    heads (jobs that attend); each row has ``job.beats`` beats. A beat is taken only when a job waits for it and a bank
    is free: ``i.ready`` rises the cycle after both hold. One beat a cycle from then on, and a job is offered the cycle
    after its last beat was taken. Between two packets pass at least 3 cycles.

    A packet that ends early or goes on too long is taken to its ``last`` and dropped with its job; its bank stays free.
    A packet whose last beat is ``bad`` is dropped as too short, however long it is.

    A job is taken from ``job`` when it is dropped or the cycle after it is passed on, so its payload must hold until
    then, as on any stream.

    Parameters
    ----------
    config
        A bank has ``heads * beats`` Q beats and ``2 * kv_heads * beats`` K and V beats (``beats`` as in
        ``config.sizes``).

    Members
    -------
    job : In(stream(layouts.job(config)))
        Each appends, attends or both.
    i : In(stream(input_beat(config)))
    o : Out(stream(layouts.loaded_job(config)))
        Jobs whose packet is complete in ``bank``.
    release : In(2)
        Bit b: bank b may be overwritten.
    q_addr : In, q_data : Out(lanes * 8)
        Q beats; 2 cycles of latency. Address ``bank * heads * beats`` plus the beat's index among the packet's Q beats.
    kv_addr : In, kv_data : Out(lanes * 8)
        K and V beats; 1 cycle of latency. Address ``bank * 2 * kv_heads * beats`` plus the beat's index in the packet.
    waiting : Out(1)
        A job waits for a beat, and none is offered.
    too_short, too_long : Out(1)
        One cycle: a job was dropped because its packet was too short, or too long.
    """

    q_latency = 2
    kv_latency = 1

    def __init__(self, config: UnitConfig):
        self.config = config
        sizes = config.sizes
        self.q_depth = config.heads * sizes.beats
        self.kv_depth = 2 * config.kv_heads * sizes.beats
        width = config.lanes * 8
        super().__init__(
            {
                "job": In(stream.Signature(layouts.job(config))),
                "i": In(stream.Signature(input_beat(config))),
                "o": Out(stream.Signature(layouts.loaded_job(config))),
                "release": In(2),
                "q_addr": In(range(2 * self.q_depth)),
                "q_data": Out(width),
                "kv_addr": In(range(2 * self.kv_depth)),
                "kv_data": Out(width),
                "waiting": Out(1),
                "too_short": Out(1),
                "too_long": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, sizes = self.config, self.config.sizes
        job = self.job.payload
        rows = max(2 * config.kv_heads, config.heads)

        busy = Signal(2)
        occupy = Signal(2)
        bank = Signal()
        query = Signal()  # the beats taken now are of Q rows
        index = Signal(range(2 * max(self.q_depth, self.kv_depth)))
        beats_left = Signal(sizes.beats_bits, reset_less=True)  # in this row, behind the next beat
        rows_left = Signal(range(rows), reset_less=True)  # of this kind, behind this one
        final = Signal()
        take, over = Signal(), Signal()  # over: the job is taken
        m.d.sync += over.eq(0)
        m.d.comb += final.eq((beats_left == 0) & (rows_left == 0) & (query | ~job.attend))
        m.d.sync += busy.eq((busy | occupy) & ~self.release)

        m.d.comb += [
            self.job.ready.eq(over),
            self.o.payload.job.eq(job),
            self.o.payload.bank.eq(bank),
            self.waiting.eq(self.i.ready & ~self.i.valid),
        ]
        with m.FSM():
            with m.State("IDLE"), m.If(self.job.valid & ~busy.all()):
                m.d.sync += [
                    bank.eq(busy[0]),
                    query.eq(~job.append),
                    index.eq(Mux(job.append, self._start(busy[0], self.kv_depth), self._start(busy[0], self.q_depth))),
                    beats_left.eq(job.beats - 1),
                    rows_left.eq(Mux(job.append, 2 * config.kv_heads - 1, config.heads - 1)),
                ]
                m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += [self.i.ready.eq(1), take.eq(self.i.valid)]
                with m.If(self.i.valid & self.i.payload.last):
                    with m.If(final & ~self.i.payload.bad):
                        m.next = "OFFER"
                    with m.Else():
                        m.d.sync += over.eq(1)
                        m.next = "SHORT"
                with m.Elif(self.i.valid & final):
                    m.next = "SWALLOW"
            with m.State("SWALLOW"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid & self.i.payload.last):
                    m.d.sync += over.eq(1)
                    m.next = "LONG"
                    with m.If(self.i.payload.bad):
                        m.next = "SHORT"
            with m.State("SHORT"):
                m.d.comb += self.too_short.eq(1)
                m.next = "IDLE"
            with m.State("LONG"):
                m.d.comb += self.too_long.eq(1)
                m.next = "IDLE"
            with m.State("OFFER"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += over.eq(1)
                    m.next = "TAKEN"
            with m.State("TAKEN"):
                m.d.comb += occupy.eq(Mux(bank, 0b10, 0b01))
                m.next = "IDLE"

        with m.If(take):
            m.d.sync += [index.eq(index + 1), beats_left.eq(beats_left - 1)]
            with m.If(beats_left == 0):
                m.d.sync += [beats_left.eq(job.beats - 1), rows_left.eq(rows_left - 1)]
                with m.If(rows_left == 0):
                    m.d.sync += [
                        query.eq(1),
                        index.eq(self._start(bank, self.q_depth)),
                        rows_left.eq(config.heads - 1),
                    ]
        self._memories(m, take & query, take & ~query, index)
        return m

    @staticmethod
    def _start(bank, depth):
        return Mux(bank, Const(depth), 0)

    def _memories(self, m, write_q, write_kv, index):
        width = self.config.lanes * 8
        m.submodules.q_ram = q_ram = Ram(width=width, depth=2 * self.q_depth, latency=self.q_latency)
        m.submodules.kv_ram = kv_ram = Ram(width=width, depth=2 * self.kv_depth, latency=self.kv_latency)
        for ram, write in ((q_ram, write_q), (kv_ram, write_kv)):
            m.d.comb += [ram.write_en.eq(write), ram.write_addr.eq(index), ram.write_data.eq(self.i.payload.data)]
        m.d.comb += [
            q_ram.read_addr.eq(self.q_addr),
            self.q_data.eq(q_ram.read_data),
            kv_ram.read_addr.eq(self.kv_addr),
            self.kv_data.eq(kv_ram.read_data),
        ]
