"""Results as plain data, for ``--json`` and events of a journal; numbers in digits, for people."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, ClassVar

__all__ = ["PlainData", "digits", "plain"]

#: Whole numbers from here on are written with an exponent.
_MOST_DIGITS = 1e15


@dataclass(frozen=True)
class PlainData:
    """A result that can be had as plain data: its fields by name, and some of its properties."""

    #: Fields that are left out, and properties that stand beside the fields.
    _left_out: ClassVar[tuple[str, ...]] = ()
    _beside: ClassVar[tuple[str, ...]] = ()

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        own = [field.name for field in fields(self) if field.name not in self._left_out]
        return {name: plain(getattr(self, name)) for name in (*own, *self._beside)}

    def values(self, names: str) -> dict[str, Any]:
        """Return fields and properties by name; `names` has spaces between them."""
        return {name: getattr(self, name) for name in names.split()}


def plain(value: Any) -> Any:
    """Return a value as plain data: results, frames and enumerations at any depth of it."""
    if isinstance(value, PlainData):
        return value.as_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    if isinstance(value, Enum):
        return value.value
    # A part of a spec, or a data frame.
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    return value.to_dicts() if hasattr(value, "to_dicts") else value


def digits(value: float, significant: int = 6) -> str:
    """Write a number with so many significant digits, and no fewer than its whole part has.

    Examples
    --------
    >>> digits(0.1 + 0.2), digits(123456.78, 4), digits(1234567.0), digits(0.0000123)
    ('0.3', '123457', '1234567', '1.23e-05')
    """
    text = f"{value:.{significant}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < _MOST_DIGITS else text
