"""Checks of a table: against contract and spec before a search, and for drift after it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import polars as pl

from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.autospec.leakage import Grade, Leak
from gtmar.data.contract import as_of_date, check_contract, id_column
from gtmar.data.encode import categories_of, category, cell_of, rule_holds
from gtmar.data.matrix import check_reach, load_accounts, part
from gtmar.data.outcomes import ACTIVATION_STATES, Movement, OutcomeColumns
from gtmar.data.prepare import prepared
from gtmar.data.scan import AccountTable, collect, scan
from gtmar.data.split import look_alikes
from gtmar.engine.equal_sizes import with_edges
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import AccountDataError, JournalError, UsageError
from gtmar.journal.files import RunFiles
from gtmar.metrics.metric import Sums
from gtmar.metrics.registry import all_metrics
from gtmar.objective.objective import Judge
from gtmar.plain_data import PlainData, percent, some
from gtmar.runs.holdout import read_both, searched_note, without_holdout
from gtmar.runs.inputs import ReadOptions, load, refuse_unknown_options
from gtmar.runs.results import copies_finding, leaks_of, limit_findings, order_findings
from gtmar.runs.score import scored, write_rows_aside
from gtmar.runs.session import knows_outcomes, open_run
from gtmar.spec.encoders import DaysBeforeEncoder, TableEncoder
from gtmar.spec.ids import fitted_features
from gtmar.validation.gates import smallest_gain
from gtmar.validation.intervals import Uncertainty, panel_of, uncertainty, upside_down
from gtmar.validation.psi import Shift, ShiftReading, shift_of_categories, shift_of_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.data.rules import SetAside
    from gtmar.data.scan import Tabular
    from gtmar.runs.inputs import TableOptions
    from gtmar.spec.model import Feature, Reading, ScoringSpec
    from gtmar.stats.interval import Interval
    from gtmar.validation.psi import Shift

__all__ = ["Checkup", "Drift", "check", "drift", "shifts_between"]


@dataclass(frozen=True)
class Checkup(PlainData):
    """What a check found. Counts are of all accounts, metrics of the search part."""

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
    #: The smallest gain of the objective that the accounts held out would prove with a probability
    #: of 0.8; of all accounts if none are held out. None where there is no interval.
    smallest_gain: float | None
    #: Value of each of the 13 metrics over all tiers; None where it has none.
    metrics: dict[str, float | None]
    #: Why a metric has no value, by metric.
    reasons: dict[str, str]
    notes: tuple[str, ...]
    outcomes_fingerprint: str
    features_fingerprint: str
    #: Leakage found in columns that the features read; if features were detected, in all columns.
    leaks: tuple[Leak, ...]
    #: Columns that leak the outcome, and that a feature reads.
    leaking: tuple[str, ...]
    #: Shift of each feature and of the score between search part and holdout.
    drift: tuple[Shift, ...]
    #: Accounts that are copies of another one, under another id.
    repeated: int = 0
    #: Rows and dates of a table of several dates, whose `cohorts` count rows. None, and no dates,
    #: for a table of one date.
    rows: int | None = None
    dates: tuple[str, ...] = ()


def check(
    data: Tabular,
    spec: ScoringSpec | str | Path | None = None,
    *,
    metric: str | None = None,
    keep: Collection[str] = (),
    reading: Reading | None = None,
    journal: str | Path = "journal",
    **table_options: Unpack[TableOptions],
) -> Checkup:
    """Check a table against the data contract, and describe what a search could work with.

    Parameters and errors are those of `gtmar.check`. `reading` is only for detected features: a
    spec says itself how cells of text are read.
    """
    table = scan(data)
    detected, date_format = None, table_options.get("date_format")
    if spec is None:
        share = table_options.get("set_aside")
        detected = first_spec(
            table, keep=keep, reading=reading, date_format=date_format, set_aside=share
        )
        spec = detected.spec
    elif reading is not None:
        raise UsageError(
            "a spec says itself how cells are read",
            hint="read: {nulls: [TBD], columns: {mrr: money}} in the spec",
        )
    spec = specs.reading_dates(spec, date_format)
    judge = Judge.of(spec, metric)
    accounts, aside = load(table, spec, **table_options)
    checked, search, holdout = accounts.checked, accounts.search, accounts.holdout
    spec = with_edges(spec, search)
    sums = LocalEvaluator(search, spec).frame([spec.vector])
    values, reasons = _overall(sums, spec, checked.outcomes)
    value = gain = None
    if judge.name not in judge.lacking(checked.outcomes):
        value = judge.values(sums)[0]
        gain = smallest_gain(search, spec, judge, accounts=(holdout or search).distinct)
    leaks = detected.leaks if detected else leaks_of(accounts, spec)
    leaks = tuple(leak for leak in leaks if leak.column not in keep)
    findings = [
        *copies_finding(accounts),
        *order_findings(values.get("auc_roc_retain"), spec),
        *limit_findings(judge, spec, search, sums),
    ]
    used = set(spec.columns)
    return Checkup(
        source=table.source,
        model=spec.model,
        detected=detected is not None,
        accounts=checked.accounts,
        dropped=checked.dropped,
        set_aside=checked.set_aside.counts,
        search_accounts=search.distinct,
        holdout_accounts=holdout.distinct if holdout else 0,
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
            *_recipe_note(accounts.table),
            *(detected.notes if detected else ()),
            *(finding.text for finding in findings),
            *aside[1:],
            *look_alikes(accounts.table, checked.id_column),
            *_made_on_note(accounts, spec, Path(journal)),
            *_in_sample_note(accounts, spec, Path(journal)),
        ),
        outcomes_fingerprint=accounts.outcomes_fingerprint,
        features_fingerprint=accounts.features_fingerprint,
        leaks=leaks,
        leaking=tuple(k.column for k in leaks if k.grade is Grade.ERROR and k.column in used),
        drift=_drift(accounts, spec, table_options.get("as_of")),
        repeated=accounts.copies.repeated if accounts.copies else 0,
        rows=checked.rows if search.dates else None,
        dates=tuple(map(str, search.dates)),
    )


def _drift(accounts: Accounts, spec: ScoringSpec, as_of: str | None) -> tuple[Shift, ...]:
    """Return the shifts between search part and holdout, of features and score."""
    if accounts.holdout is None or not accounts.holdout.accounts:
        return ()
    table, ids, copies = accounts.table, accounts.checked.id_column, accounts.copies
    search, held = (part(table, ids, spec.split, held=h, copies=copies) for h in (False, True))
    return shifts_between(search, held, spec, as_of=(as_of, as_of))[0]


def _recipe_note(table: AccountTable) -> list[str]:
    """Word which recipe of gtmar snapshot made a table, with which conventions, of what."""
    if "recipe" not in table.origin:
        return []
    notes = [
        f"The table was made by recipe {table.origin['recipe']}, with the conventions "
        f"{table.origin.get('recipe_conventions', 'unknown')}."
    ]
    if sources := _made_of(table.origin.get("recipe_sources", "")):
        notes.append(f"It was made of {'; '.join(sources)}.")
    return notes


def _made_of(text: str) -> list[str]:
    """Word the sources of a recipe, as a snapshot has them in its metadata."""
    try:
        sources = json.loads(text)
        return [_source_words(name, source) for name, source in sources.items()]
    except (ValueError, TypeError, AttributeError, KeyError):
        # Metadata of another form, as another tool may have written it.
        return []


def _source_words(name: str, source: dict[str, Any]) -> str:
    words = f"{name}, {source['rows']:,} rows of {source['data']}"
    if "sha256" in source:
        many = "" if source["files"] == 1 else f"{source['files']:,} files, "
        return f"{words} ({many}{source['bytes']:,} bytes, sha256 {source['sha256'][:12]})"
    if "version" in source:
        return f"{words} ({source['kind']} version {source['version']})"
    if "read_at" in source:
        return f"{words} (read {source['read_at']})"
    return f"{words} (of no version known)"


def _made_on_note(accounts: Accounts, spec: ScoringSpec, journal: Path) -> list[str]:
    """Word that a spec was made on another table, if its run is in the journal."""
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


def _in_sample_note(accounts: Accounts, spec: ScoringSpec, journal: Path) -> list[str]:
    """Word that the start's values may be in-sample, as encoders were fitted to outcomes."""
    count = len(fitted_features(spec))
    if not count or not knows_outcomes(spec, journal, accounts.outcomes_fingerprint):
        return []
    return [
        f"gtmar init fitted the encoders of {some(count, 'feature')} to outcomes: if it saw these "
        "accounts, the start's values above are in-sample. A run shows the start on those held out."
    ]


