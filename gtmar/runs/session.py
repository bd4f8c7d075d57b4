"""Recorded runs opened again with all that they had: to resume, replay and repeat their searches.

Null search and stability write one event about a run, and no run of their own.
"""

from __future__ import annotations

import shlex
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from gtmar import spec as specs
from gtmar.autospec.first_spec import FIRST_SPEC
from gtmar.autospec.refit_encoders import EncoderRefit, columns_of
from gtmar.data.matrix import load_accounts
from gtmar.data.own_rows import refused
from gtmar.data.scan import Source, scan
from gtmar.engine.evaluator import EVALUATOR_VERSION, evaluator_code
from gtmar.errors import AccountDataError, NotResumableError, UsageError
from gtmar.journal.columns import experiment_id
from gtmar.journal.digest import OUTSIDE_DIGEST
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.plain_data import PlainData
from gtmar.runs.holdout import holdout_parameters, later_source, load_with_holdout
from gtmar.runs.inputs import refuse_unknown_options
from gtmar.runs.journaled_search import Search
from gtmar.runs.plan import Engine, Plan, given_at_start
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
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gtmar.data.matrix import AccountMatrix, Accounts, RowShards
    from gtmar.data.scan import Tabular
    from gtmar.engine.ray_shards import ClusterRows
    from gtmar.runs.results import Progress, RunResult
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "FoundStability",
    "NullSearch",
    "Replay",
    "Session",
    "chosen_columns",
    "commands_of",
    "desk_command",
    "ended_run",
    "knows_outcomes",
    "load_tables",
    "null_search",
    "open_run",
    "repeated_search",
    "replay",
    "resume",
    "stability",
    "tables_of",
]


@dataclass(frozen=True)
class Session:
    """A recorded run, and everything that it was made with; `start` is its start record."""

    files: RunFiles
    start: dict[str, Any]
    spec: ScoringSpec
    judge: Judge
    plan: Plan
    accounts: Accounts

    @property
    def end(self) -> dict[str, Any]:
        """The end record; raises a `JournalError` if the run hasn't ended."""
        return self.files.record("end")

    @property
    def best(self) -> tuple[int, ...]:
        """The weights that it ended with, F of them."""
        name = self.end["best_experiment"]
        [row] = [row for row in self.files.judged() if experiment_id(row["number"]) == name]
        weights = dict(row["weights"])
        return tuple(weights[term.name] for term in self.spec.terms)

    @contextmanager
    def search(
        self,
        *,
        plan: Plan | None = None,
        engine: Engine | None = None,
        rows: ClusterRows | None = None,
        watch: Callable[[Progress], None] | None = None,
    ) -> Iterator[Search]:
        """Yield the run's search, or one by another plan, on an engine.

        `rows` are the shards that read the table, if any did.
        """
        with (engine or Engine()).evaluator(self.accounts.search, self.spec, rows) as evaluator:
            plan = plan or self.plan
            yield Search(
                self.accounts, self.spec, self.judge, plan, watch=watch, evaluator=evaluator
            )


def open_run(
    run_id: str,
    journal: str | Path,
    data: Any = None,
    holdout_file: Any = None,
    *,
    memory: int | None = None,
    untouched: bool = True,
    numbered: bool = False,
    shards: RowShards | None = None,
) -> Session:
    """Open a run again, over the tables that it was made on.

    Parameters
    ----------
    run_id, journal
        The run's full id, and the journal's folder.
    data, holdout_file
        The account table, and the holdout's own, if they have moved since; None for where they
        were.
    memory, numbered, shards
        As for `load_accounts`.
    untouched
        Whether the holdout's own table is opened, too.

    Raises
    ------
    NotResumableError
        If a table or the evaluator version differ from the run's.
    """
    files = RunFiles(Path(journal), run_id)
    start = files.record("start")
    how: dict[str, Any] = {"memory": memory, "untouched": untouched, "shards": shards}
    spec, accounts = load_tables(start, data, holdout_file, numbered=numbered, **how)
    _refuse_another(start, accounts)
    judge = Judge.of(spec, start["objective"])
    return Session(files, start, spec, judge, Plan.of_record(start), accounts)


def ended_run(
    run_id: str,
    journal: str | Path,
    data: Any = None,
    holdout_file: Any = None,
    *,
    untouched: bool = True,
    numbered: bool = False,
    only_search: bool = False,
) -> Session:
    """Open a run that has ended; parameters are those of `open_run`.

    Raises
    ------
    UsageError
        If the run was imported, so that its table isn't known; or if it is no search, and
        `only_search` is set.
    NotResumableError
        If it hasn't ended, or table or evaluator version differ.
    """
    files = RunFiles(Path(journal), run_id)
    kind = files.record("start")["kind"]
    if only_search and kind != "search":
        raise UsageError(
            f"run {run_id} is of kind {kind}, not a search: it has no search to repeat",
            hint="gtmar sql runs lists the searches",
        )
    if kind == "import":
        raise UsageError(
            f"run {run_id} was imported: its table isn't known here",
            hint="gtmar try, with the table, measures its weights anew",
        )
    if not files.end.is_file():
        raise NotResumableError(f"run {run_id} has not ended", hint=f"gtmar resume {run_id}")
    return open_run(run_id, journal, data, holdout_file, untouched=untouched, numbered=numbered)


