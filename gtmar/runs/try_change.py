"""One change that a person proposes: measured, judged and journaled like any experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.errors import UsageError
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.optimize.hill_climb import Given
from gtmar.runs.loop import Search
from gtmar.runs.plan import Plan
from gtmar.runs.records import new_run_id, start_record
from gtmar.runs.results import Limits
from gtmar.runs.score import write_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gtmar.data.sources import Tabular
    from gtmar.runs.results import RunResult
    from gtmar.spec.model import ScoringSpec

__all__ = ["try_weights"]


def try_weights(
    data: Tabular,
    spec: ScoringSpec | str | Path,
    weights: Mapping[str, int],
    *,
    note: str,
    author: str | None = None,
    metric: str | None = None,
    journal: str | Path = "journal",
    as_of: str | None = None,
    date_format: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    announce: Callable[[str], None] | None = None,
    kind: str = "human",
) -> RunResult:
    """Measure one change of weights against the spec that it starts from.

    Parameters
    ----------
    data
        The account table: anything that `accounts.scan.scan` takes.
    spec
        The scoring spec to start from, or its file.
    weights
        New weight by term, within its bounds.
    note, author
        Why, and by whom; kept with the experiment.
    metric
        The objective; None takes the spec's, else AUC.
    journal
        The journal's folder.
    as_of
        ISO date that `days_before` counts from.
    date_format, drop_unlabelled, set_aside, set_aside_to, announce
        As for `run`; `announce` hears what was set aside.
    kind
        `human`, or `record` for a change made elsewhere.

    Returns
    -------
    RunResult
        Of a run with one experiment, or none where a recorded spec changes nothing. `wins` says
        whether the objective rose and no guardrail broke.

    Raises
    ------
    SpecError, AccountDataError, UsageError
        Before anything is written.
    JournalError
        If the journal can't be written.
    """
    spec = specs.reading_dates(spec, date_format)
    changed = specs.reweighed(spec, weights)
    before = tuple(term.weight for term in spec.terms)
    after = tuple(term.weight for term in changed.terms)
    if before == after and kind == "human":
        stated = ", ".join(f"{name} is {weight} already" for name, weight in weights.items())
        raise UsageError(f"nothing to try: {stated}", hint="--set NAME=WEIGHT with another weight")
    judge = Judge.of(spec, metric)
    accounts = load_accounts(
        scan(data), spec, as_of=as_of, drop_unlabelled=drop_unlabelled, set_aside=set_aside
    )
    for sentence in write_aside(accounts, set_aside_to):
        if announce is not None:
            announce(sentence)
    plan = Plan(
        kind=kind,
        limits=Limits(experiments=int(before != after)),
        given=Given("human", (after,)) if before != after else None,
        author=author,
        note=note,
        as_of=as_of,
    )
    search = Search(accounts, spec, judge, plan)
    with RunWriter(Path(journal), new_run_id()) as writer:
        return search.run(writer, start=start_record(search))
