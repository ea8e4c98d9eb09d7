"""Run a program on a simulated unit, and read the answers."""

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import RegisterMap

from .build import Build, compile_bench
from .launch import FAILURE_FILE, SimulationError, failure, launch
from .lowering import lower
from .program import ExpectPacket, Job, Packet, Program, Step
from .script import Record, Script

__all__ = ["Results", "SimulationError", "StepResult", "simulate"]

FLAGS = ("masked", "null", "softmax", "fallback")


@dataclass(frozen=True, eq=False)
class StepResult:
    """What the unit answered to a step that attends, head by head.

    Attributes
    ----------
    masked, null, softmax, fallback
        (heads,) bool.
    exponent, active, mass, weight_sum
        (heads,) int64.
    context
        (heads, head_dim) int32, or None when they were not sent.
    output
        (heads, head_dim) int8, or None when the normaliser is ``none``.
    latency
        Cycles from the last input beat taken to the first output beat.
    """

    masked: np.ndarray
    null: np.ndarray
    softmax: np.ndarray
    fallback: np.ndarray
    exponent: np.ndarray
    active: np.ndarray
    mass: np.ndarray
    weight_sum: np.ndarray
    context: np.ndarray | None
    output: np.ndarray | None
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
    size, header = job.output_bytes(config.lanes), config.sizes.header_beats * config.lanes
    if len(packet) != config.heads * size:
        raise SimulationError(f"a step was answered with {len(packet)} bytes, not {config.heads * size}")
    heads = np.frombuffer(packet, np.uint8).reshape(config.heads, size)
    fixed = heads[:, 0].tolist() != list(range(config.heads)) or heads[:, 3].any() or heads[:, 16:header].any()
    if fixed or (heads[:, 1] >> len(FLAGS)).any():
        raise SimulationError(f"the headers of a step's answer are malformed: {heads[:, :header].tolist()}")
    body = heads[:, header:]
    contexts = 4 * job.head_dim if job.sends_context else 0
    return StepResult(
        **{flag: (heads[:, 1] >> bit & 1).astype(bool) for bit, flag in enumerate(FLAGS)},
        exponent=heads[:, 2].astype(np.int64),
        active=_integers(heads[:, 4:8]),
        mass=_integers(heads[:, 8:13]),
        weight_sum=_integers(heads[:, 13:16]),
        context=np.ascontiguousarray(body[:, :contexts]).view("<i4") if contexts else None,
        output=np.ascontiguousarray(body[:, contexts:]).view(np.int8) if job.sends_output else None,
        latency=answered[0] - loaded,
    )


def _integers(data: np.ndarray) -> np.ndarray:
    """Little-endian unsigned integers in the rows of ``data``, at most 7 bytes."""
    return (data.astype(np.int64) << (8 * np.arange(data.shape[1]))).sum(axis=1)
