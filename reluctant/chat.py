"""``reluctant chat``: a model writes a text, and the system's Verilog computes its attention."""

import codecs
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.golden.errors import UserError

from .choices import PolicyName
from .options import ConfigFile, Gating, MaskFile, Normalised, Policy, Preset, Recent, Settings, Share, Sinks, Stride

if TYPE_CHECKING:
    from reluctant.golden.tokenizer import Tokenizer

    from .attention_steps import Totals
    from .policy_options import PolicyOptions

__all__ = ["chat"]

INTERRUPTED = 130


def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Deployed file, relu or softmax.")],
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="How the text begins.")],
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to write.")] = 64,
    temperature: Annotated[float, typer.Option(help="Of the choice of each token; 0 takes the most likely.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among so many tokens. [default: all]")] = None,
    seed: Annotated[int, typer.Option(help="Of the choice, and of nacl's chance; equal seeds, equal texts.")] = 0,
    fast: Annotated[bool, typer.Option("--fast", help="Integer model instead of Verilog: the same text.")] = False,
    mask: MaskFile = None,
    policy: Policy = PolicyName.STREAMING,
    budget: Annotated[int | None, typer.Option(help="Rows that a layer keeps. [default: the model's context]")] = None,
    sinks: Sinks = None,
    recent: Recent = None,
    stride: Stride = None,
    share: Share = None,
    normalised: Normalised = None,
    gating: Gating = None,
    preset: Preset = "default",
    config: ConfigFile = None,
    settings: Settings = None,
    lanes: Annotated[int | None, typer.Option(help="Short for --set lanes=N. [default: the preset's]")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write text and numbers.")] = None,
) -> int:
    """Let a model go on with a text, its attention computed by the system's Verilog, firmware included.

    The host computes the rest of the model. Each token is a step of each layer, those of the prompt too; a layer keeps
    as many rows as the model's context has tokens, then the oldest but for the first leave (policy streaming). The
    system is sized to the model unless a setting says otherwise. With --fast the integer model computes the
    attention: the same text, but no cycles. Ctrl-C ends the text early, with the numbers so far and exit code 130.

    \b
    Examples:
      reluctant chat relu --prompt "Friends, Romans, "
      reluctant chat relu --prompt "KING." --policy h2o --budget 64 --lanes 32 --report report.json
      reluctant chat softmax --prompt "KING." --tokens 300 --fast
    """
    from .policy_options import PolicyOptions

    chances = {"temperature": temperature, "top_k": top_k, "seed": seed}
    words = PolicyOptions(
        policy=policy.value,
        budget=budget,
        sinks=sinks,
        recent=recent,
        stride=stride,
        share=share,
        seed=seed if policy is PolicyName.NACL else None,
        normalised=normalised,
        gating=gating,
    )
    settings = [*(settings or ()), *([] if lanes is None else [f"lanes={lanes}"])]
    with _one_thread():
        values = _converse(model, prompt, tokens, chances, words, mask, (preset, config, settings), fast)
    _tell(values)
    if report is not None:
        from reluctant.golden.checkpoint import write_json

        write_json(report, values)
    return INTERRUPTED if values["interrupted"] else 0


