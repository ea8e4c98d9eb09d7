"""A system whose unit does one thing at a time, and whose core has its memory in the unit's store."""

import json
import struct
from importlib.resources import files

import numpy as np
import pytest
import torch

from reluctant.boards import errors
from reluctant.boards.host import System
from reluctant.cli import main
from reluctant.firmware.build import build as build_firmware
from reluctant.golden.eviction import run_policy
from reluctant.golden.formats import Normaliser
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.hdl.config import SERIAL, UnitConfig
from reluctant.hdl.messages import Operation
from reluctant.hdl.system_config import SystemConfig
from reluctant.hdl.verilog import system_to_verilog
from reluctant.sim.build import compile_bench
from reluctant.sim.transport import SimulatedTransport

from .raw_mailbox import RawMailbox

TRACE = str(files("reluctant") / "data" / "demo.npz")
UNIT = {
    **SERIAL,
    "lanes": 8,
    "mass_bits": 16,
    "slots": 64,
    "shared_memory": 16384,
}
SCHEDULER = {"memory": 16384, "sequences": 1, "messages": 2}
CONFIG = SystemConfig(unit=UnitConfig(**UNIT, heads=4, kv_heads=2, head_dim=32), **SCHEDULER)
"""Of the trace's size, so that all tests run one simulator."""
SETTINGS = LayerSettings.create(4, 32, kv_heads=2, normaliser=Normaliser.NONE, theta=[0, 2000, -300, 0])
POLICY = PolicySettings.create(Policy.H2O, 7, recent=2)
TOKENS = 12
CSRR_MCYCLEH, ILLEGAL = 0xB800_2073, 0


@pytest.fixture(name="image", scope="module")
def _image():
    return build_firmware(CONFIG).image


@pytest.fixture(name="system")
def _system(image):
    simulator = compile_bench(system_to_verilog(CONFIG, image), top="sparse_attention_system")
    with System(SimulatedTransport(simulator, CONFIG.unit.lanes), CONFIG) as system:
        yield system


def test_everything_is_equal(tmp_path):
    """Evictions by mass, gated heads, held streams."""
    report, settings = tmp_path / "report.json", tmp_path / "serial.toml"
    lines = (f"{name} = {json.dumps(value)}" for name, value in (UNIT | SCHEDULER).items())
    settings.write_text("\n".join(lines))
    policy = ("--policy", "h2o", "--budget", "6", "--gating", "2", "--normaliser", "none")
    options = ("--tokens", "9", "--layers", "0", *policy, "--stalls", "3", "--report", str(report))
    assert main(["simulate", TRACE, "--config", str(settings), *options]) == 0
    numbers = json.loads(report.read_text())
    assert numbers["mismatches"] == 0
    assert numbers["steps"] == 9
    assert numbers["evictions"]
    assert numbers["configuration"]["scheduler"]["hash"] == f"{CONFIG.hash:08x}"


def test_core_that_was_held_at_power_up_is_not_held_again(system, image):
    """CONTROL's ``hold`` is 1 at power-up: no command of the host may write it back. They did, and nothing replied."""
    system.restart()
    assert system.info().restarts == 1
    system.flush()
    assert system.info().restarts == 1
    system.load_firmware(image)
    assert system.info().restarts == 0


class Steps:
    """A sequence, token by token, beside the integer model."""

    def __init__(self, system: System):
        random = np.random.default_rng(5)
        self.arrays = [random.integers(-128, 128, (heads, TOKENS, 32), np.int8) for heads in (2, 2, 4)]
        k, v, q = map(torch.from_numpy, self.arrays)
        self.run = run_policy(SETTINGS, POLICY, q, k, v, layer=0, mass_bits=CONFIG.unit.mass_bits)
        system.configure_layer(0, SETTINGS)
        self.sequence, self.done = system.open_sequence(0, POLICY, 1), 0

    def submit(self):
        """The next token."""
        return self.sequence.submit_step(0, *(array[:, self.done] for array in self.arrays))

    def check(self, ticket) -> None:
        """Its answer, every bit."""
        heads = self.sequence.system.wait(ticket).heads
        for name, value in vars(heads).items():
            wanted = getattr(self.run.attention, name)
            assert (value is wanted is None) or np.array_equal(value, wanted[:, self.done].numpy()), (name, self.done)
        self.done += 1

    def go_on(self, tokens: int) -> None:
        """The next tokens."""
        for _ in range(tokens):
            self.check(self.submit())


def test_restarts_in_the_middle_of_a_step(system):
    """The unit is reset in whatever it does; what was under way is told, and the sequence is well once it was reset."""
    steps, aborted = Steps(system), 0
    for delay in range(0, 2400, 300):
        steps.sequence.reset()
        steps.done = 0
        steps.go_on(2)
        ticket = steps.submit()
        system.transport.delay(delay)
        system.restart(now=True)
        try:
            steps.check(ticket)
        except errors.AbortedError:
            aborted += 1
            with pytest.raises(errors.DamagedError):
                steps.go_on(1)
    assert aborted > 2
    steps.sequence.reset()
    steps.done = 0
    steps.go_on(TOKENS)


def test_firmware_that_traps_while_the_unit_works(system, image):
    """COUNTERS is broken in memory that the core and the unit share: it fails, and steps around it do not."""
    words = struct.unpack(f"<{len(image) // 4}I", image)
    at = next(index for index, word in enumerate(words) if word & 0xFFFF_F07F == CSRR_MCYCLEH)
    steps, mailbox = Steps(system), RawMailbox(system.transport, CONFIG)
    steps.go_on(3)
    mailbox.control(hold=1)
    system.transport.write_many(
        [(mailbox.address("MEMORY_ADDRESS"), 4 * at), (mailbox.address("MEMORY_DATA"), ILLEGAL)]
    )
    mailbox.control()
    assert system.info().restarts == 1
    before, broken = steps.submit(), system._commands.send(Operation.COUNTERS, 0, 0, (0,))
    steps.check(before)
    with pytest.raises(errors.FaultError):
        system.wait(broken)
    assert system.errors(clear=True) == ("trap",)
    steps.go_on(5)
