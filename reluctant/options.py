"""Options that several commands share; importing this loads nothing heavy."""

from pathlib import Path
from typing import Annotated

import typer

from .choices import PolicyName

__all__ = [
    "ConfigFile",
    "Gating",
    "MaskFile",
    "MinActive",
    "MinMass",
    "Normalised",
    "Policy",
    "Preset",
    "Recent",
    "Seed",
    "Settings",
    "Share",
    "Sinks",
    "Stride",
]

# What to build.
Preset = Annotated[str, typer.Option("--preset", "-p", metavar="NAME", help="Where to start: see 'reluctant presets'.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE.toml", help="Settings in a TOML file, over the preset's.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="One setting, over all others; may be repeated."),
]

# Which heads run, and how.
MaskFile = Annotated[Path | None, typer.Option(metavar="FILE.json", help="Heads that do not run: see prune; or relu.")]
MinActive = Annotated[int, typer.Option(min=0, help="Hybrid: fall back to softmax below this count.")]
MinMass = Annotated[int, typer.Option(min=0, help="Hybrid: fall back to softmax below this mass.")]
Gating = Annotated[
    str | None,
    typer.Option(metavar="ACTIVE[:MASS[:PROBE]]", help="Turn heads off below these averages, for PROBE - 1 steps."),
]

# What stays in the KV cache; None is the policy's default (docs/policies.md).
Policy = Annotated[PolicyName, typer.Option(help="Which row leaves when a layer is full.")]
Sinks = Annotated[int | None, typer.Option(help="First tokens that never leave. [default: the policy's]")]
Recent = Annotated[int | None, typer.Option(help="Last tokens that do not leave. [default: the policy's]")]
Stride = Annotated[int | None, typer.Option(help="buzz: tokens of a segment; nacl: of a proxy.")]
Share = Annotated[int | None, typer.Option(help="nacl: evictions by chance, in 256.")]
Seed = Annotated[int | None, typer.Option(help="nacl: of the chance.")]
Normalised = Annotated[bool | None, typer.Option("--normalised", help="h2o: mass per step of life.")]
