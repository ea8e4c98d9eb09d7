"""Tables for people."""

from rich.console import Console
from rich.table import Table

__all__ = ["print_presets", "print_report"]

WIDTH = 110


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _row(name: str, item: dict) -> list[str]:
    dense = item["rows_dense"] / 2
    cells = [
        name,
        f"{item['cycles']:,}",
        f"{100 * item['mac_utilisation']:.1f}%",
        _percent(item["rows_read"]["key"], dense),
        _percent(item["rows_read"]["value"], dense),
        f"{item['null_heads']:,}",
        f"{item['fallbacks']:,}",
        f"{item['energy_pj']['total'] / 1e6:.2f}",
        _percent(item["energy_pj"]["total"], item["energy_dense_pj"]["total"]),
    ]
    return [*cells, "[green]equal[/]" if item["mismatches"] == 0 else f"[red]{item['mismatches']:,} differ[/]"]


def print_report(report: dict) -> None:
    """One line per layer, a total, what the columns mean, and the verdict."""
    console, config, scenario = _console(), report["configuration"], report["scenario"]
    console.print(
        f"{config['lanes']} lanes, {config['heads']} heads on {config['kv_heads']} KV heads of {config['head_dim']}, "
        f"{config['slots']} slots; {scenario['tokens']} tokens, mode {scenario['mode']}, "
        f"normaliser {scenario['normaliser']}"
    )
    if scenario["policy"] is not None:
        console.print(_policy(report))
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=len(report["layers"]) > 1)
    footer = _row("all", report)
    names = ("layer", "cycles", "MAC busy", "key rows", "value rows", "null", "fallback", "µJ", "of dense", "model")
    for index, name in enumerate(names):
        table.add_column(name, footer[index], justify="left" if name in ("layer", "model") else "right", no_wrap=True)
    for layer in report["layers"]:
        table.add_row(*_row(str(layer["layer"]), layer))
    console.print(table)
    console.print(
        "[dim]rows: read, in % of dense attention's; null: heads without an active row; µJ: a model of 45 nm[/]"
    )
    if "firmware" in report:
        console.print(_firmware(report["firmware"]))
    results = report["steps"] * config["heads"]
    if report["mismatches"] == 0:
        console.print(f"[green]bit-exact[/]: {results:,} head results equal the integer model's")
        return
    console.print(f"[red]{report['mismatches']:,} mismatches[/] in {results:,} head results. The first:")
    for layer in report["layers"]:
        for example in layer["mismatch_examples"][:3]:
            console.print(f"  layer {layer['layer']}: {example}", markup=False)
    for example in report.get("mismatch_examples", ()):
        console.print(f"  all layers: {example}", markup=False)


def _policy(report: dict) -> str:
    """The policy, its numbers, and what it did."""
    settings = dict(report["scenario"]["policy"])
    name, gating = settings.pop("policy"), report["scenario"]["gating"]
    numbers = ", ".join(f"{key} {value}" for key, value in settings.items())
    text = f"policy {name} ({numbers}): {report['evictions']:,} evictions"
    if report["refused_steps"]:
        text += f", {report['refused_steps']:,} steps refused"
    if gating["active"] or gating["mass"]:
        text += f"; heads off by gating: {report['heads_off']:,}"
    return text


def _firmware(numbers: dict) -> str:
    hidden = f"{100 * numbers['hidden']:.1f}% of them while the unit works"
    instructions = f"{numbers['cycles_per_instruction']:.2f} cycles an instruction"
    return f"firmware: {numbers['cycles_per_step']:,.0f} cycles a step, {hidden}; {instructions}"


def print_presets() -> None:
    """Every preset with its sizes."""
    from reluctant.boards.presets import CLOCKS, PRESETS, SUMMARIES

    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ("preset", "lanes", "head dim", "slots", "heads", "KV heads", "store", "clock", "what for")
    for name in names:
        table.add_column(name, justify="left" if name in ("preset", "what for") else "right")
    for name, system in PRESETS.items():
        config = system.unit
        store = 2 * config.sizes.rows * config.head_dim
        clock = f"{CLOCKS[name].mhz:g} MHz" if name in CLOCKS else "-"
        size = f"{store / 1024:g} KiB"
        numbers = (config.lanes, config.head_dim, config.slots, config.heads, config.kv_heads, size, clock)
        table.add_row(name, *map(str, numbers), SUMMARIES[name])
    _console().print(table)
