"""The study as one HTML page that needs nothing else."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reluctant.golden.files import new_file

from .study_plots import PLOTS, colour_of
from .study_results import at_context
from .study_schedule import MEASURED, SETTLING
from .study_tables import verdict

__all__ = ["write_page"]

TEMPLATES = Path(__file__).parent / "data"


def write_page(study: dict, path: Path) -> None:
    """Write the page; the same bytes for the same study. UserError if it cannot be written."""
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    entries, unit = study["configurations"], study["configuration"]["unit"]
    text = environment.get_template("study.html.jinja").render(
        study=study,
        unit=unit,
        layers=len(entries[0]["masks"]),
        heads=unit["heads"],
        tokens=entries[0]["loss"]["tokens"],
        cards=_cards(study),
        verdict=verdict(study),
        rows=[_row(entry, study) for entry in entries],
        plots={name: draw(study) for name, draw in PLOTS.items()},
        events=_events(study["energy_model"]),
        measured=min(MEASURED, study["context"] // 2),
        settling=SETTLING,
        slow=max(entry["loss"]["stride"] for entry in entries),
    )
    with new_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _cards(study: dict) -> list[tuple[str, str]]:
    """Large numbers and what they are."""
    losses = {entry["group"]: entry["loss"]["loss"] for entry in reversed(study["configurations"])}
    bound = study["bound"]
    cards = [
        (f"{losses['c'] - losses['a']:+.3f} nats", "loss of (c), ReLU with dropped heads, over (a), dense softmax"),
        (f"{bound['dense_cycles']:,.0f}", f"cycles a token of (a) at context {bound['context']:,}"),
    ]
    if bound["best"] is not None:
        cards.append((f"{bound['cycles']:,.0f}", f"cycles a token of the best one: {bound['best']}"))
        cards.append((f"{bound['ratio']:.1f}x fewer", f"for {bound['rise']['mean']:+.3f} nats over (c)"))
    return cards


def _row(entry: dict, study: dict) -> dict:
    at, loss, rise = at_context(entry, study["context"]), entry["loss"], entry["rise"]
    cells = [
        f"{loss['loss']:.4f}",
        _error(loss["standard_error"]),
        f"{rise['mean']:+.4f}",
        _error(rise["standard_error"]),
        f"{loss['tokens']:,}",
        f"{at['cycles']:,.0f}",
        f"{study['bound']['dense_cycles'] / at['cycles']:.2f}",
        f"{at['key_rows']:,.0f}",
        f"{at['value_rows']:,.0f}",
        f"{at['bytes'] / 1024:,.1f}",
        f"{at['energy_pj']['total'] / 1e6:.3g}",
    ]
    best = entry["name"] == study["bound"]["best"]
    return {"group": entry["group"], "name": entry["name"], "colour": colour_of(entry), "cells": cells, "best": best}


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _events(model: dict) -> list[tuple[str, str]]:
    """What one of each event takes, in picojoules."""
    names = {"multiply_8_pj": "8-bit multiply", "multiply_32_pj": "32-bit multiply", "add_32_pj": "32-bit add"}
    rows = [(text, f"{model[name]:g}") for name, text in names.items()]
    memories = model["sram_64_bit_access_pj"].items()
    return rows + [(f"64 bits of a memory of {size}", f"{energy:g}") for size, energy in memories]
