"""Kinds of attention by name; no torch, so that the command line can list them."""

from enum import StrEnum

__all__ = ["AttentionKind"]


class AttentionKind(StrEnum):
    """How a layer turns scores into contexts; formulas are in :mod:`reference`."""

    SOFTMAX = "softmax"
    RELA_HEAD = "rela_head"
    RELA_LAYER = "rela_layer"
    LENGTH = "length"
    RELU_SUM = "relu_sum"
