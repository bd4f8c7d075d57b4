"""The evaluator of a Ray cluster: each actor holds a shard of the table and counts it.

Batches of candidates go out; the shards' counts come back and are added up. Counts are exact
integers, so the result is what one process would count, whether a shard counts with machine code or
with numpy. A lost actor is replaced: the driver sends its shard again, or has it read its own rows
again.

Shards may read their own rows of a source. While a table is loaded, the driver then sees ids and
one column at a time; afterwards it holds outcomes and the holdout, but no features of the accounts
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
from gtmar.engine.local import COMPILED_GROUP, LocalEvaluator, ceiling_fifths
from gtmar.engine.numpy_kernel import Counts
from gtmar.errors import AccountDataError, GtmarError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.own_rows import CodeOrder
    from gtmar.data.scan import AccountTable
    from gtmar.data.storage import Columns, Storage
    from gtmar.spec.model import ScoringSpec

    #: Calls a method of an actor, and returns the reference to its result.
    Ask = Callable[[Any], Any]
    #: How a shard makes its arrays: a function that freezes them, and which rows are held out.
    Frozen = tuple[Callable[..., list[AccountMatrix]], NDArray[np.int8]]
    Days = list[NDArray[np.int64] | None]

__all__ = ["ClusterEvaluator", "ClusterRows", "shard_layout"]

#: See `Evaluator.batch_cost`: what sending a batch and getting its counts costs a thread.
_BATCH_COST = 2_000_000
#: After so many losses of actors during one batch the cause is taken for lasting.
_MOST_LOSSES = 5


class _Shard:
    """An actor's class: holds some rows, and counts candidates over them."""

    def __init__(self, part: AccountMatrix, spec: ScoringSpec, **options: Any) -> None:
        self._evaluator = LocalEvaluator(part, spec, **options, shard=True)

    def move(self, weights: Sequence[int]) -> None:
        """Make a vector the incumbent; see `Evaluator.move`."""
        self._evaluator.move(weights)

    def counts(self, candidates: Sequence[Sequence[int]], *, untiered: bool = False) -> Counts:
        """Return the packed counts of candidates; see `LocalEvaluator.counts`."""
        return self._evaluator.counts(candidates, untiered=untiered).packed()

    def tiers(self, candidates: Sequence[Sequence[int]], lows: NDArray[np.int64]) -> Counts:
        """Return the packed counts by tier of candidates; see `LocalEvaluator.tiers`."""
        return self._evaluator.tiers(candidates, lows).packed()

    def scores(self, weights: Sequence[int]) -> NDArray[np.int32]:
        """Return the scores of the shard's accounts, in the order of its rows."""
        return self._evaluator.scores(weights).astype(np.int32)

    def process(self) -> int:
        """Return the id of the actor's process."""
        return os.getpid()


