"""Two of everything at once, as processes of their own: nothing doubled, torn or lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest
from attacks.ground import CUT_OFF, FIRST, OTHER, counts, counts_before, jsonl, renew, untouched

from gtmar import spec as specs
from gtmar.journal.catalog import Journal

if TYPE_CHECKING:
    from collections.abc import Callable

    from attacks.nursery import Nursery

pytestmark = pytest.mark.slow
SEARCH = "run --data accounts.parquet --spec spec.yaml --n 30 --cold -q"
ENDED = {run: count for run, count in counts_before().items() if run != CUT_OFF}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    renew(tmp_path)
    return tmp_path


def new_runs(folder: Path) -> list[int]:
    return sorted(n for run, n in counts(folder / "journal").items() if run not in counts_before())


def both_searched(folder: Path) -> None:
    assert new_runs(folder) == [31, 31]


def one_searched(folder: Path) -> None:
    assert new_runs(folder) == [31]


def resumed(folder: Path) -> None:
    assert counts(folder / "journal")[CUT_OFF] == 61


def imported_once(folder: Path) -> None:
    """Every line of the file is there once, whichever of the two brought it in."""
    lines = Path(folder, "all.jsonl").read_text(encoding="utf-8").splitlines()
    with Journal(folder / "other") as opened:
        runs, rows = opened.sql("runs").height, opened.query("select 1 from experiments").height
    assert rows == len(lines) + runs
    assert runs == len(counts_before())


def published_once(folder: Path) -> None:
    rows = pl.read_delta(str(folder / "lake" / "experiments"))
    assert dict(rows.group_by("run_id").len().iter_rows()) == ENDED
    for table, key in (("runs", "run_id"), ("events", "event_id")):
        ids = pl.read_delta(str(folder / "lake" / table))[key]
        assert ids.len() > 0
        assert ids.is_duplicated().sum() == 0


def published_once_to_duckdb(folder: Path) -> None:
    with duckdb.connect(str(folder / "lake.db"), read_only=True) as connection:
        rows = connection.sql("select run_id, count(*) from gtmar_experiments group by 1")
        assert dict(rows.fetchall()) == ENDED
        told = connection.sql("select count(*), count(distinct event_id) from gtmar_events")
        [(count, ids)] = told.fetchall()
    assert count == ids > 0


def promoted(folder: Path) -> None:
    with Journal(folder / "journal") as opened:
        assert opened.query("select 1 from events where kind = 'promotion'").height in (2, 3)
        assert opened.sql("live").height >= 1


def scored(folder: Path) -> None:
    assert pl.read_parquet(folder / "scored.parquet").height == 300


def checked_out(folder: Path) -> None:
    assert specs.load(folder / "out.yaml").lineage is not None


def decided(folder: Path) -> None:
    assert {"report.md", "report.json"} <= {path.name for path in (folder / "decision").iterdir()}
    assert not [path for path in folder.iterdir() if path.name.startswith("decision.")]


def nothing_more(folder: Path) -> None:
    assert counts(folder / "journal") == counts_before()


#: Commands at once, what holds afterwards, and how each may end: at least one has to succeed.
PAIRS: dict[str, tuple[list[str], Callable[[Path], None], set[int]]] = {
    "run": ([f"{SEARCH} --seed 1", f"{SEARCH} --seed 2"], both_searched, {0}),
    "resume": ([f"resume {CUT_OFF} -q"] * 2, resumed, {0, 5}),
    "run and compact": ([SEARCH, "journal compact"], one_searched, {0}),
    "compact": (["journal compact"] * 2, nothing_more, {0, 5}),
    "import": (["journal import all.jsonl --journal other"] * 2, imported_once, {0, 5}),
    "publish to Delta": (["journal publish --to delta:lake"] * 3, published_once, {0, 2, 4, 5}),
    "publish to DuckDB": (
        ["journal publish --to duckdb:///lake.db"] * 2,
        published_once_to_duckdb,
        {0, 2, 4, 5},
    ),
    "promote": (
        [f"promote {OTHER} --note a", "promote spec.yaml --note b"],
        promoted,
        {0, 2},
    ),
    "decide": ([f"decide {FIRST} -o decision"] * 2, decided, {0, 2, 10}),
    "score": (
        ["score --data accounts.parquet --spec best.yaml -o scored.parquet"] * 2,
        scored,
        {0, 2},
    ),
    "checkout": ([f"checkout {OTHER} -o out.yaml"] * 2, checked_out, {0, 2}),
    "log during compact": (["journal compact", "log", "review", "verify"], nothing_more, {0}),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("attempt", range(int(os.environ.get("GTMAR_KILLS", "1"))))
def test_at_once(nursery: Nursery, folder: Path, name: str, attempt: int) -> None:
    commands, holds, codes = PAIRS[name]
    if name == "import":
        jsonl(folder)
    ended = nursery.together(folder, [command.split(" ") for command in commands])
    assert {one.code for one in ended} <= codes, [one.error for one in ended]
    assert {one.code for one in ended} & {0, 10}, [one.error for one in ended]
    assert not [one.error for one in ended if "Traceback" in one.error]
    untouched(folder)
    holds(folder)
