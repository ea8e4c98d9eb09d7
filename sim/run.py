"""Run a program on a simulated unit, and read the answers."""

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from reluctant.boards.results import Answer, MalformedAnswerError, decode_answer
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import RegisterMap

from .build import Build, compile_bench
from .launch import FAILURE_FILE, SimulationError, failure, launch
from .lowering import lower
from .program import ExpectPacket, Job, Packet, Program, Step
from .script import Record, Script

__all__ = ["Results", "SimulationError", "StepResult", "simulate"]


@dataclass(frozen=True, eq=False)
class StepResult(Answer):
    """What the unit answered to a step that attends, and when.

    Attributes
    ----------
    latency
        Cycles from the last input beat taken to the first output beat.
    """

    latency: int


@dataclass(frozen=True, eq=False)
class Results:
    """What a program gave.

    Attributes
    ----------
    steps
        One for each step of the program, in order; None for those that only append.
    packets
        One for each ``ExpectPacket``, in order.
    reads
        One word for each ``Read``, in order.
    counters
        Performance counters by name, at the end.
    errors
        Names of the bits set in ERROR at the end.
    cycles
        From the answer to the first step's START to the last output beat; 0 without one of them.
    total_cycles
        Length of the whole simulation, configuration included.
    """

    steps: tuple[StepResult | None, ...]
    packets: tuple[bytes, ...]
    reads: tuple[int, ...]
    counters: dict[str, int]
    errors: tuple[str, ...]
    cycles: int
    total_cycles: int


def simulate(
    config: UnitConfig,
    program: Program,
    *,
    simulator: str = "verilator",
    stall_seed: int | None = None,
    waves: Path | str | None = None,
    verilog: str | None = None,
) -> Results:
    """Run ``program`` on a unit of ``config`` in a process of its own; several may run at once.

    Parameters
    ----------
    simulator
        ``"verilator"``, or ``"icarus"``, which is slower and sees X.
    stall_seed
        Holds every bus channel back at random, the same way for the same seed.
    waves
        FST file to write.
    verilog
        Source to run instead of the generator's.

    Raises
    ------
    BuildError
        If a tool is missing or the Verilog does not compile.
    SimulationError
        If a bus rule is broken, a register answers otherwise than expected, the run hangs, a packet is not the one
        expected or none was expected, or the simulator fails.
    ValueError, KeyError, IndexError
        If the program does not fit the configuration.
    """
    script = lower(config, program, stalls=stall_seed is not None)
    build = compile_bench(verilog or _generated(config), simulator=simulator, waves=waves is not None)
    return _results(config, program, _run(build, script, stall_seed, waves))


@lru_cache(maxsize=4)
def _generated(config: UnitConfig) -> str:
    from reluctant.hdl.verilog import to_verilog

    return to_verilog(config)


def _run(build: Build, script: Script, stall_seed: int | None, waves: Path | str | None) -> Record:
    """Execute a script in the simulator's process."""
    with tempfile.TemporaryDirectory(prefix="reluctant-") as name:
        folder = Path(name)
        script.save(folder / "script.npz")
        environment = {
            "RELUCTANT_SCRIPT": str(folder / "script.npz"),
            "RELUCTANT_RECORD": str(folder / "record.npz"),
            "RELUCTANT_FAILURE": str(folder / FAILURE_FILE),
        }
        failed = launch(build, "reluctant.sim.bench", folder, environment, stall_seed=stall_seed, waves=waves)
        if not (folder / "record.npz").exists():
            raise SimulationError(failure(folder)) from failed
        return Record.load(folder / "record.npz")


def _results(config: UnitConfig, program: Program, record: Record) -> Results:
    """Pair the answers with the operations that they belong to."""
    answers = iter(zip(record.packets, record.answered, strict=True))
    taken = iter(record.taken)
    steps, packets = [], []
    try:
        for item in program.operations:
            match item:
                case Step():
                    loaded = next(taken)
                    steps.append(_decode(config, item.job, *next(answers), loaded) if item.job.attend else None)
                case Packet():
                    next(taken)
                case ExpectPacket():
                    packets.append(next(answers)[0])
                    if item.data is not None and item.data != packets[-1]:
                        raise SimulationError(f"a packet is {packets[-1].hex()}: {item.data.hex()} was expected")
    except StopIteration:
        raise SimulationError("the unit answered with too few packets") from None
    surplus = len(list(answers))
    if surplus:
        raise SimulationError(f"the unit sent {surplus} packets more than expected")
    error = RegisterMap(config).decode("ERROR", record.error)
    ends = [last for _, last in record.answered]
    return Results(
        steps=tuple(steps),
        packets=tuple(packets),
        reads=tuple(record.reads),
        counters=record.counters,
        errors=tuple(name for name, value in error.items() if value),
        cycles=ends[-1] - record.started[0] if ends and record.started else 0,
        total_cycles=record.cycles,
    )


def _decode(config: UnitConfig, job: Job, packet: bytes, answered: list[int], loaded: int) -> StepResult:
    """A step's answer, whose fixed parts must be as the packet's format says."""
    try:
        answer = decode_answer(config, packet, job.head_dim, contexts=job.sends_context, outputs=job.sends_output)
    except MalformedAnswerError as error:
        raise SimulationError(str(error)) from None
    return StepResult(**vars(answer), latency=answered[0] - loaded)
