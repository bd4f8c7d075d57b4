"""Null search and stability of a run: its search again, on shuffled outcomes or other accounts.

Both write one event, and no run: what they find is about a run, not a spec to go on with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar.errors import UsageError
from gtmar.journal.events import EventKind, write_event
from gtmar.optimize.search_loop import Limits
from gtmar.runs.plan import given_at_start
from gtmar.runs.session import ended_run
from gtmar.validation.repeated_search import (
    RepeatedSearch,
    WeightStability,
    chance,
    read_weights,
    searched_again,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.data.scan import Tabular
    from gtmar.runs.session import Session

__all__ = ["FoundStability", "NullSearch", "null_search", "repeated_search", "stability"]


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
    session = ended_run(run_id, journal, data, untouched=False, only_search=True)
    search, judge, end = repeated_search(session), session.judge, session.end
    gain = judge.sign * (end["best_value"] - end["baseline_value"])
    drawn = chance(search, session.accounts.search, gain, searches=searches, seed=seed, watch=watch)
    facts = {
        "objective": session.judge.name,
        "found": drawn.found,
        "gains": drawn.gains,
        "p_value": drawn.p_value,
        "typical": drawn.quantile(0.5),
        "high": drawn.quantile(0.95),
        "experiments": search.limits.experiments,
        "seed": seed,
    }
    event_id = _put_on_record(EventKind.NULL, Path(journal), session.start, facts, author)
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
    session = ended_run(run_id, journal, data, untouched=False, only_search=True)
    search = repeated_search(session)
    drawn = searched_again(
        search, session.accounts.search, searches=searches, seed=seed, watch=watch
    )
    weights = read_weights(session.spec, session.best, drawn)
    facts = {
        "objective": session.judge.name,
        "searches": searches,
        "experiments": search.limits.experiments,
        "seed": seed,
    }
    listed = {"weights": [asdict(weight) for weight in weights]}
    event_id = _put_on_record(
        EventKind.STABILITY, Path(journal), session.start, facts | listed, author
    )
    return FoundStability(run_id=run_id, event_id=event_id, weights=weights, **facts)  # type: ignore[arg-type] # as built above


def repeated_search(session: Session) -> RepeatedSearch:
    """Return a run's search to do over other matrices.

    It begins cold; a start that was fitted to outcomes is fitted anew to each matrix's. A run that
    took over results of earlier ones has as many experiments more: its best is the best of all of
    them.
    """
    spec, plan, judge = session.spec, session.plan, session.judge
    known = len(plan.memory.known) if plan.memory else 0
    return RepeatedSearch(
        spec=spec,
        judge=judge,
        proposer=lambda: plan.make_proposer(spec, sign=judge.sign),
        limits=Limits(
            experiments=int(session.end["experiments"]) + known,
            patience=None if plan.memory else plan.limits.patience,
        ),
        given=lambda matrix: given_at_start(plan.start, matrix, spec),
    )


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
