"""Text from outside made harmless for where it goes: a terminal, Markdown, JSON, a spreadsheet.

Names, notes and cells come from tables and journals that somebody else may have written. HTML is
escaped by `html.escape` and by Jinja2.
"""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

__all__ = ["exact_json", "from_spreadsheet", "markdown", "safe_cell", "spreadsheet_safe", "visible"]

_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
#: What moves a cursor, hides, reorders or ends a line, and lone surrogates, which no stream takes.
#: A joiner stays within an emoji, and so do the tags that make a flag of a region.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200c\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff]"
    f"|(?<![{_EMOJI}\ufe0f])\u200d|\u200d(?![{_EMOJI}])"
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    r"""Write characters that a terminal obeys, or nobody sees, as the escapes that they are.

    Examples
    --------
    >>> print(visible("a\x1b[2Jb\nc\u202e"), visible("Zürich 東京 👩‍💻"))
    a\x1b[2Jb\nc\u202e Zürich 東京 👩‍💻
    """
    # All that is unsafe isn't printable, though not the other way round.
    return text if text.isprintable() else _UNSAFE.sub(lambda found: _named(found[0]), text)


def _named(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def exact_json(text: str, *, ascii_only: bool = False) -> str:
    r"""Escape in JSON text what a terminal would obey; a program reads the same values.

    Parameters
    ----------
    text
        The JSON.
    ascii_only
        Whether to escape all that isn't ASCII, for a stream of another encoding than UTF-8.

    Examples
    --------
    >>> print(exact_json('"a\u202eb"'))
    "a\u202eb"
    """
    if ascii_only:
        return re.sub(r"[^\x00-\x7f]", lambda found: _in_json(found[0]), text)
    if text.isprintable():
        return text
    return "\n".join(
        _UNSAFE.sub(lambda found: _in_json(found[0]), line) for line in text.split("\n")
    )


def _in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


#: What Markdown takes for markup within a line, and at the beginning of one.
_INLINE = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|!(?=\[)")
_LINE_START = re.compile(r"(\s*)([-+#=]|&gt;|\d+[.)])")


def markdown(text: str) -> str:
    r"""Return a text as Markdown that shows it as it is: no HTML, no link, no cell of its own.

    Examples
    --------
    >>> print(markdown("<b>|nrr_by_tier.A|"))
    &lt;b&gt;\|nrr_by_tier.A\|
    """
    line = _INLINE.sub(r"\\\g<0>", escape(visible(text), quote=False))
    line = line.replace("://", ":&#47;&#47;").replace("www.", "www&#46;").replace("@", "&#64;")
    start = _LINE_START.match(line)
    if start is None:
        return line
    mark = start[2] if start[2].startswith("&") else f"{start[2][:-1]}\\{start[2][-1]}"
    return start[1] + mark + line[start.end() :]


#: Cells that a spreadsheet runs as a formula, whatever blanks stand before; with any number of
#: apostrophes, so that what is escaped can be told from what was so before.
_FORMULA = "^'*(?:[\\s\\x00-\\x1f\u200b-\u200f\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\\t\\r\\n])"


def safe_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    Examples
    --------
    >>> safe_cell("=1+1"), safe_cell("acct-1")
    ("'=1+1", 'acct-1')
    """
    return f"'{text}" if re.search(_FORMULA, text) else text


def spreadsheet_safe(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with all texts, names of columns too, as `safe_cell` has them.

    Columns of numbers stay as they are.
    """
    return _texts(frame, safe_cell, _FORMULA)


def from_spreadsheet(frame: pl.DataFrame) -> pl.DataFrame:
    """Undo `spreadsheet_safe`."""

    def plain(text: str) -> str:
        return text[1:] if text[:1] == "'" and safe_cell(text[1:]) == text else text

    return _texts(frame, plain, "^'")


def _texts(frame: pl.DataFrame, changed: Callable[[str], str], pattern: str) -> pl.DataFrame:
    """Change the texts of a frame that fit a pattern, and the names of its columns."""
    import polars as pl

    columns = []
    for column in frame:
        if isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
            text = column.cast(pl.String)
            if text.str.contains(pattern).any():
                columns.append(text.map_elements(changed, return_dtype=pl.String))
    return frame.with_columns(columns).rename({name: changed(name) for name in frame.columns})
