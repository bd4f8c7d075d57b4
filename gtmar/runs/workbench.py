"""A table and a spec kept in memory, to change weights by hand and see the effect at once.

The page of `gtmar desk` and notebooks use the same class. It measures as `gtmar try` does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from gtmar import spec as specs
from gtmar.data.contract import id_column
from gtmar.data.scan import AccountTable, Tabular, collect, scan
from gtmar.engine.equal_sizes import with_edges
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.engine.local import LocalEvaluator
from gtmar.errors import AccountDataError, SpecError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.front import Front, front
from gtmar.journal.lookup import WeightTrials, checkout, weight_trials
from gtmar.objective.objective import Judge, expected
from gtmar.optimize.search_loop import Limits
from gtmar.plain_data import PlainData
from gtmar.runs.explain import Explanation, explained, row_of
from gtmar.runs.holdout import journal_if_there, shared_account_notes
from gtmar.runs.holdout_look import HoldoutLook, Looks, look_at_holdout, looks_so_far
from gtmar.runs.inputs import HoldoutOptions, file_stamps, load, newest_date
from gtmar.runs.journaled_search import Search
from gtmar.runs.plan import (
    Plan,
    constraints_of,
    refuse_unfit,
    search_space_of,
    vector_of,
    with_locked_weights,
)
from gtmar.runs.promote import WentLive, promote
from gtmar.runs.run import (
    changed_weights,
    measure_change,
    recall_memory,
    refuse_out_of_range,
    run_and_journal,
    spec_as_asked,
)
from gtmar.runs.score import scored
from gtmar.runs.watch import live_history
from gtmar.runs.weight_change import Incumbent
from gtmar.spec.ids import form_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from gtmar.data.matrix import Accounts
    from gtmar.runs.results import Progress, RunResult
    from gtmar.runs.weight_change import MeasuredDetails, MeasuredWeights
    from gtmar.spec.model import ScoringSpec

__all__ = ["FrontPoint", "TradeFront", "WeightLine", "Workbench", "trade_front"]


@dataclass(frozen=True)
class FrontPoint(PlainData):
    """One of the best compromises in the journal over this table, with its weights."""

    #: ``RUN/EXP``.
    experiment: str
    #: Values of the objective and of the other metric.
    value: float
    metric_value: float
    outcome: str
    weights: dict[str, int]
    #: Why its weights can't be taken over by the workbench's spec; None if they can.
    refusal: str | None


@dataclass(frozen=True)
class TradeFront(PlainData):
    """The best compromises of the objective and another metric, the best objective first."""

    front: Front
    points: tuple[FrontPoint, ...]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        points = [point.as_json() for point in self.points]
        return {**self.front.as_json(), "points": points}


def trade_front(
    journal: Journal,
    outcomes_fingerprint: str,
    spec: ScoringSpec,
    objective: str,
    *,
    by: str | None = None,
) -> TradeFront | None:
    """Return the best compromises of all runs over a table; None if there is no such run.

    Parameters
    ----------
    journal, outcomes_fingerprint
        The journal, and the fingerprint of the table's ids, outcomes and split.
    spec, objective
        The spec, whose tiers the runs must have, and the objective's name.
    by
        The other metric, as for `journal.front.front`, whose errors are raised.
    """
    runs = journal.query(
        "select run_id from runs where outcomes_fingerprint = getvariable('outcomes') "
        "and objective = getvariable('objective') and tiers_id = getvariable('tiers') "
        "and evaluator_version = getvariable('version') "
        "order by kind = 'search' desc, started_at desc limit 1",
        columns=(),
        outcomes=outcomes_fingerprint,
        objective=objective,
        tiers=specs.tiers_id(spec),
        version=EVALUATOR_VERSION,
    )
    if runs.is_empty():
        return None
    compromises = front(journal, runs["run_id"].item(), by=by, whole_table=True)
    named = [point["experiment"] for point in compromises.points]
    rows = journal.query(
        "select experiments.run_id || '/' || experiment_id as experiment, weights, spec "
        "from experiments join runs on runs.run_id = experiments.run_id "
        "where list_contains(getvariable('named'), runs.run_id || '/' || experiment_id)",
        among=sorted({name.partition("/")[0] for name in named}),
        columns=("run_id", "experiment_id", "weights"),
        named=named,
    ).rows_by_key("experiment", named=True, unique=True)
    points = []
    for point in compromises.points:
        row = rows[point["experiment"]]
        own = {n: point[n] for n in ("experiment", "value", "metric_value", "outcome")}
        weights = dict(row["weights"])
        points.append(FrontPoint(**own, weights=weights, refusal=_refusal(spec, row, weights)))
    return TradeFront(compromises, tuple(points))


def _refusal(spec: ScoringSpec, row: Mapping[str, Any], weights: dict[str, int]) -> str | None:
    """Word why a spec can't take the weights of an experiment over; None if it can."""
    try:
        if row["spec"] is None or form_id(specs.parse(row["spec"])) != form_id(spec):
            return "it has other features, encoders or tiers"
        vector_of(spec, weights)
    except SpecError as err:
        return err.message
    return None


