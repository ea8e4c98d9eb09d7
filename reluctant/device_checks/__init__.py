"""What ``reluctant ondevice`` and ``pytest tests/ondevice`` run on a device, whatever transport reaches it."""

from .catalogue import all_checks
from .check import Bench, Check, CheckFailed, CheckSkipped

__all__ = ["Bench", "Check", "CheckFailed", "CheckSkipped", "all_checks"]
