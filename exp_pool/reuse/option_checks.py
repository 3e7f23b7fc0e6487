"""Checks of the options of judges, context builders and `Refine`, made where they are written."""

from __future__ import annotations

from typing import TypeGuard

from exp_pool.errors import ConfigurationError


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is an int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_number(name: str, value: object, low: float = 0.0) -> None:
    """Raise `ConfigurationError` unless the option is a number from `low` to 1.

    Args:
        name: of the option.
        value: what was given for it.
        low: the least number that it may be.
    """
    if not is_number(value) or not low <= value <= 1:
        raise ConfigurationError(f"{name}={value!r} must be between {low:g} and 1")


def check_count(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the option is a whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name}={value!r} must be a whole number, at least 1")


def check_bool(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the option is True or False."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r} must be True or False")
