"""The mailbox under a host that does anything: every command gets its answer, and nothing else changes.

Longer: ``pytest tests/integration/test_system_fuzz.py --commands 20000 --commands-seed 7``.
"""

import pytest

from reluctant.hdl.messages import Operation, Status

from .mailbox_fuzzer import Fuzzer
from .mailbox_model import Model
from .systems import CONFIG, open_system

USUAL = {Operation.INFO, Operation.OPEN, Operation.STEP, Operation.STATE, Operation.SLOTS, Operation.SET_LAYER}


@pytest.mark.parametrize("stalls", [False, True], ids=["", "stalls"])
def test_any_commands(request, stalls):
    commands, seed = (request.config.getoption(f"--commands{name}") for name in ("", "-seed"))
    seed = 2 * seed + stalls
    with open_system(layers=CONFIG.layers, stall_seed=seed if stalls else None) as system:
        fuzzer = Fuzzer(system.transport, Model(CONFIG.layers), seed)
        fuzzer.play(commands)
        fuzzer.finish()
    assert {operation for operation, status in fuzzer.seen if status is Status.OK} >= USUAL
    statuses = {status for _, status in fuzzer.seen}
    assert {Status.BAD_OPERATION, Status.BAD_LENGTH, Status.BAD_SEQUENCE, Status.BAD_LAYER} <= statuses
    assert {Status.BAD_VALUE, Status.CLOSED, Status.ALREADY_OPEN, Status.BAD_PACKET} <= statuses
