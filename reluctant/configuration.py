"""The unit that a user asks for: a preset, then a file, then single settings."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from reluctant.boards.presets import PRESETS
from reluctant.hdl.config import ConfigError, UnitConfig

from .errors import UserError

__all__ = ["Choice", "choose", "fit"]

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_FIELDS = {field.name: field for field in fields(UnitConfig)}


@dataclass(frozen=True)
class Choice:
    """A configuration, where it started, and which settings the user gave one by one."""

    config: UnitConfig
    preset: str
    explicit: frozenset[str]


def choose(preset: str = "default", file: Path | None = None, settings: Iterable[str] = ()) -> Choice:
    """Compose a preset, a TOML file and ``key=value`` settings; later ones win.

    Raises
    ------
    UserError
        If a name, a key, a value or the file is not right.
    """
    if preset not in PRESETS:
        raise UserError(f"--preset {preset}: no such preset: {', '.join(PRESETS)} exist")
    config, explicit = PRESETS[preset], {}
    if file is not None:
        explicit |= _read(file)
        config = _apply(config, explicit, str(file))
    single = dict(_parse(text) for text in settings)
    return Choice(_apply(config, single, "--set"), preset, frozenset({**explicit, **single}))


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


def _parse(text: str) -> tuple[str, object]:
    """``key=value``, the value typed by the field."""
    key, equals, word = (part.strip() for part in text.partition("="))
    if not equals:
        raise UserError(f"--set {text}: key=value is needed, such as lanes=16")
    if key not in _FIELDS:
        raise UserError(f"--set {text}: {key} is no setting: {', '.join(_FIELDS)} are allowed")
    default = _FIELDS[key].default
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


def fit(choice: Choice, *, heads: int, kv_heads: int, head_dim: int, tokens: int) -> UnitConfig:
    """The chosen unit, sized to a workload; sizes that the user gave stay as they are.

    Slots become the next power of two, so that runs of similar length share a build.

    Raises
    ------
    UserError
        If a size that the user gave does not fit the workload.
    """
    config, given = choice.config, choice.explicit
    if head_dim % config.lanes:
        fitting = max(lanes for lanes in (1, 2, 4, 8, 16, 32, 64, 128) if head_dim % lanes == 0)
        hint = f"try --set lanes={fitting}" if fitting >= 4 else "a multiple of 4 is needed"
        raise UserError(f"lanes is {config.lanes}: the trace's head dimension {head_dim} is no multiple of it: {hint}")
    wanted = {
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": -(-max(16, head_dim) // config.lanes) * config.lanes,
        "slots": 1 << max(1, (tokens - 1).bit_length()),
    }
    for name, needed in (("heads", heads), ("kv_heads", kv_heads)):
        if name in given and getattr(config, name) != needed:
            raise UserError(f"{name} is {getattr(config, name)}: the trace has {needed}: leave it out or set that")
    for name, needed, what in (("head_dim", head_dim, "head dimension"), ("slots", tokens, "number of tokens")):
        if name in given and getattr(config, name) < needed:
            raise UserError(f"{name} is {getattr(config, name)}: the {what} is {needed}: at least that is needed")
    return _apply(config, {name: value for name, value in wanted.items() if name not in given}, "the trace")
