"""The unit or system that a user asks for: a preset, then a file, then single settings."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from reluctant.boards.presets import PRESETS
from reluctant.golden.errors import UserError
from reluctant.hdl.config import ConfigError, UnitConfig
from reluctant.hdl.system_config import SystemConfig

__all__ = ["Choice", "as_system", "choose", "choose_over", "fit", "fit_system"]

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_UNIT_FIELDS = {item.name: item for item in fields(UnitConfig)}
_SYSTEM_FIELDS = {item.name: item for item in fields(SystemConfig) if item.name != "unit"}


@dataclass(frozen=True)
class Choice:
    """A unit, where it started, which settings the user gave one by one, and all of the scheduler's that are set."""

    config: UnitConfig
    preset: str
    explicit: frozenset[str]
    system: dict = field(default_factory=dict)


def choose(
    preset: str = "default", file: Path | None = None, settings: Iterable[str] = (), *, system: bool = False
) -> Choice:
    """Compose a preset, a TOML file and ``key=value`` settings; later ones win. ``system``: the scheduler's too.

    Raises
    ------
    UserError
        If a name, a key, a value or the file is not right.
    """
    if preset not in PRESETS:
        raise UserError(f"--preset {preset}: no such preset: {', '.join(PRESETS)} exist")
    return choose_over(PRESETS[preset], preset, file, settings, system=system)


def choose_over(
    base: SystemConfig, name: str, file: Path | None = None, settings: Iterable[str] = (), *, system: bool = True
) -> Choice:
    """A TOML file and ``key=value`` settings over a system called ``name``; as :func:`choose`, which see."""
    known = _UNIT_FIELDS | (_SYSTEM_FIELDS if system else {})
    config, explicit = base.unit, {}
    if file is not None:
        explicit |= _read(file)
        config = _apply(config, _part(explicit, system, of_unit=True), str(file))
    single = dict(_parse(text, known) for text in settings)
    config, given = _apply(config, _part(single, system, of_unit=True), "--set"), {**explicit, **single}
    scheduler = {**_scheduler(base), **_part(given, system, of_unit=False)} if system else {}
    return Choice(config, name, frozenset(given), scheduler)


def _scheduler(base: SystemConfig) -> dict:
    """What a preset says of the scheduler: its settings that are not the default."""
    return {name: value for name in _SYSTEM_FIELDS if (value := getattr(base, name)) != _SYSTEM_FIELDS[name].default}


def _part(settings: Mapping, system: bool, *, of_unit: bool) -> dict:
    """The settings of the unit, unknown ones among them, or those of the scheduler."""
    ours = set(_SYSTEM_FIELDS) if system else set()
    return {name: value for name, value in settings.items() if (name in ours) != of_unit}


def _apply(config: UnitConfig, settings: Mapping, source: str) -> UnitConfig:
    try:
        return config.with_settings(**settings)
    except ConfigError as error:
        raise UserError(f"{source}: {error}" if settings else str(error)) from None


def _read(file: Path) -> dict:
    try:
        text = file.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}): a TOML file is needed") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: is no text in UTF-8: a TOML file is needed") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file}: is no TOML ({error}): lines such as 'lanes = 16' are needed") from None
    return {key: _tuple(value) for key, value in values.items()}


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def _parse(text: str, known: Mapping) -> tuple[str, object]:
    """``key=value``, the value typed by the field of that name in ``known``."""
    key, equals, word = (part.strip() for part in text.partition("="))
    if not equals:
        raise UserError(f"--set {text}: key=value is needed, such as lanes=16")
    if key not in known:
        raise UserError(f"--set {text}: {key} is no setting: {', '.join(known)} are allowed")
    default = known[key].default
    if isinstance(default, tuple):
        return key, tuple(name.strip() for name in word.split(",") if name.strip() not in ("", "none"))
    if isinstance(default, bool):
        if word.lower() not in _WORDS:
            raise UserError(f"--set {text}: true or false is needed")
        return key, _WORDS[word.lower()]
    if isinstance(default, int):
        try:
            return key, int(word, 0)
        except ValueError:
            raise UserError(f"--set {text}: a whole number is needed") from None
    return key, word


def fit(
    choice: Choice,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    slots: int,
    profiles: int | None = None,
    slots_are: str = "number of tokens",
    workload: str = "trace",
) -> UnitConfig:
    """The chosen unit, sized to a workload; sizes that the user gave stay as they are.

    Slots become the next power of two, so that runs of similar length share a build. ``profiles`` None: not looked at.
    ``slots_are`` says what needs so many slots, ``workload`` what all of it is for.

    Raises
    ------
    UserError
        If a size that the user gave does not fit the workload.
    """
    config, given = choice.config, choice.explicit
    if head_dim % config.lanes:
        fitting = max(lanes for lanes in (1, 2, 4, 8, 16, 32, 64, 128) if head_dim % lanes == 0)
        hint = f"try --set lanes={fitting}" if fitting >= 4 else "a multiple of 4 is needed"
        wrong = f"the {workload}'s head dimension {head_dim} is no multiple of it"
        raise UserError(f"lanes is {config.lanes}: {wrong}: {hint}")
    wanted = {
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": -(-max(16, head_dim) // config.lanes) * config.lanes,
        "slots": 1 << max(1, (slots - 1).bit_length()),
    }
    least = [("head_dim", head_dim, "head dimension"), ("slots", slots, slots_are)]
    if profiles is not None:
        wanted["profiles"] = profiles
        least.append(("profiles", profiles, "number of layers"))
    for name, needed in (("heads", heads), ("kv_heads", kv_heads)):
        if name in given and getattr(config, name) != needed:
            raise UserError(f"{name} is {getattr(config, name)}: the {workload} has {needed}: leave it out or set that")
    for name, needed, what in least:
        if name in given and getattr(config, name) < needed:
            raise UserError(f"{name} is {getattr(config, name)}: the {what} is {needed}: at least that is needed")
    return _apply(config, {name: value for name, value in wanted.items() if name not in given}, f"the {workload}")


def fit_system(
    choice: Choice, *, heads: int, kv_heads: int, head_dim: int, layers: int, budget: int, workload: str = "trace"
) -> SystemConfig:
    """The chosen system, sized to one sequence of so many layers; see :func:`fit`."""
    unit = fit(
        choice,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        slots=layers * budget,
        profiles=layers,
        slots_are="number of layers times the budget",
        workload=workload,
    )
    return as_system(choice, unit)


def as_system(choice: Choice, unit: UnitConfig | None = None) -> SystemConfig:
    """``unit``, or the chosen one if None, with the chosen scheduler.

    Raises
    ------
    UserError
        If a setting of the scheduler is not right, or the unit has no slot statistics.
    """
    unit = choice.config if unit is None else unit
    if not unit.statistics:
        hint = "add --set statistics=true, or --no-scheduler for the bare unit"
        raise UserError(f"statistics is False: the scheduler needs a unit with slot statistics: {hint}")
    try:
        return SystemConfig(unit=unit, **choice.system)
    except ConfigError as error:
        raise UserError(str(error)) from None
