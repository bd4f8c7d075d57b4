"""Null search and stability of a run: its search again, on shuffled outcomes or other accounts.

Both write one event, and no run: what they find is about a run, not a spec to go on with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar.errors import NotResumableError, UsageError
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles
from gtmar.journal.schema import experiment_id
from gtmar.runs.plan import constraints_of, make_proposer
from gtmar.runs.resume import search_of
from gtmar.runs.starting import given_at_start
from gtmar.validation.permutation import Chance, Rehearsal, chance
from gtmar.validation.stability import WeightStability, read_weights, searched_again

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.data.sources import Tabular
    from gtmar.runs.loop import Search

__all__ = [
    "FoundStability",
    "NullSearch",
    "best_weights",
    "null_search",
    "past_run",
    "past_search",
    "rehearsal_of",
    "stability",
]


@dataclass(frozen=True)
class NullSearch:
    """The gain of a run beside those that the same search finds in noise."""

    run_id: str
    objective: str
    #: Gain of the run, as an improvement.
    found: float
    #: Gains on shuffled outcomes, smallest first.
    gains: tuple[float, ...]
    p_value: float
    #: Median of the gains on noise, and what 95 % of them stay below.
    typical: float
    high: float
    #: Experiments of each search.
    experiments: int
    seed: int
    event_id: str

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class FoundStability:
    """What a run's search makes of other accounts of the same kind, weight by weight."""

    run_id: str
    objective: str
    weights: tuple[WeightStability, ...]
    searches: int
    experiments: int
    seed: int
    event_id: str

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def null_search(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    searches: int = 50,
    seed: int = 0,
    author: str | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> NullSearch:
    """Hold a run's gain against what the same search finds in shuffled outcomes.

    Parameters
    ----------
    run_id
        The run's full id.
    journal
        The journal's folder.
    data
        The account table, where it has moved since.
    searches
        How many, 1 or more.
    seed
        Keys the shuffles.
    author
        Who asked.
    watch
        Told how many of how many searches are done.

    Raises
    ------
    NotResumableError
        If the run hasn't ended, or table or evaluator version differ from the run's.
    """
    _refuse_unfit(searches, seed)
    start, ended, search = past_search(run_id, journal, data, untouched=False)
    rehearsal = rehearsal_of(search, start, ended)
    found = search.judge.sign * (ended["best_value"] - ended["baseline_value"])
    drawn: Chance = chance(
        rehearsal, search.accounts.search, found, searches=searches, seed=seed, watch=watch
    )
    facts = {
        "objective": search.judge.name,
        "found": drawn.found,
        "gains": drawn.gains,
        "p_value": drawn.p_value,
        "typical": drawn.quantile(0.5),
        "high": drawn.quantile(0.95),
        "experiments": rehearsal.experiments,
        "seed": seed,
    }
    event_id = _put_on_record(EventKind.NULL, Path(journal), start, facts, author)
    return NullSearch(run_id=run_id, event_id=event_id, **facts)  # type: ignore[arg-type] # as built above


def stability(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    searches: int = 50,
    seed: int = 0,
    author: str | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> FoundStability:
    """Do a run's search over bootstrap resamples of its accounts, and compare the weights.

    Parameters and errors are those of `null_search`.
    """
    _refuse_unfit(searches, seed)
    start, ended, search = past_search(run_id, journal, data, untouched=False)
    rehearsal = rehearsal_of(search, start, ended)
    found = best_weights(RunFiles(Path(journal), run_id), ended, search)
    drawn = searched_again(
        rehearsal, search.accounts.search, searches=searches, seed=seed, watch=watch
    )
    weights = read_weights(rehearsal, found, drawn)
    facts = {
        "objective": search.judge.name,
        "searches": searches,
        "experiments": rehearsal.experiments,
        "seed": seed,
    }
    listed = {"weights": [asdict(weight) for weight in weights]}
    event_id = _put_on_record(EventKind.STABILITY, Path(journal), start, facts | listed, author)
    return FoundStability(run_id=run_id, event_id=event_id, weights=weights, **facts)  # type: ignore[arg-type] # as built above


def rehearsal_of(search: Search, start: dict[str, Any], ended: dict[str, Any]) -> Rehearsal:
    """Return a run's search to do over other matrices.

    It begins cold; a start that was fitted to outcomes is fitted anew to each matrix's. A run that
    took over results of earlier ones has as many experiments more: its best is the best of all of
    them.
    """
    memory, plan = search.plan.memory, search.plan

    def proposer() -> Any:
        return make_proposer(
            plan.proposer,
            search.levers,
            seed=plan.seed,
            sign=search.judge.sign,
            constraints=constraints_of(search.spec),
        )

    return Rehearsal(
        spec=search.spec,
        judge=search.judge,
        proposer=proposer,
        experiments=int(ended["experiments"]) + (len(memory.known) if memory else 0),
        patience=plan.limits.patience if start["kind"] == "search" and not memory else None,
        given=lambda matrix: given_at_start(plan.start, matrix, search.spec),
    )


def past_search(
    run_id: str,
    journal: str | Path,
    data: Any,
    holdout_file: Any = None,
    *,
    untouched: bool = True,
) -> tuple[dict[str, Any], dict[str, Any], Search]:
    """Read a search that has ended, start and end, and load its table again.

    Parameters
    ----------
    run_id, journal
        The run, and where it is.
    data, holdout_file, untouched
        As for `search_of`.

    Raises
    ------
    UsageError
        If the run was no search.
    NotResumableError
        If it hasn't ended, or table or evaluator version differ.
    """
    start = RunFiles(Path(journal), run_id).record("start")
    if start["kind"] != "search":
        raise UsageError(
            f"run {run_id} is no search but of kind {start['kind']}: there is nothing to do again",
            hint="gtmar sql runs lists the searches",
        )
    return past_run(run_id, journal, data, holdout_file, untouched=untouched)


def past_run(
    run_id: str,
    journal: str | Path,
    data: Any,
    holdout_file: Any = None,
    *,
    untouched: bool = True,
) -> tuple[dict[str, Any], dict[str, Any], Search]:
    """Read a run of any kind that has ended, start and end, and load its table again.

    Parameters are those of `past_search`.

    Raises
    ------
    UsageError
        If the run was imported, so that its table isn't known.
    NotResumableError
        If it hasn't ended, or table or evaluator version differ.
    """
    files = RunFiles(Path(journal), run_id)
    start = files.record("start")
    if start["kind"] == "import":
        raise UsageError(
            f"run {run_id} was imported: its table isn't known here",
            hint="gtmar try, with the table, measures its weights anew",
        )
    if not files.end.is_file():
        raise NotResumableError(f"run {run_id} has not ended", hint=f"gtmar resume {run_id}")
    return start, files.record("end"), search_of(start, data, holdout_file, untouched=untouched)


def best_weights(files: RunFiles, ended: dict[str, Any], search: Search) -> tuple[int, ...]:
    """Return the weights that a run ended with, F of them."""
    [row] = [r for r in files.judged() if experiment_id(r["number"]) == ended["best_experiment"]]
    weights = dict(row["weights"])
    return tuple(weights[name] for name in search.names)


def _put_on_record(
    kind: EventKind,
    journal: Path,
    start: dict[str, Any],
    facts: dict[str, Any],
    author: str | None,
) -> str:
    return write_event(
        journal,
        kind,
        author=author,
        model=start["model"],
        spec_id=start["spec_id"],
        run_id=start["run_id"],
        details=facts,
    )


def _refuse_unfit(searches: int, seed: int) -> None:
    wrong = []
    if searches < 1:
        wrong.append(f"the number of searches must be 1 or more, got {searches}")
    if not 0 <= seed < 2**63:
        wrong.append(f"seed must be in [0, 2^63), got {seed}")
    if wrong:
        raise UsageError("; ".join(wrong))
