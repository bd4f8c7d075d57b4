"""A recipe's raw tables in a DuckDB that reaches nothing else, held against the recipe."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from gtmar.data.locations import quoted
from gtmar.data.scan import Source, default_budget, scan
from gtmar.data.table_files import located
from gtmar.errors import AccountDataError, RecipeError, nearest
from gtmar.safe_text import is_remote
from gtmar.snapshots.closed_sql import refuse_condition, refuse_select
from gtmar.snapshots.recipe import Monthly, Span, Subscriptions
from gtmar.snapshots.statement import RAW, SnapshotDays, all_rows, as_of, feature, statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gtmar.snapshots.recipe import Activation, FeatureRule, Flag, RawTable, SnapshotRecipe

__all__ = ["TOTALS", "RawHistory", "conditions", "history"]

#: The raw table of what the books say.
_TOTALS_NAME = "gtmar totals"
TOTALS = f"{RAW}{_TOTALS_NAME}"
_TIMES = ("DATE", "TIMESTAMP")
_NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "U",
)
_WHOLE = (*_NUMBERS[:5], "U", "VARCHAR", "ENUM")


class RawHistory:
    """A recipe's sources, opened in DuckDB; no other table or file can be read there."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, recipe: SnapshotRecipe, scratch: Path
    ) -> None:
        self.connection, self.recipe, self.scratch = connection, recipe, scratch
        #: What is worth knowing of the sources: leak risks, rows that are left out.
        self.notes: list[str] = []
        #: The first day that the history doesn't know.
        self.until = date.min

    def ask(self, text: str) -> list[Any]:
        """Run a SELECT; a failure is an `AccountDataError`."""
        try:
            return self.connection.execute(text).fetchall()
        except duckdb.Error as err:
            raise AccountDataError(f"the history can't be read: {_first(err)}") from err

    def statement(self, day: date) -> tuple[str, SnapshotDays]:
        """Return the SELECT of a date, and its days."""
        days = SnapshotDays.of(self.recipe, day, self.until)
        return statement(self.recipe, days), days


def _first(err: Exception) -> str:
    return str(err).strip().partition("\n")[0]


@contextmanager
def history(
    recipe: SnapshotRecipe, *, base: Path | None = None, memory: int | None = None
) -> Iterator[RawHistory]:
    """Open a recipe's sources and check what the recipe says of their columns.

    Parameters
    ----------
    recipe
        The recipe.
    base
        Folder that relative paths of its sources begin at; None for the current one.
    memory
        Bytes that DuckDB may take; what needs more goes to a temporary folder. None for half of
        the machine's.

    Raises
    ------
    RecipeError
        If a column isn't there or is of no use, or a condition isn't one.
    AccountDataError
        If a source can't be read.
    """
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect() as connection:
        allowed: list[str] = []
        for name, raw in recipe.sources.items():
            source = Source(_placed(raw.data, base), query=raw.query)
            allowed += _opened(connection, name, source, Path(scratch), raw.account)
        if recipe.totals is not None:
            source = Source(_placed(recipe.totals.data, base))
            allowed += _opened(connection, _TOTALS_NAME, source, Path(scratch))
        for setting in (
            f"memory_limit = '{(memory or default_budget()) >> 10}KiB'",
            f"temp_directory = '{scratch}'",
            f"allowed_directories = {_listed([scratch])}",
            f"allowed_paths = {_listed(allowed)}",
            # A moment with a zone belongs to its day in UTC, whatever machine this is.
            "timezone = 'UTC'",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "python_enable_replacements = false",
            "preserve_insertion_order = true",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"set {setting}")
        opened = RawHistory(connection, recipe, Path(scratch))
        _check(opened)
        opened.until = _known_until(opened)
        yield opened


def _placed(place: str, base: Path | None) -> str:
    elsewhere = is_remote(place) or "://" in place or place.startswith("delta:")
    return place if base is None or elsewhere else str(base / place)


