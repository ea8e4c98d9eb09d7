"""What the cells of a netlist are: the technologies whose memories and multipliers are instantiated, not inferred."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["TECHNOLOGIES", "Technology", "vendor_module"]

TECHNOLOGIES = ("generic", "ice40", "ecp5", "gowin")
"""``generic`` leaves everything to synthesis; all of them give the same bits in the same cycles."""


@dataclass(frozen=True)
class Technology:
    """The ``platform`` that ``elaborate`` gets when Verilog is made for a technology.

    Raises
    ------
    ValueError
        If there is no such technology.
    """

    technology: str

    def __post_init__(self):
        if self.technology not in TECHNOLOGIES:
            raise ValueError(f"technology is {self.technology!r}: {', '.join(TECHNOLOGIES)} are allowed")


def vendor_module(builders: Mapping[str, Callable], component, platform):
    """What the platform's technology makes of ``component``; None if that is up to synthesis.

    ``builders`` has a function for each technology that may have something to say: it gets the component and returns a
    module that drives its outputs, or None for a component that is better inferred.
    """
    build = builders.get(getattr(platform, "technology", "generic"))
    return build and build(component)
