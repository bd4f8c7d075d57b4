"""The same use cases for Python and notebooks, in few words: run, try, score, compare, watch.

What `import gtmar` offers is here, imported when it is asked for. Nothing prints; results show
themselves in a notebook.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import runs
from gtmar import spec as specs
from gtmar.data.scan import Source, scan
from gtmar.errors import UsageError
from gtmar.html import sentence, table
from gtmar.journal.catalog import Journal
from gtmar.journal.front import front as compromises
from gtmar.journal.sentences import numbers
from gtmar.metrics.metric import basis_note
from gtmar.runs.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from gtmar.data.scan import Tabular
    from gtmar.journal.front import Front
    from gtmar.report import Page
    from gtmar.runs import Difference, RunResult, Walked, Watched
    from gtmar.spec import ScoringSpec

__all__ = [
    "Run",
    "Workbench",
    "account_list",
    "diff",
    "front",
    "load_spec",
    "run",
    "score",
    "try_weights",
    "walk",
    "watch",
]


@dataclass(frozen=True, repr=False)
class Run:
    """A run that has ended, and where its journal is."""

    #: All that it found, as `runs.run` gives it.
    result: RunResult

    @property
    def id(self) -> str:
        """The run's id in the journal."""
        return self.result.run_id

    @property
    def best(self) -> ScoringSpec:
        """The best spec, its lineage in it; the one it started from where nothing won."""
        return self.result.spec

    @property
    def journal(self) -> str:
        """The journal's folder."""
        return self.result.journal

    @property
    def warnings(self) -> list[str]:
        """What a check of table and start found against the result, a sentence each."""
        return runs.warnings_of(self.result.findings)

    def experiments(self) -> pl.DataFrame:
        """Return all experiments, the baseline first, a row each, with all metrics.

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
        """Make the run's report: one HTML page, to be written wherever it is wanted.

        Parameters
        ----------
        data
            The run's table, where it was a frame or has moved since. Without it, what needs the
            table is left out and named in the page's `left_out`.

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

    def front(self, by: str | None = None, **options: Any) -> Front:
        """Return its best compromises of the objective and another metric, as `front` does."""
        return front(self.id, by=by, journal=self.journal, **options)

    def _said(self) -> list[str]:
        """Say what a lead reads first, then by how much the objective moved."""
        moved = [numbers(self.result.row)] if self.result.improved else []
        return [*self.result.sentences, *moved]

    def __repr__(self) -> str:
        return f"<Run {self.id}: {' '.join(self._said())}>"

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
        weights = table(heads, rows, caption=f"Run {self.id}")
        said = [*self._said(), *self.warnings]
        said += [note for note in (basis_note(self.result.basis),) if note]
        return "".join(map(sentence, said)) + weights


def run(
    data: Tabular,
    spec: ScoringSpec | str | Path | None = None,
    *,
    metric: str | None = None,
    n: int = 2000,
    patience: int | None = None,
    seconds: float | None = None,
    **options: Any,
) -> Run:
    """Search for better weights, keep or revert, journal every experiment.

    Parameters
    ----------
    data
        The account table: a path or URL, a `Source`, a frame of Polars, pandas or Arrow, a DuckDB
        relation.
    spec
        The scoring spec or its file; None detects features as ``gtmar init`` does.
    metric
        The objective; None takes the spec's, else AUC.
    n, patience, seconds
        When to stop, as for ``gtmar run``.
    options
        Further arguments of `gtmar.runs.run`: ``seed``, ``journal``, ``holdout``, ``note``, ...

    Raises
    ------
    SpecError, AccountDataError, UsageError
        Before anything is written.
    JournalError
        If the journal can't be written.
    """
    limits = runs.Limits(n, patience, seconds)
    return Run(runs.run(data, spec, metric=metric, limits=limits, **options))


def try_weights(
    data: Tabular,
    spec: ScoringSpec | str | Path,
    weights: dict[str, int],
    *,
    note: str,
    **options: Any,
) -> Run:
    """Measure one change of yours against the spec it starts from; journal it, kept or not.

    Parameters
    ----------
    data, spec
        As for `run`; the spec is needed.
    weights
        New weight by name.
    note
        Why.
    options
        Further arguments of `gtmar.runs.try_weights`.
    """
    return Run(runs.try_weights(data, spec, weights, note=note, **options))


def score(
    data: Tabular, spec: ScoringSpec | str | Path, *, as_of: str | None = None
) -> pl.DataFrame:
    """Score an account table: id, score, tier, and the points that add up to the score.

    Parameters
    ----------
    data
        As for `run`; outcomes aren't needed.
    spec
        The scoring spec or its file.
    as_of
        ISO date that `days_before` counts from.
    """
    return runs.score(data, _spec(spec), as_of=as_of)


