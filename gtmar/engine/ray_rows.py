"""Shards that read their own rows of a source: Ray actors, and what the driver asks of them.

The driver tells each shard its range of rows. While a table is loaded, the driver sees ids and one
column at a time; afterwards it holds outcomes and the holdout, but no features of the accounts
searched. It keeps a hash of what each shard has read: one that replaces it must read the same.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.data.own_rows import OwnRows, gathered, part_of, rows_of, rows_read
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.ray_shards import Shard, cores_of, failed, own_error, placed
from gtmar.errors import AccountDataError, GtmarError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.own_rows import CodeOrder
    from gtmar.data.scan import AccountTable
    from gtmar.data.storage import Columns, Storage
    from gtmar.spec.model import ScoringSpec

    #: How a shard makes its arrays: a function that freezes them, and which rows are held out.
    Frozen = tuple[Callable[..., list[AccountMatrix]], NDArray[np.int8]]
    Days = list[NDArray[np.int64] | None]

__all__ = ["ClusterRows"]


#: Rows that one task checks against the contract: their ids take some 150 MB in its query.
_COUNTED = 1_000_000


def _fact(source: str, folder: str, query: pl.LazyFrame) -> dict[str, Any]:
    """Run in a worker: return the one row of facts that a query of the contract gives."""
    with suppress(OSError):
        os.chdir(folder)
    return rows_read(source, query).row(0, named=True)


class _OwnShard(Shard):
    """A shard that reads its rows itself: it first gives columns of them, then counts."""

    def __init__(self, source: str, query: pl.LazyFrame, folder: str) -> None:
        # Relative paths count from the driver's folder, if this machine has it.
        with suppress(OSError):
            os.chdir(folder)
        self._rows = OwnRows(source, query)
        self._failure: GtmarError | None = None

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of the shard's `OwnRows`."""
        return getattr(self._rows, name)(*arguments, **named)

    def read_again(self, source: str, frozen: Frozen, days: Days, known: str) -> None:
        """Read the rows of a lost actor; an error is raised by the next call that counts."""
        try:
            if self._rows.freeze(*frozen) != known:
                raise AccountDataError(
                    f"{source}: its rows are not those that the run began with",
                    hint="a source that somebody writes to is searched without --own-rows, or at a "
                    "version that stays: --at-version",
                )
            self._rows.number_days(days)
            self._rows.let_go()
        except GtmarError as err:
            self._failure = err

    def begin(self, spec: ScoringSpec, **options: Any) -> None:
        """Make the evaluator, once the rows are read."""
        if self._failure is None:
            self._counting = LocalEvaluator(self._rows.search, spec, **options, shard=True)

    @property
    def _evaluator(self) -> LocalEvaluator:  # type: ignore[override] # read alone, raises a failure
        if self._failure is not None:
            raise self._failure
        return self._counting


class _ShardColumns:
    """The columns of all shards' rows, in order, fetched each time one is read."""

    def __init__(self, rows: ClusterRows) -> None:
        self._rows = rows

    def __getitem__(self, name: str, /) -> pl.Series:
        return _joined(self._rows.ask("column", name))

    def pop(self, name: str, /) -> pl.Series:
        return _joined(self._rows.ask("column", name, last=True))


def _joined(parts: list[pl.Series]) -> pl.Series:
    return pl.concat(parts)