def _listed(texts: list[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def _opened(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    scratch: Path,
    account: str | None = None,
) -> list[str]:
    """Make a source a view under its raw name; return the files that it reads.

    Plain Parquet is read where it is; everything else is written to Parquet once.
    """
    place, files = source.location, []
    local = source.query is None and not is_remote(place) and "://" not in place
    try:
        if local and not place.startswith("delta:") and not (Path(place) / "_delta_log").is_dir():
            kind, found = located(place)
            # Folders named COLUMN=VALUE hold a column, which Polars adds.
            if kind == "parquet" and not any("=" in str(path) for path in found):
                files = [str(path.absolute()) for path in found]
        if not files:
            target = scratch / f"{len(list(scratch.iterdir()))}.parquet"
            scan(source).with_text(account).frame.sink_parquet(target)
            files = [str(target)]
    except AccountDataError as err:
        raise AccountDataError(f"source {name}: {err.message}", hint=err.hint) from err
    try:
        connection.execute(
            f"create view {quoted(f'{RAW}{name}')} as select * from read_parquet({_listed(files)}, "
            "hive_partitioning = false, union_by_name = true)"
        )
    except duckdb.Error as err:
        raise AccountDataError(f"source {name}: can't be read: {_first(err)}") from err
    return files


# ---- what the recipe says of columns ------------------------------------------------------------


def _check(opened: RawHistory) -> None:
    """Refuse what the recipe says of its sources and isn't so: all of it, in one message."""
    found = _AgainstSources(opened)
    found.columns()
    found.sql()
    if not found.wrong:
        # DuckDB itself says what else doesn't fit: an unknown column, a sum of text.
        found.bindings()
    wrong = found.wrong
    if wrong:
        raise RecipeError(
            wrong[0] if len(wrong) == 1 else f"{len(wrong)} problems",
            listing=[] if len(wrong) == 1 else [f"  - {text}" for text in wrong],
            problems=wrong,
        )


def conditions(recipe: SnapshotRecipe) -> list[tuple[str, str, str]]:
    """Return place, source and text of all conditions of a recipe."""
    parts: dict[str, FeatureRule | Flag | Activation | RawTable] = {
        f"sources.{name}": source for name, source in recipe.sources.items()
    }
    parts |= {f"features.{name}": rule for name, rule in recipe.features.items()}
    parts |= {f"flags.{number}": flag for number, flag in enumerate(recipe.flags, 1)}
    if recipe.activation is not None:
        parts["activation"] = recipe.activation
    return [
        (f"{place}.where", getattr(each, "source", place.partition(".")[2]), each.where)
        for place, each in parts.items()
        if each.where is not None
    ]


class _AgainstSources:
    """What a recipe says of its sources, held against them."""

    def __init__(self, opened: RawHistory) -> None:
        self.opened, self.recipe, self.wrong = opened, opened.recipe, list[str]()
        recipe = opened.recipe
        names = [*recipe.sources, *([_TOTALS_NAME] if recipe.totals else [])]
        self.schemas = {
            name: {row[0]: row[1] for row in opened.ask(f"describe {quoted(f'{RAW}{name}')}")}
            for name in names
        }

    def asked(
        self, place: str, source: str, column: str | int | None, kinds: tuple[str, ...] = ()
    ) -> None:
        """Ask for a column, and for what it holds."""
        if not isinstance(column, str):
            return
        kind = self.schemas[source].get(column)
        if kind is None:
            likely = nearest(column, self.schemas[source])
            hint = f'; did you mean "{likely}"?' if likely else ""
            self.wrong.append(f'{place}: source "{source}" has no column "{column}"{hint}')
        elif kinds and (not kind.startswith(kinds) or kind.endswith("[]")):
            what = {_TIMES: "dates", _NUMBERS: "numbers"}.get(kinds, "text or whole numbers")
            self.wrong.append(
                f'{place}: column "{column}" of "{source}" must hold {what}, got {kind}'
            )

    def columns(self) -> None:
        """Ask for all columns that the recipe names."""
        recipe, asked = self.recipe, self.asked
        for name, source in recipe.sources.items():
            asked(f"sources.{name}", name, source.account, _WHOLE)
            times = (source.at, source.from_, source.until, source.valid_from, source.known_at)
            for column in times:
                asked(f"sources.{name}", name, column, _TIMES)
            if source.kind == "today":
                self.opened.notes.append(
                    f'Source "{name}" is as it is today: what it says of an account may have come '
                    "after the date, so that its features may know the outcome."
                )
        shape = recipe.revenue.shape
        asked("revenue", shape.source, shape.amount, _NUMBERS)
        asked("revenue", shape.source, shape.currency)
        if isinstance(shape, Subscriptions):
            for number in (shape.quantity, shape.discount, shape.months):
                asked("revenue", shape.source, number, _NUMBERS)
        if recipe.totals is not None:
            asked("totals", _TOTALS_NAME, recipe.totals.month, _TIMES)
            asked("totals", _TOTALS_NAME, recipe.totals.amount, _NUMBERS)
        for name, rule in recipe.features.items():
            if rule.kind != "sql":
                kinds = _NUMBERS if rule.kind in ("sum", "mean", "trend", "change") else ()
                asked(f"features.{name}", rule.source, rule.column, kinds)

    def sql(self) -> None:
        """Refuse SQL that reaches more than it may."""
        connection, recipe = self.opened.connection, self.recipe
        for place, _, condition in conditions(recipe):
            self._tried(partial(refuse_condition, connection, condition, place))
        for name, rule in recipe.features.items():
            if rule.kind == "sql":
                place = f"features.{name}"
                self._tried(
                    partial(refuse_select, connection, str(rule.sql), recipe.sources, place)
                )

    def _tried(self, check: Callable[[], None]) -> None:
        try:
            check()
        except RecipeError as err:
            self.wrong.append(err.message + (f" ({err.hint})" if err.hint else ""))

    def bindings(self) -> None:
        """Refuse what DuckDB can't make sense of, place by place."""
        recipe = self.recipe
        days = SnapshotDays.of(recipe, recipe.days[-1], None)
        seen = {name: as_of(recipe, name, days.cut) for name in recipe.sources}
        for name, text in seen.items():
            self._bound(f"sources.{name}.where", f"select * from ({text})")
        if self.wrong:
            return
        for place, source, condition in conditions(recipe):
            self._bound(place, f"select * from ({seen[source]}) where ({condition}\n)")
        views = ", ".join(f"{quoted(name)} as ({text})" for name, text in seen.items())
        for name, rule in recipe.features.items() if not self.wrong else ():
            place = f"features.{name}"
            if rule.kind == "sql":
                self._bound(place, f"with {views} select * from ({rule.sql}\n)", columns=2)
            else:
                value = feature(recipe, rule, days)
                self._bound(place, f"select {value} from ({seen[rule.source]})")

    def _bound(self, place: str, text: str, *, columns: int | None = None) -> None:
        try:
            found = self.opened.connection.execute(f"describe {text}").fetchall()
        except duckdb.Error as err:
            self.wrong.append(f"{place}: {_first(err)}")
            return
        if columns is not None and len(found) != columns:
            self.wrong.append(f"{place}: expected account and value, got {len(found)} columns")


def _known_until(opened: RawHistory) -> date:
    """Return the first day that the history doesn't know, by the recipe or by its last revenue."""
    recipe = opened.recipe
    shape = recipe.revenue.shape
    time = quoted(str(recipe.sources[shape.source].time))
    rows = all_rows(recipe, shape.source)
    last: date | None = opened.ask(f"select cast(max({time}) as date) from ({rows})")[0][0]
    if last is None:
        raise AccountDataError(f'source "{shape.source}" has no row with an account and a date')
    if recipe.data_until is not None:
        if recipe.data_until > last:
            opened.notes.append(
                f"The recipe says that the history is complete until {recipe.data_until}; the last "
                f'row of "{shape.source}" is of {last}.'
            )
        return recipe.data_until
    if last > date.today():
        raise AccountDataError(
            f'source "{shape.source}" has rows of days to come, the last of {last}',
            hint="data_until: DATE in the recipe says until when the history is complete",
        )
    if isinstance(shape, Monthly):
        last = Span(1, 0).after(last.replace(day=1))
    opened.notes.append(
        f'Outcomes are taken as known until {last}, by the last row of "{shape.source}"; '
        "data_until in the recipe says otherwise."
    )
    return last
