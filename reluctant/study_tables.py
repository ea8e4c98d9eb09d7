"""The study for a terminal."""

from rich.console import Console
from rich.table import Table

from .study_results import at_context

__all__ = ["print_study", "verdict"]

WIDTH = 140


def print_study(study: dict) -> None:
    """A line for each configuration, and what the best one saves."""
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=WIDTH)
    context = study["context"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ("", "configuration", "loss", "over c", "±", "cycles", "fewer", "key rows", "value rows", "KiB", "µJ")
    for name in names:
        table.add_column(name, justify="left" if name in ("", "configuration") else "right", no_wrap=True)
    dense = study["bound"]["dense_cycles"]
    for entry in study["configurations"]:
        at, rise = at_context(entry, context), entry["rise"]
        error = rise["standard_error"]
        table.add_row(
            entry["group"],
            entry["name"],
            f"{entry['loss']['loss']:.4f}",
            f"{rise['mean']:+.4f}",
            "-" if error is None else f"{error:.4f}",
            f"{at['cycles']:,.0f}",
            f"{dense / at['cycles']:.1f}x",
            f"{at['key_rows']:,.0f}",
            f"{at['value_rows']:,.0f}",
            f"{at['bytes'] / 1024:,.0f}",
            f"{at['energy_pj']['total'] / 1e6:.3g}",
        )
    console.print(table)
    console.print(
        f"[dim]a token at context {context:,}, all layers; fewer: cycles than (a); ±: standard error of 'over c', "
        "window by window; µJ: a model of 45 nm[/]"
    )
    console.print(verdict(study))
    if study["mismatches"]:
        console.print(f"[red]{study['mismatches']:,} mismatches[/] in {study['head_results']:,} head results")
    else:
        console.print(f"[green]bit-exact[/]: {study['head_results']:,} head results equal the integer model's")


def verdict(study: dict) -> str:
    """What the best configuration saves, in a sentence."""
    bound = study["bound"]
    if bound["best"] is None:
        return f"No configuration of (d) and (e) is within {bound['limit']:g} nats of (c)."
    return (
        f"{bound['best']}: {bound['cycles']:,.0f} cycles a token at context {bound['context']:,}, {bound['ratio']:.2f} "
        f"times fewer than dense softmax's {bound['dense_cycles']:,.0f}, for {bound['rise']['mean']:+.4f} nats a token "
        "over (c)."
    )
