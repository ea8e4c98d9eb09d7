"""A check of a device, and what it gets to work with."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from reluctant.boards.host import System
from reluctant.golden.trace import Trace
from reluctant.hdl.config import UnitConfig
from reluctant.hdl.system_config import SystemConfig
from reluctant.report import build_report
from reluctant.runs import LayerRun
from reluctant.step_times import CounterTimes
from reluctant.steps import Scenario
from reluctant.system_runs import run_on

from .work import Work

__all__ = ["Bench", "Check", "CheckFailed", "CheckSkipped", "require"]


class CheckFailed(Exception):  # noqa: N818
    """The device did something else than it must; the message says what, for people."""


class CheckSkipped(Exception):  # noqa: N818
    """The check cannot run; the message says why."""


def require(ok: bool, message: str) -> None:
    """Raise :class:`CheckFailed` with the message unless ``ok``."""
    if not ok:
        raise CheckFailed(message)


@dataclass
class Bench:
    """A device under test, and what its checks share.

    Attributes
    ----------
    system
        Open; no sequence is open when a check begins, and none need be closed when it ends.
    seed
        Of everything that is drawn: the same seed gives the same checks.
    firmware
        Gives the image that the device must run; raises :class:`CheckSkipped` where there is none.
    minutes
        How long to soak.
    progress
        Called now and then by long checks, with a text or none.
    work
        What the check under way has run so far.
    """

    system: System
    seed: int
    firmware: Callable[[], bytes]
    minutes: float = 0.0
    progress: Callable[[str], None] = lambda text: None
    work: Work = field(default_factory=lambda: Work())

    @property
    def config(self) -> SystemConfig:
        """What the device was built with."""
        return self.system.config

    @property
    def unit(self) -> UnitConfig:
        """Its unit's part."""
        return self.config.unit

    def random(self, *what: int | str) -> np.random.Generator:
        """Random numbers for a purpose, of the bench's seed."""
        words = [zlib.crc32(item.encode()) if isinstance(item, str) else item for item in what]
        return np.random.default_rng([self.seed, *words])

    def run(self, trace: Trace, scenario: Scenario) -> dict:
        """Run a trace on the device, compare every bit, and give the report that ``reluctant simulate`` would write.

        Raises
        ------
        CheckFailed
            If anything differs; the first differences are in the message.
        """
        runs, whole = run_on(self.system, trace, scenario, times=CounterTimes)
        self.system.close_sequence(0)
        report = build_report([run.report for run in runs], self.configuration(), scenario, {}, whole)
        self.work.add(report)
        if report["mismatches"]:
            raise CheckFailed(f"{report['mismatches']:,} mismatches: {'; '.join(_examples(runs, whole))}")
        return report

    def configuration(self) -> dict:
        """The device's configuration, as in a report of ``reluctant simulate``."""
        scheduler = self.config.as_dict()
        del scheduler["unit"]
        scheduler["hash"] = f"{self.config.hash:08x}"
        return {**self.unit.as_dict(), "hash": f"{self.unit.hash:08x}", "scheduler": scheduler}


def _examples(runs: list[LayerRun], whole: dict) -> list[str]:
    lines = [
        f"layer {run.report['layer']}: {example}" for run in runs for example in run.report["mismatch_examples"][:3]
    ]
    return lines + list(whole["mismatch_examples"])


@dataclass(frozen=True)
class Check:
    """One check: what it is called, what it does to a device, and why a build cannot have it.

    Attributes
    ----------
    name
        ``group/what``; unique.
    run
        Raises :class:`CheckFailed` or :class:`CheckSkipped`, or returns.
    lacks
        Of a configuration, why the check does not apply to it; None if it does.
    """

    name: str
    run: Callable[[Bench], None]
    lacks: Callable[[SystemConfig], str | None] = lambda config: None

    @property
    def group(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]
