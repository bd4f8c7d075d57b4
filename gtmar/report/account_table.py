"""Capture curves: how much of the MRR, or of the retained accounts, the best-scored share holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.data.split import key_expression
from gtmar.engine.cohorts import cohorts_of
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.tally import TierEdges
from gtmar.errors import GtmarError, NotComparableError
from gtmar.objective.objective import Judge
from gtmar.report.revenue import revenue_of
from gtmar.runs.holdout import recorded
from gtmar.runs.score import score
from gtmar.runs.segments import segment_part
from gtmar.runs.session import load_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.sources import Tabular
    from gtmar.report.revenue import Revenue
    from gtmar.runs.segments import SegmentPart
    from gtmar.spec.model import ScoringSpec

__all__ = ["GRID", "Capture", "TableEvidence", "capture_of", "read_table"]


#: Shares of accounts at which a curve is drawn; 0.2, where the metric is read, is one of them.
GRID = np.arange(201) / 200


@dataclass(frozen=True)
class Capture:
    """Curves over `GRID`, each from 0 to 1: captured share of what counts.

    Parameters
    ----------
    of
        What is captured: ``MRR``, or ``retained accounts`` where the table has no MRR.
    accounts
        Accounts in the cohort: paying ones, or those with a label.
    start, best
        float64, shape (201,): accounts in the order of the start's and the best's scores. Accounts
        of one score are taken as evenly spread over their places, as the metrics take them.
    perfect
        The same in the order of what is captured itself: no score can do better.
    """

    of: str
    accounts: int
    start: NDArray[np.float64]
    best: NDArray[np.float64]
    perfect: NDArray[np.float64]


def capture_of(
    matrix: AccountMatrix, scores: Sequence[NDArray[np.int64]], *, risk: bool
) -> Capture | None:
    """Return the curves of two scores.

    Parameters
    ----------
    matrix
        N accounts.
    scores
        Score values of the start and of the best, each of shape (N,), in matrix order.
    risk
        Whether a high score is bad, so that the lowest come first.

    Returns
    -------
    Capture or None
        None where there is nothing to capture: neither MRR nor a retained account.

    Notes
    -----
    Amounts are added up as doubles: exact to 2^53 cents, and a picture needs no more.
    """
    cohorts = cohorts_of(matrix)
    if matrix.start is not None and matrix.start[cohorts.paying].any():
        amounts = matrix.start[cohorts.paying].astype(np.float64)
        rows, of = cohorts.paying, "MRR"
    else:
        rows = slice(cohorts.negatives.start, cohorts.positives.stop)
        kept = cohorts.positives.stop - cohorts.positives.start
        lost = cohorts.negatives.stop - cohorts.negatives.start
        if not kept:
            return None
        amounts, of = np.repeat([0.0, 1.0], [lost, kept]), "retained accounts"
    start, best = (_curve(s[rows] if risk else -s[rows], amounts) for s in scores)
    perfect = _curve(-amounts, amounts)
    return Capture(of=of, accounts=len(amounts), start=start, best=best, perfect=perfect)


def _curve(order: NDArray[np.number], amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the captured share at each of `GRID`, the lowest of `order` first."""
    _, places = np.unique(order, return_inverse=True)
    accounts = np.cumsum(np.bincount(places))
    captured = np.cumsum(np.bincount(places, weights=amounts))
    x = np.concatenate([[0.0], accounts / accounts[-1]])
    y = np.concatenate([[0.0], captured / captured[-1]])
    curve: NDArray[np.float64] = np.interp(GRID, x, y)
    return curve


#: Accounts named, those whose score moves most.
_NAMED = 10
_SAME = {"outcomes_fingerprint": "ids, outcomes or split", "features_fingerprint": "features"}
_SAME_HOLDOUT = tuple(f"holdout_{key}" for key in _SAME)


@dataclass(frozen=True)
class TableEvidence:
    """What two scores of a run, the start's and the best's, do to its accounts."""

    #: int64, shape (T, T): accounts searched, by the start's tier and by the best's.
    moves: NDArray[np.int64]
    capture: Capture | None
    #: Accounts of the whole table, holdout included, that change tier: account, tier_start,
    #: score_start, tier_best, score_best; those whose score moves most, at most 10.
    moved: pl.DataFrame
    #: How many accounts of the whole table change tier.
    moved_accounts: int
    #: The spec's segments, on the accounts searched and on those held out; empty without segments.
    segments: tuple[SegmentPart, ...]
    #: On the accounts held out, or those searched; None without revenue or retention.
    revenue: Revenue | None
    #: Why the accounts held out can't be measured: their own table isn't there. None else.
    revenue_absent: str | None = None