class ClusterRows:
    """Has the shards of a Ray cluster read a table, see `RowShards`; they then count its accounts.

    Parameters
    ----------
    ray
        Ray, connected.
    shards
        As for `ClusterEvaluator`.
    """

    #: The number of shards, and the threads of each.
    count: int
    threads: int
    #: A matrix without accounts that has the names and types of all columns.
    outline: AccountMatrix
    #: The order of all shards' rows in the whole matrix. Both are known once the table is frozen.
    order: CodeOrder

    def __init__(self, ray: ModuleType, shards: int | None) -> None:
        self._ray, self._shards = ray, shards
        self._actors: list[Any] = []

    def close(self) -> None:
        """End the actors that no evaluator has taken over."""
        for actor in filter(None, self._actors):
            self._ray.kill(actor)

    def facts(
        self,
        table: AccountTable,
        query: Callable[[pl.LazyFrame], pl.LazyFrame],
        spec: ScoringSpec,
    ) -> list[dict[str, Any]]:
        """Run a query over parts of the rows, on all cores of the cluster; see `RowShards.facts`.

        Raises `UsageError` for a table whose rows shards can't read by themselves.
        """
        self._rows = rows = rows_of(table, query, spec)
        self.count = min(self._shards or 1, rows)
        ends = [*range(0, rows, _COUNTED), rows]
        task, where = self._ray.remote(num_cpus=1)(_fact), (table.source, str(Path.cwd()))
        parts = [query(part_of(table, *pair)) for pair in pairwise(ends)]
        return self._answers([task.remote(*where, part) for part in parts])

    @contextmanager
    def columns(
        self, table: AccountTable, query: Callable[[pl.LazyFrame], pl.LazyFrame]
    ) -> Iterator[Columns]:
        """Have each shard read its rows; yield the columns of all; see `RowShards.columns`."""
        rows = self._rows
        self.count, self.threads, claimed = placed(cores_of(self._ray), self._shards, rows)
        ends = [rows * shard // self.count for shard in range(self.count + 1)]
        actor, source = self._ray.remote(num_cpus=claimed)(_OwnShard), table.source
        self._started = [
            partial(actor.remote, source, query(part_of(table, *pair)), str(Path.cwd()))
            for pair in pairwise(ends)
        ]
        self._source = source
        self._actors = [start() for start in self._started]
        yield _ShardColumns(self)

    def ask(self, name: str, *arguments: Any, **named: Any) -> list[Any]:
        """Call a method of every shard's `OwnRows`, and return the results by shard."""
        return self._answers([a.call.remote(name, *arguments, **named) for a in self._actors])

    def _answers(self, asked: list[Any]) -> list[Any]:
        rays = self._ray.exceptions
        try:
            answers: list[Any] = self._ray.get(asked)
        except rays.RayTaskError as err:
            raise own_error(err) from None
        except rays.RayError as err:
            raise failed(self.count, str(err)) from err
        return answers

    def freeze(
        self, how: Callable[..., list[AccountMatrix]], held_out: NDArray[np.int8], storage: Storage
    ) -> list[AccountMatrix]:
        """Have each shard make its arrays; gather those that this process needs."""
        parts = np.split(held_out, np.cumsum(self.ask("size"))[:-1])
        self._frozen = [(how, part) for part in parts]
        self._known = self._answers(
            [
                a.call.remote("freeze", *own)
                for a, own in zip(self._actors, self._frozen, strict=True)
            ]
        )
        # Transposed: for each part, searched and held out, the days of all shards.
        of_shards = list(zip(*self.ask("days"), strict=True))
        self._days = [_all_days(each) for each in of_shards]
        self.ask("number_days", self._days)
        matrices = []
        for part in range(1 + bool(held_out.any())):
            outline = self._answers([self._actors[0].call.remote("outline", part)])[0]
            fetch = partial(self.ask, "array", part)
            matrix, order = gathered(outline, fetch, storage, features=bool(part))
            matrices.append(matrix)
            if not part:
                self.outline, self.order = outline, order
        self.ask("let_go")
        return matrices

    def begun(self, shard: int, spec: ScoringSpec, **options: Any) -> Any:
        """Return an actor for a shard: at first the one that has read it, later a replacement."""
        actor, self._actors[shard] = self._actors[shard], None
        if actor is None:
            actor = self._started[shard]()
            own = self._frozen[shard], self._days, self._known[shard]
            actor.read_again.remote(self._source, *own)
        actor.begin.remote(spec, threads=self.threads, **options)
        return actor


def _all_days(days: tuple[NDArray[np.int64] | None, ...]) -> NDArray[np.int64] | None:
    """Return the distinct days of all shards, ascending; None without such a column."""
    known = [each for each in days if each is not None]
    return np.unique(np.concatenate(known)) if known else None
