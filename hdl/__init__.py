"""Amaranth generators of the sparse attention unit and the system around it: one component a file, named after it."""

from .attention_system import AttentionSystem
from .config import ConfigError, UnitConfig
from .sparse_attention_unit import SparseAttentionUnit
from .system_config import SystemConfig

__all__ = ["AttentionSystem", "ConfigError", "SparseAttentionUnit", "SystemConfig", "UnitConfig"]
