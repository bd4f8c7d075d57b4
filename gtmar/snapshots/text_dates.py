"""Columns of a raw table that hold days or moments as ISO text, read as what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.data.locations import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb

__all__ = ["with_dates"]

#: A day, and a moment of it with or without its zone.
_DAY = r"\d{4}-\d{1,2}-\d{1,2}"
_ZONE = r"(?:\s?(?:Z|z|UTC|[+-]\d{2}(?::?\d{2})?))"
_ISO = rf"{_DAY}(?:[T ]\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?{_ZONE}?)?"


def with_dates(
    connection: duckdb.DuckDBPyConnection, rows: str, columns: Iterable[str | None]
) -> str:
    """Return a SELECT of a table's rows in which columns of ISO text are days or moments.

    A column of which any text is something else stays text, for whoever asks for dates to refuse.
    A moment with a zone counts by UTC, as it does in a column of moments. Cost: a pass over the
    columns of text among those asked for.

    Parameters
    ----------
    rows
        A SELECT of the table.
    columns
        Those that are to hold dates; None and absent ones count nowhere.
    """
    kinds = {row[0]: row[1] for row in connection.execute(f"describe {rows}").fetchall()}
    texts = [
        name
        for name in dict.fromkeys(columns)
        if name is not None and kinds.get(name, "").startswith(("VARCHAR", "ENUM"))
    ]
    read = []
    for name in texts:
        text = f"nullif(trim(cast({quoted(name)} as varchar)), '')"
        zoned = f"regexp_matches({text}, ':.*{_ZONE}$')"
        known, iso, moments, zones = connection.execute(
            f"select count({text}), count(*) filter (regexp_full_match({text}, '{_ISO}') "
            f"and try_cast({text} as timestamptz) is not null), "
            f"count(*) filter (contains({text}, ':')), count(*) filter ({zoned}) from ({rows})"
        ).fetchall()[0]
        if not known or iso < known:
            continue
        kind = "timestamptz" if zones else "timestamp" if moments else "date"
        read.append(f"cast({text} as {kind}) as {quoted(name)}")
    return f"select * replace ({', '.join(read)}) from ({rows})" if read else rows
