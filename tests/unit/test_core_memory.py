"""What the core's memory refuses."""

from reluctant.hdl.core_memory import CoreMemory

from .helpers import refuses


def test_firmware_must_fit():
    refuses(lambda: CoreMemory(16, bytes(17)), "contents are 17 bytes: at most 16 fit the memory")
