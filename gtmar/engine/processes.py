"""Searches side by side: processes that each do one numbered task at a time.

What a task reads is written down once, to a file without a name that every process maps, so that an
account table is in memory once however many there are. Results come back by number: how many
processes there were, and which was faster, changes nothing.

Processes are spawned, since a fork would copy the locks of Polars' and numba's threads as they
stand. They end with whoever started them, however that one ends.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.reduction import recv_handle, send_handle
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from gtmar.engine.threads import cores, use_cores
from gtmar.errors import ResourceError
from gtmar.linear_algebra import one_thread_each
from gtmar.memory import roomy_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from types import TracebackType

__all__ = ["Processes"]

T = TypeVar("T")
#: Arrays in the file begin at multiples of this, as numpy's own do.
_ALIGNED = 64
#: Seconds of work of one core from which processes save more than their start takes: each imports
#: what a search needs, in about a second.
_WORTH_SECONDS = 4.0


@dataclass
class Processes:
    """Processes of this machine, started when there is work for them; a context manager.

    Parameters
    ----------
    workers
        How many; 1 for none beside this one, None for one a core where the work is worth it.

    Notes
    -----
    The main module is imported anew in each, as Python's ``spawn`` does: a script that asks for
    more than one needs ``if __name__ == "__main__"``.
    """

    workers: int | None = 1
    _started: list[tuple[SpawnProcess, Connection]] = field(default_factory=list, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process, pipe in self._started:
            process.kill()
            pipe.close()
        for process, _ in self._started:
            process.join()
        self._started.clear()

    def worth(self, seconds: float) -> bool:
        """Whether work of some seconds of one core is done sooner by several processes."""
        if self.workers is not None:
            return self.workers > 1
        return cores() > 1 and bool(self._started or seconds > _WORTH_SECONDS)

    def each(
        self, task: Callable[[int], T], numbers: range, done: Callable[[], None] | None = None
    ) -> list[T]:
        """Do a task for each of some numbers.

        Parameters
        ----------
        task
            Picklable; numpy arrays in it are shared, and read-only.
        numbers
            What it is called with.
        done
            Called once a number is done, whichever; None for nobody.

        Returns
        -------
        list
            What the task returned, in the order of the numbers.

        Raises
        ------
        ResourceError
            If a process ended before its work did.
        Exception
            What the task raised.
        """
        pipes = self._given(task, min(self.workers or cores(), len(numbers)))
        left, found = iter(numbers), dict[int, T]()
        for pipe in pipes:
            self._send(pipe, next(left, None))
        while len(found) < len(numbers):
            for pipe in cast("list[Connection]", connection.wait(pipes)):
                number, result, error = self._received(pipe)
                if error is not None:
                    raise error
                found[number] = result
                if done is not None:
                    done()
                self._send(pipe, next(left, None))
        return [found[number] for number in numbers]

    def _given(self, task: object, workers: int) -> list[Connection]:
        """Give a task to processes, started where there are too few."""
        context = get_context("spawn")
        share = max(1, cores() // workers)
        with _uninterrupted():
            for _ in range(workers - len(self._started)):
                own, other = context.Pipe()
                process = context.Process(target=_work, args=(other, share), daemon=True)
                # They are as many as there are cores, so each has no other to share work with.
                with one_thread_each():
                    process.start()
                other.close()
                self._started.append((process, own))
        buffers: list[pickle.PickleBuffer] = []
        content = pickle.dumps(task, protocol=5, buffer_callback=buffers.append)
        places = []
        with tempfile.TemporaryFile(prefix="gtmar-", dir=roomy_folder()) as file:
            for each in (memoryview(content), *(buffer.raw() for buffer in buffers)):
                file.seek(-(-file.tell() // _ALIGNED) * _ALIGNED)
                places.append((file.tell(), each.nbytes))
                file.write(each)
            file.flush()
            for _, pipe in self._started[:workers]:
                self._send(pipe, places, file.fileno())
        return [pipe for _, pipe in self._started[:workers]]

    def _send(self, pipe: Connection, message: object, handle: int | None = None) -> None:
        try:
            if message is not None:
                pipe.send(message)
            if handle is not None:
                send_handle(pipe, handle, None)
        except OSError:
            raise self._ended(pipe) from None

    def _received(self, pipe: Any) -> Any:
        try:
            return pipe.recv()
        except (EOFError, OSError):
            raise self._ended(pipe) from None

    def _ended(self, pipe: Connection) -> ResourceError:
        [process] = [process for process, own in self._started if own is pipe]
        process.join()
        code = process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return ResourceError(
            f"one of {len(self._started)} processes that search {how}",
            hint="where memory is short, --workers 1 takes the least",
        )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off while processes start, and keep it from them.

    It reaches all processes of a terminal, and is for the one that ends the others.
    """
    # Python starts it with the first process, and lets Ctrl-C in again as it does.
    resource_tracker.ensure_running()
    came: list[object] = []
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda *_: came.append(_)) if is_main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if is_main:
            signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt


def _work(pipe: Connection, share: int) -> None:
    """Do what comes by a pipe until nothing more can come: a task, then numbers for it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["POLARS_MAX_THREADS"] = str(share)
    use_cores(share)
    task: Any = None
    with suppress(EOFError):
        while True:
            message = pipe.recv()
            if isinstance(message, list):
                task = _mapped(recv_handle(pipe), message)
                continue
            answer: tuple[int, Any, Exception | None]
            try:
                answer = message, task(message), None
            except Exception as err:  # raised again where the task was given
                answer = message, None, err
            pipe.send(answer)


def _mapped(handle: int, places: list[tuple[int, int]]) -> object:
    """Read a task whose arrays stay where they are, in a file that is mapped."""
    with os.fdopen(handle, "rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    content, *arrays = (whole[at : at + size] for at, size in places)
    return pickle.loads(content, buffers=arrays)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
