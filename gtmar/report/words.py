"""How a page words values; templates give the exact value beside each."""

from __future__ import annotations

from datetime import UTC, datetime

from gtmar.metrics.metric import basis_note

__all__ = ["FILTERS", "arrows", "moment", "number", "percent", "signed", "signed_percent", "whole"]

#: What stands for null, and for the minus of a negative number.
_NONE, _MINUS = "\u2013", "\u2212"


def number(value: float | None) -> str:
    """Write a metric: a dash for null, four decimals, two from 100 up.

    Examples
    --------
    >>> number(0.51234), number(1655.5495)
    ('0.5123', '1,655.55')
    """
    if value is None:
        return _NONE
    return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4f}"


def signed(value: float | None) -> str:
    """Write a change of a metric, with its sign; a true minus.

    Examples
    --------
    >>> signed(0.1309), signed(20.53), signed(3)
    ('+0.1309', '+20.53', '+3')
    """
    if value is None:
        return _NONE
    if isinstance(value, int):
        text = f"{value:+,}"
    else:
        text = f"{value:+,.2f}" if abs(value) >= 10 else f"{value:+.4f}"
    return text.replace("-", _MINUS)


def signed_percent(value: float | None) -> str:
    """Write a change of a share in percentage points, with its sign; a true minus.

    Examples
    --------
    >>> signed_percent(0.0312)
    '+3.1%'
    """
    return _NONE if value is None else f"{value:+.1%}".replace("-", _MINUS)


def percent(value: float | None) -> str:
    """Write a share as a percentage with one decimal.

    Examples
    --------
    >>> percent(0.91573)
    '91.6%'
    """
    return _NONE if value is None else f"{value:.1%}".replace("-", _MINUS)


def whole(value: int | None) -> str:
    """Write a whole number, thousands separated; a negative one with a true minus.

    Examples
    --------
    >>> whole(12345)
    '12,345'
    """
    return _NONE if value is None else f"{value:,}".replace("-", _MINUS)


def moment(at: datetime | None) -> str:
    """Write a time to the minute, in UTC; a date alone where it is midnight."""
    if at is None:
        return _NONE
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%d}" if (at.hour, at.minute) == (0, 0) else f"{at:%Y-%m-%d %H:%M} UTC"


def arrows(text: str) -> str:
    """Write the journal's ``5 -> 12`` as people read it.

    Examples
    --------
    >>> arrows("nps: 5 -> 12")
    'nps: 5 → 12'
    """
    return text.replace(" -> ", " → ")


FILTERS = {
    "arrows": arrows,
    "basis_note": basis_note,
    "number": number,
    "signed": signed,
    "percent": percent,
    "signed_percent": signed_percent,
    "whole": whole,
    "moment": moment,
}
