"""Searches side by side on a Ray cluster: each is a task of one core, on whichever machine has one.

What a task reads is sent to a machine once, and mapped by all of its processes. Results come back
by number, so neither how many machines there are nor which is faster changes an answer.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gtmar.engine.processes import Processes
from gtmar.engine.ray_cluster import connected
from gtmar.engine.threads import use_cores
from gtmar.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["ClusterProcesses"]

T = TypeVar("T")


@dataclass
class ClusterProcesses(Processes):
    """Processes of a Ray cluster, connected while the block lasts; else as `Processes`.

    Parameters
    ----------
    workers
        How many search at once; None for one a core of the cluster.
    address
        As for `connected`, whose errors entering raises.
    """

    workers: int | None = None
    address: str | None = None
    _ray: ModuleType | None = field(default=None, init=False)
    _closing: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> Self:
        self._ray = self._closing.enter_context(connected(self.address))
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def worth(self, seconds: float) -> bool:  # noqa: ARG002 - as `Processes` is asked
        """Whether work is done there: always, since somebody asked for a cluster."""
        return True

    def each(
        self, task: Callable[[int], T], numbers: range, done: Callable[[], None] | None = None
    ) -> list[T]:
        """Do a task for each of some numbers; see `Processes.each`.

        A worker that is lost is replaced, and its search done again, three times at most.
        """
        ray = self._ray
        assert ray is not None, "entered"
        there = ray.cluster_resources().get("CPU", 1)
        work = ray.remote(num_cpus=1, max_retries=3)(_work)
        given, left, found = ray.put(task), iter(numbers), dict[int, T]()
        pending: dict[Any, int] = {}

        def ask() -> None:
            if (number := next(left, None)) is not None:
                pending[work.remote(given, number)] = number

        try:
            for _ in range(self.workers or max(1, int(there))):
                ask()
            while pending:
                [ready], _ = ray.wait(list(pending))
                number = pending.pop(ready)
                result, error = self._received(ready)
                if error is not None:
                    raise error
                found[number] = result
                if done is not None:
                    done()
                ask()
        finally:
            for each in pending:
                ray.cancel(each, force=True)
        return [found[number] for number in numbers]

    def _received(self, answer: Any) -> Any:
        ray = self._ray
        assert ray is not None, "entered"
        try:
            return ray.get(answer)
        except ray.exceptions.RayTaskError:  # a fault of ours, with its traceback
            raise
        except ray.exceptions.RayError as err:
            raise ResourceError(
                f"a search on the cluster was lost: {' '.join(str(err).split()).split('. ')[0]}",
                hint="is there memory enough for a table and a search on each core? --workers "
                "says how many search at once",
            ) from err


def _work(task: Callable[[int], T], number: int) -> tuple[T | None, Exception | None]:
    """Do a task for a number with one core; return the result, or what was raised."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    use_cores(1)
    try:
        return task(number), None
    except Exception as err:  # raised again where the task was given
        return None, err
