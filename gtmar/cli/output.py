"""How output is written: lines, tables that fit the terminal, JSON. stdout is data.

Every text leaves through this module, which shows control and bidirectional characters as escapes,
takes credentials out, and words what keeps a stream from being written.
"""

from __future__ import annotations

import json
import math
import re
import sys
import textwrap
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gtmar.errors import OutputError
from gtmar.escaping import exact_json, visible
from gtmar.redaction import redacted, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl

__all__ = [
    "Tone",
    "announce",
    "complain",
    "data",
    "finish",
    "following",
    "frame",
    "given",
    "is_terminal",
    "json_line",
    "number",
    "say",
    "some",
    "table",
    "text",
    "unwritable",
    "without_secrets",
]

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


#: What the command was given as locations: their secrets are printed nowhere.
_given: list[str] = []


def given(locations: Iterable[str]) -> None:
    """Take in what a command was given as locations, whose credentials must not be printed."""
    _given[:] = locations


def _console(stream: TextIO | None = None) -> Console:
    return Console(file=stream, highlight=False, soft_wrap=False)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is one that somebody looks at."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _write(content: str, *, to_errors: bool = False) -> None:
    """Write to stdout, or to stderr; the only place that does.

    Raises
    ------
    OutputError
        If stdout can't be written. What can't be told on stderr is lost: nobody could be told.
    BrokenPipeError
        If who reads it has gone.
    """
    stream = sys.stderr if to_errors else sys.stdout
    if stream is None:
        if not to_errors:
            raise unwritable("it is closed")
        return
    try:
        try:
            stream.write(content)
        except UnicodeEncodeError:
            name = stream.encoding or "ascii"
            stream.write(content.encode(name, "backslashreplace").decode(name))
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as err:
        if not to_errors:
            raise unwritable(getattr(err, "strerror", None) or str(err)) from err


def unwritable(reason: str) -> OutputError:
    """Word that stdout can't be written."""
    return OutputError(
        f"stdout can't be written: {reason}",
        hint="what the command did stays; only what it had to say is lost",
    )


def finish() -> None:
    """Flush stdout; then nothing is left that could fail when the process ends.

    Raises
    ------
    OutputError, BrokenPipeError
        As `_write` does.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as err:
        raise unwritable(getattr(err, "strerror", None) or str(err)) from err


def without_secrets(content: str, *, foreign: bool = False) -> str:
    """Take out of a text what the command was given of credentials; `foreign` as in `redacted`."""
    return redacted(content, *_given, foreign=foreign)


def _shown(content: str) -> str:
    return visible(without_secrets(content))


def say(text: str = "", tone: Tone | None = None) -> None:
    """Print a sentence to stdout, wrapped at the width of a terminal, whole elsewhere.

    Parameters
    ----------
    text
        The sentence; blanks before it indent all its lines.
    tone
        What its colour says on a terminal; None for no colour.
    """
    text = _shown(text)
    if not is_terminal(sys.stdout):
        _write(f"{text}\n")
        return
    console = _console()
    blanks = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(text, console.width, subsequent_indent=blanks, break_on_hyphens=False)
    with console.capture() as captured:
        for line in lines or [""]:
            console.print(Text(line, style=_STYLES[tone] if tone else ""), soft_wrap=True)
    _write(captured.get())


def complain(label: str, text: str, tone: Tone | None = None) -> None:
    """Print a message to stderr, its label toned; wrapped at the width of a terminal.

    Parameters
    ----------
    label
        What it is: ``error``, ``hint``.
    text
        The message. Its lines stay: a `GtmarError` has none but its own.
    tone
        What the label's colour says.
    """
    text = "\n".join(map(_shown, text.split("\n")))
    if is_terminal(sys.stderr):
        console = _console(sys.stderr)
        shown = Text(f"{label}: ", style=_STYLES[tone] if tone else "")
        with console.capture() as captured:
            console.print(shown.append(text, style="default"))
        _write(captured.get(), to_errors=True)
    else:
        _write(f"{label}: {text}\n", to_errors=True)


def announce(sentence: str) -> None:
    """Print a sentence to stderr: progress, since stdout is data."""
    _write(f"{_shown(sentence)}\n", to_errors=True)


def following(command: str) -> None:
    """Print the next command, whole on one line, so that it can be copied."""
    shown = _shown(command)
    _write(f"Next: {shown}\n")
    bare = ((location, without_credentials(location)) for location in _given)
    withheld = any(name != location and name in shown for location, name in bare)
    if shown != visible(command) or withheld:
        _write("There, put in your own URL with its credentials: they are not printed.\n")


def text(content: str) -> None:
    """Print a text that is to be read by programs: a spec, SQL, a digest, lines of JSON.

    A terminal gets it with control characters shown, any other reader as it is.
    """
    if is_terminal(sys.stdout):
        content = "\n".join(map(visible, content.split("\n")))
    _write(content)


def data(value: object, *, to_errors: bool = False) -> None:
    """Print plain data as one JSON value; a number that JSON doesn't have is null."""
    indent = None if to_errors else 2
    try:
        content = json.dumps(value, allow_nan=False, ensure_ascii=False, default=str, indent=indent)
        held = any(location in content for location in _given if "/" in location)
    except (ValueError, TypeError):
        held = True
    if held or to_errors:
        plain = _plain(value, redact=to_errors)
        content = json.dumps(plain, ensure_ascii=False, default=str, indent=indent)
    _write(
        _in_charset(exact_json(content), sys.stderr if to_errors else sys.stdout) + "\n",
        to_errors=to_errors,
    )


