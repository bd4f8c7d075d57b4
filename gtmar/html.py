"""Small tables as HTML, for notebooks: everything escaped, no script, no style of its own."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["number", "sentence", "table"]


def number(value: object) -> str:
    """Write a value as text: a dash for null, four digits after the point.

    Examples
    --------
    >>> number(None), number(12345), number(0.51234), number("A")
    ('-', '12,345', '0.5123', 'A')
    """
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"


def sentence(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{escape(text)}</p>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str) -> str:
    """Return a table, numbers as `number` writes them.

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
