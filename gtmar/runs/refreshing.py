"""A search of one table and the decision on another, in one go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from gtmar import spec as specs
from gtmar.accounts.matrix import load_accounts
from gtmar.accounts.scan import AccountTable, collect, scan
from gtmar.errors import AccountDataError
from gtmar.objective import Judge
from gtmar.proof.decision import Gates
from gtmar.runs.decision import Case, Decided, decided_on
from gtmar.runs.dossier import refuse_existing
from gtmar.runs.inputs import file_hashes
from gtmar.runs.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.accounts.matrix import Accounts
    from gtmar.runs.results import Limits, Progress
    from gtmar.spec.model import ScoringSpec

__all__ = ["refresh"]


def refresh(
    train: str | Path | pl.DataFrame | pl.LazyFrame,
    holdout: str | Path | pl.DataFrame | pl.LazyFrame,
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
    journal, gates, folder, author, note
        As for `decide`.

    Raises
    ------
    UsageError
        If both tables have the same outcomes, or the folder exists.
    AccountDataError
        If a table breaks the contract, or an input changed meanwhile.
    """
    gates = gates or Gates()
    refuse_existing(folder)
    sources = (train, holdout, spec)
    before = file_hashes(*sources)
    incumbent = spec if isinstance(spec, specs.ScoringSpec) else specs.load(spec)
    whole = incumbent.model_copy(
        update={"split": incumbent.split.model_copy(update={"holdout": 0.0})}
    )
    judge = Judge.of(whole, metric)
    later = load_accounts(scan(holdout), whole, as_of=holdout_as_of or as_of)
    shared = _shared_accounts(scan(train), later)
    found = run(
        train,
        whole,
        metric=metric,
        limits=limits,
        seed=seed,
        journal=journal,
        as_of=as_of,
        author=author,
        note=note,
        cold=True,
        watch=watch,
    )
    return decided_on(
        Case(
            journal=Path(journal),
            run_id=found.run_id,
            experiment=f"{found.run_id}/{found.best_experiment}",
            incumbent=whole,
            candidate=found.spec,
            judge=judge,
            gates=gates,
            accounts=later,
            untouched=later.search,
            held_out=False,
            as_of=holdout_as_of or as_of,
            sources=sources,
            hashes=before,
            folder=folder,
            author=author,
            note=note,
            notes=shared,
        )
    )


def _shared_accounts(train: AccountTable, later: Accounts) -> tuple[str, ...]:
    """Say how many accounts stand in both tables; refuse two tables that are one."""
    name = later.checked.id_column
    if name is None or name not in train.columns:
        return ("There is no id to tell whether accounts stand in both tables.",)
    columns = [c for c in later.table.columns if c in train.columns]
    if set(later.table.columns) == set(train.columns):
        one, two = (collect(t, t.frame.select(columns)) for t in (train, later.table))
        both = one.join(two, on=columns, how="semi", nulls_equal=True).height
        if both:
            raise AccountDataError(
                f"{both:,} rows stand in both tables, id and outcomes alike: what was searched "
                "can't be the holdout",
                hint="give --holdout accounts, or a window, that --train doesn't have",
            )
    ids = [collect(t, t.frame.select(pl.col(name).cast(pl.String))) for t in (train, later.table)]
    again = ids[0].join(ids[1], on=name, how="semi").height
    if not again:
        return ()
    return (f"{again:,} accounts stand in both tables, with other values: another window, surely.",)
