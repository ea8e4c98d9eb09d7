"""What a user chooses about a system: a unit, and the scheduler that runs it."""

from dataclasses import asdict, dataclass, field, fields, replace

from .config import UnitConfig, hash_of, require

__all__ = ["SystemConfig"]


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """Build-time choices of a system.

    Attributes
    ----------
    unit
        The attention unit. Its ``profiles`` are the layers that a sequence can have.
    sequences
        Sequences that can be open: 1 to 16.
    memory
        Bytes of the scheduler's memory, firmware included: a power of two, 8,192 to 65,536.
    messages
        Commands, and replies, that the mailbox holds: a power of two, 2 to 16.
    multiply
        Build the core's M extension.
    watchdog
        Cycles without a sign of life from the firmware until the core restarts: 4,096 to 2**31.
    unit_clock
        ``"shared"``: one clock for all. ``"own"``: the attention unit has a clock of its own, of any ratio and phase.
    """

    unit: UnitConfig = field(default_factory=UnitConfig)
    sequences: int = 4
    memory: int = 16384
    messages: int = 4
    multiply: bool = False
    watchdog: int = 1 << 20
    unit_clock: str = "shared"

    def __post_init__(self):
        for item in fields(self):
            if item.name == "unit":
                require(isinstance(self.unit, UnitConfig), "unit", self.unit, "a UnitConfig is needed")
            else:
                value, kind = getattr(self, item.name), type(item.default)
                require(type(value) is kind, item.name, value, f"{kind.__name__} is needed")
        require(self.unit.statistics, "statistics", False, "a system needs a unit with slot statistics")
        for name, low, high in (("memory", 8192, 65536), ("messages", 2, 16)):
            value = getattr(self, name)
            power = value > 0 and value & (value - 1) == 0
            require(power and low <= value <= high, name, value, f"a power of two from {low} to {high} is allowed")
        shared = self.unit.shared_memory
        require(shared in (0, self.memory), "shared_memory", shared, f"0 or memory ({self.memory}) is allowed")
        require(1 <= self.sequences <= 16, "sequences", self.sequences, "1 to 16 is allowed")
        require(4096 <= self.watchdog <= 1 << 31, "watchdog", self.watchdog, f"4096 to {1 << 31} is allowed")
        require(self.unit_clock in ("shared", "own"), "unit_clock", self.unit_clock, "'shared' or 'own' is allowed")
        if self.unit.phases == "serial":
            require(self.unit_clock == "shared", "unit_clock", self.unit_clock, "serial phases need 'shared'")

    @property
    def layers(self) -> int:
        """Layers that a sequence can have."""
        return self.unit.profiles

    def with_settings(self, **settings) -> "SystemConfig":
        """A copy with some fields replaced, the unit's among them; raises :class:`ConfigError`."""
        own = {item.name for item in fields(self)} - {"unit"}
        mine = {name: value for name, value in settings.items() if name in own}
        unit = {name: value for name, value in settings.items() if name not in own}
        return replace(self, unit=self.unit.with_settings(**unit), **mine)

    def as_dict(self) -> dict:
        """Plain values in field order, for JSON."""
        return asdict(self)

    @property
    def hash(self) -> int:
        """32 bits that tell builds apart; in a register and in every generated file.

        Of one clock it says nothing: such builds keep the hash that they had when there was no choice.
        """
        values = self.as_dict()
        if self.unit_clock == "shared":
            del values["unit_clock"]
        return hash_of(values)
