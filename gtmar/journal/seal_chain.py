"""Find the breaks in the hash chain of a run's files.

Each file carries its place in the chain and the hash of the file before it. The walk goes back from
the end record, which is sealed. A place without a file means a missing file; a file with another
hash than the next one names was changed; a file that the walk doesn't reach was added.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gtmar.journal.files import Link, RunFiles

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path


__all__ = ["find_breaks", "number_of"]

#: Most missing files that are named for one gap.
_MOST_NAMED = 1000
_NUMBERED = re.compile(r"(part|resume)-(\d+)(?:\.parquet)?")


def number_of(name: str, kind: str) -> int | None:
    """Return the number of a `part` or a `resume` record; None for any other file.

    Examples
    --------
    >>> number_of("part-000012.parquet", "part")
    12
    """
    match = _NUMBERED.fullmatch(name)
    return int(match[2]) if match and match[1] == kind else None


def find_breaks(
    files: RunFiles,
    links: Sequence[Link],
    damaged: Collection[Path],
    changed: Collection[Path],
    *,
    rows_hold: bool,
) -> dict[Path, tuple[str, str]]:
    """Walk a run's chain from its last file back to the first, and return the files that break it.

    Parameters
    ----------
    files
        The run.
    links
        The links of all its readable files.
    damaged
        Its unreadable files, which have been reported already.
    changed
        Readable files that are known to be changed, so that their content isn't trusted.
    rows_hold
        Whether the experiments are those that the run ended with, so that a file missing at the end
        isn't a part.

    Returns
    -------
    dict
        By file, its state (`missing`, `changed` or `added`), and the evidence in words.
    """
    return _Walk(files, links, damaged, changed, rows_hold=rows_hold).breaks() if links else {}


def _least_place(kind: str, number: int) -> int:
    """Return the lowest place that a file can have: part 1 is first, then the start record."""
    if kind == "part":
        return 0 if number == 1 else number
    return number + 1


class _Walk:
    def __init__(
        self,
        files: RunFiles,
        links: Sequence[Link],
        damaged: Collection[Path],
        changed: Collection[Path],
        *,
        rows_hold: bool,
    ) -> None:
        self._files = files
        # Of two equal files, the original is the one with the lower place, then a proper name.
        self._links = sorted(links, key=lambda link: (link.position, self._odd(link), link.name))
        self._damaged = set(damaged)
        self._distrusted = set(changed)
        self._rows_hold = rows_hold
        self._names = {link.name for link in links} | {path.name for path in damaged}
        self._seen: set[Link] = set()
        self._breaks: dict[Path, tuple[str, str]] = {}
        parts = {link.path for link in links if link.path.parent == files.experiments}
        parts |= {path for path in damaged if path.parent == files.experiments}
        # A single part that can't be trusted may be packed from all the parts that seem missing.
        self._hoard = len(parts) == 1 and parts <= self._damaged | self._distrusted

    def breaks(self) -> dict[Path, tuple[str, str]]:
        """Walk back link by link, then report the files that weren't reached."""
        by_hash: dict[str, Link] = {}
        for link in self._links:
            by_hash.setdefault(link.sha256, link)
        here = self._tail()
        self._seen.add(here)
        while here.previous:
            before = by_hash.get(here.previous)
            if before is None:
                before = self._below(here)
                if before is None or before.position != here.position - 1:
                    self._fill(before, here)
                elif here.path not in self._distrusted:
                    self._changed(before.path)
                if before is None:
                    break
            elif before in self._seen:
                self._changed(here.path)
                break
            self._seen.add(before)
            here = before
        for link in self._links:
            if link not in self._seen:
                self._add(link.path, "added", "no file of the run was written after it")
        self._check_names()
        return self._breaks

    def _odd(self, link: Link) -> bool:
        """Return whether a file has a name that no file of a run has."""
        records = (self._files.start, self._files.end)
        return link.path not in records and not any(
            number_of(link.name, kind) for kind in ("part", "resume")
        )

    def _check_names(self) -> None:
        """Check that the numbers in the names of the chain's files ascend."""
        highest = {"part": 0, "resume": 0}
        for link in self._links:
            for kind, before in highest.items():
                number = number_of(link.name, kind)
                if number is not None and link in self._seen:
                    if number <= before:
                        self._add(link.path, "changed", "it stands under another file's name")
                    highest[kind] = number
            if self._odd(link):
                self._add(link.path, "changed", "it isn't under the name that it was written under")

    def _tail(self) -> Link:
        """Return the link to walk back from: the end record, else the newest file.

        That is the one with the highest place, or, if the lock names a newer one, a link to it.
        """
        for link in self._links:
            if link.path == self._files.end:
                return link
        parts = [number_of(name, "part") or 0 for name in self._names]
        most = len(self._links) + len(self._damaged) + max(parts)
        likely = [link for link in self._links if link.position < most] or self._links
        last = min(likely, key=lambda link: (-link.position, link.name))
        position, sha256 = self._files.newest() or (-1, "")
        if last.position > position:
            return last
        return Link(self._files.lock, self._files.lock.name, position + 1, sha256, sha256="")

    def _below(self, here: Link) -> Link | None:
        rest = [x for x in self._links if x not in self._seen and x.position < here.position]
        return min(rest, key=lambda link: (-link.position, link.name), default=None)

    def _fill(self, low: Link | None, high: Link) -> None:
        """Report the files that are missing or changed between two links."""
        bottom = low.position if low else -1
        slots = high.position - bottom - 1
        starts = bottom < 1 < high.position
        ends = {
            kind: (max(self._below_number(kind, bottom), default=0), self._above_number(kind))
            for kind in ("part", "resume")
        }
        inside = [
            path
            for path in {link.path for link in self._links if link not in self._seen}
            | self._damaged
            if path != (low.path if low else None)
            and (self._between(path.name, ends) or (path == self._files.start and starts))
        ]
        for path in inside:
            if path not in self._damaged:
                self._changed(path)
        slots = min(slots - len(inside), _MOST_NAMED)
        gone: list[Path] = []
        known, above = ends["part"]
        # The places below are those of parts, except for the records.
        first = max(known, bottom + 1 - (bottom >= 1) - len(self._below_number("resume", bottom)))
        for number in range(first + 1, above or first + 1) if not self._hoard else ():
            gone += self._unless_there(f"part-{number:06d}.parquet")
        if starts:
            gone += self._unless_there("start.parquet")
        kind = "part" if above is None and not self._rows_hold else "resume"
        number = first if kind == "part" else ends[kind][0]
        while len(gone) < slots and not self._hoard:
            number += 1
            digits = f"{number:06d}" if kind == "part" else str(number)
            gone += self._unless_there(f"{kind}-{digits}.parquet")
        for path in gone:
            # Missing files at the end of an interrupted run aren't reported: a resume writes them
            # again.
            if high.path != self._files.lock:
                self._add(path, "missing", "the file is gone")
        if not gone and not inside and not self._hoard:
            self._changed(high.path)

    def _below_number(self, kind: str, most: int) -> list[int]:
        """Return the numbers of parts or resume records up to a place, without impossible ones."""
        return [
            number
            for link in self._links
            if (number := number_of(link.name, kind)) is not None
            if _least_place(kind, number) <= link.position <= most
        ]

    def _above_number(self, kind: str) -> int | None:
        """Return the lowest number among the links that were reached."""
        numbers = (number_of(link.name, kind) for link in self._seen)
        return min((n for n in numbers if n is not None), default=None)

    @staticmethod
    def _between(name: str, ends: dict[str, tuple[int, int | None]]) -> bool:
        for kind, (low, high) in ends.items():
            if (number := number_of(name, kind)) is not None:
                return low < number and (high is None or number < high)
        return False

    def _unless_there(self, name: str) -> list[Path]:
        if name in self._names:
            return []
        folder = self._files.experiments if name.startswith("part") else self._files.records
        return [folder / name]

    def _changed(self, path: Path) -> None:
        self._distrusted.add(path)
        self._add(path, "changed", "its bytes are not those that the next file was written after")

    def _add(self, path: Path, kind: str, problem: str) -> None:
        self._breaks.setdefault(path, (kind, problem))
