"""Open a recipe's raw tables in a sandboxed DuckDB, and validate the recipe against them.

The recipe's own SQL can read only rows that were known on the snapshot date.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from gtmar.data.databases import fetch, is_database
from gtmar.data.locations import is_path, literal, local_path, quoted
from gtmar.data.scan import Source, scan
from gtmar.data.table_files import located, refuse_alike
from gtmar.data.text_columns import names_currency
from gtmar.errors import AccountDataError, RecipeError, culprits, did_you_mean
from gtmar.memory import default_budget
from gtmar.safe_text import is_remote, without_credentials
from gtmar.snapshots.raw_columns import with_dates
from gtmar.snapshots.recipe import (
    Activation,
    FeatureRule,
    Flag,
    Monthly,
    RateTable,
    RawTable,
    SnapshotRecipe,
    Span,
    Subscriptions,
    Totals,
    Transactions,
)
from gtmar.snapshots.statement import (
    RATES,
    RAW,
    SnapshotDays,
    feature,
    recurring,
    source_rows,
    statement,
)
from gtmar.sql_sandbox import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence


__all__ = ["TOTALS", "RawHistory", "conditions", "history", "refuse_condition", "refuse_select"]

#: The raw table of the recipe's totals, which come from the books.
_TOTALS_NAME = "gtmar totals"
_RATES_NAME = RATES.removeprefix(RAW)
TOTALS = f"{RAW}{_TOTALS_NAME}"
_TIMES = ("DATE", "TIMESTAMP")
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "U")
_NUMBERS = (*_INTEGERS, "FLOAT", "DOUBLE", "DECIMAL")
_WHOLE = (*_INTEGERS, "VARCHAR", "ENUM")


class RawHistory:
    """A recipe's sources, opened in a DuckDB that can read no other table or file."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, recipe: SnapshotRecipe, scratch: Path
    ) -> None:
        self.connection, self.recipe, self.scratch = connection, recipe, scratch
        #: Notes on the sources: leakage risks, rows that are left out.
        self.notes: list[str] = []
        #: The end of the history, exclusive: outcomes are known for earlier days only.
        self.until = date.min
        #: Files and version of each source as it was opened, by its name.
        self.sources: dict[str, _OpenedSource] = {}

    def ask(self, text: str) -> list[Any]:
        """Return the rows of a SELECT; raise `AccountDataError` if it fails."""
        try:
            return self.connection.execute(text).fetchall()
        except duckdb.Error as err:
            raise AccountDataError(f"the history can't be read: {first_line(err)}") from err

    def statement(self, day: date) -> tuple[str, SnapshotDays]:
        """Return the SELECT of a snapshot date, and the days it is built from."""
        days = SnapshotDays.of(self.recipe, day, self.until)
        return statement(self.recipe, days), days


@dataclass(frozen=True)
class _OpenedSource:
    #: Parquet files that DuckDB reads.
    """A source as it was opened."""

    files: tuple[str, ...] = ()
    #: Its version as plain data: hash of its files, version of its table, or when its database was
    #: read. Empty for remote files.
    version: Mapping[str, str | int] = field(default_factory=dict)
    #: Columns that couldn't be read, with the reason.
    unread: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _together(parts: Mapping[str, _OpenedSource]) -> _OpenedSource:
    """Return files, versions and notes of all tables that a source joins, as one."""
    return _OpenedSource(
        files=tuple(file for each in parts.values() for file in each.files),
        version={f"{name}.{k}": v for name, each in parts.items() for k, v in each.version.items()},
        notes=tuple(note for each in parts.values() for note in each.notes),
    )


