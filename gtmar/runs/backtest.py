"""The score that a team has today, judged by what became of its accounts; a spec beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.accounts.identity import key_expression
from gtmar.accounts.matrix import load_accounts
from gtmar.accounts.outcomes import CENTS, canonical_outcomes
from gtmar.accounts.scan import collect, scan
from gtmar.errors import AccountDataError, UsageError
from gtmar.evaluate.local import LocalEvaluator
from gtmar.metrics.registry import measure
from gtmar.objective import Judge
from gtmar.proof.interval import level_of
from gtmar.proof.panel import Panel, Scored
from gtmar.proof.uncertainty import Uncertainty, uncertainty
from gtmar.runs.looks import looks_at, record_look
from gtmar.runs.scoring import score
from gtmar.spec.model import SCORE_UNITS
from gtmar.tally import Bands

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gtmar.accounts.matrix import AccountMatrix, Accounts
    from gtmar.accounts.scan import AccountTable
    from gtmar.spec.model import ScoringSpec

__all__ = ["Backtest", "backtest"]

#: Shares of accounts at which the curve is read.
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
_QUARTERS = {"A": 0.75, "B": 0.5, "C": 0.25, "D": 0.0}
_LARGEST = 1_000
#: Name of today's score among a candidate's features; no column has it.
_TODAY = "\x00today"


@dataclass(frozen=True)
class Backtest:
    """What a score was worth."""

    source: str
    #: The column, or the spec's model.
    name: str
    accounts: int
    tiers: tuple[str, ...]
    #: Lower edge of each tier in the score's own units.
    edges: tuple[float, ...]
    #: All metrics of today's score, by-tier ones as mappings.
    metrics: dict[str, Any]
    #: Today's score as `before`; a candidate as `after`, and its gain.
    intervals: Uncertainty = field(repr=False)
    level: float
    #: Candidate's model; None without one.
    candidate: str | None
    #: Share of accounts, MRR held by the best of them, lost accounts among the worst of them.
    curve: tuple[tuple[float, float | None, float | None], ...]
    #: Accounts in the best tier that left, and in the worst tier that stayed; largest MRR first.
    green_and_churned: pl.DataFrame
    red_and_renewed: pl.DataFrame
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        plain = "source name accounts tiers edges metrics level candidate curve notes"
        return {
            **{key: getattr(self, key) for key in plain.split()},
            "intervals": self.intervals.as_json(),
            "green_and_churned": self.green_and_churned.to_dicts(),
            "red_and_renewed": self.red_and_renewed.to_dicts(),
        }


def backtest(
    data: str | Path | pl.DataFrame | pl.LazyFrame,
    *,
    score_column: str | None = None,
    spec: ScoringSpec | None = None,
    tiers: Mapping[str, float] | None = None,
    orientation: str | None = None,
    journal: str | Path = "journal",
    as_of: str | None = None,
    drop_unlabelled: bool = False,
) -> Backtest:
    """Judge a score by the outcomes of the accounts that had it.

    Parameters
    ----------
    data
        The account table.
    score_column
        Column with today's score, numbers from 0 to 1, 100 or 1,000; None to judge the spec.
    spec
        The scoring spec to judge; with a `score_column` the candidate beside it.
    tiers
        Lower edge by tier, in the score's own units; None for quarters of the accounts.
    orientation
        `health` or `risk`, of the column; None for the spec's, else health.
    journal
        The journal's folder: a comparison on accounts held out is a look, and put on record there.
    as_of, drop_unlabelled
        As for `run`.

    Raises
    ------
    UsageError
        If there is nothing to judge.
    AccountDataError
        If the column holds no score.

    Notes
    -----
    A candidate whose spec holds accounts out is compared on these alone: it was searched on the
    others.
    """
    if score_column is None and spec is None:
        raise UsageError(
            "nothing to judge: give the column of today's score, or a spec",
            hint="--score-column current_health",
        )
    table = scan(data)
    notes: list[str] = []
    if score_column is None:
        assert spec is not None
        today, candidate = spec, None
    else:
        today = _spec_of_column(table, score_column, spec, tiers, orientation, notes)
        candidate = spec
    whole = candidate or _unsplit(today)
    joined = whole if candidate is None else _joined(today, candidate)
    accounts = load_accounts(table, joined, as_of=as_of, drop_unlabelled=drop_unlabelled)
    matrix = _untouched(accounts, candidate, notes)
    panel, own = _panel(matrix, today, candidate)
    level, intervals = _intervals(panel, candidate, accounts, Path(journal), notes)
    values = measure(
        LocalEvaluator(own, today).frame([[term.weight for term in today.terms]]),
        today.tier_names,
        matrix.outcomes,
    )
    surprises = _surprises(today, accounts, as_of)
    scale = today.terms[0].weight if score_column is not None else 1
    return Backtest(
        source=table.source,
        name=score_column or today.model,
        accounts=matrix.accounts,
        tiers=today.tier_names,
        edges=tuple(low / SCORE_UNITS / scale for low in today.tier_lows),
        metrics=values.row(0),
        intervals=intervals,
        level=level,
        candidate=None if candidate is None else candidate.model,
        curve=_curve(panel),
        green_and_churned=surprises[0],
        red_and_renewed=surprises[1],
        notes=(*notes, *accounts.checked.notes),
    )


def _unsplit(spec: ScoringSpec) -> ScoringSpec:
    return spec.model_copy(update={"split": spec.split.model_copy(update={"holdout": 0.0})})


def _spec_of_column(
    table: AccountTable,
    column: str,
    like: ScoringSpec | None,
    tiers: Mapping[str, float] | None,
    orientation: str | None,
    notes: list[str],
) -> ScoringSpec:
    """Write a spec whose score is a column, so that everything else judges it as any other."""
    if column not in table.columns:
        raise AccountDataError(
            f'{table.source}: no column "{column}"',
            hint=f"columns are {', '.join(table.columns[:8])}",
        )
    if not table.schema[column].is_numeric():
        raise AccountDataError(
            f'{table.source}: column "{column}" must be a number to be a score, '
            f"got {table.schema[column]}",
            hint="put levels such as green and red in order as 2, 1, 0",
        )
    values = collect(table, table.frame.select(pl.col(column).cast(pl.Float64)))[column]
    known = values.drop_nulls().drop_nans()
    low, high = float(known.min() or 0.0), float(known.max() or 0.0)  # type: ignore[arg-type] # doubles, as cast
    if known.is_empty() or low < 0 or high > _LARGEST:
        raise AccountDataError(
            f'{table.source}: column "{column}" must lie in 0 to {_LARGEST:,} to be a score, '
            f"got {low:g} to {high:g}",
            hint="scale it first",
        )
    scale = 100 if high <= 1 else 1
    if tiers is None:
        edges = {name: float(known.quantile(q) or 0.0) for name, q in _QUARTERS.items()}
        edges["D"] = 0.0
        notes.append("Tiers are quarters of the accounts; --tiers states your own.")
    else:
        edges = dict(tiers)
    feature = {"weight": scale, "min": scale, "max": scale, "column": column}
    shared = {}
    if like is not None:
        shared = like.model_dump(include={"id", "outcomes", "labels"})
    top = 100 if high * scale <= 100 else _LARGEST
    return specs.ScoringSpec.model_validate(
        {
            "model": column,
            "max_score": top,
            "orientation": orientation or (like.orientation if like else "health"),
            "features": {_TODAY: feature},
            "tiers": _bands(edges, scale, top),
            "split": {"holdout": 0},
            **shared,
        }
    )


def _bands(edges: Mapping[str, float], scale: int, top: int) -> dict[str, dict[str, float]]:
    """Return tiers from lower edges; edges that fall together make one tier."""
    lowest = min(edges.values())
    if lowest > 0:
        raise UsageError(
            f"the lowest tier must begin at 0, got {lowest:g}", hint="--tiers A=80,B=60,C=0"
        )
    bands: dict[str, dict[str, float]] = {}
    ceiling = float(top + 1)
    for name, edge in sorted(edges.items(), key=lambda item: -item[1]):
        low = round(edge * scale, 2)
        if low < ceiling:
            bands[name] = {"min": low, "max": ceiling}
            ceiling = low
    return bands


def _joined(today: ScoringSpec, candidate: ScoringSpec) -> ScoringSpec:
    """Return the candidate with today's score as one feature more, to load both at once."""
    return candidate.model_copy(update={"features": {**candidate.features, **today.features}})


