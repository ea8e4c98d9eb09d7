"""The report of a simulation: numbers per layer and in total, ready for JSON."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from reluctant.hdl.config import UnitConfig

from .compare import Comparison, LayerData
from .energy import ENERGY_MODEL, Work, energy_pj
from .files import new_file
from .steps import Scenario

__all__ = ["build_report", "layer_report", "write_report"]

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
SUMMED_PARTS = ("rows_read", "cycle_budget", "energy_pj", "energy_dense_pj")


def layer_report(
    layer: int,
    config: UnitConfig,
    head_dim: int,
    golden: LayerData,
    value_rows: np.ndarray,
    comparison: Comparison,
    run,
) -> dict:
    """Numbers of one layer's run.

    Parameters
    ----------
    golden, value_rows
        The integer model's fields, and the value rows (heads, tokens) that it reads.
    run
        :class:`reluctant.sim.run.Results` of the unit.
    """
    heads, tokens = golden["masked"].shape
    beats = head_dim // config.lanes
    length = np.arange(1, tokens + 1)
    key_rows = np.where(golden["masked"], 0, length)
    keys, values = int(key_rows.sum()), int(value_rows.sum())
    dense = heads * int(length.sum())
    weighting = np.where(golden["softmax"], length, golden["active"])
    running = int((~golden["masked"]).sum())
    normalised = {"run": running, "dense": heads * tokens} if "output" in golden else {"run": 0, "dense": 0}
    shared = {
        "appended_rows": 2 * config.kv_heads * tokens,
        "query_rows": heads * tokens,
        "head_dim": head_dim,
        "beats": beats,
        "store_bytes": 2 * config.sizes.rows * config.head_dim,
    }
    roofline = (keys + values) * beats
    latency = [step.latency for step in run.steps]
    return {
        "layer": layer,
        "mismatches": comparison.mismatches,
        "mismatch_examples": list(comparison.examples),
        "steps": tokens,
        "cycles": run.cycles,
        "roofline_cycles": roofline,
        "mac_utilisation": _ratio(roofline, run.cycles),
        "cycle_budget": {name: run.counters[counter] for name, counter in CYCLE_COUNTERS.items()},
        "latency_cycles": {"mean": round(float(np.mean(latency)), 1), "max": max(latency), "last": latency[-1]},
        "rows_read": {"key": keys, "value": values},
        "rows_dense": 2 * dense,
        "masked_heads": int(golden["masked"].sum()),
        "null_heads": int(golden["null"].sum()),
        "fallbacks": int(golden["fallback"].sum()),
        "softmax_heads": int(golden["softmax"].sum()),
        "bytes_read": (keys + values) * head_dim,
        "bytes_dense": 2 * dense * head_dim,
        "energy_pj": energy_pj(
            Work(
                key_rows=keys,
                value_rows=values,
                score_reads=int(weighting.sum()),
                result_rows=normalised["run"],
                **shared,
            )
        ),
        "energy_dense_pj": energy_pj(
            Work(key_rows=dense, value_rows=dense, score_reads=dense, result_rows=normalised["dense"], **shared)
        ),
        "heads": [
            {
                "head": head,
                "rows_read": {"key": int(key_rows[head].sum()), "value": int(value_rows[head].sum())},
                "rows_dense": 2 * int(length.sum()),
                "null": int(golden["null"][head].sum()),
                "fallbacks": int(golden["fallback"][head].sum()),
            }
            for head in range(heads)
        ],
        "counters": dict(run.counters),
    }


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0


def build_report(layers: list[dict], config: UnitConfig, scenario: Scenario, source: dict) -> dict:
    """The whole report: sums over the layers, the layers, and what was run.

    ``source`` says where the workload and the unit came from (trace, preset, simulator, stalls).
    """
    total = {name: sum(layer[name] for layer in layers) for name in SUMMED}
    for name in SUMMED_PARTS:
        total[name] = {part: round(sum(layer[name][part] for layer in layers), 3) for part in layers[0][name]}
    total["mac_utilisation"] = _ratio(total["roofline_cycles"], total["cycles"])
    steps = total["steps"]
    latencies = [layer["latency_cycles"] for layer in layers]
    total["latency_cycles"] = {
        "mean": round(
            sum(item["mean"] * layer["steps"] for item, layer in zip(latencies, layers, strict=True)) / steps, 1
        ),
        "max": max(item["max"] for item in latencies),
        "last": max(item["last"] for item in latencies),
    }
    return {
        "version": version("reluctant"),
        **source,
        **total,
        "scenario": scenario.as_dict(),
        "configuration": {**config.as_dict(), "hash": f"{config.hash:08x}"},
        "energy_model": ENERGY_MODEL,
        "layers": layers,
    }


def write_report(report: dict, path: Path | str) -> None:
    """Write the report as JSON: the same bytes for the same run."""
    with new_file(path) as part:
        part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
