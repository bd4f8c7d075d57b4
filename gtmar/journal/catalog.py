"""The journal as DuckDB sees it: views over its Parquet files, and queries under locks.

This is one of the three homes of duckdb. A query from outside is one SELECT, as DuckDB's own parser
sees it, in a connection that can read the journal's folder and nothing else.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import duckdb
import pyarrow.parquet as pq
from polars.exceptions import PolarsError

from gtmar.errors import (
    JournalError,
    JournalVersionError,
    QueryError,
    RunNotFoundError,
    culprits,
    nearest,
)
from gtmar.journal.library import find_file, sql_folder
from gtmar.journal.schema import FORMAT_VERSION, experiment_schema
from gtmar.journal.store import is_whole

if TYPE_CHECKING:
    from types import TracebackType

    import polars as pl

__all__ = ["Journal"]

#: Variables that the views read, and nobody else sets.
_OWN = {"journal", "record_files", "experiment_files"}


class Journal:
    """A journal, open for questions; a context manager.

    Parameters
    ----------
    path
        The journal's folder.

    Raises
    ------
    RunNotFoundError
        If the folder holds no run.
    JournalVersionError
        If a newer gtmar wrote it.

    Examples
    --------
    ``Journal("journal").sql("review", run="r20260101-120000-abc123")`` gives a Polars frame.
    """

    def __init__(self, path: str | Path = "journal") -> None:
        self.path = Path(path)
        records = sorted(self.path.glob("runs/*/start.parquet"))
        if not records:
            raise RunNotFoundError(
                f'journal "{self.path}": '
                + ("no run in it" if self.path.is_dir() else "no such folder"),
                hint="gtmar run writes one; --journal DIR or GTMAR_JOURNAL says where it is",
            )
        scratch = Path(tempfile.mkdtemp(prefix="gtmar-"))
        self._tidy = weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        self._empty = scratch / "run_id=none" / "empty.parquet"
        self._empty.parent.mkdir()
        pq.write_table(experiment_schema().empty_table(), self._empty)
        self._connection = duckdb.connect()
        folder = self.path.resolve()
        self._parts = _whole_files(folder, "experiments/run_id=*/*.parquet")
        try:
            self._list("record_files", _whole_files(folder, "runs/run_id=*/*.parquet"))
            self._list("experiment_files", self._parts)
            _make_views(self._connection, folder, scratch)
        except duckdb.Error as err:
            self.close()
            raise JournalError(f'journal "{self.path}": {_first_line(err)}') from err
        newest = self.query("select max(format_version) as newest from runs")["newest"].item()
        if newest is not None and newest > FORMAT_VERSION:
            self.close()
            raise JournalVersionError(
                f'journal "{self.path}": holds runs of format {newest}, newer than the '
                f"{FORMAT_VERSION} that this gtmar reads",
                hint="install the newer gtmar",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._tidy()

    def sql(self, name: str, **variables: Any) -> pl.DataFrame:
        """Run a query of the SQL library.

        Parameters
        ----------
        name
            Its name: ``review``, ``journal/compare``.
        variables
            Its parameters.

        Raises
        ------
        QueryError
            If there is no such query, a parameter is unknown, or it fails.
        """
        file = find_file(name)
        known = {parameter.name for parameter in file.parameters}
        unknown = sorted(set(variables) - known)
        if unknown:
            raise QueryError(
                f'query "{file.name}" has no parameter {culprits(unknown)}',
                hint=f"it has {', '.join(sorted(known)) or 'none'}",
            )
        narrowed = [str(variables[name]) for name in ("run", "other") if variables.get(name)]
        if not narrowed:
            return self.query(file.text, **variables)
        # DuckDB can't know that a query about one run needs no file of another.
        parts = [p for p in self._parts if p.parent.name.partition("=")[2] in narrowed]
        self._list("experiment_files", parts)
        try:
            return self.query(file.text, **variables)
        finally:
            self._list("experiment_files", self._parts)

    def _list(self, variable: str, files: list[Path]) -> None:
        """Tell a view which files it reads; an empty part where there is none."""
        listed = [str(file) for file in files] or [str(self._empty)]
        self._connection.execute(f"set variable {variable} = $files", {"files": listed})

    def query(self, text: str, **variables: Any) -> pl.DataFrame:
        """Run one SELECT over the views `runs` and `experiments`.

        Parameters
        ----------
        text
            The SELECT; values come in by ``getvariable('name')``.
        variables
            Values by name; those of earlier queries are forgotten.

        Raises
        ------
        QueryError
            If the text isn't one SELECT, or fails.
        """
        _refuse_all_but_select(text)
        self._set(variables)
        try:
            frame: pl.DataFrame = self._connection.sql(text).pl()
        except (duckdb.Error, PolarsError) as err:
            raise _failed(err) from err
        return frame

    def run_id(self, name: str | None = None) -> str:
        """Return a run's full id: the latest, or the only one that begins or ends with `name`.

        Raises
        ------
        RunNotFoundError
            If there is none, or more than one.
        """
        frame = self.query("select run_id from runs order by started_at, run_id")
        ids: list[str] = frame["run_id"].to_list()
        if name is None:
            return ids[-1]
        if name in ids:
            return name
        matches = [i for i in ids if i.startswith(name) or i.endswith(name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise RunNotFoundError(f'"{name}" stands for {len(matches)} runs: {culprits(matches)}')
        likely = nearest(name, ids)
        raise RunNotFoundError(
            f'journal "{self.path}" has no run "{name}"; it has {len(ids)}, the latest {ids[-1]}',
            hint=f'did you mean "{likely}"?' if likely else "gtmar sql runs lists them",
        )

    def _set(self, variables: dict[str, Any]) -> None:
        held = self._connection.sql("select name from duckdb_variables()").fetchall()
        for (name,) in held:
            if name not in _OWN:
                self._connection.execute(f'reset variable "{name}"')
        for name, value in variables.items():
            if not name.isidentifier() or name in _OWN:
                raise QueryError(f'"{name}" is no name for a parameter')
            try:
                self._connection.execute(f'set variable "{name}" = $value', {"value": value})
            except duckdb.Error as err:
                raise QueryError(f'the value of "{name}" is of no SQL type: {value!r}') from err


def _whole_files(folder: Path, pattern: str) -> list[Path]:
    """Return files that are whole; what a crash has cut off is passed over."""
    return [file for file in sorted(folder.glob(pattern)) if is_whole(file)]


def _make_views(connection: duckdb.DuckDBPyConnection, folder: Path, scratch: Path) -> None:
    """Make the views, then lock the connection to the journal's folder."""
    connection.execute("set variable journal = $folder", {"folder": str(folder)})
    connection.execute((sql_folder() / "views.sql").read_text(encoding="utf-8"))
    connection.execute(
        "set allowed_directories = [$folder, $scratch]",
        {"folder": str(folder), "scratch": str(scratch)},
    )
    for setting in (
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"set {setting}")


def _refuse_all_but_select(text: str) -> None:
    """Refuse what isn't exactly one SELECT: the locks alone would let COPY overwrite a part."""
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as err:
        raise _failed(err) from err
    if len(statements) != 1:
        raise QueryError(
            f"expected one SELECT, got {len(statements)} statements",
            hint="values come in with --set name=value",
        )
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(
            f"expected one SELECT, got {kind.name}",
            hint="the journal is read only; copy the result elsewhere with --json",
        )


def _first_line(err: Exception) -> str:
    return str(err).strip().splitlines()[0]


def _failed(err: Exception) -> QueryError:
    return QueryError(f"the query failed: {_first_line(err)}")
