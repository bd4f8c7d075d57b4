"""Compaction: a run's many small parts are packed into one, without changing a row.

The packed part is written and synced in a folder of its own, which is then exchanged with the run's
folder in one step of the operating system. So readers see either the old parts or the new one,
never both and never none, even if the process is killed. The footer of the packed part keeps the
links of the old parts, so the run's chain and digest still hold.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from gtmar.errors import JournalError, RunNotFoundError
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import (
    PACKED_NAME,
    JournalFile,
    Link,
    RunFiles,
    aside_for,
    lock_alone,
    make_folder,
    open_lock,
    place_file,
    refuse_journal_elsewhere,
    run_aside,
    sha256_of,
    unwritable,
)
from gtmar.journal.schema import SMALL, format_of, write_parquet
from gtmar.journal.verify import examine, packings, run_ids
from gtmar.outputs import exchange as _exchange
from gtmar.outputs import sync_folder
from gtmar.plain_data import PlainData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa


__all__ = ["Compaction", "Packed", "compact", "work_folder"]

#: Runs that are packed in parallel.
_AT_ONCE = 8
#: Outcome of a run that was packed before, and from which stray old parts were removed.
_TIDIED = "tidied"
#: Reason to leave a damaged run alone. Without --rows, verify doesn't find damage within rows.
_DAMAGED = "damaged; gtmar verify --rows says how"
#: Rows of a row group, the unit in which an engine reads or skips rows.
_GROUP_ROWS = 65_536
#: File names in a folder put aside: parts, torn parts, files being written, records.
_OWN = re.compile(r"part-\d+\.(parquet|torn)|.*\.partial|(start|end|resume-\d+)\.parquet|seal|lock")


@dataclass(frozen=True)
class Packed:
    """One run whose parts are packed."""

    run_id: str
    parts_before: int
    parts_after: int
    rows: int
    #: SHA-256 of the packed file.
    sha256: str


@dataclass(frozen=True)
class Compaction(PlainData):
    """The result of a compaction."""

    #: Runs packed, those included that an earlier compaction packed and didn't put on record.
    packed: tuple[Packed, ...]
    #: Runs left alone, by reason.
    left_alone: dict[str, tuple[str, ...]]
    #: The event that keeps it; None where nothing was packed.
    event_id: str | None
    #: Runs packed before, whose old parts a sync had put back beside the packed one: taken away.
    tidied: tuple[str, ...] = ()


def compact(journal: Path) -> Compaction:
    """Pack the parts of each run that has ended into one, and record that as an event.

    A run that is running, may be resumed or is damaged is left alone. Compacting twice changes
    nothing more.

    Raises
    ------
    RunNotFoundError
        If the journal holds no run.
    JournalError
        If another process is compacting it, or it can't be written; the old parts are intact then.
    """
    ids = run_ids(journal)
    if not ids:
        raise RunNotFoundError(
            f'journal "{journal}": no run in it', hint="--journal DIR says where it is"
        )
    try:
        with work_folder(journal) as room:
            return _compact(journal, room, ids)
    except OSError as err:
        raise unwritable(journal, err) from err


def _compact(journal: Path, room: Path, ids: list[str]) -> Compaction:
    on_record = packings(journal)

    def outcome(run_id: str) -> Packed | str | None:
        return _compact_run(RunFiles(journal, run_id), on_record.get(run_id), room)

    # Threads, as most of the time is spent waiting for the disk or in code that releases the GIL.
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        outcomes = dict(zip(ids, pool.map(outcome, ids), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
    packed = tuple(each for each in outcomes.values() if isinstance(each, Packed))
    left_alone: dict[str, list[str]] = {}
    for run_id, each in outcomes.items():
        if isinstance(each, str):
            left_alone.setdefault(each, []).append(run_id)
    return Compaction(
        packed=packed,
        tidied=tuple(left_alone.pop(_TIDIED, ())),
        left_alone={reason: tuple(runs) for reason, runs in left_alone.items()},
        event_id=_keep(journal, packed) if packed else None,
    )


def _compact_run(files: RunFiles, on_record: set[str] | None, room: Path) -> Packed | str | None:
    """Pack one run; return the result, the reason to leave it alone, or None if all is done."""
    reason = _reason_to_wait(files)
    if reason is not None:
        return reason
    listed = files.parts
    if len(listed) == 1 and on_record:
        return None
    examined = examine(files, on_record, rows=True)
    if examined.findings or examined.rows is None:
        return _DAMAGED
    parts = [link for link in examined.links if link.path.parent == files.experiments]
    if len(parts) < 2:
        return None
    is_packed = {link.path.name for link in parts} == {PACKED_NAME}
    if not is_packed:
        _put_in_place(files, partial(_write_packed, files, examined.rows, parts), room)
    elif len(listed) > 1:
        content = (files.experiments / PACKED_NAME).read_bytes()
        _put_in_place(files, lambda new: place_file(new, content), room)
        if on_record:
            return _TIDIED
    sha256 = sha256_of(files.experiments / PACKED_NAME)
    return Packed(files.run_id, len(parts), 1, examined.experiments + 1, sha256)


def _reason_to_wait(files: RunFiles) -> str | None:
    try:
        if files.running():
            return "running"
        if not files.end.is_file():
            return "cut off, and may be resumed"
        if files.experiments.is_symlink() or files.records.is_symlink():
            return "a folder of it is a link"
        with os.scandir(files.experiments) as entries:
            if not all(entry.is_file(follow_symlinks=False) for entry in entries):
                return "its folder holds links or folders"
    except FileNotFoundError:
        return _DAMAGED
    except PermissionError:
        return "not yours to read"
    return None


def _keep(journal: Path, packed: tuple[Packed, ...]) -> str:
    return write_event(
        journal,
        EventKind.COMPACTION,
        details={
            "parts_before": sum(run.parts_before for run in packed),
            "parts_after": sum(run.parts_after for run in packed),
            "runs": [asdict(run) for run in packed],
        },
    )


def _write_packed(files: RunFiles, rows: pa.Table, parts: list[Link], new: Path) -> None:
    """Write a run's rows as one part, read them back and compare."""
    parts = sorted(parts, key=lambda link: link.position)
    footer = {
        "gtmar_format": format_of(rows),
        "gtmar_previous": parts[0].previous,
        "gtmar_place": str(parts[0].position),
        "gtmar_packed": json.dumps(
            [
                {"name": x.name, "place": x.position, "previous": x.previous, "sha256": x.sha256}
                for x in parts
            ]
        ),
    }
    write = partial(write_parquet, rows, footer=footer, rows=_GROUP_ROWS, compression=SMALL)
    place_file(new, write)
    written = JournalFile.load(new).table()
    if written is None or not written.replace_schema_metadata(None).equals(rows):
        raise JournalError(
            f"run {files.run_id}: the packed rows are not those of its parts; nothing was replaced",
            hint="see whether the disk is sound",
        )


