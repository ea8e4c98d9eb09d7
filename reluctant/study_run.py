"""Measures what a study needs: loss and cycles of each configuration, two parts at a time."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from reluctant.boards.host import System
from reluctant.golden.errors import UserError
from reluctant.golden.formats import MAX_ROWS
from reluctant.golden.kinds import AttentionKind
from reluctant.golden.policies import Policy
from reluctant.golden.trainer import windows

from . import system_runs
from .attention_steps import check_model
from .configuration import choose, fit_system
from .generate import build_firmware
from .models import SHIPPED, Loaded, encode_text, open_deployed, open_mask
from .policy_options import parse_budget
from .study_configurations import Configuration, configurations
from .study_cycles import measure_cycles, model_rows
from .study_quality import measure_loss, stride_of
from .study_results import Results, fingerprint
from .study_schedule import schedule

if TYPE_CHECKING:
    from reluctant.golden.deployed import DeployedModel
    from reluctant.golden.head_mask import HeadMask

__all__ = ["Request", "run_study"]

WORKERS = 2
DOUBLINGS = 6
"""Contexts: a quarter of the models', and five times twice the one before."""
LEAST_CONTEXT, LEAST_MEASURED = 16, 4
QUICK_DOUBLINGS, QUICK_WINDOWS = 4, 4
SHIPPED_BUDGETS = (96, (24, 24, 24, 24, 192, 24), (32, 32, 32, 32, 192, 32))
"""Further rows of ``streaming`` for the ReLU model that comes with the package: only its layer 4 looks far back."""
Report = Callable[[int], None]


class _StoppedError(Exception):
    """Another part failed, or the user wants to end."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The words of the command line; of ``models`` and ``masks`` first ReLU's, then softmax's."""

    text: Path
    models: tuple[str, str]
    masks: tuple[Path | None, Path | None]
    policies: str | None
    budgets: str | None
    contexts: str | None
    tokens: int
    lanes: int
    quick: bool


@dataclass(frozen=True, eq=False)
class _Subject:
    """A model, the heads it drops, its file's bytes, and windows of the text."""

    name: str
    model: "DeployedModel"
    mask: "HeadMask"
    file: bytes
    windows: torch.Tensor


