"""Every command that writes, killed at its system calls: nothing lost, nothing twice, go on after.

A few calls of each command are tried; `GTMAR_KILLS=400` tries as many of each.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest
from attacks.ground import CUT_OFF, FIRST, OTHER, counts, counts_before, jsonl, renew, untouched
from attacks.nursery import spread, strace_works

from gtmar import runs
from gtmar import spec as specs
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attacks.nursery import Change, Nursery

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not strace_works(), reason="strace is not installed or may not trace here"),
]

KILLS = int(os.environ.get("GTMAR_KILLS", "2"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Attack:
    """A command, and what has to hold after it was killed and after it was given again."""

    arguments: str
    #: Called with the folder after the command was given again.
    ended: Callable[[Path], None]
    #: Called with the folder right after the kill.
    killed: Callable[[Path], None] = field(default=lambda _: None)
    #: Exit codes of the repetition beside 0: what the killed one had done already is said so.
    codes: tuple[int, ...] = ()
    #: Prepares the folder.
    before: Callable[[Path], None] = field(default=lambda _: None)


def a_new_run(folder: Path) -> None:
    """A run that was cut off can be resumed to its end; one that ended stands."""
    new = {path.name[7:] for path in (folder / "journal" / "runs").iterdir()} - set(counts_before())
    for run in new - {CUT_OFF}:
        if not (folder / "journal" / "runs" / f"run_id={run}" / "end.parquet").exists():
            runs.resume(run, journal=folder / "journal")
    rows = counts(folder / "journal")
    assert {rows[run] for run in new if run in rows and run != CUT_OFF} == {31}


def resumed(folder: Path) -> None:
    assert counts(folder / "journal")[CUT_OFF] == 61


def parts(folder: Path) -> None:
    """Give the journal a run in several parts again, which `compact` has something to do with."""
    resumed_run = runs.resume(CUT_OFF, journal=folder / "journal")
    assert resumed_run.experiments == 60


def packed_whole(folder: Path) -> None:
    assert counts(folder / "journal") == {**counts_before(), CUT_OFF: 61}
    assert len(list((folder / "journal/experiments" / f"run_id={CUT_OFF}").glob("part-*"))) == 1


def imported_once(folder: Path) -> None:
    """All runs of the file came in, none twice."""
    with Journal(folder / "other") as opened:
        rows = opened.query("select count(*) as n from experiments")["n"].item()
    # A run's baseline is the value that its first line starts from: it has no line of its own.
    lines = (folder / "all.jsonl").read_text(encoding="utf-8").splitlines()
    with Journal(folder / "other") as opened:
        imported = opened.sql("runs").height
    assert rows == len(lines) + imported
    assert imported == len({json.loads(line)["experiment_id"].split("/")[0] for line in lines})
    assert verify(folder / "other").findings == ()


def published_once(folder: Path) -> None:
    expected = counts(folder / "journal")
    rows = pl.read_delta(str(folder / "lake" / "experiments"))
    assert dict(rows.group_by("run_id").len().iter_rows()) == {
        run: count for run, count in expected.items() if run != CUT_OFF
    }
    published = pl.read_delta(str(folder / "lake" / "events"))["event_id"].to_list()
    assert sorted(published) == events_of(folder)


def events_of(folder: Path) -> list[str]:
    with Journal(folder / "journal") as opened:
        return opened.query("select event_id from events order by event_id")["event_id"].to_list()


def published_once_to_duckdb(folder: Path) -> None:
    expected = counts(folder / "journal")
    with duckdb.connect(str(folder / "lake.db"), read_only=True) as connection:
        rows = connection.execute(
            "select run_id, count(*) from gtmar_experiments group by run_id"
        ).fetchall()
        published = connection.execute("select event_id from gtmar_events").fetchall()
    assert dict(rows) == {run: count for run, count in expected.items() if run != CUT_OFF}
    assert sorted(event for (event,) in published) == events_of(folder)


def live(folder: Path) -> None:
    with Journal(folder / "journal") as opened:
        row = opened.sql("live").row(0, named=True)
        promotions = opened.query("select count(*) as n from events where kind = 'promotion'")
    assert OTHER in str(row)
    assert promotions["n"].item() == 2


def scored(folder: Path) -> None:
    rows = pl.read_parquet(folder / "scored.parquet")
    assert rows.height == 300
    assert rows["tier"].null_count() == 0


def whole_or_absent(name: str, check: Callable[[Path], None]) -> Callable[[Path], None]:
    def checked(folder: Path) -> None:
        if (folder / name).exists():
            check(folder)

    return checked


def checked_out(folder: Path) -> None:
    assert specs.load(folder / "out.yaml").lineage is not None


def decided(folder: Path) -> None:
    names = {path.name for path in (folder / "decision").iterdir()}
    assert {"report.md", "report.json"} <= names


def tried(folder: Path) -> None:
    """The change stands once, or twice where the killed one had ended; never half."""
    rows = counts(folder / "journal")
    new = {run: count for run, count in rows.items() if run not in counts_before()}
    assert 1 <= len([run for run, count in new.items() if count == 2]) <= 2


def dated(folder: Path) -> None:
    """Put the later table where a date's is."""
    place = folder / "dates" / "features_asof=2026-01-01"
    place.mkdir(parents=True)
    shutil.copy(folder / "later.parquet", place / "accounts.parquet")


