"""Recognise the columns of a raw table by name and values, and read dates stored as text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.locations import quoted
from gtmar.data.scan import AccountTable, Source, collect, scan
from gtmar.data.text_columns import names_currency

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb


__all__ = ["LOADED", "DraftedSource", "RawColumns", "column", "plain", "table_name", "with_dates"]

#: Columns in which a loader records when it wrote a row: never the date of an event.
LOADED = re.compile(
    r"_fivetran_synced|_airbyte_(extracted|emitted)_at|_sdc_(batched|extracted|received)_at|"
    r"(_|etl_|dw_)?(loaded|ingested|inserted|synced|imported)_at|_dlt_load_time"
)
_DELETED = ("_fivetran_deleted", "is_deleted", "_sdc_deleted", "deleted")
#: Plausible range of Unix times: some connectors deliver Stripe's seconds unchanged.
_SECONDS = (946_684_800, 4_102_444_800)  # 2000 to 2100
_MOMENT = re.compile(r"created|updated|start|end|.*_(at|date|start|end|time)|date|timestamp")


def plain(name: str) -> str:
    """Return a column's name in snake case, without "(UTC)" and trailing underscores.

    Examples
    --------
    >>> plain("Ended At (UTC)"), plain("CustomerID"), plain("_fivetran_deleted")
    ('ended_at', 'customer_id', '_fivetran_deleted')
    """
    name = re.sub(r"\s*\(utc\)\s*$", "", name.strip(), flags=re.IGNORECASE)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    name = re.sub(r"[^0-9A-Za-z_]+", "_", name).lower()
    return name.rstrip("_") or name


def column(name: str, of: str = "") -> str:
    """Write a column in SQL, prefixed by the table `of` if given; quoted only if necessary."""
    bare = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _words()
    return (f"{of}." if of else "") + (name if bare else quoted(name))


@cache
def _words() -> frozenset[str]:
    """Return words that can't name a column without quotes, in DuckDB or most other dialects."""
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute(
            "select keyword_name from duckdb_keywords() where keyword_category = 'reserved'"
        ).fetchall()
    more = ("current_date", "current_time", "is", "join", "user")
    return frozenset((*(word for [word] in rows), *more))


def table_name(location: str) -> str:
    """Return a recipe's name for a source, derived from its location.

    Examples
    --------
    >>> table_name("exports/Subscription Data.csv"), table_name("duckdb:///a.db?table=marts.mrr")
    ('subscription_data', 'mrr')
    """
    last = re.split(r"[?&]table=", location)[-1] if "table=" in location else location.rstrip("/")
    last = last.rpartition("/")[2]
    if "table=" in location or location.startswith("iceberg://"):
        last = last.rpartition(".")[2].strip('"')
    else:
        last = re.sub(r"(\.[A-Za-z0-9]{1,8}){1,2}$", "", last)
    name = plain(last.replace("*", ""))
    name = name.strip("_") or "source"
    return name if not name[0].isdigit() else f"t_{name}"


