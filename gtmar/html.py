"""Numbers as people read them, and small HTML tables for notebooks, escaped and without script."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["arrows", "number", "sentence", "table"]


def number(value: object, *, none: str = "-") -> str:
    """Write a value for people: a dash for null, thousands separated, cents from 100 up.

    Examples
    --------
    >>> number(None), number(12345), number(0.51234), number("A")
    ('-', '12,345', '0.5123', 'A')
    >>> number(655.5495)
    '655.55'
    """
    if value is None:
        return none
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def arrows(text: str) -> str:
    """Write the journal's ``5 -> 12`` as people read it.

    Examples
    --------
    >>> arrows("nps: 5 -> 12")
    'nps: 5 → 12'
    """
    return text.replace(" -> ", " → ")


def sentence(text: str) -> str:
    """Return a text as an HTML paragraph."""
    return f"<p>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str) -> str:
    """Return an HTML table; numbers are written by `number`.

    Examples
    --------
    >>> table(["name"], [["<b>"]], caption="names")
    '<table><caption>names</caption><tr><th>name</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(number(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"
