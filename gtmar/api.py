"""What `import gtmar` offers: the use cases of the command line, for Python and notebooks.

Nothing is printed; results have a view for notebooks. An argument of the wrong type is a
`UsageError`, before anything is read. A spec is given as a `Spec`, its file, a `Run`, which stands
for its best, or as ``RUN/EXP`` in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import polars as pl  # noqa: TC002 - annotations are read at run time

from gtmar import runs
from gtmar import spec as specs
from gtmar.arguments import checked
from gtmar.autospec.first_spec import FirstSpec, first_spec
from gtmar.data.other_frames import in_kind_of
from gtmar.data.scan import Source, Tabular, scan
from gtmar.documents import is_spec_file
from gtmar.errors import UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.front import Front
from gtmar.journal.front import front as compromises
from gtmar.journal.sentences import numbers
from gtmar.metrics.metric import basis_note
from gtmar.plain_data import html_sentence, html_table
from gtmar.runs import Difference as Diff
from gtmar.runs import RunResult
from gtmar.runs.workbench import Workbench
from gtmar.spec import Outcomes
from gtmar.spec import ScoringSpec as Spec
from gtmar.spec.model import Reading
from gtmar.validation.gates import Gates

if TYPE_CHECKING:
    from gtmar.report import Page

#: The public names of `gtmar`, which imports this module when one of them is first used.
__all__ = [
    "Diff",
    "Journal",
    "Run",
    "Source",
    "Spec",
    "Workbench",
    "account_list",
    "backtest",
    "check",
    "decide",
    "diff",
    "explain",
    "front",
    "init",
    "load_spec",
    "run",
    "score",
    "tiers",
    "try_weights",
    "walk",
    "watch",
    "workbench",
]


@dataclass(frozen=True, repr=False)
class Run:
    """A run that has ended, and its journal."""

    #: The result, as `runs.run` returns it.
    result: RunResult

    @property
    def id(self) -> str:
        """The run's id in the journal."""
        return self.result.run_id

    @property
    def best(self) -> Spec:
        """The best spec, with its lineage; the one that the run started from if nothing won."""
        return self.result.spec

    @property
    def journal(self) -> str:
        """The journal's folder."""
        return self.result.journal

    @property
    def warnings(self) -> list[str]:
        """Sentences of the errors and warnings that a check of table and start found."""
        return runs.warnings_of(self.result.findings)

    def experiments(self) -> pl.DataFrame:
        """Return all experiments, the baseline first: a row each, with all metrics.

        Raises
        ------
        JournalError
            If the journal has moved or can't be read.
        """
        with Journal(self.journal) as opened:
            return opened.query(
                "select * from experiments where run_id = getvariable('run') order by number",
                run=self.id,
            )

    def report(self, *, data: Tabular | None = None) -> Page:
        """Return the run's report, one HTML page, for you to write to a file.

        Parameters
        ----------
        data
            The run's table, if it was a frame or has moved since. Without it, sections that need
            the table are left out, and named in the page's `left_out`.

        Raises
        ------
        UsageError
            If ``gtmar[report]`` isn't installed.
        NotComparableError
            If `data` isn't the run's table.
        """
        from gtmar.report import run_page

        with Journal(self.journal) as opened:
            return run_page(opened, self.id, data=data)

    def front(
        self, by: str | None = None, *, whole_table: bool = False, blocked: bool = False
    ) -> Front:
        """Return the run's best compromises of the objective and another metric; see `front`."""
        return front(self, by=by, whole_table=whole_table, blocked=blocked)

    def _sentences(self) -> list[str]:
        """Return dates on which a gain holds, sentences for a lead, the gain, whether it paid."""
        moved = [numbers(self.result.row)] if self.result.improved else []
        asked = [] if self.result.search_pays is None else [self.result.search_pays.sentence]
        return [*self.result.dates_held, *self.result.sentences, *moved, *asked]

    def __repr__(self) -> str:
        return f"<Run {self.id}: {' '.join(self._sentences())}>"

    def _repr_html_(self) -> str:
        with Journal(self.journal) as opened:
            start = dict(
                opened.query(
                    "select weights from experiments where run_id = getvariable('run') "
                    "and number = 0",
                    run=self.id,
                )["weights"].item()
            )
        earned = self.best.earned_by
        rows = [
            (name, start[name], weight, weight - start[name], earned.get(name, ""))
            for name, weight in self.result.weights.items()
        ]
        heads = ("weight", "start", "best", "change", "earned by")
        weights = html_table(heads, rows, caption=f"Run {self.id}")
        sentences = [*self._sentences(), *self.warnings]
        sentences += [note for note in (basis_note(self.result.basis),) if note]
        return "".join(map(html_sentence, sentences)) + weights