def whole_scores(folder: Path) -> None:
    """A kept file has every account; no date is measured twice."""
    files = list((folder / "scores").rglob("*.parquet"))
    accounts = pl.read_parquet(folder / "later.parquet").height
    assert {pl.read_parquet(file).height for file in files} <= {accounts}
    with Journal(folder / "journal") as opened:
        assert opened.query("select 1 from events where kind = 'measurement'").height <= 1


def watched(folder: Path) -> None:
    """What is kept is what a whole command keeps, byte for byte; the date is measured once."""
    whole_scores(folder)
    [file] = (folder / "scores").rglob("*.parquet")
    assert not list((folder / "scores").rglob("*.partial.parquet"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert _KEPT.setdefault(date.today(), digest) == digest
    with Journal(folder / "journal") as opened:
        assert opened.query("select 1 from events where kind = 'measurement'").height == 1


#: Digest of the scores that a whole command keeps, by the day, which stands in them.
_KEPT: dict[date, str] = {}


ATTACKS = {
    "watch": Attack("watch --data dates", watched, whole_scores, codes=(10, 11), before=dated),
    "run": Attack(
        "run --data accounts.parquet --spec spec.yaml --n 30 --seed 8 --cold -q", a_new_run
    ),
    "resume": Attack(f"resume {CUT_OFF} -q", resumed, codes=(5,)),
    "compact": Attack("journal compact", packed_whole, before=parts),
    "import": Attack(
        "journal import all.jsonl --journal other", imported_once, before=jsonl, codes=(5,)
    ),
    "publish to Delta": Attack("journal publish --to delta:lake", published_once),
    "publish to DuckDB": Attack("journal publish --to duckdb:///lake.db", published_once_to_duckdb),
    "promote": Attack(f"promote {OTHER} --note better --author ana", live, codes=(2,)),
    "try": Attack(
        "try --data accounts.parquet --spec best.yaml --set session_depth=1 --note deep", tried
    ),
    "decide": Attack(
        f"decide {FIRST} -o decision",
        decided,
        whole_or_absent("decision", decided),
        codes=(2, 10),
    ),
    "score": Attack(
        "score --data accounts.parquet --spec best.yaml -o scored.parquet",
        scored,
        whole_or_absent("scored.parquet", scored),
        codes=(2,),
    ),
    "checkout": Attack(
        f"checkout {OTHER} -o out.yaml",
        checked_out,
        whole_or_absent("out.yaml", checked_out),
        codes=(2,),
    ),
}


def test_the_ground_is_sound(folder: Path) -> None:
    renew(folder)
    untouched(folder)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_command_killed_at_its_system_calls(
    nursery: Nursery, folder: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    attack = ATTACKS[name]
    arguments = attack.arguments.split(" ")
    renew(folder)
    attack.before(folder)
    prepared = tmp_path_factory.mktemp("prepared")
    shutil.copytree(folder, prepared, dirs_exist_ok=True)
    whole, changes = nursery.changes(folder, arguments)
    assert whole.code in (0, *attack.codes), whole.error
    attack.ended(folder)
    assert len(changes) > 1, "the command changes nothing on the disk"
    faults = [
        f"{change}: {fault}"
        for change in spread(changes, KILLS)
        for fault in fault_of(nursery, folder, prepared, attack, change)
    ]
    assert not faults, "\n".join(faults)


def fault_of(
    nursery: Nursery, folder: Path, prepared: Path, attack: Attack, change: Change
) -> list[str]:
    """Kill a command at one change, look, give it again, look; return what went wrong."""
    renew(folder, prepared)
    ended = nursery.kill(folder, attack.arguments.split(" "), change)
    # Threads are scheduled anew: now and then one makes fewer calls than it did when counted.
    if ended.signal not in (0, signal.SIGKILL):
        return [f"signal {ended.signal}"]
    try:
        untouched(folder)
        attack.killed(folder)
        [again] = nursery.together(folder, [attack.arguments.split(" ")])
        if again.code not in (0, *attack.codes):
            return [f"given again: exit {again.code}: {again.error}"]
        untouched(folder)
        attack.ended(folder)
    except Exception as err:
        return [f"{type(err).__name__}: {str(err)[:400]}"]
    return []
