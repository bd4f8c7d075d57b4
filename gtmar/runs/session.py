"""A recorded run opened again: with the tables, spec, plan and objective that it had."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.own_rows import refused
from gtmar.data.scan import Source, scan
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.errors import AccountDataError, NotResumableError, UsageError
from gtmar.journal.columns import experiment_id
from gtmar.journal.files import RunFiles
from gtmar.objective.objective import Judge
from gtmar.runs.holdout import holdout_parameters, later_source, load_with_holdout
from gtmar.runs.journaled_search import Search
from gtmar.runs.plan import Engine, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gtmar.data.matrix import Accounts, RowShards
    from gtmar.engine.ray_shards import ClusterRows
    from gtmar.runs.results import Progress
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "Session",
    "commands_of",
    "desk_command",
    "ended_run",
    "load_tables",
    "open_run",
    "tables_of",
]


@dataclass(frozen=True)
class Session:
    """A recorded run, and everything that it was made with.

    `start` is the start record. `accounts` has the holdout's own table, if that was opened.
    """

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
    def baseline(self) -> tuple[int, ...]:
        """The weights that it started from, F of them."""
        return tuple(term.weight for term in self.spec.terms)

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
    source = Source.of_record(start["source"], parameters)
    lines = [f"gtmar checkout {run_id}/start -o start.yaml"]
    again = ["gtmar", "run"]
    again += _table_options(source, "--data", "--", "accounts.sql", lines)
    again += ["--spec", "start.yaml", "--metric", start["objective"], "--seed", str(start["seed"])]
    names = ["n", "patience", "time_budget", "proposer", "start", "holdout", "as_of"]
    later = later_source(parameters)
    if later is not None:
        names.remove("holdout")
        again += _table_options(later, "--holdout-file", "--holdout-file-", "holdout.sql", lines)
        names.append("holdout_as_of")
    for name in (*names, "set_aside"):
        if name in parameters:
            again += [f"--{name.replace('_', '-')}", parameters[name]]
    again += ["--drop-unlabelled"] * (parameters.get("drop_unlabelled") == "True")
    again += ["--cold"] * (start["memory"] is None)
    return [*lines, shlex.join(again)]


def desk_command(start: Mapping[str, Any]) -> str | None:
    """Return the command that opens a run's best on the desk.

    None if no option can name its table: a frame, or the result of a query.
    """
    parameters, lines = dict(start["parameters"] or {}), list[str]()
    words = ["gtmar", "desk"]
    words += _table_options(
        Source.of_record(start["source"], parameters), "--data", "--", "accounts.sql", lines
    )
    words += ["--spec", start["run_id"]]
    later = later_source(parameters)
    if later is not None:
        words += _table_options(later, "--holdout-file", "--holdout-file-", "holdout.sql", lines)
    for name in ("as_of", "holdout_as_of", "set_aside"):
        if name in parameters and (name != "holdout_as_of" or later is not None):
            words += [f"--{name.replace('_', '-')}", parameters[name]]
    words += ["--drop-unlabelled"] * (parameters.get("drop_unlabelled") == "True")
    return None if lines or start["source"] == "frame" else shlex.join(words)


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