#: All that a spec may be given as.
SpecLike: TypeAlias = Spec | Run | str | Path
#: A date, or its ISO text.
Day: TypeAlias = date | str
#: A function that is called with sentences for people, such as `print`.
Announce: TypeAlias = Callable[[str], Any]


def init(
    data: Tabular,
    *,
    outcomes: Mapping[str, str] | None = None,
    labels: Mapping[str, Mapping[str, int]] | None = None,
    identifier: str | None = None,
    date_format: str | None = None,
    set_aside: float | None = None,
    keep: Sequence[str] = (),
    holdout: float | None = None,
    bins: bool = False,
    monotone: bool = False,
    cuts: Mapping[str, Sequence[float]] | None = None,
    rules: int = 0,
    tiers: Mapping[str, float] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> FirstSpec:
    """Detect features and write a first spec, as data and as text to be edited.

    Parameters
    ----------
    data
        As for `run`.
    outcomes
        Column by outcome, if it has no usual name: ``{"retained": "renewed"}``.
    labels
        What each word of a label counts, by outcome: ``{"churned": {"Lapsed": 1}}``.
    identifier
        Column of account ids; None to detect it.
    date_format, set_aside
        As for `run`.
    keep
        Columns to take as features though they seem to leak the outcome.
    holdout
        Share of accounts held out, in [0, 1); None for 0.3.
    bins
        Whether numbers and categories become bins, each with a weight.
    monotone
        Whether points rise or fall all along a number, if outcomes don't contradict that.
    cuts
        Ascending cut points by column, for bins of your own.
    rules
        Most rules of two or three conditions to look for, in [0, 20].
    tiers
        Share of accounts by tier, from the highest scores down; None for four quarters.
    reading
        How cells of text are read, as `read` of a spec: ``{"columns": {"mrr": "money"}}``.

    Raises
    ------
    AccountDataError, UsageError
        If the table has no outcome, or an argument names a column that isn't there.
    """
    given = _given(init, locals())
    given["outcomes"] = specs.part_of(Outcomes, outcomes, whose="outcomes")
    given["reading"] = specs.part_of(Reading, reading, whose="reading")
    return first_spec(scan(given.pop("data")), **given)


def check(
    data: Tabular,
    spec: SpecLike | None = None,
    *,
    metric: str | None = None,
    keep: Sequence[str] = (),
    reading: Mapping[str, Any] | None = None,
    as_of: Day | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    journal: str | Path = "journal",
) -> runs.Checkup:
    """Check a table against the data contract and a spec: violations, leaks, metrics at the start.

    Parameters
    ----------
    data, spec, metric, as_of, date_format, drop_unlabelled, set_aside, set_aside_to
        As for `run`; without a spec, features are detected.
    keep, reading
        As for `init`.
    journal
        The journal's folder, which may have the run that the spec comes from.

    Returns
    -------
    Checkup
        `leaking` names columns of features that leak the outcome.

    Raises
    ------
    ViolationsError
        With everything that is wrong with the table.
    """
    given = _given(check, locals())
    given["reading"] = specs.part_of(Reading, reading, whose="reading")
    return runs.check(**given)


def run(
    data: Tabular,
    spec: SpecLike | None = None,
    *,
    metric: str | None = None,
    no_worse: Sequence[str] = (),
    n: int = 2000,
    patience: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    holdout: float | None = None,
    holdout_file: Tabular | None = None,
    holdout_as_of: Day | None = None,
    as_of: Day | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    proposer: str = runs.DEFAULT_PROPOSER,
    start: str | None = None,
    folds: int | None = None,
    cold: bool = False,
    engine: runs.Engine | None = None,
    author: str | None = None,
    note: str | None = None,
    announce: Announce | None = None,
    watch: Callable[[runs.Progress], Any] | None = None,
    journal: str | Path = "journal",
) -> Run:
    """Search for better weights, keep or revert, journal every experiment.

    Parameters
    ----------
    data
        The account table: a path or URL, a `Source`, a frame of Polars, pandas or Arrow, a DuckDB
        relation.
    spec
        The scoring spec, its file, ``RUN/EXP`` or a `Run`; None detects features as `init` does.
    metric
        The objective; None takes the spec's, else AUC.
    no_worse
        Further metrics in which no kept candidate may be worse than the start.
    n, patience, seconds
        When to stop: after so many experiments, experiments without a win, or seconds.
    seed
        Same seed, same experiments; in [0, 2^63).
    holdout
        Share of accounts that the search never sees, in [0, 1); None takes the spec's.
    holdout_file
        A later table as the holdout; then all of `data` is searched.
    as_of, holdout_as_of
        The date that `days_before` counts from, in either table.
    date_format
        How texts write a date, as ``%m/%d/%Y``; None takes the spec's.
    drop_unlabelled
        Whether to leave out accounts without any outcome.
    set_aside, set_aside_to
        Share of rows that may be left out since they break the contract, and a file for these rows.
    proposer
        ``learned`` or ``random``.
    start
        Where to begin: ``spec``, or ``logistic`` for weights of a logistic regression. None is
        ``logistic`` where folds are asked, else ``spec``.
    folds
        In how many folds of the accounts searched, 2 or more, to ask whether the search pays beyond
        the weights that it tries first; where it doesn't, only these are tried. It takes the time
        of so many further searches. 0 for not asking. None asks in five where the spec is of
        `init`, the objective is AUC, and few accounts leave or stay for each weight.
    cold
        Whether to ignore results of earlier runs in the journal.
    engine
        Where to compute, and with how much memory; None for this process.
    author, note
        Who asks, and why, for the journal.
    announce
        Called with sentences for people before the search, such as `print`.
    watch
        Called with a `Progress` after every batch.
    journal
        The journal's folder.

    Raises
    ------
    SpecError, AccountDataError, UsageError
        Before anything is written.
    JournalError
        If the journal can't be written.
    """
    given = _given(run, locals(), files=True)
    limits = runs.Limits(given.pop("n"), given.pop("patience"), given.pop("seconds"))
    return Run(runs.run(limits=limits, **given))


def try_weights(
    data: Tabular,
    spec: SpecLike,
    weights: Mapping[str, int],
    *,
    note: str,
    author: str | None = None,
    metric: str | None = None,
    holdout_file: Tabular | None = None,
    holdout_as_of: Day | None = None,
    as_of: Day | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    announce: Announce | None = None,
    journal: str | Path = "journal",
) -> Run:
    """Measure a change of weights against the spec that it starts from; journal it, kept or not.

    Parameters
    ----------
    weights
        New weight by name; the others keep the spec's.
    note, author
        Why, and by whom, for the journal.
    data, spec and all others
        As for `run`; here a spec is required.

    Raises
    ------
    SpecError, AccountDataError, UsageError, JournalError
        As for `run`.
    """
    return Run(runs.try_weights(**_given(try_weights, locals(), files=True)))


def workbench(
    data: Tabular,
    spec: SpecLike | None = None,
    *,
    model: str | None = None,
    metric: str | None = None,
    holdout: float | None = None,
    holdout_file: Tabular | None = None,
    holdout_as_of: Day | None = None,
    seed: int = 0,
    as_of: Day | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    announce: Announce | None = None,
    journal: str | Path = "journal",
) -> Workbench:
    """Load a table and a spec once, to change weights and see the effect at once.

    Parameters
    ----------
    spec
        The incumbent; None takes the live spec in the journal.
    model
        Which model, if several are live.
    data and all others
        As for `run`.

    Raises
    ------
    UsageError
        If no spec is given and none is live, or several models are.
    SpecError, AccountDataError
        As for `try_weights`.
    """
    return Workbench.open(**_given(workbench, locals(), files=True))


def tiers(
    data: Tabular,
    spec: SpecLike,
    *,
    rule: Literal["share", "accounts", "lift"] | None = None,
    sizes: Mapping[str, float] | None = None,
    like: SpecLike | None = None,
    author: str | None = None,
    note: str | None = None,
    as_of: Day | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    journal: str | Path | None = None,
) -> runs.Tiers:
    """Set the edges of a spec's tiers on a table, and measure each tier.

    Parameters
    ----------
    rule, sizes
        How edges are set, and a number for each tier from the highest scores down: its share of
        accounts, its number of accounts, or its lift, the least multiple of the average rate of
        leaving. Of the latter two, one tier is left out and takes the rest. None keeps the spec's
        own.
    like
        Another spec: tiers get the sizes that it has on this table.
    journal, author, note
        Where the change is recorded, None for nowhere; by whom, and why.
    data, spec and all others
        As for `run`.

    Returns
    -------
    Tiers
        `spec` has the new edges, `lines` has each tier's size and retention.
    """
    given = _given(tiers, locals())
    return runs.tiers_of(**given)


def decide(
    candidate: SpecLike | None = None,
    *,
    against: SpecLike | None = None,
    data: Tabular | None = None,
    holdout_file: Tabular | None = None,
    min_gain: float = 0.0,
    max_moved: float | None = None,
    segments: Sequence[str] = (),
    max_segment_drop: float | None = None,
    keep: Sequence[str] = (),
    no_worse: Sequence[str] = (),
    max_calibration_error: float | None = None,
    folder: str | Path | None = None,
    author: str | None = None,
    note: str | None = None,
    holdout_as_of: Day | None = None,
    as_of: Day | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    announce: Announce | None = None,
    journal: str | Path | None = None,
) -> runs.Decided:
    """Decide on a run's best, a change by hand, or a spec, on accounts that no search saw.

    Parameters
    ----------
    candidate
        A `Run` or its id, ``RUN/EXP``, or None for the last search; a spec or its file, which needs
        `against` and `data`.
    against
        The spec to compare with; None for the run's start.
    data, holdout_file
        The tables; None for the run's own.
    min_gain, max_moved, segments, max_segment_drop, keep, no_worse, max_calibration_error
        What the candidate must pass, see `gtmar.validation.gates.Gates`.
    folder
        New folder for report, changes by account, specs and manifest; None to write none.
    author, note
        Who asks, and why, for the journal.
    as_of, holdout_as_of, date_format, drop_unlabelled, set_aside, set_aside_to, announce
        As for `run`, if specs are given: a run's tables are read as the run read them.
    journal
        The journal's folder; None for that of the `Run` given, else ``journal``. It records each
        look at accounts held out.

    Returns
    -------
    Decided
        `verdict` is ``READY_FOR_REVIEW``, ``KEEP_INCUMBENT`` or ``UNVERIFIED``.

    Raises
    ------
    UsageError
        If nothing was held out, or a search saw accounts that are.
    NotResumableError, AccountDataError
        If a table isn't the run's any more, or breaks the contract.
    """
    journal = _journal(journal, candidate, against)
    given = _given(decide, locals(), named=("against",))
    if candidate is not None:
        run_id = candidate.id if isinstance(candidate, Run) else None
        given["candidate"] = run_id or _file(candidate) or candidate
    gates = ("min_gain", "max_moved", "segments", "max_segment_drop", "keep", "no_worse")
    stated = {name: given.pop(name) for name in (*gates, "max_calibration_error")}
    stated |= {name: tuple(v) for name, v in stated.items() if isinstance(v, list)}
    read = ("as_of", "holdout_as_of", "date_format", "drop_unlabelled", "set_aside", "set_aside_to")
    how = {name: given.pop(name) for name in read}
    return runs.decide_on(gates=Gates(**stated), tables=how, **given)


def backtest(
    data: Tabular,
    *,
    score_column: str | None = None,
    tiers: Mapping[str, float] | None = None,
    orientation: Literal["health", "risk"] | None = None,
    spec: SpecLike | None = None,
    as_of: Day | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    drop_unscored: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    journal: str | Path = "journal",
) -> runs.Backtest:
    """Judge today's score, a spec, or both, by the known outcomes of the accounts.

    Parameters
    ----------
    score_column
        Column with today's score, from 0 to 1, 100 or 1,000; None to judge the spec.
    tiers
        Lower edge by tier in the score's own units; None for quarters of the accounts.
    orientation
        That of the column: ``risk`` if high scores are bad; None for the spec's, else ``health``.
    spec
        The spec to judge; with a `score_column`, a candidate to compare it with.
    drop_unscored
        Whether to leave out accounts without a score today.
    data and all others
        As for `run`.

    Returns
    -------
    Backtest
        `intervals` of all metrics; frames are of the kind of `data`.
    """
    return in_kind_of(data, runs.backtest(**_given(backtest, locals())))


def score(
    data: Tabular,
    spec: SpecLike,
    *,
    as_of: Day | None = None,
    date_format: str | None = None,
    announce: Announce | None = None,
    journal: str | Path = "journal",
) -> pl.DataFrame | Any:
    """Score an account table: id, score, tier, and the points that add up to the score.

    Parameters
    ----------
    data
        As for `run`; outcomes aren't needed.
    spec, as_of, date_format, announce, journal
        As for `run`; `announce` is called with notes about the table.

    Returns
    -------
    DataFrame
        A row for each account, in the table's order: pandas, with its index, if `data` is pandas,
        an Arrow table if it is Arrow, else Polars.
    """
    given = _given(score, locals())
    del given["journal"]
    given["spec"] = specs.reading_dates(given["spec"], given.pop("date_format"))
    return in_kind_of(data, runs.score(**given), row_by_row=True)


def account_list(
    data: Tabular,
    spec: SpecLike,
    *,
    tier: str | None = None,
    most: int = 50,
    as_of: Day | None = None,
    date_format: str | None = None,
    announce: Announce | None = None,
    set_aside: float | None = None,
    journal: str | Path = "journal",
) -> runs.AccountList:
    """List the accounts to act on, those with the most at stake first, each with its reasons.

    Parameters
    ----------
    data, as_of, date_format, announce, set_aside, journal
        As for `run`; outcomes aren't needed.
    spec
        A spec with probabilities of leaving, as a run gives it.
    tier, most
        Only accounts of this tier, None for all; and how many at most.

    Returns
    -------
    AccountList
        `rows` is a frame of the kind of `data`.
    """
    given = _given(account_list, locals())
    del given["journal"]
    given["spec"] = specs.reading_dates(given["spec"], given.pop("date_format"))
    return in_kind_of(data, runs.account_list(**given))


def explain(
    account: str | int,
    data: Tabular,
    spec: SpecLike,
    *,
    other: SpecLike | None = None,
    as_of: Day | None = None,
    date_format: str | None = None,
    journal: str | Path = "journal",
) -> runs.Explanation:
    """Explain one account's score: points that add up, and what the next tier would take.

    Parameters
    ----------
    account
        Its id; in a table without ids its row number, from 1.
    data, spec, as_of, date_format, journal
        As for `run`; outcomes aren't needed.
    other
        Another spec, to explain the difference between its score and that of `spec`.

    Raises
    ------
    AccountDataError
        If there is no such account, or more than one.
    """
    given = _given(explain, locals())
    del given["journal"]
    return runs.explain(str(given.pop("account")), **given)


def diff(
    one: SpecLike,
    two: SpecLike,
    *,
    data: Tabular | None = None,
    as_of: Day | None = None,
    journal: str | Path | None = None,
) -> Diff:
    """Compare two specs, and with a table the scores that they give.

    Parameters
    ----------
    one, two
        Each a `Spec` or its file, a `Run`, ``RUN/EXP``, or ``RUN`` for its best.
    data, as_of
        An account table, to see which accounts change tier; and the date `days_before` counts from.
    journal
        The journal's folder; None for that of a `Run` given, else ``journal``. Not needed for specs
        and files.

    Returns
    -------
    Difference
        Frames of accounts are of the kind of `data`.
    """
    journal = _journal(journal, one, two)
    return in_kind_of(data, runs.difference(**_given(diff, locals(), named=("one", "two"))))


def front(
    run: Run | str | None = None,
    *,
    by: str | None = None,
    whole_table: bool = False,
    blocked: bool = False,
    journal: str | Path | None = None,
) -> Front:
    """Return a run's best compromises of its objective and another metric.

    Parameters
    ----------
    run
        The run, its id or a start of it; None for the latest search.
    by
        The other metric; None for revenue capture, or tier separation.
    whole_table
        Whether to include all runs over the same table and objective.
    blocked
        Whether to include experiments that broke a guardrail.
    journal
        The journal's folder; None for that of the `Run` given, else ``journal``.

    Raises
    ------
    RunNotFoundError, UsageError
        If there is no such run or metric.
    """
    given = _given(front, locals())
    run_id = run.id if isinstance(run, Run) else run
    with Journal(_journal(given.pop("journal"), given.pop("run"))) as opened:
        return compromises(opened, run_id, **given)


def walk(
    data: Tabular,
    spec: SpecLike,
    *,
    at: str | None = None,
    score_column: str | None = None,
    metric: str | None = None,
    n: int = 2000,
    seed: int = 0,
    author: str | None = None,
    as_of: Day | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    announce: Announce | None = None,
    watch: Callable[[runs.Progress], Any] | None = None,
    journal: str | Path = "journal",
) -> runs.Walked:
    """Test whether re-tuning the weights on each date would have paid on the next.

    Parameters
    ----------
    data
        Account tables of several dates: a folder as ``gtmar snapshot`` writes it, or anything that
        `run` takes, with a row for each account and date.
    spec
        The scoring spec whose weights are re-tuned, or not.
    at
        The dates to use, ``2024-01-01..2025-01-01``, with ``COLUMN=`` in front if they aren't in
        `features_asof`; None for all.
    score_column
        A column with today's score, to compare re-tuning with.
    metric
        The objective; None takes the spec's, else AUC.
    n
        Experiments on each date.
    seed
        Same seed, same experiments; in [0, 2^63).
    author, journal
        Who asks, and the journal's folder; each date's search is a run there.
    as_of, date_format, drop_unlabelled, set_aside, set_aside_to, announce, watch
        As for `run`.

    Returns
    -------
    Walked
        `verdict` is ``pays``, ``costs`` or ``alone``; `gains` have intervals.

    Raises
    ------
    SpecError, AccountDataError, UsageError
        As for `run`; and if no date begins after the outcomes of another were over.
    """
    given = _given(walk, locals())
    limits = runs.Limits(given.pop("n"))
    return runs.walk(_dated(given.pop("data"), given.pop("at")), limits=limits, **given)


def watch(
    data: Tabular,
    *,
    at: str | None = None,
    model: str | None = None,
    shadows: Sequence[SpecLike] = (),
    grace: int = 0,
    forget_before: Day | None = None,
    scores: str | Path = "scores",
    today: Day | None = None,
    as_of: Day | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    journal: str | Path = "journal",
) -> runs.Watched:
    """Keep the live score of the newest date, and report how well it has done so far.

    Parameters
    ----------
    data, at, as_of, date_format, drop_unlabelled, set_aside, set_aside_to, journal
        As for `walk`.
    model
        Which model, if several are live.
    shadows
        Up to three specs to measure beside the live one.
    grace
        Days after a window's end until its outcomes count as known.
    forget_before
        Kept scores of dates before this one are deleted; their measurements stay.
    scores
        Folder, or Delta or DuckDB table, that keeps scores by date. They are customers' data.
    today
        The date by which windows must be over; None for today in UTC.

    Returns
    -------
    Watched
        `verdict` is ``holds``, ``worse`` or ``unknown``.

    Raises
    ------
    UsageError
        If nothing is live, or another process watches.
    AccountDataError
        If the tables have no dates or ids, or break the contract.
    """
    given = _given(watch, locals())
    given["shadows"] = [_spec(each, journal) for each in shadows]
    given |= {name: _day(name, given[name]) for name in ("forget_before", "today")}
    watched = runs.watch(_dated(given.pop("data"), given.pop("at")), **given)
    return in_kind_of(data, watched)


def load_spec(path: str | Path) -> Spec:
    """Read a spec's file.

    Raises
    ------
    SpecError
        If it can't be read, or says something that can't hold.
    """
    return specs.load(**_given(load_spec, locals()))


def _dated(data: Tabular, at: str | None) -> Tabular:
    """Return a table restricted to the dates `at`; files are only named, and not read yet."""
    if at is None:
        return data
    if isinstance(data, str | Path):
        return Source(str(data), at=at)
    return replace(data, at=at) if isinstance(data, Source) else scan(data, at=at)


def _given(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    named: Sequence[str] = ("spec", "like", "other"),
    files: bool = False,
) -> dict[str, Any]:
    """Return the arguments of a call, checked against the function's annotations.

    Days become ISO texts, and arguments in `named` become specs. With `files`, a spec's file stays
    a path, so that errors can name it.
    """
    names = function.__annotations__.keys() - {"return"}
    given = checked(function, {n: value for n, value in arguments.items() if n in names})
    for day in ("as_of", "holdout_as_of"):
        if given.get(day):
            given[day] = f"{_day(day, given[day]):%Y-%m-%d}"
    for name in named:
        if given.get(name) is not None and not (files and _file(given[name])):
            given[name] = _spec(given[name], given["journal"] or "journal")
    return given


def _journal(journal: str | Path | None, *given: object) -> str | Path:
    """Return the journal: the one named, else that of the first `Run` given, else ``journal``."""
    if journal is not None:
        return journal
    return next((each.journal for each in given if isinstance(each, Run)), "journal")


def _day(name: str, day: Day | None) -> date | None:
    try:
        return date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError as err:
        raise UsageError(f'{name} expects YYYY-MM-DD, got "{day}"') from err


def _file(spec: SpecLike) -> Path | None:
    """Return the path if a spec is given as a file, which may have any ending if it exists."""
    if isinstance(spec, Spec | Run):
        return None
    # Unlike `Path.is_file`, it takes a name that is too long for a path.
    named = isinstance(spec, Path) or is_spec_file(spec) or isfile(spec)  # noqa: PTH113 - see above
    return Path(spec) if named else None


def _spec(spec: SpecLike, journal: str | Path) -> Spec:
    return spec.best if isinstance(spec, Run) else runs.spec_of(_file(spec) or spec, journal)
