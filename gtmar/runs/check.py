"""Checking a table against a spec before any search: who counts where, what is missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.autospec.leakage import Grade, Leak
from gtmar.data.matrix import load_accounts, part
from gtmar.data.outcomes import ACTIVATION_STATES, Movement
from gtmar.data.scan import scan
from gtmar.data.split import look_alikes
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import JournalError, UsageError
from gtmar.journal.files import RunFiles
from gtmar.metrics.metric import Sums
from gtmar.metrics.registry import all_metrics
from gtmar.objective.objective import Judge
from gtmar.runs.drift import shifts_between
from gtmar.runs.findings import copies_finding, leaks_of, limit_findings, order_findings
from gtmar.runs.score import write_aside
from gtmar.validation.gates import smallest_gain

if TYPE_CHECKING:
    from collections.abc import Collection

    import polars as pl

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.outcomes import OutcomeColumns
    from gtmar.data.scan import Tabular
    from gtmar.spec.model import Reading, ScoringSpec
    from gtmar.validation.psi import Shift

__all__ = ["Checkup", "check"]


@dataclass(frozen=True)
class Checkup:
    """What a table offers to a spec. Counts are of all accounts, metrics of the search part."""

    source: str
    model: str
    detected: bool
    accounts: int
    dropped: int
    #: Rows set aside, by the rule that they break.
    set_aside: dict[str, int]
    search_accounts: int
    holdout_accounts: int
    features: int
    basis: str | None
    #: Accounts by cohort.
    cohorts: dict[str, int]
    objective: str
    objective_value: float | None
    #: Gain that the accounts held out (of all, where none are) would prove four times in five.
    smallest_gain: float | None
    #: Whole-table value of each metric of the 13, before any tier; None where it has none.
    metrics: dict[str, float | None]
    #: Why a metric has no value.
    reasons: dict[str, str]
    notes: tuple[str, ...]
    outcomes_fingerprint: str
    features_fingerprint: str
    #: Leakage in the features' columns, of the search part; where features were detected, in the
    #: columns left out as well.
    leaks: tuple[Leak, ...]
    #: Columns that tell the outcome and are features all the same.
    leaking: tuple[str, ...]
    #: Each feature and the score of the holdout against the search part; none without a holdout.
    drift: tuple[Shift, ...]
    #: Accounts that repeat another one under another id.
    repeated: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def check(
    data: Tabular,
    spec: ScoringSpec | str | Path | None = None,
    *,
    metric: str | None = None,
    as_of: str | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    keep: Collection[str] = (),
    reading: Reading | None = None,
    journal: str | Path = "journal",
) -> Checkup:
    """Hold a table against the data contract and say what it offers.

    Parameters
    ----------
    data, spec
        As for `run`; without a spec, features are detected.
    metric
        The objective to show; None takes the spec's.
    as_of, date_format, drop_unlabelled, set_aside, set_aside_to
        As for `run`.
    keep
        Columns that may be features though they seem to know the outcome.
    reading
        How cells of text are read, where features are detected; a spec says that itself.
    journal
        The journal's folder, which may know the table that the spec was made on.

    Raises
    ------
    ViolationsError
        With everything that is wrong.
    """
    table = scan(data)
    detected = None
    if spec is None:
        detected = first_spec(
            table, keep=keep, reading=reading, date_format=date_format, set_aside=set_aside
        )
        spec = detected.spec
    elif reading is not None:
        raise UsageError(
            "a spec says itself how cells are read",
            hint="read: {nulls: [TBD], columns: {mrr: money}} in the spec",
        )
    spec = specs.reading_dates(spec, date_format)
    judge = Judge.of(spec, metric)
    accounts = load_accounts(
        table, spec, as_of=as_of, drop_unlabelled=drop_unlabelled, set_aside=set_aside
    )
    aside = write_aside(accounts, set_aside_to)
    checked, search, holdout = accounts.checked, accounts.search, accounts.holdout
    sums = LocalEvaluator(search, spec).frame([[term.weight for term in spec.terms]])
    values, reasons = _overall(sums, spec, checked.outcomes)
    value = gain = None
    if judge.name not in judge.lacking(checked.outcomes):
        value = judge.values(sums)[0]
        gain = smallest_gain(search, spec, judge, accounts=(holdout or search).accounts)
    leaks = tuple(
        leak
        for leak in (detected.leaks if detected else leaks_of(accounts, spec))
        if leak.column not in keep
    )
    findings = [
        *copies_finding(accounts),
        *order_findings(values.get("auc_roc_retain"), spec),
        *limit_findings(judge, spec, search, sums),
    ]
    used = {term.column for term in spec.terms}
    return Checkup(
        source=table.source,
        model=spec.model,
        detected=detected is not None,
        accounts=checked.accounts,
        dropped=checked.dropped,
        set_aside=checked.set_aside.counts,
        search_accounts=search.accounts,
        holdout_accounts=holdout.accounts if holdout else 0,
        features=len(spec.features),
        basis=checked.outcomes.basis,
        cohorts=_cohorts([side for side in (search, holdout) if side is not None]),
        objective=judge.name,
        objective_value=value,
        smallest_gain=gain,
        metrics=values,
        reasons=reasons,
        notes=(
            *checked.notes,
            *(detected.notes if detected else ()),
            *(finding.text for finding in findings),
            *aside[1:],
            *look_alikes(accounts.table, checked.id_column),
            *_made_on_note(accounts, spec, Path(journal)),
        ),
        outcomes_fingerprint=accounts.outcomes_fingerprint,
        features_fingerprint=accounts.features_fingerprint,
        leaks=leaks,
        leaking=tuple(k.column for k in leaks if k.grade is Grade.ERROR and k.column in used),
        drift=_drift(accounts, spec, as_of),
        repeated=accounts.copies.repeated if accounts.copies else 0,
    )


def _drift(accounts: Accounts, spec: ScoringSpec, as_of: str | None) -> tuple[Shift, ...]:
    """Hold the holdout against the search part: columns and score, no outcome."""
    if accounts.holdout is None or not accounts.holdout.accounts:
        return ()
    search, held = (
        part(
            accounts.table,
            accounts.checked.id_column,
            spec.split,
            held=held,
            copies=accounts.copies,
        )
        for held in (False, True)
    )
    return shifts_between(search, held, spec, as_of=(as_of, as_of))[0]


def _made_on_note(accounts: Accounts, spec: ScoringSpec, journal: Path) -> list[str]:
    """Say that a spec was made on another table, where the journal knows which."""
    if spec.lineage is None:
        return []
    try:
        start = RunFiles(journal, spec.lineage.run).record("start")
    except JournalError:
        return []
    known = ("outcomes_fingerprint", "features_fingerprint")
    if all(start[name] == getattr(accounts, name) for name in known):
        return []
    return [
        f"The spec was made on another table or split, {start['source']}, in run "
        f"{start['run_id']}; gtmar drift says what moved since."
    ]


def _cohorts(parts: list[AccountMatrix]) -> dict[str, int]:
    """Count the accounts of each cohort, in all parts together."""

    def size(first: Movement, last: Movement) -> int:
        return sum(rows.stop - rows.start for rows in (part.rows(first, last) for part in parts))

    return {
        "retained": size(Movement.KEPT_REVENUE_LOST, Movement.KEPT_NONPAYING),
        "lost": size(Movement.LOST_NONPAYING, Movement.LOST_PAYING),
        "paying": sum(p.paying_rows.stop - p.paying_rows.start for p in parts),
        "former": size(Movement.FORMER_LOST, Movement.FORMER_WON_BACK),
        "activation known": sum(int((p.codes % ACTIVATION_STATES > 0).sum()) for p in parts),
        "with LTV": sum(0 if p.ltv_rows is None else len(p.ltv_rows) for p in parts),
    }


def _overall(
    sums: pl.DataFrame, spec: ScoringSpec, outcomes: OutcomeColumns
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Value each metric over all tiers at once; say why where it has none."""
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for key, metric in all_metrics().items():
        if metric.count or key in ("share_by_tier", "median_days_to_activate_by_tier"):
            continue
        name = key.replace("_by_former_tier", "").replace("_by_tier", "")
        reason = outcomes.missing_reason(metric.needs)
        value = None
        if reason is None:
            value = sums.select(metric.expression(Sums(spec.tier_names))).item()
        values[name] = value
        if value is None:
            reasons[name] = reason or metric.null_when
    return values, reasons
