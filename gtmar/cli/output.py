"""How output is written: lines, tables that fit the terminal, JSON. stdout is data."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl

__all__ = ["Tone", "complain", "data", "following", "frame", "number", "say", "some", "table"]

#: What a colour means; nothing else has one. On a terminal only, and not with NO_COLOR.
Tone: TypeAlias = Literal["good", "bad", "warning"]
_STYLES: dict[Tone, str] = {"good": "green", "bad": "red", "warning": "yellow"}
#: Words that have a tone wherever they are a whole cell.
_TONES: dict[str, Tone] = {
    "better": "good",
    "win": "good",
    "worse": "bad",
    "blocked": "warning",
}

#: Columns up to this wide are never broken, RUN/EXP among them; what doesn't fit is taken from the
#: others.
_WHOLE = 33
#: Between two columns.
_GAP = 3
#: Least width that a longer text is wrapped to; narrower, and a row becomes a block of lines.
_WRAPPED = 20
_NUMBER = re.compile(r"[-+]?[\d,]+(\.\d+)?%?|-|")


def _console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def say(text: str = "", tone: Tone | None = None) -> None:
    """Print a sentence to stdout, wrapped at the width of a terminal, whole elsewhere.

    Parameters
    ----------
    text
        The sentence; blanks before it indent all its lines.
    tone
        What its colour says on a terminal; None for no colour.
    """
    if sys.stdout.isatty():
        _print(_console(), text, tone)
    else:
        sys.stdout.write(f"{text}\n")


def complain(label: str, text: str, tone: Tone | None = None) -> None:
    """Print a message to stderr, its label toned; wrapped at the width of a terminal."""
    if sys.stderr.isatty():
        console = Console(stderr=True, highlight=False)
        shown = Text(f"{label}: ", style=_STYLES[tone] if tone else "")
        console.print(shown.append(text, style="default"))
    else:
        sys.stderr.write(f"{label}: {text}\n")


def _print(console: Console, text: str, tone: Tone | None) -> None:
    """Print a sentence to a terminal; an indented one stays indented."""
    blanks = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(
        text, console.width, subsequent_indent=blanks, break_on_hyphens=False
    ) or [""]
    style = _STYLES[tone] if tone else ""
    for line in lines:
        console.print(Text(line, style=style), soft_wrap=True)


def following(command: str) -> None:
    """Print the next command, whole on one line, so that it can be copied."""
    sys.stdout.write(f"Next: {command}\n")


def data(value: object) -> None:
    """Print plain data as JSON to stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def number(value: object) -> str:
    """Write a value for people: a dash for null, thousands separated, cents from 100 up.

    Examples
    --------
    >>> number(None), number(12345), number(0.51234)
    ('-', '12,345', '0.5123')
    >>> number(655.5495)
    '655.55'
    """
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4f}"
    return str(value)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print a table that fits the terminal; numbers to the right."""
    cells = [[v if isinstance(v, str) else number(v) for v in row] for row in rows]
    shape = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    texts = [[row[i] for row in cells] for i in range(len(columns))]
    heads = [max(map(len, name.split()), default=0) for name in columns]
    longest = [max([head, *map(len, t)]) for head, t in zip(heads, texts, strict=True)]
    # Left to itself, rich takes width from short columns too.
    short = [n for n in longest if n <= _WHOLE]
    room = _console().width - sum(short) - _GAP * (len(columns) - 1)
    share = max(_WRAPPED, room // max(1, len(longest) - len(short)))
    for name, column, most in zip(columns, texts, longest, strict=True):
        right = bool(column) and all(_NUMBER.fullmatch(text) for text in column)
        shape.add_column(
            Text(name),
            justify="right" if right else "left",
            overflow="fold",
            min_width=most if most <= _WHOLE else None,
            max_width=None if most <= _WHOLE else share,
        )
    for row in cells:
        shape.add_row(*map(_toned, row))
    if title:
        say()
        say(title)
    _console().print(shape)


def _toned(cell: str) -> Text:
    tone = _TONES.get(cell)
    return Text(cell, style=_STYLES[tone] if tone else "")


def frame(rows: pl.DataFrame, *, as_json: bool) -> None:
    """Print a query's result: as a table where it fits, else a block of lines a row."""
    if as_json:
        data(rows.to_dicts())
        return
    cells = [[_cell(value) for value in row] for row in rows.rows()]
    heads = [max(map(len, name.split("_"))) for name in rows.columns]
    longest = [max((len(row[i]) for row in cells), default=0) for i in range(len(heads))]
    needed = (
        max(head, cell if cell <= _WHOLE else _WRAPPED)
        for head, cell in zip(heads, longest, strict=True)
    )
    if not cells:
        say(f"Columns: {', '.join(rows.columns)}.")
    elif sum(needed) + 3 * (len(heads) - 1) <= _console().width:
        table(["\n".join(name.split("_")) for name in rows.columns], cells)
    else:
        for row in cells:
            table(["", ""], zip(rows.columns, row, strict=True))
    say(some(rows.height, "row"))


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {number(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return number(value)


def some(count: int, noun: str) -> str:
    """Count things: 1 row, 2 rows."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
