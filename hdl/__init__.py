"""Amaranth generators of the sparse attention unit: one component a file, named after it."""

from .config import ConfigError, UnitConfig
from .sparse_attention_unit import SparseAttentionUnit

__all__ = ["ConfigError", "SparseAttentionUnit", "UnitConfig"]
