"""The checks of ``reluctant ondevice``, one test each: ``pytest tests/ondevice --port /dev/ttyUSB0``."""

import pytest

from reluctant.device_checks import Bench, all_checks
from reluctant.device_session import FAILED, SKIPPED, run_checks
from reluctant.golden.errors import UserError

CHECKS = all_checks()


@pytest.fixture(name="bench", scope="session")
def _bench(pytestconfig):
    option = pytestconfig.getoption
    if option("--port") is None:
        pytest.skip("no --port: pytest tests/ondevice --port /dev/ttyUSB0 checks a board")
    from reluctant.device import DeviceRequest, connect

    names = ("port", "baud", "preset", "build")
    try:
        device = connect(DeviceRequest(**{name: option(f"--{name}") for name in names}))
    except UserError as error:
        pytest.exit(str(error), returncode=2)
    with device.transport:
        yield Bench(device.system, option("--device-seed"), device.firmware, option("--minutes"))


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_device(bench, check):
    session = run_checks(bench, [check])
    outcome = session.outcomes[0]
    if session.lost is not None:
        pytest.exit(session.lost, returncode=2)
    if session.interrupted:
        raise KeyboardInterrupt
    if outcome.result == SKIPPED:
        pytest.skip(outcome.message)
    assert outcome.result != FAILED, outcome.message
