"""The register maps of a build: the unit's, and of a system what the host and what the scheduler's core see."""

from pathlib import Path

from amaranth.utils import bits_for, ceil_log2

from reluctant.golden.formats import Normaliser

from .address_map import AddressMap, Field, Register
from .config import UnitConfig
from .messages import MESSAGE_WORDS
from .system_config import SystemConfig

__all__ = ["SOURCE", "Field", "Register", "RegisterMap", "parameters", "scheduler_map", "system_map"]

SOURCE = Path(__file__).with_name("registers.rdl")
SYSTEM_SOURCE = Path(__file__).with_name("system_registers.rdl")
REGISTER_BYTES = 0x100
"""Space of the plain registers and the counters."""


def window_bytes(config: UnitConfig) -> int:
    """Bytes of each of the seven windows: the power of two that holds the largest."""
    gains = config.profiles * config.heads * config.head_dim * 4 if _has_gains(config) else 0
    slots = config.sizes.rows * 4 if config.statistics else 0
    return 1 << ceil_log2(max(REGISTER_BYTES, config.profiles * config.heads * 32, gains, slots))


def parameters(config: UnitConfig) -> dict[str, int]:
    """Parameters of ``registers.rdl`` for a build."""
    sizes = config.sizes
    built = 1 << Normaliser.NONE
    for name in config.normalisers:
        built |= 1 << Normaliser[name.upper()]
    return {
        "HASH": config.hash,
        "LANES": config.lanes,
        "HEAD_DIM": config.head_dim,
        "SLOTS": config.slots,
        "HEADS": config.heads,
        "KV_HEADS": config.kv_heads,
        "SINGLE_PORT": int(config.store == "single"),
        "SOFTMAX": int(config.softmax),
        "NORMALISERS": built,
        "NORMALISER_LANES": sizes.normaliser_lanes,
        "STATISTICS": int(config.statistics),
        "RATE": int(config.statistics and config.phases != "serial"),
        "HEAD_LOG": int(config.head_log),
        "MASS_BITS": config.mass_bits,
        "POSITION_BITS": config.position_bits,
        "PROFILES": config.profiles,
        "JOB_QUEUE": config.job_queue,
        "COUNTER_BITS": config.counter_bits,
        "COUNT_BITS": sizes.count_bits,
        "SLOT_BITS": sizes.slot_bits,
        "HEAD_DIM_BITS": bits_for(config.head_dim),
        "GAINS": int(_has_gains(config)),
        "WINDOW": window_bytes(config),
    }


def _has_gains(config: UnitConfig) -> bool:
    return any(name.startswith("rms") for name in config.normalisers)


class RegisterMap(AddressMap):
    """The unit's map: ``registers.rdl`` with the sizes of a build. Tables that were not built are absent.

    Arrays: ``address("HEAD_TABLE.THETA", profile, head)``, ``address("GAIN", profile, head, element)``,
    ``address("SLOT_MASS", kv_head, slot)``.

    Parameters
    ----------
    config
        The build.

    Attributes
    ----------
    registers, counters, address_width
        As in :class:`AddressMap`.
    window
        Bytes of each of the seven windows.
    """

    def __init__(self, config: UnitConfig):
        self.config = config
        self.window = window_bytes(config)
        super().__init__(SOURCE, "sparse_attention_unit", parameters(config), "RELUCTANT_")

    def _sizes(self) -> dict[str, int]:
        return super()._sizes() | {"SCORE_BITS": self.config.sizes.score_bits}


def system_map(config: SystemConfig) -> AddressMap:
    """What the host sees of a system; macros of its C header begin with ``RELUCTANT_SYSTEM_``."""
    sizes = {
        "HASH": config.hash,
        "MESSAGES": config.messages,
        "MESSAGE_WORDS": MESSAGE_WORDS,
        "SEQUENCES": config.sequences,
        "LAYERS": config.layers,
        "MEMORY": config.memory,
        "MEMORY_BITS": ceil_log2(config.memory),
        "MULTIPLY": int(config.multiply),
        "HELD": int(config.unit.shared_memory > 0),
    }
    return AddressMap(SYSTEM_SOURCE, "sparse_attention_system", sizes, "RELUCTANT_SYSTEM_")


def scheduler_map(config: SystemConfig) -> AddressMap:
    """What the scheduler's core sees beside memory and unit; macros of its C header begin with ``SCHEDULER_``."""
    sizes = {"MESSAGES": config.messages, "MESSAGE_WORDS": MESSAGE_WORDS}
    return AddressMap(SYSTEM_SOURCE, "scheduler", sizes, "SCHEDULER_")
