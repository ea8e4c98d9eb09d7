"""Programs that run side by side, none of which outlives the work that it was for."""

import subprocess
import threading
from pathlib import Path
from typing import Self

__all__ = ["Processes"]


class Processes:
    """Runs programs, from several threads too; leaving the ``with`` block, or :meth:`stop`, ends all that still run."""

    def __init__(self):
        self._running: dict[object, subprocess.Popen] = {}
        self._stopped: set[object] = set()
        self._lock = threading.Lock()

    def run(self, command: list[str], folder: Path, log: str, key: object = None) -> int:
        """Run in ``folder``, both outputs to the file ``log`` there; the exit status, negative if it was stopped."""
        with (folder / log).open("wb") as output:
            with self._lock:
                if key in self._stopped or None in self._stopped:
                    return -1
                process = subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
                self._running[process] = key
            try:
                return process.wait()
            finally:
                with self._lock:
                    del self._running[process]

    def stop(self, key: object = None) -> None:
        """End the programs of ``key``, of all if None, and let none of them start."""
        with self._lock:
            self._stopped.add(key)
            for process, its in self._running.items():
                if key is None or its == key:
                    process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
