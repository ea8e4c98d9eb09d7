"""``reluctant prune``: a mask of the heads that a model can do without."""

from pathlib import Path
from typing import Annotated

import typer

from reluctant.golden.errors import UserError

__all__ = ["prune"]

CHECKED = 3
"""One window in so many shows what leaving out a head costs; gradients are taken on all."""


def prune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Deployed file, folder of train, relu or softmax.")],
    text: Annotated[Path, typer.Option("--text", metavar="FILE", help="Text to choose on; .xz is unpacked.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.json", help="Mask to write.")],
    drop: Annotated[float, typer.Option(help="Share of all heads to drop.")] = 0.3,
    limit: Annotated[float, typer.Option(help="Rise of the loss, in nats, with all of them dropped.")] = 0.05,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of the text to look at, about.")] = 25_000,
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write all numbers.")] = None,
) -> None:
    """Find the heads that a model can do without, and write a mask.

    Heads are ranked by importance (Michel et al., 2019: the slope of the loss along a head's mask). The least important
    ones are left out in turn, and the one that is missed least is dropped, as long as the loss stays within --limit.
    Choose on training text and measure on held-out text: 'reluctant evaluate MODEL --text FILE --mask MASK'. The mask
    is what the firmware's SET_LAYER takes.

    \b
    Example:
      reluctant prune relu --text train.txt --drop 0.3 --out mask.json --report prune.json
    """
    from .evaluate import bar
    from .models import encode_text, open_model

    if not 0 <= drop <= 1:
        raise UserError(f"--drop {drop:g}: a share from 0 to 1 is needed")
    if not limit >= 0:
        raise UserError(f"--limit {limit:g}: 0 or more is needed")
    loaded = open_model(model)
    config = loaded.decoder.config
    symbols = encode_text(text, loaded.tokenizer, config.context)

    import torch

    from reluctant.golden.checkpoint import write_json
    from reluctant.golden.head_mask import save_mask
    from reluctant.golden.importance import prune as choose
    from reluctant.golden.trainer import windows

    chosen = windows(torch.from_numpy(symbols), config.context, max(1, -(-tokens // config.context)))
    wanted = round(drop * config.layers * config.heads)
    with bar(len(chosen) + wanted, "windows, heads") as progress:
        result = choose(
            loaded.decoder,
            chosen,
            drop,
            limit=limit,
            check=-(-len(chosen) // CHECKED),
            progress=lambda parts: progress(parts or 1),
        )
    save_mask(out, result.mask, model=Path(model).name, loss=result.loss, pruned_loss=result.pruned_loss)
    if report is not None:
        write_json(report, {"model": Path(model).name, "text": text.name, "limit": limit, **result.as_dict()})
    _tell(result, out)


def _tell(result, out: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title="heads in the order in which they were left out", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("layer", "head", "importance", "loss without", "rise", ""):
        table.add_column(name, justify="right")
    for trial in result.trials:
        rise, verdict = f"{trial.loss - result.loss:+.4f}", "dropped" if trial.dropped else "kept"
        table.add_row(str(trial.layer), str(trial.head), f"{trial.importance:.4f}", f"{trial.loss:.4f}", rise, verdict)
    Console(width=100).print(table)
    heads, count = result.mask.heads * len(result.mask.masks), len(result.mask.dropped)
    short = "" if count == result.wanted else f" ({result.wanted} were wanted: the others cost too much)"
    print(f"{count} of {heads} heads dropped{short}: loss {result.loss:.4f} to {result.pruned_loss:.4f} nats a token")
    print(f"Mask in {out}; a bit is a head that does not run: {' '.join(f'{mask:#x}' for mask in result.mask.masks)}")
