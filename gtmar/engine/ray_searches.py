"""Processes of a Ray cluster that run a task side by side, each on one core of any machine.

The task's arrays are sent to each machine once, and shared by its processes. Results are ordered by
number: how many machines there are, and which is faster, changes nothing.
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
    """As `Processes`, but on a Ray cluster; connected while the context lasts.

    Entering raises the errors of `connected`.

    Parameters
    ----------
    workers
        How many searches run at once; None for one for each core of the cluster.
    address
        As for `connected`.
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
        """Return True: who asks for a cluster gets it, however little the work."""
        return True

    def each(
        self, task: Callable[[int], T], numbers: range, done: Callable[[], None] | None = None
    ) -> list[T]:
        """Call a task with each of some numbers; see `Processes.each`.

        If a worker is lost, its number is done again by another, three times at most.
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
    """Call a task with a number, on one core; return the result and None, or None and the error."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    use_cores(1)
    try:
        return task(number), None
    except Exception as err:  # raised again by `ClusterProcesses.each`
        return None, err
