"""JUnit files of device sessions, for CI servers."""

from pathlib import Path

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from reluctant.golden.files import new_file

from .device_session import FAILED, SKIPPED, Session

__all__ = ["write_junit"]

SUITE = "reluctant.ondevice"


def write_junit(session: Session, properties: dict[str, object], path: Path | str) -> None:
    """Write a file with one suite: a case for each check, its class the check's group.

    ``properties`` say what ran: device, configuration, seed.
    """
    suite = TestSuite(SUITE)
    for name, value in properties.items():
        suite.add_property(name, str(value))
    for outcome in session.outcomes:
        group, _, name = outcome.check.name.partition("/")
        case = TestCase(name, f"{SUITE}.{group}", round(outcome.seconds, 3))
        if outcome.result == FAILED:
            case.result = [Failure(outcome.message)]
        elif outcome.result == SKIPPED:
            case.result = [Skipped(outcome.message)]
        suite.add_testcase(case)
    xml = JUnitXml()
    xml.add_testsuite(suite)
    with new_file(path) as part:
        xml.write(str(part), pretty=True)
