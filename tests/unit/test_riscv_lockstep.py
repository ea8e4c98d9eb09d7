"""Random programs on the RISC-V core's Verilog and in Unicorn, instruction by instruction."""

from collections import Counter

import pytest

from reluctant.hdl.riscv_isa import Cause
from reluctant.sim.core_bench import run_core

from .riscv_programs import INSTRUCTIONS, MULTIPLY, random_program
from .riscv_reference import Reference, instructions

WAITS = (0, 128, 32, 240)
"""Of 256 cycles with a request, so many make the core wait."""
LIMIT = 3000
"""Instructions of a program."""
EXCEPTIONS = (
    *(Cause.FETCH_MISALIGNED, Cause.FETCH_FAULT, Cause.ILLEGAL, Cause.BREAKPOINT, Cause.LOAD_MISALIGNED),
    *(Cause.LOAD_FAULT, Cause.STORE_MISALIGNED, Cause.STORE_FAULT, Cause.ECALL),
)
INTERRUPT = 1 << 31 | Cause.EXTERNAL_INTERRUPT


@pytest.mark.parametrize("interrupts", [False, True], ids=["quiet", "interrupted"])
@pytest.mark.parametrize("multiply", [False, True], ids=["rv32i", "rv32im"])
def test_random_programs(multiply, interrupts, tmp_path, request):
    wanted = request.config.getoption("--instructions") // 4
    names, traps, done, seed = Counter(), Counter(), 0, 0
    while done < wanted:
        words = random_program(seed, interrupts=interrupts, multiply=multiply)
        options = {"limit": LIMIT, "cycles": 200_000, "wait": WAITS[seed % len(WAITS)], "seed": seed}
        events = run_core(words, tmp_path, multiply=multiply, interrupt=2 * interrupts, **options)
        steps = instructions(events)
        reference = Reference(words, steps, multiply=multiply)
        try:
            reference.compare()
        except AssertionError as error:
            raise AssertionError(f"program {seed}: {error}") from None
        names.update(reference.names)
        traps.update(reference.traps)
        done += len(steps)
        seed += 1
    never = {"ecall", "ebreak"} if interrupts else {"ecall", "ebreak", "wfi"}  # two trap, one would not end
    expected = (set(INSTRUCTIONS) | (set(MULTIPLY) if multiply else set())) - never
    assert expected <= set(names), f"never executed: {sorted(expected - set(names))}"
    assert set(EXCEPTIONS) <= set(traps), f"never raised: {set(EXCEPTIONS) - set(traps)}"
    assert (INTERRUPT in traps) == interrupts
