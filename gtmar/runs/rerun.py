"""Recorded runs continued or repeated: resume, replay, null search and stability.

Null search and stability write one event about a run, and no run of their own.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from gtmar.autospec.first_spec import FIRST_SPEC
from gtmar.autospec.refit_encoders import EncoderRefit, columns_of
from gtmar.engine.evaluator import evaluator_code
from gtmar.errors import NotResumableError, UsageError
from gtmar.journal.digest import OUTSIDE_DIGEST
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles
from gtmar.journal.writer import RunWriter
from gtmar.optimize.search_loop import Limits
from gtmar.plain_data import PlainData
from gtmar.runs.inputs import refuse_unknown_options
from gtmar.runs.plan import Engine, given_at_start
from gtmar.runs.session import ended_run, load_tables, open_run
from gtmar.runs.side_by_side import signs_by_date
from gtmar.spec.encoders import Bins
from gtmar.spec.ids import fitted_features
from gtmar.validation.repeated_search import (
    NullAnswers,
    RepeatedSearch,
    WeightStability,
    gain_by_chance,
    read_weights,
    searched_again,
    value_by_chance,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.scan import Tabular
    from gtmar.runs.results import Progress, RunResult
    from gtmar.runs.session import Session
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "FoundStability",
    "NullSearch",
    "Replay",
    "knows_outcomes",
    "null_search",
    "repeated_search",
    "replay",
    "resume",
    "stability",
]


def resume(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    holdout_file: Tabular | None = None,
    engine: Engine | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Continue a run that was cut off, to the digest that the uninterrupted run would have.

    Parameters
    ----------
    run_id, journal, data, holdout_file
        As for `open_run`.
    engine
        Where to compute, and with how much memory; may differ from before.
    watch
        Called with a `Progress` after every batch.

    Raises
    ------
    NotResumableError
        If table or evaluator version differ from the run's; the message says which.
    JournalError
        If the run still runs, has ended, or is damaged.
    """
    folder, engine = Path(journal), engine or Engine()
    files = RunFiles(folder, run_id)
    _refuse_imported(files.record("start"))
    with ExitStack() as stack:
        rows = stack.enter_context(engine.rows())
        how: dict[str, Any] = {"memory": engine.memory, "shards": rows}
        session = open_run(run_id, folder, data, holdout_file, **how)
        search = stack.enter_context(session.search(engine=engine, rows=rows, watch=watch))
        writer = stack.enter_context(RunWriter(folder, run_id, resumed=True))
        number = len(list(files.records.glob("resume-*.parquet"))) + 1
        writer.record(f"resume-{number}", {"started_at": datetime.now(UTC)})
        done = files.judged() if files.whole_parts else None
        return search.run(writer, done=done)


def _refuse_imported(start: dict[str, Any]) -> None:
    if start["kind"] == "import":
        raise NotResumableError(
            f"run {start['run_id']} was imported: what it was made on isn't known here",
            hint="gtmar try, with the table, measures its weights anew",
            differing=["kind"],
        )


@dataclass(frozen=True)
class Replay(PlainData):
    """The comparison of a run with its repetition."""

    run_id: str
    #: Experiments compared.
    experiments: int
    identical: bool
    digest: str
    recorded_digest: str | None
    #: The first experiment and column that differ, with both values; None if nothing does.
    difference: dict[str, Any] | None
    #: Whether the evaluator's code has changed since, its version being the same.
    evaluator_code_changed: bool


def replay(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    holdout_file: Tabular | None = None,
) -> Replay:
    """Repeat a run and compare every value with the journal's, which isn't written to.

    Parameters and errors are those of `open_run`.
    """
    files = RunFiles(Path(journal), run_id)
    start, before = files.record("start"), files.rows()
    _refuse_imported(start)
    ended = files.record("end") if files.end.is_file() else None
    proposals = ended["proposals"] if ended else before["proposal"][-1].as_py()
    session = open_run(run_id, journal, data, holdout_file)
    with (
        session.search(plan=session.plan.up_to(proposals)) as search,
        tempfile.TemporaryDirectory() as scratch,
    ):
        with RunWriter(Path(scratch), run_id) as writer:
            search.run(writer)
            digest = writer.digest.hexdigest()
        after = RunFiles(Path(scratch), run_id).rows()
    names = [name for name in before.column_names if name not in OUTSIDE_DIGEST]
    pairs = zip(before.select(names).to_pylist(), after.select(names).to_pylist(), strict=False)
    differing: Iterator[dict[str, Any]] = (
        {"experiment": was["experiment_id"], "column": name, "then": was[name], "now": now[name]}
        for was, now in pairs
        for name in names
        if was[name] != now[name]
    )
    difference = next(differing, None)
    if difference is None and before.num_rows != after.num_rows:
        counts = before.num_rows - 1, after.num_rows - 1
        difference = dict(zip(("experiments_then", "experiments_now"), counts, strict=True))
    recorded = ended["digest"] if ended else None
    return Replay(
        run_id=run_id,
        experiments=before.num_rows - 1,
        identical=difference is None and recorded in (None, digest),
        digest=digest,
        recorded_digest=recorded,
        difference=difference,
        evaluator_code_changed=start["evaluator_code"] != evaluator_code(),
    )