@contextmanager
def history(
    recipe: SnapshotRecipe,
    *,
    base: Path | None = None,
    memory: int | None = None,
    watch: Callable[[str], None] | None = None,
) -> Iterator[RawHistory]:
    """Open a recipe's sources, and validate the columns and SQL that the recipe names.

    Parameters
    ----------
    base
        Folder that relative paths of the sources start from; None for the current one.
    memory
        Bytes that DuckDB may use before it spills to a temporary folder; None for half of the
        machine's.
    watch
        Called with the name of each source before it is read.

    Yields
    ------
    RawHistory
        Valid inside the ``with`` block only.

    Raises
    ------
    RecipeError
        If a column is missing or of an unsuitable type, or the recipe's SQL is invalid or reads
        more than it may. The message lists all faults.
    AccountDataError
        If a source can't be read, or the end of the history can't be determined.

    Notes
    -----
    Cost: plain local Parquet files are hashed and read in place; all other sources are copied to
    temporary Parquet files once.
    """
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect() as connection:
        raws = {name: _OpenedSource() for name in recipe.sources}
        for name, raw in recipe.sources.items():
            times, parts = _times(recipe, name), {}
            for table, location in raw.places.items():
                label = name if raw.query is None else f"{name}.{table}"
                if watch is not None:
                    watch(f"reading {label}")
                source = Source(_placed(location, base))
                parts[table] = _opened(connection, label, source, Path(scratch), times, raw.account)
            raws[name] = _together(parts) if raw.query is not None else next(iter(parts.values()))
        for name, beside in _beside(recipe).items():
            source = Source(_placed(beside.data, base))
            day = beside.date if isinstance(beside, RateTable) else beside.month
            raws[name] = _opened(connection, name, source, Path(scratch), (day,))
        allowed = [file for each in raws.values() for file in each.files]
        # The process needs memory beside DuckDB's buffers: an eighth is reserved for that.
        limit = (memory or default_budget()) * 7 // 8
        for setting in (
            f"memory_limit = '{limit >> 10}KiB'",
            f"temp_directory = '{scratch}'",
            f"allowed_directories = {_listed([scratch])}",
            f"allowed_paths = {_listed(allowed)}",
            # A timestamp with a zone belongs to its day in UTC, whatever the machine's zone.
            "timezone = 'UTC'",
            "autoinstall_known_extensions = false",
            "autoload_known_extensions = false",
            "python_enable_replacements = false",
            "preserve_insertion_order = true",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"set {setting}")
        for name, raw in recipe.sources.items():
            if raw.query is not None:
                _join(connection, name, raw, _times(recipe, name))
        opened = RawHistory(connection, recipe, Path(scratch))
        opened.sources = raws
        opened.notes += [note for each in raws.values() for note in each.notes]
        _check(opened)
        opened.until = _known_until(opened)
        _note_currencies(opened)
        yield opened


def _times(recipe: SnapshotRecipe, name: str) -> tuple[str | None, ...]:
    """Return the columns of a source that must hold dates."""
    raw, shape = recipe.sources[name], recipe.revenue.shape
    own: tuple[str | None, ...] = (raw.at, raw.from_, raw.until, raw.valid_from, raw.known_at)
    if shape.source == name:
        own += (getattr(shape, "paid_until", None), getattr(shape, "cancelled", None))
    return own


def _beside(recipe: SnapshotRecipe) -> dict[str, Totals | RateTable]:
    """Return the recipe's tables that are no sources (totals, rates), by their raw names."""
    rates = recipe.revenue.shape.rates
    tables: dict[str, Totals | RateTable] = {}
    if recipe.totals is not None:
        tables[_TOTALS_NAME] = recipe.totals
    if isinstance(rates, RateTable):
        tables[_RATES_NAME] = rates
    return tables


def _placed(location: str, base: Path | None) -> str:
    return location if base is None or not is_path(location) else str(base / location)


def _listed(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(literal, texts))}]"


def _opened(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    scratch: Path,
    times: tuple[str | None, ...],
    account: str | None = None,
) -> _OpenedSource:
    """Create a view of a source under its raw name.

    Columns in `times` that hold ISO text are cast to dates or timestamps. Local Parquet files are
    read in place; everything else is written to Parquet once.
    """
    target = scratch / f"{len(list(scratch.iterdir()))}.parquet"
    try:
        made = _in_place(source) or _copied(source, target, account)
        for file in made.files:
            # What isn't Parquet at all is said below.
            with suppress(pl.exceptions.PolarsError, OSError):
                refuse_alike(without_credentials(source.location), pl.read_parquet_schema(file))
    except AccountDataError as err:
        # The user gave a recipe: a hint about --data wouldn't apply.
        hint = None if "--data" in (err.hint or "") else err.hint
        raise AccountDataError(f"source {name}: {err.message}", hint=hint) from err
    read = (
        f"read_parquet({_listed(made.files)}, hive_partitioning = false, union_by_name = true, "
        # Parquet statistics leave NaN out, and DuckDB would otherwise trust them.
        "can_have_nan = true)"
    )
    try:
        # Some tools write NaN for an unknown number. DuckDB orders it above all others, so it
        # becomes null.
        floats = [
            f"case when not isnan({quoted(column)}) then {quoted(column)} end as {quoted(column)}"
            for column, kind, *_ in connection.execute(f"describe from {read}").fetchall()
            if kind in ("FLOAT", "DOUBLE")
        ]
        shown = f"* replace ({', '.join(floats)})" if floats else "*"
        dated = with_dates(connection, f"select {shown} from {read}", times)
        connection.execute(f"create view {quoted(f'{RAW}{name}')} as {dated}")
    except duckdb.Error as err:
        raise AccountDataError(f"source {name}: can't be read: {first_line(err)}") from err
    return made


