"""The simulation around the unit: builds, bus drivers, checkers, failures. A stand-in takes the unit's place."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from reluctant.golden.formats import Normaliser
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import RegisterMap
from reluctant.sim.build import BuildError, cache_folder, compile_bench
from reluctant.sim.lowering import lower
from reluctant.sim.program import (
    Delay,
    ExpectPacket,
    HeadSettings,
    Job,
    Packet,
    Program,
    Read,
    SetJob,
    Step,
    WaitIdle,
    WaitInterrupt,
    Write,
)
from reluctant.sim.run import SimulationError, simulate
from reluctant.sim.script import Record, Script

from .stand_in import stand_in

CONFIG = UnitConfig(lanes=16, head_dim=32, heads=2, kv_heads=1, slots=16, job_queue=3)
WAIT = 20
needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog is not installed")
SIMULATORS = ["verilator", pytest.param("icarus", marks=needs_icarus)]


def rows(count, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, (count, CONFIG.head_dim), dtype=np.int8)


def job(index=0, **settings):
    return Job(n=index + 1, slot=index, position=index, head_dim=32, normaliser=Normaliser.RMS_HEAD, **settings)


def step(index=0, **settings):
    return Step(job(index, **settings), rows(1, index), rows(1, index + 100), rows(2, index + 200))


def run(*operations, fault="", simulator="verilator", **options):
    return simulate(
        CONFIG, Program(operations), verilog=stand_in(CONFIG, wait=WAIT, fault=fault), simulator=simulator, **options
    )


ANSWER = b"".join(bytes([head, *[0] * 15]) + bytes([1] * 16 + [2] * 16) for head in range(CONFIG.heads))


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_steps_are_answered_and_timed(simulator):
    results = run(*map(step, range(6)), simulator=simulator)
    assert len(results.steps) == 6
    for result in results.steps:
        assert result.output.tolist() == [[1] * 16 + [2] * 16] * 2
        assert result.context is None
        assert not (result.masked | result.null | result.softmax | result.fallback).any()
        assert result.active.tolist() == result.mass.tolist() == result.weight_sum.tolist() == [0, 0]
        assert result.latency == WAIT + 3
    # Loading does not wait for register writes: a step takes its packet, its wait, its answer and the hand-overs.
    beats = 2 * (1 + 1 + 2) + 2 * 3
    assert 6 * (beats + WAIT) <= results.cycles <= 6 * (beats + WAIT + 8)
    assert results.cycles < results.total_cycles
    assert results.errors == ()
    assert results.counters["BUSY_CYCLES"] == 0


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_stalls_change_the_time_and_nothing_else(simulator):
    steps = [step(index) for index in range(8)]
    plain = run(*steps, simulator=simulator)
    times = set()
    for seed in (1, 2, 1):
        stalled = run(*steps, simulator=simulator, stall_seed=seed)
        assert stalled.total_cycles > plain.total_cycles
        for left, right in zip(plain.steps, stalled.steps, strict=True):
            assert (left.output == right.output).all()
        times.add(stalled.total_cycles)
    assert len(times) == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("hash", r"CONFIG_HASH .* is 0x00000001: 0x[0-9a-f]{8} is right"),
        ("hang", r"nothing moves since \d+ cycles.*1 of 5 packets taken.*STATUS 0x00000001"),
        ("payload", r"protocol violation: m_axis: payload changed from .* before ready"),
        ("valid", "protocol violation: m_axis: valid fell before ready"),
        ("surplus", "a step was answered with 144 bytes, not 96"),
    ],
)
def test_fault_of_the_unit_fails_the_run(fault, message):
    with pytest.raises(SimulationError, match=message):
        run(*map(step, range(5)), fault=fault, stall_seed=None if fault == "hang" else 5)


@needs_icarus
def test_x_fails_the_run():
    with pytest.raises(SimulationError, match="protocol violation: m_axis: X on valid or ready"):
        run(step(), fault="x", simulator="icarus")


def test_raw_operations():
    packet = step().packet()
    start = Write(register="START", word=1)
    results = run(
        *[start] * 3,
        Write(register="START", word=1, response="SLVERR"),
        Packet(packet),
        Read(register="STATUS", expect=1, mask=1),
        WaitInterrupt(),
        ExpectPacket(ANSWER),
        Packet(packet),
        Packet(packet),
        ExpectPacket(),
        ExpectPacket(),
        Delay(10),
        WaitInterrupt(level=False),
        WaitIdle(),
        Read(register=0, expect=0x524C4354),
    )
    assert results.packets == (ANSWER,) * 3
    assert results.reads == (1, 0x524C4354)
    assert results.steps == ()
    assert results.cycles == 0


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        (
            [Write(register="JOB_N", word=1, response="SLVERR")],
            "write of bytes 01000000 .* answered with OKAY, not SLVERR",
        ),
        ([Read(register="JOB_N", expect=7)], "JOB_N at 0x34 is 0x00000000: 0x00000007 is right"),
        ([*[Write(register="START", word=1)] * 3, step()], "the job of step 0 was refused: STATUS 0x00000001"),
        ([step(), ExpectPacket()], "nothing moves since"),
        (
            [Write(register="START", word=1), Packet(bytes(16)), ExpectPacket(bytes(96))],
            "a packet is 0000.*was expected",
        ),
        ([Write(register="START", word=1), Packet(bytes(16)), WaitIdle()], "1 packets more than expected"),
    ],
)
def test_unmet_expectation_fails_the_run(operations, message):
    with pytest.raises(SimulationError, match=message):
        run(*operations)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_waves_are_written(simulator, tmp_path):
    run(step(), simulator=simulator, waves=tmp_path / "waves.fst")
    assert (tmp_path / "waves.fst").stat().st_size > 1000


def test_simulations_run_side_by_side():
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda seed: run(step(), stall_seed=seed), (1, 2, 3)))
    assert all(result.steps[0].output.tolist() == [[1] * 16 + [2] * 16] * 2 for result in results)


@needs_icarus
def test_builds_are_kept_by_content(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = stand_in(CONFIG)
    with ThreadPoolExecutor(4) as pool:
        racers = list(pool.map(lambda _: compile_bench(source, simulator="icarus"), range(4)))
    assert len(set(racers)) == 1
    assert [entry.name for entry in cache_folder().iterdir()] == [racers[0].folder.name]
    inode = racers[0].folder.stat().st_ino
    assert compile_bench(source, simulator="icarus").folder.stat().st_ino == inode
    changed = compile_bench(source + "// changed\n", simulator="icarus")
    assert changed.folder != racers[0].folder
    assert compile_bench(source, simulator="icarus", waves=True).folder not in (changed.folder, racers[0].folder)


def test_broken_verilog_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BuildError, match=r"failed with exit code 1:(.|\n)*sparse_attention_unit\.v:\d+"):
        compile_bench(stand_in(CONFIG).replace("endmodule", "nonsense"))
    assert list(cache_folder().iterdir()) == []
    with pytest.raises(BuildError, match=r"warns about the Verilog:(.|\n)*undriven|UNDRIVEN|LATCH|latch"):
        compile_bench(stand_in(CONFIG).replace("endmodule", "reg latch;\nalways @* if (rst) latch = clk;\nendmodule"))
    with pytest.raises(BuildError, match="module sparse_attention_unit of the Verilog has no vector port s_axis_tdata"):
        compile_bench("module sparse_attention_unit; endmodule " + stand_in(CONFIG).replace("_unit", "_system"))
    with pytest.raises(BuildError, match="the Verilog has no module sparse_attention_system"):
        compile_bench(stand_in(CONFIG), top="sparse_attention_system")


def test_missing_tools_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"g\+\+, make, perl not found on PATH.*apt install g\+\+ make perl"):
        compile_bench(stand_in(CONFIG))
    with pytest.raises(BuildError, match="iverilog, vvp not found on PATH"):
        compile_bench(stand_in(CONFIG), simulator="icarus")
    with pytest.raises(BuildError, match="simulator is 'vcs': verilator or icarus is allowed"):
        compile_bench(stand_in(CONFIG), simulator="vcs")
    with pytest.raises(BuildError, match="top is 'chip': sparse_attention_unit or sparse_attention_system is allowed"):
        compile_bench(stand_in(CONFIG), top="chip")


def test_job_registers_are_written_when_they_change():
    settings = {(0, 1): HeadSettings(theta=-5, gain=(0x2000, 3))}
    script = lower(CONFIG, Program((step(0), step(1), SetJob(job(1))), settings))
    registers = RegisterMap(CONFIG)
    writes = [arguments[0] for kind, *arguments in script.actions if kind == "writes"]
    assert len(writes) == 2
    table = [registers.address(f"HEAD_TABLE.{name}", 0, 1) for name in ("THETA", "MODE", "KAPPA")]
    assert [address for address, _ in writes[0]][:3] == table
    assert writes[0][0][1] == 0xFFFF_FFFB
    assert [registers.address("GAIN", 0, 1, 1), 3] in writes[0]
    assert registers.address("GAIN", 0, 1, 0) not in [address for address, _ in writes[0]]
    assert [address for address, _ in writes[1]] == [
        registers.address(name) for name in ("JOB_N", "JOB_SLOT", "JOB_POSITION")
    ]
    assert [arguments for kind, *arguments in script.actions if kind == "start"] == [[-1], [0]]


@pytest.mark.parametrize(("strobe", "offset", "data"), [(0xF, 0, "78563412"), (0x2, 1, "56"), (0xC, 2, "3412")])
def test_strobes_become_bytes(strobe, offset, data):
    script = lower(CONFIG, Program((Write(register=0x40, word=0x12345678, strobe=strobe),)))
    assert script.actions[0] == ["write", 0x40 + offset, data, 0]


@pytest.mark.parametrize("strobe", [0, 5, 16])
def test_strobe_with_gaps_is_refused(strobe):
    with pytest.raises(ValueError, match=f"strobe is {strobe:#x}: adjacent bytes of four are needed"):
        lower(CONFIG, Program((Write(register=0x40, word=0, strobe=strobe),)))


def test_rows_must_fit_the_job():
    with pytest.raises(ValueError, match="queries are needed in this job"):
        Step(job(), rows(1), rows(1))
    with pytest.raises(ValueError, match="keys are not part of the packet in this job"):
        Step(job(append=False), rows(1), None, rows(2))
    with pytest.raises(ValueError, match=r"values are int64\[1, 32\]: int8 rows of 32 elements are needed"):
        Step(job(), rows(1), rows(1).astype(np.int64), rows(2))


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"JOB_N.value is 40"):
        lower(CONFIG, Program((Step(replace(job(), n=40), rows(1), rows(1), rows(2)),)))


def test_scripts_and_records_survive_their_files(tmp_path):
    script = lower(CONFIG, Program((step(), Packet(b""), Packet(bytes(range(16))))))
    script.save(tmp_path / "script.npz")
    assert Script.load(tmp_path / "script.npz") == script
    record = Record(packets=[b"ab", b"", b"c"], reads=[1], counters={"JOBS": 3}, error=4, answered=[[1, 2]], cycles=9)
    record.save(tmp_path / "record.npz")
    assert Record.load(tmp_path / "record.npz") == record
