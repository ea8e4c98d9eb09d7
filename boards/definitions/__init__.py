"""Boards that have a definition: one module each, with ``BOARD``."""
