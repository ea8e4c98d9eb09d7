"""An energy model: events times energy per event. Good for ratios between runs, not a measurement.

Energies are those of M. Horowitz, "1.1 Computing's energy problem (and what we can do about it)", ISSCC 2014, pages
10-14 (45 nm, 0.9 V). Clocks, control, wires and leakage are left out.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["ENERGY_MODEL", "PJ_ADD_32", "PJ_MULTIPLY_8", "PJ_MULTIPLY_32", "Work", "energy_pj", "sram_pj_per_byte"]

PJ_MULTIPLY_8 = 0.2
PJ_MULTIPLY_32 = 3.1
PJ_ADD_8 = 0.03
PJ_ADD_32 = 0.1
SRAM_PJ = ((8 << 10, 10.0), (32 << 10, 20.0), (1 << 20, 100.0))
"""(bytes of the memory, picojoules per access of 64 bits)."""
SMALL_SRAM = 8 << 10
"""Bytes of the memory that stands for each small buffer."""

ENERGY_MODEL = {
    "source": "M. Horowitz, Computing's energy problem, ISSCC 2014: 45 nm, 0.9 V",
    "kind": "model: events times energy per event; no clocks, control, wires or leakage",
    "multiply_8_pj": PJ_MULTIPLY_8,
    "multiply_32_pj": PJ_MULTIPLY_32,
    "add_32_pj": PJ_ADD_32,
    "sram_64_bit_access_pj": {f"{size >> 10} KiB": energy for size, energy in SRAM_PJ},
}

SCORE_BYTES, WEIGHT_BYTES = 4, 3
"""Bytes of an entry of the score buffer (score, slot) and of the weight list (weight, slot)."""
NORMALISER_MULTIPLIES = 3
"""Per context element: its square, the scale and the gain; 32-bit multiplies, an upper bound."""


def sram_pj_per_byte(size: int) -> float:
    """Energy to read a byte of a memory of ``size`` bytes: log-log between the table's sizes, constant outside.

    A write counts as much as a read.
    """
    points = [(math.log(bytes_), math.log(energy / 8)) for bytes_, energy in SRAM_PJ]
    x = min(max(math.log(max(size, 1)), points[0][0]), points[-1][0])
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
    raise AssertionError("unreachable: x was clamped to the table")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run did, summed over its steps and heads.

    Attributes
    ----------
    key_rows, value_rows
        Rows read from the store.
    score_reads
        Entries of the score buffer read again for weighting.
    appended_rows
        Rows written to the store, keys and values counted apart.
    query_rows
        Queries loaded.
    result_rows
        Heads that were normalised; 0 without a normaliser.
    head_dim, beats
        Elements and beats of a row.
    store_bytes
        Size of the store.
    """

    key_rows: int
    value_rows: int
    score_reads: int
    appended_rows: int
    query_rows: int
    result_rows: int
    head_dim: int
    beats: int
    store_bytes: int


def energy_pj(work: Work) -> dict[str, float]:
    """Picojoules by component, and their ``total``."""
    store, small = sram_pj_per_byte(work.store_bytes), sram_pj_per_byte(SMALL_SRAM)
    rows, d = work.key_rows + work.value_rows, work.head_dim
    score_moves = work.key_rows + work.score_reads
    list_moves = work.value_rows * (1 + work.beats)
    parts = {
        "store_read": rows * d * store,
        "store_write": work.appended_rows * d * store,
        "multiply": rows * d * PJ_MULTIPLY_8,
        "accumulate": rows * d * PJ_ADD_32,
        "score_buffer": score_moves * SCORE_BYTES * small,
        "weight_list": list_moves * WEIGHT_BYTES * small,
        "input_buffer": 2 * (work.appended_rows + work.query_rows) * d * small,
        "normaliser": work.result_rows * d * NORMALISER_MULTIPLIES * PJ_MULTIPLY_32,
    }
    parts = {name: round(value, 3) for name, value in parts.items()}
    return {**parts, "total": round(sum(parts.values()), 3)}