def load_tables(
    start: Mapping[str, Any],
    data: Any = None,
    holdout_file: Any = None,
    *,
    memory: int | None = None,
    untouched: bool = True,
    coded: Sequence[str] = (),
    numbered: bool = False,
    shards: RowShards | None = None,
) -> tuple[ScoringSpec, Accounts]:
    """Return a start record's spec, and its tables loaded as the run did.

    Whether the tables still hold what they did isn't checked; `open_run` does that. `coded`,
    `numbered` and `shards` are as for `load_accounts`. Raises `UsageError` for a `holdout_file` if
    the run had none.
    """
    parameters = dict(start["parameters"])
    spec = specs.parse(start["spec"], source=f"spec of run {start['run_id']}")
    own = tables_of(start)
    known, later = own["data"], own["holdout_file"]
    if data is None and known.location == "frame":
        raise AccountDataError(
            f"run {start['run_id']} searched a data frame, which can't be opened again",
            hint="give the table: data=frame in Python, --data TABLE on the command line",
        )
    table = scan(data if data is not None else known, at=known.at)
    if later is None and holdout_file is not None:
        raise UsageError(
            f"run {start['run_id']} held out accounts of its own table: it has no later table that "
            "could have moved",
            hint="gtmar refresh searches one table and decides on a later one",
        )
    options: dict[str, Any] = {
        **{name: own[name] for name in ("as_of", "drop_unlabelled", "set_aside")},
        "memory": memory,
        "copies_together": "copies_together" in parameters,
        "numbered": numbered,
    }
    if later is None or not untouched:
        return spec, load_accounts(table, spec, **options, coded=coded, shards=shards)
    if shards is not None:
        raise refused(table.source, "a later table is held beside it, row by row")
    holdout = scan(holdout_file if holdout_file is not None else later, at=later.at)
    options["later_as_of"] = own["holdout_as_of"]
    return spec, load_with_holdout(table, holdout, spec, **options)


def tables_of(start: Mapping[str, Any]) -> dict[str, Any]:
    """Return a start record's tables and how they were read, as arguments of `runs.run`."""
    parameters = dict(start["parameters"])
    share = parameters.get("set_aside")
    return {
        "data": Source.of_record(start["source"], parameters),
        "holdout_file": later_source(parameters),
        "as_of": parameters.get("as_of"),
        "holdout_as_of": parameters.get("holdout_as_of"),
        "drop_unlabelled": parameters.get("drop_unlabelled") == "True",
        "set_aside": None if share is None else float(share),
    }


#: Fields and parameters of a start record that must be the same now, and their names in a message.
_COMPARED = {
    "outcomes_fingerprint": "table (ids, outcomes or split)",
    "features_fingerprint": "table (features)",
    "segments_fingerprint": "table (segments)",
    "evaluator_version": "evaluator version",
    "holdout_outcomes_fingerprint": "holdout's table (ids or outcomes)",
    "holdout_features_fingerprint": "holdout's table (features)",
}


def _refuse_another(start: dict[str, Any], accounts: Accounts) -> None:
    """Raise `NotResumableError` if tables or evaluator differ from the run's; it lists how."""
    then = dict(start["parameters"]) | start
    now = holdout_parameters(accounts) | {
        "outcomes_fingerprint": accounts.outcomes_fingerprint,
        "features_fingerprint": accounts.features_fingerprint,
        "segments_fingerprint": accounts.segments_fingerprint,
        "evaluator_version": EVALUATOR_VERSION,
    }
    pairs = {what: (then.get(name), now[name]) for name, what in _COMPARED.items() if name in now}
    differing = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if differing:
        details = "; ".join(
            f"{name}: {then} then, {now} now" for name, (then, now) in differing.items()
        )
        raise NotResumableError(
            f"run {start['run_id']} can't be done again here: what differs is {details}",
            hint="give the table that it was made on with --data, a later one with --holdout-file",
            differing=list(differing),
        )


def commands_of(start: Mapping[str, Any]) -> list[str]:
    """Return the commands that would repeat a recorded search as a new run."""
    run_id, parameters = start["run_id"], dict(start["parameters"] or {})
    source, later = Source.of_record(start["source"], parameters), later_source(parameters)
    lines = [f"gtmar checkout {run_id}/start -o start.yaml"]
    again = ["gtmar", "run", *_table_options(source, "--data", "--", "accounts.sql", lines)]
    again += ["--spec", "start.yaml", "--metric", start["objective"], "--seed", str(start["seed"])]
    names = ["n", "patience", "time_budget", "proposer", "start", "folds"]
    if later is None:
        names += ["holdout", "as_of"]
    else:
        names += ["as_of", "holdout_as_of"]
        again += _table_options(later, "--holdout-file", "--holdout-file-", "holdout.sql", lines)
    again += _options_of(parameters, *names, "set_aside")
    again += ["--cold"] * (start["memory"] is None)
    return [*lines, shlex.join(again)]


