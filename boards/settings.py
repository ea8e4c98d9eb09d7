"""Settings of heads and layers, as a host writes them."""

from dataclasses import dataclass

from reluctant.golden.formats import Mode, Normaliser
from reluctant.golden.settings import LayerSettings

__all__ = ["HeadSettings", "LayerFormat"]


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """Settings of one head in one profile, encoded as in :mod:`reluctant.golden.formats`.

    ``gain`` has one entry for each element, at most the unit's ``head_dim``; ``None`` leaves what is there (after reset
    the reset values).
    """

    theta: int = 0
    mode: Mode = Mode.RELU
    kappa: tuple[int, int] = (0, 0)
    min_active: int = 0
    min_mass: int = 0
    alpha: tuple[int, int] = (1 << 15, 0)
    sink: int = 0
    gain: tuple[int, ...] | None = None

    @classmethod
    def from_layer(cls, layer: LayerSettings, head: int) -> "HeadSettings":
        """Head ``head`` of the golden model's settings of a layer."""
        rms = layer.normaliser in (Normaliser.RMS_HEAD, Normaliser.RMS_LAYER)
        names = ("theta", "mode", "kappa", "min_active", "min_mass", "alpha", "sink")
        values = {name: getattr(layer, name)[head] for name in names}
        return cls(gain=tuple(layer.gain[head]) if rms else None, **values)

    def registers(self) -> dict[str, dict[str, int]]:
        """Name of a register of the head table to its field values, in order of address; without the gains."""
        return {
            "THETA": {"value": self.theta},
            "MODE": {"value": int(self.mode)},
            "KAPPA": {"mantissa": self.kappa[0], "shift": self.kappa[1]},
            "MIN_ACTIVE": {"value": self.min_active},
            "MIN_MASS": {"value": self.min_mass},
            "ALPHA": {"mantissa": self.alpha[0], "exponent": self.alpha[1]},
            "SINK": {"value": self.sink},
        }


@dataclass(frozen=True, kw_only=True)
class LayerFormat:
    """What all heads of a layer share.

    Attributes
    ----------
    head_dim
        Elements of a row.
    mask
        Bit h set where head h does not run.
    normaliser
        A :class:`Normaliser`.
    emit_context
        Send the contexts beside the normalised output.
    """

    head_dim: int
    mask: int = 0
    normaliser: Normaliser = Normaliser.NONE
    emit_context: bool = False

    @property
    def sends_context(self) -> bool:
        """Whether int32 contexts are in the answer."""
        return self.emit_context or self.normaliser is Normaliser.NONE

    @property
    def sends_output(self) -> bool:
        """Whether int8 outputs are in the answer."""
        return self.normaliser is not Normaliser.NONE
