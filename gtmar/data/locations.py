"""Where a table is, as text: read without its credentials, and named so in messages.

`sources` opens what a location names for reading, `integrations.lakehouse` for writing.
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

#: Locations elsewhere that somebody named in this process, without credentials.
_named: set[str] = set()
#: Whether a location that a record names may be opened, though it is beyond this machine's files.
_consent: ContextVar[Callable[[str], bool]] = ContextVar("consent")
#: A part of a table's name, quoted or not.
_PART = r'"(?:[^"]|"")+"|[^."]+'
#: How a URL begins, or what a path makes of it.
_URL = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/+(?P<rest>.*)", re.DOTALL)


def expanded(path: str | Path) -> Path:
    """Return a local path as it is meant: ``~`` as the home folder, ``file:///a`` as ``/a``."""
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
    """Refuse a URL where a local path is meant: a folder of that name would be made here.

    The error begins with `what` is meant, as ``a journal is a local folder``. It is raised for a
    path that begins with ``~`` too, which nothing expands here.
    """
    url = _URL.match(str(path))
    if url is not None:
        raise UsageError(f"{what}, got a URL: {url['scheme']}://...", hint=hint)
    if str(path).startswith("~"):
        raise UsageError(f'{what}, got "{path}"', hint="Path.expanduser() puts in the home folder")


@contextmanager
def consenting(answer: Callable[[str], bool]) -> Iterator[None]:
    """Ask, within the block, before a location of a journal's record is opened elsewhere."""
    token = _consent.set(answer)
    try:
        yield
    finally:
        _consent.reset(token)


def split(location: str) -> SplitResult:
    """Split a URL; raise `UsageError` if it can't be one, as with half of an IPv6 address."""
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
    """Return the file, folder or glob of this machine that a location names; None for a URL.

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
    """Whether a location is a plain path of this machine, no URL and no ``delta:FOLDER``."""
    return not (is_remote(location) or "://" in location or location.startswith("delta:"))


def delta_root(location: str) -> tuple[str, tuple[str, ...]]:
    """Split the parts of a path that name partitions, as ``day=2024-01-01``, off a Delta table's.

    A table whose own folder is called so stays whole.

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
    # The table may be the folder that one stands in.
    return "/".join(parts[:count]) or ("/" if location[:1] == "/" else "."), tuple(parts[count:])


def is_delta(location: str) -> bool:
    """Whether a local path is a Delta table's folder, or a partition's below one."""
    return Path(delta_root(location)[0], "_delta_log").is_dir()


def quoted(name: str) -> str:
    """Quote a name for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Write a text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def worded(location: str, err: Exception) -> str:
    """Return an error's first line, without what the location holds of credentials."""
    return redacted(first_line(err), location, location.removeprefix("delta:"), foreign=True)


def refuse_unasked(location: str, *, recorded: bool) -> None:
    """Refuse what a record, and no person, names beyond this machine's files, without consent.

    Who made a journal may have named any address in it: to open it would call there, with the
    credentials of whoever looks at the journal. Where nobody can be asked, as from Python, what was
    named before in the same process may be opened again.
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

    A name that a table of the main schema has as it stands is that table's, dots included. A hint
    names no table of another schema than the one asked for.

    Parameters
    ----------
    name
        As it was asked for.
    tables
        Catalog, schema and name of those that there are.
    location
        What messages call the database.
    main
        The schema of tables that are named without one.

    Raises
    ------
    AccountDataError
        If there is no such table.
    """

    def shown(schema: str, table: str) -> str:
        parts = (table,) if schema == main else (schema, table)
        plain = all(re.fullmatch(r"\w+", part) for part in parts)
        # As one name, or part by part: that is how it is read.
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
    asked = name if '"' in name else f'"{name}"'
    end = f'.{name}"'
    likely = nearest(asked, alike) or next((each for each in alike if each.endswith(end)), None)
    more = f" and {len(known) - 5:,} more" if len(known) > 5 else ""
    raise AccountDataError(
        f'"{location}": no table {asked}; it has {", ".join(known[:5]) or "none"}{more}',
        hint=f"did you mean {likely}?" if likely else None,
    )
