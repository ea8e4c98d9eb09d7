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

    One of ``load``, ``store``, ``branch``, ``jump`` (to the value), ``jump_register`` (to a + value), ``shift``,
    ``muldiv`` at most; else the result is computed in a cycle.
    """

    load: 1
    store: 1
    branch: 1
    sense: 1  # the branch leaves the sequence if its condition is not this
    jump: 1
    jump_register: 1
    shift: 1
    left: 1
    fixed: 1  # the distance of the shift comes with the operation, not from b
    muldiv: 1
    compare: 1
    unsigned: 1
    arithmetic: 1
    funct3: 3
    use_value: 1  # the second operand is the value, not b
    invert: 1
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
    exception: 1  # the instruction traps, with this cause, and does nothing else
    cause: 4
    last: 1  # of its instruction


class ExecuteUnit(wiring.Component):
    """One operation at a time, in as many cycles as it takes.

    1 cycle without waiting for the bus, except: branch, comparison, store 2; load of a word 3; of a byte or
    halfword 4, and 1 more for each byte that it lies above the word's first; shift by n 1 + n // 8 + n % 8, but 2 by 0;
    jump_register 2; multiplication and division 34. Branches and jumps that leave the sequence end with the first fetch
    from there.

    Parameters
    ----------
    multiply
        Build ``muldiv``.

    Members
    -------
    operation : In(Operation), value : In(32), distance : In(5), row_a : In(6), row_b : In(5), issue : In(1)
        The operation begins in the next cycle; the register file reads the rows in this one. Only with ``free``.
    free : Out(1), idle : Out(1)
        The operation, if any, is over with this cycle; there is none.
    a, b : In(32)
        Rows as the register file gives them.
    write : Out(1), row : Out(6), result : Out(32)
        To the register file.
    computed : Out(32)
        The result, of what is not a load.
    accessing, access, store, data, strobe, address, accessed, error, read_data
        Data on the bus: see InstructionFetch. ``address`` has 32 bits.
    busy, jump, from_value, jump_addr, jumped
        Jumps: see InstructionFetch.
    trap : Out(1), cause : Out(4)
        The operation ends, in this cycle, with this exception. If it was a load or store, its address is written to
        the row of ``mtval``.
    leaving : Out(1)
        The operation is a jump: nothing that was fetched after it will be executed.
    retire : Out(1)
        An instruction ends, in this cycle.
    set_status, set_enable, enter, leave, clear_cycles, clear_instructions : Out(1)
        To the CSR file.
    """

    def __init__(self, *, multiply: bool = False):
        self.multiply = multiply
        outputs = ("free", "idle", "write", "accessing", "access", "store", "busy", "jump", "from_value")
        to_csr = ("set_status", "set_enable", "enter", "leave", "clear_cycles", "clear_instructions")
        super().__init__(
            {name: Out(1) for name in (*outputs, *to_csr, "trap", "leaving", "retire")}
            | {name: In(1) for name in ("issue", "accessed", "error", "jumped")}
            | {name: In(32) for name in ("value", "a", "b", "read_data")}
            | {name: Out(32) for name in ("result", "computed", "data", "address")}
            | {
                "operation": In(Operation),
                "distance": In(5),
                "row_a": In(ROW_BITS),
                "row_b": In(ROW_BITS - 1),
                "row": Out(ROW_BITS),
                "strobe": Out(4),
                "jump_addr": Out(30),
                "cause": Out(4),
            }
        )
        self.now = Signal(Operation)
        self.held = Signal(32, reset_less=True)  # the value
        # What goes on in this cycle; nothing, if none is high.
        self.first, self.transferring, self.loaded = Signal(), Signal(), Signal()
        self.passing, self.jumping, self.again = Signal(), Signal(), Signal()
        self.last_result = Signal(32, reset_less=True)
        self.forward_a, self.forward_b = Signal(), Signal()
        self.count = Signal(5)  # steps of a shift: bits 4 and 3 by 8, the others by 1
        # What the ALU does in this cycle. In parts that are above a byte or halfword: its sign.
        self.step, self.parts = Signal(Step), [Signal(Logic, name=f"part{index}") for index in range(3)]
        self.invert, self.above = Signal(3), Signal(2)
        self.final = Signal()  # the last step of a shift
        self.less = Signal()  # a comparison, which is now `passing`, gave 1
        self.done = Signal()
        self.bad = Signal()  # the address of an access or jump is misaligned, or the jump does not exist
        self.first_operand, self.second_operand = Signal(32), Signal(32)

    def elaborate(self, platform):
        m = Module()
        m.submodules.alu = alu = Alu()
        multiplied, product = Const(0), Const(0, 32)
        if self.multiply:
            m.submodules.mul_div = mul_div = MulDiv()
            m.d.comb += [
                mul_div.start.eq(self.first & self.now.muldiv),
                mul_div.funct3.eq(self.now.funct3),
                mul_div.a.eq(self.first_operand),
                mul_div.b.eq(self.second_operand),
            ]
            multiplied, product = mul_div.done, mul_div.result
        self._operands(m, alu)
        self._result(m, alu, product)
        self._bus(m, alu)
        self._steps(m)
        self._states(m, alu, multiplied)
        self._issue(m, alu)
        return m

    def _operands(self, m: Module, alu: Alu):
        now = self.now
        sign = ~now.funct3[2] & Mux(now.funct3[0], self.last_result[15], self.last_result[7])
        second = Mux(now.use_value, self.held, self.second_operand)
        m.d.comb += [
            self.first_operand.eq(Mux(self.forward_a, self.last_result, self.a)),
            self.second_operand.eq(Mux(self.forward_b, self.last_result, self.b)),
            alu.a.eq(self.first_operand),
            alu.b[:8].eq(second[:8] ^ self.invert[0].replicate(8)),
            alu.b[8:16].eq(second[8:16] ^ self.invert[1].replicate(8)),
            alu.b[16:].eq(second[16:] ^ self.invert[2].replicate(16)),
            alu.carry.eq(now.carry),
            alu.add.eq(now.add),
            alu.step.eq(self.step),
            alu.arithmetic.eq(now.arithmetic),
            alu.unsigned.eq(now.unsigned),
            alu.bit.eq(self.less),
            alu.aligned.eq(now.aligned),
            alu.load.eq(self.loaded),
            alu.loaded.eq(self.read_data),
        ]
        for index, (part, code, above) in enumerate(zip(alu.parts, self.parts, (0, *self.above), strict=True)):
            kept = Signal(2, name=f"logic{index}", attrs={"keep": 1})  # not spread over the bits that it controls
            m.d.comb += [kept.eq(code.as_value() & ~(above & ~sign).replicate(2)), part.eq(kept)]

    def _steps(self, m: Module):
        """What the ALU does in the next cycle of a shift, or of a load of a byte or halfword.

        A shift by 0 ends with a | a. So does such a load, but for the parts above it: a ^ ~a or 0.
        """
        now, next_count = self.now, Signal(5)
        goes_on = (self.first & now.shift) | (self.loaded & ~now.funct3[1]) | self.again
        by_8, by_1 = next_count[3:] != 0, next_count[:3] != 0
        byte = ~now.funct3[0]
        with m.If(self.first):
            m.d.comb += next_count.eq(Mux(now.fixed, self.count, self.second_operand[:5]))
        with m.Elif(self.loaded):
            m.d.comb += next_count.eq(Cat(Const(0, 3), self.address[:2]))
        with m.Elif(self.count[3:] != 0):
            m.d.comb += next_count.eq(Cat(self.count[:3], self.count[3:] - 1))
        with m.Else():
            m.d.comb += next_count.eq(self.count[:3] - 1)
        with m.If(goes_on):
            m.d.sync += [
                self.again.eq(1),
                # On with its own result.
                self.forward_a.eq(1),
                self.forward_b.eq(1),
                now.use_value.eq(0),
                self.count.eq(next_count),
                self.final.eq((next_count == 0) | (now.shift & ((next_count == 1) | (next_count == 8)))),
                self.step.eq(
                    Mux(by_8, Mux(now.left, Step.LEFT_8, Step.RIGHT_8), Mux(by_1 & ~now.left, Step.RIGHT_1, Step.NONE))
                ),
                now.add.eq(~by_8 & by_1 & now.left),
                *(part.eq(Mux(by_8 | by_1, Logic.NONE, Logic.OR)) for part in self.parts),
            ]
            with m.If(now.load & ~by_8):
                m.d.sync += [
                    self.above.eq(Cat(byte, 1)),
                    self.invert.eq(Cat(0, byte, 1)),
                    self.parts[2].eq(Logic.XOR),
                    self.parts[1].eq(Mux(byte, Logic.XOR, Logic.OR)),
                ]
        if self.multiply:
            with m.If(self.first & now.muldiv):
                m.d.sync += self.again.eq(1)

    def _result(self, m: Module, alu: Alu, product):
        now = self.now
        result = alu.result
        if self.multiply:
            result = Mux(now.muldiv, product, result)
        m.d.comb += [
            self.computed.eq(alu.computed),
            self.result.eq(result),
            # In the cycles of a transfer, nothing but the address of a failed one is written.
            self.row.eq(Mux(self.transferring, Row.MTVAL, now.row)),
            self.write.eq(Mux(self.transferring, self.trap, self.done & now.write)),
            self.accessing.eq((now.load | now.store) & (self.first | self.transferring)),
        ]
        # Operands of an access hold until its transfer.
        with m.If(~self.accessing):
            m.d.sync += self.last_result.eq(self.result)
        with m.If(self.first):
            m.d.sync += self.address.eq(alu.total)

    def _bus(self, m: Module, alu: Alu):
        now, word = self.now, self.second_operand
        offset, size = self.address[:2], now.funct3[:2]
        with m.Switch(size):
            with m.Case(0):
                m.d.comb += [self.data.eq(word[:8].replicate(4)), self.strobe.eq(1 << offset)]
            with m.Case(1):
                m.d.comb += [self.data.eq(word[:16].replicate(2)), self.strobe.eq(Mux(offset[1], 0b1100, 0b0011))]
            with m.Default():
                m.d.comb += [self.data.eq(word), self.strobe.eq(0b1111)]
        m.d.comb += [
            self.access.eq(self.transferring & ~self.bad),
            self.store.eq(now.store),
            self.jump.eq(self.jumping & ~self.bad),
            self.jump_addr.eq(self.held[2:]),
            self.trap.eq(
                ((self.transferring | self.jumping) & self.bad)
                | (self.accessed & self.error)
                | (self.first & now.exception)
            ),
            self.cause.eq(Mux(now.exception, now.cause, Cause.FETCH_MISALIGNED)),
            self.leaving.eq(self.jumping),
            self.busy.eq(self.transferring | self.jumping),
        ]
        with m.If(self.transferring):
            fault = Mux(now.store, Cause.STORE_FAULT, Cause.LOAD_FAULT)
            m.d.comb += self.cause.eq(Mux(self.bad, fault & ~1, fault))
        with m.If(self.first):
            low = alu.total[:2]
            misaligned = (now.load | now.store) & ((low[0] & (size != 0)) | (low[1] & size[1]))
            m.d.sync += self.bad.eq(misaligned | (now.jump_register & low[1]) | (now.branch & self.held[1]))

    def _states(self, m: Module, alu: Alu, multiplied):
        now = self.now
        # Whether the operation jumps. The carry that tells less comes last, and chooses in the LUT before the register.
        decides = self.first & ~now.exception
        by_order, by_equality = decides & now.branch & now.funct3[2], decides & now.branch & ~now.funct3[2]
        differs = alu.equal ^ now.sense
        with_order, against = by_order & ~now.sense, by_order & now.sense
        jumps = (decides & now.jump_register) | (by_equality & differs) | (self.issue & self.operation.jump)
        passes = (decides & now.compare) | (by_equality & ~differs)
        early, over = Signal(), Signal()
        rest = self.final
        if self.multiply:
            rest = Mux(now.muldiv, multiplied, rest)
        m.d.comb += [
            early.eq(
                (self.first & now.single & ~now.exception)
                | self.passing
                | (self.loaded & now.funct3[1])
                | (self.again & rest)
            ),
            self.done.eq(early | over),
            self.idle.eq(~(self.first | self.transferring | self.loaded | self.passing | self.jumping | self.again)),
            # The bus answers late.
            over.eq((self.accessed & now.store & ~self.error) | self.jumped),
            self.free.eq(self.idle | early | over),
            self.retire.eq(self.done & now.last),
        ]
        m.d.sync += [
            self.first.eq(0),
            self.loaded.eq(0),
            self.passing.eq(passes | Mux(alu.less, against, with_order)),
            self.less.eq(decides & now.compare & alu.less),
        ]
        with m.If(self.first | self.done | self.trap | self.issue):
            m.d.sync += self.jumping.eq(jumps | Mux(alu.less, with_order, against))
        with m.If(self.first):
            m.d.sync += [
                self.transferring.eq(now.load | now.store),
                self.from_value.eq(now.branch),
            ]
        with m.If(self.accessed):
            m.d.sync += [self.transferring.eq(0), self.loaded.eq(now.load & ~self.error)]
        with m.If((self.done & ~self.first) | self.trap):
            m.d.sync += [self.transferring.eq(0), self.again.eq(0)]
        for name in ("set_status", "set_enable", "enter", "leave", "clear_cycles", "clear_instructions"):
            m.d.comb += getattr(self, name).eq(self.first & now[name])

    def _issue(self, m: Module, alu: Alu):
        new = self.operation
        writes = ~self.idle & self.now.write
        with m.If(self.issue):
            m.d.sync += [
                self.now.eq(new),
                self.now.carry.eq(new.carry | (new.chain & alu.carry_out)),
                self.held.eq(self.value),
                self.count.eq(self.distance),
                self.step.eq(Step.NONE),
                *(part.eq(new.part) for part in self.parts),
                self.invert.eq(new.invert.replicate(3)),
                self.above.eq(0),
                self.first.eq(~new.jump),
                self.from_value.eq(1),
                self.bad.eq(new.exception | self.value[1]),
                self.forward_a.eq(writes & (self.now.row == self.row_a)),
                self.forward_b.eq(writes & (self.now.row == self.row_b)),
            ]
