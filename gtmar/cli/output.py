"""Everything that is printed: sentences, tables that fit the terminal, JSON; messages on stderr.

All output goes through this module. It shows control and bidirectional characters as escapes, takes
credentials out, and raises an `OutputError` where stdout can't be written.
"""

from __future__ import annotations

import json
import math
import re
import sys
import textwrap
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from rich.cells import cell_len

from gtmar.errors import OutputError
from gtmar.plain_data import number, some
from gtmar.safe_text import exact_json, redacted, visible, without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date

    import polars as pl
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "HEADS",
    "Answer",
    "Tone",
    "announce",
    "complain",
    "data",
    "flush_stdout",
    "for_programs",
    "frame",
    "hide_credentials_of",
    "is_terminal",
    "json_line",
    "number",
    "print_command",
    "say",
    "say_all",
    "say_newest",
    "set_form",
    "some",
    "table",
    "text",
    "unwritable",
    "without_secrets",
]

#: Table heads for metrics of a tier.
HEADS = {"logo_retention": "logos kept", "nrr": "NRR", "grr": "GRR", "arpa": "ARPA", "mrr": "MRR"}
#: Meanings of colours. There are colours on a terminal only, and none with NO_COLOR.
Tone: TypeAlias = Literal["good", "bad", "warning"]
_STYLES: dict[Tone, str] = {"good": "green", "bad": "red", "warning": "yellow"}
#: Tones of cells of a table, by their whole text.
_TONES: dict[str, Tone] = {
    "better": "good",
    "win": "good",
    "worse": "bad",
    "blocked": "warning",
}

#: Blanks between two columns that are tried; if a table doesn't fit with the last, each row becomes
#: a block of lines.
_GAPS = (3, 2, 1)
#: A long word isn't shortened below this width.
_SHORTEST = 12
#: In a query's result, columns up to the first width, such as RUN/EXP, aren't wrapped; wider ones
#: get at least the second.
_WHOLE, _WRAPPED = 33, 20
#: Words that are never shortened: numbers and dates, RUN/EXP, verdicts in capitals.
_ENTIRE = re.compile(
    r"[(\[]?[-+]?[\d.,:/%+-]+(e[-+]?\d+)?[%)\],;.]*|r\d{8}-\d{6}-[0-9a-f]{6}(/\w+)?[,;.]?|[A-Z_]{3,}[,;.]?"
)
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_NUMBER = re.compile(r"[-+]?[\d,]+(\.\d+)?%?|-|")


@dataclass(frozen=True)
class Answer:
    """A command's answer: plain data for programs, text for people, and an exit code."""

    #: Returns the data; called with ``--json`` alone.
    data: Callable[[], object]
    #: Prints the text; called without ``--json`` alone.
    text: Callable[[], None]
    code: int = 0

    def print(self) -> None:
        """Print the answer in the form that the command line asks for."""
        if for_programs():
            data(self.data())
        else:
            self.text()


class _Form:
    """Whether the running command prints JSON."""

    json = False


def set_form(*, as_json: bool) -> None:
    """Set whether the running command prints JSON."""
    _Form.json = as_json


def for_programs() -> bool:
    """Return whether the running command prints JSON."""
    return _Form.json


#: Options and arguments of the command that may be locations: their secrets are never printed.
_given: list[str] = []


def hide_credentials_of(locations: Iterable[str]) -> None:
    """Set the locations that a command was given, whose credentials must not be printed."""
    _given[:] = locations


def _console(stream: TextIO | None = None) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=False)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal; False for one that is closed."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _write(content: str, *, to_errors: bool = False) -> None:
    """Write to stdout or stderr; nothing else in gtmar does.

    Raises `OutputError` if stdout can't be written, `BrokenPipeError` if its reader has gone. What
    can't be written to stderr is dropped.
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
    """Return the error for stdout that can't be written."""
    return OutputError(
        f"stdout can't be written: {reason}",
        hint="what the command did stays; only what it had to say is lost",
    )


def flush_stdout() -> None:
    """Flush stdout, so that nothing fails when the process ends; errors are those of `_write`."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as err:
        raise unwritable(getattr(err, "strerror", None) or str(err)) from err


def without_secrets(content: str, *, foreign: bool = False) -> str:
    """Take the credentials that the command was given out of a text; see `redacted`."""
    return redacted(content, *_given, foreign=foreign)


def _shown(content: str) -> str:
    return visible(without_secrets(content))


def say(text: str = "", tone: Tone | None = None) -> None:
    """Print a sentence to stdout: wrapped and coloured on a terminal, on one line elsewhere.

    Leading blanks indent all its lines.
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
            console.print(_toned(line, tone), soft_wrap=True)
    _write(captured.get())


