"""A sandbox for SQL from outside: one SELECT over registered tables, limited in time and memory.

The connection can't reach any file or network: the tables that it may read were opened before, and
registered in a form that can't be written to. So safety doesn't depend on recognising statements
that write; a text is checked to be one SELECT only to give a clear error. A query runs in a
read-only transaction, which is rolled back.

Queries of the journal and queries over account tables both run here.
"""

from __future__ import annotations

import contextlib
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar.errors import GtmarError, QueryError, UsageError
from gtmar.memory import default_budget, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import duckdb
    import polars as pl

__all__ = [
    "DEFAULT_SECONDS",
    "QueryLimits",
    "answer",
    "failed",
    "first_line",
    "lock",
    "memory_of",
    "plain_answer",
    "refuse_all_but_select",
]

#: Default time limit of a query, in seconds.
DEFAULT_SECONDS = 60.0
#: Default memory limit, if the machine has at least twice as much; and the least that can be set.
_DEFAULT_MEMORY = 4 << 30
_LEAST_MEMORY = 64_000_000
#: Least memory that the process may allocate in addition to a query's limit.
_SLACK = 1 << 30
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class QueryLimits:
    """Limits of a query.

    Parameters
    ----------
    seconds
        Time limit; None for none.
    memory
        Bytes for the query's work, and for its result; None for half the machine's memory, 4 GiB at
        most. Nothing is written to disk.
    """

    seconds: float | None = DEFAULT_SECONDS
    memory: int | None = None

    @property
    def bytes(self) -> int:
        """The memory limit in bytes."""
        return min(_DEFAULT_MEMORY, default_budget()) if self.memory is None else self.memory


def memory_of(text: str) -> int:
    """Return an amount of memory, such as ``2GB`` or ``500M``, in bytes.

    Raises
    ------
    QueryError
        If it isn't one, or is less than 64 MB.

    Examples
    --------
    >>> memory_of("1.5GB")
    1500000000
    """
    try:
        amount = parse_size(text)
    except UsageError:
        amount = 0
    if amount < _LEAST_MEMORY:
        raise QueryError(f'"{text}" is no amount of memory of 64 MB or more', hint="--memory 2GB")
    return amount


def lock(connection: duckdb.DuckDBPyConnection, limits: QueryLimits) -> None:
    """Lock a connection: no file, no network, no extension, no further setting.

    Parameters
    ----------
    connection
        The connection; tables may still be registered with it later.
    limits
        Its memory limit; the time limit is applied to each query.
    """
    for setting in (
        "temp_directory = ''",
        f"memory_limit = '{limits.bytes >> 10}KiB'",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"set {setting}")


def answer(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    limits: QueryLimits,
    *,
    flags: str = "",
    pick: Callable[[duckdb.DuckDBPyRelation], duckdb.DuckDBPyRelation] | None = None,
) -> pl.DataFrame:
    """Run one SELECT on a locked connection, within limits, and return a frame.

    Parameters
    ----------
    connection
        The connection, locked.
    text
        The SELECT.
    limits
        Its limits of time and of the result's size.
    flags
        The options that raise the limits, for an error's hint.
    pick
        Chooses columns of the result before it is computed; None for all.

    Raises
    ------
    QueryError
        If a limit is reached, or the result isn't a table.
    duckdb.Error, OSError, polars.exceptions.PolarsError
        If the query fails.
    KeyboardInterrupt
        If the user stopped it; the connection can be used again.
    """
    import polars as pl

    batches: list[Any] = []

    def work() -> bool:
        size = 0
        relation = connection.sql(text)
        chosen = relation if pick is None else pick(relation)
        with chosen.to_arrow_reader(_BATCH_ROWS) as rows:
            names = _told_apart(rows.schema.names)
            for batch in rows:
                size += batch.nbytes
                if size > limits.bytes:
                    return False
                batches.append(batch.rename_columns(names))
            # An empty table with the schema, in case there is no row. `schema.empty_table` would
            # import pandas.
            batches.append(rows.read_all().rename_columns(names))
        return True

    _run(connection, work, limits, flags)
    return pl.DataFrame(pl.from_arrow(batches[:-1] or batches[0]))


def plain_answer(
    connection: duckdb.DuckDBPyConnection, text: str, limits: QueryLimits, *, flags: str = ""
) -> list[dict[str, Any]]:
    """Run one SELECT of few rows, and return each row as a dict.

    It needs neither Arrow nor Polars, whose import takes longer than most answers. Parameters and
    errors are those of `answer`; columns must have different names.
    """
    rows: list[dict[str, Any]] = []

    def work() -> bool:
        answer = connection.execute(text)
        names = [column[0] for column in answer.description or ()]
        rows.extend(dict(zip(names, row, strict=True)) for row in answer.fetchall())
        return True

    _run(connection, work, limits, flags)
    return rows


