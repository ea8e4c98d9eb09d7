"""Words that options take."""

from enum import StrEnum

__all__ = ["ModeName", "NormaliserName", "PolicyName", "SimulatorName"]


class ModeName(StrEnum):
    """How heads turn scores into weights."""

    RELU = "relu"
    SOFTMAX = "softmax"
    HYBRID = "hybrid"


class NormaliserName(StrEnum):
    """What becomes of a context."""

    NONE = "none"
    RMS = "rms"
    RMS_LAYER = "rms-layer"
    LENGTH = "length"
    SUM = "sum"

    @property
    def setting(self) -> str:
        """The name in the configuration's ``normalisers``."""
        return {"rms": "rms_head"}.get(self.value, self.value.replace("-", "_"))


class PolicyName(StrEnum):
    """Which row leaves when a region is full."""

    REFUSE = "refuse"
    STREAMING = "streaming"
    H2O = "h2o"
    BUZZ = "buzz"
    NACL = "nacl"
    DMS = "dms"


class SimulatorName(StrEnum):
    """What runs the Verilog."""

    VERILATOR = "verilator"
    ICARUS = "icarus"