def _cohorts(parts: list[AccountMatrix]) -> dict[str, int]:
    """Count the rows of each cohort, in all parts together."""

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
    """Return each metric's value over all tiers, and for those without one the reason."""
    shown = {
        key.replace("_by_former_tier", "").replace("_by_tier", ""): metric
        for key, metric in all_metrics().items()
        if not metric.count and key not in ("share_by_tier", "median_days_to_activate_by_tier")
    }
    lacking = {name: outcomes.missing_reason(metric.needs) for name, metric in shown.items()}
    measured = sums.select(
        metric.expression(Sums(spec.tier_names)).alias(name)
        for name, metric in shown.items()
        if lacking[name] is None
    ).row(0, named=True)
    values = {name: measured.get(name) for name in shown}
    reasons = {
        name: lacking[name] or metric.null_when
        for name, metric in shown.items()
        if values[name] is None
    }
    return values, reasons


@dataclass(frozen=True)
class Drift(PlainData):
    """How features and score are distributed in a table, compared with a reference table."""

    _beside = ("leaving_sentence", "upside_down", "ranking_sentence")

    model: str
    #: The reference, the table that is compared with it, and the accounts of each.
    against: str
    source: str
    accounts_before: int
    accounts: int
    #: Features in the spec's order, then the score under the name `score`.
    shifts: tuple[Shift, ...]
    #: Share of accounts that left where the spec's probabilities were fitted, and mean probability
    #: of leaving of the table's accounts; None for a spec without probabilities.
    leaving: tuple[float, float] | None = None
    #: AUC of the score over the table's accounts with an outcome; None if the table has no outcomes
    #: that keep the data contract.
    auc: Interval | None = None
    #: Number of dates of the reference, and of the table.
    dates_before: int = 1
    dates: int = 1
    #: A sentence if a run searched accounts of the table for the spec's weights; None if no such
    #: run is known.
    searched: str | None = None

    @property
    def upside_down(self) -> str | None:
        """A sentence if the score ranks worse than a coin, beyond chance; else None."""
        if self.auc is None:
            return None
        known = Uncertainty({"auc_roc_retain": self.auc}, {}, {})
        return upside_down(known, (f"score {self.model}", ""), rows=self.dates > 1)

    @property
    def ranking_sentence(self) -> str:
        """How well the score ranks the accounts with an outcome, in a sentence."""
        auc = self.auc
        if auc is None or auc.value is None:
            return (
                "Whether the score still tells who leaves isn't known from this table: gtmar "
                "backtest says so once outcomes are there."
            )
        between = ""
        if auc.low is not None and auc.high is not None:
            between = f", from {percent(auc.low, unit='')} to {percent(auc.high, unit='')}"
        whose = "account of {:,}" if self.dates == 1 else "row of {:,} accounts"
        return (
            f"Of 100 pairs of a kept and a lost {whose.format(auc.accounts)} with an outcome it "
            f"ranks {percent(auc.value, unit='')} right{between}."
        )

    @property
    def leaving_sentence(self) -> str | None:
        """How many would leave by the spec's probabilities, in a sentence; None without any."""
        if self.leaving is None:
            return None
        then, now = self.leaving
        these = "accounts" if self.dates == 1 else "rows"
        return (
            f"By the spec's probabilities {percent(now, 1)} of these {these} leave; "
            f"{percent(then, 1)} left where they were fitted. Once outcomes are "
            "known, gtmar backtest says whether they hold."
        )

    @property
    def moved(self) -> tuple[Shift, ...]:
        """Features, and the score, with a stability index of 0.25 or more, beyond chance."""
        return tuple(each for each in self.shifts if each.reading is ShiftReading.LARGE)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return super().as_json() | {
            "shifts": [each.as_json() for each in self.shifts],
            "moved": [each.name for each in self.moved],
        }