def _converse(
    name: str,
    prompt: str,
    tokens: int,
    chances: dict,
    words: "PolicyOptions",
    mask: Path | None,
    build: tuple[str, Path | None, list[str]],
    fast: bool,
) -> dict:
    """Check everything, then write the text; the values of the report."""
    from reluctant.golden.unit_attention import UnitOptions

    from .attention_steps import check_model
    from .configuration import choose, fit_system
    from .models import Loaded, open_deployed, open_mask
    from .policy_options import policy_as_dict
    from .sampling import Sampler

    preset, file, settings = build
    choice, sampler = choose(preset, file, settings, system=True), Sampler(**chances)
    model = open_deployed(name)
    sizes = model.config
    symbols = _encode(prompt, model.tokenizer)
    steps = len(symbols) + tokens - 1
    policy, gating = _policy(words, sizes, steps), words.gating_settings()
    config = fit_system(
        choice,
        heads=sizes.heads,
        kv_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        layers=sizes.layers,
        budget=policy.budget,
        workload="model",
    )
    check_model(config, sizes, steps)
    masked = None if mask is None else open_mask(mask, Loaded(model.decoder, model.tokenizer, model))
    options = UnitOptions(mask=masked, gating=gating)
    _check_settings(model, options)
    about = {
        "model": Path(name).name,
        "attention": "model" if fast else "rtl",
        "policy": policy_as_dict(policy),
        "gating": vars(gating),
        "masks": None if masked is None else list(masked.masks),
        **chances,
        "prompt": prompt,
    }
    with _attention(fast, config, "memory" in choice.system, model, policy, options) as (attend, built):
        written, seconds = _write(model, symbols, tokens, attend, sampler)
        numbers = _numbers(attend.totals(), len(symbols) + len(written) - 1, sum(seconds), fast)
    return {
        **about,
        "text": model.tokenizer.decode(written),
        "interrupted": len(written) < tokens,
        "prompt_tokens": len(symbols),
        "new_tokens": len(written),
        "seconds": {"prompt": seconds[0], "text": seconds[1]},
        **numbers,
        "configuration": {**built.as_dict(), "hash": f"{built.hash:08x}"},
    }


def _encode(prompt: str, tokenizer: "Tokenizer") -> list[int]:
    from .models import encode_bytes

    # What the shell gave that is no UTF-8 is here as lone surrogates.
    symbols = encode_bytes(prompt.encode("utf-8", "surrogateescape"), Path("--prompt"), tokenizer).tolist()
    if not symbols:
        raise UserError("--prompt is empty: a letter at least is needed")
    return symbols