def _in_place(source: Source) -> _OpenedSource | None:
    """Return a source of local Parquet files without copying it; None for any other source."""
    location = source.location
    if source.query is not None or not _is_of_files(location):
        return None
    kind, paths = located(location)
    # Folders named COLUMN=VALUE hold a column, which Polars adds.
    if kind != "parquet" or any("=" in str(path) for path in paths):
        return None
    return _OpenedSource(tuple(str(path.absolute()) for path in paths), _of_files(paths))


def _is_of_files(location: str) -> bool:
    """Whether a location names local files that aren't part of a Delta table."""
    return is_path(location) and not any(
        (folder / "_delta_log").is_dir() for folder in (Path(location), *Path(location).parents)
    )


def _copied(source: Source, target: Path, account: str | None) -> _OpenedSource:
    """Write a source to a Parquet file."""
    location = source.location
    if is_database(location) and source.query is None:
        # `fetch` writes the file itself; going through a frame would write it twice.
        fetched = fetch(location, target)
        origin, unread, notes = fetched.origin, fetched.unread, fetched.notes
    else:
        table = scan(source).with_text(account)
        try:
            table.frame.sink_parquet(target)
        except (pl.exceptions.PolarsError, OSError) as err:
            raise AccountDataError(f'"{table.source}": can\'t be read: {first_line(err)}') from err
        origin, unread, notes = table.origin, table.unread, ()
    keys = {"source_kind": "kind", "source_version": "version", "source_read_at": "read_at"}
    version: dict[str, str | int] = {keys[k]: v for k, v in origin.items() if k in keys}
    local = None if is_remote(location) or version else local_path(location)
    if local is not None:
        version = _of_files([local] if local.is_file() else located(str(local))[1])
    return _OpenedSource((str(target),), version, unread, notes)


def _of_files(files: Sequence[Path]) -> dict[str, str | int]:
    """Return number, bytes and one SHA-256 of files, by which later changes are detected."""
    hashed = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                hashed.update(block)
    size = sum(path.stat().st_size for path in files)
    return {"files": len(files), "bytes": size, "sha256": hashed.hexdigest()}


def _join(
    connection: duckdb.DuckDBPyConnection, name: str, raw: RawTable, times: tuple[str | None, ...]
) -> None:
    """Create the raw table of a source from its query, which may read only the source's tables."""
    key, query = f"sources.{name}.query", str(raw.query).strip().removesuffix(";")
    refuse_select(connection, query, raw.places, key, what="table")
    tables = ", ".join(
        f"{quoted(table)} as (select * from {quoted(f'{RAW}{name}.{table}')})"
        for table in raw.places
    )
    try:
        # A table, not a view: each feature and date reads it, but the query runs once.
        rows = with_dates(connection, f"with {tables} select * from ({query}\n)", times)
        connection.execute(f"create table {quoted(f'{RAW}{name}')} as {rows}")
    except duckdb.Error as err:
        raise RecipeError(f"{key}: {first_line(err)}") from err


# ---- validating the recipe's columns and SQL ----------------------------------------------------


def _check(opened: RawHistory) -> None:
    """Raise one `RecipeError` that lists all faults of the recipe against its sources."""
    check = _AgainstSources(opened)
    check.columns()
    check.sql()
    if not check.wrong:
        # DuckDB's binder finds the remaining faults, such as unknown columns in SQL.
        check.bindings()
    if wrong := check.wrong:
        raise RecipeError.of_all(wrong, f"{len(wrong)} problems", problems=wrong)


def conditions(recipe: SnapshotRecipe) -> list[tuple[str, str, str]]:
    """Return all SQL conditions of a recipe: path in the recipe, source name, and text."""
    parts: dict[str, FeatureRule | Flag | Activation | RawTable] = {
        f"sources.{name}": source for name, source in recipe.sources.items()
    }
    parts |= {f"features.{name}": rule for name, rule in recipe.features.items()}
    parts |= {f"flags.{number}": flag for number, flag in enumerate(recipe.flags, 1)}
    if recipe.activation is not None:
        parts["activation"] = recipe.activation
    listed = [
        (f"{key}.where", getattr(each, "source", key.partition(".")[2]), each.where)
        for key, each in parts.items()
        if each.where is not None
    ]
    shape = recipe.revenue.shape
    if shape.one_off is not None:
        listed.append(("revenue.one_off", shape.source, shape.one_off))
    return listed


