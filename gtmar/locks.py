"""Locks around SQL from outside: one SELECT, in a connection that reaches what it was given alone.

The journal's queries and those over account tables run under the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import duckdb

__all__ = ["failed", "first_line", "lock", "refuse_all_but_select"]


def lock(connection: duckdb.DuckDBPyConnection, folders: Sequence[Path] = ()) -> None:
    """Lock a connection: no file but those in some folders, no extension, no further setting.

    Parameters
    ----------
    connection
        The connection, everything that it needs being in place.
    folders
        Folders that it may read; none for the tables in memory alone.
    """
    connection.execute(
        "set allowed_directories = $folders", {"folders": [str(folder) for folder in folders]}
    )
    for setting in (
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"set {setting}")


def refuse_all_but_select(text: str, *, hint: str) -> None:
    """Refuse what isn't exactly one SELECT: the locks alone would let COPY overwrite a file.

    Parameters
    ----------
    text
        The SQL.
    hint
        What to do instead of a statement that writes.

    Raises
    ------
    QueryError
        If it is more than one statement, none, or no SELECT.
    """
    import duckdb

    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as err:
        raise failed(err) from err
    if len(statements) != 1:
        raise QueryError(
            f"expected one SELECT, got {len(statements)} statements",
            hint="values come in with --set name=value",
        )
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(f"expected one SELECT, got {kind.name}", hint=hint)


def first_line(err: Exception) -> str:
    """Return the first line of an error, which names it."""
    return (str(err).strip() or type(err).__name__).splitlines()[0]


def failed(err: Exception) -> QueryError:
    """Word an error of a query."""
    return QueryError(f"the query failed: {first_line(err)}")
