"""SQL over a journal: DuckDB views of its rows, and queries in a locked connection.

The connection gets the rows of intact files and can't access any file itself, so no statement,
whatever its form, can change the journal. Runs whose files aren't what was written are left out of
every answer, with a warning that names them.
"""

from __future__ import annotations

import re
import sys
import unicodedata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gtmar.errors import (
    DamagedJournalWarning,
    JournalError,
    JournalVersionError,
    JournalWarning,
    QueryError,
    RunNotFoundError,
    culprits,
    did_you_mean,
)
from gtmar.journal.columns import EVENTS, EXPERIMENTS, FORMAT_VERSION, RECORDS
from gtmar.journal.events import ahead, clock_note
from gtmar.journal.file_index import Cache, FileIndex
from gtmar.journal.files import Row, matching, refuse_journal_elsewhere
from gtmar.journal.sql_library import SqlFile, find_file, sql_folder
from gtmar.journal.tables import FolderRows, Tables
from gtmar.sql_sandbox import (
    DEFAULT_SECONDS,
    QueryLimits,
    answer,
    failed,
    first_line,
    lock,
    plain_answer,
    refuse_all_but_select,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import duckdb
    import polars as pl


__all__ = ["Journal"]

Answer = TypeVar("Answer")

#: Names in `views.sql` of the rows of each folder.
_VIEWS = {RECORDS: "run_records", EXPERIMENTS: "experiments", EVENTS: "events"}
#: Line of `views.sql` after which no statement reads a file.
_NO_FILES = "-- What follows reads those three and no file."
#: The beginning of a definition of a view or a macro in `views.sql`.
_DEFINES = re.compile(r"^create or replace (?:view|macro) (\w+)", re.MULTILINE)
_WORD = re.compile(r"\w+")
#: Words by which a text may list views and macros, or run another text: then all are defined.
_LISTS = re.compile(
    r"duckdb_|pg_|pragma|information_schema|sqlite_|serialized_sql"
    r"|\b(?:show|desc|describe|summarize|query|query_table)\b"
)
#: Variables that `views.sql` sets itself, which can't be parameters.
_OWN = {"journal", "event_source", "formats_mix"}
#: Most files that a warning names.
_MOST_NAMED = 5
_FLAGS = "gtmar sql takes --time-limit SECONDS and --memory SIZE"


class Journal:
    """A journal, open for questions; a context manager.

    Parameters
    ----------
    time_limit
        Seconds that a query may take; None for 60 in `query`, and no limit in `sql`.
    memory
        Bytes that a query may take; None for half the machine's memory, 4 GiB at most.

    Warns
    -----
    DamagedJournalWarning
        If an answer leaves out runs or events whose files aren't what was written.

    Raises
    ------
    RunNotFoundError
        If the folder holds neither a run nor an event.
    JournalVersionError
        If a newer gtmar wrote it.
    JournalError
        If the folder can't be read.

    Examples
    --------
    ``Journal("journal").sql("review", run="r20260101-120000-abc123")`` gives a Polars frame.
    """

    def __init__(
        self,
        path: str | Path = "journal",
        *,
        time_limit: float | None = None,
        memory: int | None = None,
    ) -> None:
        refuse_journal_elsewhere(path)
        self.path = Path(path)
        self._folder = folder = self.path.resolve()
        self._time_limit = time_limit
        self._limits = QueryLimits(time_limit, memory)
        kept = Cache.of(folder)
        try:
            self._index = FileIndex(folder, kept)
        except OSError as err:
            raise JournalError(f'journal "{self.path}": {err.strerror}: {err.filename}') from err
        if not (self._any_begun() or self._index.events):
            raise RunNotFoundError(
                f'journal "{self.path}": '
                + ("no run in it" if self.path.is_dir() else "no such folder"),
                hint="gtmar run writes one; --journal DIR or GTMAR_JOURNAL says where it is",
            )
        self._refuse_newer()
        self._tables = Tables(self._index, kept)
        self._warned: set[str] = set()
        text = (sql_folder() / "views.sql").read_text(encoding="utf-8").partition(_NO_FILES)[2]
        definitions = [*_DEFINES.finditer(text)]
        ends = [each.start() for each in definitions[1:]] + [len(text)]
        #: Definitions of views and macros by name; each refers only to earlier ones.
        self._views = {
            each[1]: text[each.start() : end] for each, end in zip(definitions, ends, strict=True)
        }
        #: None until the first query, as many uses of a journal only look up a run's id.
        self._opened: duckdb.DuckDBPyConnection | None = None

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return self._connect() if self._opened is None else self._opened

    def _connect(self) -> duckdb.DuckDBPyConnection:
        """Open a connection, attach the cached rows, and lock it."""
        import duckdb

        self._opened = connection = duckdb.connect()
        #: State of the connection: views not yet defined, variables that are set, and sources.
        self._undefined = dict(self._views)
        self._variables: dict[str, Any] = {}
        self._sources: dict[str, FolderRows] = {}
        try:
            self._tables.attach(connection)
            lock(connection, self._limits)
        except duckdb.Error as err:
            self.close()
            raise JournalError(f'journal "{self.path}": {first_line(err)}') from err
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            self._opened.close()

    def interrupt(self) -> None:
        """Stop the running query, from another thread."""
        if self._opened is not None:
            self._opened.interrupt()

    def sql(
        self,
        name: str,
        *,
        among: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        **variables: Any,
    ) -> pl.DataFrame:
        """Run a query of the SQL library.

        Parameters
        ----------
        name
            Name of the query: ``review``, ``journal/compare``.
        among
            Ids of the runs whose rows are read, which is quicker; None for all.
        columns
            Columns of `experiments` that are read, which is quicker; None for all.
        variables
            Parameters of the query.

        Raises
        ------
        QueryError
            If there is no such query, a parameter is unknown, or the query fails.
        JournalError
            If the query is about named runs, and one of them is damaged.
        """
        return self._ask_library(answer, find_file(name), among, columns, variables)

    def sql_rows(
        self,
        name: str,
        *,
        among: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        **variables: Any,
    ) -> list[Row]:
        """Run a query of the SQL library as `sql` does, and return few rows as plain values."""
        return self._ask_library(plain_answer, find_file(name), among, columns, variables)

    def _ask_library(
        self,
        answered: Callable[..., Answer],
        file: SqlFile,
        among: Collection[str] | None,
        columns: Sequence[str] | None,
        variables: dict[str, Any],
    ) -> Answer:
        known = {parameter.name for parameter in file.parameters}
        unknown = sorted(set(variables) - known)
        if unknown:
            raise QueryError(
                f'query "{file.name}" has no parameter {culprits(unknown)}; '
                f"it has {', '.join(sorted(known)) or 'none'}",
                hint=did_you_mean(unknown[0], known) or None,
            )
        if "chosen_" in file.text and variables.get("run") is None and self._any_begun():
            # Resolved here, as the views would have to read the records of all runs.
            variables["run"] = self.run_id()
        runs = among
        if file.named_runs:
            # Only the files of these runs are read.
            runs = {
                str(variables[name]) for name in ("run", "other") if variables.get(name)
            } or None
            self._refuse_damaged(runs or ())
        # Checks look for wrong rows, so they also get the rows of damaged runs.
        checking = file.name.startswith("checks/")
        return self._ask(
            answered,
            file.text,
            variables,
            runs,
            self._time_limit,
            columns=columns,
            damaged=checking,
        )

    def _refuse_newer(self) -> None:
        newest = self._index.newest_format
        if newest > FORMAT_VERSION:
            raise JournalVersionError(
                f'journal "{self.path}": holds files of format {newest}, newer than the '
                f"{FORMAT_VERSION} that this gtmar reads",
                hint="install the newer gtmar",
            )

    def _sources_of(
        self, runs: Collection[str] | None, columns: Sequence[str] | None, *, damaged: bool
    ) -> dict[str, FolderRows]:
        """Return the sources of the views by folder: rows of some or all runs, and all events."""
        if self._opened is None:
            self._connect()
        rows_of = self._tables.of(runs, columns=columns, damaged=damaged)
        if self._tables.outdated:
            # The cached rows can only be attached before a connection is locked.
            self.close()
            self._connect()
            rows_of = self._tables.of(runs, columns=columns, damaged=damaged)
        self._refuse_newer()
        return rows_of

    def _hand_over(self, sources: dict[str, FolderRows]) -> None:
        """Define the views' base tables over these sources, where they have changed."""
        for folder, source in sources.items():
            if self._sources.get(folder) is not source:
                if source.fresh is not None:
                    self._connection.register(source.name, source.fresh)
                self._connection.execute(
                    f"create or replace view {_VIEWS[folder]} as {source.select}"
                )
                self._sources[folder] = source

    def query(
        self,
        text: str,
        *,
        among: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        **variables: Any,
    ) -> pl.DataFrame:
        """Run one SELECT over the views `runs` and `experiments`.

        Parameters
        ----------
        text
            The SELECT; it reads variables by ``getvariable('name')``.
        among, columns
            As for `sql`.
        variables
            Variables by name; those of earlier queries are reset.

        Raises
        ------
        QueryError
            If the text isn't one SELECT, or fails.
        """
        return self._ask_text(answer, text, among, columns, variables)

    def query_rows(
        self,
        text: str,
        *,
        among: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
        **variables: Any,
    ) -> list[Row]:
        """Run one SELECT as `query` does, and return few rows as plain values."""
        return self._ask_text(plain_answer, text, among, columns, variables)

    def _ask_text(
        self,
        answered: Callable[..., Answer],
        text: str,
        among: Collection[str] | None,
        columns: Sequence[str] | None,
        variables: dict[str, Any],
    ) -> Answer:
        refuse_all_but_select(
            text,
            hint="the journal is read only; copy the result elsewhere with --json",
            connection=self._connection,
        )
        limit = DEFAULT_SECONDS if self._time_limit is None else self._time_limit
        if among is None and columns is None:
            # The views that the text names, unless it may list them, or names one in a way that
            # only DuckDB resolves.
            if not _LISTS.search(text.casefold()):
                try:
                    return self._ask(answered, text, variables, None, limit)
                except QueryError as err:
                    if not (self._undefined and _of_names(err.__cause__)):
                        raise
            views = [*self._undefined]
            return self._ask(answered, text, variables, None, limit, views=views)
        return self._ask(answered, text, variables, among, limit, columns=columns)

    def _define(self, text: str) -> None:
        """Create the views that a text names; to create all takes longer than most queries."""
        words, needed = {*_WORD.findall(text.casefold())}, set[str]()
        while new := words & self._undefined.keys() - needed:
            needed |= new
            words = {word for name in new for word in _WORD.findall(self._undefined[name])}
        if needed:
            # A view fixes its columns and types when it is created, so it is created over all
            # columns, and with no variable set.
            self._set({})
            if not self._sources or any(source.columns for source in self._sources.values()):
                self._hand_over(self._sources_of((), None, damaged=False))
        for name in [name for name in self._undefined if name in needed]:
            self._connection.execute(self._undefined[name])
            del self._undefined[name]

    def _ask(
        self,
        answered: Callable[..., Answer],
        text: str,
        variables: dict[str, Any],
        runs: Collection[str] | None,
        seconds: float | None,
        *,
        columns: Sequence[str] | None = None,
        damaged: bool = False,
        views: Sequence[str] | None = None,
    ) -> Answer:
        """Load the rows, run the query, and warn of the runs that its answer leaves out."""
        limits = QueryLimits(seconds, self._limits.memory)
        for last in (False, True):
            try:
                sources = self._sources_of(runs, columns, damaged=damaged)
                self._define(text if views is None else " ".join(views))
                self._set(variables)
                self._hand_over(sources)
                answer = answered(self._connection, text, limits, flags=_FLAGS)
            except _engine_errors() as err:
                if last or not _of_file(err):
                    raise failed(err) from err
                # Try once more: a run's parts may have been packed since they were listed, or bytes
                # may have changed without a change of size and times.
                self._index.look()
                self._tables.forget()
                self._index.rehash(self._index.run_ids if runs is None else runs)
                self.close()
                self._connect()
            else:
                break
        if not damaged:
            self._warn(runs)
        return answer

    def _refuse_damaged(self, runs: Collection[str]) -> None:
        for run in runs:
            damage = self._index.damage(run)
            if damage:
                raise JournalError(
                    f"run {run} is damaged: {damage[0].file} {damage[0].problem}"
                    + (f", and {len(damage) - 1} more" if len(damage) > 1 else ""),
                    hint="gtmar verify names all that is; other runs can be asked about",
                )

    def _warn(self, runs: Collection[str] | None) -> None:
        """Warn, once a file, of the damaged events and, in an answer about all runs, of runs."""
        damaged = self._index.event_damage()
        if runs is None:
            damaged = [d for run in self._index.run_ids for d in self._index.damage(run)] + damaged
        new = [damage for damage in damaged if damage.file not in self._warned]
        if new:
            self._warned |= {damage.file for damage in new}
            named = "; ".join(f"{damage.file} {damage.problem}" for damage in new[:_MOST_NAMED])
            more = len(new) - _MOST_NAMED
            runs_out = len({damage.run_id for damage in new if damage.run_id})
            events = sum(not damage.run_id for damage in new)
            parts = [(runs_out, "run"), (events, "event")]
            what = " and ".join(f"{n:,} {x}{'' if n == 1 else 's'}" for n, x in parts if n)
            warnings.warn(
                DamagedJournalWarning(
                    f'journal "{self.path}": {what} left out: {named}'
                    + (f"; and {more:,} more" if more > 0 else "")
                ),
                stacklevel=4,
            )

    def run_id(self, name: str | None = None) -> str:
        """Return a run's full id: the only one that begins or ends with `name`.

        No name, or ``latest``, means the latest search; if there is no search, but changes by
        people or runs of other tools, the latest of these. ``live`` means the run of the live
        experiment.

        Raises
        ------
        RunNotFoundError
            If no run matches, or more than one.
        JournalError
            If the run is damaged.
        """
        if not self._any_begun():
            raise RunNotFoundError(
                f'journal "{self.path}": no run in it', hint="gtmar run writes one"
            )
        if name in (None, "latest"):
            return self._latest()
        if name == "live":
            return self.live().partition("/")[0]
        matches = [i for i in matching(name, self._index.folder_names) if self._index.has_begun(i)]
        if len(matches) == 1:
            self._refuse_damaged(matches)
            return matches[0]
        if matches:
            raise RunNotFoundError(f'"{name}" stands for {len(matches)} runs: {culprits(matches)}')
        ids = self._begun()
        raise RunNotFoundError(
            f'journal "{self.path}" has no run "{name}"; it has {len(ids)}, '
            f"the latest search {self._latest()}",
            hint=did_you_mean(name, ids) or "gtmar sql runs lists them",
        )

    def live(self) -> str:
        """Return the live experiment as ``RUN/EXP``.

        Raises
        ------
        RunNotFoundError
            If none is recorded as live, it wasn't measured in this journal, or several are live.
        """
        rows = self.sql_rows("live")
        names = [*dict.fromkeys(name for row in rows if (name := row["experiment"]) is not None)]
        if len(names) == 1:
            return str(names[0])
        if names:
            raise RunNotFoundError(
                f'"live" stands for {len(names)} experiments: {culprits(names)}',
                hint="gtmar log says which model each is of",
            )
        if not rows:
            raise RunNotFoundError(
                f'journal "{self.path}": nothing is on record as live',
                hint='gtmar promote latest --note "why it goes live" says what is',
            )
        raise RunNotFoundError(
            f'journal "{self.path}": what is live was not measured in it',
            hint="gtmar log says what is live",
        )

    def _begun(self) -> list[str]:
        """Return the ids of all runs that have begun, in order."""
        return [run for run in self._index.folder_names if self._index.has_begun(run)]

    def _any_begun(self) -> bool:
        return any(self._index.has_begun(run) for run in reversed(self._index.folder_names))

    def _latest(self) -> str:
        """Return the undamaged search that began last, else the undamaged run that did.

        Runs dated ahead of this clock count only if there are no others. Runs are sorted by id to
        the minute, and by their records within it. Records are read a few at a time, newest first,
        since the first few nearly always include a search.
        """
        ids = self._index.folder_names
        future = ahead(ids)
        ordered = [*future, *sorted({*ids}.difference(future))]
        minutes = list(dict.fromkeys(run[: len("r20260101-1200")] for run in reversed(ordered)))
        latest, most = "", 1
        while minutes:
            some, minutes, most = minutes[:most], minutes[most:], 8 * most
            late = [run for run in ordered if run.startswith(tuple(some))]
            sound = [r for r in late if self._index.has_begun(r) and not self._index.damage(r)]
            if not sound:
                continue
            text = (
                "select run_id, kind from runs "
                "order by started_at > now(), started_at desc, run_id desc"
            )
            rows = self._ask(plain_answer, text, {}, sound, None, columns=())
            latest = latest or str(rows[0]["run_id"])
            searches = [row["run_id"] for row in rows if row["kind"] == "search"]
            if searches:
                latest = str(searches[0])
                break
        if not latest:
            self._refuse_damaged(self._begun()[-1:])
            raise RunNotFoundError(f'journal "{self.path}": no run in it')
        if future and latest not in future:
            warnings.warn(
                f'journal "{self.path}": {clock_note(future)}; the latest is taken to be {latest}',
                JournalWarning,
                stacklevel=3,
            )
        return latest

    def _set(self, variables: dict[str, Any]) -> None:
        import duckdb

        for name in [name for name in self._variables if variables.get(name) is None]:
            self._connection.execute(f'reset variable "{name}"')
            del self._variables[name]
        for name, value in variables.items():
            if not name.isidentifier() or unicodedata.normalize("NFKC", name).casefold() in _OWN:
                raise QueryError(f'"{name}" is no name for a parameter')
            # A null is left unset, as a null that is set has a type, which may be the wrong one.
            held = self._variables.get(name)
            if value is None or (isinstance(value, str) and value == held):
                continue
            try:
                self._connection.execute(f'set variable "{name}" = $value', {"value": value})
            except duckdb.Error as err:
                raise QueryError(f'the value of "{name}" is of no SQL type: {value!r}') from err
            self._variables[name] = value


def _engine_errors() -> tuple[type[Exception], ...]:
    """Return the error classes of files and engines; of a library only if it has been loaded."""
    import duckdb

    kinds: list[type[Exception]] = [duckdb.Error, OSError]
    if "pyarrow" in sys.modules:
        import pyarrow as pa

        kinds.append(pa.ArrowException)
    if "polars" in sys.modules:
        from polars.exceptions import PolarsError

        kinds.append(PolarsError)
    return tuple(kinds)


def _of_names(err: BaseException | None) -> bool:
    """Return whether an error is about something that isn't there by the name asked for."""
    import duckdb

    return isinstance(err, duckdb.CatalogException | duckdb.BinderException)


def _of_file(err: Exception) -> bool:
    """Return whether an error is about a file that is gone, or whose content has changed."""
    import duckdb

    words = ("No such file", "FileNotFound", "checksum", "CRC", "Parquet", "IOError", "OSError")
    return isinstance(err, OSError | duckdb.IOException) or any(w in str(err) for w in words)