def say_all(*sentences: str | None, tone: Tone | None = None) -> None:
    """Print each of some sentences that there is."""
    for sentence in filter(None, sentences):
        say(sentence, tone)


def complain(label: str, text: str, tone: Tone | None = None) -> None:
    """Print a message to stderr after a label such as ``error``, ``hint``, ``note``.

    It is wrapped at a terminal's width; line ends in it stay. The tone colours the label.
    """
    text = "\n".join(map(_shown, text.split("\n")))
    if is_terminal(sys.stderr):
        console = _console(sys.stderr)
        shown = _toned(f"{label}: ", tone)
        with console.capture() as captured:
            console.print(shown.append(text, style="default"))
        _write(captured.get(), to_errors=True)
    else:
        _write(f"{label}: {text}\n", to_errors=True)


def announce(sentence: str) -> None:
    """Print a sentence about progress, to stderr."""
    _write(f"{_shown(sentence)}\n", to_errors=True)


def print_command(command: str) -> None:
    """Print the next command on one line, so that it can be copied."""
    shown = _shown(command)
    _write(f"Next: {shown}\n")
    bare = ((location, without_credentials(location)) for location in _given)
    withheld = any(name != location and name in shown for location, name in bare)
    if shown != visible(command) or withheld:
        _write("There, put in your own URL with its credentials: they are not printed.\n")


def text(content: str) -> None:
    """Print a text for programs: a spec, SQL, a digest.

    On a terminal control characters are shown as escapes; any other reader gets the text as it is.
    """
    if is_terminal(sys.stdout):
        content = "\n".join(map(visible, content.split("\n")))
    _write(content)


def data(value: object, *, to_errors: bool = False) -> None:
    """Print plain data as one JSON value; NaN and infinity become null."""
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
    """Escape in JSON text the characters that a stream's encoding may lack."""
    name = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
    return content if name.startswith("utf") else exact_json(content, ascii_only=True)


def _plain(value: object, *, redact: bool) -> object:
    """Return data that JSON can hold, without the credentials that the command was given.

    With `redact`, for errors, all URLs lose their credentials.
    """
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


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    fold: bool = False,
    broken: bool = False,
    spare: bool = False,
) -> None:
    """Print a table that fits the terminal's width, numbers to the right.

    If it is too wide, texts are wrapped at blanks, and long words lose their middle such that no
    two of a column look the same; numbers and verdicts stay whole. If it is still too wide, each
    row becomes a block of lines.

    Parameters
    ----------
    columns, rows
        Heads, and rows of as many cells; numbers are written by `number`.
    title
        A line above the table.
    fold
        Whether long words are continued on the next line, instead of shortened.
    broken
        Whether heads are broken at underscores.
    spare
        Whether the last column is left out if it is empty in all rows.
    """
    cells = [[visible(v if isinstance(v, str) else number(v)) for v in row] for row in rows]
    columns = [visible(name) for name in columns]
    if spare and not any(row[-1] for row in cells):
        columns, cells = columns[:-1], [row[:-1] for row in cells]
    if broken:
        columns = ["\n".join(name.split("_")) for name in columns]
    texts = [[head, *(row[i] for row in cells)] for i, head in enumerate(columns)]
    natural = [max(cell_len(line) for text in each for line in text.split("\n")) for each in texts]
    least = [
        max((_least(word) for text in each for word in text.split()), default=0) for each in texts
    ]
    width = _console().width
    if title:
        say()
        say(title)
    between = len(columns) - 1
    # Columns closer together leave words whole that would be cut.
    whole = [gap for gap in _GAPS[:2] if sum(natural) <= width - gap * between]
    for gap in whole or _GAPS:
        room = width - gap * between
        if sum(least) <= room or (len(columns) <= 2 and gap == _GAPS[-1]):
            _print_table(texts, _widths(natural, least, room), gap, fold=fold)
            return
    for row in cells:
        block = [[head.replace("\n", " "), cell] for head, cell in zip(columns, row, strict=True)]
        table(["", ""], block, fold=fold)


def _least(word: str) -> int:
    """Return the least width of a word."""
    return cell_len(word) if _ENTIRE.fullmatch(word) else min(cell_len(word), _SHORTEST)