def desk_command(start: Mapping[str, Any]) -> str | None:
    """Return the command that opens a run's best on the desk; None if no option names its table."""
    parameters, lines = dict(start["parameters"] or {}), list[str]()
    source, later = Source.of_record(start["source"], parameters), later_source(parameters)
    words = ["gtmar", "desk", *_table_options(source, "--data", "--", "accounts.sql", lines)]
    words += ["--spec", start["run_id"]]
    names = ["as_of"]
    if later is not None:
        names.append("holdout_as_of")
        words += _table_options(later, "--holdout-file", "--holdout-file-", "holdout.sql", lines)
    words += _options_of(parameters, *names, "set_aside")
    return None if lines or start["source"] == "frame" else shlex.join(words)


def _options_of(parameters: Mapping[str, str], *names: str) -> list[str]:
    """Return options that a start record's parameters have, and ``--drop-unlabelled`` if set."""
    given = [(name, parameters[name]) for name in names if name in parameters]
    words = [word for name, value in given for word in (f"--{name.replace('_', '-')}", value)]
    return words + ["--drop-unlabelled"] * (parameters.get("drop_unlabelled") == "True")


def _table_options(
    source: Source, option: str, prefix: str, query_file: str, lines: list[str]
) -> list[str]:
    """Return the options that name a table; a command that writes its query is added to `lines`."""
    options = [option, source.location]
    if source.at_version is not None:
        options += [f"{prefix}at-version", str(source.at_version)]
    if source.at is not None:
        options += [f"{prefix}at", source.at]
    if source.query is not None:
        lines.append(f"printf '%s' {shlex.quote(source.query)} > {query_file}")
        options += [f"{prefix}query", query_file]
    for name, other in source.others:
        options += [f"{prefix}source", f"{name}={other.location}"]
    return options


# ---- continued or repeated -----------------------------------------------------------------------


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

    `engine` is where to compute, which may differ from before; `watch` is called with a `Progress`
    after every batch. All else is as for `open_run`, with its errors; and `JournalError` if the run
    still runs, has ended, or is damaged.
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
    """Repeat a run and compare every value with the journal's. Errors are those of `open_run`."""
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
    #: What no half chooses anew, so that noise is called sound more often; None for nothing.
    note: str | None = None
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

    It does if all its encoders were fitted, and its weights were not, and no column was chosen:
    which columns a rule or a table reads, and which of a wide table are features, isn't chosen
    again.
    """
    fitted = fitted_features(spec)
    bins = any(isinstance(feature.encode, Bins) for feature in spec.features.values())
    weights = {spec.features[name].weight for name in fitted}
    whole = len(fitted) == len(spec.fitted) and len(weights) == 1
    return spec.lineage is None and whole and not bins and chosen_columns(spec) is None


def chosen_columns(spec: ScoringSpec) -> str | None:
    """Return which columns of a spec `init` chose by outcomes, in words; None for none."""
    ruled = any(spec.features[name].conditions for name in fitted_features(spec))
    chosen = ["the columns of its rules"] * ruled
    if spec.chosen_from is not None:
        chosen.insert(0, f"its features out of {spec.chosen_from:,} columns")
    return " and ".join(chosen) or None


def _unpaid(spec: ScoringSpec) -> str | None:
    """Return what halves don't find anew of a spec that knows their outcomes; None for nothing."""
    said = []
    if spec.chosen_from is not None:
        said.append(
            f"All of these accounts chose the features out of {spec.chosen_from:,} columns, and no "
            "half chooses anew: a column of noise that looked best in all holds in halves far more "
            "often than 1 time in 20."
        )
    if any(isinstance(feature.encode, Bins) for feature in spec.features.values()):
        said.append(
            "All of these accounts set the bins and their first points, which are no half's own: a "
            "bin of noise holds far more often than 1 time in 20."
        )
    return " ".join(said) or None


def _knows_these(session: Session) -> bool:
    """Return whether a run's start may have been made from the outcomes searched."""
    outcomes = session.start["outcomes_fingerprint"]
    return knows_outcomes(session.spec, session.files.journal, outcomes)


def knows_outcomes(spec: ScoringSpec, journal: Path, outcomes: str) -> bool:
    """Return whether `init` or a run may have made a spec from the outcomes of a fingerprint."""
    lineage = spec.lineage
    if lineage is None:
        return spec.model == FIRST_SPEC or bool(spec.fitted) or spec.chosen_from is not None
    files = RunFiles(journal, lineage.run)
    if not files.start.is_file():
        return True
    return bool(files.record("start")["outcomes_fingerprint"] == outcomes)


def stability(run_id: str, **options: Unpack[SearchesOptions]) -> FoundStability:
    """Repeat a run's search on random halves of its accounts; errors are those of `null_search`."""
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
    note = _unpaid(session.spec) if _knows_these(session) else None
    facts |= {} if note is None else {"note": note}
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
        only_first=plan.only_first,
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
