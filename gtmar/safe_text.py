"""Text from outside, escaped for its destination: a terminal, Markdown, JSON, a spreadsheet.

Names, notes and cells come from tables and journals that somebody else may have written. This
module also removes credentials. HTML is escaped by `html.escape` and by Jinja2.
"""

from __future__ import annotations

import os
import re
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import polars as pl

__all__ = [
    "exact_json",
    "from_spreadsheet",
    "is_remote",
    "markdown",
    "redacted",
    "safe_cell",
    "spreadsheet_safe",
    "visible",
    "without_credentials",
]


_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
#: Characters that move the cursor, are invisible, change the direction of text or end a line; and
#: lone surrogates, which can't be written. Joiners and tags within an emoji are allowed.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200c\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff]"
    f"|(?<![{_EMOJI}\ufe0f])\u200d|\u200d(?![{_EMOJI}])"
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    r"""Write control characters and invisible ones as escapes.

    Examples
    --------
    >>> print(visible("a\x1b[2Jb\nc\u202e"), visible("Zürich 東京 👩‍💻"))
    a\x1b[2Jb\nc\u202e Zürich 東京 👩‍💻
    """
    # Quick check: no unsafe character is printable.
    return text if text.isprintable() else _UNSAFE.sub(lambda match: _named(match[0]), text)


def _named(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def exact_json(text: str, *, ascii_only: bool = False) -> str:
    r"""Escape control characters and invisible ones in JSON text; its values stay the same.

    Parameters
    ----------
    text
        The JSON.
    ascii_only
        Whether to escape everything but ASCII, for a stream whose encoding isn't UTF-8.

    Examples
    --------
    >>> print(exact_json('"a\u202eb"'))
    "a\u202eb"
    """
    if ascii_only:
        return re.sub(r"[^\x00-\x7f]", lambda match: _in_json(match[0]), text)
    if text.isprintable():
        return text
    return "\n".join(
        _UNSAFE.sub(lambda match: _in_json(match[0]), line) for line in text.split("\n")
    )


def _in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


#: Markup of Markdown, anywhere in a line and at its beginning.
_INLINE = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|!(?=\[)")
_LINE_START = re.compile(r"(\s*)([-+#=]|&gt;|\d+[.)])")


def markdown(text: str) -> str:
    r"""Escape a text for Markdown, so that it makes no HTML, link or table cell.

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


#: Cells that a spreadsheet runs as a formula, even after blanks. Leading apostrophes are included,
#: so that escaping can be undone.
_FORMULA = "^'*(?:[\\s\\x00-\\x1f\u200b-\u200f\ufeff]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\\t\\r\\n])"


def safe_cell(text: str) -> str:
    """Return a text with an apostrophe in front if a spreadsheet would run it as a formula.

    Examples
    --------
    >>> safe_cell("=1+1"), safe_cell("acct-1")
    ("'=1+1", 'acct-1')
    """
    return f"'{text}" if re.search(_FORMULA, text) else text


def spreadsheet_safe(frame: pl.DataFrame) -> pl.DataFrame:
    """Apply `safe_cell` to all texts of a frame, and to the names of its columns."""
    return _texts(frame, safe_cell, _FORMULA)


def from_spreadsheet(frame: pl.DataFrame) -> pl.DataFrame:
    """Undo `spreadsheet_safe`."""

    def plain(text: str) -> str:
        return text[1:] if text[:1] == "'" and safe_cell(text[1:]) == text else text

    return _texts(frame, plain, "^'")


def _texts(frame: pl.DataFrame, changed: Callable[[str], str], pattern: str) -> pl.DataFrame:
    """Apply `changed` to columns with a text that matches a pattern, and to all columns' names."""
    import polars as pl

    columns = []
    for column in frame:
        if isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
            text = column.cast(pl.String)
            if text.str.contains(pattern).any():
                columns.append(text.map_elements(changed, return_dtype=pl.String))
    return frame.with_columns(columns).rename({name: changed(name) for name in frame.columns})


#: Schemes of URLs. After these, one slash or none is a URL, too, as `Path` drops the second slash.
_SCHEMES = (
    "https?|s3[an]?|gs|gcs|azure|az|adl|abfss?|wasbs?|r2|oss|cos|hf|hdfs|ftps?|sftp|ssh|file|ray|"
    "postgres(?:ql)?|mysql|mariadb|mssql|oracle|snowflake|redshift|bigquery|trino|databricks|"
    "sqlite|duckdb|iceberg|delta|mongodb|redis|amqps?|jdbc"
)
_END = re.compile(r"[\s\"'<>`{}|^]|\\[nrtx]|$")
_URL = re.compile(rf"(?:delta:)?(?:[a-z][a-z0-9+.\-]*://|\b(?:{_SCHEMES})(?:\+\w+)?:/?(?!/))", re.I)
_POSTGRES = re.compile(r"postgres(?:ql)?://", re.I)
#: URLs in which the part before @ isn't secret: a container, or a database's user.
_NAMES = re.compile(rf"(?:delta:)?(?:abfs|wasb)s?:|{_POSTGRES.pattern}", re.I)
#: Keys of a URL's query that aren't secret; and those of PostgreSQL that name the server.
_PUBLIC = ("table", "version")
_SERVER = ("host", "port", "sslmode")
#: A secret after its name, in a query, an option or a connection string.
_NAMED = re.compile(
    r"""((?:[\w.\-]*(?:secret|token|passw(?:or)?d|pwd|signature|credential|api[_\-]?key|account[_\-]?key
    |access[_\-]?key(?:[_\-]?id)?|shared[_\-]?access)[\w.\-]*|\bsig|\bsas|x-amz-[\w\-]+|x-goog-[\w\-]+)
    ["']?\s*[=:]\s*)("[^"]*"|'[^']*'|(?:bearer\s+)?[^\s&;,"'<>(){}\[\]]+)""",
    re.I | re.X,
)
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=\-]{8,}", re.I)
#: Variables of the environment that hold secrets.
_VARIABLE = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|CONNECTION_STR"
)
#: Secrets shorter than this are removed only within URLs: elsewhere they may be ordinary words.
_TELLING = 4
_GONE = "..."


