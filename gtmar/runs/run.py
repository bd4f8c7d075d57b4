"""A seeded search over a table, and one change that a person proposes; both journaled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.errors import UsageError
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.optimize.hill_climb import Given
from gtmar.optimize.search_loop import Limits
from gtmar.runs.findings import warnings_of
from gtmar.runs.holdout import load_with_holdout, shared_note, whole
from gtmar.runs.journaled_search import Search, new_run_id, start_record
from gtmar.runs.plan import (
    DEFAULT_PROPOSER,
    DEFAULT_START,
    PROPOSERS,
    STARTS,
    Engine,
    Plan,
    given_at_start,
    refuse_unknown,
)
from gtmar.runs.score import write_aside
from gtmar.runs.warm_start import recall, said

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gtmar.data.scan import Tabular
    from gtmar.runs.results import Progress, RunResult
    from gtmar.spec.model import ScoringSpec

__all__ = ["run", "try_weights"]


def run(
    data: Tabular,
    spec: ScoringSpec | str | Path | None = None,
    *,
    metric: str | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    journal: str | Path = "journal",
    holdout: float | None = None,
    holdout_file: Tabular | None = None,
    as_of: str | None = None,
    date_format: str | None = None,
    holdout_as_of: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    set_aside_to: str | Path | None = None,
    author: str | None = None,
    note: str | None = None,
    batch: int | None = None,
    proposer: str = DEFAULT_PROPOSER,
    start: str = DEFAULT_START,
    cold: bool = False,
    engine: Engine | None = None,
    announce: Callable[[str], None] | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Search for better weights, keep or revert, journal every experiment.

    Parameters
    ----------
    data
        The account table: anything that `data.scan.scan` takes.
    spec
        The scoring spec or its file; None detects features as ``gtmar init`` does.
    metric
        The objective; None takes the spec's, else AUC.
    limits
        When to stop.
    seed
        With table, spec and limits it determines every experiment; in [0, 2^63).
    journal
        The journal's folder.
    holdout
        Share of accounts that the search never sees; None takes the spec's, 0 switches it off.
    holdout_file
        A later table that is the holdout, whole; all of `data` is then searched.
    as_of, holdout_as_of
        ISO dates that `days_before` counts from, in `data` and in the holdout's table.
    date_format
        How texts write a date, as ``%m/%d/%Y``; None takes the spec's.
    drop_unlabelled
        Leave accounts without any outcome out.
    set_aside
        Share of rows that may be left out since they break the data contract; None refuses them.
    set_aside_to
        File for these rows, each with its reasons; None writes none.
    author, note
        Who asked for the run, and why.
    batch
        Candidates evaluated ahead of their turn. Changes no result; None adapts.
    proposer
        Who proposes: one of `plan.PROPOSERS`.
    start
        Where to begin: one of `plan.STARTS`. With `logistic`, weights of a logistic regression of
        retention over the accounts searched are the first experiments.
    cold
        Start without what earlier runs in the journal taught.
    engine
        Where to compute, and with how much memory. Changes no result; None for this process.
    announce
        Called with a sentence where cells were read as unknown or are none of the spec's
        categories, the journal knows this table, accounts stand in both, or machine code has to be
        compiled first.
    watch
        Called after every batch.

    Returns
    -------
    RunResult
        What was found; the journal has all of it.

    Raises
    ------
    SpecError, AccountDataError, UsageError
        Before anything is written.
    JournalError
        If the journal can't be written; what was written before stays.
    ResourceError
        If a disk is full, or a cluster can't be reached or is lost.
    """
    limits = limits or Limits()
    engine = engine or Engine()
    _refuse_unfit(limits, seed=seed, holdout=holdout, batch=batch)
    refuse_unknown("proposer", proposer, PROPOSERS)
    refuse_unknown("start", start, STARTS)
    table = scan(data)
    if spec is None:
        spec = first_spec(
            table, holdout=holdout if holdout_file is None else 0.0, set_aside=set_aside
        ).spec
    spec = specs.reading_dates(spec, date_format)
    if holdout_file is not None:
        spec = whole(spec, share=holdout)
    elif holdout is not None:
        split = spec.split.model_copy(update={"holdout": holdout})
        spec = spec.model_copy(update={"split": split})
    judge = Judge.of(spec, metric)
    options: dict[str, Any] = {
        "as_of": as_of,
        "drop_unlabelled": drop_unlabelled,
        "set_aside": set_aside,
        "memory": engine.memory,
    }
    if holdout_file is None:
        accounts = load_accounts(table, spec, **options)
    else:
        options["later_as_of"] = holdout_as_of
        accounts = load_with_holdout(table, scan(holdout_file), spec, **options)
    aside = write_aside(accounts, set_aside_to)
    if announce is not None:
        # What is a warning stands beside the result.
        reading = [s for s in accounts.checked.reading if s not in accounts.checked.warnings]
        for sentence in (*aside, *reading, *shared_note(accounts)):
            announce(sentence)
    memory = None if cold else recall(Path(journal), accounts, spec, judge)
    if memory is not None and announce is not None:
        announce(said(memory, judge.name))
    plan = Plan(
        seed=seed,
        limits=limits,
        proposer=proposer,
        memory=memory,
        start=start,
        given=given_at_start(start, accounts.search, spec),
        batch=batch,
        author=author,
        note=note,
        as_of=as_of,
        holdout_as_of=holdout_as_of,
    )
    with engine.evaluator(accounts.search, spec) as evaluator:
        search = Search(
            accounts, spec, judge, plan, watch=watch, evaluator=evaluator, announce=announce
        )
        if announce is not None:
            # What else was found stands beside the result.
            for sentence in warnings_of(f for f in search.findings if f.kind == "limit"):
                announce(sentence)
        with RunWriter(Path(journal), new_run_id()) as writer:
            return search.run(writer, start=start_record(search))


def _refuse_unfit(limits: Limits, *, seed: int, holdout: float | None, batch: int | None) -> None:
    """Refuse arguments out of their range, all in one message."""
    wrong = []
    if not 0 <= seed < 2**63:
        wrong.append(f"seed must be in [0, 2^63), got {seed}")
    if limits.experiments < 0:
        wrong.append(f"the number of experiments must be 0 or more, got {limits.experiments}")
    if limits.patience is not None and limits.patience < 1:
        wrong.append(f"patience must be 1 or more, got {limits.patience}")
    if limits.seconds is not None and not limits.seconds >= 0:
        wrong.append(f"the time budget must be 0 seconds or more, got {limits.seconds}")
    if holdout is not None and not 0 <= holdout < 1:
        wrong.append(f"holdout must be in [0, 1), got {holdout}")
    if batch is not None and batch < 1:
        wrong.append(f"batch must be 1 or more, got {batch}")
    if wrong:
        raise UsageError("; ".join(wrong))


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
    data, metric, journal, as_of, date_format, drop_unlabelled, set_aside, set_aside_to, announce
        As for `run`; `announce` hears what was set aside.
    spec
        The scoring spec to start from, or its file.
    weights
        New weight by term, within its bounds.
    note, author
        Why, and by whom; kept with the experiment.
    kind
        `human`, or `record` for a change made elsewhere.

    Returns
    -------
    RunResult
        Of a run with one experiment, or none where a recorded spec changes nothing. `wins` says
        whether the objective rose and no guardrail broke.

    Errors are those of `run`.
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