def walk(
    data: Tabular,
    spec: ScoringSpec | str | Path,
    *,
    at: str | None = None,
    score_column: str | None = None,
    metric: str | None = None,
    n: int = 2000,
    seed: int = 0,
    author: str | None = None,
    as_of: str | None = None,
    journal: str | Path = "journal",
) -> Walked:
    """Say whether re-tuning on each date would have paid on the next.

    Parameters
    ----------
    data
        Account tables of several dates: a folder as ``gtmar snapshot`` writes it, or whatever
        `run` takes with a row an account and date.
    spec
        The scoring spec whose weights are left alone or re-tuned, or its file.
    at
        The dates that are taken, ``2024-01-01..2025-01-01``, after ``COLUMN=`` where they aren't in
        `features_asof`; None for all.
    score_column
        A column with the score that you have today, to hold re-tuning against.
    metric
        The objective; None takes the spec's, else AUC.
    n
        Experiments on each date.
    seed
        Same seed, same experiments; in [0, 2^63).
    author, journal
        Who asks, and the journal's folder, where each date's search is a run.
    as_of
        ISO date that `days_before` counts from.

    Returns
    -------
    Walked
        `verdict` is ``pays``, ``costs`` or ``alone``; `gains` have intervals.

    Raises
    ------
    SpecError, AccountDataError, UsageError
        As for `run`; and if no date begins after another's outcomes were over.
    """
    return runs.walk(
        _dated(data, at),
        _spec(spec),
        score_column=score_column,
        metric=metric,
        limits=runs.Limits(n),
        seed=seed,
        author=author,
        journal=journal,
        as_of=as_of,
    )


def watch(
    data: Tabular,
    *,
    at: str | None = None,
    model: str | None = None,
    shadows: Sequence[ScoringSpec | str | Path] = (),
    grace: int = 0,
    forget_before: date | str | None = None,
    scores: str | Path = "scores",
    today: date | str | None = None,
    as_of: str | None = None,
    journal: str | Path = "journal",
) -> Watched:
    """Keep what the live score says of the newest date, and say whether it held so far.

    Parameters
    ----------
    data, at, as_of, journal
        As for `walk`.
    model
        Which of the live models; None where there is one.
    shadows
        Up to three specs, or their files, to measure beside what is live.
    grace
        Days after a window's end until its outcomes count as known.
    forget_before
        Kept scores of dates before this day are removed; what was measured stays.
    scores
        Folder that keeps scores by date: customers' data.
    today
        The day that windows must be over by; None for the clock's, in UTC. Days may be ISO texts.

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
    return runs.watch(
        _dated(data, at),
        model=model,
        shadows=[_spec(each) for each in shadows],
        grace=grace,
        forget_before=_day("forget_before", forget_before),
        scores=scores,
        today=_day("today", today),
        journal=journal,
        as_of=as_of,
    )


def account_list(data: Tabular, spec: ScoringSpec | str | Path, **options: Any) -> runs.AccountList:
    """List the accounts to act on, those with the most at stake first, each with its reasons.

    Parameters
    ----------
    data
        As for `run`; outcomes aren't needed.
    spec
        A scoring spec with probabilities, as a run gives it, or its file.
    options
        Further arguments of `gtmar.runs.account_list`: ``tier``, ``most``, ``as_of``.
    """
    return runs.account_list(data, _spec(spec), **options)


def diff(one: str, two: str, **options: Any) -> Difference:
    """Say what differs between two specs, each ``RUN/EXP``, a run or a spec's file.

    Parameters
    ----------
    one, two
        The specs.
    options
        Further arguments of `gtmar.runs.difference`: ``journal``, ``data``, ``as_of``.
    """
    return runs.difference(one, two, **options)


def front(
    run: str | None = None,
    *,
    by: str | None = None,
    journal: str | Path = "journal",
    **options: Any,
) -> Front:
    """Find a run's best compromises of its objective and another metric.

    Parameters
    ----------
    run
        Its id, or a start of it; None for the latest search.
    by
        The other metric; None for revenue capture, or tier separation.
    journal
        The journal's folder.
    options
        Further arguments of `gtmar.journal.front.front`: ``whole_table``, ``blocked``.
    """
    with Journal(journal) as opened:
        return compromises(opened, run, by=by, **options)


def load_spec(path: str | Path) -> ScoringSpec:
    """Read a spec's file.

    Raises
    ------
    SpecError
        If it can't be read, or says something that can't hold.
    """
    return specs.load(path)


def _dated(data: Tabular, at: str | None) -> Tabular:
    """Return a table of some of its dates: files stay where they are, a frame is taken as it is."""
    if at is None:
        return data
    if isinstance(data, str | Path):
        return Source(str(data), at=at)
    return replace(data, at=at) if isinstance(data, Source) else scan(data, at=at)


def _day(name: str, day: date | str | None) -> date | None:
    try:
        return date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError as err:
        raise UsageError(f'{name} expects YYYY-MM-DD, got "{day}"') from err


def _spec(spec: ScoringSpec | str | Path) -> ScoringSpec:
    return spec if isinstance(spec, specs.ScoringSpec) else specs.load(spec)
