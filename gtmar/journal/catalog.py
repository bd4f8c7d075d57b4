"""The journal as DuckDB sees it: views over its Parquet files, and queries under locks.

A query from outside is one SELECT, as DuckDB's own parser
sees it, in a connection that can read the journal's folder and nothing else.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from polars.exceptions import PolarsError

from gtmar.errors import (
    JournalError,
    JournalVersionError,
    JournalWarning,
    QueryError,
    RunNotFoundError,
    culprits,
    nearest,
)
from gtmar.journal.clock import ahead, clock_note
from gtmar.journal.events import event_schema
from gtmar.journal.library import find_file, sql_folder
from gtmar.journal.schema import FORMAT_VERSION, experiment_schema, run_schema
from gtmar.journal.shelves import Shelf
from gtmar.journal.store import refuse_remote_journal
from gtmar.locks import failed, first_line, lock, refuse_all_but_select

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    import polars as pl

__all__ = ["Journal"]

#: What no path may hold that DuckDB is to read as it stands.
_PLAIN = re.compile(r"[^*?\[\]{}'\"\\\n\r\ud800-\udfff]+")
#: Variables that the views read, and nobody else sets.
_OWN = {
    "journal",
    "record_files",
    "experiment_files",
    "event_files",
    "event_source",
    "formats_mix",
}


class Journal:
    """A journal, open for questions; a context manager.

    Parameters
    ----------
    path
        The journal's folder.

    Raises
    ------
    RunNotFoundError
        If the folder holds neither a run nor an event.
    JournalVersionError
        If a newer gtmar wrote it.

    Examples
    --------
    ``Journal("journal").sql("review", run="r20260101-120000-abc123")`` gives a Polars frame.
    """

    def __init__(self, path: str | Path = "journal") -> None:
        refuse_remote_journal(path)
        self.path = Path(path)
        self._folder = folder = self.path.resolve()
        begun = (folder.glob(pattern) for pattern in ("runs/*/start.parquet", "events/*.parquet"))
        if not any(any(files) for files in begun):
            raise RunNotFoundError(
                f'journal "{self.path}": '
                + ("no run in it" if self.path.is_dir() else "no such folder"),
                hint="gtmar run writes one; --journal DIR or GTMAR_JOURNAL says where it is",
            )
        import duckdb

        scratch = Path(tempfile.mkdtemp(prefix="gtmar-"))
        if not _PLAIN.fullmatch(str(folder)):
            # DuckDB takes a name for a pattern, and only UTF-8: it goes by a name without these.
            plain = scratch / "journal"
            plain.symlink_to(folder)
            self._folder = folder = plain
        self._tidy = weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        self._shelves = {
            "record_files": Shelf.of("runs", run_schema(), scratch),
            "experiment_files": Shelf.of("experiments", experiment_schema(), scratch),
            "event_files": Shelf.of("events", event_schema(), scratch, by_run=False),
        }
        self._connection = duckdb.connect()
        try:
            self._look()
            self._make_views()
            lock(self._connection, (folder, scratch))
            self._list()
        except duckdb.Error as err:
            self.close()
            raise JournalError(f'journal "{self.path}": {first_line(err)}') from err
        except JournalVersionError:
            self.close()
            raise

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

    def interrupt(self) -> None:
        """End the query that runs, from another thread."""
        self._connection.interrupt()

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
            likely = nearest(unknown[0], known)
            raise QueryError(
                f'query "{file.name}" has no parameter {culprits(unknown)}; '
                f"it has {', '.join(sorted(known)) or 'none'}",
                hint=f'did you mean "{likely}"?' if likely else None,
            )
        if "chosen_" in file.text and variables.get("run") is None and self._run_ids():
            # The views would find it too, by reading the records of all runs.
            variables["run"] = self.run_id()
        named = {str(variables[name]) for name in ("run", "other") if variables.get(name)}
        if not (named and file.named_runs):
            return self.query(file.text, **variables)
        # Neither names nor files of other runs need be gone through then.
        self._list(named)
        try:
            return self.query(file.text, **variables)
        finally:
            self._list()

    def _look(self) -> None:
        """Find the files that are whole, and whether they have the columns of this version."""
        self._stocks = {name: shelf.stock(self._folder) for name, shelf in self._shelves.items()}
        newest = max(stock.newest for stock in self._stocks.values())
        if newest > FORMAT_VERSION:
            raise JournalVersionError(
                f'journal "{self.path}": holds files of format {newest}, newer than the '
                f"{FORMAT_VERSION} that this gtmar reads",
                hint="install the newer gtmar",
            )
        self._mixed = not all(stock.alike for stock in self._stocks.values())
        left_out = [path for stock in self._stocks.values() for path in stock.left_out]
        if left_out:
            warnings.warn(
                f'journal "{self.path}": left out, being links or not yours to read: '
                f"{culprits(left_out)}; chmod -R g+rX by their owner shares them",
                JournalWarning,
                stacklevel=4,
            )

    def _make_views(self) -> None:
        self._set_own("journal", str(self._folder))
        self._set_own("formats_mix", self._mixed)
        # To make a view opens its files: where columns are alike, one without rows will do.
        self._list(None if self._mixed else ())
        self._connection.execute((sql_folder() / "views.sql").read_text(encoding="utf-8"))

    def _list(self, runs: Collection[str] | None = None) -> None:
        """Tell the views which files to read: those of some runs, or all."""
        self._listed = runs
        for name, shelf in self._shelves.items():
            paths = list(self._stocks[name].paths)
            if runs is not None and shelf.by_run:
                mine = [f"/run_id={run}/" for run in runs]
                paths = [path for path in paths if any(run in path for run in mine)]
            if self._mixed or not paths:
                # It brings the columns that older files lack.
                paths.insert(0, shelf.empty)
            self._set_own(name, paths)

    def _set_own(self, name: str, value: object) -> None:
        self._connection.execute(f"set variable {name} = $value", {"value": value})

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
        import duckdb

        refuse_all_but_select(
            text, hint="the journal is read only; copy the result elsewhere with --json"
        )
        self._set(variables)
        try:
            return self._frame(text)
        except duckdb.IOException:
            # A run's parts may have been packed since they were listed.
            self._look()
            self._list(self._listed)
        except (duckdb.Error, PolarsError) as err:
            raise failed(err) from err
        try:
            return self._frame(text)
        except (duckdb.Error, PolarsError) as err:
            raise failed(err) from err

    def _frame(self, text: str) -> pl.DataFrame:
        frame: pl.DataFrame = self._connection.sql(text).pl()
        return frame

    def run_id(self, name: str | None = None) -> str:
        """Return a run's full id: the only one that begins or ends with `name`.

        Without a name, that of the latest search; of the latest run where none is a search, but
        changes by people, or runs of other tools.

        Raises
        ------
        RunNotFoundError
            If there is none, or more than one.
        """
        ids = self._run_ids()
        if not ids:
            raise RunNotFoundError(
                f'journal "{self.path}": no run in it', hint="gtmar run writes one"
            )
        if name is None:
            return self._latest(ids)
        if name in ids:
            return name
        matches = [i for i in ids if i.startswith(name) or i.endswith(name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise RunNotFoundError(f'"{name}" stands for {len(matches)} runs: {culprits(matches)}')
        likely = nearest(name, ids)
        raise RunNotFoundError(
            f'journal "{self.path}" has no run "{name}"; it has {len(ids)}, '
            f"the latest search {self._latest(ids)}",
            hint=f'did you mean "{likely}"?' if likely else "gtmar sql runs lists them",
        )

    def _run_ids(self) -> list[str]:
        """Return the ids of all runs that have begun, in their order."""
        starts = [Path(path) for path in self._stocks["record_files"].paths]
        return [p.parent.name.partition("=")[2] for p in starts if p.name == "start.parquet"]

    def _latest(self, ids: list[str]) -> str:
        """Return the search that began last, else the run that did.

        Runs dated ahead of this clock count where there is no other. Ids tell the second; within a
        minute the records do. Records are read a few at a time, the newest first, since the first
        few nearly always hold a search.
        """
        future = ahead(ids)
        if 0 < len(future) < len(ids):
            ids = [run for run in ids if run not in future]
            note = (
                f'journal "{self.path}": {clock_note(future)}; the latest is taken to be {max(ids)}'
            )
            warnings.warn(note, JournalWarning, stacklevel=3)
        minutes = sorted({run[: len("r20260101-1200")] for run in ids}, reverse=True)
        latest, most = "", 1
        while minutes:
            some, minutes, most = minutes[:most], minutes[most:], 8 * most
            self._list([run for run in ids if run.startswith(tuple(some))])
            try:
                frame = self.query(
                    "select run_id, kind from runs "
                    "order by started_at > now(), started_at desc, run_id desc"
                )
            finally:
                self._list()
            latest = latest or frame["run_id"][0]
            searches = frame.filter(frame["kind"] == "search")["run_id"]
            if not searches.is_empty():
                return str(searches[0])
        return latest

    def _set(self, variables: dict[str, Any]) -> None:
        import duckdb

        held = self._connection.sql("select name from duckdb_variables()").fetchall()
        for (name,) in held:
            if name not in _OWN:
                self._connection.execute(f'reset variable "{name}"')
        for name, value in variables.items():
            if not name.isidentifier() or name in _OWN:
                raise QueryError(f'"{name}" is no name for a parameter')
            if value is None:
                # As one that isn't set: a null has a type, which may not be the one expected.
                continue
            try:
                self._connection.execute(f'set variable "{name}" = $value', {"value": value})
            except duckdb.Error as err:
                raise QueryError(f'the value of "{name}" is of no SQL type: {value!r}') from err
