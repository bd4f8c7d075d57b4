"""How many threads evaluate, and the threads themselves."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

__all__ = ["cores", "pool"]


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process; they wait for work and are shared by all evaluators."""
    return ThreadPoolExecutor(threads, thread_name_prefix="gtmar-evaluate")
