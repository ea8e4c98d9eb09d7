"""The KV policy and the head gating that a user asks for."""

from dataclasses import asdict, dataclass

from reluctant.golden.errors import UserError
from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import Policy, PolicySettings

__all__ = ["Budget", "PolicyOptions", "parse_budget", "policy_as_dict"]

Budget = int | tuple[int, ...]
"""Rows that each layer keeps: one number for all, or one each."""

GATING_PARTS = ("active", "mass", "probe")


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Words of the command line; None is the policy's default."""

    policy: str = "refuse"
    budget: int | None = None
    sinks: int | None = None
    recent: int | None = None
    stride: int | None = None
    share: int | None = None
    seed: int | None = None
    normalised: bool | None = None
    gating: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Options that are not at their default, as on the command line."""
        return tuple(f"--{name}" for name, value in vars(self).items() if value != getattr(PolicyOptions, name))

    def settings(self, tokens: int) -> PolicySettings:
        """The policy's settings; the budget is the number of tokens unless given.

        Raises
        ------
        UserError
            If a value is out of range, or the policy has no use for it.
        """
        numbers = {name: value for name, value in vars(self).items() if name not in ("policy", "budget", "gating")}
        try:
            budget = tokens if self.budget is None else self.budget
            return PolicySettings.create(Policy[self.policy.upper()], budget, **numbers)
        except ValueError as error:
            given = f"--policy {self.policy}" + ("" if self.budget is None else f" --budget {self.budget}")
            raise UserError(f"{given}: {error}") from None

    def gating_settings(self) -> GatingSettings:
        """When heads are turned off; never unless asked for.

        Raises
        ------
        UserError
            If the text is not ACTIVE[:MASS[:PROBE]], or a number is out of range.
        """
        if self.gating is None:
            return GatingSettings()
        parts = self.gating.split(":")
        if len(parts) > len(GATING_PARTS) or not all(part.isdecimal() for part in parts):
            raise UserError(f"--gating {self.gating}: ACTIVE[:MASS[:PROBE]] is needed, such as 4 or 4:1000:16")
        try:
            return GatingSettings(**dict(zip(GATING_PARTS, map(int, parts), strict=False)))
        except ValueError as error:
            raise UserError(f"--gating {self.gating}: {error}") from None


def parse_budget(option: str, word: str, layers: int) -> Budget:
    """A number for all layers, or one each with ``/`` between them.

    Raises
    ------
    UserError
        If it is none, or not as many as there are layers.
    """
    parts = [part.strip() for part in word.split("/")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"{option} {word}: a number from 1 on, or one for each layer such as 24/24/192, is needed")
    if len(parts) not in (1, layers):
        raise UserError(f"{option} {word}: one number, or {layers}, one for each layer, is needed")
    return int(parts[0]) if len(parts) == 1 else tuple(map(int, parts))


def policy_as_dict(policy: PolicySettings | tuple[PolicySettings, ...]) -> dict:
    """Plain values, for JSON: the policy's name and the numbers that it uses; lists where layers have their own."""
    if isinstance(policy, tuple):
        each = [policy_as_dict(item) for item in policy]
        names = each[0]
        return {
            name: names[name] if all(item[name] == names[name] for item in each) else [item[name] for item in each]
            for name in names
        }
    values = {**asdict(policy), "policy": policy.policy.label}
    unused = PolicySettings(policy=Policy.REFUSE, budget=1)
    keep = ("policy", "budget")
    return {name: value for name, value in values.items() if name in keep or value != getattr(unused, name)}