def _untouched(
    accounts: Accounts, candidate: ScoringSpec | None, notes: list[str]
) -> AccountMatrix:
    if candidate is None:
        return accounts.search
    if accounts.holdout is None:
        notes.append("The candidate may have been searched on these very accounts.")
        return accounts.search
    notes.append(
        f"Compared on the {accounts.holdout.accounts:,} accounts that the candidate's spec holds "
        "out."
    )
    return accounts.holdout


def _intervals(
    panel: Panel,
    candidate: ScoringSpec | None,
    accounts: Accounts,
    journal: Path,
    notes: list[str],
) -> tuple[float, Uncertainty]:
    """Take the intervals, at the level of this look where there is one, and record it."""
    if candidate is None or accounts.holdout is None:
        return 0.95, uncertainty(panel)
    fingerprint, comparison = accounts.outcomes_fingerprint, specs.spec_id(candidate)
    looks = looks_at(journal, fingerprint, comparison)
    intervals = uncertainty(panel, level=level_of(looks))
    judge = Judge.of(candidate)
    before, after = (part.get(judge.name) for part in (intervals.before, intervals.after))
    record_look(
        journal,
        fingerprint,
        comparison,
        objective=judge.name,
        before=None if before is None else before.value,
        after=None if after is None else after.value,
        higher_is_better=judge.sign > 0,
        model=candidate.model,
        spec_id=comparison,
        source=accounts.table.source,
    )
    if looks > 1:
        notes.append(f"Comparison number {looks} on them: intervals at {level_of(looks):.2%}.")
    return level_of(looks), intervals


