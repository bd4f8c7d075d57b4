"""Clocks that disagree: what is live, which run is the latest, and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from journals import begin, finish
from typer.testing import CliRunner

from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.errors import JournalWarning, UsageError
from gtmar.journal import events
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
from gtmar.runs import WentLive, promote, record

going_live = import_module("gtmar.runs.promote")
SPEC = specs.load(Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml")
SPECS = [specs.reweighed(SPEC, {"alert_created": weight}) for weight in (5, 6, 7, 8)]


def by_clock(patch: pytest.MonkeyPatch, ahead: timedelta) -> None:
    """Let what is recorded be dated by a clock that is so much ahead."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + ahead

    for module in (events, going_live):
        patch.setattr(module, "datetime", Clock)


def promoted(journal: Path, number: int, ahead: timedelta) -> WentLive:
    with pytest.MonkeyPatch.context() as patch:
        by_clock(patch, ahead)
        return promote(SPECS[number], note=f"v{number}", journal=journal)


def live(journal: Path) -> list[str]:
    with Journal(journal) as opened:
        rows = opened.sql("live")
        assert all(since <= datetime.now(UTC) for since in rows["since"])
        return rows["note"].to_list()


DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "clocks",
    [
        [0 * DAY, -15 * MINUTE],
        [-1 * DAY, -11 * DAY, -11 * DAY + MINUTE],
        [-1 * DAY, -11 * DAY, -12 * DAY, -2 * DAY],
        [10 * DAY, 0 * DAY, -15 * MINUTE, 0 * DAY],
    ],
)
def test_what_was_promoted_last_is_live_whatever_the_clocks_say(
    tmp_path: Path, clocks: list[timedelta]
) -> None:
    for number, ahead in enumerate(clocks):
        found = promoted(tmp_path, number, ahead)
        if number:
            assert found.changes == {"alert_created": (4 + number, 5 + number)}
        if ahead <= 0 * DAY:
            assert live(tmp_path) == [f"v{number}"]
    with Journal(tmp_path) as opened:
        assert opened.sql("log")["note"][0] == f"v{len(clocks) - 1}"
        told = opened.sql("live_history")["note"].to_list()
    assert told == [f"v{number}" for number in reversed(range(len(clocks)))]


@pytest.mark.slow
def test_the_future_is_not_live_yet_and_is_said(tmp_path: Path) -> None:
    promoted(tmp_path, 0, 0 * DAY)
    promoted(tmp_path, 1, 10 * DAY)
    assert live(tmp_path) == ["v0"]
    with Journal(tmp_path) as opened:
        first = opened.sql("log").row(0, named=True)
    assert (first["note"], first["outcome"]) == ("v1", "dated after this clock")
    [note] = verify(tmp_path).notes
    assert "dated after this machine's clock, by 10 days" in note
    # The same again is no refusal: it is how what a wrong clock dated goes live.
    found = promote(SPECS[1], note="again", journal=tmp_path)
    assert found.notes
    assert live(tmp_path) == ["again"]


@pytest.mark.slow
def test_a_clock_behind_the_journal_is_said_by_promote_and_run(tmp_path: Path) -> None:
    promoted(tmp_path / "journal", 0, 15 * MINUTE)
    (tmp_path / "v1.yaml").write_text(specs.to_yaml(SPECS[1]))
    journal = ["--journal", str(tmp_path / "journal")]
    done = CliRunner().invoke(app, ["promote", str(tmp_path / "v1.yaml"), "--note", "v1", *journal])
    assert done.exit_code == 0
    assert "dated after this machine's clock, by 15 minutes" in done.stdout
    assert live(tmp_path / "journal") == ["v1"]


@pytest.mark.slow
def test_a_record_of_something_earlier_takes_its_place_in_time(tmp_path: Path) -> None:
    promoted(tmp_path, 0, -20 * DAY)
    promoted(tmp_path, 1, -1 * DAY)
    since = f"{datetime.now(UTC) - 10 * DAY:%Y-%m-%d}"
    record(SPECS[2], since=since, note="v2", author="CS", journal=tmp_path)
    assert live(tmp_path) == ["v1"]
    promoted(tmp_path, 3, 10 * DAY)
    record(
        SPECS[0], since=f"{datetime.now(UTC):%Y-%m-%d}", note="v4", author="CS", journal=tmp_path
    )
    assert live(tmp_path) == ["v4"]


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "Asia/Kolkata", "UTC", "America/Lima"])
def test_since_is_a_day_of_this_machines_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    import time

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        today = f"{datetime.now():%Y-%m-%d}"
        found = record(SPEC, since=today, note="today", author="CS", journal=tmp_path)
        assert found.since <= datetime.now(UTC)
        assert found.since.astimezone() == datetime.fromisoformat(today).astimezone()
        assert live(tmp_path) == ["today"]
        ahead = f"{datetime.now() + DAY:%Y-%m-%d}"
        with pytest.raises(UsageError, match="is in the future"):
            record(SPEC, since=ahead, note="tomorrow", author="CS", journal=tmp_path)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_run_of_a_clock_that_is_ahead_is_not_the_latest(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ids = [f"r{now + days * DAY:%Y%m%d-%H%M%S}-abc123" for days in (-1, 2)]
    for run_id, days in zip(ids, (-1, 2), strict=True):
        finish(begin(tmp_path, run_id, started_at=now + days * DAY))
    with Journal(tmp_path) as opened, pytest.warns(JournalWarning, match="dated after this"):
        assert opened.run_id() == ids[0]
    with Journal(tmp_path) as opened:
        assert opened.query("select run_id from chosen_run")["run_id"].item() == ids[0]
        assert opened.run_id(ids[1]) == ids[1]
