"""A journal made by version 0.1.0 is read, verified, resumed and replayed the same, to the digit.

`journal_0_1_0/` holds searches by both proposers, with a warm start, a fitted start, a by-tier
objective and a holdout of its own; a person's change, a promotion, a null search, a stability
search, a decision, a compaction, and a run that was killed on its way. `before.json` is what
version 0.1.0 said of it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gtmar import runs
from gtmar.cli.app import app
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify

MADE = Path(__file__).with_name("journal_0_1_0")
BEFORE: dict[str, Any] = json.loads((MADE / "before.json").read_text(encoding="utf-8"))
#: Sentences that were worded anew since, figures kept: a gain now says on which accounts it is.
REWORDED = [
    (r"(\([+-]\d\.\d{4}\)) in (\d+ experiments)", r"\1 on the accounts searched, in \2"),
]
SEARCHES = [run for run, end in BEFORE["runs"].items() if end["experiments"] > 1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the journal and its tables, and stand beside them: records hold relative paths."""
    shutil.copytree(MADE, tmp_path / "made")
    monkeypatch.chdir(tmp_path / "made")
    return tmp_path / "made"


def contains(now: Any, before: Any, where: str = "") -> list[str]:
    """List what was said before and isn't said now; keys that came since are welcome."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for key, value in before.items()
            for line in (
                contains(now[key], value, f"{where}.{key}") if key in now else [f"{where}.{key}"]
            )
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            line
            for n, (new, old) in enumerate(zip(now, before, strict=True))
            for line in contains(new, old, f"{where}[{n}]")
        ]
    if isinstance(before, str):
        for old, new in REWORDED:
            before = re.sub(old, new, before)
    return [] if now == before else [f"{where}: {before!r} -> {now!r}"]


def test_the_journal_is_sound_and_its_digest_is_the_one_kept(folder: Path) -> None:
    found = verify(folder / "journal", against=BEFORE["token"])
    assert found.findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("command", BEFORE["answers"])
def test_every_command_answers_as_before(folder: Path, command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(" "), "--json"])
    assert done.exit_code == 0, done.output
    assert contains(json.loads(done.stdout), BEFORE["answers"][command]) == []


def test_the_run_that_was_killed_resumes_to_the_digest_it_would_have_had(folder: Path) -> None:
    [cut_off] = BEFORE["cut_off"]
    assert runs.resume(cut_off, journal=folder / "journal").digest == BEFORE["resumed_digest"]


@pytest.mark.slow
@pytest.mark.parametrize("run", SEARCHES)
def test_a_search_replays_to_its_digest(folder: Path, run: str) -> None:
    assert runs.replay(run, journal=folder / "journal").identical
    end = RunFiles(folder / "journal", run).record("end")
    assert {key: end[key] for key in BEFORE["runs"][run]} == BEFORE["runs"][run]
