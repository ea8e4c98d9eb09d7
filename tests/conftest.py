"""Options of the tests, and one thread for PyTorch: at these sizes threads only get in each other's way."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported


def pytest_addoption(parser):
    """How much the random integration tests draw, and from which seed."""
    group = parser.getgroup("reluctant")
    group.addoption("--configurations", type=int, default=2, help="units that the random tests draw (default: 2)")
    group.addoption("--configurations-seed", type=int, default=0, help="seed of these units (default: 0)")
    group.addoption("--commands", type=int, default=300, help="commands of a random host (default: 300)")
    group.addoption("--commands-seed", type=int, default=0, help="seed of these commands (default: 0)")
    group.addoption("--instructions", type=int, default=120_000, help="random ones on the core (default: 120,000)")
    group.addoption("--clocks", help="half periods of clk and unit_clk, for systems whose unit has its own: 13,7,3")
    group.addoption(
        "--transfers", type=int, default=20_000, help="random ones over a bad serial line (default: 20,000)"
    )
    device = parser.getgroup("reluctant ondevice", "a board, for tests/ondevice; as in 'reluctant ondevice --help'")
    device.addoption("--port", help="serial port of the board; without it these tests are skipped")
    device.addoption("--baud", type=int, help="its bit rate (default: those of all boards are tried)")
    device.addoption("--preset", help="what was built (default: the device's name)")
    device.addoption("--build", type=Path, metavar="DIR", help="what was built: a folder of build or generate")
    device.addoption("--device-seed", type=int, default=1, help="of all that is drawn (default: 1)")
    device.addoption("--minutes", type=float, default=0.1, help="how long random steps run (default: 0.1)")
