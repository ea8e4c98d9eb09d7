"""``reluctant study``: what dropped heads, sparse weights and a smaller KV cache save, and what they cost."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["study"]


def study(
    text: Annotated[Path, typer.Option("--text", metavar="FILE", help="Held-out text; .xz is unpacked.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")] = Path("out/study"),
    relu: Annotated[str, typer.Option(metavar="MODEL", help="Deployed ReLU model.")] = "relu",
    softmax: Annotated[str, typer.Option(metavar="MODEL", help="Its softmax twin.")] = "softmax",
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Heads that relu drops. [default: the model's]")
    ] = None,
    softmax_mask: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Heads that softmax drops. [default: the model's]")
    ] = None,
    policies: Annotated[
        str | None, typer.Option(metavar="h2o,buzz", help="KV policies. [default: all, and the best one found]")
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(metavar="64,24/24/192", help="Rows of all layers, or of each. [default: an eighth, a quarter]"),
    ] = None,
    contexts: Annotated[
        str | None,
        typer.Option(metavar="128,512", help="Where cycles are counted. [default: up to eight times]"),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to predict, about.")] = 20_000,
    lanes: Annotated[int, typer.Option(help="Multipliers of the unit, for all configurations.")] = 16,
    quick: Annotated[bool, typer.Option("--quick", help="A few configurations, contexts and tokens.")] = False,
) -> int:
    """Measure loss, cycles, rows and energy of a ReLU model and its softmax twin, in a page and in JSON.

    Loss comes from the integer model on held-out text, cycles from the system's Verilog, with one build for all: dense
    softmax, softmax and ReLU with heads dropped, ReLU with KV policies, fallback and gating, at contexts from a quarter
    of the models' to eight times it. What the Verilog gives is compared with the integer model bit for bit. A study
    that was stopped goes on where it was when it is started again. Exit code: 1 if anything differs.

    \b
    Examples:
      reluctant study --text valid.txt
      reluctant study --text valid.txt --quick --out out/quick
      reluctant study --text valid.txt --policies h2o,streaming --budgets 64,96,128 --tokens 20000
    """
    from .models import require_torch
    from .runs import require_packages

    require_torch()
    require_packages(firmware=True)
    from .study_page import write_page
    from .study_run import Request, run_study
    from .study_tables import print_study

    request = Request(
        text=text,
        models=(relu, softmax),
        masks=(mask, softmax_mask),
        policies=policies,
        budgets=budgets,
        contexts=contexts,
        tokens=tokens,
        lanes=lanes,
        quick=quick,
    )
    values = run_study(request, out / "study.json")
    write_page(values, out / "study.html")
    print_study(values)
    print(f"The page: {out / 'study.html'}; every number: {out / 'study.json'}")
    return 1 if values["mismatches"] else 0
