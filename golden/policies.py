"""What a KV policy is called and what it needs to be told, in plain Python; :mod:`reluctant.golden.eviction` runs it.

``docs/policies.md`` is the specification.
"""

from dataclasses import dataclass, fields
from enum import IntEnum

from . import formats

__all__ = ["Policy", "PolicySettings"]

_DEFAULT_SINKS = 4
_DEFAULT_SHARE = 77
_MAX_DMS_RECENT = 254


class Policy(IntEnum):
    """Which row leaves; the number is the one in messages to the firmware."""

    REFUSE = 0
    STREAMING = 1
    H2O = 2
    BUZZ = 3
    NACL = 4
    DMS = 5

    @property
    def label(self) -> str:
        """The name that users know: ``refuse``, ``streaming``, ..."""
        return self.name.lower()


def _defaults(policy: Policy, budget: int) -> dict[str, int]:
    """The fields that a policy uses beside the budget, and their defaults."""
    quarter = budget // 4
    return {
        Policy.REFUSE: {},
        Policy.STREAMING: {"sinks": _DEFAULT_SINKS},
        Policy.H2O: {"sinks": 0, "recent": budget // 2, "normalised": False},
        Policy.BUZZ: {"sinks": _DEFAULT_SINKS, "recent": quarter, "stride": 8},
        Policy.NACL: {
            "sinks": _DEFAULT_SINKS,
            "recent": quarter,
            "stride": 4,
            "share": _DEFAULT_SHARE,
            "seed": 0,
        },
        Policy.DMS: {"sinks": 0, "recent": min(quarter, _MAX_DMS_RECENT)},
    }[policy]


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """A policy and its numbers. :meth:`create` fills in the defaults.

    Attributes
    ----------
    policy
        A :class:`Policy`.
    budget
        Slots of a region: 1 to 65,536.
    sinks, recent
        First positions, and greatest age, that are never evicted; ``sinks + recent < budget``.
    stride
        BUZZ: positions of a segment at first, 1 to 255. NACL: one token in so many is a proxy, a power of two to 128.
    share
        NACL: evictions by chance in 256, 0 to 256.
    seed
        NACL: 32 bits.
    normalised
        H2O: mass per step of life instead of mass.

    What the policy has no use for is 0.

    Raises
    ------
    ValueError
        If a value is out of range; the message names the field, the value and what is allowed.
    """

    policy: Policy
    budget: int
    sinks: int = 0
    recent: int = 0
    stride: int = 0
    share: int = 0
    seed: int = 0
    normalised: bool = False

    def __post_init__(self):
        object.__setattr__(self, "policy", _policy(self.policy))
        _check("budget", self.budget, 1, formats.MAX_ROWS)
        if type(self.normalised) is not bool:
            raise ValueError(f"normalised is {self.normalised!r}: True or False is allowed")
        used = _defaults(self.policy, self.budget)
        for item in fields(self)[2:]:
            value = getattr(self, item.name)
            if item.name not in used and (type(value) is not type(item.default) or value != item.default):
                raise ValueError(f"{item.name} is {value!r}: {self.policy.label} has none, it must not be given")
        _check("sinks", self.sinks, 0, self.budget - 1)
        _check("recent", self.recent, 0, _MAX_DMS_RECENT if self.policy is Policy.DMS else self.budget - 1)
        if self.sinks + self.recent >= self.budget:
            sums = f"{self.sinks} + {self.recent}"
            raise ValueError(f"sinks + recent is {sums}: less than budget ({self.budget}) is allowed")
        if self.policy is Policy.BUZZ:
            _check("stride", self.stride, 1, 255)
        if self.policy is Policy.NACL:
            _check("stride", self.stride, 1, 128)
            if self.stride & (self.stride - 1):
                raise ValueError(f"stride is {self.stride}: a power of two from 1 to 128 is allowed")
        _check("share", self.share, 0, 256)
        _check("seed", self.seed, 0, (1 << 32) - 1)

    @classmethod
    def create(
        cls,
        policy: Policy,
        budget: int,
        *,
        sinks: int | None = None,
        recent: int | None = None,
        stride: int | None = None,
        share: int | None = None,
        seed: int | None = None,
        normalised: bool | None = None,
    ) -> "PolicySettings":
        """Settings with the documented default for each value that is None.

        Raises
        ------
        ValueError
            If a value is out of range, or the policy has no use for it.
        """
        policy = _policy(policy)
        _check("budget", budget, 1, formats.MAX_ROWS)
        given = {
            "sinks": sinks,
            "recent": recent,
            "stride": stride,
            "share": share,
            "seed": seed,
            "normalised": normalised,
        }
        given = {name: value for name, value in given.items() if value is not None}
        return cls(policy=policy, budget=budget, **{**_defaults(policy, budget), **given})


def _policy(value: object) -> Policy:
    if value in list(Policy):
        return Policy(value)
    raise ValueError(f"policy is {value!r}: one of {', '.join(item.label for item in Policy)} is allowed")


def _check(field: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{field} is {value!r}: {low} to {high} is allowed")
