"""What a shell offers after a tab: runs, experiments, queries, metrics, kinds.

A shell waits for it, so nothing is opened that a file's name doesn't tell already; and it never
complains: where nothing can be found, nothing is offered.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer  # noqa: TC002 - typer reads annotations at run time

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["experiments", "kinds", "metrics", "proposers", "queries", "runs", "starts"]


def _offered(options: Iterable[str], incomplete: str) -> list[str]:
    return [option for option in options if option.startswith(incomplete)]


def _run_ids(ctx: typer.Context) -> list[str]:
    """Return the ids of all runs in the journal named so far, newest first, by their folders."""
    named = ctx.params.get("journal") or os.environ.get("GTMAR_JOURNAL") or "journal"
    folders = Path(named).glob("runs/run_id=*")
    return sorted((path.name.partition("=")[2] for path in folders), reverse=True)


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the journal's runs; once a word is begun, ``latest`` and ``live`` too."""
    return _offered([*_run_ids(ctx), *(("latest", "live") if incomplete else ())], incomplete)


def experiments(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer runs; after a run's slash, its start and its best."""
    run, slash, _ = incomplete.partition("/")
    if not slash:
        return runs(ctx, incomplete)
    return _offered([f"{run}/best", f"{run}/start"], incomplete)


def queries(incomplete: str) -> list[str]:
    """Offer the SQL library's queries."""
    from gtmar.journal.sql_library import sql_folder

    names = sorted(path.stem for path in sql_folder().glob("journal/*.sql"))
    checks = sorted(f"checks/{path.stem}" for path in sql_folder().glob("checks/*.sql"))
    return _offered([*names, *checks], incomplete)


def metrics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer metrics; those by tier with the tiers of the spec named so far."""
    from gtmar.metrics.registry import all_metrics, objective_keys

    tiers = _tiers(ctx.params.get("spec"))
    found = []
    for key in objective_keys():
        if all_metrics()[key].by_tier:
            found += [f"{key}.{tier}" for tier in tiers]
        else:
            found.append(key)
    return _offered(found, incomplete)


def _tiers(spec: object) -> list[str]:
    from gtmar import spec as specs
    from gtmar.errors import GtmarError

    if spec is None:
        return [""]
    try:
        return list(specs.load(Path(str(spec))).tier_names)
    except GtmarError:
        return [""]


def kinds(incomplete: str) -> list[str]:
    """Offer the kinds of tables that can be generated."""
    from gtmar.data.synthetic import KINDS

    return _offered(KINDS, incomplete)


def proposers(incomplete: str) -> list[str]:
    """Offer who can propose."""
    from gtmar.runs.plan import PROPOSERS

    return _offered(PROPOSERS, incomplete)


def starts(incomplete: str) -> list[str]:
    """Offer where a search can begin."""
    from gtmar.runs.plan import STARTS

    return _offered(STARTS, incomplete)
