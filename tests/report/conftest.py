"""Journals to make pages of: a search with every kind of outcome, a story, and hostile words."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from blank_charts import blank_charts
from factories import make_accounts, make_spec, weighted

from gtmar import runs
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.lookup import checkout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browser import Browser

    from gtmar.report import Page
    from gtmar.report.content import Evidence
    from gtmar.runs import Decided
    from gtmar.spec import ScoringSpec

#: What a hostile table, spec or person may say.
HOSTILE = (
    "<script>window.pwned=1</script>",
    '" onmouseover="window.pwned=1',
    "<img src=x onerror=window.pwned=1>",
    "javascript:window.pwned=1",
    "</script><script>window.pwned=1</script>",
    "{{ 7919 * 7907 }} ${7919*7907} &lt; ' --> ]]>",
)


@dataclass(frozen=True)
class Searched:
    """A run, its journal and its table."""

    folder: Path
    table: Path
    run_id: str

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    @cached_property
    def report(self) -> Page:
        """The run's report, made once, its charts blank."""
        return self.page()

    @cached_property
    def drawn(self) -> Page:
        """The run's report as people get it, made once."""
        return self.page(drawn=True)

    @cached_property
    def evidence(self) -> Evidence:
        """What the run's report is made of, gathered once."""
        from gtmar.report.content import gather

        with Journal(self.journal) as opened:
            return gather(opened, self.run_id)

    @cached_property
    def past(self) -> Page:
        """The journal's history, made once."""
        return self.history()

    def page(self, *, drawn: bool = False, **options: Any) -> Page:
        from gtmar import report

        charts = nullcontext() if drawn else blank_charts()
        with charts, Journal(self.journal) as opened:
            return report.run_page(opened, self.run_id, **options)

    def history(self, **options: Any) -> Page:
        from gtmar import report

        with Journal(self.journal) as opened:
            return report.history_page(opened, **options)


def search(
    folder: Path, table: pl.DataFrame, spec: ScoringSpec, *, n: int = 120, **options: Any
) -> Searched:
    path = folder / "accounts.parquet"
    table.write_parquet(path)
    limits = runs.Limits(n)
    result = runs.run(path, spec, limits=limits, journal=folder / "journal", **options)
    return Searched(folder, path, result.run_id)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from browser import Browser

    with Browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A search in which wins, losses and blocked experiments are found."""
    spec = make_spec(guardrails=[{"metric": "share_by_tier.A", "min": 0.05}])
    return search(
        tmp_path_factory.mktemp("searched"),
        make_accounts(400, 7),
        spec,
        note="first baseline",
        author="RevOps",
    )


@pytest.fixture(scope="session")
def settled(
    searched: Searched, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Searched, Decided]:
    """The same run in a journal in which it was decided on, and what that found."""
    folder = tmp_path_factory.mktemp("settled")
    shutil.copytree(searched.journal, folder / "journal")
    found = runs.decide(searched.run_id, journal=folder / "journal")
    return Searched(folder, searched.table, searched.run_id), found


@pytest.fixture(scope="session")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A run with segments, hostile and small ones too, and null search and stability on record."""
    table = make_accounts(900, 3)
    regions = ["emea", "apac", "amer", None, HOSTILE[1]]
    named = pl.Series([regions[i % 5] if i > 40 else HOSTILE[0] for i in range(900)])
    made = search(
        tmp_path_factory.mktemp("proven"),
        table.with_columns(region=named),
        make_spec(segments=["region"]),
        n=60,
    )
    runs.null_search(made.run_id, journal=made.journal, searches=4)
    runs.stability(made.run_id, journal=made.journal, searches=4, seed=1)
    return made


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A journal in which every text that a person or table can give is hostile."""
    table = make_accounts(300, 5)
    ids = [f"{HOSTILE[i % len(HOSTILE)]} {i}" for i in range(table.height)]
    table = table.with_columns(account_id=table["account_id"].replace(table["account_id"], ids))
    table = table.rename({"depth": HOSTILE[2], "logins": HOSTILE[4]})
    features = {
        HOSTILE[2]: weighted(5, low=-50, high=50),
        HOSTILE[4]: weighted(5, encode={"kind": "range", "from": 0, "to": 40}),
        "alert_created": weighted(20, encode={"kind": "bool"}),
    }
    tiers = {HOSTILE[0]: {"min": 20, "max": 101}, HOSTILE[1]: {"min": 0, "max": 20}}
    spec = make_spec(model=HOSTILE[4], features=features, tiers=tiers)
    folder = tmp_path_factory.mktemp("hostile")
    made = search(folder, table, spec, note=HOSTILE[4], author=HOSTILE[0])
    with Journal(made.journal) as journal:
        best = checkout(journal, made.run_id)
    runs.decide(made.run_id, journal=made.journal, note=HOSTILE[1], author=HOSTILE[4])
    told = {"name": HOSTILE[0], "limit": HOSTILE[2], "found": HOSTILE[5], "outcome": "failed"}
    write_event(
        made.journal,
        EventKind.DECISION,
        note=HOSTILE[2],
        author=HOSTILE[1],
        model=HOSTILE[4],
        run_id=made.run_id,
        experiment_id=best.lineage and best.lineage.experiment,
        details={"verdict": HOSTILE[4], "segment_safety": HOSTILE[0], "gates": [told]},
    )
    runs.promote(
        best,
        note=HOSTILE[3],
        author=HOSTILE[5],
        expect=HOSTILE[2],
        journal=made.journal,
    )
    return made
