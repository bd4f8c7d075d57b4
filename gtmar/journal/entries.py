"""What a journal's digest covers: its runs that have ended and its events, as a set.

A digest is of a set, so that neither clocks nor the order of a merge move it. An older one holds
where the entries that it covered are all there unchanged: those that came since are found first.
Most came at the end, by time or by arrival on this disk; a few may have come in between, from
another machine or from a clock set back. For these a digest carries power sums of its entries'
hashes: the differences from today's sums are the sums over what was added, and Newton's identities
give the polynomial that has exactly these as its roots. Whatever is found so is proved by the hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING

from gtmar.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gtmar.journal.store import JournalFile, Link

__all__ = ["Entry", "Held", "digest_of", "event_entry", "hold_against", "run_entry", "saved_list"]

_PREFIX, _OLD_PREFIX = "gtmar2", "gtmar1"
_TOKEN = re.compile(
    rf"(?:{_PREFIX}:([0-9]{{1,9}}):([0-9a-f]{{64}}):([\w=-]+)|{_OLD_PREFIX}:([0-9]{{1,9}}):([0-9a-f]{{64}}))",
    re.ASCII,
)
#: Entries that may have come in between and still be told apart, and the field of their sums.
_SUMS = 16
_FIELD = 2**61 - 1
#: Sets of entries that a digest of the old form is held against, at most.
_MOST_TRIES = 4000


@dataclass(frozen=True)
class Entry:
    """A run that has ended, or an event."""

    #: The run's id; of an event the name of its file, which holds its id.
    name: str
    #: Hash of what it covers: all files of the run as they were first written; the event's file.
    sha256: str
    #: When it reached this disk, as the file system says: no proof, a hint where to look.
    arrived: int = 0
    #: What a digest of the old form covers: time, name and hash; empty where that isn't known.
    old_line: str = ""

    @property
    def line(self) -> str:
        """The entry as a line of text."""
        return f"{self.name} {self.sha256}"


@dataclass(frozen=True)
class Held:
    """How a journal stands to an older digest or list."""

    holds: bool
    #: Entries that came since; None where that can't be told.
    added: int | None
    #: Names of entries that are gone or not what they were; empty where a digest can't tell.
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def run_entry(run_id: str, links: Sequence[Link], arrived: int, old_line: str = "") -> Entry:
    """Return the entry of a run: it covers the files of its chain, packed parts as they were."""
    files = sorted({(link.name, link.sha256) for link in links})
    return Entry(run_id, _sha256(json.dumps(files)), arrived, old_line)


def event_entry(file: JournalFile, arrived: int, old_line: str = "") -> Entry:
    """Return the entry of an event."""
    return Entry(file.path.name, file.sha256, arrived, old_line)


def digest_of(entries: Sequence[Entry]) -> str:
    """Return the digest of a set of entries, to be kept elsewhere."""
    sums = b"".join(each.to_bytes(8, "big") for each in _power_sums(entries))
    stated = base64.urlsafe_b64encode(sums).decode().rstrip("=")
    return f"{_PREFIX}:{len(entries)}:{_hash(entries)}:{stated}"


def saved_list(entries: Sequence[Entry]) -> str:
    """Return the entries as text, for a file that a later journal is held against."""
    return "".join(f"{line}\n" for line in sorted(entry.line for entry in entries))


def hold_against(entries: Sequence[Entry], against: str, withdrawn: Sequence[Entry] = ()) -> Held:
    """Say whether all that a digest or a saved list covered is there unchanged.

    Parameters
    ----------
    entries
        Those of today.
    against
        A digest that was printed earlier, or the path of a list that was saved.
    withdrawn
        Entries that were there and were taken back on record: they count as there.

    Raises
    ------
    UsageError
        If `against` is neither.
    """
    match = _TOKEN.fullmatch(against)
    pool = [*entries, *withdrawn]
    if match is None:
        return _against_list(pool, against)
    count = int(match[1] or match[4])
    if count > len(pool):
        return Held(holds=False, added=None)
    candidates = (
        _reconciled(pool, count, _sums_in(against, match[3])) if match[3] else _likely(pool, count)
    )
    stated = match[2] or match[5]
    for kept in candidates:
        if (_hash(kept) if match[3] else _old_hash(kept)) == stated:
            there = set(kept)
            return Held(holds=True, added=sum(entry not in there for entry in entries))
    return Held(holds=False, added=None)


def _against_list(pool: Sequence[Entry], against: str) -> Held:
    try:
        lines = Path(against).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    saved = dict(line.split(" ", 1) for line in lines if line.count(" ") == 1)
    if not saved or len(saved) != len(lines):
        raise UsageError(
            f'"{against}" is no digest of a journal, and no list of its entries',
            hint=f"a digest looks like {_PREFIX}:12:0f3a...:Qx..., as gtmar verify prints it; "
            "gtmar verify --save FILE writes a list",
        )
    now = {entry.name: entry.sha256 for entry in pool}
    missing = tuple(sorted(saved.keys() - now.keys()))
    changed = tuple(sorted(n for n in saved.keys() & now.keys() if saved[n] != now[n]))
    added = len(now.keys() - saved.keys())
    return Held(not missing and not changed, added, missing, changed)


def _sums_in(against: str, stated: str) -> list[int]:
    try:
        raw = base64.urlsafe_b64decode(stated + "=" * (-len(stated) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 8 * _SUMS:
        raise UsageError(
            f'"{against}" is no digest of a journal: its end was cut off or changed',
            hint="give it whole, as gtmar verify printed it",
        )
    return [int.from_bytes(raw[n : n + 8], "big") for n in range(0, len(raw), 8)]


def _reconciled(
    pool: Sequence[Entry], count: int, before: Sequence[int]
) -> Iterator[Sequence[Entry]]:
    """Give sets of `count` entries: each first part of an order, less what its sums tell of."""
    for order in (_by_time(pool), _by_arrival(pool)):
        for reach in range(count, min(len(order), count + _SUMS) + 1):
            first = order[:reach]
            now = _power_sums(first)
            added = _with_sums(first, [(n - b) % _FIELD for n, b in zip(now, before, strict=True)])
            if len(added) == reach - count:
                yield [entry for entry in first if entry not in added]


def _with_sums(entries: Sequence[Entry], sums: Sequence[int]) -> set[Entry]:
    """Return the entries whose hashes have these power sums, if they are few."""
    # Newton: k e_k = sum over i from 1 to k of (-1)^(i-1) e_(k-i) p_i.
    symmetric = [1]
    for k in range(1, _SUMS + 1):
        total = sum((-1) ** (i - 1) * symmetric[k - i] * sums[i - 1] for i in range(1, k + 1))
        symmetric.append(total * pow(k, -1, _FIELD) % _FIELD)
    while symmetric and not symmetric[-1]:
        symmetric.pop()
    signed = [(-1) ** k * each for k, each in enumerate(symmetric)]
    found = set()
    for entry in entries:
        value = 0
        for each in signed:
            value = (value * _point(entry) + each) % _FIELD
        if value == 0:
            found.add(entry)
    return found


def _likely(pool: Sequence[Entry], count: int) -> Iterator[Sequence[Entry]]:
    """Give sets of `count` entries that a digest of the old form may be of, likely ones first."""
    orders = _by_old_line(pool), _by_arrival(pool)
    tries = 0
    for order in orders:
        for first in range(min(len(order) - count, _MOST_TRIES // 4) + 1):
            tries += 1
            yield order[first : first + count]
    for order in orders:
        for late in range(1, len(order) - count + 1):
            reach = order[: count + late]
            if comb(len(reach), late) + tries > _MOST_TRIES:
                # Those that came late are among the last, as runs that end together are.
                reach = reach[-60:]
            if late > 2 and comb(len(reach), late) + tries > _MOST_TRIES:
                break
            kept_always = order[: count + late - len(reach)]
            for left_out in combinations(reach, late):
                tries += 1
                yield [*kept_always, *(entry for entry in reach if entry not in left_out)]


def _by_time(entries: Sequence[Entry]) -> list[Entry]:
    # Ids of runs and events begin with a letter, then the time.
    return sorted(entries, key=lambda entry: entry.name.removeprefix("event_id=")[1:])


def _by_old_line(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.old_line)


def _by_arrival(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: (entry.arrived, entry.name))


def _point(entry: Entry) -> int:
    return int(_sha256(entry.line)[:16], 16) % _FIELD


def _power_sums(entries: Sequence[Entry]) -> list[int]:
    sums = [0] * _SUMS
    for entry in entries:
        point = power = _point(entry)
        for n in range(_SUMS):
            sums[n] = (sums[n] + power) % _FIELD
            power = power * point % _FIELD
    return sums


def _hash(entries: Sequence[Entry]) -> str:
    return _sha256("\n".join(sorted(entry.line for entry in entries)))


def _old_hash(entries: Sequence[Entry]) -> str:
    return _sha256("\n".join(sorted(entry.old_line for entry in entries)))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
