"""Execute stage of the RISC-V core."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .alu import Alu, Logic, Step
from .mul_div import MulDiv
from .register_file import ROW_BITS
from .riscv_isa import Cause, Row

__all__ = ["ExecuteUnit", "Operation"]


class Operation(data.Struct):
    """What the execute stage is to do with rows a and b of the register file and a value.

    The operands are a and b ^ value: one of b and the value is 0, or the value is all ones and inverts b. One of
    ``load`` and ``store`` (at a + value), ``branch`` and ``jump`` (to the target), ``jump_register`` (to a + value),
    ``shift``, ``muldiv`` at most; else the result is computed in a cycle.
    """

    load: 1
    store: 1
    branch: 1
    sense: 1  # the branch leaves the sequence if its condition is not this
    jump: 1
    jump_register: 1
    shift: 1  # of a, by the distance; b is the same row
    left: 1
    muldiv: 1
    compare: 1
    unsigned: 1
    arithmetic: 1
    funct3: 3
    carry: 1
    chain: 1  # add the carry of the operation before
    add: 1
    part: Logic
    write: 1
    row: ROW_BITS
    aligned: 1  # clear the two lowest bits of the result
    set_status: 1
    set_enable: 1
    enter: 1  # a trap: interrupts off
    leave: 1  # mret: interrupts as they were
    clear_cycles: 1
    clear_instructions: 1
    single: 1  # over in a cycle
    whole: 1  # a store, or load of a word
    exception: 1  # the instruction traps, with this cause, and does nothing else
    cause: 4
    last: 1  # of its instruction


class ExecuteUnit(wiring.Component):
    """One operation at a time, in as many cycles as it takes.

    1 cycle without waiting for the bus, except: branch, jump, comparison, load of a word, store 2; load of a byte or
    halfword 3, and 1 more for each byte that it lies above the word's first; shift by n n // 8 + n % 8, but 1 by 0;
    multiplication and division 34. Each branch or jump begins a fetch from its target in its first cycle, and in its
    second, which is the last, knows whether the sequence goes on there (``leaving``) or not (``resume``).

    Parameters
    ----------
    multiply
        Build ``muldiv``.

    Members
    -------
    operation : In(Operation), value : In(32), distance : In(5), target : In(32), issue : In(1)
        The operation begins in the next cycle; the register file reads rows a and b in this one. Only with ``free``.
    row_a, row_b : In(5), uses_a, uses_b : In(1)
        Rows a and b, if they are registers and matter: what the operation before writes there is the operand then.
    chained : In(1)
        The operand a is the result of the operation before.
    testing : Out(1)
        The operation is a branch in its first cycle: ``target`` must be where the sequence goes on if it fails.
    stores : Out(1), reads : Out(1), source : Out(5)
        The operation is a store in its first cycle; it begins on the bus: the register file reads row b again, from
        ``source``, which is the distance that came with the operation.
    free : Out(1), idle : Out(1)
        The operation, if any, is over with this cycle, but by ``leaving``, which comes earlier; there is none.
    a, b : In(32)
        Rows as the register file gives them.
    second : Out(5)
        Lowest bits of the second operand.
    write : Out(1), row : Out(6), result : Out(32)
        To the register file.
    computed : Out(32)
        The result, of what is not a load.
    bus_free, access, store, data, strobe, error, read_data
        Data on the bus: see InstructionFetch, whose ``free`` is ``bus_free``.
    jump, from_held, address, held, leaving, resume
        Branches and jumps: see InstructionFetch, whose ``computed`` is ``address``; ``address`` and ``held`` have 32
        bits.
    trap : Out(1), of_access : Out(1), cause : Out(4)
        The operation ends, in this cycle, with this exception. If it was a load or store (``of_access``), its address
        is written to the row of ``mtval``.
    retire : Out(1)
        An instruction ends, in this cycle.
    set_status, set_enable, enter, leave, clear_cycles, clear_instructions : Out(1)
        To the CSR file.
    """

    def __init__(self, *, multiply: bool = False):
        self.multiply = multiply
        outputs = ("free", "idle", "write", "access", "store", "jump", "from_held", "leaving", "resume")
        outputs += ("testing", "stores", "reads")
        to_csr = ("set_status", "set_enable", "enter", "leave", "clear_cycles", "clear_instructions")
        super().__init__(
            {name: Out(1) for name in (*outputs, *to_csr, "of_access", "trap", "retire")}
            | {name: In(1) for name in ("issue", "bus_free", "error", "uses_a", "uses_b", "chained")}
            | {name: In(32) for name in ("value", "target", "a", "b", "read_data")}
            | {name: In(5) for name in ("distance", "row_a", "row_b")}
            | {name: Out(5) for name in ("source", "second")}
            | {name: Out(32) for name in ("result", "data", "address", "held")}
            | {
                "operation": In(Operation),
                "row": Out(ROW_BITS),
                "strobe": Out(4),
                "cause": Out(4),
            }
        )
        self.now = Signal(Operation)
        self.kept = Signal(32, reset_less=True)  # the value; 0 after the first cycle of an access
        # What goes on in this cycle; nothing, if none is high.
        self.first, self.waiting, self.loading = Signal(), Signal(), Signal()
        self.passing, self.again = Signal(), Signal()
        self.fails = Signal()  # an access failed or is misaligned; a jump is misaligned
        self.last_result = Signal(32, reset_less=True)
        self.forward_a, self.forward_b = Signal(), Signal()
        self.count = Signal(5)  # steps of a shift: bits 4 and 3 by 8, the others by 1
        self.offset = Signal(2)  # of a load or store, in its word
        # What the ALU does in this cycle. In parts that are above a byte or halfword: its sign.
        self.step, self.parts = Signal(Step), [Signal(Logic, name=f"part{index}") for index in range(3)]
        self.above, self.invert = Signal(2), Signal(3)
        self.ends = Signal()  # the last cycle of an operation, whatever the bus does
        self.busy = Signal()  # there is an operation
        self.less = Signal()  # a comparison, which now ends, gave 1
        self.starts, self.misaligned = Signal(), Signal()
        self.answered = Signal()  # an access ends, and did not fail
        self.on_bus = Signal()  # the operation needs the bus
        self.done = Signal()
        self.bad = Signal()  # the target of a branch or jal is misaligned

    def elaborate(self, platform):
        m = Module()
        m.submodules.alu = alu = Alu()
        multiplied, product = Const(0), Const(0, 32)
        if self.multiply:
            m.submodules.mul_div = mul_div = MulDiv()
            m.d.comb += [
                mul_div.start.eq(self.starts & self.now.muldiv),
                mul_div.funct3.eq(self.now.funct3),
                mul_div.a.eq(alu.a),
                mul_div.b.eq(alu.b),
            ]
            multiplied, product = mul_div.done, mul_div.result
        self._operands(m, alu)
        self._result(m, alu, product)
        self._bus(m, alu)
        self._states(m, alu, multiplied)
        self._issue(m, alu)
        self._steps(m)
        return m

    def _operands(self, m: Module, alu: Alu):
        now = self.now
        sign = ~now.funct3[2] & Mux(now.funct3[0], self.last_result[15], self.last_result[7])
        inverts = Cat(self.invert[0].replicate(8), self.invert[1].replicate(8), self.invert[2].replicate(16))
        m.d.comb += [
            alu.a.eq(Mux(self.forward_a, self.last_result, self.a) ^ inverts),
            alu.b.eq(Mux(self.forward_b, self.last_result, self.b) ^ self.kept),
            self.second.eq(alu.b),
            alu.carry.eq(now.carry),
            alu.add.eq(now.add),
            alu.step.eq(self.step),
            alu.arithmetic.eq(now.arithmetic),
            alu.unsigned.eq(now.unsigned),
            alu.bit.eq(self.less),
            alu.aligned.eq(now.aligned),
            alu.loaded.eq(self.read_data),
        ]
        for index, (part, code, above) in enumerate(zip(alu.parts, self.parts, (0, *self.above), strict=True)):
            kept = Signal(2, name=f"logic{index}", attrs={"keep": 1})  # not spread over the bits that it controls
            m.d.comb += [kept.eq(code.as_value() & ~(above & ~sign).replicate(2)), part.eq(kept)]

    def _steps(self, m: Module):
        """What the ALU does in the next cycle of a load or shift.

        A shift by 0 ends with a | a. So does a load of a byte or halfword, but for the parts above it: ~a ^ a or 0.
        A failed access ends with its address, as a | a.
        """
        now, new, next_count = self.now, self.operation, Signal(5)
        extends = self.answered & self.loading & ~now.funct3[1]
        goes_on, begins = Signal(), Signal()
        m.d.comb += [
            goes_on.eq(extends | (self.again & ~self.ends & ~now.muldiv)),
            begins.eq(self.issue & new.shift),
        ]
        by_8, by_1 = next_count[3:] != 0, next_count[:3] != 0
        byte = ~now.funct3[0]
        shift, left = now.shift | self.issue, Mux(self.issue, new.left, now.left)
        with m.If(self.issue):
            m.d.comb += next_count.eq(self.distance)
        with m.Elif(self.loading):
            m.d.comb += next_count.eq(Cat(Const(0, 3), self.offset))
        with m.Elif(self.count[3:] != 0):
            m.d.comb += next_count.eq(Cat(self.count[:3], self.count[3:] - 1))
        with m.Else():
            m.d.comb += next_count.eq(self.count[:3] - 1)
        # What is loaded counts where ~a ^ a is 1.
        with m.If(self.access & self.bus_free):
            loads = now.load & ~self.misaligned
            m.d.sync += [now.add.eq(loads), self.invert.eq(loads.replicate(3))]
            m.d.sync += [part.eq(Mux(loads, Logic.XOR, Logic.OR)) for part in self.parts]
        with m.Elif(self.loading & self.bus_free & self.error):
            m.d.sync += [now.add.eq(0), self.invert.eq(0), *(part.eq(Logic.OR) for part in self.parts)]
        with m.If(goes_on | (self.access & self.bus_free)):
            # On with its own result.
            m.d.sync += [self.forward_a.eq(1), self.forward_b.eq(1)]
        with m.If(goes_on):
            m.d.sync += self.again.eq(1)
        with m.If(self.issue | goes_on):
            m.d.sync += self.count.eq(next_count)
        with m.If(begins | goes_on):
            m.d.sync += [
                self.ends.eq((next_count == 0) | (shift & ((next_count == 1) | (next_count == 8)))),
                self.step.eq(
                    Mux(by_8, Mux(left, Step.LEFT_8, Step.RIGHT_8), Mux(by_1 & ~left, Step.RIGHT_1, Step.NONE))
                ),
                now.add.eq(~by_8 & by_1 & left),
                self.invert.eq(0),
                *(part.eq(Mux(by_8 | by_1, Logic.NONE, Logic.OR)) for part in self.parts),
            ]
            with m.If(~shift & ~by_8):
                m.d.sync += [
                    self.above.eq(Cat(byte, 1)),
                    self.invert.eq(Cat(0, byte, 1)),
                    self.parts[2].eq(Logic.XOR),
                    self.parts[1].eq(Mux(byte, Logic.XOR, Logic.OR)),
                ]
        if self.multiply:
            with m.If(self.starts & now.muldiv):
                m.d.sync += self.again.eq(1)

    def _result(self, m: Module, alu: Alu, product):
        now = self.now
        result = alu.result
        if self.multiply:
            result = Mux(now.muldiv, product, result)
        m.d.comb += [
            self.result.eq(result),
            # Of a failed access, the address is written.
            self.of_access.eq(self.fails & (now.load | now.store)),
            self.row.eq(Mux(self.of_access, Row.MTVAL, now.row)),
            self.write.eq(self.of_access | (self.done & now.write)),
        ]
        # Operands of an operation on the bus hold until it begins there, the address of an access until its end.
        with m.If(~((self.first & self.on_bus & ~self.bus_free) | (self.waiting & ~self.answered))):
            m.d.sync += self.last_result.eq(self.result)

    def _bus(self, m: Module, alu: Alu):
        now, word = self.now, self.b
        low, size = alu.sum[:2], now.funct3[:2]
        with m.Switch(size):
            with m.Case(0):
                m.d.comb += [self.data.eq(word[:8].replicate(4)), self.strobe.eq(1 << self.offset)]
            with m.Case(1):
                m.d.comb += [self.data.eq(word[:16].replicate(2)), self.strobe.eq(Mux(self.offset[1], 0b1100, 0b0011))]
            with m.Default():
                m.d.comb += [self.data.eq(word), self.strobe.eq(0b1111)]
        jumps = now.branch | now.jump | now.jump_register

        def crosses(offset):
            return (offset[0] & (size != 0)) | (offset[1] & size[1])

        m.d.comb += [
            self.starts.eq(self.first & ~now.exception),
            self.misaligned.eq(crosses(low)),
            self.access.eq(self.starts & (now.load | now.store)),
            # A misaligned access reads something, as this is not known early enough.
            self.store.eq(now.store & ~self.misaligned),
            self.address.eq(alu.sum),
            self.testing.eq(self.first & now.branch),
            self.stores.eq(self.first & now.store),
            self.reads.eq(self.stores & self.bus_free),
            self.source.eq(self.count),
            self.jump.eq(self.starts & jumps),
            self.from_held.eq(~(now.load | now.store | now.jump_register)),
            self.resume.eq(self.passing),
            self.answered.eq(self.waiting & self.bus_free & ~self.error),
            self.trap.eq((self.first & now.exception) | self.fails),
            self.cause.eq(Mux(now.exception, now.cause, Cause.FETCH_MISALIGNED)),
        ]
        with m.If(self.of_access):
            fault = Mux(now.store, Cause.STORE_FAULT, Cause.LOAD_FAULT)
            m.d.comb += self.cause.eq(Mux(crosses(self.offset), fault & ~1, fault))

    def _states(self, m: Module, alu: Alu, multiplied):
        now = self.now
        done = Signal(name="done_itself")
        # Whether the operation jumps. The carry that tells less comes last, and chooses in the LUT before the register.
        decides = self.starts & self.bus_free
        by_order, by_equality = decides & now.branch & now.funct3[2], decides & now.branch & ~now.funct3[2]
        differs = alu.equal ^ now.sense
        with_order, against = by_order & ~now.sense, by_order & now.sense
        astray = Mux(now.jump_register, alu.sum[1], self.bad)

        def jumps_if(right):
            jump = (decides & (now.jump | now.jump_register)) | (by_equality & differs)
            return (jump & right) | Mux(alu.less, with_order & right, against & right)

        compares = self.starts & now.compare
        m.d.comb += [
            self.on_bus.eq(now.load | now.store | now.jump | now.jump_register | now.branch),
            done.eq(
                self.ends
                | (self.passing & self.bus_free)
                | (self.answered & now.whole)
                | (self.again & now.muldiv & multiplied)
            ),
            self.idle.eq(~self.busy),
            self.done.eq(done | self.leaving),
            self.free.eq(self.idle | done),
            self.retire.eq(self.done & now.last),
        ]
        m.d.sync += [
            self.busy.eq(self.busy & ~self.done & ~self.trap),
            self.ends.eq(compares),
            self.first.eq(self.starts & self.on_bus & ~self.bus_free),
            self.passing.eq(
                (by_equality & ~differs) | Mux(alu.less, against, with_order) | (self.resume & ~self.bus_free)
            ),
            self.leaving.eq(jumps_if(~astray)),
            self.waiting.eq((self.access & self.bus_free & ~self.misaligned) | (self.waiting & ~self.bus_free)),
            self.fails.eq(
                (self.access & self.bus_free & self.misaligned)
                | (self.waiting & self.bus_free & self.error)
                | jumps_if(astray)
            ),
            self.less.eq(compares & alu.less),
        ]
        with m.If(self.first):
            m.d.sync += self.offset.eq(alu.sum[:2])
        m.d.comb += self.loading.eq(self.waiting & now.load)
        with m.If(self.done):
            m.d.sync += self.again.eq(0)
        for name in ("set_status", "set_enable", "clear_cycles", "clear_instructions"):
            m.d.comb += getattr(self, name).eq(self.first & now[name])
        m.d.comb += [self.enter.eq(decides & now.enter), self.leave.eq(decides & now.leave)]

    def _issue(self, m: Module, alu: Alu):
        new, now = self.operation, self.now
        writes = ~self.idle & now.write & ~now.row[-1]
        with m.If(self.issue):
            m.d.sync += [
                now.eq(new),
                now.carry.eq(new.carry | (new.chain & alu.carry_out)),
                self.kept.eq(self.value),
                self.step.eq(Step.NONE),
                *(part.eq(new.part) for part in self.parts),
                self.invert.eq(0),
                self.above.eq(0),
                # The first step of a shift comes in the first cycle.
                self.first.eq(~new.shift),
                self.again.eq(new.shift),
                self.busy.eq(1),
                self.ends.eq(new.single & ~new.exception),
                self.bad.eq(self.target[1]),
                self.forward_a.eq((writes & (now.row[:5] == self.row_a) & self.uses_a) | self.chained),
                self.forward_b.eq(writes & (now.row[:5] == self.row_b) & self.uses_b),
            ]
        with m.Elif(self.access & self.bus_free):
            m.d.sync += self.kept.eq(0)
        with m.If(self.issue | (self.testing & self.bus_free)):
            m.d.sync += self.held.eq(self.target)
