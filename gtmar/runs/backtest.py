"""The score that a team has today, judged by what became of its accounts; a spec beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.data.matrix import load_accounts, part
from gtmar.data.outcomes import CENTS, canonical_outcomes
from gtmar.data.scan import AccountTable, collect, scan
from gtmar.data.sources import Source
from gtmar.data.split import key_expression
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.tally import TierEdges
from gtmar.errors import AccountDataError, JournalError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.metrics.registry import measure
from gtmar.objective.objective import Judge
from gtmar.runs.findings import Finding, copies_finding, leaks_of, warnings_of
from gtmar.runs.holdout import looks_at, record_look
from gtmar.runs.score import score
from gtmar.spec.model import SCORE_UNITS
from gtmar.stats.interval import level_of
from gtmar.validation.intervals import Uncertainty, uncertainty
from gtmar.validation.paired_scores import Panel, Scored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.sources import Tabular
    from gtmar.spec.model import ScoringSpec, Split

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
    #: `observed` or `binary` revenue retention; None without MRR.
    basis: str | None = None
    #: Whether a search chose the spec's weights on these accounts; None where it isn't known.
    in_sample: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        plain = (
            "source name accounts tiers edges metrics level candidate curve notes basis in_sample"
        )
        return {
            **{key: getattr(self, key) for key in plain.split()},
            "intervals": self.intervals.as_json(),
            "green_and_churned": self.green_and_churned.to_dicts(),
            "red_and_renewed": self.red_and_renewed.to_dicts(),
        }


def backtest(
    data: Tabular,
    *,
    score_column: str | None = None,
    spec: ScoringSpec | None = None,
    tiers: Mapping[str, float] | None = None,
    orientation: str | None = None,
    journal: str | Path = "journal",
    as_of: str | None = None,
    drop_unlabelled: bool = False,
    drop_unscored: bool = False,
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
    drop_unscored
        Leave accounts out that have no value in `score_column`, and count them.

    Raises
    ------
    UsageError
        If there is nothing to judge.
    AccountDataError
        If the column holds no score, or not for every account.

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
    if spec is not None:
        table = table.read_for(spec)
    notes: list[str] = []
    if score_column is None:
        assert spec is not None
        today, candidate = spec, None
    else:
        today = _spec_of_column(table, score_column, spec, tiers, orientation, notes)
        table = _scored(table, score_column, notes, drop=drop_unscored)
        candidate = spec
    whole = candidate or _unsplit(today)
    joined = whole if candidate is None else _joined(today, candidate)
    accounts = load_accounts(table, joined, as_of=as_of, drop_unlabelled=drop_unlabelled)
    in_sample = None if spec is None else _in_sample(accounts, spec, Path(journal), notes, as_of)
    matrix = _untouched(accounts, candidate, notes, known=in_sample is not None)
    if candidate is not None and matrix is accounts.holdout:
        in_sample = False
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
        notes=(*notes, *_findings(accounts, joined), *accounts.checked.notes),
        basis=accounts.checked.outcomes.basis,
        in_sample=in_sample,
    )


def _scored(table: AccountTable, column: str, notes: list[str], *, drop: bool) -> AccountTable:
    """Return the accounts that have a score today; refuse others unless they are to be dropped."""
    known = pl.col(column).cast(pl.Float64).is_not_nan().fill_null(value=False)
    accounts, scored = collect(table, table.frame.select(pl.len(), known.sum().alias("k"))).row(0)
    if scored == accounts:
        return table
    sentence = f"{accounts - scored:,} of {accounts:,} accounts have no score"
    if not drop:
        raise AccountDataError(
            f'{table.source}: column "{column}": {sentence}',
            hint="--drop-unscored leaves them out and counts them",
        )
    notes.append(f'{sentence} in "{column}" and are left out.')
    return AccountTable(table.source, table.frame.filter(known), table.schema, table.origin)


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
    accounts: Accounts, candidate: ScoringSpec | None, notes: list[str], *, known: bool
) -> AccountMatrix:
    if candidate is None:
        return accounts.search
    if accounts.holdout is None:
        if not known:
            notes.append("The candidate may have been searched on these very accounts.")
        return accounts.search
    notes.append(
        f"Compared on the {accounts.holdout.accounts:,} accounts that the candidate's spec holds "
        "out."
    )
    return accounts.holdout


def _in_sample(
    accounts: Accounts, spec: ScoringSpec, journal: Path, notes: list[str], as_of: str | None
) -> bool | None:
    """Say whether a run of the journal searched these accounts for the spec's weights.

    None where no run is on record, by the spec's lineage or by the table, or its table isn't there
    to compare ids with.
    """
    start = _searched_by(accounts, spec, journal, as_of)
    if start is None:
        return None
    split = specs.parse(start["spec"], source="the run's spec").split
    if start["outcomes_fingerprint"] == _split_as(accounts, spec, split, as_of):
        count = start["search_accounts"]
    else:
        shared = _shared(accounts, start, split)
        if shared is None:
            return None
        count = shared
    if count:
        notes.append(
            f"In-sample: run {start['run_id']} searched {count:,} of these "
            f"{accounts.checked.accounts:,} accounts for its weights, so the score looks better on "
            "them than it is."
        )
    return bool(count)


def _shared(accounts: Accounts, start: dict[str, Any], split: Split) -> int | None:
    """Count accounts that a run searched in its own table; None where ids can't be compared."""
    identifier, path = accounts.checked.id_column, Path(start["source"])
    if identifier is None or not path.exists():
        return None
    searched = scan(Source.of_record(start["source"], dict(start["parameters"])))
    if identifier not in searched.columns:
        return None
    key = pl.col(identifier).cast(pl.String)
    sides = (part(searched.with_text(identifier), identifier, split), accounts.table)
    old, now = (collect(side, side.frame.select(key)) for side in sides)
    return now.join(old, on=identifier, how="semi").height


def _searched_by(
    accounts: Accounts, spec: ScoringSpec, journal: Path, as_of: str | None
) -> dict[str, Any] | None:
    """Return the start record of the run that a spec came from; else of one on this table."""
    try:
        if spec.lineage is not None:
            return RunFiles(journal, spec.lineage.run).record("start")
        with Journal(journal) as opened:
            print_ = _split_as(accounts, spec, spec.split, as_of)
            ids = opened.query(
                "select run_id from runs where kind = 'search' and model = getvariable('model') "
                "and outcomes_fingerprint = getvariable('print') order by started_at",
                model=spec.model,
                print=print_,
            )["run_id"].to_list()
        return RunFiles(journal, ids[-1]).record("start") if ids else None
    except JournalError:
        return None


def _split_as(accounts: Accounts, spec: ScoringSpec, split: Split, as_of: str | None) -> str:
    """Return the fingerprint of ids, outcomes and split that a run with such a split has."""
    other = spec.model_copy(update={"split": split})
    dropped = accounts.checked.dropped > 0
    loaded = load_accounts(accounts.table, other, as_of=as_of, drop_unlabelled=dropped)
    return loaded.outcomes_fingerprint


def _findings(accounts: Accounts, spec: ScoringSpec) -> list[str]:
    """Say what seems to know the outcome, and which accounts are copies."""
    leaks = [
        Finding("leak", str(leak.grade), f'Column "{leak.column}": {leak.found}; {leak.why}.')
        for leak in leaks_of(accounts, spec)
        if leak.kind not in ("constant", "duplicate")
    ]
    return warnings_of([*leaks, *copies_finding(accounts)])


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
        bands = TierEdges.of(spec)
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
