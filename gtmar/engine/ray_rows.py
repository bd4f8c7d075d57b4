"""Shards that read their own rows of a source: Ray actors, and what the driver asks of them.

The driver names a run of rows to each, sees ids and one column at a time while it loads, and has
outcomes and the holdout after that, never the features of those searched. It knows a hash of what
each has read, so that one that takes a lost one's place counts the same accounts or none.
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

    #: How a shard makes its arrays: a way to freeze them, and who of its accounts is held out.
    Frozen = tuple[Callable[..., list[AccountMatrix]], NDArray[np.int8]]
    Days = list[NDArray[np.int64] | None]

__all__ = ["ClusterRows"]


#: Rows that a worker counts at a time: their ids, in the contract's query, take some 150 MB.
_COUNTED = 1_000_000


def _fact(source: str, folder: str, query: pl.LazyFrame) -> dict[str, Any]:
    """Ask a query of some rows, which is what a worker does for the contract."""
    with suppress(OSError):
        os.chdir(folder)
    return rows_read(source, query).row(0, named=True)


class _OwnShard(Shard):
    """What an actor does that reads its rows itself: give columns of them, then count."""

    def __init__(self, source: str, query: pl.LazyFrame, folder: str) -> None:
        # Where the machine has it: a path is meant from there.
        with suppress(OSError):
            os.chdir(folder)
        self._rows = OwnRows(source, query)
        self._failure: GtmarError | None = None

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Ask the rows for something."""
        return getattr(self._rows, name)(*arguments, **named)

    def read_again(self, source: str, frozen: Frozen, days: Days, known: str) -> None:
        """Read the rows of an actor that was lost; an error is kept until somebody asks."""
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
        """Be ready to count."""
        if self._failure is None:
            self._counting = LocalEvaluator(self._rows.search, spec, **options, shard=True)

    @property
    def _evaluator(self) -> LocalEvaluator:  # type: ignore[override] # read alone, raises a failure
        if self._failure is not None:
            raise self._failure
        return self._counting


class _ShardColumns:
    """Columns of all shards' rows, one after the other, fetched each time they are asked for."""

    def __init__(self, rows: ClusterRows) -> None:
        self._rows = rows

    def __getitem__(self, name: str, /) -> pl.Series:
        return _joined(self._rows.ask("column", name))

    def pop(self, name: str, /) -> pl.Series:
        return _joined(self._rows.ask("column", name, last=True))


def _joined(parts: list[pl.Series]) -> pl.Series:
    return pl.concat(parts)


class ClusterRows:
    """Reads a table by shards of a Ray cluster, see `RowShards`, which then count its accounts.

    Parameters
    ----------
    ray
        Ray, connected.
    shards
        As for `ClusterEvaluator`.
    """

    #: How many shards, the threads of each, one's part without any account, and where their rows
    #: are among all; known once a table is frozen.
    count: int
    threads: int
    outline: AccountMatrix
    order: CodeOrder

    def __init__(self, ray: ModuleType, shards: int | None) -> None:
        self._ray, self._shards = ray, shards
        self._actors: list[Any] = []

    def close(self) -> None:
        """End the actors that nobody counts with."""
        for actor in filter(None, self._actors):
            self._ray.kill(actor)

    def facts(
        self,
        table: AccountTable,
        query: Callable[[pl.LazyFrame], pl.LazyFrame],
        spec: ScoringSpec,
    ) -> list[dict[str, Any]]:
        """Ask a query of parts of the rows, wherever there is a core; see `RowShards.facts`.

        `UsageError` for a table whose rows shards can't read by themselves.
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
        """Have each shard read its rows, and give the columns of all; see `RowShards.columns`."""
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
        """Ask all shards' rows for the same, and wait for their answers."""
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
        """Have arrays made where the rows are; gather what this process needs of them."""
        parts = np.split(held_out, np.cumsum(self.ask("size"))[:-1])
        self._frozen = [(how, part) for part in parts]
        self._known = self._answers(
            [
                a.call.remote("freeze", *own)
                for a, own in zip(self._actors, self._frozen, strict=True)
            ]
        )
        # By part, searched and held out, and within by shard.
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
        """Return an actor that counts a shard: the one that has read it, and then others."""
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
