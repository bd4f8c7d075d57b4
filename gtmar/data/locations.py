"""Locations of tables as text: parsed into their parts, and shown without credentials.

`scan` opens a location for reading, `integrations.lakehouse` for writing.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from gtmar.errors import AccountDataError, UsageError, nearest
from gtmar.safe_text import is_remote, redacted, without_credentials
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "consenting",
    "delta_root",
    "duckdb_place",
    "expanded",
    "is_delta",
    "is_path",
    "literal",
    "local_path",
    "quoted",
    "refuse_remote",
    "refuse_unasked",
    "split",
    "table_named",
    "without_credentials",
    "worded",
]

#: Remote locations that a person named in this process, without credentials.
_named: set[str] = set()
#: Decides whether a remote location that a journal's record names may be opened.
_consent: ContextVar[Callable[[str], bool]] = ContextVar("consent")
#: A part of a table's name, quoted or not.
_PART = r'"(?:[^"]|"")+"|[^."]+'
#: A URL, also with a single slash, which is what `Path` leaves of two.
_URL = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/+(?P<rest>.*)", re.DOTALL)


def expanded(path: str | Path) -> Path:
    """Return a local path with ``~`` replaced by the home folder and ``file:///a`` by ``/a``."""
    url = _URL.match(str(path))
    if url is not None and url["scheme"].lower() == "file":
        return Path("/" + unquote(url["rest"]))
    try:
        return Path(path).expanduser()
    except RuntimeError as err:
        raise UsageError(
            f'"{path}": no home folder of that name', hint="write the path from / on"
        ) from err


def refuse_remote(path: str | Path, *, what: str, hint: str) -> None:
    """Raise `UsageError` for a URL, or a path that begins with ``~``, where a local path is needed.

    Otherwise a folder of that name would be created in the working directory. The message begins
    with `what`, such as ``a journal is a local folder``.
    """
    url = _URL.match(str(path))
    if url is not None:
        raise UsageError(f"{what}, got a URL: {url['scheme']}://...", hint=hint)
    if str(path).startswith("~"):
        raise UsageError(f'{what}, got "{path}"', hint="Path.expanduser() puts in the home folder")


@contextmanager
def consenting(answer: Callable[[str], bool]) -> Iterator[None]:
    """Call `answer` within the block before a remote location of a journal's record is opened."""
    token = _consent.set(answer)
    try:
        yield
    finally:
        _consent.reset(token)


def split(location: str) -> SplitResult:
    """Split a URL; raise `UsageError` if it is malformed, as with half of an IPv6 address."""
    try:
        return urlsplit(location)
    except ValueError as err:
        name = without_credentials(location)
        raise UsageError(f'"{name}": not a URL: {redacted(str(err), location)}') from err


def duckdb_place(location: str) -> tuple[Path, str]:
    """Split ``duckdb:///file.db?table=accounts`` into path and table."""
    parts = split(location)
    tables = parse_qs(parts.query).get("table", [])
    if parts.netloc or len(tables) != 1 or len(parts.path) < 2:
        raise UsageError(
            f'"{without_credentials(location)}": expected duckdb:///file.db?table=NAME',
            hint="three slashes for a path from here, four for one from the root",
        )
    return Path(unquote(parts.path[1:])), tables[0]


def local_path(location: str) -> Path | None:
    """Return the local file, folder or glob that a location names; None for a URL.

    Examples
    --------
    >>> str(local_path("duckdb:///crm.db?table=accounts")), local_path("s3://bucket/a.parquet")
    ('crm.db', None)
    """
    path = location.removeprefix("delta:").removeprefix("file://")
    if path.startswith("duckdb:///"):
        return Path(unquote(urlsplit(path).path[1:]))
    return None if "://" in path else Path(path)


def is_path(location: str) -> bool:
    """Return whether a location is a plain local path: no URL and no ``delta:FOLDER``."""
    return not (is_remote(location) or "://" in location or location.startswith("delta:"))


