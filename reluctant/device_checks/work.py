"""What workloads did to a device, summed up in the words of the report of ``reluctant simulate``."""

from collections import Counter

from reluctant.report import ratio, sum_layers

__all__ = ["Work", "sum_wholes"]

COUNTS = ("evictions", "kept_mismatches", "heads_off")
"""Counts that layers of a system have beside those of a bare unit's."""
EXAMPLES = 5
FIRMWARE = ("active_cycles", "exposed_cycles", "instructions")


class Work:
    """Workloads, as many as one likes: kept are their sums.

    Attributes
    ----------
    layer
        As a layer in the report, ``layer`` itself left out; None before the first workload.
    whole
        As the numbers that a report has of the whole run beside its layers.
    scenario
        Of the latest workload, with the number of ``workloads``.
    """

    def __init__(self):
        self.layer: dict | None = None
        self.whole: dict = {}
        self.scenario: dict = {}

    @property
    def steps(self) -> int:
        """Steps done."""
        return self.layer["steps"] if self.layer else 0

    def add(self, report: dict) -> None:
        """Add the report of a workload."""
        layers = [*report["layers"], self.layer] if self.layer else report["layers"]
        total = sum_layers(layers) | {name: sum(layer[name] for layer in layers) for name in COUNTS}
        # What the counters of the whole run got wrong belongs to no layer of it.
        total["mismatches"] += report["mismatches"] - sum(layer["mismatches"] for layer in report["layers"])
        examples = [example for layer in layers for example in layer["mismatch_examples"]]
        total["mismatch_examples"] = [*examples, *report["mismatch_examples"]][:EXAMPLES]
        self.layer = total | {"heads": _sum_heads([layer["heads"] for layer in layers])}
        self.whole = sum_wholes([report, self.whole] if self.whole else [report])
        self.scenario = {**report["scenario"], "workloads": self.scenario.get("workloads", 0) + 1}


def _sum_heads(layers: list[list[dict]]) -> list[dict]:
    return [
        {
            "head": heads[0]["head"],
            "rows_read": dict(_sum([head["rows_read"] for head in heads])),
            **{name: sum(head[name] for head in heads) for name in ("rows_dense", "null", "fallbacks")},
        }
        for heads in zip(*layers, strict=True)
    ]


def sum_wholes(wholes: list[dict]) -> dict:
    """Numbers of whole runs, summed; mismatches left out, which layers have."""
    firmware = [whole["firmware"] for whole in wholes]
    total = {name: sum(item[name] for item in firmware) for name in FIRMWARE}
    active, steps = total["active_cycles"], sum(whole["steps"] for whole in wholes)
    return {
        "steps": steps,
        "refused_steps": sum(whole["refused_steps"] for whole in wholes),
        **{name: sum(whole[name] for whole in wholes) for name in COUNTS},
        "cycle_budget": dict(_sum([whole["cycle_budget"] for whole in wholes])),
        "counters": dict(_sum([whole["counters"] for whole in wholes])),
        "firmware": {
            **total,
            "hidden": ratio(active - total["exposed_cycles"], active),
            "cycles_per_instruction": ratio(active, total["instructions"]),
            "cycles_per_step": ratio(active, steps),
        },
    }


def _sum(parts: list[dict[str, int]]) -> Counter:
    total: Counter = Counter()
    for part in parts:
        total.update(part)
    return total
