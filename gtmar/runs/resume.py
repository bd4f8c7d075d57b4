"""Going on with a run that was cut off, and doing a run again to see whether it is the same."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.data.sources import Source
from gtmar.engine.evaluator import EVALUATOR_VERSION, evaluator_code
from gtmar.errors import NotResumableError
from gtmar.journal.digest import OUTSIDE_DIGEST
from gtmar.journal.files import RunFiles
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.runs.engine import Engine
from gtmar.runs.holdout import load_with_holdout, recorded, source_of
from gtmar.runs.loop import Search
from gtmar.runs.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gtmar.data.matrix import Accounts
    from gtmar.data.sources import Tabular
    from gtmar.runs.results import Progress, RunResult
    from gtmar.spec.model import ScoringSpec

__all__ = ["Replay", "replay", "resume", "search_of", "share_aside", "table_of"]


def resume(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    holdout_file: Tabular | None = None,
    engine: Engine | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Go on with a run that was cut off, to the digest that the uninterrupted run would have.

    Parameters
    ----------
    run_id
        The run's full id.
    journal
        The journal's folder.
    data, holdout_file
        The account table and the holdout's own, where they have moved since.
    engine
        Where to compute, and with how much memory; it may be another than before.
    watch
        Called after every batch.

    Raises
    ------
    NotResumableError
        If table or evaluator version differ from the run's; the message says which.
    JournalError
        If the run still runs, has ended, or is damaged.
    """
    folder = Path(journal)
    files = RunFiles(folder, run_id)
    start = files.record("start")
    _refuse_imported(start)
    with (
        _searching(start, data, holdout_file, engine=engine, watch=watch) as search,
        RunWriter(folder, run_id, resumed=True) as writer,
    ):
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


def search_of(
    start: dict[str, Any], data: Any, holdout_file: Any = None, *, untouched: bool = True
) -> Search:
    """Build the search that a start record asks for, over the table that it was made on.

    Parameters
    ----------
    start
        The record.
    data, holdout_file
        The account table and the holdout's own, where they have moved since.
    untouched
        Whether a holdout in a table of its own is opened, too.

    Raises
    ------
    NotResumableError
        If table or evaluator version differ from the run's.
    """
    spec, accounts = table_of(start, data, holdout_file, untouched=untouched)
    judge = Judge.of(spec, start["objective"])
    return Search(accounts, spec, judge, Plan.of_record(start))


