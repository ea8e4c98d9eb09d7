"""The report of a simulation: numbers per layer and in total, ready for JSON."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from reluctant.golden.files import new_file
from reluctant.hdl.config import UnitConfig

from .compare import Comparison, ModelLayer
from .energy import ENERGY_MODEL, Work, energy_pj
from .steps import Scenario

__all__ = ["Timing", "build_report", "cycle_budget", "layer_report", "ratio", "sum_layers", "write_report"]

CYCLE_COUNTERS = {
    "key": "KEY_BEATS",
    "value": "VALUE_BEATS",
    "input_wait": "INPUT_WAIT_CYCLES",
    "output_wait": "OUTPUT_WAIT_CYCLES",
    "pipeline_wait": "PIPELINE_WAIT_CYCLES",
}
SUMMED = (
    "mismatches",
    "steps",
    "cycles",
    "roofline_cycles",
    "rows_dense",
    "masked_heads",
    "null_heads",
    "fallbacks",
    "softmax_heads",
    "bytes_read",
    "bytes_dense",
)
LATENCIES = ("mean", "max", "last")
SUMMED_PARTS = ("rows_read", "cycle_budget", "energy_pj", "energy_dense_pj")


@dataclass(frozen=True)
class Timing:
    """Cycles of a layer, and of each of its steps from the last input beat to the first output beat, where known."""

    cycles: int
    latencies: list[int]


def layer_report(
    layer: int, config: UnitConfig, head_dim: int, model: ModelLayer, comparison: Comparison, timing: Timing
) -> dict:
    """Numbers of one layer's run; dense attention, to compare with, keeps every row."""
    golden = model.data
    heads, tokens = golden["masked"].shape
    beats = head_dim // config.lanes
    key_rows = np.where(golden["masked"], 0, model.rows)
    keys, values = int(key_rows.sum()), int(model.value_rows.sum())
    dense = tokens * (tokens + 1) // 2
    weighting = np.where(golden["softmax"], model.rows, golden["active"])
    running = int((~golden["masked"]).sum())
    normalised = {"run": running, "dense": heads * tokens} if "output" in golden else {"run": 0, "dense": 0}
    shared = {
        "appended_rows": 2 * config.kv_heads * tokens,
        "query_rows": heads * tokens,
        "head_dim": head_dim,
        "beats": beats,
        "store_bytes": 2 * config.sizes.rows * config.head_dim,
    }
    work = Work(
        key_rows=keys,
        value_rows=values,
        score_reads=int(weighting.sum()),
        result_rows=normalised["run"],
        **shared,
    )
    all_work = Work(
        key_rows=heads * dense,
        value_rows=heads * dense,
        score_reads=heads * dense,
        result_rows=normalised["dense"],
        **shared,
    )
    roofline = (keys + values) * beats
    return {
        "layer": layer,
        "mismatches": comparison.mismatches,
        "mismatch_examples": list(comparison.examples),
        "steps": tokens,
        "cycles": timing.cycles,
        "roofline_cycles": roofline,
        "mac_utilisation": ratio(roofline, timing.cycles),
        "latency_cycles": _latency(timing.latencies),
        "rows_read": {"key": keys, "value": values},
        "rows_dense": 2 * heads * dense,
        "masked_heads": int(golden["masked"].sum()),
        "null_heads": int(golden["null"].sum()),
        "fallbacks": int(golden["fallback"].sum()),
        "softmax_heads": int(golden["softmax"].sum()),
        "bytes_read": (keys + values) * head_dim,
        "bytes_dense": 2 * heads * dense * head_dim,
        "energy_pj": energy_pj(work),
        "energy_dense_pj": energy_pj(all_work),
        "heads": [
            {
                "head": head,
                "rows_read": {"key": int(key_rows[head].sum()), "value": int(model.value_rows[head].sum())},
                "rows_dense": 2 * dense,
                "null": int(golden["null"][head].sum()),
                "fallbacks": int(golden["fallback"][head].sum()),
            }
            for head in range(heads)
        ],
    }


def cycle_budget(counters: dict[str, int], cycles: int | None = None) -> dict[str, int]:
    """Where the unit's cycles went; ``no_job`` are those of ``cycles`` in which it had none. Empty without counters."""
    if not counters:
        return {}
    budget = {name: counters[counter] for name, counter in CYCLE_COUNTERS.items()}
    return budget if cycles is None else {**budget, "no_job": max(0, cycles - counters["BUSY_CYCLES"])}


def ratio(part: float, whole: float) -> float:
    """Rounded, for JSON; 0 of nothing."""
    return round(part / whole, 6) if whole else 0.0


def build_report(layers: list[dict], configuration: dict, scenario: Scenario, source: dict, whole: dict) -> dict:
    """The whole report: sums over the layers, the layers, and what was run.

    Parameters
    ----------
    configuration
        Of the unit or system, with its hash.
    source
        Where the workload and the unit came from: trace, preset, simulator, stalls.
    whole
        Numbers of the whole run that layers do not have; its ``mismatches`` are added to theirs.
    """
    whole = dict(whole)
    total = sum_layers(layers)
    total["mismatches"] += whole.pop("mismatches", 0)
    return {
        "version": version("reluctant"),
        **source,
        **total,
        **whole,
        "scenario": scenario.as_dict(),
        "configuration": configuration,
        "energy_model": ENERGY_MODEL,
        "layers": layers,
    }


def sum_layers(layers: list[dict]) -> dict:
    """What layers have in common in the report: sums, and ratios of these."""
    total = {name: sum(layer[name] for layer in layers) for name in SUMMED}
    for name in SUMMED_PARTS:
        if layers and name in layers[0]:
            total[name] = {part: round(sum(layer[name][part] for layer in layers), 3) for part in layers[0][name]}
    total["mac_utilisation"] = ratio(total["roofline_cycles"], total["cycles"])
    total["latency_cycles"] = _total_latency(layers)
    return total


def _latency(latencies: list[int]) -> dict:
    """Of one layer; None where a device does not tell."""
    if not latencies:
        return dict.fromkeys(LATENCIES)
    return dict(zip(LATENCIES, (round(float(np.mean(latencies)), 1), max(latencies), latencies[-1]), strict=True))


def _total_latency(layers: list[dict]) -> dict:
    known = [(layer["latency_cycles"], layer["steps"]) for layer in layers]
    if not known or any(item["mean"] is None for item, _ in known):
        return dict.fromkeys(LATENCIES)
    mean = sum(item["mean"] * steps for item, steps in known) / sum(steps for _, steps in known)
    greatest = (max(item[name] for item, _ in known) for name in LATENCIES[1:])
    return dict(zip(LATENCIES, (round(mean, 1), *greatest), strict=True))


def write_report(report: dict, path: Path | str) -> None:
    """Write the report as JSON: the same bytes for the same run."""
    with new_file(path) as part:
        part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