@dataclass
class RawColumns:
    """A raw table with its columns by plain name, and statistics of their values."""

    name: str
    #: Location in the form in which the recipe names it.
    written_as: str
    table: AccountTable

    @classmethod
    def of(cls, name: str, location: str, written_as: str) -> RawColumns:
        """Open a table; raises as `scan`."""
        return cls(name, written_as, scan(Source(location)))

    @cached_property
    def columns(self) -> dict[str, str]:
        """Original column names by plain name; the first one wins if two are equal."""
        by_plain_name: dict[str, str] = {}
        for own in self.table.columns:
            by_plain_name.setdefault(plain(own), own)
        return by_plain_name

    @cached_property
    def _glance(self) -> dict[str, Any]:
        """Counts, minima and maxima of all columns, computed in one pass over the table."""
        columns = [pl.len().alias("rows")]
        for own, kind in self.table.schema.items():
            each = pl.col(own)
            columns.append(each.null_count().alias(f"nulls:{own}"))
            if kind == pl.Boolean:
                columns.append(each.sum().alias(f"true:{own}"))
            if kind.is_temporal() or kind.is_numeric():
                columns += [each.min().alias(f"min:{own}"), each.max().alias(f"max:{own}")]
            if kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
                columns.append(each.n_unique().alias(f"distinct:{own}"))
        return collect(self.table, self.table.frame.select(columns)).row(0, named=True)

    def fact(self, what: str, own: str) -> Any:
        """Return `nulls`, `true`, `min`, `max` or `distinct` of a column; None if not computed."""
        return self._glance.get(f"{what}:{own}")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._glance["rows"])

    def kind(self, own: str) -> pl.DataType:
        """Return a column's type."""
        return self.table.schema[own]

    def has(self, *names: str) -> bool:
        """Whether the table has all of these columns, given by plain name."""
        return set(names) <= self.columns.keys()

    def first(self, *names: str) -> str | None:
        """Return the original name of the first of these columns that exists; None if none does."""
        return next((self.columns[name] for name in names if name in self.columns), None)

    @cached_property
    def currency(self) -> str | None:
        """Original name of the column with the currency of amounts; None if there is none."""
        named = [own for own in self.table.columns if names_currency(own)]
        texts = [own for own in named if self.kind(own) in (pl.String, pl.Categorical, pl.Enum)]
        return self.columns.get("currency", texts[0] if texts else None)

    def is_number(self, own: str) -> bool:
        """Whether a column holds numbers."""
        return self.kind(own).is_numeric()

    def has_few(self, own: str) -> bool:
        """Whether a column has 2 to 30 distinct values, as categories do."""
        return 2 <= (self.fact("distinct", own) or 0) <= 30

    def is_time(self, own: str) -> bool:
        """Whether a column holds dates or timestamps, or Unix seconds by its name and values."""
        return self.kind(own).is_temporal() or self.in_seconds(own)

    def in_seconds(self, own: str) -> bool:
        """Whether a column holds Unix seconds, by its name and the range of its values."""
        if not self.kind(own).is_integer() or not _MOMENT.fullmatch(plain(own)):
            return False
        least, most = self.fact("min", own), self.fact("max", own)
        return least is not None and _SECONDS[0] <= least and most <= _SECONDS[1]

    def moment(self, own: str, of: str = "") -> str:
        """Write a column as a timestamp in SQL; an empty column, which has no type, is cast."""
        text = column(own, of)
        if self.in_seconds(own):
            return f"make_timestamp({text} * 1000000)"
        return text if self.kind(own).is_temporal() else f"cast({text} as timestamp)"

    def values(self, own: str, most: int = 200) -> list[str]:
        """Return a column's values as text, most frequent first; none if there are over `most`."""
        if (self.fact("distinct", own) or most + 1) > most:
            return []
        counted = (
            self.table.frame.select(pl.col(own).cast(pl.String).alias("value"))
            .drop_nulls()
            .group_by("value")
            .len()
            .sort(["len", "value"], descending=[True, False])
        )
        return [str(value) for value in collect(self.table, counted)["value"].to_list()]

    def is_unique(self, own: str) -> bool:
        """Whether every row has a value of its own."""
        return bool(self.fact("distinct", own) == self.rows)

    def is_of_stripe(self) -> bool:
        """Whether the table holds Stripe objects, whose money is in minor units."""
        return "livemode" in self.columns

    def kept(self, of: str = "") -> tuple[list[str], list[str]]:
        """Return SQL conditions against test and deleted rows, and a remark for each."""
        conditions, doubts = [], []
        live = self.columns.get("livemode")
        if live is not None and self.kind(live) == pl.Boolean:
            tests = self.rows - self.fact("nulls", live) - (self.fact("true", live) or 0)
            if tests:
                conditions.append(f"coalesce({column(live, of)}, true)")
                doubts.append(f"{tests:,} of {self.rows:,} rows are of test mode; left out")
        for name in _DELETED:
            own = self.columns.get(name)
            if own is not None and self.kind(own) == pl.Boolean and self.fact("true", own):
                conditions.append(f"not coalesce({column(own, of)}, false)")
                doubts.append(
                    f"{self.fact('true', own):,} of {self.rows:,} rows are deleted by {own}; left "
                    "out, of days on which they were still there too"
                )
        return conditions, doubts


@dataclass
class DraftedSource:
    """A source of a drafted recipe, with remarks for its reader."""

    name: str
    #: Its keys in the recipe.
    keys: dict[str, Any]
    #: Its recognised kind, in words.
    what: str
    #: Names of the tables that it reads.
    reads: tuple[str, ...]
    #: Column of the account's id.
    account: str
    #: Guesses that a person should check.
    doubts: list[str] = field(default_factory=list)
    #: Shape of revenue that the source may have (None: no revenue), and the keys of that shape.
    shape: str | None = None
    money: dict[str, Any] = field(default_factory=dict)
    #: Whether its ends are actual ends, as opposed to dates agreed on beforehand.
    ends_are_known: bool = False
    #: Column of the currency, and currencies that occur, the most frequent first.
    currency: str = "currency"
    currencies: list[str] = field(default_factory=list)
    #: Keys of its features, by name.
    features: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Features written as comments for the reader to enable, with the reason.
    put_off: dict[str, tuple[dict[str, str], str]] = field(default_factory=dict)
    #: SQL condition on rows of accounts that have left; empty: all rows are; None: no such rows.
    flag: str | None = None
    #: Whether it holds all accounts, one row each.
    all_accounts: bool = False


# ---- dates and timestamps as ISO text ------------------------------------------------------------

#: A date, optionally with a time of day and a zone.
_DAY = r"\d{4}-\d{1,2}-\d{1,2}"
_ZONE = r"(?:\s?(?:Z|z|UTC|[+-]\d{2}(?::?\d{2})?))"
_ISO = rf"{_DAY}(?:[T ]\d{{1,2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?{_ZONE}?)?"


def with_dates(
    connection: duckdb.DuckDBPyConnection, rows: str, columns: Iterable[str | None]
) -> str:
    """Return a SELECT of a table's rows in which ISO text is cast to dates or timestamps.

    A column with any other text stays text, so that later checks refuse it as a date. Timestamps
    with a zone are read in UTC, like those of a timestamp column.

    Parameters
    ----------
    rows
        A SELECT of the table.
    columns
        Columns that should hold dates; None and absent columns are ignored.

    Notes
    -----
    Cost: one pass over each of these columns that holds text.
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
