"""``reluctant evaluate``: how well a model predicts a text, in the unit's arithmetic or in float."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.golden.errors import UserError

from .choices import ModeName, PolicyName
from .options import Gating, MaskFile, MinActive, MinMass, Normalised, Policy, Recent, Seed, Share, Sinks, Stride

if TYPE_CHECKING:
    from .policy_options import PolicyOptions

__all__ = ["bar", "evaluate"]

UNIT_BATCH, FLOAT_BATCH = 32, 8


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Deployed file, folder of train, relu or softmax.")],
    text: Annotated[Path, typer.Option("--text", metavar="FILE", help="Held-out text; .xz is unpacked.")],
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens to predict, about. [default: all]")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of a window. [default: as trained]")] = None,
    mode: Annotated[ModeName | None, typer.Option(help="How scores become weights. [default: as trained]")] = None,
    min_active: MinActive = 0,
    min_mass: MinMass = 0,
    mask: MaskFile = None,
    policy: Policy = PolicyName.REFUSE,
    budget: Annotated[
        str | None, typer.Option(metavar="64|24/24/192", help="Rows that all layers, or each, keep. [default: all]")
    ] = None,
    sinks: Sinks = None,
    recent: Recent = None,
    stride: Stride = None,
    share: Share = None,
    seed: Seed = None,
    normalised: Normalised = None,
    gating: Gating = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND:LAYERS", help="Damage attention: shuffle:0-2 or remove:3; may be repeated."),
    ] = None,
    in_float: Annotated[bool, typer.Option("--float", help="Attention in float instead of the unit's int8.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write all numbers.")] = None,
) -> None:
    """Measure a model's loss on held-out text.

    Attention is computed by the integer model of the unit, bit for bit, unless --float is given. Windows are evenly
    spread over the text; each starts from an empty context. A folder of 'reluctant train' has no int8 yet and needs
    --float.

    \b
    Examples:
      reluctant evaluate relu --text valid.txt --tokens 20000
      reluctant evaluate relu --text valid.txt --policy h2o --budget 64 --mask mask.json --report report.json
      reluctant evaluate relu --text valid.txt --mask relu --policy streaming --budget 24/24/24/24/192/24
      reluctant evaluate softmax --text valid.txt --ablate shuffle:0-5
    """
    from .models import encode_text, open_model
    from .policy_options import PolicyOptions, parse_budget

    loaded = open_model(model)
    config = loaded.decoder.config
    rows = None if budget is None else parse_budget("--budget", budget, config.layers)
    context = config.context if context is None else context
    options = PolicyOptions(
        policy=policy.value,
        budget=min(rows) if isinstance(rows, tuple) else rows,
        sinks=sinks,
        recent=recent,
        stride=stride,
        share=share,
        seed=seed,
        normalised=normalised,
        gating=gating,
    )
    words = {"mode": mode, "min_active": min_active, "min_mass": min_mass, "mask": mask, "rows": rows}
    unit = _unit_options(loaded, words, options, context, in_float)
    ablations = _ablations(ablate or [], config.layers)
    symbols = encode_text(text, loaded.tokenizer, context)
    count = len(symbols) // (context + 1)
    if tokens is not None:
        count = min(count, -(-tokens // context))
    windows = {"context": context, "count": count}
    result, activity = _measure(loaded, symbols, unit, ablations, windows, in_float)
    values = {
        "model": Path(model).name,
        "text": text.name,
        "arithmetic": "float" if in_float else "int8",
        **_chosen(unit, ablations),
        **result.as_dict(),
        "layers": activity,
    }
    _tell(values)
    if report is not None:
        from reluctant.golden.checkpoint import write_json

        write_json(report, values)


def _unit_options(loaded, words: dict, policy: "PolicyOptions", context: int, in_float: bool):
    """UnitOptions, which --float takes the mask from; UserError if options contradict each other."""
    from reluctant.golden.formats import Mode
    from reluctant.golden.policies import Policy
    from reluctant.golden.unit_attention import UnitOptions

    from .models import open_mask

    mode, given = words["mode"], policy.given
    for option, name in (("--min-active", "min_active"), ("--min-mass", "min_mass")):
        if words[name] and mode is not ModeName.HYBRID:
            raise UserError(f"{option} {words[name]}: only hybrid heads fall back: add --mode hybrid")
    if in_float and (given or mode is not None):
        option = given[0] if given else "--mode"
        raise UserError(f"{option}: float attention is the model's own, with all rows: leave out --float")
    if not in_float and loaded.deployed is None:
        raise UserError("the model is not deployed: add --float, or make it int8 with 'reluctant import'")
    settings = policy.settings(context) if set(given) - {"--gating"} else None
    if settings is not None and settings.policy is Policy.REFUSE and settings.budget < context:
        raise UserError(f"--budget {settings.budget}: refuse keeps all {context} rows of a window: add --policy h2o")
    if isinstance(words["rows"], tuple):
        settings = tuple(replace(policy, budget=rows).settings(context) for rows in words["rows"])
    return UnitOptions(
        mode=None if mode is None else Mode[mode.name],
        min_active=words["min_active"],
        min_mass=words["min_mass"],
        mask=None if words["mask"] is None else open_mask(words["mask"], loaded),
        policy=settings,
        gating=None if policy.gating is None else policy.gating_settings(),
    )


def _ablations(words: list[str], layers: int) -> dict:
    """Layer -> Ablation; UserError if a word is not understood."""
    from reluctant.golden.evaluation import Ablation

    found = {}
    for word in words:
        kind, _, numbers = word.partition(":")
        first, dash, last = (numbers or f"0-{layers - 1}").partition("-")
        if kind not in list(Ablation) or not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(
                f"--ablate {word}: shuffle or remove and layers are needed, such as shuffle:0-2 or remove:3"
            )
        low, high = int(first), int(last or first)
        if not low <= high < layers:
            raise UserError(f"--ablate {word}: the model has layers 0 to {layers - 1}")
        found |= dict.fromkeys(range(low, high + 1), Ablation(kind))
    return found


def _measure(loaded, symbols, unit, ablations: dict, windows: dict, in_float: bool):
    """(Evaluation, plain values of each layer's activity; none in float)."""
    import torch

    from reluctant.golden.evaluation import ablated, masked
    from reluctant.golden.evaluation import evaluate as measure
    from reluctant.golden.unit_attention import UnitAttention

    decoder, deployed = loaded.decoder, loaded.deployed
    config = decoder.config
    try:
        attend = decoder.attention if in_float else UnitAttention(deployed, unit)
        computed = attend
        if in_float and unit.mask is not None:
            kept = [[not off for off in unit.mask.of_layer(layer)] for layer in range(config.layers)]
            attend = masked(attend, torch.tensor(kept).float())
        with bar(windows["count"], "windows") as progress:
            result = measure(
                decoder,
                loaded.tokenizer,
                torch.from_numpy(symbols),
                attend=ablated(attend, ablations),
                counts=None if deployed is None else deployed.counts,
                batch=FLOAT_BATCH if in_float else UNIT_BATCH,
                progress=progress,
                **windows,
            )
    except ValueError as error:
        raise UserError(str(error)) from None
    return result, [] if in_float else [part.as_dict() for part in computed.activity]


def _chosen(unit, ablations: dict) -> dict:
    """Plain values of the choices, for the report."""
    from .policy_options import policy_as_dict

    return {
        "mode": None if unit.mode is None else unit.mode.name.lower(),
        "min_active": unit.min_active,
        "min_mass": unit.min_mass,
        "masks": None if unit.mask is None else list(unit.mask.masks),
        "policy": None if unit.policy is None else policy_as_dict(unit.policy),
        "gating": None if unit.gating is None else vars(unit.gating),
        "ablations": {str(layer): what.value for layer, what in sorted(ablations.items())},
    }


def _tell(values: dict) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=100)
    print(
        f"{values['model']} in {values['arithmetic']}: {values['tokens']:,} tokens in {values['windows']} windows of "
        f"{values['context']}"
    )
    if values["groups"]:
        table = Table(title="tokens by their frequency in training", box=box.SIMPLE_HEAD, title_justify="left")
        for name in ("seen", "symbols", "tokens", "loss"):
            table.add_column(name, justify="right")
        for group in values["groups"]:
            loss = "-" if group["loss"] is None else f"{group['loss']:.4f}"
            seen = f"{group['least']:,} to {group['most']:,}"
            table.add_row(seen, f"{group['symbols']:,}", f"{group['tokens']:,}", loss)
        console.print(table)
    if values["layers"]:
        table = Table(title="layers", box=box.SIMPLE_HEAD, title_justify="left")
        for name in ("layer", "zero weights", "heads run", "null", "fallback"):
            table.add_column(name, justify="right")
        for layer, part in enumerate(values["layers"]):
            shares = (f"{part[name]:.1%}" for name in ("zero_share", "run_share", "null_share", "fallback_share"))
            table.add_row(str(layer), *shares)
        console.print(table)
    error = "" if values["standard_error"] is None else f"; standard error {values['standard_error']:.4f} nats"
    print(f"loss {values['loss']:.4f} nats a token, {values['bits_per_character']:.4f} bits a character{error}")


@contextmanager
def bar(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A progress bar on the standard error; gives what to call with the number of parts that are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda parts: progress.advance(task, parts)
