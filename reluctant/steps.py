"""From a trace and the user's choices to what the unit and the integer model run."""

from dataclasses import dataclass
from pathlib import Path

from reluctant.golden.errors import UserError
from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.gating import GatingSettings
from reluctant.golden.head_mask import HeadMask, load_mask
from reluctant.golden.policies import PolicySettings
from reluctant.golden.settings import LayerSettings
from reluctant.golden.trace import Trace
from reluctant.hdl.config import UnitConfig
from reluctant.sim.program import Job, Program, Step

from .choices import ModeName, NormaliserName
from .policy_options import PolicyOptions, policy_as_dict

__all__ = ["Scenario", "layer_program", "layer_settings", "parse_numbers", "select"]


NUMBER_LIST = "0123456789,- "
"""What a list of numbers is made of."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What to run of a trace, and how.

    Attributes
    ----------
    layers
        Layers of the trace, from 0; each starts from an empty store.
    tokens
        Tokens of each layer, from the first.
    mode, normaliser
        For all heads.
    theta
        Threshold for all heads in units of score; None takes the trace's.
    mask
        Heads that do not run in any layer.
    masks
        Heads of each layer of the trace that do not run either.
    min_active, min_mass
        A hybrid head falls back to softmax below either; 0 disables.
    policy, gating
        Of the sequence that all layers are in; None: the bare unit runs, each layer for itself, and keeps every row.
    """

    layers: tuple[int, ...]
    tokens: int
    mode: ModeName = ModeName.RELU
    normaliser: NormaliserName = NormaliserName.RMS
    theta: int | None = None
    mask: tuple[int, ...] = ()
    masks: HeadMask | None = None
    min_active: int = 0
    min_mass: int = 0
    policy: PolicySettings | None = None
    gating: GatingSettings | None = None

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        values = {**vars(self), "layers": list(self.layers), "mask": list(self.mask)}
        values["masks"] = None if self.masks is None else list(self.masks.masks)
        values |= {"mode": self.mode.value, "normaliser": self.normaliser.value}
        values["policy"] = None if self.policy is None else policy_as_dict(self.policy)
        values["gating"] = None if self.gating is None else vars(self.gating)
        return values


def parse_numbers(option: str, text: str | None, count: int, what: str) -> tuple[int, ...]:
    """Numbers below ``count`` such as ``1,4`` or ``0-2,5``, in order and once each; all of them for None.

    Raises
    ------
    UserError
        If a part is no number or range, or is out of range.
    """
    if text is None:
        return tuple(range(count))
    numbers = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"{option} {text}: {part!r} is no number: numbers or ranges such as 0-2,5 are needed")
        low, high = int(first), int(last or first)
        if low > high or high >= count:
            raise UserError(f"{option} {text}: {part.strip()} is no {what}: the trace has 0 to {count - 1}")
        numbers.update(range(low, high + 1))
    return tuple(sorted(numbers))


def select(
    trace: Trace,
    layers: str | None,
    tokens: int | None,
    mask: str | None,
    policy: PolicyOptions | None = None,
    **choices,
) -> Scenario:
    """A scenario from the words of the command line; ``choices`` are the scenario's other attributes.

    Raises
    ------
    UserError
        If the trace has no such layer, token or head, or the choices contradict each other.
    """
    if tokens is not None and not 1 <= tokens <= trace.tokens:
        raise UserError(f"--tokens {tokens}: 1 to {trace.tokens} are in the trace")
    tokens = trace.tokens if tokens is None else tokens
    if policy is not None:
        choices |= {"policy": policy.settings(tokens), "gating": policy.gating_settings()}
    scenario = Scenario(
        layers=parse_numbers("--layers", layers, trace.layers, "layer"),
        tokens=tokens,
        **_masked(mask, trace),
        **choices,
    )
    for option, value in (("--min-active", scenario.min_active), ("--min-mass", scenario.min_mass)):
        if value and scenario.mode is not ModeName.HYBRID:
            raise UserError(f"{option} {value}: only hybrid heads fall back: add --mode hybrid")
    return scenario


def _masked(word: str | None, trace: Trace) -> dict:
    """The scenario's mask or masks: numbers of heads, or the name of a file."""
    if word is None:
        return {}
    if not word.strip(NUMBER_LIST):
        return {"mask": parse_numbers("--mask", word, trace.heads, "head")}
    try:
        masks = load_mask(word)
    except ValueError as error:
        hint = "heads such as 1,5 or the file of a mask are needed"
        raise UserError(f"--mask {error}" if Path(word).exists() else f"--mask {word}: no such file: {hint}") from None
    if (len(masks.masks), masks.heads) != (trace.layers, trace.heads):
        sizes = f"{len(masks.masks)} layers of {masks.heads} heads"
        raise UserError(f"--mask {word}: is of {sizes}: the trace has {trace.layers} layers of {trace.heads} heads")
    return {"masks": masks}


def _off(scenario: Scenario, layer: int, head: int) -> bool:
    return head in scenario.mask or (scenario.masks is not None and scenario.masks.of_layer(layer)[head])


def check_build(config: UnitConfig, scenario: Scenario) -> None:
    """Raise UserError if the unit was not built with what the scenario needs."""
    if scenario.mode is not ModeName.RELU and not config.softmax:
        raise UserError(f"--mode {scenario.mode.value}: this unit is built without softmax: add --set softmax=true")
    name = scenario.normaliser.setting
    if name != "none" and name not in config.normalisers:
        known = [item.name.lower() for item in Normaliser if item.name.lower() in (*config.normalisers, name)]
        have = ", ".join(
            NormaliserName(item.replace("rms_head", "rms").replace("_", "-")) for item in config.normalisers
        )
        raise UserError(
            f"--normaliser {scenario.normaliser.value}: this unit has {have or 'none'}: "
            f"choose one of them, or add --set normalisers={','.join(known)}"
        )


def layer_settings(trace: Trace, layer: int, scenario: Scenario) -> LayerSettings:
    """Settings of one layer's heads, for the unit and the integer model.

    Raises
    ------
    UserError
        If a value does not fit its format.
    """
    choices = {} if scenario.theta is None else {"theta": scenario.theta}
    try:
        return trace.settings(
            layer,
            normaliser=Normaliser[scenario.normaliser.setting.upper()],
            mode=Mode[scenario.mode.name],
            min_active=scenario.min_active,
            min_mass=scenario.min_mass,
            mask=[_off(scenario, layer, head) for head in range(trace.heads)],
            **choices,
        )
    except ValueError as error:
        raise UserError(f"layer {layer}: {error}") from None


def layer_program(trace: Trace, layer: int, tokens: int, settings: LayerSettings) -> Program:
    """All tokens of a layer in order: each is appended, then attends to all rows so far; contexts are always sent."""
    mask = sum(masked << head for head, masked in enumerate(settings.mask))
    steps = [
        Step(
            Job(
                n=token + 1,
                head_dim=trace.head_dim,
                slot=token,
                position=token,
                mask=mask,
                emit_context=True,
                normaliser=settings.normaliser,
            ),
            keys=trace.k[layer, :, token],
            values=trace.v[layer, :, token],
            queries=trace.q[layer, :, token],
        )
        for token in range(tokens)
    ]
    return Program.from_layers(steps, {0: settings})
