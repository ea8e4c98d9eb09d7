"""Errors that the command line reports in one line."""

__all__ = ["UserError"]


class UserError(Exception):
    """Something that the user can put right; the message says what is wrong, where, and what would be right."""