class _Hardware:
    """The system that all configurations run on; what takes long is made when it is first needed."""

    def __init__(self, request: Request, subjects: list[_Subject], rows: int):
        """``rows``: most that a layer keeps."""
        sizes = subjects[0].model.config
        choice = choose("default", None, [f"lanes={request.lanes}"], system=True)
        self._lock = threading.Lock()
        config = fit_system(
            choice,
            heads=sizes.heads,
            kv_heads=sizes.kv_heads,
            head_dim=sizes.head_dim,
            layers=sizes.layers,
            budget=rows,
            workload="model",
        )
        for subject in subjects:
            check_model(config, subject.model.config, rows)
        self.config, self.firmware = build_firmware(config, memory_given=False)

    @cached_property
    def _simulator(self):
        simulator = system_runs.SystemSimulator(system_runs.system_verilog(self.config, self.firmware.image))
        simulator.compile()
        return simulator

    def open(self):
        """A transport to a fresh simulation."""
        with self._lock:
            simulator = self._simulator
        return simulator.open(self.config)

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that cycles depend on beside the workload."""
        from reluctant import hdl

        sources = sorted(Path(hdl.__file__).parent.glob("*.py"))
        return fingerprint(self.config.as_dict(), self.firmware.image, *(path.read_bytes() for path in sources))


@dataclass(frozen=True)
class _Part:
    """Something to measure: what of, the key that it is kept under, its size in units of progress, and how."""

    label: str
    key: str
    kind: str
    size: int
    measure: Callable[[Report], dict]


def run_study(request: Request, path: Path) -> dict:
    """Measure what ``path`` does not have yet, write it there, and give the whole study.

    Raises
    ------
    UserError
        If a file, a model or an option is not right.
    """
    subjects = _subjects(request)
    context, layers = subjects[0].model.config.context, subjects[0].model.config.layers
    contexts = _contexts(request, context, layers)
    chosen = _configurations(request, context, layers)
    hardware = _Hardware(request, subjects, max(contexts[-1], _default_contexts(request.quick, context, layers)[-1]))
    results = Results(path)
    keys, parts = [], []
    for item in chosen:
        subject = subjects[item.softmax]
        loss, cycles = _loss(item, subject), _cycles(item, subject, hardware, contexts)
        about = item.as_dict() | {"masks": list(subject.mask.masks) if item.pruned else [0] * layers}
        keys.append({"about": about, "loss": loss.key, "cycles": cycles.key})
        parts += [part for part in (loss, cycles) if part.key not in results]
    _measure_all(parts, results)
    config = hardware.config
    return results.finish(
        {
            "text": request.text.name,
            "models": {"relu": subjects[0].name, "softmax": subjects[1].name},
            "context": context,
            "quick": request.quick,
            "configuration": {**config.as_dict(), "hash": f"{config.hash:08x}"},
        },
        keys,
    )


# What is asked for ----------------------------------------------------------------------------------------------------


def _subjects(request: Request) -> list[_Subject]:
    """The ReLU model, then its twin."""
    from .models import model_path

    models = [open_deployed(name) for name in request.models]
    for model, option, softmax in zip(models, ("--relu", "--softmax"), (False, True), strict=True):
        if (model.config.attention is AttentionKind.SOFTMAX) != softmax:
            raise UserError(f"{option}: the model's attention is {model.config.attention.value}: another is needed")
    for field in ("layers", "heads", "kv_heads", "head_dim", "context"):
        values = [getattr(model.config, field) for model in models]
        if values[0] != values[1]:
            raise UserError(f"--softmax {request.models[1]}: {field} is {values[1]}: the ReLU model has {values[0]}")
    if models[0].tokenizer.text != models[1].tokenizer.text:
        raise UserError(f"--softmax {request.models[1]}: has other symbols than the ReLU model: no loss compares")
    context = models[0].config.context
    symbols = encode_text(request.text, models[0].tokenizer, context)
    count = len(symbols) // (context + 1)
    wanted = QUICK_WINDOWS if request.quick else -(-request.tokens // context)
    chosen = windows(torch.from_numpy(symbols), context, max(1, min(count, wanted)))
    return [
        _Subject(Path(name).name, model, _mask(name, mask, option, model), model_path(name).read_bytes(), chosen)
        for name, model, mask, option in zip(
            request.models, models, request.masks, ("--mask", "--softmax-mask"), strict=True
        )
    ]


def _mask(name: str, path: Path | None, option: str, model: "DeployedModel") -> "HeadMask":
    if path is None and name not in SHIPPED:
        raise UserError(f"{option} is needed: 'reluctant prune {name} --text FILE --out mask.json' makes one")
    return open_mask(Path(name) if path is None else path, Loaded(model.decoder, model.tokenizer, model))


def _contexts(request: Request, context: int, layers: int) -> list[int]:
    """Where cycles are counted, rising; the models' own context is among them."""
    if context < LEAST_CONTEXT or context % 4:
        raise UserError(f"the models' context is {context}: a multiple of 4 from {LEAST_CONTEXT} on is needed")
    if request.contexts is not None:
        return _given_contexts(request.contexts, context, layers)
    return _default_contexts(request.quick, context, layers)


