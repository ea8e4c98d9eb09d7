"""A study's JSON: what was measured, kept after each part, so that a study that was stopped goes on."""

import hashlib
import json
import threading
from importlib.metadata import version
from pathlib import Path

from reluctant.golden.checkpoint import write_json
from reluctant.golden.errors import UserError

from .energy import ENERGY_MODEL
from .study_configurations import GROUPS
from .study_quality import difference

__all__ = ["LIMIT", "Results", "bound", "fingerprint"]

LIMIT = 0.05
"""The rise of the loss, in nats a token, that the best configuration may have over (c)."""
PARTS = ("loss", "cycles")


def fingerprint(*parts: object) -> str:
    """Tells inputs apart: 16 hex digits of plain values and bytes."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode())
        total.update(b"\0")
    return total.hexdigest()[:16]


class Results:
    """Measured parts by key, in a file that is complete after each.

    Parameters
    ----------
    path
        An earlier study's file, or a new one.

    Raises
    ------
    UserError
        If there is a file of something else.
    """

    def __init__(self, path: Path):
        self._path, self._lock = path, threading.Lock()
        self._parts: dict[str, dict] = {}
        if path.exists():
            try:
                self._parts = dict(json.loads(path.read_text(encoding="utf-8"))["measured"])
            except (OSError, ValueError, KeyError, TypeError):
                raise UserError(f"{path}: is no study: move it away, or choose another folder with --out") from None

    def __contains__(self, key: str) -> bool:
        return key in self._parts

    def __getitem__(self, key: str) -> dict:
        return self._parts[key]

    def add(self, key: str, values: dict) -> None:
        """Keep a part, in the file too."""
        with self._lock:
            self._parts[key] = values
            write_json(self._path, {"complete": False, "measured": self._parts})

    def finish(self, head: dict, keys: list[dict]) -> dict:
        """Write and give the whole study. ``keys``: of each configuration ``about`` and the keys of its parts.

        Parts that belong to none of them are left out.
        """
        entries = [item["about"] | {part: self._parts[item[part]] for part in PARTS} for item in keys]
        by_name = {entry["name"]: entry for entry in entries}
        reference = next(entry for entry in entries if entry["group"] == "c")
        for entry in entries:
            entry["rise"] = difference(entry["loss"], reference["loss"])
        used = {item[part] for item in keys for part in PARTS}
        study = {
            "complete": True,
            "version": version("reluctant"),
            **head,
            "groups": GROUPS,
            "bound": bound(list(by_name.values()), head["context"]),
            "mismatches": sum(entry["cycles"]["mismatches"] for entry in entries),
            "head_results": sum(entry["cycles"]["head_results"] for entry in entries),
            "energy_model": ENERGY_MODEL,
            "configurations": entries,
        }
        write_json(self._path, study | {"measured": {key: self._parts[key] for key in sorted(used)}})
        return study


def at_context(entry: dict, context: int) -> dict:
    """The numbers of a configuration at a context."""
    return next(item for item in entry["cycles"]["contexts"] if item["context"] == context)


def bound(entries: list[dict], context: int, limit: float = LIMIT) -> dict:
    """The configuration of (d) and (e) with the least cycles whose loss is at most ``limit`` above that of (c).

    ``best`` is None where none is good enough.
    """
    dense = at_context(next(entry for entry in entries if entry["group"] == "a"), context)["cycles"]
    good = [entry for entry in entries if entry["group"] in "de" and entry["rise"]["mean"] <= limit]
    values = {"limit": limit, "context": context, "dense_cycles": dense, "best": None}
    if not good:
        return values
    best = min(good, key=lambda entry: at_context(entry, context)["cycles"])
    cycles = at_context(best, context)["cycles"]
    return values | {"best": best["name"], "cycles": cycles, "ratio": dense / cycles, "rise": best["rise"]}
