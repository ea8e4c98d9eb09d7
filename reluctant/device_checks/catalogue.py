"""All checks, in the order in which they run: what others rely on comes first."""

from .attention import attention_checks
from .check import Check
from .commands import command_checks
from .memory import memory_checks
from .registers import register_checks
from .soak import soak_checks

__all__ = ["all_checks"]


def all_checks() -> tuple[Check, ...]:
    """The same for every device; :attr:`Check.lacks` says what a build cannot run."""
    groups = (register_checks, memory_checks, attention_checks, command_checks, soak_checks)
    return tuple(check for group in groups for check in group())
