"""Threads and memory of this process: cores, the pool, freed memory, garbage collection."""

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


#: During a search, Python collects garbage once so many objects were created: about every ten
#: thousand experiments, which takes a few milliseconds.
_NEW_OBJECTS = 50_000

#: The most cores that this process may use; None for all.
_share: int | None = None


def use_cores(share: int) -> None:
    """Use at most so many cores from now on: the others are for processes beside this one."""
    global _share  # noqa: PLW0603 - a fact about the process
    _share = share


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = hasattr(os, "sched_getaffinity")
    there = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    return min(there, _share or there)


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return the process's thread pool of this size, which all evaluators share."""
    return ThreadPoolExecutor(threads, thread_name_prefix="gtmar-evaluate")


@cache
def keep_memory() -> None:
    """Make the C library keep freed memory, instead of returning it to the system after each batch.

    A batch's counts are some megabytes, freed once they are reduced. glibc returns such blocks to
    the system, and getting them back costs page faults: two thirds of a run's time. It keeps blocks
    up to the largest size that was freed before, so freeing one large block once is enough.
    """
    np.empty(_KEPT_BYTES, dtype=np.uint8)


@contextmanager
def set_aside() -> Iterator[None]:
    """Exclude all objects that exist now from garbage collection, within the context.

    A search creates enough objects to start full collections, which go through the objects of every
    loaded library: some 50 milliseconds, a quarter of a short search. Its own objects form no
    cycles, so they are collected seldom, too: see `_NEW_OBJECTS`.
    """
    if gc.get_freeze_count():
        # An outer context, or the caller's own code, has done so already and will undo it.
        yield
        return
    before = gc.get_threshold()
    gc.freeze()
    # 0 means never; a larger number than ours was set for a reason.
    if 0 < before[0] < _NEW_OBJECTS:
        gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@dataclass(frozen=True)
class Workers:
    """The calling thread and those of a pool, which share work.

    Parameters
    ----------
    threads
        How many work at once, the calling one included.
    pool
        Returns the executor of the others; called only if there is work for more than one thread.
    """

    threads: int
    pool: Callable[[], Executor]

    def share(self, work: Callable[[int, int], None], items: int, piece: int) -> None:
        """Call ``work(first, last)`` for all of [0, items), in pieces of `piece` items.

        Each thread takes the next piece as soon as it is free, so that a slow one holds up none.
        """
        if 0 < items <= piece:
            work(0, items)
            return
        # `next` on a `count` is atomic: no two threads get the same number.
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
