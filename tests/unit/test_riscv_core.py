"""The RISC-V core: CSRs, traps, interrupts, waiting, and how many cycles instructions take."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from amaranth.sim import Simulator

from reluctant.hdl.riscv_core import RiscvCore
from reluctant.hdl.riscv_isa import Cause, Csr

from .riscv_programs import INSTRUCTIONS, b_type, i_type, j_type, load_constant, s_type

HANDLER, DATA, NOWHERE = 0x100, 0x400, 0x1000
"""Bytes: where traps go, where loads and stores may go, where memory ends."""
NOP = 0x13
STOP = j_type(0, 0)
ECALL, EBREAK, WFI, MRET = (INSTRUCTIONS[name][1] for name in ("ecall", "ebreak", "wfi", "mret"))
INTERRUPT = 1 << 31 | Cause.EXTERNAL_INTERRUPT
MEI, MIE, MPIE = 1 << 11, 1 << 3, 1 << 7
START = [*load_constant(31, HANDLER), i_type("csrrw", 0, 31, Csr.MTVEC)]
"""Every program begins so."""
MARK = 0x55


def read(rd: int, csr: int) -> int:
    return i_type("csrrs", rd, 0, csr)


def write(csr: int, rs1: int) -> int:
    return i_type("csrrw", 0, rs1, csr)


@dataclass
class Run:
    """What a program did: registers and memory at its end, and cycles in which something happened."""

    registers: list[int] = field(default_factory=lambda: [0] * 32)
    memory: dict[int, int] = field(default_factory=dict)
    retired: list[tuple[int, int]] = field(default_factory=list)  # cycle, pc
    traps: list[tuple[int, int]] = field(default_factory=list)
    sleeping: list[int] = field(default_factory=list)

    def cycle_of(self, pc: int) -> int:
        return next(cycle for cycle, at in self.retired if at == pc)


HANDLED = [*(read(20 + i, csr) for i, csr in enumerate((Csr.MCAUSE, Csr.MEPC, Csr.MTVAL, Csr.MSTATUS))), STOP]
"""A handler that keeps in x20 to x23 what it found, and stops."""


def run(program, *, handler=HANDLED, interrupt=(), wait=0, cycles=2000, multiply=False) -> Run:
    """Run from reset until a jump to itself. ``interrupt`` are the cycles in which its level changes; each transfer
    waits for ``wait`` cycles."""
    core, done = RiscvCore(multiply=multiply), Run()
    words = dict(enumerate([*START, *program, STOP])) | {HANDLER // 4 + i: word for i, word in enumerate(handler)}
    assert len(program) + len(START) < HANDLER // 4
    done.memory = {address: words.get(address, 0) for address in range(NOWHERE // 4)}

    async def bench(ctx):
        bus, trace, level, stall = core.bus, core.trace, 0, 0
        given, error, written = 0, 0, None  # `written`: where the write of the cycle before goes
        ctx.set(bus.from_memory, 1)
        for cycle in range(cycles):
            level ^= cycle in interrupt
            ctx.set(core.interrupt, level)
            ctx.set(bus.ready, not stall)
            word = 0xDEADBEEF if stall else given
            ctx.set(bus.word, word)
            ctx.set(bus.read_data, word)
            ctx.set(bus.error, error)
            stall = max(0, stall - 1)
            if ctx.get(core.sleeping):
                done.sleeping.append(cycle)
            pc = ctx.get(trace.pc)
            if ctx.get(trace.write):
                done.registers[ctx.get(trace.rd)] = ctx.get(trace.value)
            if ctx.get(trace.retire):
                if done.retired and done.retired[-1][1] == pc:
                    return
                done.retired.append((cycle, pc))
            if ctx.get(trace.trap):
                done.traps.append((cycle, pc))
            if written is not None:
                for lane in range(4):
                    if ctx.get(bus.strobe) >> lane & 1:
                        mask = 255 << 8 * lane
                        done.memory[written] = done.memory[written] & ~mask | ctx.get(bus.data) & mask
                written = None
            if ctx.get(bus.request):
                addr, stall, given = ctx.get(bus.addr), wait, 0xDEADBEEF
                error = addr not in done.memory
                if not error and ctx.get(bus.write):
                    written = addr
                elif not error:
                    given = done.memory[addr]
            await ctx.tick()
        raise AssertionError(f"no end after {cycles} cycles: {done.retired[-3:]}")

    simulator = Simulator(core)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return done


def at(index: int) -> int:
    """Address of an instruction of the program."""
    return 4 * (len(START) + index)


TRAPS = {
    "ecall": ([ECALL], Cause.ECALL, 0),
    "ebreak": ([EBREAK], Cause.BREAKPOINT, 0),
    "illegal": ([0xFFFFFFFF], Cause.ILLEGAL, 0),
    "compressed": ([0x0001], Cause.ILLEGAL, 0),
    "funct7": ([0x40001033], Cause.ILLEGAL, 0),
    "multiply": ([0x02A50533], Cause.ILLEGAL, 0),
    "no csr": ([read(1, 0x7C0)], Cause.ILLEGAL, 0),
    "read-only csr": ([i_type("csrrwi", 1, 0, Csr.CYCLE)], Cause.ILLEGAL, 0),
    "read-only csr, bits": ([i_type("csrrsi", 1, 1, Csr.MHARTID)], Cause.ILLEGAL, 0),
    "load word misaligned": ([i_type("lw", 1, 2, 2)], Cause.LOAD_MISALIGNED, DATA + 2),
    "load half misaligned": ([i_type("lhu", 1, 2, 1)], Cause.LOAD_MISALIGNED, DATA + 1),
    "load nowhere": ([i_type("lb", 1, 3, 3)], Cause.LOAD_FAULT, NOWHERE + 3),
    "store word misaligned": ([s_type("sw", 1, 2, 1)], Cause.STORE_MISALIGNED, DATA + 1),
    "store half misaligned": ([s_type("sh", 1, 2, 3)], Cause.STORE_MISALIGNED, DATA + 3),
    "store nowhere": ([s_type("sb", 1, 3, 0)], Cause.STORE_FAULT, NOWHERE),
    "jal": ([j_type(1, 6)], Cause.FETCH_MISALIGNED, 0),
    "jalr": ([i_type("jalr", 1, 2, 2)], Cause.FETCH_MISALIGNED, 0),
    "branch": ([b_type("beq", 0, 0, 10)], Cause.FETCH_MISALIGNED, 0),
    "branch back": ([b_type("bne", 2, 0, -10)], Cause.FETCH_MISALIGNED, 0),
}


@pytest.mark.parametrize("name", TRAPS)
@pytest.mark.parametrize("wait", [0, 2])
def test_exception(name, wait):
    """The handler finds cause, address and status; the instruction did nothing, neither did those after it."""
    words, cause, value = TRAPS[name]
    before = [
        *load_constant(1, MARK),
        *load_constant(2, DATA),
        *load_constant(3, NOWHERE),
        i_type("csrrwi", 0, 8, Csr.MSTATUS),
    ]
    done = run([*before, *words, i_type("addi", 1, 0, 0), s_type("sw", 2, 2, 0)], wait=wait)
    assert done.registers[1] == MARK
    assert done.registers[20:24] == [cause, at(len(before)), value, 0x1800 | MPIE]
    assert [pc for _, pc in done.traps] == [at(len(before))]
    assert done.memory[DATA // 4] == 0


def test_a_jump_to_nowhere_traps_there():
    done = run([*load_constant(2, NOWHERE), i_type("jalr", 1, 2, 4)])
    assert done.registers[20:23] == [Cause.FETCH_FAULT, NOWHERE + 4, 0]
    assert done.registers[1] == at(3), "the jump itself is over"


def test_fetches_ahead_of_a_jump_may_fail():
    """Memory ends behind the jump: nobody needs what is not there."""
    last = NOWHERE - 4
    program = [*load_constant(2, last), *load_constant(3, i_type("jalr", 0, 4, 0)), s_type("sw", 3, 2, 0)]
    done = run([*program, i_type("jalr", 4, 2, 0)])
    assert done.traps == []
    assert at(6) in {pc for _, pc in done.retired}


def test_not_taken_branches_do_not_trap():
    done = run([b_type("bne", 0, 0, 10), i_type("addi", 1, 0, MARK)])
    assert (done.registers[1], done.traps) == (MARK, [])


def test_mret():
    """Back to where mepc says, interrupts as before the trap."""
    handler = [read(20, Csr.MEPC), i_type("addi", 20, 20, 4), write(Csr.MEPC, 20), MRET]
    done = run([i_type("csrrwi", 0, 8, Csr.MSTATUS), ECALL, read(1, Csr.MSTATUS)], handler=handler)
    assert done.registers[1] == 0x1800 | MIE | MPIE


RESET = {
    "MSTATUS": 0x1800,
    "MISA": 0x40000100,
    **dict.fromkeys(("MIE", "MIP", "MEPC", "MCAUSE", "MTVAL", "MVENDORID", "MARCHID", "MIMPID", "MHARTID"), 0),
}


@pytest.mark.parametrize("name", RESET)
def test_csr_after_reset(name):
    assert run([read(1, Csr[name])]).registers[1] == RESET[name]


def test_misa_shows_m():
    done = run([read(1, Csr.MISA), *load_constant(2, 6), *load_constant(3, 7), 0x023100B3 | 4 << 7], multiply=True)
    assert done.registers[1] == 0x40001100
    assert done.registers[5] == 42


WRITABLE = {
    "MSTATUS": (0x1800, 0x1888),
    "MIE": (0, MEI),
    "MTVEC": (0, 0xFFFFFFFC),
    "MSCRATCH": (0, 0xFFFFFFFF),
    "MEPC": (0, 0xFFFFFFFC),
    "MCAUSE": (0, 0xFFFFFFFF),
    "MTVAL": (0, 0xFFFFFFFF),
    "MISA": (0x40000100, 0x40000100),
    "MIP": (0, 0),
}


@pytest.mark.parametrize("name", WRITABLE)
def test_csr_instructions(name):
    """Each form gives the value before, and changes the bits that exist."""
    csr, (zeros, ones) = Csr[name], WRITABLE[name]
    program = [
        i_type("addi", 1, 0, -1),
        i_type("csrrw", 0, 1, csr),
        i_type("csrrc", 2, 1, csr),
        i_type("csrrsi", 3, 8, csr),
        i_type("csrrci", 4, 31, csr),
        i_type("csrrs", 5, 1, csr),
        i_type("csrrwi", 6, 0, csr),
        i_type("csrrw", 1, 1, csr),  # swaps
        read(7, csr),
    ]
    done = run(program)
    assert done.registers[2:7] == [ones, zeros, zeros | (ones & 8), zeros, ones]
    assert done.registers[1] == zeros
    assert done.registers[7] == ones


@pytest.mark.parametrize("wait", [0, 1])
def test_counters(wait):
    """They count every cycle and every instruction, also when they are added up now and then, and carry."""
    loop = [i_type("addi", 2, 2, -1), b_type("bne", 2, 0, -4)]
    program = [
        i_type("addi", 1, 0, -1),
        write(Csr.MINSTRETH, 0),
        write(Csr.MINSTRET, 1),
        *load_constant(2, 1400),
        read(3, Csr.MCYCLE),
        *loop,
        read(4, Csr.CYCLE),
        read(5, Csr.INSTRET),
        read(6, Csr.INSTRETH),
    ]
    done = run(program, wait=wait, cycles=20000)
    assert done.registers[4] - done.registers[3] == done.cycle_of(at(8)) - done.cycle_of(at(5))
    assert done.registers[5] == (-1 + 3 + 2800 + 1) & 0xFFFFFFFF
    assert done.registers[6] == 1


def test_a_written_counter_reads_what_was_written():
    """The write comes after the instruction's own count; traps do not count, other instructions do."""
    program = [*load_constant(1, 1000), write(Csr.MINSTRET, 1), read(2, Csr.MINSTRET), NOP, read(3, Csr.MINSTRET)]
    program += [write(Csr.MCYCLEH, 1), read(4, Csr.CYCLEH), write(Csr.MCYCLE, 0), read(5, Csr.MCYCLE)]
    done = run(program)
    assert done.registers[2:5] == [1000, 1002, 1000]
    assert done.registers[5] < 30