def _put_in_place(files: RunFiles, write: Callable[[Path], None], room: Path) -> None:
    """Replace the run's folder of parts by one with a single part, written by `write`."""
    aside = aside_for(files.run_id, room)
    make_folder(aside)
    try:
        write(aside / PACKED_NAME)
        # Torn parts that a resume has put aside, and files of others, are kept in the new folder.
        packed = {part.name for part in files.parts}
        for other in files.experiments.iterdir():
            if other.name not in packed and other.suffix != ".partial":
                shutil.copy2(other, aside / other.name)
        sync_folder(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _replace(files.experiments, aside)
    shutil.rmtree(aside)


@contextmanager
def work_folder(journal: Path) -> Iterator[Path]:
    """Provide the folder for packing and imports, locked, and cleared of what a kill left there.

    Raises
    ------
    JournalError
        If another process holds the lock, or the folder is a link.
    """
    refuse_journal_elsewhere(journal)
    room = journal / "packing"
    if room.is_symlink():
        raise JournalError(
            f'journal "{journal}": "{room}" is a link; nothing is packed, or removed, elsewhere',
            hint=f'rm "{room}", which takes the link away and nothing else',
        )
    make_folder(room, exist_ok=True)
    with open_lock(room / "lock") as lock:
        if not lock_alone(lock):
            raise JournalError(
                f'journal "{journal}": another process is compacting it, or imports into it',
                hint="wait for it, then there may be nothing left to do",
            )
        _clear(journal, room)
        yield room


def _clear(journal: Path, room: Path) -> None:
    """Remove the folders that a killed process left, or put them back; leave all else alone."""
    for left in room.iterdir():
        run_id = run_aside(left.name)
        if run_id is None or left.is_symlink() or not left.is_dir():
            continue
        folder = RunFiles(journal, run_id).experiments
        if left.suffix == ".old" and not os.path.lexists(folder):
            left.rename(folder)
            sync_folder(folder.parent)
        elif all(_OWN.fullmatch(file.name) and file.is_file() for file in left.iterdir()):
            shutil.rmtree(left)


def _replace(folder: Path, new: Path) -> None:
    """Exchange two folders."""
    if not _exchange(folder, new):
        # The system can't do it in one step. A kill between the next two lines leaves the run
        # without parts until the next compaction, which puts them back.
        old = new.with_name(new.name + ".old")
        folder.rename(old)
        new.rename(folder)
        old.rename(new)
    sync_folder(folder.parent)
    sync_folder(new.parent)