def _widths(natural: list[int], least: list[int], room: int) -> list[int]:
    """Return the width of each column: its least, and a part of what is left of `room`.

    Columns that need little more come first, so that as many as possible aren't wrapped.
    """
    widths, left = list(least), room - sum(least)
    lacking = sorted(range(len(natural)), key=lambda i: natural[i] - least[i])
    for nth, i in enumerate(lacking):
        more = min(max(0, natural[i] - least[i]), left // (len(lacking) - nth))
        widths[i] += more
        left -= more
    return widths


def _print_table(texts: list[list[str]], widths: list[int], gap: int, *, fold: bool) -> None:
    """Print columns, each a head and its cells, at widths that are at least those of `_least`."""
    from rich import box
    from rich.table import Table

    left = {3: 1, 2: 0, 1: 0}[gap]
    shape = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1 - left, 0, left),
    )
    columns = [
        [_wrapped(text, width, short) for text in column]
        for column, width in zip(texts, widths, strict=True)
        for short in [{} if fold else _shortened(column, width)]
    ]
    for column, text, width in zip(columns, texts, widths, strict=True):
        right = len(text) > 1 and all(_NUMBER.fullmatch(cell) for cell in text[1:])
        shape.add_column(
            _toned(column[0], None),
            justify="right" if right else "left",
            overflow="fold",
            min_width=width,
            max_width=width,
        )
    for row in zip(*(column[1:] for column in columns), strict=True):
        shape.add_row(*(_toned(cell, _TONES.get(cell)) for cell in row))
    console = _console()
    with console.capture() as captured:
        console.print(shape)
    _write(captured.get())


def _wrapped(text: str, width: int, short: Mapping[str, str]) -> str:
    """Break a text at blanks into lines of a width; `short` has replacements of long words."""
    lines = []
    for part in text.split("\n"):
        if cell_len(part) <= width:
            lines.append(part)
            continue
        line = ""
        for word in (short.get(word, word) for word in part.split()):
            if line and cell_len(line) + 1 + cell_len(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return "\n".join(lines)


def _shortened(texts: Sequence[str], width: int) -> dict[str, str]:
    """Return short forms of the words that are wider than a column; no two are the same.

    Examples
    --------
    >>> _shortened(["monthly_active_users", "monthly_paying_users"], 12)
    {'monthly_active_users': 'mont…e_users', 'monthly_paying_users': 'mont…g_users'}
    """
    words = list(dict.fromkeys(word for text in texts for word in text.split()))
    long = [word for word in words if cell_len(word) > width]
    if not long:
        return {}
    others = set(words).difference(long)
    room = width - 1
    halves = sorted(range(room + 1), key=lambda head: (abs(head - (room + 1) // 2), head))
    for head in halves:
        short = {word: _ends(word, head, room - head) for word in long}
        if len({*short.values()} | others) == len(long) + len(others):
            return short
    # They differ in the middle only: show that part or, if it is too long, number the words.
    first, last = _common(long), _common([word[::-1] for word in long])
    middles = {word: word[first : max(first, len(word) - last)] for word in long}
    for mark in (middles, {word: f"~{nth}" for nth, word in enumerate(long, start=1)}):
        free = max(0, room - 1 - max(cell_len(text) for text in mark.values()))
        short = {
            word: f"{_ends(word, free - free // 2, 0)}{text}{_ends(word, 0, free // 2)}"
            for word, text in mark.items()
        }
        fits = all(cell_len(text) <= width for text in short.values())
        if fits and len({*short.values()} | others) == len(long) + len(others):
            break
    return short


def _common(words: Sequence[str]) -> int:
    """Return the length of the longest prefix that all words have."""
    letters = zip(*words, strict=False)
    return sum(1 for _ in takewhile(lambda each: len(set(each)) == 1, letters))


def _ends(word: str, head: int, tail: int) -> str:
    """Return a word's beginning and end, of so many cells each, an ellipsis between them."""
    begun, ended = word, word
    while cell_len(begun) > head:
        begun = begun[:-1]
    while cell_len(ended) > tail:
        ended = ended[1:]
    return f"{begun}{_ELLIPSIS}{ended}"


def _toned(text: str, tone: Tone | None) -> Text:
    # Imported late, like all of Rich that draws: many answers need none of it.
    from rich.text import Text

    return Text(text, style=_STYLES[tone] if tone else "")


def frame(rows: pl.DataFrame) -> None:
    """Print a query's result as a table if it fits, else each row as a block of lines."""
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
        table(rows.columns, cells, fold=True, broken=True)
    else:
        for row in cells:
            table(["", ""], list(zip(rows.columns, row, strict=True)), fold=True)
    say(some(rows.height, "row"))


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {number(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(v) for v in value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return number(value)


def say_newest(day: date | None) -> None:
    """Print which date was taken from a table of several dates; nothing if `day` is None."""
    if day is not None:
        say(f"Accounts as of {day}, the newest date; --at takes another.")