@dataclass(frozen=True)
class NullSearch(PlainData, NullAnswers):
    """A run compared with the same search on shuffled outcomes, where there is nothing to find."""

    run_id: str
    #: Accounts that the run held out, on which a decision would be stronger proof.
    held_out: int
    seed: int
    event_id: str


@dataclass(frozen=True)
class FoundStability(PlainData):
    """How each weight varies when a run's search is repeated on halves of its accounts."""

    run_id: str
    objective: str
    weights: tuple[WeightStability, ...]
    searches: int
    experiments: int
    seed: int
    event_id: str
    #: For each weight, whether its sign holds on each date, see `signs_by_date`; None for a table
    #: of one date.
    signs: dict[str, list[bool | None]] | None = None


class SearchesOptions(TypedDict, total=False):
    """Options of null search and stability."""

    #: The journal's folder.
    journal: str | Path
    #: The account table, where it has moved since.
    data: Tabular | None
    #: Number of searches, 1 or more; a null search does so many for each of its two questions.
    #: Default 50.
    searches: int
    #: Seed of the random draws, in [0, 2^63). Default 0.
    seed: int
    author: str | None
    #: Processes that search side by side, which changes no answer; None for one for each core, if
    #: there is enough work. Default 1, on a cluster None.
    workers: int | None
    #: Where to search: on this machine, the default, or on a Ray cluster.
    engine: Engine
    #: Called with the number of searches that are done, and the number of all.
    watch: Callable[[int, int], None] | None


def null_search(run_id: str, **options: Unpack[SearchesOptions]) -> NullSearch:
    """Test whether a run's score predicts anything, and whether it is better than its start.

    For the first question, the same search is done on outcomes shuffled among all accounts, and the
    best values are compared with the run's. For the second, outcomes are shuffled among accounts of
    similar score at the start, and the gains are compared.

    Raises
    ------
    UsageError
        If the number of searches or the seed is out of its range.
    NotResumableError
        If the run hasn't ended, or table or evaluator version differ from the run's.
    """
    session, how = _opened_run(run_id, options)
    (search, accounts), judge, end = (
        _search_and_accounts(session, options),
        session.judge,
        session.end,
    )
    value = end["best_value"]
    gain = judge.sign * (value - end["baseline_value"])
    watch = how.pop("watch")

    def also(before: int) -> Callable[[int, int], None] | None:
        return watch and (lambda done, of: watch(before + done, 2 * of))

    with how["processes"]:
        knows = value_by_chance(search, accounts, value, **how, watch=also(0))
        better = gain_by_chance(search, accounts, gain, **how, watch=also(how["searches"]))
    facts: dict[str, Any] = {
        "objective": judge.name,
        **better.facts,
        "gains": better.drawn,
        "knows": {
            **knows.facts,
            "values": knows.drawn,
            "fitted": _knows_these(session) and not _pays_for_all(session.spec),
            "unseen": end["holdout_best_value"],
        },
        "experiments": search.limits.experiments,
        "seed": how["seed"],
    }
    event_id = _put_on_record(EventKind.NULL, session, facts, options)
    held_out = session.start["holdout_accounts"] or 0
    return NullSearch(run_id=run_id, held_out=held_out, event_id=event_id, **facts)


def _pays_for_all(spec: ScoringSpec) -> bool:
    """Return whether refitting encoders removes all that a spec knows of the outcomes.

    It does if all its encoders were fitted, and its weights were not. Which columns a rule or a
    table reads was chosen among all columns, and isn't chosen again.
    """
    fitted = fitted_features(spec)
    found = any(spec.features[name].conditions for name in fitted)
    bins = any(isinstance(feature.encode, Bins) for feature in spec.features.values())
    weights = {spec.features[name].weight for name in fitted}
    whole = len(fitted) == len(spec.fitted) and len(weights) == 1
    return spec.lineage is None and whole and not bins and not found


def _knows_these(session: Session) -> bool:
    """Return whether a run's start may have been made from the outcomes searched."""
    outcomes = session.start["outcomes_fingerprint"]
    return knows_outcomes(session.spec, session.files.journal, outcomes)