def _run(
    connection: duckdb.DuckDBPyConnection, ask: Callable[[], bool], limits: QueryLimits, flags: str
) -> None:
    """Run a query within limits; `ask` runs it, and returns whether its result is small enough."""
    import duckdb

    failure: list[BaseException] = []
    too_large, done = threading.Event(), threading.Event()

    def work() -> None:
        try:
            with _read_only(connection):
                if not ask():
                    too_large.set()
        except BaseException as err:  # raised again by the thread that waits
            failure.append(err)
        finally:
            done.set()

    # In another thread, so that this one can react to Ctrl-C and to the time limit.
    worker, late = threading.Thread(target=work, daemon=True), False
    with _MEMORY.of(limits.bytes):
        try:
            worker.start()
            late = not done.wait(limits.seconds)
        except RuntimeError:
            # The thread can't be started.
            done.set()
            raise
        finally:
            # However the waiting ended, the query is stopped before this function returns; a second
            # Ctrl-C can't leave the connection in use.
            while not done.is_set():
                with contextlib.suppress(KeyboardInterrupt):
                    connection.interrupt()
                    done.wait(0.05)
            worker.join()
    if late:
        raise QueryError(
            f"the query was stopped after {limits.seconds:g} s, its time limit", hint=flags or None
        )
    over = failure and isinstance(failure[0], (duckdb.OutOfMemoryException, MemoryError))
    if too_large.is_set() or over:
        what = "its result is" if too_large.is_set() else "it needs"
        raise QueryError(
            f"the query was stopped: {what} more than {limits.bytes / 1e6:,.0f} MB, "
            "its memory limit",
            hint=flags or None,
        )
    if failure:
        err = failure[0]
        if not isinstance(err, Exception) or isinstance(err, duckdb.Error | OSError | GtmarError):
            raise err
        # Arrow and Polars raise errors of many kinds for results that they can't hold.
        raise failed(err) from err


def _told_apart(names: list[str]) -> list[str]:
    """Return names of columns; repeated ones get numbers as in DuckDB: a, a_1."""
    taken: set[str] = set()
    for index, name in enumerate(names):
        number, free = 0, name
        while free.casefold() in taken:
            number += 1
            free = f"{name}_{number}"
        taken.add(free.casefold())
        names[index] = free
    return names


@contextlib.contextmanager
def _read_only(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("begin transaction read only")
    try:
        yield
    finally:
        connection.execute("rollback")


class _MemoryBound:
    """A limit on the memory of the process, since DuckDB's own doesn't count texts and lists.

    Queries in several threads share it: the largest limit of any of them holds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[int] = []
        self._before: tuple[int, int] | None = None

    @contextlib.contextmanager
    def of(self, memory: int) -> Iterator[None]:
        """Apply the limit within the context, in addition to what is allocated already."""
        held = _allocated()
        if held is None:
            # Not Linux: only DuckDB's own limit holds.
            yield
            return
        most = held + memory + max(memory // 2, _SLACK)
        self._move(self._asked.append, most)
        try:
            yield
        finally:
            self._move(self._asked.remove, most)

    def _move(self, change: Callable[[int], None], most: int) -> None:
        import resource

        with self._lock:
            change(most)
            if self._before is None:
                self._before = resource.getrlimit(resource.RLIMIT_DATA)
            soft, hard = self._before
            if self._asked:
                bounds = [max(self._asked), *(b for b in self._before if b >= 0)]
                resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
            else:
                resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
                self._before = None


_MEMORY = _MemoryBound()


def _allocated() -> int | None:
    """Return the bytes that the process has allocated; None if the system doesn't say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    match = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) << 10 if match else None


def refuse_all_but_select(
    text: str, *, hint: str, connection: duckdb.DuckDBPyConnection | None = None
) -> None:
    """Raise unless a text is exactly one SELECT.

    Parameters
    ----------
    text
        The SQL.
    connection
        A connection to parse it with; None for DuckDB's default one, which is made if needed.
    hint
        What to do instead of a statement that writes, for the error.

    Raises
    ------
    QueryError
        If it has more than one statement, or none, or isn't a SELECT.
    """
    import duckdb

    try:
        statements = (connection or duckdb).extract_statements(text)
    except duckdb.Error as err:
        raise failed(err) from err
    if len(statements) != 1:
        raise QueryError(
            f"expected one SELECT, got {len(statements)} statements",
            hint="values come in with --set name=value",
        )
    try:
        kind = statements[0].type.name
    except ValueError:
        # A kind of statement that DuckDB parses and its Python package doesn't know.
        kind = "another statement"
    if kind != duckdb.StatementType.SELECT.name:
        raise QueryError(f"expected one SELECT, got {kind}", hint=hint)


def first_line(err: Exception) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return (str(err).strip() or type(err).__name__).splitlines()[0]


def failed(err: Exception) -> QueryError:
    """Return a `QueryError` for an error of a query."""
    return QueryError(f"the query failed: {first_line(err)}")
