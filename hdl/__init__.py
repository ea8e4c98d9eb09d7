"""Amaranth generators of the sparse attention unit: one component a file, named after it."""
