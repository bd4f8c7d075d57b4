"""The guardrails of a run, on metrics, segments, tier changes and the gain.

They are checked only for candidates that would win. Those that compare a candidate with the start
need the accounts themselves, so they run in the process that holds the table: in a cluster, the
driver.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from gtmar.engine.local import LocalEvaluator
from gtmar.engine.sum_names import TIER_LOW, tier_sum
from gtmar.engine.tally import TierEdges
from gtmar.objective.objective import breach, fallen
from gtmar.spec.model import BY_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import Guardrail, ScoringSpec

__all__ = ["SMALLEST_SEGMENT", "Guard", "gap_of"]

#: Accounts below which a segment is `unknown`: it neither passes a guardrail nor breaks it.
SMALLEST_SEGMENT = 50
#: Rows that are processed at a time, so that a table larger than memory is never loaded whole.
_SLICE = 524_288


class Guard:
    """The guardrails of a spec, over the accounts that are searched.

    Parameters
    ----------
    start
        The F weights that a candidate is compared with.
    at_start
        Their sums over these accounts, one row; None leaves out the spec's `no_worse`.

    Notes
    -----
    Values are computed when first needed, and only those that the guardrails read. A check by
    segment costs about half a millisecond a segment, and a pass over the table for each column of
    segments; one of tier changes costs a pass, and keeps two bytes an account.
    """

    def __init__(
        self,
        matrix: AccountMatrix,
        spec: ScoringSpec,
        judge: Judge,
        start: Sequence[int],
        at_start: pl.DataFrame | None = None,
    ) -> None:
        self._matrix, self._spec, self._judge = matrix, spec, judge
        self._start = tuple(start)
        self._held = {} if at_start is None else judge.values_held(at_start)
        self._names = {guardrail.metric for guardrail in judge.comparisons}
        self._parts: dict[tuple[int, int, int], LocalEvaluator] = {}

    def breaches(
        self, sums: pl.DataFrame, weights: Sequence[int], value: float | None, than: float | None
    ) -> tuple[str, ...]:
        """Return a message for each guardrail that a candidate breaks.

        `sums` is the candidate's one row; `value` and `than` are its objective and the incumbent's.
        """
        broken = (*self._judge.breaches(sums), *self._worse(sums))
        if not self._judge.comparisons:
            return broken
        by_segment = self._names.intersection(BY_SEGMENT)
        lows = self._lows(sums)
        now = self.segment_values(weights, lows) if by_segment else {}
        moved = self.moved_share(weights, lows) if "moved_share" in self._names else None
        values = {
            "moved_share": moved,
            "gain": None if value is None or than is None else self._judge.sign * (value - than),
        }
        texts = [
            self._by_segment(guardrail, now)
            if guardrail.metric in BY_SEGMENT
            else breach(guardrail, values[guardrail.metric])
            for guardrail in self._judge.comparisons
        ]
        return (*broken, *(text for text in texts if text is not None))

    def lacking(self) -> dict[str, str]:
        """Return why a guardrail that compares with the start can't be checked here, by name."""
        lacking = {k: "it has no value at the start" for k, v in self._held.items() if v is None}
        requested = self._names.intersection(BY_SEGMENT)
        if not requested:
            return lacking
        known = sum(value is not None for value in self._at_start.values())
        needed = {"worst_segment_change": 1, "segment_gap": 2}
        return lacking | {
            name: f"{known} of {len(self._at_start)} segments have {SMALLEST_SEGMENT} accounts and "
            f"a value of {self._judge.name}, {needed[name]} needed"
            for name in sorted(requested)
            if known < needed[name]
        }

    def _worse(self, sums: pl.DataFrame) -> tuple[str, ...]:
        """Return a message for each metric of `no_worse` that is worse than at the start."""
        if not self._held:
            return ()
        now = self._judge.values_held(sums)
        signs = {name: metric.sign for name, metric, _ in self._judge.held}
        texts = (fallen(k, now[k], then, sign=signs[k]) for k, then in self._held.items())
        return tuple(text for text in texts if text is not None)

    def _lows(self, sums: pl.DataFrame) -> tuple[int, ...] | None:
        """Return the candidate's own tier edges if a rule sets them; None for the spec's."""
        names = [tier_sum(TIER_LOW, tier) for tier in self._spec.tier_names]
        return sums.select(names).row(0) if names[0] in sums.columns else None

    def segment_values(
        self, weights: Sequence[int], lows: Sequence[int] | None = None
    ) -> dict[str, float | None]:
        """Return the objective of each segment by ``COLUMN=VALUE``.

        None where it has none, or fewer accounts than `SMALLEST_SEGMENT`. `lows` are the tiers'
        lowest bins; None for the spec's.
        """
        values: dict[str, float | None] = {}
        for index, column in enumerate(self._matrix.segments):
            codes = column.codes
            if self._matrix.account_of is not None:
                # An account counts once in a segment, however many dates it has.
                codes = np.unique(np.stack([column.codes, self._matrix.account_of]), axis=1)[0]
            sizes = np.bincount(codes, minlength=len(column.values))
            for code in range(len(column.values)):
                enough = sizes[code] >= SMALLEST_SEGMENT
                value = self._value_of(index, code, tuple(weights), lows) if enough else None
                values[column.name(code)] = value
        return values

    def moved_share(self, weights: Sequence[int], lows: Sequence[int] | None = None) -> float:
        """Return the share of accounts, in [0, 1], that change tier from the start.

        In a table of several dates, it is the share of rows.
        """
        tiers = zip(self._slices, self._start_tiers, strict=True)
        moved = sum(int((self._tiers(rows, weights, lows) != then).sum()) for rows, then in tiers)
        return moved / max(1, self._matrix.accounts)

    def _by_segment(self, guardrail: Guardrail, now: dict[str, float | None]) -> str | None:
        """Return the message of a guardrail by segment; None if it holds or can't be measured."""
        known = {name: then for name, then in self._at_start.items() if then is not None}
        if not known:
            return None
        values = {name: value for name in known if (value := now[name]) is not None}
        lost = [name for name in known if name not in values]
        if lost:
            return f"{guardrail.metric} is null: no value in {lost[0]}"
        if guardrail.metric == "segment_gap":
            gap = gap_of(values.values())
            return None if gap is None else breach(guardrail, gap)
        changes = {name: self._judge.sign * (values[name] - known[name]) for name in values}
        worst = min(changes, key=lambda name: (changes[name], name))
        text = breach(guardrail, changes[worst])
        return text and f"{text} in {worst}"

    @cached_property
    def _at_start(self) -> dict[str, float | None]:
        return self.segment_values(self._start)

    def _value_of(
        self, column: int, code: int, weights: tuple[int, ...], lows: Sequence[int] | None
    ) -> float | None:
        """Return the objective of one segment, added up over the slices of the table."""
        if not self._slices:
            return None
        parts = (self._part(number, column, code) for number in range(len(self._slices)))
        edges = None if lows is None else np.array([lows], dtype=np.int64)
        counts = reduce(add, (part.counts([weights], edges) for part in parts))
        sums = self._reducer.reduce(counts)
        return self._judge.values(self._reducer.frame_of(sums, only=self._judge.reads))[0]

    def _part(self, number: int, column: int, code: int) -> LocalEvaluator:
        """Return the evaluator of a segment's accounts in one slice; cached if it is the whole."""
        key = (number, column, code)
        if key in self._parts:
            return self._parts[key]
        rows = self._slices[number]
        some = self._matrix.part(rows.start, rows.stop)
        part = LocalEvaluator(some.take(some.segments[column].rows(code)), self._spec, threads=1)
        if len(self._slices) == 1:
            self._parts[key] = part
        return part

    @cached_property
    def _reducer(self) -> LocalEvaluator:
        """An evaluator of no accounts, which reduces the counts of the parts."""
        return LocalEvaluator(self._matrix.part(0, 0), self._spec, threads=1)

    @cached_property
    def _slices(self) -> list[slice]:
        n = self._matrix.accounts
        return [slice(at, min(at + _SLICE, n)) for at in range(0, n, _SLICE)]

    @cached_property
    def _start_tiers(self) -> list[NDArray[np.int16]]:
        return [self._tiers(rows, self._start) for rows in self._slices]

    def _tiers(
        self, rows: slice, weights: Sequence[int], lows: Sequence[int] | None = None
    ) -> NDArray[np.int16]:
        """Return the tiers of a slice's accounts, 0 the highest."""
        part = LocalEvaluator(self._matrix.part(rows.start, rows.stop), self._spec, threads=1)
        scores = part.scores(weights).astype(np.intp)
        edges = TierEdges.of(self._spec)
        if lows is not None:
            edges = replace(edges, tier_lows=tuple(lows))
        return edges.tiers_of(scores).astype(np.int16)


def gap_of(values: Iterable[float]) -> float | None:
    """Return the largest value less the smallest; None for fewer than two."""
    listed = list(values)
    return max(listed) - min(listed) if len(listed) > 1 else None
