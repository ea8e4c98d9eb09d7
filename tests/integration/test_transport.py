"""A simulation behind the interface of a board: a stand-in for what goes wrong, the unit itself for what goes right."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from reluctant.boards.presets import PRESETS
from reluctant.boards.transport import Access, BusError, NoPacketError, TransportError
from reluctant.golden.formats import Normaliser
from reluctant.golden.integer import run_layer
from reluctant.golden.settings import LayerSettings
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.register_map import RegisterMap
from reluctant.hdl.verilog import to_verilog
from reluctant.sim.build import compile_bench
from reluctant.sim.launch import SimulationError
from reluctant.sim.link import Link
from reluctant.sim.program import Job
from reluctant.sim.transport import SimulatedTransport

from .stand_in import stand_in

CONFIG = UnitConfig(lanes=16, head_dim=32, heads=2, kv_heads=1, slots=16, job_queue=3)
START, STATUS = 0x58, 0x20
PACKET = bytes(2 * 32 * 2)
ANSWER = b"".join(bytes([head, *[0] * 15]) + bytes([1] * 16 + [2] * 16) for head in range(CONFIG.heads))


def device(fault="", *, waves=None, wait=20, **options):
    build = compile_bench(stand_in(CONFIG, wait=wait, fault=fault), waves=waves is not None)
    return SimulatedTransport(build, CONFIG.lanes, waves=waves, **options)


def test_accesses_packets_and_the_interrupt():
    with device() as transport:
        assert transport.read(0) == 0x524C4354
        assert not transport.poll()
        transport.write(START, 1)
        transport.send(PACKET)
        assert transport.execute([Access(STATUS), Access(START, 1), Access(STATUS), Access(8)]) == [1, 1, CONFIG.hash]
        assert transport.wait()
        assert transport.receive() == ANSWER
        assert transport.read_many([0, STATUS]) == [0x524C4354, 1]
        assert not transport.wait(50)
        transport.send(PACKET)
        assert transport.receive() == ANSWER
        assert len(transport.taken) == len(transport.answered) == 2
        first, last = transport.answered[1]
        assert transport.taken[0] < transport.answered[0][0]
        assert transport.answered[0][1] < transport.taken[1] < first < last <= transport.cycle


def test_time_stands_still_between_calls():
    """The same calls take the same cycles, whatever the host does meanwhile."""

    def run(**options):
        cycles = []
        with device(**options) as transport:
            for _ in range(3):
                transport.write_many([(START, 1), (START, 1)])
                transport.send(PACKET)
                transport.send(PACKET)
                assert [transport.receive(), transport.receive()] == [ANSWER] * 2
                cycles.append(transport.cycle)
                before = transport.cycle
                subprocess.run(["sleep", "0.05"], check=True)
                transport.delay(7)
                assert transport.cycle == before + 7
        return cycles

    plain = run()
    assert plain == run()
    stalled = run(stall_seed=3)
    assert stalled == run(stall_seed=3) != run(stall_seed=4)
    assert stalled[-1] > plain[-1]


def test_refused_access_names_itself_and_ends_its_batch():
    with device() as transport:
        transport.write_many([(START, 1)] * 3)
        with pytest.raises(BusError, match=r"the write of 0x1 to 0x58 was answered with an error \(SLVERR\)") as error:
            transport.execute([Access(START, 1), Access(STATUS)])
        assert (error.value.address, error.value.word) == (START, 1)
        assert transport.read(STATUS) == 1


def test_missing_packet_is_told_and_not_lost():
    with device() as transport:
        with pytest.raises(NoPacketError, match="no output packet came within 0 cycles"):
            transport.receive(0)
        before = transport.cycle
        with pytest.raises(NoPacketError, match="no output packet came within 40 cycles"):
            transport.receive(40)
        assert transport.cycle == before + 40
        transport.write(START, 1)
        transport.send(PACKET)
        with pytest.raises(NoPacketError):
            transport.receive(10)
        assert transport.receive() == ANSWER


@pytest.mark.parametrize("packet", [b"", bytes(15), bytes(17)])
def test_packets_are_whole_beats(packet):
    with device() as transport, pytest.raises(ValueError, match="whole beats of 16 are needed"):
        transport.send(packet)


@pytest.mark.parametrize(("fault", "message"), [("payload", "payload changed"), ("valid", "valid fell before ready")])
def test_broken_bus_rule_ends_the_simulation(fault, message):
    def run():
        with device(fault, stall_seed=5) as transport:
            for _ in range(50):
                transport.write(START, 1)
                transport.send(PACKET)
                transport.receive()

    with pytest.raises(SimulationError, match=f"protocol violation: m_axis: {message}"):
        run()


def test_register_that_does_not_answer_ends_the_simulation():
    dead = stand_in(CONFIG).replace("wire write = s_axil_awvalid", "wire write = 1'b0 & s_axil_awvalid")
    transport = SimulatedTransport(compile_bench(dead), CONFIG.lanes, patience=500)
    message = r"no answer to the write of 0x7 to 0x40 within 500 cycles, at cycle \d+; .*s_axil_awvalid 1"
    with pytest.raises(SimulationError, match=message):
        transport.write(0x40, 7)
    with pytest.raises(TransportError, match="closed"):
        transport.read(0)
    transport.close()


def test_dead_simulator_is_an_error():
    tasks = Path("/proc/self/task")
    with device() as transport:
        mine = {int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()}
        simulators = [child for child in mine if "bench" in Path(f"/proc/{child}/cmdline").read_text()]
        assert len(simulators) == 1
        os.kill(simulators[0], signal.SIGKILL)
        with pytest.raises(SimulationError, match="the simulator ended without a result; its log ends with:"):
            transport.receive()


def test_simulation_that_cannot_start_is_an_error():
    build = compile_bench(stand_in(CONFIG))
    with pytest.raises(SimulationError, match="the simulator ended without a result"):
        SimulatedTransport(type(build)("verilator", build.folder / "nowhere", False), CONFIG.lanes)


def test_closing_is_final(tmp_path):
    transport = device(waves=tmp_path / "waves.fst")
    transport.write(START, 1)
    transport.close()
    transport.close()
    assert (tmp_path / "waves.fst").stat().st_size > 500
    for call in (transport.poll, lambda: transport.read(0), lambda: transport.receive(0)):
        with pytest.raises(TransportError, match="the simulation is closed"):
            call()


def test_messages_keep_values_and_bytes():
    left, right = (Link(end) for end in socket.socketpair())
    big = bytes(range(256)) * 100
    left.send(["name", {"a": None}], [b"", big, b"x"])
    left.send(1, [])
    assert right.receive() == (["name", {"a": None}], [b"", big, b"x"])
    assert right.receive() == (1, [])
    left.close()
    assert right.receive() is None
    right.close()


def test_unit_computes_what_the_model_says():
    """Three steps of a real unit, from raw registers."""
    config = PRESETS["tiny"].unit
    registers, random = RegisterMap(config), np.random.default_rng(7)
    q, k, v = (random.integers(-128, 128, (heads, 3, 16), dtype=np.int8) for heads in (2, 1, 1))
    settings = LayerSettings.create(2, 16, kv_heads=1, normaliser=Normaliser.NONE)
    wanted = run_layer(settings, *map(torch.from_numpy, (q, k, v)))
    with SimulatedTransport(compile_bench(to_verilog(config)), config.lanes) as transport:
        assert registers.decode("CONFIG_HASH", transport.read(registers.address("CONFIG_HASH")))["value"] == config.hash
        for token in range(3):
            job = Job(n=token + 1, slot=token, position=token, head_dim=16).registers()
            words = [(registers.address(name), registers.encode(name, **fields)) for name, fields in job.items()]
            transport.write_many([*words, (registers.address("START"), 1)])
            transport.send(b"".join(rows[:, token].tobytes() for rows in (k, v, q)))
        for token in range(3):
            heads = np.frombuffer(transport.receive(), np.uint8).reshape(2, -1)
            assert (heads[:, 16:].copy().view("<i4") == wanted.context[:, token].numpy()).all()
        clear = registers.address("COUNTERS_CLEAR")
        with pytest.raises(BusError, match=f"the read of {clear:#x} was answered with an error"):
            transport.read(clear)
