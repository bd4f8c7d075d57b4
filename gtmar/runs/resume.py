"""Going on with a run that was cut off, and doing a run again to see whether it is the same."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtmar.engine.evaluator import evaluator_code
from gtmar.errors import NotResumableError
from gtmar.journal.digest import OUTSIDE_DIGEST
from gtmar.journal.files import RunFiles
from gtmar.journal.writer import RunWriter
from gtmar.runs.plan import Engine
from gtmar.runs.session import open_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.data.scan import Tabular
    from gtmar.runs.results import Progress, RunResult

__all__ = ["Replay", "replay", "resume"]


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
    folder, engine = Path(journal), engine or Engine()
    files = RunFiles(folder, run_id)
    _refuse_imported(files.record("start"))
    session = open_run(run_id, folder, data, holdout_file, memory=engine.memory)
    with (
        session.search(engine=engine, watch=watch) as search,
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