def shard_layout(
    machines: Sequence[int], shards: int | None, accounts: int
) -> tuple[int, int, float]:
    """Return how many shards to make, the threads of each, and the cores that each claims.

    Chosen such that all actors fit on the machines at once, as one that doesn't would wait for
    ever. More shards than cores share cores.

    Parameters
    ----------
    machines
        The cores of each machine.
    shards
        How many were asked for; None for one on the smallest machine, more on larger ones.
    accounts
        There are at most so many shards.

    Examples
    --------
    >>> shard_layout([16, 16], None, 10**6), shard_layout([16, 16], 3, 10**6)
    ((2, 16, 16), (3, 8, 8))
    >>> shard_layout([2], 3, 10**6)
    (3, 1, 0.5)
    """
    cores = [number for number in machines if number] or [1]
    count = shards or sum(number // min(cores) for number in cores)
    count = max(1, min(count, accounts))
    fitting = (each for each in range(max(cores), 0, -1) if sum(n // each for n in cores) >= count)
    threads = next(fitting, 0)
    return count, max(1, threads), threads or 1 / -(-count // sum(cores))


def _cores_of(ray: ModuleType) -> list[int]:
    """Return the cores of each machine of a cluster."""
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


def _own_error(err: Any) -> Exception:
    """Return the `GtmarError` that a worker raised, else Ray's error itself, which is a fault."""
    return err.cause if isinstance(err.cause, GtmarError) else err


def _failed(workers: int, reason: str) -> ResourceError:
    """Return the error that says why a cluster of so many workers can't go on."""
    return ResourceError(
        f"cluster of {workers} workers: {' '.join(reason.split())}",
        hint="is there memory enough for a shard on each? gtmar resume goes on with the run",
    )


class ClusterEvaluator:
    """The `Evaluator` over an account matrix whose shards are held by Ray actors.

    Parameters
    ----------
    ray
        Ray, connected.
    matrix
        The accounts; kept, to send a shard again if its actor is lost.
    spec
        Tiers, base and bounds; its weights are not used.
    shards
        The number of shards. Each is a process, whose threads share a machine's cores. None for one
        a machine, and several on larger machines. Changes no sum.
    rows
        The shards that have read their own rows; `matrix` then has only what was gathered of them.
        None where `matrix` has all, and each shard is sent its part.
    by_rule
        Whether the spec's tier rule, if it has one, sets each candidate's edges by its own scores.
    compiled
        As for `LocalEvaluator`, for each shard by itself: one without machine code counts the same
        with numpy. None compiles once on each machine. Changes no sum.
    """

    def __init__(
        self,
        ray: ModuleType,
        matrix: AccountMatrix,
        spec: ScoringSpec,
        *,
        shards: int | None,
        rows: ClusterRows | None = None,
        by_rule: bool = False,
        compiled: bool | None = None,
    ) -> None:
        self._ray = ray
        self._by_rule = by_rule and spec.has_rule
        options: dict[str, Any] = {"compiled": compiled, "by_rule": by_rule}
        self._joined: Callable[[list[NDArray[Any]]], NDArray[Any]]
        self._started_on: Callable[[int], Any]
        if rows is not None:
            count, self._threads, outline = rows.count, rows.threads, rows.outline
            self._started_on = partial(rows.begun, spec=spec, **options)
            self._joined = rows.order.joined
        else:
            count, self._threads, claimed = shard_layout(_cores_of(ray), shards, matrix.accounts)
            ends = [matrix.accounts * shard // count for shard in range(count + 1)]
            parts = [matrix.part(*ends[shard : shard + 2]) for shard in range(count)]
            start = partial(ray.remote(num_cpus=claimed)(_Shard).remote, spec=spec, **options)
            self._started_on = lambda shard: start(parts[shard], threads=self._threads)
            outline, self._joined = matrix.part(0, 0), np.concatenate
        self._incumbent: tuple[int, ...] | None = None
        self._actors = [self._started(shard) for shard in range(count)]
        # It has no account, and only turns the shards' counts into sums.
        ceiling = ceiling_fifths(matrix)
        self._reducer = LocalEvaluator(outline, spec, ceiling=ceiling, by_rule=by_rule)

    def close(self) -> None:
        """End the actors, which frees the cluster's cores."""
        for actor in self._actors:
            self._ray.kill(actor)

    @property
    def batch_cost(self) -> int:
        """See `Evaluator.batch_cost`: all threads of all shards count at once."""
        return _BATCH_COST * len(self._actors) * self._threads

    @property
    def processes(self) -> list[int]:
        """Process ids of the shards' actors."""
        return self._everywhere(lambda actor: actor.process.remote())

    def move(self, weights: Sequence[int]) -> None:
        """Make a vector the incumbent; see `Evaluator.move`."""
        self._everywhere(lambda actor: actor.move.remote(tuple(weights)))
        self._incumbent = tuple(weights)

    def sums(self, candidates: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Evaluate K candidates; see `Evaluator.sums`.

        Raises `ResourceError` if actors are lost again and again.
        """
        groups = [
            candidates[at : at + COMPILED_GROUP] for at in range(0, len(candidates), COMPILED_GROUP)
        ]
        if self._by_rule:
            return np.concatenate(list(map(self._sums_by_rule, groups)))

        def count(group: Sequence[Sequence[int]]) -> Ask:
            return lambda actor: actor.counts.remote(group)

        # All groups are sent at once: actors count the next one while this process reduces one.
        requests = [(ask := count(group), self._asked(ask)) for group in groups]
        return np.concatenate(
            [self._reducer.reduce(Counts.total(self._answers(*each))) for each in requests]
        )

    def _sums_by_rule(self, group: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Evaluate candidates whose tier edges a rule sets by the scores of all accounts."""
        counts = Counts.total(
            self._everywhere(lambda actor: actor.counts.remote(group, untiered=True))
        )
        # The edges follow from all shards' counts; with them, tiers are counted in a second call.
        lows = self._reducer.lows_of(counts)
        tiers = self._everywhere(lambda actor: actor.tiers.remote(group, lows))
        return self._reducer.reduce(counts.with_tiers(Counts.total(tiers)))

    def frame_of(
        self, rows: NDArray[np.int64], *, only: Collection[str] | None = None
    ) -> pl.DataFrame:
        """Return sums as the frame that metrics read; see `Evaluator.frame_of`."""
        return self._reducer.frame_of(rows, only=only)

    def known_of(self, rows: NDArray[np.int64], names: Collection[str]) -> dict[str, list[int]]:
        """Return some sums of K candidates by name; see `Evaluator.known_of`."""
        return self._reducer.known_of(rows, names)

    def frame(self, candidates: Sequence[Sequence[int]]) -> pl.DataFrame:
        """Evaluate K candidates; see `Evaluator.frame`."""
        return self.frame_of(self.sums(candidates))

    def scores(self, weights: Sequence[int]) -> NDArray[np.int64]:
        """Return scores; see `Evaluator.scores`."""
        vector = tuple(weights)
        return self._joined(self._everywhere(lambda a: a.scores.remote(vector))).astype(np.int64)

    def _started(self, shard: int) -> Any:
        """Start an actor for a shard, and make the current incumbent its own."""
        actor = self._started_on(shard)
        if self._incumbent is not None:
            actor.move.remote(self._incumbent)
        return actor

    def _everywhere(self, ask: Ask) -> list[Any]:
        """Call all shards at once, and return their results."""
        return self._answers(ask, self._asked(ask))

    def _asked(self, ask: Ask) -> list[tuple[Any, Any]]:
        """Call all shards at once; return each one's actor and the reference to its result."""
        return [(actor, ask(actor)) for actor in self._actors]

    def _answers(self, ask: Ask, requests: list[tuple[Any, Any]]) -> list[Any]:
        """Return the results of all shards; where an actor was lost, replace it and call again."""
        rays = self._ray.exceptions
        lost = (rays.RayActorError, rays.ObjectLostError, rays.WorkerCrashedError)
        answers: dict[int, Any] = {}
        pending = dict(enumerate(requests))
        reason = ""
        for _ in range(_MOST_LOSSES):
            for shard, (actor, answer) in pending.items():
                try:
                    answers[shard] = self._ray.get(answer)
                except lost as err:
                    reason = str(err)
                    # It may have been replaced already, when an earlier result was waited for.
                    if actor is self._actors[shard]:
                        self._ray.kill(actor)
                        self._actors[shard] = self._started(shard)
                except rays.RayTaskError as err:
                    raise _own_error(err) from None
                except rays.RayError as err:
                    raise _failed(len(self._actors), str(err)) from err
            missing = [shard for shard in pending if shard not in answers]
            if not missing:
                return [answers[shard] for shard in sorted(answers)]
            pending = {shard: (self._actors[shard], ask(self._actors[shard])) for shard in missing}
        listed = ", ".join(map(str, missing))
        lost_again = f"shard {listed} was lost {_MOST_LOSSES} times in a row: {reason}"
        raise _failed(len(self._actors), lost_again)


# ---- shards that read their own rows ---------------------------------------------------------

#: Rows that one task checks against the contract: their ids take some 150 MB in its query.
_COUNTED = 1_000_000


def _fact(source: str, folder: str, query: pl.LazyFrame) -> dict[str, Any]:
    """Run in a worker: return the one row of facts that a query of the contract gives."""
    with suppress(OSError):
        os.chdir(folder)
    return rows_read(source, query).row(0, named=True)


class _OwnShard(_Shard):
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
        self, table: AccountTable, query: Callable[[pl.LazyFrame], pl.LazyFrame], spec: ScoringSpec
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
        self.count, self.threads, claimed = shard_layout(_cores_of(self._ray), self._shards, rows)
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
            raise _own_error(err) from None
        except rays.RayError as err:
            raise _failed(self.count, str(err)) from err
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
