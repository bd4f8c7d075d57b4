"""What `verify` finds, by name; and what only a digest kept elsewhere finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gtmar import runs, synthetic
from gtmar.cli.app import app
from gtmar.errors import UsageError
from gtmar.journal import writer
from gtmar.journal.integrity import verify
from gtmar.journal.store import RunFiles, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of three runs, several parts each."""
    folder = tmp_path_factory.mktemp("sound")
    table = folder / "accounts.parquet"
    synthetic.generate("health_score", accounts=600).write_parquet(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "FLUSH_ROWS", 30)
        patch.setattr("gtmar.runs.loop._MEASURED_AT_ONCE", 20)
        for seed in range(3):
            limits = runs.Limits(150)
            runs.run(table, SPEC, limits=limits, seed=seed, journal=folder / "journal")
    return folder / "journal"


@pytest.fixture
def journal(sound: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(sound, tmp_path / "journal")
    return tmp_path / "journal"


def some_run(journal: Path) -> RunFiles:
    return RunFiles(journal, sorted(journal.glob("runs/*"))[1].name.partition("=")[2])


def test_a_sound_journal(sound: Path) -> None:
    found = verify(sound)
    assert found.sound
    assert (found.runs, found.experiments) == (3, 450)
    assert verify(sound, against=found.digest).against_holds
    assert verify(sound, some_run(sound).run_id).runs == 1


def flip(path: Path, place: float = 0.4) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("place", [0.1, 0.4, 0.7, 0.95])
@pytest.mark.parametrize("which", ["start", "first", "middle", "last", "end"])
def test_a_flipped_byte_is_found_by_name(journal: Path, which: str, place: float) -> None:
    files = some_run(journal)
    path = {
        "start": files.records / "start.parquet",
        "first": files.parts[0],
        "middle": files.parts[2],
        "last": files.parts[-1],
        "end": files.end,
    }[which]
    flip(path, place)
    found = verify(journal)
    assert [f.file for f in found.findings if f.file] == [path.relative_to(journal).as_posix()]
    assert {f.run_id for f in found.findings} == {files.run_id}


def rewrite(path: Path, change: Callable[[list[dict[str, object]]], None]) -> None:
    """Rewrite a part's rows, its footer kept: what a clumsy forger does."""
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)


def test_an_edited_value(journal: Path) -> None:
    path = some_run(journal).parts[1]
    rewrite(path, lambda rows: rows[3].update(value_after=0.99))
    kinds = {(f.kind, f.file) for f in verify(journal).findings}
    assert ("changed", path.relative_to(journal).as_posix()) in kinds
    assert ("digest", "") in kinds


def test_an_added_row(journal: Path) -> None:
    path = some_run(journal).parts[1]
    rewrite(path, lambda rows: rows.append(dict(rows[-1])))
    kinds = {f.kind for f in verify(journal).findings}
    assert {"changed", "sequence", "digest"} <= kinds


def test_a_removed_part(journal: Path) -> None:
    path = some_run(journal).parts[2]
    path.unlink()
    found = verify(journal).findings
    assert ("missing", path.relative_to(journal).as_posix()) in {(f.kind, f.file) for f in found}


def test_a_removed_last_part(journal: Path) -> None:
    some_run(journal).parts[-1].unlink()
    assert "digest" in {f.kind for f in verify(journal).findings}


def test_an_added_part(journal: Path) -> None:
    files = some_run(journal)
    extra = files.experiments / f"part-{len(files.parts) + 1:06d}.parquet"
    shutil.copy(files.parts[-1], extra)
    found = verify(journal).findings
    assert {f.kind for f in found} >= {"sequence", "digest"}


def test_a_torn_part_in_a_run_that_has_ended(journal: Path) -> None:
    path = some_run(journal).parts[-1]
    path.write_bytes(path.read_bytes()[:-10])
    found = verify(journal).findings
    assert ("torn", path.relative_to(journal).as_posix()) in {(f.kind, f.file) for f in found}


def test_a_removed_start_record(journal: Path) -> None:
    files = some_run(journal)
    (files.records / "start.parquet").unlink()
    assert "missing" in {f.kind for f in verify(journal).findings}


def forge(files: RunFiles) -> None:
    """Rewrite the end record and its seal together: what a careful forger does."""
    table = pq.read_table(files.end, partitioning=None)
    rows = table.to_pylist()
    rows[0]["best_value"] = 0.99
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), files.end)
    files.seal.write_text(sha256_of(files.end) + "\n")


def test_a_careful_forger_is_found_by_the_digest_kept_elsewhere(journal: Path) -> None:
    kept = verify(journal).digest
    forge(some_run(journal))
    assert verify(journal).sound
    found = verify(journal, against=kept)
    assert found.against_holds is False
    assert not found.sound


def test_a_deleted_run_is_found_by_the_digest_kept_elsewhere(journal: Path) -> None:
    kept = verify(journal).digest
    files = some_run(journal)
    shutil.rmtree(files.records)
    shutil.rmtree(files.experiments)
    assert verify(journal).sound
    assert verify(journal, against=kept).against_holds is False


def test_a_digest_holds_while_the_journal_grows(journal: Path, sound: Path) -> None:
    kept = verify(journal).digest
    runs.run(sound.parent / "accounts.parquet", SPEC, limits=runs.Limits(5), journal=journal)
    grown = verify(journal, against=kept)
    assert grown.against_holds
    assert grown.digest != kept


def test_what_is_no_digest_is_refused(sound: Path) -> None:
    with pytest.raises(UsageError, match="is no digest of a journal"):
        verify(sound, against="abc")


def test_an_evaluator_change_is_a_note_and_no_finding(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gtmar.journal.integrity.evaluator_code", lambda: "other")
    found = verify(sound)
    assert found.sound
    assert all("code has changed since" in note for note in found.notes)
    monkeypatch.setattr("gtmar.journal.integrity.EVALUATOR_VERSION", 2)
    assert all("evaluator version 1 then, 2 now" in note for note in verify(sound).notes)


def test_the_command(journal: Path) -> None:
    def invoke(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["verify", *arguments, "--journal", str(journal)])
        return result.exit_code, result.stdout

    code, said = invoke()
    digest = said.splitlines()[-1]
    assert (code, digest.startswith("gtmar1:3:")) == (0, True)
    assert "nothing is missing, torn, changed or added" in said
    assert "holds" in invoke("--against", digest)[1]
    flip(some_run(journal).parts[1])
    code, said = invoke("--json")
    assert code == 5
    assert json.loads(said)["findings"][0]["kind"] == "changed"
    code, said = invoke(some_run(journal).run_id)
    assert "changed: experiments/" in said
