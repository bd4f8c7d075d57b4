"""What attacks start from, and what has to hold after each: a journal of version 0.1.0."""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from pathlib import Path

import polars as pl

from gtmar.integrations.jsonl_format import export_jsonl
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify

__all__ = ["CUT_OFF", "FIRST", "OTHER", "counts", "counts_before", "jsonl", "renew", "untouched"]

MADE = Path(__file__).parents[1] / "golden" / "journal_0_1_0"
INPUTS = ("accounts.parquet", "later.parquet", "spec.yaml", "best.yaml")
#: A run that was killed on its way.
CUT_OFF = "r20261128-155841-9d2350"
#: A search that ended; the live spec is its best.
FIRST = "r20261128-155809-57a84a"
#: A search whose best isn't live.
OTHER = "r20261128-155811-8285bb"


def renew(folder: Path, prepared: Path | None = None) -> None:
    """Put a folder back to what it was before any command, or to what another folder is."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if prepared is not None:
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
        return
    for name in INPUTS:
        shutil.copy(MADE / name, folder / name)
    shutil.copytree(MADE / "journal", folder / "journal")


def jsonl(folder: Path) -> None:
    """Export the journal, for another to import."""
    with Journal(folder / "journal") as opened:
        lines = "\n".join(export_jsonl(opened))
    (folder / "all.jsonl").write_text(lines, encoding="utf-8")


#: What was counted, by what all files of the journal held: most commands leave most as it was.
_COUNTED: dict[str, dict[str, int]] = {}


def counts(journal: Path) -> dict[str, int]:
    """Count the rows of each run as SQL sees them; no number may stand twice."""
    files = sorted(path for path in journal.rglob("*") if path.is_file())
    held = str([(str(path.relative_to(journal)), _digest(path)) for path in files])
    if held not in _COUNTED:
        _COUNTED[held] = _counts(journal)
    return _COUNTED[held].copy()


def _counts(journal: Path) -> dict[str, int]:
    with Journal(journal) as opened:
        rows = opened.query(
            "select run_id, count(*) as n, count(distinct number) as numbers from experiments"
            " group by run_id"
        )
    assert rows.filter(pl.col("n") != pl.col("numbers")).is_empty()
    return dict(rows.select("run_id", "n").iter_rows())


@cache
def counts_before() -> dict[str, int]:
    """Count the rows of each run before any attack."""
    return counts(MADE / "journal")


def untouched(folder: Path) -> None:
    """Inputs are the same bytes, the journal is sound, and no row of an ended run is gone."""
    for name in INPUTS:
        assert _digest(folder / name) == _digest(MADE / name), name
    assert verify(folder / "journal").findings == ()
    now = counts(folder / "journal")
    for run, count in counts_before().items():
        assert run == CUT_OFF or now[run] == count, run


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