def without_credentials(location: str) -> str:
    """Remove user, password and query from a URL, except a table's name; paths stay as they are.

    A user of PostgreSQL stays: it isn't secret, and without it the URL means another user.

    Examples
    --------
    >>> without_credentials("s3://key:secret@bucket/a.parquet?token=x")
    's3://bucket/a.parquet'
    >>> without_credentials("duckdb:///crm.db?table=accounts")
    'duckdb:///crm.db?table=accounts'
    >>> without_credentials("abfss://container@account.dfs.core.windows.net/a")
    'abfss://container@account.dfs.core.windows.net/a'
    >>> without_credentials("postgresql://me:secret@host/crm?table=accounts&passfile=x")
    'postgresql://me@host/crm?table=accounts'
    """
    start = _URL.match(location)
    if start is None:
        return location
    head, (user, host, path, query, fragment) = start[0], _parts(location[start.end() :])
    shown = user.partition(":")[0] if _NAMES.match(head) else ""
    public = _public(head)
    kept = [item for item in re.split("[&;]", query) if item.partition("=")[0] in public]
    # A local path may contain a question mark; nothing else shows it to be a URL.
    if not head.endswith("//") and not user and not query and not fragment:
        return location
    # Parameters of a path, after a semicolon, may be secret like a query.
    whole = head + (f"{shown}@" if shown else "") + host + re.sub(r";[^/]*", "", path)
    return whole + ("?" + "&".join(kept) if kept else "")


def _public(head: str) -> tuple[str, ...]:
    """Return the keys of a URL's query that stay, given how the URL begins."""
    return (*_PUBLIC, *_SERVER) if _POSTGRES.match(head) else _PUBLIC


