"""What a study compares: a model, the heads that run, what stays in the KV cache, and how weights are made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reluctant.golden.errors import UserError
from reluctant.golden.gating import GatingSettings
from reluctant.golden.policies import Policy, PolicySettings

from .policy_options import Budget, policy_as_dict

if TYPE_CHECKING:
    from reluctant.golden.head_mask import HeadMask
    from reluctant.golden.unit_attention import UnitOptions

__all__ = ["GROUPS", "Configuration", "configurations"]

GROUPS = {
    "a": "dense softmax",
    "b": "softmax, heads dropped",
    "c": "ReLU, heads dropped",
    "d": "c with a KV policy",
    "e": "d with fallback or gating",
}
"""Kinds of configurations."""

POLICIES = (Policy.STREAMING, Policy.H2O, Policy.BUZZ, Policy.NACL)
SHARES = (1 / 8, 1 / 4)
"""Budgets, as shares of the models' context."""
WEIGHED = (Policy.H2O, Policy.BUZZ, Policy.NACL)
"""Policies that look at what rows have earned."""
LEAST_BUDGET = 8
"""Of the default ones: every policy has room for its sinks and its recent rows then."""
DMS_SHARE = 1 / 4
"""One budget is enough for DMS: which tokens it flags was not trained."""
GATING = GatingSettings(active=1, probe=2)
FALLBACK_ACTIVE = 1


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One line of the study.

    Attributes
    ----------
    name, group
        Unique, and a key of :data:`GROUPS`.
    softmax
        The softmax twin, not the ReLU model.
    pruned
        Heads of the model's mask do not run.
    policy
        Which rows stay, in all layers or in each; all without it.
    min_active
        Heads are hybrid: they fall back to softmax where fewer rows are active; 0: the model's own mode.
    gating
        When heads are turned off.
    """

    name: str
    group: str
    softmax: bool = False
    pruned: bool = True
    policy: PolicySettings | tuple[PolicySettings, ...] | None = None
    min_active: int = 0
    gating: GatingSettings | None = None

    @property
    def changes(self) -> bool:
        """What a step does depends on the weights of those before it."""
        policies = self.policy if isinstance(self.policy, tuple) else (self.policy,)
        return self.gating is not None or any(item and item.policy in WEIGHED for item in policies)

    def options(self, mask: "HeadMask") -> "UnitOptions":
        """What the integer model and the unit are set to, given the model's mask."""
        from reluctant.golden.formats import Mode
        from reluctant.golden.unit_attention import UnitOptions

        return UnitOptions(
            mode=Mode.HYBRID if self.min_active else None,
            min_active=self.min_active,
            mask=mask if self.pruned else None,
            policy=self.policy,
            gating=self.gating,
        )

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "group": self.group,
            "model": "softmax" if self.softmax else "relu",
            "pruned": self.pruned,
            "policy": None if self.policy is None else policy_as_dict(self.policy),
            "min_active": self.min_active,
            "gating": None if self.gating is None else vars(self.gating),
        }


def configurations(
    context: int,
    policies: Sequence[Policy] | None = None,
    budgets: Sequence[Budget] | None = None,
    *,
    best: Sequence[Budget] = (),
    quick: bool = False,
) -> list[Configuration]:
    """What is compared for models of a context.

    Parameters
    ----------
    policies, budgets
        Of (d), each with each; None is a default.
    best
        Budgets that ``streaming`` has beside the default ones.
    quick
        Fewer are enough.

    Raises
    ------
    UserError
        If a budget does not fit a policy, or drops no row of a window.
    """
    every = [
        Configuration(name="softmax", group="a", softmax=True, pruned=False),
        Configuration(name="softmax, pruned", group="b", softmax=True),
        Configuration(name="relu, pruned", group="c"),
    ]
    shares = sorted({_share(share, context) for share in SHARES[quick:]})
    sizes: Sequence[Budget] = shares if budgets is None else budgets
    chosen = policies or POLICIES[: 2 if quick else None]
    kept = [(policy, budget) for policy in chosen for budget in sizes]
    if policies is None and budgets is None:
        kept += [] if quick else [(Policy.DMS, _share(DMS_SHARE, context))]
        kept += [(Policy.STREAMING, budget) for budget in best]
    for policy, budget in kept:
        name, settings = f"{policy.label} {_name(budget)}", _settings(policy, budget, context)
        every.append(Configuration(name=name, group="d", policy=settings))
    last = every[-1]
    more = [(", gating", {"gating": GATING})]
    if not quick:
        fallback = {"min_active": FALLBACK_ACTIVE}
        more += [(", fallback", fallback), (", fallback, gating", fallback | {"gating": GATING})]
    return every + [replace(last, name=last.name + name, group="e", **changes) for name, changes in more]


def _share(share: float, context: int) -> int:
    return max(LEAST_BUDGET, round(share * context))


def _settings(policy: Policy, budget: Budget, context: int) -> PolicySettings | tuple[PolicySettings, ...]:
    each = budget if isinstance(budget, tuple) else (budget,)
    if min(each) >= context:
        raise UserError(f"--budgets {min(each)}: a window has {context} tokens: a smaller budget is needed")
    try:
        settings = tuple(PolicySettings.create(policy, number) for number in each)
    except ValueError as error:
        raise UserError(f"--policies {policy.label}, --budgets {_name(budget)}: {error}") from None
    return settings if isinstance(budget, tuple) else settings[0]


def _name(budget: Budget) -> str:
    """The number, or the commonest and the layers that have others."""
    if not isinstance(budget, tuple):
        return str(budget)
    usual = max(set(budget), key=lambda number: (budget.count(number), -number))
    others = [f"layer {layer}: {number}" for layer, number in enumerate(budget) if number != usual]
    return f"{usual} ({', '.join(others)})" if others else str(usual)
