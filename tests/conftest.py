"""Options of the tests."""


def pytest_addoption(parser):
    """How many units the random integration tests draw, and from which seed."""
    group = parser.getgroup("reluctant")
    group.addoption("--configurations", type=int, default=2, help="units that the random tests draw (default: 2)")
    group.addoption("--configurations-seed", type=int, default=0, help="seed of these units (default: 0)")