def _default_contexts(quick: bool, context: int, layers: int) -> list[int]:
    """The system has room for the longest, so that all studies of a model share its build but quick ones."""
    contexts = [(context // 4) << number for number in range(QUICK_DOUBLINGS if quick else DOUBLINGS)]
    fitting = [item for item in contexts if item * layers <= MAX_ROWS]
    if context not in fitting:
        raise UserError(f"the models have {layers} layers of {context} tokens: the store has {MAX_ROWS} rows")
    return fitting


def _given_contexts(text: str, context: int, layers: int) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    most = MAX_ROWS // layers
    if not all(word.isdecimal() and LEAST_MEASURED <= int(word) <= most for word in words):
        raise UserError(f"--contexts {text}: numbers from {LEAST_MEASURED} to {most} are needed, such as 128,512")
    contexts = sorted({int(word) for word in words})
    if context not in contexts:
        raise UserError(f"--contexts {text}: the models' own, {context}, is needed too")
    return contexts


def _configurations(request: Request, context: int, layers: int) -> list[Configuration]:
    policies = None if request.policies is None else [_policy(word) for word in request.policies.split(",")]
    budgets = (
        None
        if request.budgets is None
        else [parse_budget("--budgets", word, layers) for word in request.budgets.split(",")]
    )
    best = SHIPPED_BUDGETS if request.models[0] in SHIPPED else ()
    return configurations(context, policies, budgets, best=best, quick=request.quick)


def _policy(word: str) -> Policy:
    known = {policy.label: policy for policy in Policy if policy is not Policy.REFUSE}
    if word.strip() not in known:
        raise UserError(f"--policies {word.strip()}: no such policy: {', '.join(known)} are allowed")
    return known[word.strip()]


# Parts ----------------------------------------------------------------------------------------------------------------


def _loss(item: Configuration, subject: _Subject) -> _Part:
    from reluctant import golden

    options = item.options(subject.mask)
    sources = [path.read_bytes() for path in sorted(Path(golden.__file__).parent.glob("*.py"))]
    key = _key("loss", item, subject, subject.windows, *sources)
    size = len(subject.windows[:: stride_of(options)])
    return _Part(item.name, key, "loss", size, partial(measure_loss, subject.model, options, subject.windows))


def _cycles(item: Configuration, subject: _Subject, hardware: _Hardware, contexts: list[int]) -> _Part:
    options, context = item.options(subject.mask), subject.model.config.context
    plan = schedule(contexts, changes=item.changes)
    count = -(-contexts[-1] // context)
    chosen = subject.windows.repeat(-(-count // len(subject.windows)), 1)[:count, :-1]

    def measure(progress: Report) -> dict:
        rows = model_rows(subject.model, options, chosen)
        with hardware.open() as transport, System(transport, hardware.config) as system:
            return measure_cycles(system, subject.model, options, rows, plan, progress)

    key = _key("cycles", item, subject, chosen, hardware.fingerprint, plan.attends.tobytes())
    return _Part(item.name, key, "cycles", len(plan.attends), measure)


def _key(kind: str, item: Configuration, subject: _Subject, chosen: torch.Tensor, *more) -> str:
    about = {name: value for name, value in item.as_dict().items() if name not in ("name", "group")}
    return fingerprint(kind, about, list(subject.mask.masks), subject.file, chosen.numpy().tobytes(), *more)


def _measure_all(parts: list[_Part], results: Results) -> None:
    """Measure every part, a few at a time; each is kept when it is done."""
    stop = threading.Event()
    with _one_thread(), _progress(parts) as (report, say), ThreadPoolExecutor(WORKERS) as pool:
        futures = {pool.submit(_measure, part, report, stop): part for part in parts}
        try:
            for number, future in enumerate(as_completed(futures), 1):
                part = futures[future]
                results.add(part.key, future.result())
                say(f"{number} of {len(parts)}: {part.kind} of {part.label}")
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _measure(part: _Part, report: Callable[[str, int], None], stop: threading.Event) -> dict:
    def progress(count: int) -> None:
        if stop.is_set():
            raise _StoppedError
        report(part.kind, count)

    try:
        return part.measure(progress)
    except ValueError as error:
        raise UserError(f"{part.label}: {error}") from None


@contextmanager
def _progress(parts: list[_Part]) -> Iterator[tuple[Callable[[str, int], None], Callable[[str], None]]]:
    """Bars of windows and of tokens on the standard error; gives what advances them, and what says a line there."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bars = {}
        for kind, what in (("loss", "loss"), ("cycles", "cycles (compiles first)")):
            total = sum(part.size for part in parts if part.kind == kind)
            if total:
                bars[kind] = progress.add_task(what, total=total)
        yield lambda kind, count: progress.advance(bars[kind], count), console.print


@contextmanager
def _one_thread() -> Iterator[None]:
    """Two parts run at a time, which is better than threads within one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
