"""What the columns of a raw table are by their names and values, days that are text among them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.locations import quoted
from gtmar.data.scan import AccountTable, Source, collect, scan

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb


__all__ = ["LOADED", "DraftedSource", "RawColumns", "column", "plain", "table_name", "with_dates"]

#: Columns by which a loader says when it wrote a row; none is the day on which something happened.
LOADED = re.compile(
    r"_fivetran_synced|_airbyte_(extracted|emitted)_at|_sdc_(batched|extracted|received)_at|"
    r"(_|etl_|dw_)?(loaded|ingested|inserted|synced|imported)_at|_dlt_load_time"
)
_DELETED = ("_fivetran_deleted", "is_deleted", "_sdc_deleted", "deleted")
#: Connectors that deliver Stripe's numbers of seconds as they are.
_SECONDS = (946_684_800, 4_102_444_800)  # 2000 to 2100
_MOMENT = re.compile(r"created|updated|start|end|.*_(at|date|start|end|time)|date|timestamp")


def plain(name: str) -> str:
    """Return a column's name as others would write it.

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
    """Write a column in SQL, of a table where one is named; in quotes only where it needs them."""
    bare = re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in _words()
    return (f"{of}." if of else "") + (name if bare else quoted(name))


@cache
def _words() -> frozenset[str]:
    """Return words that stand for no column without quotes, in DuckDB or in most of SQL."""
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute(
            "select keyword_name from duckdb_keywords() where keyword_category = 'reserved'"
        ).fetchall()
    more = ("current_date", "current_time", "is", "join", "user")
    return frozenset((*(word for [word] in rows), *more))


def table_name(place: str) -> str:
    """Return what a source is called in a recipe, by where it is.

    Examples
    --------
    >>> table_name("exports/Subscription Data.csv"), table_name("duckdb:///a.db?table=marts.mrr")
    ('subscription_data', 'mrr')
    """
    last = re.split(r"[?&]table=", place)[-1] if "table=" in place else place.rstrip("/")
    last = last.rpartition("/")[2]
    if "table=" in place or place.startswith("iceberg://"):
        last = last.rpartition(".")[2].strip('"')
    else:
        last = re.sub(r"(\.[A-Za-z0-9]{1,8}){1,2}$", "", last)
    name = plain(last.replace("*", ""))
    name = name.strip("_") or "source"
    return name if not name[0].isdigit() else f"t_{name}"