def read_table(
    run: Mapping[str, Any],
    weights: Mapping[str, int],
    data: Tabular | None = None,
    *,
    level: float = 0.95,
) -> TableEvidence:
    """Load a run's table and score it by its start and by its best weights.

    Parameters
    ----------
    run
        The run's row of the view `runs`.
    weights
        Its best weights.
    data
        The table, where it has moved since; None for where it was.
    level
        Of intervals on the holdout, by how often it was looked at.

    Raises
    ------
    AccountDataError
        If it can't be read.
    NotComparableError
        If it isn't the table that the run was made on.
    """
    as_of = run["parameters"].get("as_of")
    start, accounts, absent = _tables(run, data)
    best = specs.reweighed(start, dict(weights))
    differing = [word for key, word in _SAME.items() if getattr(accounts, key) != run[key]]
    if accounts.segments_fingerprint != run["parameters"].get("segments_fingerprint"):
        differing.append("segments")
    if differing:
        raise NotComparableError(
            f"{accounts.table.source} is not the table that run {run['run_id']} was made on: "
            f"other {' and '.join(differing)}",
            hint="give that table with --data",
            differing=differing,
        )
    evaluator = LocalEvaluator(accounts.search, start)
    scores = [evaluator.scores([t.weight for t in spec.terms]) for spec in (start, best)]
    tiers = len(start.tier_names)
    before, after = (TierEdges.of(start).tiers_of(each) for each in scores)
    pairs = before * tiers + after
    moved = _moved(accounts.table.frame, start, best, as_of=as_of)
    ends = [[term.weight for term in spec.terms] for spec in (start, best)]
    judge = Judge.of(start, run["objective"])
    parts = [(accounts.search, "searched", 0.95)]
    if accounts.holdout is not None:
        parts.append((accounts.holdout, "held out", level))
    return TableEvidence(
        moves=np.bincount(pairs, minlength=tiers * tiers).reshape(tiers, tiers),
        capture=capture_of(accounts.search, scores, risk=start.orientation == "risk"),
        moved=moved.head(_NAMED),
        moved_accounts=moved.height,
        segments=tuple(
            segment_part(matrix, start, judge, *ends, part=part, level=at)
            for matrix, part, at in parts
            if matrix.segments
        ),
        revenue=None
        if absent
        else revenue_of(parts[-1][0], start, *ends, part=parts[-1][1], level=parts[-1][2]),
        revenue_absent=absent,
    )


def _tables(
    run: Mapping[str, Any], data: Tabular | None
) -> tuple[ScoringSpec, Accounts, str | None]:
    """Load a run's tables; say why, where the holdout's own isn't there, and go without it."""
    try:
        start, accounts = load_tables(run, data)
    except GtmarError as err:
        start, accounts = load_tables(run, data, untouched=False)
        return start, accounts, err.message
    own = recorded(accounts)
    if any(own[key] != run["parameters"].get(key) for key in _SAME_HOLDOUT if key in own):
        start, accounts = load_tables(run, data, untouched=False)
        return start, accounts, f"{own['holdout_source']} is another table by now."
    return start, accounts, None


def _moved(
    data: Tabular,
    start: ScoringSpec,
    best: ScoringSpec,
    *,
    as_of: str | None,
) -> pl.DataFrame:
    """Return the accounts that change tier, those whose score moves most first."""
    before, after = (score(data, spec, as_of=as_of) for spec in (start, best))
    who = (
        before.select(key_expression(start.id, before.schema)).to_series()
        if start.id
        else pl.Series(range(1, before.height + 1))
    )
    both = pl.DataFrame(
        {
            "account": who.cast(pl.String),
            "tier_start": before["tier"],
            "score_start": before["score"],
            "tier_best": after["tier"],
            "score_best": after["score"],
        }
    )
    distance = (pl.col("score_best") - pl.col("score_start")).abs()
    changed = both.filter(pl.col("tier_start") != pl.col("tier_best"))
    return changed.sort(distance, "account", descending=[True, False])
