"""Runs checks on a device, one after the other, and goes on after those that fail."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from reluctant.boards.errors import HostError
from reluctant.boards.transport import BusError, NoPacketError, TransportError
from reluctant.golden.errors import UserError

from .device_checks import Bench, Check, CheckFailed, CheckSkipped
from .device_checks.work import Work

__all__ = ["Outcome", "Session", "run_checks"]

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
INTERRUPTED, GONE = "interrupted", "the device was lost"


@dataclass(frozen=True)
class Outcome:
    """What became of a check: ``passed``, ``failed`` or ``skipped``, why, how long it took, what it ran."""

    check: Check
    result: str
    message: str = ""
    seconds: float = 0.0
    work: Work = field(default_factory=Work)


@dataclass
class Session:
    """What became of all checks.

    Attributes
    ----------
    outcomes
        In order, one for each check.
    lost
        Why the device is not there any more; None if it is.
    interrupted
        The user wanted no more.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    lost: str | None = None
    interrupted: bool = False

    def count(self, result: str) -> int:
        """Checks with this result."""
        return sum(outcome.result == result for outcome in self.outcomes)

    @property
    def failed(self) -> int:
        """Checks that failed."""
        return self.count(FAILED)


def run_checks(
    bench: Bench,
    checks: Iterable[Check],
    begin: Callable[[Check], None] = lambda check: None,
    done: Callable[[Outcome], None] = lambda outcome: None,
) -> Session:
    """Run the checks; ``begin`` and ``done`` are called around each. Ends early, without an error, if the device is
    lost or the user interrupts: what did not run is skipped, and says so."""
    session = Session()
    for check in checks:
        begin(check)
        bench.work = Work()
        start = time.monotonic()
        result, message = _run(bench, check, session)
        outcome = Outcome(check, result, message, time.monotonic() - start, bench.work)
        session.outcomes.append(outcome)
        done(outcome)
    return session


def _run(bench: Bench, check: Check, session: Session) -> tuple[str, str]:
    """(result, why) of one check. No sequence is open behind it, or the device is lost."""
    if session.lost is not None or session.interrupted:
        return SKIPPED, INTERRUPTED if session.lost is None else GONE
    if lacking := check.lacks(bench.config):
        return SKIPPED, lacking
    result, message = PASSED, ""
    try:
        try:
            check.run(bench)
            for number in bench.system.info().open:
                bench.system.close_sequence(number)
        except CheckSkipped as reason:
            return SKIPPED, str(reason)
        except (CheckFailed, HostError, BusError, NoPacketError, UserError, ValueError) as error:
            # UserError: every step of a workload was refused. ValueError: an answer or a reply that makes no sense.
            result, message = FAILED, _words(error)
            _recover(bench)
    except KeyboardInterrupt:
        session.interrupted = True
        return SKIPPED, INTERRUPTED
    except (TransportError, HostError) as error:
        session.lost = f"{GONE} in {check.name}: {error}"
        return FAILED, _join(message, f"{GONE}: {error}")
    return result, message


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, CheckFailed | HostError | UserError) else f"{type(error).__name__}: {error}"


def _join(*messages: str) -> str:
    return "; then ".join(message for message in messages if message)


def _recover(bench: Bench) -> None:
    """A cold start, whatever the check left; with the firmware loaded anew if that is not enough."""
    try:
        bench.system.restart(cold=True, now=True)
    except HostError as error:
        try:
            image = bench.firmware()
        except CheckSkipped:
            raise error from None
        bench.system.load_firmware(image)
    with suppress(HostError):
        bench.system.errors(clear=True)
