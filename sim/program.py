"""What to run on a simulated unit: settings, steps and raw operations on its buses."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reluctant.boards.settings import HeadSettings
from reluctant.golden.formats import Metric, Normaliser
from reluctant.golden.settings import LayerSettings

__all__ = [
    "Delay",
    "ExpectPacket",
    "HeadSettings",
    "Job",
    "Operation",
    "Packet",
    "Program",
    "Read",
    "SetJob",
    "Step",
    "WaitIdle",
    "WaitInterrupt",
    "Write",
]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One step as the host asks for it: the members of ``layouts.job``, with ``head_dim`` in elements.

    ``mask`` has bit h set where head h does not run.
    """

    n: int
    head_dim: int
    slot: int = 0
    base: int = 0
    position: int = 0
    mask: int = 0
    append: bool = True
    attend: bool = True
    evict: bool = False
    emit_context: bool = False
    normaliser: Normaliser = Normaliser.NONE
    profile: int = 0
    sinks: int = 0
    recent: int = 0
    metric: Metric = Metric.POSITION
    silent: bool = False

    def registers(self) -> dict[str, dict[str, int]]:
        """Register name to field values."""
        words = ("n", "slot", "base", "position", "head_dim", "mask", "sinks", "recent")
        control = ("append", "attend", "evict", "emit_context", "normaliser", "metric", "profile", "silent")
        single = {f"JOB_{name.upper()}": {"value": int(getattr(self, name))} for name in words}
        return {**single, "JOB_CONTROL": {name: int(getattr(self, name)) for name in control}}

    @property
    def sends_context(self) -> bool:
        """Whether int32 contexts are in the answer."""
        return self.emit_context or self.normaliser is Normaliser.NONE

    @property
    def sends_output(self) -> bool:
        """Whether int8 outputs are in the answer."""
        return self.normaliser is not Normaliser.NONE


@dataclass(frozen=True, eq=False)
class Step:
    """A job with its rows: int8 arrays, keys and values (kv_heads, head_dim), queries (heads, head_dim).

    Jobs of steps are queued ahead and their packets follow each other without a pause, so that loading overlaps.

    Raises
    ------
    ValueError
        If the arrays do not fit the job.
    """

    job: Job
    keys: np.ndarray | None = None
    values: np.ndarray | None = None
    queries: np.ndarray | None = None

    def __post_init__(self):
        wanted = {"keys": self.job.append, "values": self.job.append, "queries": self.job.attend}
        for name, needed in wanted.items():
            rows = getattr(self, name)
            if (rows is not None) != needed:
                raise ValueError(f"{name} are {'needed' if needed else 'not part of the packet'} in this job")
            if needed and (rows.dtype != np.int8 or rows.ndim != 2 or rows.shape[1] != self.job.head_dim):
                raise ValueError(
                    f"{name} are {rows.dtype}{list(rows.shape)}: int8 rows of {self.job.head_dim} elements are needed"
                )

    def packet(self) -> bytes:
        """Bytes of the input packet."""
        parts = (self.keys, self.values, self.queries)
        return b"".join(np.ascontiguousarray(part).tobytes() for part in parts if part is not None)


@dataclass(frozen=True, kw_only=True)
class Write:
    """Write ``word`` to a register (name with ``indices``, or byte address) and check the response.

    ``strobe`` selects bytes, which must be adjacent.
    """

    register: str | int
    word: int
    indices: tuple[int, ...] = ()
    strobe: int = 0xF
    response: str = "OKAY"


@dataclass(frozen=True, kw_only=True)
class Read:
    """Read a register and check the response and, where given, the bits of ``expect`` under ``mask``."""

    register: str | int
    indices: tuple[int, ...] = ()
    expect: int | None = None
    mask: int = 0xFFFF_FFFF
    response: str = "OKAY"


@dataclass(frozen=True)
class SetJob:
    """Write the job registers, without starting the job."""

    job: Job


@dataclass(frozen=True)
class Packet:
    """Queue a raw packet on the input stream: whole beats; the last one ends it. Does not wait."""

    data: bytes


@dataclass(frozen=True)
class ExpectPacket:
    """Wait for a packet on the output stream; with ``data``, it must be that."""

    data: bytes | None = None


@dataclass(frozen=True)
class WaitInterrupt:
    """Wait until the interrupt line has this level."""

    level: bool = True


@dataclass(frozen=True)
class WaitIdle:
    """Wait for the answers of all steps so far, until all input is taken and the unit says that it is idle."""


@dataclass(frozen=True)
class Delay:
    """Let cycles pass."""

    cycles: int


Operation = Step | Write | Read | SetJob | Packet | ExpectPacket | WaitInterrupt | WaitIdle | Delay


@dataclass(frozen=True)
class Program:
    """What one simulation runs, from reset: settings first, then the operations in order, then :class:`WaitIdle`.

    Operations wait only for what they say. In particular a write to a head's settings between steps needs a
    :class:`WaitIdle` before it.

    Attributes
    ----------
    operations
        Steps and raw operations.
    settings
        (profile, head) to :class:`HeadSettings`; heads not named keep their reset values.
    """

    operations: tuple[Operation, ...]
    settings: Mapping[tuple[int, int], HeadSettings] = field(default_factory=dict)

    @classmethod
    def from_layers(cls, steps, layers: Mapping[int, LayerSettings]) -> "Program":
        """Steps under the golden model's settings, given by profile."""
        settings = {
            (profile, head): HeadSettings.from_layer(layer, head)
            for profile, layer in layers.items()
            for head in range(layer.heads)
        }
        return cls(tuple(steps), settings)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps among the operations."""
        return tuple(operation for operation in self.operations if isinstance(operation, Step))
