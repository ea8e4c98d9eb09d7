"""A language model that is small enough for any test, and a text for it."""

import torch

from reluctant.golden.language_model import LanguageModel, ModelConfig

__all__ = ["SMALL", "small_model", "small_text"]

SMALL = {"layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 8, "width": 16, "hidden": 32}


def small_model(**changes) -> LanguageModel:
    """:data:`SMALL` with changes; the same weights for the same configuration."""
    torch.manual_seed(0)
    return LanguageModel(ModelConfig(**SMALL | changes))


def small_text(count: int = 4000) -> torch.Tensor:
    """uint8 (count,)"""
    return torch.frombuffer(bytearray(b"the cat sat on the mat. " * (count // 24 + 1)), dtype=torch.uint8)[:count]
