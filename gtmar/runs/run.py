"""The use cases `run`, a seeded search that learns from earlier runs, and `try_weights`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.data.own_rows import refused
from gtmar.data.scan import scan
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.errors import SpecError, UsageError
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.optimize.hill_climb import MOST_GIVEN, Given, Known, Memory
from gtmar.optimize.search_loop import Limits
from gtmar.runs.folds import asked_in_folds, folds_and_start
from gtmar.runs.holdout import journal_if_there, shared_account_notes, without_holdout
from gtmar.runs.inputs import load
from gtmar.runs.journaled_search import Search, new_run_id, start_record
from gtmar.runs.plan import (
    DEFAULT_PROPOSER,
    DEFAULT_START,
    PROPOSERS,
    STARTS,
    Engine,
    Plan,
    constraints_of,
    given_at_start,
    refuse_unknown,
)
from gtmar.runs.results import warnings_of
from gtmar.spec.ids import form_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gtmar.data.matrix import Accounts
    from gtmar.data.scan import Tabular
    from gtmar.runs.inputs import HoldoutOptions
    from gtmar.runs.results import Progress, RunResult
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "changed_weights",
    "measure_change",
    "memory_sentence",
    "recall_memory",
    "refuse_out_of_range",
    "run",
    "run_and_journal",
    "spec_as_asked",
    "try_weights",
]


def run(
    data: Tabular,
    spec: ScoringSpec | str | Path | None = None,
    *,
    metric: str | None = None,
    no_worse: Sequence[str] = (),
    limits: Limits | None = None,
    seed: int = 0,
    journal: str | Path = "journal",
    holdout: float | None = None,
    author: str | None = None,
    note: str | None = None,
    batch: int | None = None,
    proposer: str = DEFAULT_PROPOSER,
    start: str | None = None,
    folds: int | None = None,
    cold: bool = False,
    engine: Engine | None = None,
    announce: Callable[[str], None] | None = None,
    watch: Callable[[Progress], None] | None = None,
    **table_options: Unpack[HoldoutOptions],
) -> RunResult:
    """Search for better weights, keep or revert, journal every experiment.

    Parameters and errors are those of `gtmar.run`, except for these.

    Parameters
    ----------
    limits
        When to stop.
    batch
        Candidates evaluated ahead of their turn, which changes no result; None adapts the number.
    proposer, start
        One of `plan.PROPOSERS`, and one of `plan.STARTS`. With the start `logistic`, the first
        experiments have weights of a logistic regression of retention on the accounts searched.
        None for `spec`, or `logistic` where folds are asked and accounts stay and leave.
    folds
        In how many folds to ask whether the search pays, see `search_pays`; where it doesn't, only
        the weights that are tried first are. 0 for not asking; None asks where `folds` says.
    engine
        Where to compute, and with how much memory. Changes no result; None for this process.
    announce
        Called with sentences: about cells read as unknown or in none of the spec's categories,
        earlier runs over this table, accounts in both tables, machine code to be compiled.
    table_options
        See `HoldoutOptions`; dates are ISO texts.

    Raises
    ------
    JournalError
        If the journal can't be written; what was written before stays.
    ResourceError
        If a disk is full, or a cluster can't be reached or is lost.
    """
    limits = limits or Limits()
    engine = engine or Engine()
    refuse_out_of_range(limits, seed=seed, holdout=holdout, batch=batch, folds=folds)
    refuse_unknown("proposer", proposer, PROPOSERS)
    if start is not None:
        refuse_unknown("start", start, STARTS)
    if folds and engine.own_rows:
        raise UsageError(
            "folds are searched in this process, which doesn't have the features that shards read",
            hint="--folds 0, or without --own-rows",
        )
    table = scan(data)
    spec_file = spec if isinstance(spec, str | Path) else None
    if spec is None:
        share = holdout if table_options.get("holdout_file") is None else 0.0
        spec = first_spec(table, holdout=share, set_aside=table_options.get("set_aside")).spec
    spec = spec_as_asked(spec, table_options, holdout)
    if no_worse:
        held = dict.fromkeys((*spec.no_worse, *no_worse))
        spec = spec.model_copy(update={"no_worse": tuple(held)})
    judge = Judge.of(spec, metric)
    if engine.own_rows and start not in (None, DEFAULT_START):
        raise refused(table.source, f'start "{start}" is fitted to all features at once')
    with engine.rows() as rows:
        accounts, aside = load(
            table, spec, spec_file=spec_file, memory=engine.memory, shards=rows, **table_options
        )
        announce = announce or _keep_quiet
        checked = accounts.checked
        # Warnings are shown with the result.
        reading = [each for each in checked.reading if each not in checked.warnings]
        for sentence in (*aside, *reading, *shared_account_notes(accounts)):
            announce(sentence)
        asked: dict[str, Any] = {"folds": folds, "start": start, "engine": engine}
        folds, start, unasked = folds_and_start(accounts, spec, judge, **asked, journal=journal)
        if unasked is not None:
            announce(unasked)
        plan = Plan(
            seed=seed,
            limits=limits,
            proposer=proposer,
            start=start,
            given=given_at_start(start, accounts.search, spec),
            batch=batch,
            author=author,
            note=note,
            as_of=table_options.get("as_of"),
            holdout_as_of=table_options.get("holdout_as_of"),
        )
        # A search of no experiment tries nothing, so there is nothing to ask.
        if folds and limits.experiments:
            announce(f"Asking in {folds} folds whether a search pays ...")
            how: dict[str, Any] = {"journal": journal, "memory": engine.memory}
            how["table_options"] = table_options
            answer = asked_in_folds(accounts, spec, judge, plan, folds, **how)
            plan = replace(plan, search_pays=answer)
        memory = None
        if not (cold or plan.only_first):
            memory = recall_memory(Path(journal), accounts, spec, judge)
        if memory is not None:
            announce(memory_sentence(memory, judge.name))
        plan = replace(plan, memory=memory).ended_by_folds()
        with engine.evaluator(accounts.search, spec, rows) as evaluator:
            search = Search(
                accounts, spec, judge, plan, watch=watch, evaluator=evaluator, announce=announce
            )
            # Other findings are shown with the result.
            for sentence in warnings_of(f for f in search.findings if f.kind == "limit"):
                announce(sentence)
            return run_and_journal(search, journal)


def spec_as_asked(
    spec: ScoringSpec | str | Path, table_options: HoldoutOptions, holdout: float | None = None
) -> ScoringSpec:
    """Return a spec with the date format and the holdout that were asked for.

    `holdout` is the share of accounts to hold out; None for the spec's own. With a holdout in a
    table of its own, nothing of the first table is held out.
    """
    spec = specs.reading_dates(spec, table_options.get("date_format"))
    if table_options.get("holdout_file") is not None:
        return without_holdout(spec, share=holdout)
    if holdout is None:
        return spec
    split = spec.split.model_copy(update={"holdout": holdout})
    return spec.model_copy(update={"split": split})


def _keep_quiet(_sentence: str) -> None:
    """Ignore a sentence: the default of `announce`."""


def run_and_journal(search: Search, journal: str | Path) -> RunResult:
    """Run a search and journal it under a new run id."""
    with RunWriter(Path(journal), new_run_id()) as writer:
        return search.run(writer, start=start_record(search))


def refuse_out_of_range(
    limits: Limits,
    *,
    seed: int,
    holdout: float | None,
    batch: int | None = None,
    folds: int | None = None,
) -> None:
    """Raise one `UsageError` for all arguments that are out of range."""
    n, patience, seconds = limits.experiments, limits.patience, limits.seconds
    ranges = (
        (0 <= seed < 2**63, "seed must be in [0, 2^63)", seed),
        (n >= 0, "the number of experiments must be 0 or more", n),
        (patience is None or patience >= 1, "patience must be 1 or more", patience),
        (seconds is None or seconds >= 0, "the time budget must be 0 seconds or more", seconds),
        (holdout is None or 0 <= holdout < 1, "holdout must be in [0, 1)", holdout),
        (batch is None or batch >= 1, "batch must be 1 or more", batch),
        (folds in (None, 0) or (folds or 0) >= 2, "folds must be 0 for none, or 2 or more", folds),
    )
    if wrong := [f"{rule}, got {value}" for fits, rule, value in ranges if not fits]:
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
    announce: Callable[[str], None] | None = None,
    kind: str = "human",
    **table_options: Unpack[HoldoutOptions],
) -> RunResult:
    """Measure one change of weights against the spec that it starts from, and journal it.

    Parameters and errors are those of `gtmar.try_weights`. `announce` is called with sentences
    about rows set aside and accounts in both tables; `kind` is `human`, or `record` for a change
    made elsewhere.

    Returns
    -------
    RunResult
        Of a run with one experiment, or with none if a recorded spec changes nothing. `wins` is 1
        if the objective got better and no guardrail broke, else 0.
    """
    spec_file = spec if isinstance(spec, str | Path) else None
    spec = spec_as_asked(spec, table_options)
    after = changed_weights(spec, weights, kind=kind)
    judge = Judge.of(spec, metric)
    accounts, aside = load(scan(data), spec, spec_file=spec_file, **table_options)
    for sentence in (*aside, *shared_account_notes(accounts)):
        (announce or _keep_quiet)(sentence)
    plan = Plan(
        kind=kind,
        author=author,
        note=note,
        as_of=table_options.get("as_of"),
        holdout_as_of=table_options.get("holdout_as_of"),
    )
    return measure_change(accounts, spec, after, judge, plan, journal=journal)


def changed_weights(
    spec: ScoringSpec, weights: Mapping[str, int], *, kind: str = "human"
) -> tuple[int, ...]:
    """Return F weights after a change; a change of nothing is an error if `kind` is `human`."""
    after = specs.reweighed(spec, weights).vector
    if kind == "human" and after == spec.vector:
        stated = ", ".join(f"{name} is {weight} already" for name, weight in weights.items())
        raise UsageError(
            f"nothing to try: {stated or 'no weight differs'}",
            hint="--set NAME=WEIGHT with another weight",
        )
    return after


def measure_change(
    accounts: Accounts,
    spec: ScoringSpec,
    after: tuple[int, ...],
    judge: Judge,
    request: Plan,
    *,
    journal: str | Path,
) -> RunResult:
    """Measure and journal a change of a spec's weights, on accounts that are loaded.

    `after` are the F weights, from `changed_weights`. `request` is a plan with author, note and
    dates; the change itself and the limits are added to it.
    """
    changes = after != spec.vector
    weights = {term.name: weight for term, weight in zip(spec.terms, after, strict=True)}
    changed = specs.spec_id(specs.reweighed(spec, weights)) if changes else None
    plan = replace(
        request,
        changed_spec_id=changed,
        limits=Limits(experiments=int(changes)),
        given=Given("human", (after,)) if changes else None,
    )
    return run_and_journal(Search(accounts, spec, judge, plan), journal)


#: Most vectors that a memory has, the best ones.
_MOST_KNOWN = 20_000
#: Columns of experiments that `known_vectors.sql` reads.
_COLUMNS = ("run_id", "experiment_id", "number", "value_after", "outcome", "weights")


def recall_memory(
    journal: Path, accounts: Accounts, spec: ScoringSpec, judge: Judge
) -> Memory | None:
    """Collect the results of finished runs over the same table, objective and form of the spec.

    Equal fingerprints of outcomes mean that the same accounts were searched, so that nothing of the
    holdout leaks in. Equal fingerprints of features, and equal forms, mean that equal weights give
    equal scores. None if there is no such run.
    """
    with journal_if_there(journal) as opened:
        if opened is None:
            return None
        # Weights are read of these runs alone.
        on_table = opened.query(
            "select run_id from runs where outcomes_fingerprint = getvariable('outcomes')",
            columns=(),
            outcomes=accounts.outcomes_fingerprint,
        )
        rows = opened.sql(
            "known_vectors",
            among=on_table["run_id"].to_list(),
            columns=_COLUMNS,
            outcomes_fingerprint=accounts.outcomes_fingerprint,
            features_fingerprint=accounts.features_fingerprint,
            objective=judge.name,
            tiers_id=specs.tiers_id(spec),
            evaluator_version=EVALUATOR_VERSION,
            most=_MOST_KNOWN,
        )
        if rows.is_empty():
            return None
        texts = opened.query(
            "select spec_id, any_value(spec) as spec from runs "
            "where list_contains(getvariable('ids'), spec_id) group by spec_id",
            columns=(),
            ids=rows["spec_id"].unique().to_list(),
        )
    # With the other orientation, equal weights have another value.
    form = form_id(spec), spec.orientation
    alike = {row["spec_id"] for row in texts.to_dicts() if _form_of(row["spec"]) == form}
    names = tuple(term.name for term in spec.terms)
    constraints = constraints_of(spec)
    known: dict[tuple[int, ...], Known] = {}
    best: list[tuple[int, ...]] = []
    for row in rows.iter_rows(named=True):
        if row["spec_id"] not in alike:
            continue
        vector = tuple(row["weights"][name] for name in names)
        known[vector] = Known(row["value_after"], f"{row['run_id']}/{row['experiment_id']}")
        within = all(t.min <= w <= t.max for w, t in zip(vector, spec.terms, strict=True))
        fits = within and constraints.hold(vector)
        if fits and row["outcome"] != "blocked" and len(best) < MOST_GIVEN:
            best.append(vector)
    if not known:
        return None
    runs = sorted({result.source.partition("/")[0] for result in known.values()})
    return Memory(runs=tuple(runs), names=names, known=known, best=tuple(best))


def _form_of(text: str) -> tuple[str, str] | None:
    """Return the form and orientation of a spec in the journal; None if it can't be read."""
    try:
        spec = specs.parse(text)
    except SpecError:
        return None
    return form_id(spec), spec.orientation


def memory_sentence(memory: Memory, objective: str) -> str:
    """Word how many runs and vectors a memory has, and what will be tried first."""
    runs = len(memory.runs)
    sentence = (
        f"The journal knows this table: {runs:,} finished run{'' if runs == 1 else 's'}, "
        f"{len(memory.known):,} weight vectors evaluated."
    )
    if memory.best:
        best = memory.known[memory.best[0]]
        sentence += f" The best, {objective} {best.value:.4f} of {best.source}, is tried first."
    return f"{sentence} --cold starts without it."