def enable(bits: int) -> list[int]:
    return [*load_constant(1, MEI), write(Csr.MIE, 1), i_type("csrrwi", 0, bits, Csr.MSTATUS)]


def test_interrupt():
    """It comes between two instructions, whatever they are, and mret goes on with the second."""
    body = [i_type("addi", 2, 2, 1), i_type("lw", 3, 0, DATA), s_type("sw", 2, 0, DATA), i_type("slli", 4, 2, 3)]
    body += [i_type("addi", 5, 4, 1), b_type("blt", 2, 6, -4 * len(body) - 4)]
    program = [*enable(8), i_type("addi", 6, 0, 20), *body]
    handler = [read(20, Csr.MCAUSE), read(21, Csr.MEPC), i_type("addi", 22, 22, 1), NOP, MRET]
    quiet = run(program)
    seen = set()
    for first in range(60, 100):
        done = run(program, handler=handler, interrupt=(first, first + 6))
        assert [done.registers[i] for i in range(2, 6)] == [quiet.registers[i] for i in range(2, 6)]
        assert done.memory[DATA // 4] == 20
        assert done.registers[20] in (0, INTERRUPT)
        assert len(done.traps) == done.registers[22] <= 1
        if done.traps:
            cycle, pc = done.traps[0]
            assert done.registers[21] == pc
            assert [at for when, at in done.retired if when > cycle][len(handler)] == pc
            seen.add(pc)
    assert len(seen) == len(body)


@pytest.mark.parametrize(("bits", "mei"), [(0, MEI), (8, 0)])
def test_a_disabled_interrupt_waits(bits, mei):
    program = [
        *load_constant(1, mei),
        write(Csr.MIE, 1),
        i_type("csrrwi", 0, bits, Csr.MSTATUS),
        *[NOP] * 8,
        read(2, Csr.MIP),
    ]
    done = run(program, interrupt=(1,))
    assert (done.traps, done.registers[2]) == ([], MEI)


def test_no_instruction_comes_between_a_write_that_enables_and_the_interrupt():
    program = [*load_constant(1, MEI), write(Csr.MIE, 1), i_type("csrrsi", 0, 8, Csr.MSTATUS), i_type("addi", 2, 0, 1)]
    done = run(program, interrupt=(1,))
    assert done.registers[20:22] == [INTERRUPT, at(len(program) - 1)]
    assert done.registers[2] == 0


def test_an_instruction_after_a_write_that_disables_is_safe():
    program = [*enable(8), *[NOP] * 4, i_type("csrrci", 0, 8, Csr.MSTATUS), *[i_type("addi", 2, 2, 1)] * 6]
    for first in range(40, 75):
        done = run(program, interrupt=(first,))
        assert done.traps == [] or done.traps[0][1] <= at(8)


@pytest.mark.parametrize("bits", [0, 8])
def test_wfi(bits):
    """Sleeps until the interrupt, then goes on or traps behind it; counts cycles all the while."""
    program = [*enable(bits), read(3, Csr.MCYCLE), WFI, read(4, Csr.MCYCLE), i_type("addi", 2, 0, MARK)]
    done = run(program, interrupt=(5000,), cycles=6000)
    assert 4800 < len(done.sleeping) <= 5000
    assert max(done.sleeping) <= 5002
    if bits:
        assert done.registers[20:22] == [INTERRUPT, at(6)]
        assert done.registers[2] == 0
    else:
        assert (done.traps, done.registers[2]) == ([], MARK)
        assert done.registers[4] - done.registers[3] == done.cycle_of(at(6)) - done.cycle_of(at(4))


def test_wfi_does_not_wait_for_what_is_there():
    done = run([*enable(0), WFI, i_type("addi", 2, 0, MARK)], interrupt=(1,))
    assert done.registers[2] == MARK
    assert done.cycle_of(at(5)) - done.cycle_of(at(3)) < 10


CYCLES = {
    "addi": (i_type("addi", 1, 2, 1), 1),
    "slti": (i_type("slti", 1, 2, 1), 2),
    "lui": (load_constant(1, 0)[0], 1),
    "auipc": (0x97, 2),
    "lw": (i_type("lw", 1, 2, 0), 2),
    "lb": (i_type("lb", 1, 2, 0), 3),
    "lbu 3": (i_type("lbu", 1, 2, 3), 6),
    "lh 2": (i_type("lh", 1, 2, 2), 5),
    "sw": (s_type("sw", 1, 2, 0), 2),
    "slli 1": (i_type("slli", 1, 2, 1), 1),
    "slli 2": (i_type("slli", 1, 2, 2), 2),
    "srli 16": (i_type("srli", 1, 2, 16), 2),
    "srli 31": (i_type("srli", 1, 2, 31), 10),
    "srli 0": (i_type("srli", 1, 2, 0), 1),
    "sll": (INSTRUCTIONS["sll"][1] | 1 << 7 | 2 << 15 | 4 << 20, 5),
    "branch not taken": (b_type("beq", 2, 0, 8), 2),
    "branch taken": (b_type("bne", 2, 0, 4), 3),
    "jal": (j_type(1, 4), 3),
    "jalr": (i_type("jalr", 1, 5, 0), 3),
    "csrr": (read(1, Csr.MSCRATCH), 9),
    "csrr counter": (read(1, Csr.MCYCLE), 19),
    "fence": (0x0FF0000F, 1),
}


@pytest.mark.parametrize("name", CYCLES)
def test_cycles(name):
    """From an instruction to the next, with others that take one cycle around."""
    word, cycles = CYCLES[name]
    before = [*load_constant(2, DATA), i_type("addi", 4, 0, 4), *load_constant(5, at(10)), *[NOP] * 4]
    done = run([*before, word, *[NOP] * 5])
    assert done.cycle_of(at(10)) - done.cycle_of(at(8)) - 1 == cycles


@pytest.mark.parametrize("wait", [0, 1, 5])
def test_waits_change_nothing_but_time(wait):
    loop = [i_type("lw", 3, 2, 0), i_type("addi", 3, 3, 7), s_type("sw", 3, 2, 4), i_type("addi", 2, 2, 4)]
    loop += [i_type("addi", 1, 1, -1), b_type("bne", 1, 0, -4 * len(loop) - 4)]
    done = run([*load_constant(1, 9), *load_constant(2, DATA), *loop], wait=wait, cycles=9000)
    assert done.memory[DATA // 4 + 9] == 63


def test_a_loop_takes_3_cycles_for_its_branch():
    done = run([i_type("addi", 1, 0, 8), i_type("addi", 1, 1, -1), b_type("bne", 1, 0, -4)])
    starts = [cycle for cycle, pc in done.retired if pc == at(1)]
    assert {after - before for before, after in pairwise(starts[1:])} == {4}