def knows_outcomes(spec: ScoringSpec, journal: Path, outcomes: str) -> bool:
    """Return whether `init` or a run may have made a spec from the outcomes of a fingerprint."""
    lineage = spec.lineage
    if lineage is None:
        return spec.model == FIRST_SPEC or bool(spec.fitted)
    files = RunFiles(journal, lineage.run)
    if not files.start.is_file():
        return True
    return bool(files.record("start")["outcomes_fingerprint"] == outcomes)


def stability(run_id: str, **options: Unpack[SearchesOptions]) -> FoundStability:
    """Repeat a run's search on random halves of its accounts, and compare the weights.

    Errors are those of `null_search`.
    """
    session, how = _opened_run(run_id, options)
    search, accounts = _search_and_accounts(session, options)
    with how["processes"]:
        drawn = searched_again(search, accounts, **how)
    weights = read_weights(session.spec, session.best, drawn)
    facts: dict[str, Any] = {
        "objective": session.judge.name,
        "searches": how["searches"],
        "experiments": search.limits.experiments,
        "seed": how["seed"],
    }
    listed: dict[str, Any] = {"weights": [asdict(weight) for weight in weights]}
    searched, signs = session.accounts.search, None
    if searched.dates:
        signs = signs_by_date(searched, session.spec, session.judge, session.best)
        listed["signs"] = signs
    event_id = _put_on_record(EventKind.STABILITY, session, facts | listed, options)
    return FoundStability(run_id=run_id, event_id=event_id, weights=weights, signs=signs, **facts)


def repeated_search(session: Session) -> RepeatedSearch:
    """Return a run's search, to be repeated on other matrices.

    It has no memory. A start that was fitted to outcomes is fitted to each matrix anew. The results
    that the run took over from earlier runs count as experiments, since its best is the best of
    them, too.
    """
    spec, plan, judge = session.spec, session.plan, session.judge
    known = len(plan.memory.known) if plan.memory else 0
    return RepeatedSearch(
        spec=spec,
        judge=judge,
        proposer=partial(plan.make_proposer, spec, sign=judge.sign),
        limits=Limits(
            experiments=int(session.end["experiments"]) + known,
            patience=None if plan.memory else plan.limits.patience,
        ),
        given=partial(given_at_start, plan.start, spec=spec),
    )


def _search_and_accounts(
    session: Session, options: SearchesOptions
) -> tuple[RepeatedSearch, AccountMatrix]:
    """Return a run's search and its accounts.

    If the spec's encoders may have been fitted to these accounts, the search refits them to the
    accounts it is repeated on, and the accounts have the columns needed for that.
    """
    search, spec = repeated_search(session), session.spec
    names = fitted_features(spec)
    if not names or not _knows_these(session):
        return search, session.accounts.search
    coded = columns_of(spec, names)
    _, accounts = load_tables(session.start, options.get("data"), untouched=False, coded=coded)
    refit = EncoderRefit.of(accounts.table, spec, names)
    return replace(search, refit=refit), accounts.search


def _put_on_record(
    kind: EventKind, session: Session, facts: dict[str, Any], options: SearchesOptions
) -> str:
    named = {name: session.start[name] for name in ("model", "spec_id", "run_id")}
    journal, author = session.files.journal, options.get("author")
    return write_event(journal, kind, author=author, details=facts, **named)


def _opened_run(run_id: str, options: SearchesOptions) -> tuple[Session, dict[str, Any]]:
    """Open the run to repeat; return it and the arguments of its searches, after checking them."""
    refuse_unknown_options(options, SearchesOptions)
    searches, seed = options.get("searches", 50), options.get("seed", 0)
    engine = options.get("engine", Engine())
    workers = options.get("workers", 1 if engine.kind == "local" else None)
    wrong = []
    if searches < 1:
        wrong.append(f"the number of searches must be 1 or more, got {searches}")
    if not 0 <= seed < 2**63:
        wrong.append(f"seed must be in [0, 2^63), got {seed}")
    if workers is not None and workers < 1:
        wrong.append(f"the number of workers must be 1 or more, got {workers}")
    if engine.shards is not None:
        wrong.append("shards divide the table of one search; these search side by side")
    if wrong:
        raise UsageError("; ".join(wrong))
    journal, data = options.get("journal", "journal"), options.get("data")
    session = ended_run(run_id, journal, data, untouched=False, only_search=True)
    how = {"searches": searches, "seed": seed, "processes": engine.processes(workers)}
    return session, how | {"watch": options.get("watch")}