@dataclass
class RawColumns:
    """A raw table, its columns by their plain names, and what they hold at a glance."""

    name: str
    #: Where it is, as a recipe has it.
    place: str
    table: AccountTable

    @classmethod
    def of(cls, name: str, location: str, place: str) -> RawColumns:
        """Open a table; errors are those of `scan`."""
        return cls(name, place, scan(Source(location)))

    @cached_property
    def columns(self) -> dict[str, str]:
        """The columns' own names by their plain ones, the first of two that are alike."""
        found: dict[str, str] = {}
        for own in self.table.columns:
            found.setdefault(plain(own), own)
        return found

    @cached_property
    def _glance(self) -> dict[str, Any]:
        """Counts and ends of all columns, in one pass."""
        asked = [pl.len().alias("rows")]
        for own, kind in self.table.schema.items():
            each = pl.col(own)
            asked.append(each.null_count().alias(f"nulls:{own}"))
            if kind == pl.Boolean:
                asked.append(each.sum().alias(f"true:{own}"))
            if kind.is_temporal() or kind.is_numeric():
                asked += [each.min().alias(f"min:{own}"), each.max().alias(f"max:{own}")]
            if kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
                asked.append(each.n_unique().alias(f"distinct:{own}"))
        return collect(self.table, self.table.frame.select(asked)).row(0, named=True)

    def told(self, what: str, own: str) -> Any:
        """Return `nulls`, `true`, `min`, `max` or `distinct` of a column; None for none."""
        return self._glance.get(f"{what}:{own}")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._glance["rows"])

    def kind(self, own: str) -> pl.DataType:
        """Return a column's type."""
        return self.table.schema[own]

    def has(self, *names: str) -> bool:
        """Whether it has all of these columns."""
        return set(names) <= self.columns.keys()

    def first(self, *names: str) -> str | None:
        """Return the first of these columns that it has, by its own name."""
        return next((self.columns[name] for name in names if name in self.columns), None)

    def is_number(self, own: str) -> bool:
        """Whether a column holds numbers."""
        return self.kind(own).is_numeric()

    def has_few(self, own: str) -> bool:
        """Whether a column holds several values and no more than 30, as categories do."""
        return 2 <= (self.told("distinct", own) or 0) <= 30

    def is_time(self, own: str) -> bool:
        """Whether a column holds days or moments, or seconds since 1970 by its name and values."""
        return self.kind(own).is_temporal() or self.in_seconds(own)

    def in_seconds(self, own: str) -> bool:
        """Whether a column holds seconds since 1970."""
        if not self.kind(own).is_integer() or not _MOMENT.fullmatch(plain(own)):
            return False
        least, most = self.told("min", own), self.told("max", own)
        return least is not None and _SECONDS[0] <= least and most <= _SECONDS[1]

    def moment(self, own: str, of: str = "") -> str:
        """Write a column as a moment in SQL; an empty one is of no type."""
        text = column(own, of)
        if self.in_seconds(own):
            return f"make_timestamp({text} * 1000000)"
        return text if self.kind(own).is_temporal() else f"cast({text} as timestamp)"

    def values(self, own: str, most: int = 200) -> list[str]:
        """Return a column's values as text, the most frequent first; of many, none."""
        if (self.told("distinct", own) or most + 1) > most:
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
        """Whether no two rows have one value."""
        return bool(self.told("distinct", own) == self.rows)

    def is_of_stripe(self) -> bool:
        """Whether its columns are those of Stripe's objects, whose money is in minor units."""
        return "livemode" in self.columns

    def kept(self, of: str = "") -> tuple[list[str], list[str]]:
        """Return conditions that leave out rows of tests and deleted ones, and what to say."""
        conditions, said = [], []
        live = self.columns.get("livemode")
        if live is not None and self.kind(live) == pl.Boolean:
            tests = self.rows - self.told("nulls", live) - (self.told("true", live) or 0)
            if tests:
                conditions.append(f"coalesce({column(live, of)}, true)")
                said.append(f"{tests:,} of {self.rows:,} rows are of test mode; left out")
        for name in _DELETED:
            own = self.columns.get(name)
            if own is not None and self.kind(own) == pl.Boolean and self.told("true", own):
                conditions.append(f"not coalesce({column(own, of)}, false)")
                said.append(
                    f"{self.told('true', own):,} of {self.rows:,} rows are deleted by {own}; left "
                    "out, of days on which they were still there too"
                )
        return conditions, said


@dataclass
class DraftedSource:
    """A source as a first recipe has it, with what is to be said of it."""

    name: str
    #: Its keys in the recipe.
    keys: dict[str, Any]
    #: What it was recognised as.
    what: str
    #: Tables that it reads, by the names that they were given.
    reads: tuple[str, ...]
    #: Column of accounts.
    account: str
    doubts: list[str] = field(default_factory=list)
    #: Shape of revenue that it can be, with that shape's keys.
    shape: str | None = None
    money: dict[str, Any] = field(default_factory=dict)
    #: Whether its ends are what happened, and none is a day that was agreed on beforehand.
    ends_are_known: bool = False
    #: Currencies that occur, the most frequent first.
    currencies: list[str] = field(default_factory=list)
    #: Features by name: their keys.
    features: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Features that are left to the reader, with the reason.
    put_off: dict[str, tuple[dict[str, str], str]] = field(default_factory=dict)
    #: A condition by which an account has left.
    flag: str | None = None
    #: Whether it has each account once.
    all_accounts: bool = False


# ---- days and moments as ISO text ----------------------------------------------------------------

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