def _panel(
    matrix: AccountMatrix, today: ScoringSpec, candidate: ScoringSpec | None
) -> tuple[Panel, AccountMatrix]:
    """Score the accounts by today's score and the candidate; return today's own matrix too."""

    def side(spec: ScoringSpec) -> tuple[Scored, AccountMatrix]:
        names = [term.name for term in spec.terms]
        at = [matrix.names.index(name) for name in names]
        own = replace(matrix, names=tuple(names), columns=tuple(matrix.columns[i] for i in at))
        weights = [term.weight for term in spec.terms]
        places = LocalEvaluator(own, spec).scores(weights).astype(np.intp)
        bands = Bands.of(spec)
        return Scored(places, bands.tiers_of(places), bands.tiers, bands.risk), own

    before, own = side(today)
    after = None if candidate is None else side(candidate)[0]
    return Panel.of(matrix, before, after), own


def _curve(panel: Panel) -> tuple[tuple[float, float | None, float | None], ...]:
    """Read MRR of the best accounts and lost accounts among the worst, ties in part."""
    places = -panel.before.places if panel.before.risk else panel.before.places
    paying = (panel.movement >= 1) & (panel.movement <= 5) | (panel.movement == 8)
    labelled = panel.movement <= 6
    lost = (panel.movement <= 1).astype(np.float64)
    mrr = panel.start
    rows = []
    for share in SHARES:
        held = None if mrr is None else _beyond(places[paying], mrr[paying], share)
        missed = _beyond(-places[labelled], lost[labelled], share)
        rows.append((share, held, missed))
    return tuple(rows)


def _beyond(places: NDArray[np.intp], values: NDArray[np.float64], share: float) -> float | None:
    """Share of the values that the top share of accounts by place holds, ties in part."""
    whole = float(values.sum())
    if not whole:
        return None
    order = np.sort(places)[::-1]
    target = share * len(order)
    edge = order[min(len(order) - 1, int(np.ceil(target)) - 1)]
    ahead, tied = places > edge, places == edge
    part = (target - ahead.sum()) / tied.sum()
    return float(values[ahead].sum() + part * values[tied].sum()) / whole


def _surprises(
    today: ScoringSpec, accounts: Accounts, as_of: str | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """List the accounts that a tier was wrong about."""
    table = accounts.table
    scored = score(table.frame, today, as_of=as_of)
    outcomes = collect(
        table,
        table.frame.select(canonical_outcomes(accounts.checked.outcomes, table.schema).values()),
    )
    identifier = accounts.checked.id_column
    both = pl.DataFrame(
        {
            "account": scored.select(key_expression(identifier, scored.schema)).to_series()
            if identifier
            else pl.Series(range(1, scored.height + 1)),
            "score": scored["score"],
            "tier": scored["tier"],
            "mrr": outcomes["start"] / CENTS,
            "retained": outcomes["retained"],
        }
    ).sort("mrr", "account", descending=[True, False], nulls_last=True)
    best, worst = today.tier_names[0], today.tier_names[-1]
    if today.orientation == "risk":
        best, worst = worst, best
    green = both.filter((pl.col("tier") == best) & (pl.col("retained") == 0))
    red = both.filter((pl.col("tier") == worst) & (pl.col("retained") == 1))
    return green.drop("retained"), red.drop("retained")
