"""What searches of a process share: its cores, threads, memory that was freed, and garbage."""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

__all__ = ["Workers", "cores", "keep_memory", "pool", "set_aside", "use_cores"]


#: Freed memory up to this size stays with the process.
_KEPT_BYTES = 24 * 2**20


#: New objects after which Python looks for garbage among them during a search: those of some
#: ten thousand experiments, a few milliseconds' work.
_NEW_OBJECTS = 50_000

#: At most so many cores are this process's own; None for all.
_share: int | None = None


def use_cores(share: int) -> None:
    """Leave the other cores to processes beside this one."""
    global _share  # noqa: PLW0603 - a fact about the process
    _share = share


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = hasattr(os, "sched_getaffinity")
    there = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return min(there, _share or there)


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; they wait for work and are shared by all evaluators."""
    return ThreadPoolExecutor(threads, thread_name_prefix="gtmar-evaluate")


@cache
def keep_memory() -> None:
    """Make the C library keep what is freed, instead of handing it back after every batch.

    Counts of a group are some megabytes, freed as soon as they are reduced. glibc gives such memory
    back to the system, and the next group pays for it in page faults: two thirds of a run's time.
    It stops doing so for sizes up to the largest that it has seen freed.
    """
    np.empty(_KEPT_BYTES, dtype=np.uint8)


@contextmanager
def set_aside() -> Iterator[None]:
    """Leave what there is already out of collections of garbage, for as long as the context lasts.

    A search makes enough objects for Python to look through all there are once in a while, those of
    every library that is loaded included: some 50 milliseconds, a quarter of a short search. Its
    own are looked through seldom too, since they stay or go by themselves.
    """
    if gc.get_freeze_count():
        # Somebody else has done it, and it is for them to undo.
        yield
        return
    before = gc.get_threshold()
    gc.freeze()
    # 0 is never, and a command may have asked for seldom itself.
    if 0 < before[0] < _NEW_OBJECTS:
        gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@dataclass(frozen=True)
class Workers:
    """Threads that share the work: this one, and those of a pool.

    Parameters
    ----------
    threads
        How many work at once.
    pool
        Has one fewer; not asked where there is one thread.
    """

    threads: int
    pool: Callable[[], Executor]

    def share(self, work: Callable[[int, int], None], items: int, piece: int) -> None:
        """Do work over items [0, items), a piece at a time; who is free takes the next one.

        So a thread that comes late, or whose items take longer, does fewer of them.
        """
        if 0 < items <= piece:
            work(0, items)
            return
        # One call gives one number to one thread.
        numbers = count()

        def take() -> None:
            while (first := next(numbers) * piece) < items:
                work(first, min(first + piece, items))

        others = [
            self.pool().submit(take) for _ in range(min(self.threads, -(-items // piece)) - 1)
        ]
        take()
        for other in others:
            other.result()