class _AgainstSources:
    """Validates a recipe against its sources; collects the faults in `wrong`."""

    def __init__(self, opened: RawHistory) -> None:
        self.opened, self.recipe, self.wrong = opened, opened.recipe, list[str]()
        self.schemas = {
            name: {row[0]: row[1] for row in opened.ask(f"describe {quoted(f'{RAW}{name}')}")}
            for name in (*self.recipe.sources, *_beside(self.recipe))
        }

    def require(
        self, key: str, source: str, column: str | int | None, kinds: tuple[str, ...] = ()
    ) -> None:
        """Require a column of a source, and one of some types; `key` is its path for the error.

        A `column` that is no text, such as a fixed number of months, needs no check.
        """
        if not isinstance(column, str):
            return
        kind = self.schemas[source].get(column)
        if kind is None:
            if reason := self.opened.sources[source].unread.get(column):
                text = f'{key}: column "{column}" of "{source}" can\'t be had: {reason}'
                self.wrong.append(text)
                return
            hint = did_you_mean(column, self.schemas[source], before="; ")
            self.wrong.append(f'{key}: source "{source}" has no column "{column}"{hint}')
        elif kinds and (not kind.startswith(kinds) or kind.endswith("[]")):
            whats = {_TIMES: "dates", _NUMBERS: "numbers", _WHOLE: "text or whole numbers"}
            what = whats.get(kinds, "numbers or dates")
            self.wrong.append(
                f'{key}: column "{column}" of "{source}" must hold {what}, got {kind}'
            )

    def columns(self) -> None:
        """Check all columns that the recipe names."""
        recipe, require = self.recipe, self.require
        for name, source in recipe.sources.items():
            require(f"sources.{name}", name, source.account, _WHOLE)
            times = (source.at, source.from_, source.until, source.valid_from, source.known_at)
            for column in times:
                require(f"sources.{name}", name, column, _TIMES)
            if source.kind == "today":
                self.opened.notes.append(
                    f'Source "{name}" is as it is today: what it says of an account may have come '
                    "after the date, so that its features may know the outcome."
                )
        shape = recipe.revenue.shape
        require("revenue", shape.source, shape.amount, _NUMBERS)
        require("revenue", shape.source, shape.currency)
        if isinstance(shape, Subscriptions):
            for number in (shape.quantity, shape.discount, shape.months):
                require("revenue", shape.source, number, _NUMBERS)
            require("revenue", shape.source, shape.cancelled, _TIMES)
        if isinstance(shape, Transactions):
            require("revenue", shape.source, shape.months, _NUMBERS)
            require("revenue", shape.source, shape.paid_until, _TIMES)
        if isinstance(shape.rates, RateTable):
            require("revenue.rates", _RATES_NAME, shape.rates.currency)
            require("revenue.rates", _RATES_NAME, shape.rates.date, _TIMES)
            require("revenue.rates", _RATES_NAME, shape.rates.rate, _NUMBERS)
        if recipe.totals is not None:
            require("totals", _TOTALS_NAME, recipe.totals.month, _TIMES)
            require("totals", _TOTALS_NAME, recipe.totals.amount, _NUMBERS)
        for name, rule in recipe.features.items():
            if rule.kind != "sql":
                numbers = rule.kind in ("sum", "mean", "trend", "change")
                # As text, 9 would be larger than 10.
                sized = (*_NUMBERS, *_TIMES) if rule.kind in ("min", "max") else ()
                kinds: tuple[str, ...] = _NUMBERS if numbers else sized
                require(f"features.{name}", rule.source, rule.column, kinds)

    def sql(self) -> None:
        """Check that the recipe's SQL reads only what it may."""
        connection, recipe = self.opened.connection, self.recipe
        for key, _, condition in conditions(recipe):
            self._tried(partial(refuse_condition, connection, condition, key))
        for name, rule in recipe.features.items():
            if rule.kind == "sql":
                key = f"features.{name}"
                self._tried(partial(refuse_select, connection, str(rule.sql), recipe.sources, key))

    def _tried(self, check: Callable[[], None]) -> None:
        try:
            check()
        except RecipeError as err:
            self.wrong.append(err.message + (f" ({err.hint})" if err.hint else ""))

    def bindings(self) -> None:
        """Check that DuckDB can bind every piece of SQL in the recipe."""
        recipe = self.recipe
        days = SnapshotDays.of(recipe, recipe.days[-1], None)
        seen = {name: source_rows(recipe, name, days.cut) for name in recipe.sources}
        for name, text in seen.items():
            self._bound(f"sources.{name}.where", f"select * from ({text})", name)
        if self.wrong:
            return
        for key, source, condition in conditions(recipe):
            self._bound(key, f"select * from ({seen[source]}) where ({condition}\n)", source)
        self._bound("revenue", recurring(recipe, f"({seen[recipe.revenue.shape.source]})"))
        views = ", ".join(f"{quoted(name)} as ({text})" for name, text in seen.items())
        for name, rule in recipe.features.items() if not self.wrong else ():
            key = f"features.{name}"
            if rule.kind == "sql":
                self._bound(key, f"with {views} select * from ({rule.sql}\n)", columns=2)
            else:
                value = feature(recipe, rule, days)
                self._bound(key, f"select {value} from ({seen[rule.source]})")

    def _bound(
        self, key: str, text: str, source: str | None = None, *, columns: int | None = None
    ) -> None:
        try:
            columns_given = self.opened.connection.execute(f"describe {text}").fetchall()
        except duckdb.Error as err:
            problem = first_line(err)
            unknown = re.search('Referenced column "([^"]*)" not found', problem)
            if unknown is not None and source is not None:
                hint = did_you_mean(unknown[1], self.schemas[source])
                hint = hint or "text stands in single quotes"
                problem = f'source "{source}" has no column "{unknown[1]}"; {hint}'
            self.wrong.append(f"{key}: {problem}")
            return
        if columns is not None and len(columns_given) != columns:
            self.wrong.append(
                f"{key}: expected account and value, got {len(columns_given)} columns"
            )


