"""Scores as they were given, kept by date apart from the journal: Parquet files, or a table.

They are customers' data, so the journal, which may be published, has none of them.
"""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.integrations.lakehouse import is_target
from gtmar.integrations.tables_by_date import ScoreTable
from gtmar.journal.files import lock_alone, make_folder, open_lock, parquet_files
from gtmar.outputs import place_file, sync_folder
from gtmar.safe_text import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gtmar.spec.model import ScoringSpec

__all__ = ["ROLES", "KeptScores", "ScoreStore", "TableStore", "score_store"]

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
    #: The spec that gave them.
    spec: ScoringSpec
    #: The day on which they were kept; None where there is no account.
    scored_on: date | None
    read: Callable[[], pl.DataFrame]

    def frame(self) -> pl.DataFrame:
        """Return a row an account: its id as text, its score, and by what it was scored and when.

        Columns: `account`, `score` in points, `tier`, `probability` (null where the spec has none),
        `model`, `spec_id`, `scored_on` (the day, UTC).
        """
        return self.read()

    @classmethod
    def of_file(cls, day: date, role: str, path: Path) -> KeptScores:
        """Return what a file of the folder keeps."""
        text = pl.read_parquet_metadata(path)[_SPEC]
        lazy = pl.scan_parquet(path, hive_partitioning=False)
        days = lazy.select("scored_on").head(1).collect()["scored_on"]
        spec = specs.parse(text, source=f"spec of {path.name}")
        return cls(day, role, spec, next(iter(days), None), lazy.collect)


def score_store(
    location: str | Path, journal: Path, inputs: Sequence[str | Path] = ()
) -> ScoreStore | TableStore:
    """Return where scores are kept: a folder, or a Delta or DuckDB table.

    Raises
    ------
    UsageError
        If a table is one of the inputs or of something else.
    """
    if not is_target(str(location)):
        return ScoreStore(location)
    table = ScoreTable(str(location))
    table.refuse_inputs([*inputs, journal])
    return TableStore(table, journal)


@contextmanager
def _alone(lock: Path, name: str) -> Iterator[None]:
    """Hold a lock; `UsageError` where another process does."""
    with open_lock(lock) as file:
        if not lock_alone(file):
            raise UsageError(
                f'another process is writing to "{name}"',
                hint="it is enough that one watches; this one has written nothing",
            )
        yield


@dataclass(frozen=True)
class TableStore:
    """Kept scores in a Delta or DuckDB table, by the rules of the folder.

    A date's scores by a spec come in by one commit. Whoever measures holds a lock in the journal,
    where a table may be on another machine.
    """

    table: ScoreTable
    journal: Path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the store, so that nobody else writes to it; `UsageError` where another does."""
        with _alone(self.journal / ".watch.lock", without_credentials(self.table.location)):
            yield

    def kept(self) -> list[KeptScores]:
        """List what is kept: dates ascending, on each the live one first."""
        found = [
            KeptScores(
                row["features_asof"],
                row["role"],
                specs.parse(row["spec"], source=f"spec of {row['kept_as']}"),
                row["scored_on"],
                partial(self.table.rows, row["kept_as"]),
            )
            for row in self.table.kept().to_dicts()
        ]
        return sorted(found, key=_in_order)

    def keep(self, day: date, role: str, spec: ScoringSpec, scores: pl.DataFrame) -> bool:
        """Keep a date's scores by a spec, once; say whether they are new."""
        shared = {
            "features_asof": day,
            "role": role,
            "kept_as": f"{day.isoformat()}/{specs.score_id(spec)}",
            "spec": specs.to_json(spec),
        }
        return self.table.keep(scores.with_columns(**{k: pl.lit(v) for k, v in shared.items()}))

    def forget(self, before: date) -> int:
        """Remove the scores of dates before a day; return how many dates that were."""
        days = {each.day for each in self.kept() if each.day < before}
        self.table.forget(before)
        return len(days)


def _in_order(kept: KeptScores) -> tuple[date, int, str]:
    return kept.day, ROLES.index(kept.role), specs.score_id(kept.spec)


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
        with _alone(self.folder / ".lock", str(self.folder)):
            yield

    def kept(self) -> list[KeptScores]:
        """List what is kept: dates ascending, on each the live one first."""
        found = [KeptScores.of_file(*each) for each in self._files()]
        return sorted(found, key=_in_order)

    def _files(self) -> list[tuple[date, str, Path]]:
        """Return each file with its date and role."""
        found = []
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for folder in folders:
            named = _DAY.fullmatch(folder.name)
            for path in parquet_files(folder) if named else []:
                if matched := _FILE.fullmatch(path.name):
                    day = date.fromisoformat(named[1]) if named else date.min
                    found.append((day, matched[1], path))
        return found

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
        old = [(day, path) for day, _, path in self._files() if day < before]
        days = {day for day, _ in old}
        for _, path in old:
            path.unlink()
        for day in days:
            folder = self.folder / f"features_asof={day.isoformat()}"
            if not any(folder.iterdir()):
                folder.rmdir()
        if days:
            sync_folder(self.folder)
        return len(days)
