"""Work beside the loop: one thread does it piece by piece, in the order in which it was given."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from types import TracebackType

__all__ = ["Background"]


class Background:
    """A thread that works while its owner goes on; a context manager that leaves no thread.

    At most one piece is under way and one waits. What a piece raises is raised by the next call
    here, and nothing that was given after it is done any more.

    Parameters
    ----------
    threaded
        False does each piece at once instead, in the caller's own thread.
    """

    def __init__(self, *, threaded: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "gtmar-background") if threaded else None
        self._pieces: deque[Future[None]] = deque()
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            # What is under way ends: so nothing is written after the owner has gone on.
            self._pool.shutdown(cancel_futures=True)

    def do(self, piece: Callable[[], None]) -> None:
        """Have a piece done; wait while another one waits already."""
        if self._pool is None:
            piece()
            return
        while self._pieces and (len(self._pieces) > 1 or self._pieces[0].done()):
            self._pieces.popleft().result()
        self._pieces.append(self._pool.submit(self._done, piece))

    def finish(self) -> None:
        """Wait until all is done."""
        while self._pieces:
            self._pieces.popleft().result()

    def _done(self, piece: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            piece()
        except BaseException:
            self._failed = True
            raise
