"""The unit on a clock of its own: what breaks a system breaks this one no more. All of it: ``--clocks 13,7,3``."""

import pytest

from reluctant.sim.clocks import Clocks

from . import systems
from . import test_system_recovery as recovery
from .mailbox_fuzzer import Fuzzer
from .mailbox_model import Model


@pytest.fixture(
    autouse=True, params=[(1, 1, 1), (2, 1, 0), (1, 2, 1), (13, 7, 3)], ids=lambda value: str(Clocks(*value))
)
def clocks(request, monkeypatch):
    """Of every system."""
    monkeypatch.setattr(systems, "usual_clocks", Clocks(*request.param))


def test_host_stops_in_mid_packet_with_a_timeout():
    recovery.test_host_stops_in_mid_packet_with_a_timeout(7)


def test_warm_restart_with_steps_under_way():
    recovery.test_warm_restart_with_steps_under_way(520, 5)


def test_reset_in_mid_beat():
    with recovery.Scene() as scene:
        recovery.test_reset_in_mid_beat(scene)


def test_any_commands():
    with systems.open_system(layers=systems.CONFIG.layers, stall_seed=3) as system:
        fuzzer = Fuzzer(system.transport, Model(systems.CONFIG.layers), 1)
        fuzzer.play(40)
        fuzzer.finish()
