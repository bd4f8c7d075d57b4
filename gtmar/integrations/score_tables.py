"""Kept scores in a Delta table, a partition a date, or in a table of a DuckDB file.

What a spec gave on a date is appended by one commit, and only where it isn't there yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar.data.locations import duckdb_place, local_path, quoted
from gtmar.errors import UsageError, culprits
from gtmar.integrations.lakehouse import append_new, delta_table, in_duckdb
from gtmar.outputs import refuse_inputs
from gtmar.safe_text import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date
    from pathlib import Path

    import duckdb

__all__ = ["ScoreTable"]

_DAY, _KEY = "features_asof", "kept_as"
#: The columns: `kept_as` names what a spec gave on a date, ``DATE/SCORE_ID``; `spec` is its JSON.
_COLUMNS = {
    _DAY: pl.Date,
    "role": pl.String,
    _KEY: pl.String,
    "account": pl.String,
    "score": pl.Float64,
    "tier": pl.String,
    "probability": pl.Float64,
    "model": pl.String,
    "spec_id": pl.String,
    "scored_on": pl.Date,
    "spec": pl.String,
}
_SHARED = (_DAY, "role", _KEY, "scored_on", "spec")
_OWN = ("account", "score", "tier", "probability", "model", "spec_id", "scored_on")


@dataclass(frozen=True)
class ScoreTable:
    """A table of kept scores: ``delta:FOLDER``, ``delta:URL`` or ``duckdb:///file.db?table=NAME``.

    Every method raises `UsageError` where it can't be read or written, or holds something else.
    """

    location: str

    @property
    def _in_delta(self) -> bool:
        return self.location.startswith("delta:")

    def refuse_inputs(self, inputs: Iterable[str | Path]) -> None:
        """Refuse a Delta table that is an input; of a DuckDB file other tables may be one."""
        if self._in_delta and (local := local_path(self.location)) is not None:
            refuse_inputs(local, inputs)
        self._is_there()

    def kept(self) -> pl.DataFrame:
        """Return what all rows of a date and a spec share, once each, dates ascending."""
        return self._read(_SHARED).unique().sort(_DAY, _KEY)

    def rows(self, kept_as: str) -> pl.DataFrame:
        """Return what a spec gave on a date, a row an account, in the order of their ids."""
        return self._read(_OWN, kept_as).sort("account")

    def keep(self, rows: pl.DataFrame) -> bool:
        """Append the rows of one `kept_as` unless it is there; say whether they are new."""
        rows = rows.select(pl.col(name).cast(dtype) for name, dtype in _COLUMNS.items())
        if not self._is_there() and self._in_delta:
            with delta_table(self.location) as (deltalake, target):
                deltalake.write_deltalake(
                    target,
                    rows.clear().to_arrow(),
                    mode="ignore",
                    partition_by=[_DAY],
                    # The log outlives its rows: no account's id may stand there as a least value.
                    configuration={"delta.dataSkippingNumIndexedCols": "0"},
                )
        return append_new(rows, self.location, key=_KEY) > 0

    def forget(self, before: date) -> None:
        """Remove the rows of dates before a day, from older versions of a Delta table as well."""
        if not self._is_there():
            return
        condition = f"{_DAY} < '{before.isoformat()}'"
        if self._in_delta:
            with delta_table(self.location) as (deltalake, target):
                table = deltalake.DeltaTable(target)
                table.delete(condition)
                # Though nothing was left to delete: a process may have been killed in between.
                table.vacuum(0, dry_run=False, enforce_retention_duration=False)
            return

        def act(connection: duckdb.DuckDBPyConnection, table: str) -> None:
            connection.execute(f"delete from {table} where {condition}")
            connection.execute("checkpoint")

        in_duckdb(self.location, act)

    def _is_there(self) -> bool:
        """Whether the table is there; an error where it holds something else."""
        if self._in_delta:
            with delta_table(self.location) as (deltalake, target):
                if not deltalake.DeltaTable.is_deltatable(target):
                    return False
                there = [field.name for field in deltalake.DeltaTable(target).schema().fields]
        else:
            path, name = duckdb_place(self.location)
            if not path.exists():
                return False
            text = (
                "select column_name from information_schema.columns "
                "where table_schema = 'main' and lower(table_name) = lower(?)"
            )
            found = in_duckdb(self.location, lambda c, _: c.execute(text, [name]).fetchall())
            there = [column for (column,) in found]
            if not there:
                return False
        if lacking := [name for name in _COLUMNS if name not in there]:
            raise UsageError(
                f'"{without_credentials(self.location)}" is there already and is no table of kept '
                f"scores: it has no column {culprits(lacking)}",
                hint="give --scores another table",
            )
        return True

    def _read(self, columns: Sequence[str], kept_as: str | None = None) -> pl.DataFrame:
        """Read some columns, of one `kept_as` or of all; no row where there is no table."""
        if not self._is_there():
            return pl.DataFrame(schema={name: _COLUMNS[name] for name in columns})
        if self._in_delta:
            with delta_table(self.location) as (deltalake, target):
                lazy = pl.scan_delta(deltalake.DeltaTable(target))
                if kept_as is not None:
                    day = pl.lit(kept_as[:10]).str.to_date()
                    lazy = lazy.filter(pl.col(_DAY) == day, pl.col(_KEY) == kept_as)
                return lazy.select(columns).collect()

        def act(connection: duckdb.DuckDBPyConnection, table: str) -> pl.DataFrame:
            listed = ", ".join(map(quoted, columns))
            kept = "" if kept_as is None else f" where {_KEY} = ?"
            given: list[Any] = [] if kept_as is None else [kept_as]
            rows: pl.DataFrame = connection.sql(
                f"select {listed} from {table}{kept}", params=given
            ).pl()
            return rows

        return in_duckdb(self.location, act)
