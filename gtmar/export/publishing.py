"""A journal published: runs and experiments as tables of a lakehouse, each run once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gtmar.accounts.locations import local_path
from gtmar.errors import UsageError
from gtmar.export.tables import append_new
from gtmar.outputs import refuse_inputs
from gtmar.redaction import without_credentials

if TYPE_CHECKING:
    from gtmar.journal.catalog import Journal

__all__ = ["Published", "publish"]


@dataclass(frozen=True)
class Published:
    """What was appended, and where."""

    #: Rows appended: one a run, and all of its experiments.
    runs: int
    experiments: int
    #: Runs that have not ended: they are published when they have.
    waiting: int
    #: Where the tables are.
    runs_table: str
    experiments_table: str

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)


def publish(journal: Journal, target: str) -> Published:
    """Append to two tables the runs that have ended and aren't in them yet.

    Experiments go first, in one commit, then the runs: whoever finds a run in the one table finds
    its experiments in the other, and a publication that was cut off is finished by the next.

    Parameters
    ----------
    journal
        The journal.
    target
        ``delta:FOLDER`` or ``delta:URL``, with Delta tables ``runs`` and ``experiments`` below it;
        or ``duckdb:///file.db``, with tables ``gtmar_runs`` and ``gtmar_experiments``.

    Returns
    -------
    Published
        What was appended; done twice, nothing more is.

    Raises
    ------
    UsageError
        If the target is neither, or can't be written.
    """
    if target.startswith("delta:") and target != "delta:":
        places = tuple(f"{target.rstrip('/')}/{name}" for name in ("runs", "experiments"))
    elif target.startswith("duckdb:///") and "?" not in target:
        places = tuple(f"{target}?table=gtmar_{name}" for name in ("runs", "experiments"))
    else:
        raise UsageError(
            f'"{without_credentials(target)}": expected delta:FOLDER, delta:URL or duckdb:///file.db',
            hint="two tables are written there, of runs and of experiments",
        )
    for place in places:
        if (local := local_path(place)) is not None:
            refuse_inputs(local, [journal.path])
    runs = journal.query("select * from runs where ended_at is not null order by started_at")
    waiting = journal.query("select count(*) as n from runs where ended_at is null")["n"].item()
    experiments = journal.query(
        "select e.* from experiments e join runs r using (run_id) "
        "where r.ended_at is not null order by r.started_at, e.number"
    )
    appended = append_new(experiments, places[1])
    return Published(
        runs=append_new(runs, places[0]),
        experiments=appended,
        waiting=waiting,
        runs_table=without_credentials(places[0]),
        experiments_table=without_credentials(places[1]),
    )
