"""The bundled trace is what its card says."""

from pathlib import Path

import pytest
import torch

import reluctant
from reluctant.golden.integer import run_layer
from reluctant.golden.trace import load_trace

DATA = Path(reluctant.__file__).parent / "data"


def test_demo_trace():
    trace = load_trace(DATA / "demo.npz")
    assert (DATA / "demo.npz").stat().st_size < 250_000
    assert trace.q.shape == (3, 4, 128, 32)
    assert trace.k.shape == trace.v.shape == (3, 2, 128, 32)
    card = (DATA / "README.md").read_text()
    for layer in range(trace.layers):
        result = run_layer(trace.settings(layer), *(torch.from_numpy(a[layer]) for a in (trace.q, trace.k, trace.v)))
        share = result.value_rows.sum().item() / (trace.heads * result.rows.sum().item())
        cells = next(line for line in card.splitlines() if line.startswith(f"| {layer} |")).split("|")
        assert float(cells[3].strip(" %")) == pytest.approx(100 * share, abs=0.05)
        assert int(cells[4]) == result.null.sum().item()
        assert result.output.abs().max() > 100