def _known_until(opened: RawHistory) -> date:
    """Return the end of the history, exclusive: the recipe's `data_until`, or the last revenue."""
    recipe = opened.recipe
    shape = recipe.revenue.shape
    time = quoted(str(recipe.sources[shape.source].time))
    rows = source_rows(recipe, shape.source)
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


def _note_currencies(opened: RawHistory) -> None:
    """Note revenue in several currencies that a recipe without rates adds up as it stands."""
    shape = opened.recipe.revenue.shape
    if shape.currency is not None:
        return
    rows = source_rows(opened.recipe, shape.source)
    for name, kind, *_ in opened.ask(f"describe {rows}"):
        if not names_currency(name) or not kind.startswith(("VARCHAR", "ENUM")):
            continue
        code = f"nullif(upper(trim(cast({quoted(name)} as varchar))), '')"
        [[count]] = opened.ask(f"select count(distinct {code}) from ({rows})")
        if count > 1:
            opened.notes.append(
                f'Column "{name}" of "{shape.source}" has {count:,} currencies, and the amounts '
                "are added up as they stand: currency and rates, in revenue, convert them."
            )


# ---- restricting the recipe's SQL ----------------------------------------------------------------

#: Functions whose value may differ between days, runs or machines.
_UNSTEADY = frozenset(
    {
        *("now", "today", "get_current_time", "get_current_timestamp", "transaction_timestamp"),
        *("current_localtime", "current_localtimestamp", "random", "uuid", "gen_random_uuid"),
        *("uuidv4", "uuidv7", "setseed", "nextval", "currval", "setval", "getvariable", "getenv"),
        *("current_setting", "current_query", "current_query_id", "current_connection_id"),
        *("current_transaction_id", "txid_current", "current_database", "current_schemas"),
        *("in_search_path", "version", "sleep_ms", "write_log", "stats", "vector_type", "query"),
        *("query_table", "pg_postmaster_start_time", "pg_conf_load_time", "ago"),
        "reservoir_quantile",
        # These expose DuckDB's catalogue, which contains the paths of files.
        *("pg_get_viewdef", "pg_get_constraintdef", "format_type", "get_block_size"),
    }
)
#: Such functions that SQL calls without brackets.
_BARE = frozenset(
    {
        *("current_date", "current_timestamp", "current_time", "localtime", "localtimestamp"),
        *("current_user", "user", "session_user", "current_role", "current_catalog"),
        "current_schema",
    }
)
_TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})
#: Node types allowed in a FROM; SHOW and all others are refused.
_FROM = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EMPTY", "EXPRESSION_LIST"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _tree(connection: duckdb.DuckDBPyConnection, text: str, key: str) -> Any:
    """Parse one SELECT into DuckDB's syntax tree as plain data."""
    [row] = connection.execute("select json_serialize_sql(?)", [text]).fetchall()
    tree = json.loads(row[0])
    if tree.get("error"):
        reason = str(tree.get("error_message", "")).partition("\n")[0]
        raise RecipeError(f"{key}: not readable as SQL: {reason}")
    if len(tree["statements"]) != 1:
        raise RecipeError(f"{key}: expected one SELECT, got {len(tree['statements'])}")
    return tree["statements"][0]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _refuse_unsteady(tree: Any, key: str) -> None:
    wrong = set()
    for node in _nodes(tree):
        if node.get("sample"):
            raise RecipeError(f"{key}: a sample is another one in another run")
        kind = node.get("class")
        if kind in ("FUNCTION", "WINDOW"):
            name = str(node.get("function_name", "")).lower()
            # With one argument, `age` counts from today.
            since_today = name == "age" and len(node.get("arguments", ())) < 2
            if name in _UNSTEADY | _BARE or since_today:
                wrong.add(name)
        elif kind == "COLUMN_REF" and len(node["column_names"]) == 1:
            wrong |= {str(node["column_names"][0]).lower()} & _BARE
    if wrong:
        raise RecipeError(
            f"{key}: {culprits(sorted(wrong))} may give another value another day",
            hint="count from the snapshot date by a feature of days_since or last",
        )


