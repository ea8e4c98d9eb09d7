"""The KV policy and the head gating that a user asks for."""

from dataclasses import asdict, dataclass

from reluctant.golden.errors import UserError
from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import Policy, PolicySettings

__all__ = ["PolicyOptions", "policy_as_dict"]

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


def policy_as_dict(policy: PolicySettings) -> dict:
    """Plain values, for JSON: the policy's name and the numbers that it uses."""
    values = {**asdict(policy), "policy": policy.policy.label}
    unused = PolicySettings(policy=Policy.REFUSE, budget=1)
    keep = ("policy", "budget")
    return {name: value for name, value in values.items() if name in keep or value != getattr(unused, name)}
