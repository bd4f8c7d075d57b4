"""A Ray cluster: the connection to it, and processes that run a task side by side on it.

Only this module imports Ray, and only when it is needed. A task's arrays are sent to each machine
once, and shared by its processes. Results are ordered by number: how many machines there are, and
which is faster, changes nothing.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gtmar.engine.processes import Processes
from gtmar.engine.threads import use_cores
from gtmar.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

__all__ = ["ClusterProcesses", "connected"]

T = TypeVar("T")

#: Seconds within which a cluster's port must answer; Ray itself would try for minutes.
_PATIENCE = 10

#: Settings of a cluster that we start, unless the environment has others: no usage statistics are
#: sent, and it listens on loopback alone. That is what the second variable does, despite its name.
#: Its workers have this process's priority, where Ray would have them yield to everything else: on
#: a machine that is busy beside, this process would wait for them ten times as long.
_OWN_CLUSTER = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
}


@contextmanager
def connected(address: str | None = None) -> Iterator[ModuleType]:
    """Yield the module `ray`, connected to a cluster; disconnect at the end of the context.

    Parameters
    ----------
    address
        Of a running cluster, as ``ray start`` prints it; ``auto`` for one on this machine; None
        starts one that ends with the context. If this process is connected already, that
        connection is used and kept.

    Raises
    ------
    UsageError
        If Ray isn't installed.
    ResourceError
        If there is no cluster at the address, or none can be started.
    """
    ray = _imported(own=address is None)
    if ray.is_initialized():
        yield ray
        return
    _refuse_silence(address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        settings |= {"include_dashboard": False}
    # Ray prints messages about its workers; our stdout is for results.
    with redirect_stdout(sys.stderr):
        try:
            ray.init(address=address or "local", **settings)
        # Ray raises plain exceptions, too: on a busy machine it waits for its processes in vain.
        except Exception as err:
            where, hint = (
                (
                    f"no Ray cluster at {address}",
                    "without --address a cluster of its own is started",
                )
                if address
                else ("Ray can't be started here", "without --engine ray this machine computes")
            )
            reason = (str(err).strip() or type(err).__name__).splitlines()[0]
            raise ResourceError(f"{where}: {reason}", hint=hint) from err
        try:
            yield ray
        finally:
            ray.shutdown()


def _imported(*, own: bool) -> ModuleType:
    """Return the module `ray`, which reads settings of a cluster of our own as it is imported."""
    if own:
        for name, value in _OWN_CLUSTER.items():
            os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as err:
        raise UsageError(
            "the engine ray needs a package that isn't installed", hint="pip install 'gtmar[ray]'"
        ) from err
    return ray


def _refuse_silence(address: str | None) -> None:
    """Refuse an address of a host and a port where nothing listens."""
    match = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d{1,5})", address or "")
    if match is None:
        return
    try:
        socket.create_connection((match[1], int(match[2])), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as err:
        raise ResourceError(
            f"no Ray cluster at {address}: {err}",
            hint="the address as `ray start --head` printed it; without --address a cluster of "
            "its own is started",
        ) from err


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
        given, left, results = ray.put(task), iter(numbers), dict[int, T]()
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
                results[number] = result
                if done is not None:
                    done()
                ask()
        finally:
            for each in pending:
                ray.cancel(each, force=True)
        return [results[number] for number in numbers]

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