def _parts(rest: str) -> tuple[str, str, str, str, str]:
    """Split the part after a URL's scheme: user and password, host, path, query, fragment.

    Accepts any text; a password may contain characters that should have been escaped.
    """
    end = re.search(r"[/?#]", rest)
    authority = rest[: end.start()] if end else rest
    at = authority.rfind("@")
    if at < 0 and "@" in rest and re.search(r":(?!\d*$)", authority) and authority[:1] != "[":
        # The text after the colon is no port, so it is a password, up to the last @.
        at = rest.rfind("@")
    user, rest = (rest[:at], rest[at + 1 :]) if at >= 0 else ("", rest)
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    return user, host, slash + path, query, fragment


def redacted(text: str, *locations: str, foreign: bool = False) -> str:
    """Remove credentials from a text.

    Parameters
    ----------
    text
        The text; `without_credentials` is applied to every URL in it.
    locations
        Locations that the user gave; their secret parts are removed wherever they occur.
    foreign
        Whether a library wrote the text. Then values after a name such as ``token`` are removed,
        and values of environment variables with such names. In gtmar's own texts such a name is a
        column's.

    Examples
    --------
    >>> redacted("GET http://me:pw@h/a?sig=x failed")
    'GET http://h/a failed'
    >>> redacted("{'session_token': 'abc'}", foreign=True)
    "{'session_token': ...}"
    >>> redacted("no key sig=abcd", "http://h/a?sig=abcd")
    'no key sig=...'
    """
    for location in locations:
        if _URL.match(location):
            text = text.replace(location, without_credentials(location))
    held = {secret for location in locations for secret in _secrets(location)}
    if foreign:
        held |= {
            value
            for name, value in os.environ.items()
            if len(value) >= 2 * _TELLING and _VARIABLE.search(name.upper())
        }
    for secret in sorted(held, key=len, reverse=True):
        text = text.replace(secret, _GONE)
    if "://" in text or _URL.search(text):
        text = "".join(_words(text))
    if foreign:
        text = _BEARER.sub(rf"\1{_GONE}", _NAMED.sub(rf"\1{_GONE}", text))
    return text


def _words(text: str) -> Iterable[str]:
    """Yield a text in pieces, each URL in it without credentials."""
    at = 0
    for match in _URL.finditer(text):
        if match.start() < at:
            continue
        end = _END.search(text, match.end())
        stop = end.start() if end else len(text)
        url = text[match.start() : stop]
        tail = url[len(url.rstrip(".,:;)")) :]
        yield text[at : match.start()]
        yield without_credentials(url.removesuffix(tail)) + tail
        at = stop
    yield text[at:]


def _secrets(location: str) -> Iterable[str]:
    """Yield the secret parts of a location: as they are, decoded, and encoded."""
    start = _URL.match(location)
    if start is None:
        return
    user, _, path, query, fragment = _parts(location[start.end() :])
    password = user.partition(":")[2] if _NAMES.match(start[0]) or ":" in user else user
    public = _public(start[0])
    pairs = [*re.split("[&;]", query), *re.split("[&;]", fragment), *re.findall(";([^/;]*)", path)]
    items = [item.partition("=") for item in pairs]
    values = [value or key for key, _, value in items if key not in public]
    pieces = re.split("[/?#]", password)
    for part in (user if ":" in user else "", password, *pieces, fragment, *values):
        for form in (part, unquote(part), quote(part), quote(part, safe="")):
            if len(form) >= _TELLING:
                yield form


def is_remote(location: str) -> bool:
    r"""Return whether a location is on another machine.

    Examples
    --------
    >>> [is_remote(each) for each in ("a.parquet", "duckdb:///a.db?table=t", "s3://b/a", r"\\h\a")]
    [False, False, True, True]
    """
    bare = location.removeprefix("delta:")
    if bare.startswith(("//", "\\\\", "/\\", "\\/")):
        return True
    start = _URL.match(bare)
    if start is None:
        return False
    local = ("duckdb:///", "file:///", "sqlite:///")
    if bare.lower().startswith(local):
        return bare.split(":", 1)[1].startswith(("/////", "///\\\\"))
    return start[0].endswith("//") or (os.name == "nt" and len(start[0]) > 2)