def refuse_select(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    sources: Collection[str],
    key: str,
    *,
    what: str = "source",
) -> None:
    """Raise `RecipeError` if a SELECT reads other tables than `sources`, or isn't deterministic.

    `what` is the word for a table in messages: a feature reads the recipe's sources, a source's
    query reads the tables of that source.
    """
    tree = _tree(connection, text, key)
    own = [
        str(each["key"])
        for node in _nodes(tree)
        for each in (node.get("cte_map") or {}).get("map", [])
    ]
    # Outside its scope, a CTE's name would refer to the database's table of that name.
    there = {
        str(row[0]).lower()
        for row in connection.execute(
            "select view_name from duckdb_views() union all select table_name from duckdb_tables()"
        ).fetchall()
    } | {name.lower() for name in sources}
    taken = sorted({n for n in own if n.lower() in there or not _NAME.fullmatch(n)})
    if taken:
        raise RecipeError(f"{key}: a WITH may not be named {culprits(taken)}: another table is")
    known = {name.lower() for name in (*sources, *own)}
    for node in _nodes(tree):
        kind = node.get("type")
        if kind == "BASE_TABLE":
            qualified = node.get("schema_name") or node.get("catalog_name")
            if qualified or str(node["table_name"]).lower() not in known:
                raise RecipeError(
                    f'{key}: there is no {what} "{node["table_name"]}"',
                    hint=f"{what}s are {', '.join(sources)}",
                )
        elif kind == "TABLE_FUNCTION":
            name = str(node["function"]["function_name"]).lower()
            if name not in _TABLE_FUNCTIONS:
                raise RecipeError(f'{key}: "{name}" reads what no source of the recipe is')
        for part in ("from_table", "left", "right"):
            child = node.get(part)
            if not isinstance(child, dict) or "class" in child:
                continue
            if (part == "from_table" or kind == "JOIN") and child["type"] not in _FROM:
                raise RecipeError(f"{key}: a FROM reads the recipe's sources alone")
    _refuse_unsteady(tree, key)


def refuse_condition(connection: duckdb.DuckDBPyConnection, text: str, key: str) -> None:
    """Raise `RecipeError` if a text is anything but a condition over the columns of one row."""
    # Parsed in brackets, no clause can follow it; parsed without, it can't close a bracket early.
    _tree(connection, f"select 1 where ({text}\n)", key)
    node = _tree(connection, f"select 1 where {text}\n", key)["node"]
    parts = ("group_expressions", "having", "qualify", "modifiers")
    if node["type"] != "SELECT_NODE" or any(node.get(part) for part in parts):
        raise RecipeError(f"{key}: expected a condition")
    nodes = list(_nodes(node["where_clause"]))
    if any(each.get("class") in ("SUBQUERY", "WINDOW") or "table_name" in each for each in nodes):
        raise RecipeError(f"{key}: a condition reads the columns of its own row alone")
    _refuse_unsteady(node["where_clause"], key)
