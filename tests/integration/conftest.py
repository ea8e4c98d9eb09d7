"""Systems on two clocks, if asked for."""

import pytest

from reluctant.sim.clocks import Clocks

from . import systems


@pytest.fixture(autouse=True, scope="session")
def usual_clocks(request):
    """``--clocks 13,7,3``: units of systems have a clock of their own."""
    text = request.config.getoption("--clocks")
    systems.usual_clocks = Clocks(*map(int, text.split(","))).check() if text else None
