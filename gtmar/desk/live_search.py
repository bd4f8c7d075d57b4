"""A search that goes on beside the page: where it stands, how it is stopped, what it found."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gtmar.errors import GtmarError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.runs import Progress, RunResult

__all__ = ["LiveSearch"]

#: Wins that are shown.
_MOST_WINS = 8


class LiveSearch:
    """One search in a thread of its own.

    Parameters
    ----------
    search
        Does it, given whom to tell where it stands, and what says whether it is to stop.
    """

    def __init__(
        self, search: Callable[[Callable[[Progress], None], Callable[[], bool]], RunResult]
    ) -> None:
        #: Where it stands; None until its first experiments are done.
        self.progress: Progress | None = None
        self.result: RunResult | None = None
        self.error: str | None = None
        #: Where it stood as each of the last wins was in, its weights with it.
        self.wins: list[Progress] = []
        #: Counts what there is to tell.
        self.version = 0
        self._stop = threading.Event()
        self._search = search
        self._thread = threading.Thread(target=self._run, name="gtmar-search", daemon=True)
        self._thread.start()

    @property
    def going(self) -> bool:
        """Whether it isn't over."""
        return self.result is None and self.error is None

    @property
    def best_weights(self) -> dict[str, int]:
        """The best weights so far; none before the first win."""
        if self.result is not None:
            return self.result.weights if self.result.improved else {}
        return self.wins[-1].weights if self.wins else {}

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Tell it to stop after the experiments that are under way; all that was done stays."""
        self._stop.set()
        self.version += 1

    def join(self, seconds: float | None = None) -> None:
        """Wait until it is over."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self.result = self._search(self._tell, self._stop.is_set)
        except GtmarError as err:
            self.error = str(err)
        except Exception as err:
            self.error = f"a fault of gtmar: {type(err).__name__}: {err}"
            raise
        finally:
            if self.going:
                self.error = "the search ended without a result"
            self.version += 1

    def _tell(self, at: Progress) -> None:
        before = self.progress
        if at.wins > (0 if before is None else before.wins):
            self.wins = [*self.wins[1 - _MOST_WINS :], at]
        self.progress = at
        self.version += 1
