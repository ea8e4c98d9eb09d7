"""The study's pictures as SVG that takes its colours for text and lines from the page: dark and light both read.

Each function draws one figure of the values of :func:`reluctant.study_run.run_study`.
"""

import io
import itertools

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .study_results import at_context

__all__ = ["PLOTS", "colour_of"]

INK, FAINT, GRID, PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
"""Stand for the page's colours, see :func:`_svg`; no other colour is one of these."""
COLOURS = {"a": "#d1495b", "b": "#e08e45", "c": "#3f83d1", "e": "#d063a6"}
POLICY_COLOURS = {"streaming": "#1f9e8f", "h2o": "#8b6fc9", "buzz": "#b8902b", "nacl": "#6b9b37", "dms": "#8a8f98"}
BY_LAYER_COLOUR = "#0b7285"
ENERGY = (
    ("store_read", "rows read", "#3f83d1"),
    ("store_write", "rows written", "#8fb8e6"),
    ("multiply", "multiply", "#d1495b"),
    ("accumulate", "accumulate", "#eb9aa5"),
    ("score_buffer", "scores", "#1f9e8f"),
    ("weight_list", "weights", "#8accc4"),
    ("input_buffer", "input buffer", "#b8902b"),
    ("normaliser", "normaliser", "#8a8f98"),
)


def colour_of(entry: dict) -> str:
    """Of a configuration, in every picture and in the table."""
    if entry["group"] != "d":
        return COLOURS[entry["group"]]
    return BY_LAYER_COLOUR if _by_layer(entry) else POLICY_COLOURS[entry["policy"]["policy"]]


def _by_layer(entry: dict) -> bool:
    """Its layers have budgets of their own."""
    return entry["policy"] is not None and isinstance(entry["policy"]["budget"], list)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    FigureCanvasSVG(figure)
    return figure


def _style(axes: Axes, x: str = "", y: str = "", *, grid: str | None = "both") -> None:
    axes.patch.set_alpha(0)
    axes.set_xlabel(x, color=FAINT, fontsize=9.5)
    axes.set_ylabel(y, color=FAINT, fontsize=9.5)
    axes.tick_params(which="both", length=0, labelsize=9, colors=FAINT)
    for side in axes.spines.values():
        side.set_visible(False)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)