def _policy(words: "PolicyOptions", model, steps: int):
    """PolicySettings; by default of as many rows as the model's context has tokens, if a unit has room for them."""
    from reluctant.golden.formats import MAX_ROWS
    from reluctant.golden.policies import Policy

    policy = words.settings(max(1, min(model.context, MAX_ROWS // model.layers)))
    if policy.policy is Policy.REFUSE and policy.budget < steps:
        raise UserError(
            f"--budget {policy.budget}: refuse keeps every row, prompt and text have {steps}: "
            "add --policy streaming, or fewer --tokens"
        )
    return policy


def _check_settings(model, options) -> None:
    """UserError if a threshold, a sink or the like does not fit its format."""
    try:
        for layer in range(model.config.layers):
            options.settings(model, layer)
    except ValueError as error:
        raise UserError(f"layer {layer}: {error}") from None


@contextmanager
def _attention(fast: bool, config, memory_given: bool, model, policy, options) -> Iterator[tuple]:
    """(:class:`attention_steps.Steps`, configuration of the system that is built)"""
    from .attention_steps import ModelSteps, SystemSteps

    if fast:
        yield ModelSteps(model, policy, options, config.unit.mass_bits), config
        return
    from reluctant.boards.host import System

    from . import system_runs
    from .generate import build_firmware
    from .runs import require_packages

    require_packages(firmware=True)
    with _spinner("compiling the system (once)"):
        config, firmware = build_firmware(config, memory_given=memory_given)
        simulator = system_runs.SystemSimulator(system_runs.system_verilog(config, firmware.image))
        simulator.compile()
    with _deaf():  # The simulator's process inherits it: a Ctrl-C at the terminal would reach that too.
        opened = simulator.open(config)
    with opened as transport, System(transport, config) as system:
        yield SystemSteps(system, model, policy, options), config


@contextmanager
def _deaf() -> Iterator[None]:
    """SIGINT is ignored, also by processes that are started meanwhile."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _early_end() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGINT came, so that no step is cut in two; a second SIGINT interrupts."""
    came = False

    def note(*_) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)


def _write(model, symbols: list[int], tokens: int, attend, sampler) -> tuple[list[int], tuple[float, float]]:
    """Read the prompt, then write symbol by symbol; gives the new symbols, and seconds for the two parts."""
    from .evaluate import bar

    session, tokenizer = model.start(), model.tokenizer
    start = time.perf_counter()
    with bar(len(symbols), "prompt") as progress:
        for symbol in symbols:
            logits = session.token(symbol, attend)
            progress(1)
    middle = time.perf_counter()
    screen = _Screen(tokenizer)
    for symbol in symbols:
        screen.show(symbol)
    written: list[int] = []
    with _early_end() as ended:
        while len(written) < tokens and not (written and ended()):
            if written:
                logits = session.token(written[-1], attend)
            # A model may have more symbols than its tokenizer.
            written.append(sampler.choose(logits[: tokenizer.vocabulary]))
            screen.show(written[-1])
    screen.end()
    return written, (middle - start, time.perf_counter() - middle)


class _Screen:
    """Text on the standard output, symbol by symbol; what a terminal would take for a command becomes U+FFFD."""

    def __init__(self, tokenizer: "Tokenizer"):
        self._pieces, self._decoder = tokenizer.pieces, codecs.getincrementaldecoder("utf-8")(errors="replace")

    def show(self, symbol: int) -> None:
        """Print the characters that are complete."""
        self._print(self._decoder.decode(self._pieces[symbol]))

    def end(self) -> None:
        """Print what is left, and end the line."""
        self._print(self._decoder.decode(b"", final=True) + "\n")

    def _print(self, text: str) -> None:
        print("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text), end="", flush=True)


def _numbers(totals: "Totals", tokens: int, seconds: float, fast: bool) -> dict:
    """What it cost; by token where it says so."""
    values = totals.as_dict()
    values["tokens_per_second"] = tokens / seconds
    for name in ("cycles", "unit_cycles", "firmware_cycles"):
        values[f"{name}_per_token"] = None if fast else values[name] / tokens
    return values


def _tell(values: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    tokens = values["prompt_tokens"] + values["new_tokens"] - 1
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    policy, read = values["policy"], (values["key_rows"], values["value_rows"])
    rows = [
        ("tokens", f"{values['prompt_tokens']:,} of the prompt, {values['new_tokens']:,} new"),
        ("rows read", f"{read[0]:,} keys, {read[1]:,} values ({sum(read) / tokens:,.0f} a token)"),
        ("zero weights", f"{values['zero_share']:.1%}"),
        ("evictions", f"{values['evictions']:,} ({policy['policy']}, budget {policy['budget']:,})"),
    ]
    if values["gating"]["active"] or values["gating"]["mass"]:
        rows.append(("heads off", f"{values['heads_off']:,} by gating"))
    if values["cycles"] is not None:
        firmware, exposed = values["firmware_cycles_per_token"], values["firmware_exposed"]
        hidden = 1 - exposed / max(1, values["firmware_cycles"])
        unit = f"the unit busy in {values['unit_cycles'] / values['cycles']:.1%}"
        rows.append(("cycles", f"{values['cycles_per_token']:,.0f} a token, {unit}"))
        rows.append(("firmware", f"{firmware:,.0f} cycles a token, {hidden:.1%} of them while the unit works"))
    arithmetic = "integer model" if values["cycles"] is None else "Verilog"
    rows.append(("speed", f"{values['tokens_per_second']:.1f} tokens a second ({arithmetic})"))
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    console.print()
    console.print(table)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One token at a time is too little to share among threads."""
    from .models import require_torch

    require_torch()
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _spinner(what: str) -> Iterator[None]:
    """Something that moves on the standard error, if it is a terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console, columns = Console(file=sys.stderr), (SpinnerColumn(), TextColumn("{task.description}"))
    columns = (*columns, TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(what, total=None)
        yield
