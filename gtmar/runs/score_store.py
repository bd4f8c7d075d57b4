"""Scores as they were given, kept by date: a folder of Parquet files apart from the journal.

They are customers' data, so the journal, which may be published, has none of them.
"""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.journal.files import lock_alone, make_folder, open_lock, parquet_files
from gtmar.outputs import place_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gtmar.spec.model import ScoringSpec

__all__ = ["ROLES", "KeptScores", "ScoreStore"]

#: What a spec was on a date: the one a team worked with, the one before it, one on trial.
ROLES = ("live", "predecessor", "shadow")
_DAY = re.compile(r"features_asof=(\d{4}-\d{2}-\d{2})")
_FILE = re.compile(rf"({'|'.join(ROLES)})-(c[0-9a-f]+)\.parquet")
_SPEC = "gtmar_spec"


@dataclass(frozen=True)
class KeptScores:
    """The scores of one date by one spec."""

    day: date
    role: str
    path: Path

    @property
    def spec(self) -> ScoringSpec:
        """The spec that gave them."""
        text = pl.read_parquet_metadata(self.path)[_SPEC]
        return specs.parse(text, source=f"spec of {self.path.name}")

    def frame(self) -> pl.DataFrame:
        """Return a row an account: its id as text, its score, and by what it was scored and when.

        Columns: `account`, `score` in points, `tier`, `probability` (null where the spec has none),
        `model`, `spec_id`, `scored_on` (the day, UTC).
        """
        return pl.read_parquet(self.path, hive_partitioning=False)

    @property
    def scored_on(self) -> date | None:
        """The day on which they were kept; None where there is no account."""
        days = pl.scan_parquet(self.path, hive_partitioning=False).select("scored_on").head(1)
        found: date | None = next(iter(days.collect()["scored_on"]), None)
        return found


class ScoreStore:
    """A folder of kept scores, ``features_asof=DATE/ROLE-SPEC.parquet``; DuckDB reads it as it is.

    A file is written whole or not at all, and never changed. While one process writes, others wait
    a moment and then say so.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the store, so that nobody else writes to it; `UsageError` where another does."""
        make_folder(self.folder, exist_ok=True)
        with open_lock(self.folder / ".lock") as lock:
            if not lock_alone(lock):
                raise UsageError(
                    f'another process is writing to "{self.folder}"',
                    hint="it is enough that one watches; this one has written nothing",
                )
            yield

    def kept(self) -> list[KeptScores]:
        """List what is kept: dates ascending, on each the live one first."""
        found = []
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for folder in folders:
            named = _DAY.fullmatch(folder.name)
            for path in parquet_files(folder) if named else []:
                if matched := _FILE.fullmatch(path.name):
                    day = date.fromisoformat(named[1]) if named else date.min
                    found.append(KeptScores(day, matched[1], path))
        return sorted(found, key=lambda k: (k.day, ROLES.index(k.role), k.path.name))

    def keep(self, day: date, role: str, spec: ScoringSpec, scores: pl.DataFrame) -> bool:
        """Keep a date's scores by a spec, once; say whether they are new.

        What is there already stays as it is, under whatever role it was kept.
        """
        name = specs.score_id(spec)
        folder = self.folder / f"features_asof={day.isoformat()}"
        if any(path.name.endswith(f"-{name}.parquet") for path in parquet_files(folder)):
            return False
        make_folder(folder, exist_ok=True)
        buffer = io.BytesIO()
        scores.write_parquet(buffer, metadata={_SPEC: specs.to_json(spec)})
        place_file(folder / f"{role}-{name}.parquet", buffer.getvalue())
        return True

    def forget(self, before: date) -> int:
        """Remove the scores of dates before a day; return how many dates that were."""
        days = {each.day for each in self.kept() if each.day < before}
        for each in self.kept():
            if each.day < before:
                each.path.unlink()
        for day in days:
            folder = self.folder / f"features_asof={day.isoformat()}"
            if not any(folder.iterdir()):
                folder.rmdir()
        if days:
            sync_folder(self.folder)
        return len(days)