def _thousands(axis) -> None:
    """Numbers at 1, 2 and 5 times powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element of a page: the same text for the same figure."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in ((INK, "ink"), (FAINT, "faint"), (GRID, "grid"), (PAPER, "paper")):
        text = text.replace(colour, f"var(--{variable})")
    return text


def _legend(axes: Axes, **options) -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, handlelength=1.2, **options)


def quality(study: dict) -> str:
    """Loss against cycles per token."""
    figure = _figure(9.5, 4.6)
    axes = figure.subplots()
    context, entries = study["context"], study["configurations"]
    points = {entry["name"]: (at_context(entry, context)["cycles"], entry["loss"]["loss"]) for entry in entries}
    lines: dict[str, list[dict]] = {}
    triangles = itertools.cycle("^v<>")
    for entry in entries:
        lines.setdefault(_line(entry), []).append(entry)
    for name, members in lines.items():
        members = sorted(members, key=lambda entry: points[entry["name"]])
        x, y = zip(*(points[entry["name"]] for entry in members), strict=True)
        group = members[0]["group"]
        marker = {"a": "s", "b": "D", "e": next(triangles)}.get(group, "P" if _by_layer(members[0]) else "o")
        style = {"marker": marker, "markersize": 6.5, "linewidth": 1.2, "color": colour_of(members[0])}
        axes.plot(x, y, label=_short(members[0], name), **style)
    reference = next(entry for entry in entries if entry["group"] == "c")["loss"]["loss"]
    limit = study["bound"]["limit"]
    axes.axhline(reference + limit, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    note = f"{limit:g} nats over (c)"
    axes.annotate(note, (1, reference + limit), (-4, 4), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                  textcoords="offset points", fontsize=9, color=FAINT)  # fmt: skip
    best = study["bound"]["best"]
    if best is not None:
        axes.plot(*points[best], marker="o", markersize=14, markerfacecolor="none", markeredgecolor=INK, linewidth=0)
        text = f"{study['bound']['ratio']:.1f} times fewer cycles than (a)"
        axes.annotate(text, points[best], (12, -14), textcoords="offset points", fontsize=9.5, color=INK)
    axes.set_xscale("log")
    _thousands(axes.xaxis)
    _style(axes, f"cycles per token at context {context:,} (log)", "loss, nats per token")
    _legend(axes, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _svg(figure, "quality")


def _line(entry: dict) -> str:
    """What joins points: a policy with one budget for all layers, or with budgets of their own."""
    if entry["group"] != "d":
        return entry["name"]
    return entry["policy"]["policy"] + (", budgets by layer" if _by_layer(entry) else "")


def _short(entry: dict, name: str) -> str:
    """For a legend: (group) and the policy, or what the name says."""
    return f"({entry['group']}) {name}"


def sparsity(study: dict) -> str:
    """Zero weights by layer and head: of the softmax model, of the ReLU model, of the best configuration."""
    entries = [next(entry for entry in study["configurations"] if entry["group"] == group) for group in "ac"]
    best = study["bound"]["best"]
    entries += [entry for entry in study["configurations"] if entry["name"] == best]
    figure = _figure(3.4 * len(entries) + 0.5, 0.36 * len(entries[0]["loss"]["layers"]) + 1.5)
    for axes, entry in zip(figure.subplots(1, len(entries), squeeze=False)[0], entries, strict=True):
        for layer, part in enumerate(entry["loss"]["layers"]):
            for head, share in enumerate(part["head_zero_shares"]):
                off = entry["masks"][layer] >> head & 1
                strength = 0.12 + 0.88 * share
                box = {"facecolor": GRID if off else COLOURS["c"], "alpha": 0.5 if off else strength}
                axes.add_patch(Rectangle((head - 0.47, layer - 0.46), 0.94, 0.92, linewidth=0, **box))
                text, ink = ("off", FAINT) if off else (f"{100 * share:.0f}", "white" if strength > 0.55 else INK)
                axes.text(head, layer, text, ha="center", va="center", fontsize=8.5, color=ink)
        heads, layers = len(entry["loss"]["layers"][0]["head_zero_shares"]), len(entry["loss"]["layers"])
        axes.set_xlim(-0.6, heads - 0.4)
        axes.set_ylim(layers - 0.4, -0.6)
        axes.set_xticks(range(heads))
        axes.set_yticks(range(layers))
        axes.set_title(_short(entry, entry["name"]), loc="left", fontsize=10, color=INK)
        _style(axes, "head", "layer", grid=None)
    return _svg(figure, "sparsity")


def energy(study: dict) -> str:
    """Energy per token by component, a bar a configuration."""
    entries = study["configurations"]
    figure = _figure(9.5, 0.31 * len(entries) + 1.5)
    axes = figure.subplots()
    parts = [at_context(entry, study["context"])["energy_pj"] for entry in entries]
    left = [0.0] * len(entries)
    for name, label, colour in ENERGY:
        width = [part[name] / 1e6 for part in parts]
        axes.barh(range(len(entries)), width, 0.68, left=left, color=colour, label=label)
        left = [one + more for one, more in zip(left, width, strict=True)]
    for spot, end in enumerate(left):
        axes.annotate(f"{end:.3g}", (end, spot), (4, 0), textcoords="offset points", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(entries)), [_short(entry, entry["name"]) for entry in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.set_xlim(0, max(left) * 1.08)
    _style(axes, f"µJ per token at context {study['context']:,}, by a model of 45 nm", grid="x")
    axes.tick_params(axis="y", colors=INK)
    _legend(axes, loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=4)
    return _svg(figure, "energy")


def frequency(study: dict) -> str:
    """By how much the loss is over that of (a), for symbols frequent and rare in training."""
    best, entries = study["bound"]["best"], study["configurations"]
    shown = [entry for entry in entries if entry["group"] in "bce" or entry["name"] == best]
    reference = next(entry for entry in entries if entry["group"] == "a")["loss"]["groups"]
    groups = [index for index, group in enumerate(reference) if group["tokens"]]
    figure = _figure(9.5, 3.9)
    axes = figure.subplots()
    for entry in shown:
        parts = [entry["loss"]["groups"][index] for index in groups]
        rise = [
            None if part["loss"] is None else part["loss"] - reference[index]["loss"]
            for index, part in zip(groups, parts, strict=True)
        ]
        style = {"marker": "^" if entry["group"] == "e" else "o", "linewidth": 1.3, "color": colour_of(entry)}
        if entry["group"] == "e":
            number = [item["name"] for item in shown if item["group"] == "e"].index(entry["name"])
            style["linestyle"] = ("-", (0, (5, 2)), (0, (1, 1.5)))[number % 3]
        axes.plot(range(len(groups)), rise, label=_short(entry, entry["name"]), **style)
    axes.axhline(0, color=FAINT, linewidth=1)
    labels = [
        f"seen {reference[index]['least']:,} to {reference[index]['most']:,}\n{reference[index]['tokens']:,} tokens"
        for index in groups
    ]
    axes.set_xticks(range(len(groups)), labels)
    _style(axes, "fifths of the symbols, frequent to rare in training", "nats per token over (a)")
    _legend(axes, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _svg(figure, "frequency")


def scaling(study: dict) -> str:
    """Cycles per token against the context."""
    figure = _figure(9.5, 4.6)
    axes = figure.subplots()
    best = study["bound"]["best"]
    for entry in study["configurations"]:
        at = entry["cycles"]["contexts"]
        strong = entry["group"] in "abc" or entry["name"] == best
        style = {"color": colour_of(entry), "linewidth": 2.2 if strong else 1, "alpha": 1 if strong else 0.7}
        label = _short(entry, entry["name"]) if strong else None
        axes.plot([item["context"] for item in at], [item["cycles"] for item in at], marker="o", markersize=4,
                  label=label, **style)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    contexts = [item["context"] for item in study["configurations"][0]["cycles"]["contexts"]]
    axes.axvline(study["context"], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    note = "the models' context"
    axes.annotate(note, (study["context"], 0.02), (4, 0), xycoords=("data", "axes fraction"),
                  textcoords="offset points", fontsize=9, color=FAINT)  # fmt: skip
    axes.set_xticks(contexts, [f"{context:,}" for context in contexts])
    axes.xaxis.set_minor_formatter(NullFormatter())
    _thousands(axes.yaxis)
    _style(axes, "context, tokens (log)", "cycles per token (log)")
    _legend(axes, loc="upper left")
    return _svg(figure, "scaling")


PLOTS = {
    "quality": quality,
    "scaling": scaling,
    "sparsity": sparsity,
    "energy": energy,
    "frequency": frequency,
}
"""By the names that the page's template uses."""
