"""A whole system behind its serial line, through the same host as over any other line, against the integer model."""

import pytest

from reluctant.boards.host import System
from reluctant.boards.serial_transport import open_serial
from reluctant.golden.policies import Policy, PolicySettings
from reluctant.hdl.link_config import LinkConfig
from reluctant.hdl.verilog import linked_system_to_verilog
from reluctant.sim.virtual_board import Faults, VirtualBoard

from .systems import CONFIG, SETTINGS, check_answer, check_run, firmware, rows, twin

LINK = LinkConfig("tiny", clock_hz=12_000_000, baud=3_000_000)
BAD_LINE = {"drop": 3e-4, "flip": 3e-4, "duplicate": 3e-4}
TOKENS = 8


@pytest.fixture(scope="module")
def verilog() -> str:
    return linked_system_to_verilog(CONFIG, firmware(), LINK)


def check_steps(system: System) -> None:
    """Steps in both layers, several of them under way, then a prefill."""
    policy, arrays = PolicySettings.create(Policy.H2O, 10, recent=3), [rows(seed, TOKENS) for seed in (1, 2)]
    for layer in range(2):
        system.configure_layer(layer, SETTINGS, emit_context=True)
    sequence = system.open_sequence(1, policy, 2)
    tickets = [
        [sequence.submit_step(layer, *(array[:, token] for array in arrays[layer])) for layer in range(2)]
        for token in range(TOKENS - 4)
    ]
    for layer in range(2):
        run = twin(arrays[layer], policy, layer)
        check_run([system.wait(pair[layer]) for pair in tickets], run)
        rest = sequence.prefill(layer, *(array[:, TOKENS - 4 :] for array in arrays[layer]))
        for token, answer in enumerate(rest.answers, TOKENS - 4):
            check_answer(answer, run, token)
    assert system.errors() == ()


@pytest.mark.parametrize("faults", [{}, BAD_LINE], ids=["good line", "bad line"])
def test_steps_equal_the_model(verilog, faults):
    with VirtualBoard(verilog, LINK, faults=Faults(**faults)) as board:
        transport = open_serial(board.port, LINK.baud)
        identity = transport.identity
        assert (identity.name, identity.config_hash, identity.beat_bytes) == ("tiny", CONFIG.hash, CONFIG.unit.lanes)
        assert (identity.clock_hz, identity.buffer) == (LINK.clock_hz, LINK.buffer)
        with System(transport, CONFIG) as system:
            check_steps(system)


def test_host_goes_on_after_another_and_after_a_reset(verilog):
    """What a host leaves in the middle of steps, and a device that forgot all."""
    with VirtualBoard(verilog, LINK) as board:
        first = System(open_serial(board.port, LINK.baud), CONFIG)
        first.configure_layer(0, SETTINGS, emit_context=True)
        sequence = first.open_sequence(0, PolicySettings.create(Policy.REFUSE, 30), 1)
        arrays = rows(3, 4)
        for token in range(4):
            sequence.submit_step(0, *(array[:, token] for array in arrays))
        first.transport.close()
        with System(open_serial(board.port, LINK.baud), CONFIG) as second:
            second.restart()
            check_steps(second)
        board.reset()
        with System(open_serial(board.port, LINK.baud), CONFIG) as third:
            assert third.info().open == ()
