"""A search of one table and the decision on another, in one go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gtmar.runs.decision import Decided, case_of, decided_on
from gtmar.runs.dossier import new_folder
from gtmar.runs.inputs import file_hashes, refuse_changed
from gtmar.runs.run import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gtmar.accounts.sources import Tabular
    from gtmar.proof.decision import Gates
    from gtmar.runs.results import Limits, Progress
    from gtmar.spec.model import ScoringSpec

__all__ = ["refresh"]


def refresh(
    train: Tabular,
    holdout: Tabular,
    spec: ScoringSpec | str | Path,
    *,
    journal: str | Path = "journal",
    metric: str | None = None,
    limits: Limits | None = None,
    seed: int = 0,
    gates: Gates | None = None,
    folder: str | Path | None = None,
    as_of: str | None = None,
    holdout_as_of: str | None = None,
    drop_unlabelled: bool = False,
    author: str | None = None,
    note: str | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Decided:
    """Search one table from the incumbent, and decide on another that the search never saw.

    Parameters
    ----------
    train
        The table to search, whole.
    holdout
        The table to decide on, best a later window.
    spec
        The incumbent, or its file.
    metric, limits, seed, watch
        As for `run`.
    as_of, holdout_as_of
        ISO dates that `days_before` counts from, in either table.
    drop_unlabelled
        Leave accounts without any outcome out of both, and count them.
    journal, gates, folder, author, note
        As for `decide`.

    Raises
    ------
    UsageError
        If the folder exists.
    AccountDataError
        If a table breaks the contract, rows stand in both, or an input changed meanwhile.
    """
    new_folder(folder, train, holdout, spec, journal)
    sources = (train, holdout, spec)
    before = file_hashes(*sources)
    found = run(
        train,
        spec,
        metric=metric,
        limits=limits,
        seed=seed,
        journal=journal,
        holdout_file=holdout,
        as_of=as_of,
        holdout_as_of=holdout_as_of,
        drop_unlabelled=drop_unlabelled,
        author=author,
        note=note,
        cold=True,
        watch=watch,
    )
    refuse_changed(before, *sources)
    case = case_of(
        found.run_id,
        journal=journal,
        data=train,
        holdout_file=holdout,
        gates=gates,
        folder=folder,
        author=author,
        note=note,
    )
    return decided_on(replace(case, sources=sources, hashes=before))
