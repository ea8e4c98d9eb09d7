"""A study's values, made up: three contexts, two layers of two heads."""

from reluctant.energy import Work, energy_pj

__all__ = ["LOSSES", "measured", "parts"]

CONTEXTS = (8, 16, 32)
LOSSES = {"a": 2.0, "b": 2.1, "c": 2.2, "d1": 2.22, "d2": 2.3, "e": 2.24}
CYCLES = {"a": 800, "b": 600, "c": 400, "d1": 90, "d2": 40, "e": 80}


def measured(name: str, *, stride: int = 1) -> tuple[dict, dict]:
    """(loss, cycles) of a configuration."""
    windows = [LOSSES[name] + rise for rise in (-0.3, -0.1, 0.1, 0.3)][::stride]
    mean = sum(windows) / len(windows)
    groups = [
        {"least": 9 - 4 * number, "most": 12 - 4 * number, "tokens": tokens, "loss": mean if tokens else None}
        for number, tokens in enumerate((40, 24, 0))
    ]  # fmt: skip
    loss = {
        "windows": len(windows),
        "context": 16,
        "tokens": 16 * len(windows),
        "loss": mean,
        "standard_error": None if len(windows) < 2 else 0.1,
        "window_losses": windows,
        "stride": stride,
        "groups": groups,
        "layers": [{"head_zero_shares": [0.25, 1.0]}, {"head_zero_shares": [0.5, 0.75]}],
    }
    work = Work(key_rows=64, value_rows=16, score_reads=20, appended_rows=4, query_rows=4, result_rows=4, head_dim=16,
                beats=2, store_bytes=4096)  # fmt: skip
    contexts = [
        {
            "context": context,
            "tokens": 4,
            "cycles": float(CYCLES[name] * context / 16),
            "key_rows": 64.0,
            "value_rows": 16.0,
            "bytes": 1280.0,
            "energy_pj": energy_pj(work),
        }
        for context in CONTEXTS
    ]
    return loss, {"contexts": contexts, "head_results": 96, "mismatches": 0, "mismatch_examples": []}


def parts() -> tuple[dict[str, dict], list[dict], dict]:
    """(measured parts by key, keys of configurations, head) for :class:`reluctant.study_results.Results`."""
    policies = {"d1": {"policy": "h2o", "budget": 8, "recent": 4}, "d2": {"policy": "streaming", "budget": [4, 8]}}
    kept, keys = {}, []
    for name in LOSSES:
        kept[f"{name} loss"], kept[f"{name} cycles"] = measured(name, stride=2 if name == "d2" else 1)
        about = {
            "name": f"<{name}>",
            "group": name[0],
            "policy": policies.get(name),
            "masks": [0, 0 if name == "a" else 2],
        }
        keys.append({"about": about, "loss": f"{name} loss", "cycles": f"{name} cycles"})
    unit = {"heads": 2, "kv_heads": 2, "head_dim": 16, "lanes": 8}
    head = {
        "text": "held & out.txt",
        "models": {"relu": "relu", "softmax": "softmax"},
        "context": 16,
        "quick": False,
        "configuration": {"unit": unit, "hash": "0123abcd"},
    }
    return kept, keys, head
