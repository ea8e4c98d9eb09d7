"""What a user chooses about a unit, and what follows from it."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType

from amaranth.utils import bits_for, ceil_log2

from reluctant.golden import formats

__all__ = ["SERIAL", "ConfigError", "UnitConfig", "UnitSizes", "hash_of", "require"]

SERIAL = MappingProxyType({"phases": "serial", "store": "single", "softmax": False, "normalisers": (), "job_queue": 1})
"""Serial phases, and what they need of other settings: ``UnitConfig(**SERIAL, lanes=8)`` is a small unit."""


class ConfigError(ValueError):
    """A configuration that cannot be built; the message names the field, the value and what is allowed."""


def require(ok: bool, field: str, value: object, allowed: str) -> None:
    """Raise :class:`ConfigError` unless ``ok``."""
    if not ok:
        raise ConfigError(f"{field} is {value!r}: {allowed}")


def hash_of(values: dict) -> int:
    """32 bits of the SHA-256 of plain values; the order of keys does not matter."""
    text = json.dumps(values, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


@dataclass(frozen=True, kw_only=True)
class UnitConfig:
    """Build-time choices. Everything else (head dimension in use, rows, thresholds, masks, modes) is a register.

    Attributes
    ----------
    lanes
        Multipliers P, and bytes per beat of every stream: a power of two, 4 to 128.
    head_dim
        Largest head dimension: a multiple of ``lanes``, 16 to 256.
    slots
        Rows kept per KV head: 2 to 65,536.
    heads, kv_heads
        Query heads (1 to 32) and the KV heads that they share; ``kv_heads`` divides ``heads``.
    phases
        ``"overlapped"``: keys of the next head while the values of one are read, jobs behind each other. ``"serial"``:
        one job, head and phase at a time, for small devices. It needs the settings of :data:`SERIAL`: a ``"single"``
        store, no softmax, no normalisers and a job queue of 1, which is the running job. It has no metric RATE.
    store
        ``"block"``: one read and one write port. ``"single"``: one port, a write takes a read's cycle (single-port
        SRAM, and iCE40's SPRAM).
    shared_memory
        Bytes of the store's memory beside the rows, for the scheduler's core: 0, or a power of two from 8,192 to 65,536
        in a build with serial phases. The core then takes the store's port while it is awake.
    softmax
        Build softmax and hybrid modes beside ReLU.
    normalisers
        Those built beside ``none``: any of ``rms_head``, ``rms_layer``, ``length``, ``sum``.
    normaliser_lanes
        Context elements normalised per cycle: a power of two, 1 to lanes / 4; 0 chooses lanes / 8, at least 1 and at
        most 8.
    statistics
        Build slot statistics and the victim search.
    mass_bits, position_bits
        Widths of a slot's accumulated mass (saturating) and of a token's absolute position: 8 to 32.
    profiles
        Sets of per-head settings (thresholds, gains), so that layers need no reload: 1 to 256.
    job_queue
        Jobs that wait behind the running one: 2 to 16; 1 with serial phases.
    counter_bits
        Width of the performance counters: 16 to 64, or 0 for none.
    head_log
        Build the part of the job log that tells of heads: what gating of heads goes by.
    """

    lanes: int = 16
    head_dim: int = 64
    slots: int = 256
    heads: int = 8
    kv_heads: int = 8
    phases: str = "overlapped"
    store: str = "block"
    shared_memory: int = 0
    softmax: bool = True
    normalisers: tuple[str, ...] = ("rms_head", "rms_layer", "length", "sum")
    normaliser_lanes: int = 0
    statistics: bool = True
    mass_bits: int = 24
    position_bits: int = 20
    profiles: int = 1
    job_queue: int = 4
    counter_bits: int = 48
    head_log: bool = True

    def __post_init__(self):
        self._check_types()
        power = self.lanes > 0 and self.lanes & (self.lanes - 1) == 0
        require(power and 4 <= self.lanes <= 128, "lanes", self.lanes, "a power of two from 4 to 128 is allowed")
        require(
            16 <= self.head_dim <= formats.MAX_HEAD_DIM and self.head_dim % self.lanes == 0,
            "head_dim",
            self.head_dim,
            f"a multiple of lanes ({self.lanes}) from 16 to {formats.MAX_HEAD_DIM} is allowed",
        )
        for field, low, high in (
            ("slots", 2, formats.MAX_ROWS),
            ("heads", 1, 32),
            ("kv_heads", 1, self.heads),
            ("mass_bits", 8, 32),
            ("position_bits", 8, 32),
            ("profiles", 1, 256),
            ("counter_bits", 16 if self.counter_bits else 0, 64),
        ):
            value = getattr(self, field)
            require(low <= value <= high, field, value, f"{low} to {high} is allowed")
        require(
            self.heads % self.kv_heads == 0, "kv_heads", self.kv_heads, f"a divisor of heads ({self.heads}) is allowed"
        )
        require(self.store in ("block", "single"), "store", self.store, "'block' or 'single' is allowed")
        self._check_normaliser()
        self._check_phases()

    def _check_phases(self):
        known = ("overlapped", "serial")
        require(self.phases in known, "phases", self.phases, "'overlapped' or 'serial' is allowed")
        shared = self.shared_memory
        fits = shared & (shared - 1) == 0 and 8192 <= shared <= 65536 and self.phases == "serial"
        allowed = "0, or with serial phases a power of two from 8192 to 65536, is allowed"
        require(shared == 0 or fits, "shared_memory", shared, allowed)
        if self.phases == "serial":
            for field, value in SERIAL.items():
                require(getattr(self, field) == value, field, getattr(self, field), f"serial phases need {value!r}")
        else:
            require(2 <= self.job_queue <= 16, "job_queue", self.job_queue, "2 to 16 is allowed")

    def _check_types(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "normalisers":
                ok = isinstance(value, tuple) and all(isinstance(name, str) for name in value)
                require(ok, field.name, value, "a tuple of names is needed")
            else:
                kind = type(field.default)
                require(type(value) is kind, field.name, value, f"{kind.__name__} is needed")

    def _check_normaliser(self):
        known = [item.name.lower() for item in formats.Normaliser if item is not formats.Normaliser.NONE]
        for name in self.normalisers:
            require(name in known, "normalisers", name, f"any of {', '.join(known)} is allowed")
        require(
            list(self.normalisers) == [name for name in known if name in self.normalisers],
            "normalisers",
            self.normalisers,
            f"each name once, in the order {', '.join(known)}, is allowed",
        )
        lanes = self.normaliser_lanes
        require(
            lanes == 0 or (lanes & (lanes - 1) == 0 and 1 <= lanes <= self.lanes // 4),
            "normaliser_lanes",
            lanes,
            f"0 (chosen for you) or a power of two from 1 to {self.lanes // 4} (a quarter of lanes) is allowed",
        )

    @cached_property
    def sizes(self) -> "UnitSizes":
        """The sizes that follow from this configuration."""
        return UnitSizes(self)

    def with_settings(self, **settings) -> "UnitConfig":
        """A copy with some fields replaced; raises :class:`ConfigError` like the constructor."""
        unknown = sorted(set(settings) - {field.name for field in fields(self)})
        if unknown:
            names = ", ".join(field.name for field in fields(self))
            raise ConfigError(f"{unknown[0]} is no setting: {names} are allowed")
        return replace(self, **settings)

    def as_dict(self) -> dict:
        """Plain values in field order, for JSON."""
        return asdict(self)

    @property
    def hash(self) -> int:
        """32 bits that tell builds apart; in a register and in every generated file."""
        return hash_of(self.as_dict())


class UnitSizes:
    """Sizes derived from a :class:`UnitConfig`; widths in bits unless said otherwise."""

    def __init__(self, config: UnitConfig):
        self.lanes = config.lanes
        self.heads = config.heads
        self.slots = config.slots
        self.group = config.heads // config.kv_heads
        """Query heads that share a KV head."""
        self.beats = config.head_dim // config.lanes
        """Beats of the longest row."""
        self.rows = config.kv_heads * config.slots
        """Rows of the store, keys and values counted once."""
        self.store_depth = 2 * self.rows * self.beats
        """Beats that the store holds: all keys, then all values, column-major."""
        self.score_bits = formats.score_bits(config.head_dim)
        self.shifted_bits = self.score_bits + 1
        self.slot_bits = ceil_log2(config.slots)
        self.count_bits = bits_for(config.slots)
        """Width of a number of rows, 0...slots."""
        self.row_bits = max(1, ceil_log2(self.rows))
        self.beat_bits = max(1, ceil_log2(self.beats))
        self.beats_bits = bits_for(self.beats)
        """Width of a number of beats, 0...beats."""
        self.query_depth = 2 * config.heads * self.beats
        """Beats of queries in both input banks."""
        self.query_bits = ceil_log2(max(2, self.query_depth))
        self.head_bits = max(1, ceil_log2(config.heads))
        self.kv_bits = max(1, ceil_log2(config.kv_heads))
        self.profile_bits = max(1, ceil_log2(config.profiles))
        self.mass_bits = min(formats.MASS_BITS, self.shifted_bits + self.slot_bits)
        """Width of a query's mass: the sum of up to ``slots`` shifted scores."""
        self.weight_sum_bits = formats.WEIGHT_BITS + self.slot_bits
        self.words = 4
        """Context words (of ``word`` elements) that a beat of accumulators leaves in."""
        self.word = config.lanes // 4
        """Context elements in a word of the context buffer and in a beat of the output stream."""
        self.head_words = config.head_dim // self.word
        """Context words of the longest head."""
        self.normaliser_lanes = config.normaliser_lanes or max(1, min(8, config.lanes // 8))
        self.context_entries = 2 * config.heads if "rms_layer" in config.normalisers else 4
        """Heads that the context buffer holds."""
        self.header_beats = -(-16 // config.lanes)
        """Beats of the 16-byte header of a head's result."""
