"""Where a table is, as text: read without its credentials, and named so in messages.

Who opens what a location names is `sources`, for reading, and `export.tables`, for writing.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from gtmar.errors import AccountDataError, UsageError
from gtmar.locks import first_line

__all__ = ["duckdb_place", "quoted", "unreadable", "without_credentials", "worded"]

#: A URL within a sentence.
_ADDRESS = re.compile(r"[a-z][a-z0-9+]*://[^\s)\"']+")


def without_credentials(location: str) -> str:
    """Take user, password and query out of a URL, but for a table's name; leave paths alone.

    Examples
    --------
    >>> without_credentials("s3://key:secret@bucket/a.parquet?token=x")
    's3://bucket/a.parquet'
    >>> without_credentials("duckdb:///crm.db?table=accounts")
    'duckdb:///crm.db?table=accounts'
    """
    if location.startswith("delta:"):
        return f"delta:{without_credentials(location.removeprefix('delta:'))}"
    if "://" not in location:
        return location
    parts = urlsplit(location)
    query = parts.query if parts.scheme == "duckdb" else ""
    kept = "&".join(item for item in query.split("&") if item.startswith("table="))
    host = parts.netloc.rpartition("@")[2]
    # urlunsplit would drop the empty host of duckdb:///file.db.
    rest = urlunsplit(("", "", parts.path, kept, ""))
    return f"{parts.scheme}://{host}{rest}"


def duckdb_place(location: str) -> tuple[Path, str]:
    """Split ``duckdb:///file.db?table=accounts`` into path and table."""
    parts = urlsplit(location)
    tables = parse_qs(parts.query).get("table", [])
    if parts.netloc or len(tables) != 1 or len(parts.path) < 2:
        raise UsageError(
            f'"{without_credentials(location)}": expected duckdb:///file.db?table=NAME',
            hint="three slashes for a path from here, four for one from the root",
        )
    return Path(unquote(parts.path[1:])), tables[0]


def quoted(name: str) -> str:
    """Quote a name for DuckDB."""
    return '"' + name.replace('"', '""') + '"'


def worded(location: str, err: Exception) -> str:
    """Return an error's first line, without what the location holds of credentials."""
    url = location.removeprefix("delta:")
    reason = first_line(err).replace(url, without_credentials(url))
    if "://" in url:
        # A library that keeps a connection may name what was asked for earlier.
        reason = _ADDRESS.sub(lambda found: without_credentials(found[0]), reason)
        parts = urlsplit(url)
        for secret in (parts.netloc.rpartition("@")[0], parts.query):
            if secret and not secret.startswith("table="):
                # A store may repeat what it was asked for as a part of another address.
                reason = reason.replace(secret, "...").replace(quote(secret, safe=""), "...")
    return reason


def unreadable(location: str, err: Exception) -> AccountDataError:
    """Word an error of a library that reads."""
    return AccountDataError(
        f'"{without_credentials(location)}": can\'t be read: {worded(location, err)}',
        hint="is it there, and are credentials in the environment, where it needs any?",
    )
