"""A table counted with numpy, part by part: candidates share calls, or threads share parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gtmar.evaluate.resources import pool
from gtmar.kernel import PLACE_BLOCK, Counts, add_steps, count, score_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gtmar.kernel import Cohorts, Part

    Integers = NDArray[np.integer]
    #: Numbers of changed weights, and by how much.
    Steps = Sequence[tuple[int, int]]

__all__ = ["PART_ROWS", "PartedTable"]

#: Rows of a part at most. A thread waits some 50 microseconds for Python's lock after each call, so
#: threads pay where a call takes several hundred; smaller tables are a single part, for one thread.
PART_ROWS = 524_288
#: Rows times candidates of one call, where the table is a single part.
CALL_ROWS = 65_536
#: Candidates of a group at most: their counts, 80 KB an array, shouldn't leave the cache either.
GROUP = 8


class PartedTable:
    """One table, ready to be counted with numpy.

    Parameters
    ----------
    columns
        F arrays of shape (N,).
    cohorts
        What the counting needs of accounts.
    tier_lows
        The lowest place of each of T tiers, from the highest tier down.
    places, max_score
        P, and the highest score, in points.
    threads
        How many work at once.
    part_rows
        Rows counted before the next ones are touched.
    """

    def __init__(
        self,
        columns: Sequence[Integers],
        cohorts: Cohorts,
        tier_lows: Sequence[int],
        *,
        places: int,
        max_score: int,
        threads: int,
        part_rows: int,
    ) -> None:
        self._columns, self._cohorts, self._tier_lows = columns, cohorts, tier_lows
        self._most, self._max_score, self._threads = places, max_score, threads
        accounts = len(cohorts.codes)
        self._runs = _even_runs(accounts, part_rows, threads)
        # The smaller the table, the more candidates share a call.
        self.together = GROUP
        if len(self._runs) == 1:
            self.together = max(1, min(GROUP, CALL_ROWS // max(1, accounts)))
        self._in_memory = not any(isinstance(column, np.memmap) for column in columns)
        self._parts: dict[int, Part] = {}

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """What it holds in memory beside the columns: parts that are kept."""
        return tuple(array for part in self._parts.values() for array in part.arrays)

    def counts(self, raw: Integers, steps: Sequence[Steps]) -> tuple[Counts, int]:
        """Count up to `together` candidates over all accounts.

        Parameters
        ----------
        raw
            Raw scores of the incumbent, shape (N,).
        steps
            For each candidate, how its weights differ.

        Returns
        -------
        counts : Counts
            Of all accounts.
        first : int
            The place that they begin with.
        """
        if len(self._runs) == 1:
            places, clipped = self._places(raw, self._runs[0], steps)
            window = _window(places)
            part = self._part(self._runs[0])
            return count(places, clipped, part, self._tier_lows, window), window.start
        if self._threads == 1:
            total = self._over(raw, self._runs, steps)
        else:
            shares = [self._runs[thread :: self._threads] for thread in range(self._threads)]
            found = pool(self._threads).map(
                lambda share: self._over(raw, share, steps), filter(None, shares)
            )
            total = next(found)
            for counts in found:
                total += counts
        return total.narrowed(PLACE_BLOCK)

    def _over(self, raw: Integers, runs: Sequence[slice], steps: Sequence[Steps]) -> Counts:
        """Count candidates over some parts of the table."""
        found: list[Counts] = []
        window = range(self._most)
        for run in runs:
            part = self._part(run)
            for place, step in enumerate(steps):
                scored = self._places(raw, run, [step])
                counts = count(*scored, part, self._tier_lows, window)
                if place == len(found):
                    found.append(counts)
                else:
                    found[place] += counts
        return Counts.joined(found)

    def _part(self, run: slice) -> Part:
        """Return a part of the table: made once, unless the table itself isn't in memory."""
        part = self._parts.get(run.start)
        if part is None:
            copies = self.together if len(self._runs) == 1 else 1
            part = self._cohorts.part(run.start, run.stop, copies=copies)
            if self._in_memory:
                self._parts[run.start] = part
        return part

    def _places(
        self, raw: Integers, run: slice, steps: Sequence[Steps]
    ) -> tuple[Integers, NDArray[np.int64]]:
        """Score a run of rows for some candidates; return places and who was clipped."""
        columns = [column[run] for column in self._columns]
        made = np.empty((len(steps), run.stop - run.start), dtype=raw.dtype)
        spare = np.empty_like(made[0])
        for row, each in zip(made, steps, strict=True):
            add_steps(raw[run], columns, each, out=row, spare=spare)
        return score_places(made, self._max_score)


def _even_runs(accounts: int, most: int, threads: int) -> list[slice]:
    """Cut rows into runs of at most `most`, as many as threads or a multiple, if more than one."""
    parts = max(1, -(-accounts // most))
    if parts > 1:
        parts = -(-parts // threads) * threads
    rows = max(1, -(-accounts // parts))
    runs = [slice(at, min(at + rows, accounts)) for at in range(0, accounts, rows)]
    return runs or [slice(0, 0)]


def _window(places: NDArray[np.integer]) -> range:
    """Return the whole blocks of places between the lowest and the highest that occur."""
    if not places.size:
        return range(PLACE_BLOCK)
    low, high = int(places.min()) // PLACE_BLOCK, int(places.max()) // PLACE_BLOCK
    return range(low * PLACE_BLOCK, (high + 1) * PLACE_BLOCK)
