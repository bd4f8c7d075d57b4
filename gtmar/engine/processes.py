"""Processes that run a task side by side, each for one number at a time.

The task's arrays are written once, to an unnamed temporary file that every process maps, so that an
account table is in memory once for all processes. Results are ordered by number: how many processes
there were, and which was faster, changes nothing.

Processes are spawned, because a fork would copy locks that Polars' and numba's threads hold. They
end when their parent does, for whatever reason that ends.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import tempfile
import threading
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.reduction import recv_handle, send_handle
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from gtmar.engine.threads import cores, use_cores
from gtmar.errors import GtmarError, ResourceError
from gtmar.linear_algebra import one_thread_each
from gtmar.memory import roomy_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from types import TracebackType

__all__ = ["Processes"]

T = TypeVar("T")
#: Arrays begin at multiples of this in the file, as numpy's own do in memory.
_ALIGNED = 64
#: Seconds of one core's work from which processes save more time than they take to start. Each
#: needs about a second for its imports.
_WORTH_SECONDS = 4.0


@dataclass
class Processes:
    """A pool of processes on this machine, started with the first work; a context manager.

    Parameters
    ----------
    workers
        How many; 1 for none beside this one, None for one for each core where that saves time.

    Notes
    -----
    Python imports the main module anew in each process. So a script that asks for more than one
    needs ``if __name__ == "__main__"``.
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
        """Return whether work that takes one core so many seconds should go to the processes."""
        if self.workers is not None:
            return self.workers > 1
        return cores() > 1 and bool(self._started or seconds > _WORTH_SECONDS)

    def each(
        self, task: Callable[[int], T], numbers: range, done: Callable[[], None] | None = None
    ) -> list[T]:
        """Call a task with each of some numbers, in the processes.

        Parameters
        ----------
        task
            Picklable; its numpy arrays are shared, and read-only.
        numbers
            What the task is called with.
        done
            Called, without arguments, each time the task has returned; None for no such call.

        Returns
        -------
        list
            What the task returned, in the order of the numbers.

        Raises
        ------
        ResourceError
            If a process ended before its task did.
        Exception
            What the task raised.
        """
        pipes = self._given(task, min(self.workers or cores(), len(numbers)))
        left, results = iter(numbers), dict[int, T]()
        for pipe in pipes:
            self._send(pipe, next(left, None))
        while len(results) < len(numbers):
            for pipe in cast("list[Connection]", connection.wait(pipes)):
                number, result, error = self._received(pipe)
                if error is not None:
                    raise error
                results[number] = result
                if done is not None:
                    done()
                self._send(pipe, next(left, None))
        return [results[number] for number in numbers]

    def _given(self, task: object, workers: int) -> list[Connection]:
        """Send a task to so many processes, starting those that are missing; return their pipes."""
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
    """Delay Ctrl-C until the block ends, and have processes that start in it ignore Ctrl-C.

    Ctrl-C reaches all processes of a terminal. Only the parent should act on it, and end the rest.
    """
    # Python would start this process with the first of ours, and unblock Ctrl-C as it does so.
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
    """Run in a process: receive a task, then numbers to call it with, until the pipe closes."""
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
            except Exception as err:  # raised again in the parent
                answer = message, None, _as_sent(err)
            pipe.send(answer)


def _as_sent(error: Exception) -> Exception:
    """Return an error that the parent can receive, with its traceback if nobody foresaw it."""
    if isinstance(error, GtmarError):
        return error
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # Its constructor asks for more than it keeps, or it holds what stays here.
        again: Exception = RuntimeError(f"{type(error).__name__}: {error}")
    else:
        again = error
    again.add_note("In one of the processes:\n" + "".join(traceback.format_exception(error)))
    return again


def _mapped(handle: int, places: list[tuple[int, int]]) -> object:
    """Unpickle a task from a mapped file; its arrays are views of the file."""
    with os.fdopen(handle, "rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    content, *arrays = (whole[at : at + size] for at, size in places)
    return pickle.loads(content, buffers=arrays)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