@contextmanager
def _searching(
    start: dict[str, Any],
    data: Any,
    holdout_file: Any = None,
    *,
    plan: Plan | None = None,
    engine: Engine | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Iterator[Search]:
    """Give the same search, computing where an engine says."""
    engine = engine or Engine()
    spec, accounts = table_of(start, data, holdout_file, memory=engine.memory)
    judge = Judge.of(spec, start["objective"])
    plan = plan or Plan.of_record(start)
    with engine.evaluator(accounts.search, spec) as evaluator:
        yield Search(accounts, spec, judge, plan, watch=watch, evaluator=evaluator)


def table_of(
    start: dict[str, Any],
    data: Any,
    holdout_file: Any = None,
    *,
    memory: int | None = None,
    untouched: bool = True,
) -> tuple[ScoringSpec, Accounts]:
    """Read a run's spec and load its table again; refuse another one.

    Parameters are those of `search_of`, and `memory` that of `load_accounts`.

    Raises
    ------
    NotResumableError
        If a table or the evaluator version differ from the run's.
    """
    parameters = dict(start["parameters"])
    spec = specs.parse(start["spec"], source=f"spec of run {start['run_id']}")
    table = scan(data if data is not None else Source.of_record(start["source"], parameters))
    later = source_of(parameters, holdout_file) if untouched else None
    options: dict[str, Any] = {
        "as_of": parameters.get("as_of"),
        "drop_unlabelled": parameters.get("drop_unlabelled") == "True",
        "set_aside": share_aside(parameters),
        "memory": memory,
        "copies_together": "copies_together" in parameters,
    }
    if later is None:
        accounts = load_accounts(table, spec, **options)
    else:
        options["later_as_of"] = parameters.get("holdout_as_of")
        accounts = load_with_holdout(table, later, spec, **options)
    _refuse_another(start, accounts)
    return spec, accounts


def share_aside(parameters: Mapping[str, str]) -> float | None:
    """Return the share of rows that a run was allowed to set aside; None where it was not."""
    share = parameters.get("set_aside")
    return None if share is None else float(share)


def _refuse_another(start: dict[str, Any], accounts: Accounts) -> None:
    """Refuse tables or an evaluator that aren't those of the run; say which, then and now."""
    parameters = dict(start["parameters"])
    now = {
        "table (ids, outcomes or split)": (
            start["outcomes_fingerprint"],
            accounts.outcomes_fingerprint,
        ),
        "table (features)": (start["features_fingerprint"], accounts.features_fingerprint),
        "table (segments)": (
            parameters.get("segments_fingerprint"),
            accounts.segments_fingerprint,
        ),
        "evaluator version": (start["evaluator_version"], EVALUATOR_VERSION),
    }
    if accounts.later is not None:
        own = recorded(accounts)
        now |= {
            f"holdout's table ({what})": (parameters.get(name), own[name])
            for what, name in (
                ("ids or outcomes", "holdout_outcomes_fingerprint"),
                ("features", "holdout_features_fingerprint"),
            )
        }
    differing = [name for name, (was, is_) in now.items() if was != is_]
    if differing:
        details = "; ".join(
            f"{name}: {now[name][0]} then, {now[name][1]} now" for name in differing
        )
        raise NotResumableError(
            f"run {start['run_id']} can't be done again here: what differs is {details}",
            hint="give the table that it was made on with --data, a later one with --holdout-file",
            differing=differing,
        )


@dataclass(frozen=True)
class Replay:
    """What doing a run again gave."""

    run_id: str
    #: Experiments compared.
    experiments: int
    identical: bool
    digest: str
    recorded_digest: str | None
    #: The first experiment and column that differ, then and now; None where nothing does.
    difference: dict[str, Any] | None
    #: Whether the evaluator's code has changed since, its version being the same.
    evaluator_code_changed: bool

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def replay(
    run_id: str,
    *,
    journal: str | Path = "journal",
    data: Tabular | None = None,
    holdout_file: Tabular | None = None,
) -> Replay:
    """Do a run again and say whether every value is the same.

    Parameters
    ----------
    run_id
        The run's full id.
    journal
        The journal's folder; nothing is written to it.
    data, holdout_file
        The account table and the holdout's own, where they have moved since.

    Raises
    ------
    NotResumableError
        If a table or the evaluator version differ from the run's.
    """
    files = RunFiles(Path(journal), run_id)
    start, before = files.record("start"), files.rows()
    _refuse_imported(start)
    ended = files.record("end") if files.end.is_file() else None
    proposals = ended["proposals"] if ended else before["proposal"][-1].as_py()
    plan = Plan.of_record(start).up_to(proposals)
    with (
        _searching(start, data, holdout_file, plan=plan) as search,
        tempfile.TemporaryDirectory() as scratch,
    ):
        with RunWriter(Path(scratch), run_id) as writer:
            search.run(writer)
            digest = writer.digest.hexdigest()
        after = RunFiles(Path(scratch), run_id).rows()
    names = [name for name in before.column_names if name not in OUTSIDE_DIGEST]
    difference = None
    pairs = zip(before.select(names).to_pylist(), after.select(names).to_pylist(), strict=False)
    for then, now in pairs:
        column = next((name for name in names if then[name] != now[name]), None)
        if column is not None:
            difference = {
                "experiment": then["experiment_id"],
                "column": column,
                "then": then[column],
                "now": now[column],
            }
            break
    if difference is None and before.num_rows != after.num_rows:
        difference = {
            "experiments_then": before.num_rows - 1,
            "experiments_now": after.num_rows - 1,
        }
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