def delta_root(location: str) -> tuple[str, tuple[str, ...]]:
    """Split a path into a Delta table's root and its partition parts, as ``day=2024-01-01``.

    A table whose own folder is named like a partition is not split.

    Examples
    --------
    >>> delta_root("s3://lake/accounts/day=2024-01-01/")
    ('s3://lake/accounts', ('day=2024-01-01',))
    """
    parts = location.rstrip("/").split("/")
    count = len(parts)
    while count and "=" in parts[count - 1]:
        if Path("/".join(parts[:count]), "_delta_log").is_dir():
            break
        count -= 1
    # Without any other part the table is the root or the current folder.
    return "/".join(parts[:count]) or ("/" if location[:1] == "/" else "."), tuple(parts[count:])


def is_delta(location: str) -> bool:
    """Return whether a local path is a Delta table's folder, or a partition's folder below it."""
    return Path(delta_root(location)[0], "_delta_log").is_dir()


def quoted(name: str) -> str:
    """Quote a name for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def worded(location: str, err: Exception) -> str:
    """Return an error's first line, with the location's credentials removed."""
    return redacted(first_line(err), location, location.removeprefix("delta:"), foreign=True)


def refuse_unasked(location: str, *, recorded: bool) -> None:
    """Raise `AccountDataError` for a remote location that only a journal's record names.

    The author of a journal may have recorded any address, and opening it would send the reader's
    credentials there. So such a location needs consent, see `consenting`. Where no consent can be
    asked for, as from Python, a location that a person named earlier in the process is allowed.
    """
    if not is_remote(location):
        return
    name = without_credentials(location)
    if not recorded:
        _named.add(name)
        return
    answer = _consent.get(None)
    if not (name in _named if answer is None else answer(location)):
        raise AccountDataError(
            f'"{name}": named by the journal\'s record, elsewhere than on this machine, so it is '
            "not opened unasked",
            hint="--data names the table, or --yes opens what the record names",
        )


def table_named(
    name: str, tables: list[tuple[str, str, str]], location: str, *, main: str = "main"
) -> str:
    """Return a table's quoted name: ``accounts``, ``marts.accounts``, ``crm.marts.accounts``.

    A table of the main schema whose whole name equals `name`, dots included, comes first. The hint
    for a misspelt name suggests tables of the requested schema, and those that a name without a
    schema matches but for its case.

    Parameters
    ----------
    name
        The table's name as the user wrote it.
    tables
        Catalog, schema and name of the tables in the database.
    location
        The database's name in messages.
    main
        The schema of a name without one.

    Raises
    ------
    AccountDataError
        If there is no such table.
    """

    def shown(schema: str, table: str) -> str:
        parts = (table,) if schema == main else (schema, table)
        plain = all(re.fullmatch(r"\w+", part) for part in parts)
        # Quoted whole or part by part, both of which this function can read back.
        return f'"{".".join(parts)}"' if plain else ".".join(map(quoted, parts))

    parts = [name]
    if re.fullmatch(rf"(?:{_PART})(?:\.(?:{_PART})){{0,2}}", name):
        parts = [
            part[1:-1].replace('""', '"') if part.startswith('"') else part
            for part in re.findall(_PART, name)
        ]
    wanted = [(main, name), (main if len(parts) == 1 else parts[-2], parts[-1])]
    for schema, table in wanted:
        for catalog, its_schema, its_table in tables:
            outside = len(parts) == 3 and parts[0].lower() != catalog.lower()
            if (its_schema, its_table) == (schema, table) and not outside:
                return ".".join(map(quoted, (catalog, its_schema, its_table)))
    known = [shown(schema, table) for _, schema, table in tables]
    alike = [shown(schema, table) for _, schema, table in tables if schema == wanted[-1][0]]
    if len(parts) == 1:
        alike += [shown(s, t) for _, s, t in tables if t.lower() == parts[0].lower()]
    quoted_name = name if '"' in name else f'"{name}"'
    end = f'.{name}"'
    likely = nearest(quoted_name, alike) or next(
        (each for each in alike if each.endswith(end)), None
    )
    more = f" and {len(known) - 5:,} more" if len(known) > 5 else ""
    raise AccountDataError(
        f'"{location}": no table {quoted_name}; it has {", ".join(known[:5]) or "none"}{more}',
        hint=f"did you mean {likely}?" if likely else None,
    )