def drift(
    data: Tabular,
    spec: ScoringSpec | str | Path,
    *,
    against: Tabular | None = None,
    journal: str | Path = "journal",
    against_as_of: str | None = None,
    announce: Callable[[str], None] | None = None,
    **options: Unpack[ReadOptions],
) -> Drift:
    """Compare a table with the one that a spec was made on. Outcomes aren't needed.

    If the table has outcomes, they show whether the score still ranks accounts: columns can be
    distributed as before and yet mean the opposite.

    Parameters
    ----------
    data, spec
        The table of today, and the scoring spec or its file.
    against
        The reference. None for the table of the run that the spec came from, which must still be
        as it was.
    journal
        The journal's folder, where that run is.
    against_as_of
        ISO date that `days_before` counts from in the reference. If only one of the two tables has
        such a date, it is used for both.
    announce, options
        As for `run`, for both tables; `announce` is called with sentences about rows set aside.

    Raises
    ------
    UsageError
        If there is no reference: none was given, and the spec has no lineage.
    RunNotFoundError
        If the spec's run isn't in the journal.
    NotResumableError
        If the run's table is no longer what it was.
    ViolationsError
        If either table doesn't fit the spec; with all that is wrong in both.
    """
    refuse_unknown_options(options, ReadOptions)
    spec = specs.reading_dates(spec, options.get("date_format"))
    as_of = options.get("as_of")
    before_as_of = against_as_of or as_of
    if against is not None:
        reference = scan(against)
    elif spec.lineage is None:
        raise UsageError(
            f'spec "{spec.model}" has no lineage, so nothing says what table it was made on',
            hint="--against OLD_TABLE names it",
        )
    else:
        session = open_run(spec.lineage.run, journal, untouched=False)
        reference, before_as_of = session.accounts.table, before_as_of or session.plan.as_of
    table = scan(data)
    shifts, accounts, leaving, sides = shifts_between(
        reference,
        table,
        spec,
        as_of=(before_as_of, as_of or against_as_of),
        set_aside=options.get("set_aside"),
    )
    for sentence in write_rows_aside(sides, options.get("set_aside_to")):
        if announce is not None:
            announce(sentence)
    auc = _auc(table, spec, as_of=as_of or against_as_of, set_aside=options.get("set_aside"))
    before, now = (1 if x.several is None else len(x.several.days) for x in (reference, table))
    named = (spec.model, reference.source, table.source)
    known = auc is not None and auc.value is not None
    searched = searched_note(table, (spec,), journal, as_of or against_as_of) if known else None
    return Drift(*named, *accounts, shifts, leaving, auc, before, now, searched)