def json_line(content: str) -> None:
    """Print a line of JSON."""
    _write(_in_charset(exact_json(content), sys.stdout) + "\n")


def _in_charset(content: str, stream: TextIO | None) -> str:
    """Escape in JSON what a stream's encoding may lack."""
    name = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
    return content if name.startswith("utf") else exact_json(content, ascii_only=True)


def _plain(value: object, *, redact: bool) -> object:
    """Return data that JSON can hold, without credentials: in errors none, else those given."""
    if isinstance(value, dict):
        return {
            str(_plain(k, redact=redact)): _plain(each, redact=redact) for k, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(each, redact=redact) for each in value]
    if isinstance(value, str):
        known = any(location in value for location in _given if "/" in location)
        return without_secrets(value) if redact or known else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    broken: bool = False,
) -> None:
    """Print a table that fits the terminal; numbers to the right.

    Parameters
    ----------
    columns, rows
        Its head and cells.
    title
        What stands above it.
    broken
        Whether a line of the head ends at each underscore.
    """
    cells = [[visible(v if isinstance(v, str) else number(v)) for v in row] for row in rows]
    columns = [visible(name) for name in columns]
    if broken:
        columns = ["\n".join(name.split("_")) for name in columns]
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
    console = _console()
    with console.capture() as captured:
        console.print(shape)
    _write(captured.get())


def _toned(cell: str) -> Text:
    tone = _TONES.get(cell)
    return Text(cell, style=_STYLES[tone] if tone else "")


def frame(rows: pl.DataFrame, *, as_json: bool) -> None:
    """Print a query's result: as a table where it fits, else a block of lines a row."""
    if as_json:
        data(rows.to_dicts())
        return
    cells = [[visible(_cell(value)) for value in row] for row in rows.rows()]
    heads = [max(map(len, name.split("_"))) for name in rows.columns]
    longest = [max((len(row[i]) for row in cells), default=0) for i in range(len(heads))]
    needed = (
        max(head, cell if cell <= _WHOLE else _WRAPPED)
        for head, cell in zip(heads, longest, strict=True)
    )
    if not cells:
        say(f"Columns: {', '.join(rows.columns)}.")
    elif sum(needed) + 3 * (len(heads) - 1) <= _console().width:
        table(rows.columns, cells, broken=True)
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
