"""Journals written by hand: real files, chained and sealed, of a few columns and rows."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from traceback import extract_stack
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from gtmar.engine.evaluator import EVALUATOR_VERSION, evaluator_code
from gtmar.journal.columns import EXPERIMENTS
from gtmar.journal.schema import schema_of
from gtmar.journal.writer import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

__all__ = [
    "IDS",
    "WHEN",
    "Killed",
    "Mortal",
    "begin",
    "content",
    "finish",
    "kills",
    "rows",
    "unchained",
]

IDS = [f"r20260101-12000{n}-abc12{n}" for n in range(3)]
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
#: A few columns are enough for files and hashes, and quicker to read.
SCHEMA = pa.schema(
    schema_of(EXPERIMENTS).field(name)
    for name in [
        *("run_id", "number", "proposal", "value_after", "outcome", "weights", "nrr_by_tier"),
        *("evaluated_at", "duration_us"),
    ]
)


def rows(run_id: str, first: int, count: int) -> pa.Table:
    """Experiments by number."""
    made = [
        {
            "run_id": run_id,
            "number": n,
            "proposal": n,
            "value_after": n / 7 if n % 3 else None,
            "outcome": "lose" if n else "baseline",
            "weights": [("nps", n), ("logins", -n)],
            "nrr_by_tier": [("A", 0.5), ("B", None)],
            "evaluated_at": WHEN,
        }
        for n in range(first, first + count)
    ]
    return pa.Table.from_pylist(made, schema=SCHEMA)


def begin(
    journal: Path, run_id: str, *, parts: int = 4, resumed: bool = False, **start: Any
) -> RunWriter:
    """Write a run but its end: the baseline, then parts of 3 rows, the last one of 2.

    A resumed one was cut off after its second part.
    """
    fields = {
        "kind": "search",
        "format_version": 1,
        "started_at": WHEN,
        "evaluator_version": EVALUATOR_VERSION,
        "evaluator_code": evaluator_code(),
        **start,
    }

    def write(writer: RunWriter, numbers: range) -> None:
        for part in numbers:
            writer.append(rows(run_id, 3 * part - 2, 3 if part < parts - 1 else 2))
            writer.flush()

    with RunWriter(journal, run_id) as writer:
        writer.append(rows(run_id, 0, 1))
        writer.flush()
        writer.record("start", fields)
        write(writer, range(1, 2 if resumed else parts))
    if resumed:
        with RunWriter(journal, run_id, resumed=True) as writer:
            writer.record("resume-1", {"started_at": WHEN})
            write(writer, range(2, parts))
    return writer


def finish(writer: RunWriter) -> None:
    """Write how a run ended."""
    writer.flush()
    digest = writer.digest.hexdigest()
    end = {"ended_at": datetime.now(UTC), "state": "finished", "digest": digest}
    writer.record("end", end)


def content(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Killed(BaseException):
    """What a process does when it is killed: nothing more."""


class Mortal:
    """Counts what changes a disk, and dies before the call of a given number."""

    def __init__(self, patch: pytest.MonkeyPatch, last: int, *more: tuple[object, str]) -> None:
        self.calls = 0
        #: Of each call its name, and the functions of gtmar that it came from.
        self.kinds: list[tuple[str, ...]] = []
        self._last = last
        for owner, name in (
            (os, "fsync"),
            (os, "unlink"),
            (Path, "rename"),
            (Path, "mkdir"),
            (Path, "unlink"),
            (shutil, "rmtree"),
            (shutil, "copy2"),
            (pq, "write_table"),
            *more,
        ):
            patch.setattr(owner, name, self._mortal(getattr(owner, name)))

    def _mortal(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def mortal(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            callers = (f.name for f in extract_stack() if "/gtmar/" in f.filename)
            self.kinds.append((getattr(call, "__name__", ""), *callers))
            if self.calls >= self._last:
                raise Killed
            return call(*arguments, **more)

        return mortal


def kills(kinds: list[tuple[str, ...]]) -> list[int]:
    """Choose the calls to be killed at: the first of each kind, the last of all, a few drawn.

    `GTMAR_KILLS=400` draws as many; in CI the draw is the same every time.
    """
    first = {kind: number for number, kind in reversed(list(enumerate(kinds, 1)))}
    draw = Random(1 if os.environ.get("CI") else None)
    few = min(int(os.environ.get("GTMAR_KILLS", "4")), len(kinds))
    return sorted({*first.values(), len(kinds), *draw.sample(range(1, len(kinds) + 1), few)})


def unchained(journal: Path) -> None:
    """Have runs as a version wrote them that didn't chain files yet: what is in them is true."""
    for path in [*journal.glob("runs/*/*.parquet"), *journal.glob("experiments/*/*.parquet")]:
        if path.read_bytes().endswith(b"PAR1"):
            table = pq.ParquetFile(path).read()
            pq.write_table(table.replace_schema_metadata({"gtmar_format": "1"}), path)
    for path in [*journal.glob("runs/*/seal"), *journal.glob("runs/*/lock")]:
        path.unlink()