def _auc(
    table: AccountTable, spec: ScoringSpec, *, as_of: str | None, set_aside: float | None
) -> Interval | None:
    """Return a score's AUC on a table, with its interval; None without usable outcomes."""
    options: dict[str, Any] = {"as_of": as_of, "set_aside": set_aside, "drop_unlabelled": True}
    try:
        if not OutcomeColumns.matching(spec.outcomes, table.columns).labelled:
            return None
        matrix = load_accounts(table, without_holdout(spec), **options).search
    except AccountDataError:
        # The outcomes break the contract; if features did, computing the shifts raised an error.
        return None
    spec = with_edges(spec, matrix)
    panel = panel_of(matrix, spec, spec.vector)
    return uncertainty(panel, metrics={"auc_roc_retain"}).before.get("auc_roc_retain")


def shifts_between(
    reference: AccountTable,
    now: AccountTable,
    spec: ScoringSpec,
    *,
    as_of: tuple[str | None, str | None] = (None, None),
    set_aside: float | None = None,
) -> tuple[tuple[Shift, ...], tuple[int, int], tuple[float, float] | None, list[SetAside]]:
    """Compare the distributions of features and score in two tables.

    Parameters
    ----------
    reference, now, spec
        The two tables, and the spec whose features are compared.
    as_of
        ISO dates that `days_before` counts from in either table.
    set_aside
        As for `score`, for either table.

    Returns
    -------
    tuple
        The shifts, features in the spec's order and `score` last; both numbers of accounts;
        `Drift.leaving`; and the rows set aside of either table.

    Notes
    -----
    The columns that the spec reads are held in memory, of both tables.
    """
    (before, one, left), (after, two, right) = read_both(
        lambda: _values_and_score(reference, spec, as_of[0], set_aside),
        lambda: _values_and_score(now, spec, as_of[1], set_aside),
    )
    shifts = []
    accounts = {"accounts": (one, two)} if (one, two) != (before.height, after.height) else {}
    for name in before.columns:
        if name == _PROBABILITY:
            continue
        shown = "score" if name == _SCORE else name
        old, new = before[name], after[name]
        if old.dtype.is_numeric():
            shifts.append(shift_of_numbers(shown, old.to_numpy(), new.to_numpy(), **accounts))
        else:
            shifts.append(shift_of_categories(shown, old.to_list(), new.to_list(), **accounts))
    calibration, leaving = specs.calibration_of(spec), None
    if calibration is not None and after.height:
        leaving = calibration.base_rate, float(after[_PROBABILITY].to_numpy().mean())
    return tuple(shifts), (one, two), leaving, [left, right]


