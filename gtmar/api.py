"""The same use cases for Python and notebooks, in few words: run, try, score, compare.

What `import gtmar` offers is here, imported when it is asked for. Nothing prints; results show
themselves in a notebook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gtmar import runs
from gtmar import spec as specs
from gtmar.html import sentence, table
from gtmar.journal.catalog import Journal
from gtmar.journal.front import front as compromises
from gtmar.journal.sentences import numbers
from gtmar.metrics.metric import basis_note

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from gtmar.data.scan import Tabular
    from gtmar.journal.front import Front
    from gtmar.report import Page
    from gtmar.runs import Difference, RunResult
    from gtmar.spec import ScoringSpec

__all__ = ["Run", "account_list", "diff", "front", "load_spec", "run", "score", "try_weights"]


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


def _spec(spec: ScoringSpec | str | Path) -> ScoringSpec:
    return spec if isinstance(spec, specs.ScoringSpec) else specs.load(spec)
