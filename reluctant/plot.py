"""A picture of a report: rows read against dense, and where the cycles went."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reluctant.golden.files import new_file

__all__ = ["draw", "write_plot"]

INK, FAINT, DENSE = "#22272e", "#6b7480", "#e4e8ec"
KEY, VALUE = "#2f6db5", "#e07b39"
BUDGET = (
    ("key", "keys", KEY),
    ("value", "values", VALUE),
    ("input_wait", "waiting for input", "#b9c2cc"),
    ("output_wait", "waiting for output", "#8d98a5"),
    ("pipeline_wait", "waiting for the pipeline", "#5a6572"),
    ("no_job", "no job", "#c9a3c4"),
)
MOST_LABELLED_HEADS = 48
SMALLEST_LABEL = 0.05
"""Share of a bar from which on a part is labelled."""


def draw(report: dict) -> Figure:
    """The figure of a report of :func:`reluctant.report.build_report`."""
    layers = report["layers"]
    bars = [(f"layer {layer['layer']}", layer["cycle_budget"]) for layer in layers if "cycle_budget" in layer]
    bars = bars or [("all layers", report["cycle_budget"])]
    budget_height = 0.9 + 0.36 * len(bars)
    figure = Figure(figsize=(11, 4.6 + budget_height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12, hspace=0.04)
    rows, budget = figure.subplots(2, 1, height_ratios=[3.1, budget_height])
    figure.suptitle(_title(report), x=0.012, ha="left", fontsize=13, fontweight="bold", color=INK)
    _draw_rows(rows, layers)
    _draw_budget(budget, bars)
    return figure


def _title(report: dict) -> str:
    dense, read = report["rows_dense"], sum(report["rows_read"].values())
    verdict = "bit-exact" if report["mismatches"] == 0 else f"{report['mismatches']:,} mismatches"
    return (
        f"{100 * read / dense:.0f}% of dense attention's rows read, "
        f"multipliers busy {100 * report['mac_utilisation']:.0f}% of {report['cycles']:,} cycles, {verdict}"
    )


def _style(axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8)
    axes.tick_params(length=0, labelsize=9, colors=FAINT)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_rows(axes, layers: list[dict]) -> None:
    """Two bars a head, keys and values, in front of the rows that dense attention reads."""
    x, places, centres = 0.0, [], []
    for layer in layers:
        start = x
        for head in layer["heads"]:
            places.append((x, head))
            x += 1
        centres.append((start + x - 1) / 2)
        x += 0.9
    dense = [head["rows_dense"] / 2 for _, head in places]
    for offset, name, colour, label in ((-0.2, "key", KEY, "key rows read"), (0.2, "value", VALUE, "value rows read")):
        spots = [place + offset for place, _ in places]
        read = [100 * head["rows_read"][name] / most for (_, head), most in zip(places, dense, strict=True)]
        axes.bar(spots, 100, 0.38, color=DENSE, label="dense" if name == "key" else None, zorder=2)
        axes.bar(spots, read, 0.38, color=colour, label=label, zorder=3)
    _style(axes, "Rows read by each head, in % of dense attention")
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100%"])
    axes.grid(axis="y", color="white", linewidth=0.8, zorder=4)
    axes.set_xlim(-0.7, x - 1.2)
    _label_heads(axes, layers, places, centres)
    handles, labels = axes.get_legend_handles_labels()
    order = [labels.index(name) for name in ("key rows read", "value rows read", "dense")]
    axes.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1,
    )


def _label_heads(axes, layers: list[dict], places: list, centres: list[float]) -> None:
    if len(places) <= MOST_LABELLED_HEADS:
        axes.set_xticks([place for place, _ in places], [str(head["head"]) for _, head in places], fontsize=8)
    else:
        axes.set_xticks([])
    for centre, layer in zip(centres, layers, strict=True):
        axes.annotate(
            f"layer {layer['layer']}, by head",
            (centre, 0),
            (0, -18),
            xycoords="data",
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9,
            color=INK,
        )


def _draw_budget(axes, bars: list[tuple[str, dict]]) -> None:
    """One bar a layer, or for all: the cycles of keys, of values, of each kind of wait, and without a job."""
    spots = list(range(len(bars)))
    left = [0] * len(bars)
    parts = [part for part in BUDGET if part[0] in bars[0][1]]
    for name, label, colour in parts:
        width = [bar[name] for _, bar in bars]
        axes.barh(spots, width, 0.66, left=left, color=colour, label=label, edgecolor="white", linewidth=0.6)
        left = [a + b for a, b in zip(left, width, strict=True)]
    longest = max(left) or 1
    for spot, (_, bar), end in zip(spots, bars, left, strict=True):
        _label_budget(axes, spot, bar, longest)
        axes.annotate(f"{end:,}", (end, spot), (5, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK)
    _style(axes, "Where the cycles went")
    axes.set_yticks(spots, [name for name, _ in bars])
    axes.set_ylim(len(bars) - 0.45, -0.55)
    axes.set_xlim(0, longest * 1.09)
    axes.set_xticks([])
    if not parts:  # the unit has no counters
        return
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(parts),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=1,
        columnspacing=1.2,
    )


def _label_budget(axes, spot: int, budget: dict, longest: int) -> None:
    """Write each part's share of its bar into the part, where it is wide enough."""
    total, left = sum(budget.values()), 0
    for name, _, colour in BUDGET:
        width = budget.get(name, 0)
        if width > SMALLEST_LABEL * longest:
            ink = INK if colour in ("#b9c2cc", "#c9a3c4") else "white"
            text = f"{100 * width / total:.0f}%"
            axes.text(left + width / 2, spot, text, ha="center", va="center", fontsize=8.5, color=ink)
        left += width


def write_plot(report: dict, path: Path | str) -> None:
    """Write the picture as PNG; no time or version goes into the file."""
    with new_file(path) as part:
        draw(report).savefig(part, format="png", dpi=140, metadata={"Software": None})