#: Columns for the score and its probability; no feature has such a name.
_SCORE, _PROBABILITY = "\x00score", "\x00probability"


def _values_and_score(
    table: AccountTable, spec: ScoringSpec, as_of: str | None, set_aside: float | None
) -> tuple[pl.DataFrame, int, SetAside]:
    """Return a frame with a column for each feature, and one for the score.

    Values are numbers or texts, as the feature's encoder reads them. The number of accounts, and
    the rows that were set aside, are returned, too.
    """
    table = prepared(table, spec, outcomes=False)
    read: set[str | None] = set(spec.columns)
    read |= {spec.as_of, id_column(spec, table.columns)}
    read |= {*spec.required_columns, *spec.read.columns}
    read |= set() if table.dates is None else {table.dates.column}
    # Collected once: a part of a table is drawn anew each time it is computed.
    held = collect(table, table.frame.select(name for name in table.columns if name in read))
    table = replace(table, frame=held.lazy())
    checked = check_contract(table, spec, as_of=as_of, outcomes=False, set_aside=set_aside)
    table = checked.table
    day = as_of_date(spec, table.schema, as_of, table.dates)
    values = [
        _value(name, feature, table.schema, day).alias(name)
        for name, feature in spec.features.items()
    ]
    frame = collect(table, table.frame.select(values))
    check_reach(spec, checked.ranges)
    result = scored(table, spec, None, as_of=as_of)
    own = {_SCORE: "score", _PROBABILITY: "probability"}
    there = {name: column for name, column in own.items() if column in result.columns}
    own_columns = [result[column].alias(name) for name, column in there.items()]
    return frame.with_columns(own_columns), checked.accounts, checked.set_aside


def _value(name: str, feature: Feature, schema: pl.Schema, day: pl.Expr | None) -> pl.Expr:
    """Return a feature's value before any encoding; dates as days before the table's own day."""
    if (rule := feature.parsed_rule) is not None:
        return rule_holds(rule, schema).cast(pl.Float64)
    if isinstance(feature.encode, TableEncoder):
        return cell_of(feature.encode, schema)
    [column], listed = feature.reads(name), categories_of(feature.encode)
    if listed is not None:
        return category(column, schema[column], listed)
    if isinstance(feature.encode, DaysBeforeEncoder) and day is not None:
        return (day - pl.col(column)).dt.total_days().cast(pl.Float64)
    return pl.col(column).cast(pl.Float64)
