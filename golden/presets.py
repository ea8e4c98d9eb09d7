"""Language models by name: sizes, and how each is trained."""

from dataclasses import dataclass, fields, replace

from .kinds import AttentionKind
from .language_model import ModelConfig
from .trainer import TrainingConfig

__all__ = ["PRESETS", "Preset", "choose"]


@dataclass(frozen=True)
class Preset:
    """A model and its training."""

    model: ModelConfig
    training: TrainingConfig

    def changed(self, **options) -> "Preset":
        """With some fields of either changed; None leaves a field as it is.

        Raises
        ------
        ValueError
            If a value is not allowed.
        """
        given = {name: value for name, value in options.items() if value is not None}
        names = {field.name for field in fields(ModelConfig)}
        return Preset(
            replace(self.model, **{name: value for name, value in given.items() if name in names}),
            replace(self.training, **{name: value for name, value in given.items() if name not in names}),
        )


_TINY = ModelConfig(layers=2, heads=4, kv_heads=2, head_dim=16, width=64, hidden=256, attention=AttentionKind.RELU_SUM)
_BASE = ModelConfig(
    layers=6,
    heads=8,
    kv_heads=8,
    head_dim=32,
    width=256,
    hidden=1024,
    vocabulary=1024,
    attention=AttentionKind.RELU_SUM,
)

PRESETS = {
    "tiny": Preset(_TINY, TrainingConfig(steps=400, batch=16, context=64, rate=5e-3, interval=50)),
    "base": Preset(_BASE, TrainingConfig(steps=1500, batch=32, context=512, weight_decay=0.1)),
}
"""``tiny`` trains on one CPU core in half a minute and shows that all works. ``base``, 5 million parameters over 1,024
byte pairs, is for a GPU; on 3 million symbols of text its held-out loss is lowest after about 1,500 steps."""


def choose(name: str, **options) -> Preset:
    """A preset with options of either configuration.

    Raises
    ------
    ValueError
        If there is no such preset, or a value is not allowed.
    """
    if name not in PRESETS:
        raise ValueError(f"preset is {name}: {' or '.join(PRESETS)} is allowed")
    return PRESETS[name].changed(**options)