#: From so many accounts on, machine code is used; below, numpy is fast enough.
_COMPILED_FROM = 100_000
#: Candidates that a person measures in an hour, about.
_EXPECTED = 10_000


#: Seconds between two checks whether the table's files have changed.
_CHECK_SECONDS = 0.5
#: Most accounts whose row is cached.
_MOST_KEPT = 50


@dataclass(frozen=True)
class WeightLine(PlainData):
    """One weight of the incumbent, and its limits."""

    name: str
    feature: str
    #: The feature's group, whose points are summed and capped together; None for none.
    group: str | None
    weight: int
    min: int
    max: int
    #: What earns its points, ``lower open_tickets``; None if the column's own numbers do, or the
    #: weight's name says it.
    earned_by: str | None
    description: str | None
    #: Whether its bounds allow only one value.
    fixed: bool
    #: Names of the weights that it may not be below, or above, since points are in order.
    at_least: str | None = None
    at_most: str | None = None
    step: int = 1


class Workbench:
    """A table and a spec, loaded once; other weights are compared with the spec's own.

    Made by `open`. Its methods may be called by several threads.
    """

    def __init__(
        self,
        accounts: Accounts,
        search: Search,
        *,
        journal: Path,
        seed: int,
        sources: tuple[Tabular | None, ...],
        stamps: dict[str, tuple[int, int]],
    ) -> None:
        #: The incumbent, with the tier edges that its rule gives on the accounts searched.
        self.spec = search.spec
        self.accounts, self.journal = accounts, journal
        self._search, self._judge, self._seed = search, search.judge, seed
        self._incumbent = Incumbent(search, accounts.ids)
        self._sources, self._stamps = sources, stamps
        self._changed, self._checked_at = False, time.monotonic()
        self._kept_rows: dict[str, AccountTable] = {}

    @classmethod
    def open(
        cls,
        data: Tabular,
        spec: ScoringSpec | str | Path | None = None,
        *,
        journal: str | Path = "journal",
        model: str | None = None,
        metric: str | None = None,
        holdout: float | None = None,
        seed: int = 0,
        announce: Callable[[str], None] | None = None,
        **table_options: Unpack[HoldoutOptions],
    ) -> Self:
        """Load a table once and keep it; parameters and errors are those of `gtmar.workbench`."""
        refuse_out_of_range(Limits(), seed=seed, holdout=holdout)
        if spec is None:
            spec = _live_spec(Path(journal), model)
        spec_file = spec if isinstance(spec, str | Path) else None
        spec = spec_as_asked(spec, table_options, holdout)
        judge = Judge.of(spec, metric)
        sources = (data, table_options.get("holdout_file"))
        stamps = file_stamps(*sources)
        accounts, aside = load(
            scan(data), spec, spec_file=spec_file, keep_ids=True, **table_options
        )
        for sentence in (*aside, *shared_account_notes(accounts)):
            if announce is not None:
                announce(sentence)
        edged = with_edges(spec, accounts.search)
        compiled = None if accounts.search.accounts >= _COMPILED_FROM else False
        evaluator = LocalEvaluator(
            accounts.search, edged, compiled=compiled, expected=_EXPECTED, by_rule=True
        )
        plan = Plan(
            kind="human",
            as_of=table_options.get("as_of"),
            holdout_as_of=table_options.get("holdout_as_of"),
        )
        search = Search(accounts, spec, judge, plan, evaluator=evaluator)
        return cls(
            accounts, search, journal=Path(journal), seed=seed, sources=sources, stamps=stamps
        )

    @property
    def lines(self) -> tuple[WeightLine, ...]:
        """All weights of the incumbent, in the spec's order."""
        spec = self.spec
        groups = {f: name for name, each in spec.groups.items() for f in each.features}
        earned = {name: each.what for name, each in spec.earnings.items()}
        names = [term.name for term in spec.terms]
        below: dict[str, str] = {}
        above: dict[str, str] = {}
        for ordered in spec.ordered_terms:
            for one, two in pairwise(ordered):
                below[names[two]], above[names[one]] = names[one], names[two]
        return tuple(
            WeightLine(
                name=term.name,
                feature=term.feature,
                group=groups.get(term.feature),
                weight=term.weight,
                min=term.min,
                max=term.max,
                earned_by=earned.get(term.name),
                description=spec.features[term.feature].description,
                fixed=term.fixed,
                at_least=below.get(term.name),
                at_most=above.get(term.name),
            )
            for term in spec.terms
        )

    def measure(self, weights: Mapping[str, int]) -> MeasuredWeights:
        """Measure weights on the accounts searched: the quick numbers.

        Parameters
        ----------
        weights
            New weight by name; those that aren't named keep the incumbent's.

        Raises
        ------
        SpecError
            If a name is no weight, or the weights break bounds or what they must hold together.
        """
        return self._incumbent.measure(self._vector(weights), changed=self.changed)

    def details(
        self, weights: Mapping[str, int], *, stale: Callable[[], bool] | None = None
    ) -> MeasuredDetails | None:
        """Measure the slower details: equal tier sizes, moved accounts, probabilities, segments.

        `stale` is called between the parts; if it returns True, None is returned. Otherwise
        parameters and errors are those of `measure`.
        """
        return self._incumbent.details(self._vector(weights), stale=stale)

    def follow(self, weights: Mapping[str, int], changes: Mapping[str, int]) -> dict[str, int]:
        """Return all weights after changes, others being adjusted to keep the constraints.

        As in a search, bins out of order follow, and a fixed total is kept by changing others.
        `weights` are those before, `changes` the new ones, both by name. If the constraints can't
        be kept, nothing changes.

        Raises
        ------
        SpecError
            As `measure` does, of `weights`; and if a change is outside its bounds.
        """
        before, terms = self._vector(weights), self.spec.terms
        numbers = {term.name: number for number, term in enumerate(terms)}
        refuse_unfit(self.spec, changes)
        wanted = {numbers[name]: weight for name, weight in changes.items()}
        kept = constraints_of(self.spec).kept(before, wanted, search_space_of(self.spec), first=0)
        return {term.name: kept.get(i, before[i]) for i, term in enumerate(terms)}

    def spec_with(self, weights: Mapping[str, int]) -> ScoringSpec:
        """Return the incumbent with other weights, tier edges by its rule; errors of `measure`."""
        return self._incumbent.edged(self._vector(weights))

    def account(self, account: str, weights: Mapping[str, int]) -> Explanation:
        """Explain one account's score, by these weights and by the incumbent's.

        Its `other_points` are the incumbent's, and `up` is empty. Accounts held out can be
        explained, too, since no outcome is read.

        Raises
        ------
        AccountDataError
            If there is no such account, or the table's files have changed.
        """
        spec = self.spec_with(weights)
        row = self._kept_rows.get(account) or self._row_of(account)
        sides = [
            scored(row, each, None, as_of=self._search.plan.as_of).row(0, named=True)
            for each in (spec, self.spec)
        ]
        return explained(account, row, 0, spec, sides[0], self.spec, sides[1])

    def tried(self, weight: str) -> WeightTrials:
        """Return the experiments of the journal that moved a weight, and how they ended."""
        refuse_unfit(self.spec, {weight: self.spec.weights.get(weight, 0)})
        with journal_if_there(self.journal) as opened:
            if opened is None:
                return WeightTrials(weight, {}, ())
            return weight_trials(
                opened,
                weight,
                model=self.spec.model,
                outcomes_fingerprint=self.accounts.outcomes_fingerprint,
            )

    def front(self, by: str | None = None) -> TradeFront | None:
        """Return the best compromises of all runs over this table; None if there is no run yet.

        Parameters
        ----------
        by
            The other metric, as for `journal.front.front`.

        Raises
        ------
        UsageError
            If there is no such metric, or no direction of it is better.
        """
        with journal_if_there(self.journal) as opened:
            if opened is None:
                return None
            table, objective = self.accounts.outcomes_fingerprint, self._judge.name
            return trade_front(opened, table, self.spec, objective, by=by)

    def looks(self, weights: Mapping[str, int]) -> Looks:
        """Return how often the holdout was looked at so far; errors are those of `look`."""
        return looks_so_far(*self._compared(weights), self.journal)

    def look(
        self, weights: Mapping[str, int], *, author: str | None = None, note: str | None = None
    ) -> HoldoutLook:
        """Measure weights on the accounts held out, a look that the journal counts.

        Raises
        ------
        UsageError
            If no account is held out, a search that chose the incumbent's weights saw some, or the
            weights are the incumbent's.
        AccountDataError
            If the table's files have changed.
        SpecError
            As for `measure`.
        """
        compared = self._compared(weights)
        self._refuse_changed()
        plan = self._search.plan
        return look_at_holdout(
            *compared,
            self.journal,
            as_of=plan.holdout_as_of or plan.as_of,
            author=author,
            note=note,
        )

    def record(
        self,
        weights: Mapping[str, int],
        *,
        note: str,
        author: str | None = None,
        expect: str | None = None,
    ) -> RunResult:
        """Journal weights as `gtmar try` does, kept or not; if kept, that is a look at the holdout.

        Parameters
        ----------
        weights
            As for `measure`.
        note, author
            Why, and by whom.
        expect
            What should come of it, which `promote` takes over.

        Raises
        ------
        UsageError
            If no weight differs, there is no note, or the expectation names no metric.
        AccountDataError
            If the table's files have changed.
        JournalError
            If the journal can't be written.
        """
        self._vector(weights)
        after = changed_weights(self.spec, weights)
        if not note.strip():
            raise UsageError("a change that is put on record needs a reason", hint="--note WHY")
        if expect is not None:
            expected(expect, self.spec.tier_names)
        self._refuse_changed()
        plan = replace(
            self._search.plan,
            author=author,
            note=note,
            expect=expect,
            findings=self._search.findings,
        )
        return measure_change(
            self.accounts, self.spec, after, self._judge, plan, journal=self.journal
        )

    def promote(
        self,
        experiment: str,
        *,
        note: str,
        author: str | None = None,
        expect: str | None = None,
    ) -> WentLive:
        """Record that an experiment goes live, as `gtmar promote` does.

        Parameters
        ----------
        experiment
            ``RUN/EXP``, or a run for its best.
        note, author
            Why, and by whom.
        expect
            What should come of it; None takes what was expected when it was recorded.

        Notes
        -----
        Weights that were locked for a search get the incumbent's bounds back.

        Raises
        ------
        RunNotFoundError
            If there is no such experiment.
        UsageError
            As of `runs.promote`.
        """
        with Journal(self.journal) as opened:
            spec = checkout(opened, experiment)
        if form_id(spec) == form_id(self.spec):
            features = specs.reweighed(self.spec, spec.weights).features
            spec = spec.model_copy(update={"features": features})
        if expect is None and spec.lineage is not None:
            start = RunFiles(self.journal, spec.lineage.run).record("start")
            expect = dict(start["parameters"]).get("expect")
        return promote(spec, note=note, author=author, expect=expect, journal=self.journal)

    def search(
        self,
        weights: Mapping[str, int],
        *,
        locked: Collection[str] = (),
        limits: Limits | None = None,
        author: str | None = None,
        note: str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> RunResult:
        """Search from these weights on, some of them locked; a run like any other.

        When it ends, it looks at the holdout once, as every search does.

        Parameters
        ----------
        weights, locked
            Where it starts, as for `measure`; and names of weights that stay.
        limits
            When to stop; None for 2,000 experiments.
        author, note
            Who asked for it, and why.
        on_progress, stop
            Called after every batch with the best weights so far; and asked between two batches
            whether to end, where what was found by then is kept.

        Raises
        ------
        SpecError, AccountDataError
            As of `measure`, and if no weight is left to move; if the table's files have changed.
        """
        start = dict(zip(self._search.names, self._vector(weights), strict=True))
        spec = with_locked_weights(specs.reweighed(self.spec, start), locked)
        if all(term.fixed for term in spec.terms):
            raise SpecError("no weight is left to move: all are locked or have one value")
        self._refuse_changed()
        judge = Judge.of(spec, self._judge.name)
        plan = replace(
            self._search.plan,
            kind="search",
            seed=self._seed,
            limits=limits or Limits(),
            memory=recall_memory(self.journal, self.accounts, spec, judge),
            author=author,
            note=note,
        )
        return run_and_journal(
            Search(self.accounts, spec, judge, plan, watch=on_progress, stop=stop), self.journal
        )

    # ---- helpers -----------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether the table's files changed since they were read; asked twice a second at most."""
        if not self._changed and time.monotonic() - self._checked_at > _CHECK_SECONDS:
            self._check_files()
        return self._changed

    def _check_files(self) -> None:
        try:
            self._changed = file_stamps(*self._sources) != self._stamps
        except OSError:
            # A file was deleted in between.
            self._changed = True
        self._checked_at = time.monotonic()

    def _refuse_changed(self) -> None:
        self._check_files()
        if self._changed:
            raise AccountDataError(
                f"{self.accounts.table.source} isn't what it was when it was read: what is "
                "measured here is of that, and nothing is put on record",
                hint="open it again",
            )

    def _vector(self, weights: Mapping[str, int]) -> tuple[int, ...]:
        return vector_of(self.spec, weights)

    def _compared(
        self, weights: Mapping[str, int]
    ) -> tuple[Accounts, ScoringSpec, ScoringSpec, Judge]:
        self._vector(weights)
        changed_weights(self.spec, weights)
        return self.accounts, self.spec, specs.reweighed(self.spec, weights), self._judge

    def _row_of(self, account: str) -> AccountTable:
        """Return a table with one account's row, on its newest date."""
        self._refuse_changed()
        table, spec = self._account_table, self.spec
        row = row_of(table, spec, account)
        frame = collect(table, table.frame.slice(row, 1))
        one_row = AccountTable(table.source, frame.lazy(), table.schema, dates=table.dates)
        if len(self._kept_rows) >= _MOST_KEPT:
            self._kept_rows.clear()
        self._kept_rows[account] = one_row
        return one_row

    @cached_property
    def _account_table(self) -> AccountTable:
        table = self.accounts.table
        return newest_date(table, id_column(self.spec, table.columns))[0].as_read


def _live_spec(journal: Path, model: str | None) -> ScoringSpec:
    try:
        return live_history(journal, model)[-1].spec
    except UsageError as err:
        raise UsageError(err.message, hint="--spec FILE names the one to start from") from err
