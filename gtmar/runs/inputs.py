"""The files that a decision rests on, by hash, so that nobody changes them while it is made."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gtmar.accounts.locations import duckdb_place
from gtmar.accounts.sources import Source
from gtmar.errors import AccountDataError, culprits

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["file_hashes", "refuse_changed"]


def file_hashes(*sources: object) -> dict[str, str]:
    """Return the SHA-256 of every local file that sources name.

    Parameters
    ----------
    sources
        Files, folders, globs, Delta folders, DuckDB files, and those of a query. Frames and
        addresses have no file here, and no hash.
    """
    hashes = {}
    for source in sources:
        for location in _locations(source):
            for path in _files(location):
                with path.open("rb") as file:
                    hashes[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _locations(source: object) -> list[str]:
    if isinstance(source, Source):
        others = [location for _, other in source.others for location in _locations(other)]
        return [source.location, *others]
    return [str(source)] if isinstance(source, str | Path) else []


def _files(source: str) -> list[Path]:
    if source.startswith("duckdb://"):
        return [path for path in (duckdb_place(source)[0],) if path.is_file()]
    if source.startswith("file://"):
        source = unquote(urlsplit(source).path)
    path = Path(source.removeprefix("delta:"))
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if any(sign in source for sign in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(anchor)) if path.is_absolute() else source
        return sorted(file for file in anchor.glob(pattern) if file.is_file())
    return []


def refuse_changed(before: Mapping[str, str], *sources: object) -> None:
    """Refuse to go on where a file isn't what it was.

    Raises
    ------
    AccountDataError
        Naming the files; nothing has been written.
    """
    after = file_hashes(*sources)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if changed:
        raise AccountDataError(
            f"{culprits(changed)} changed while the decision was made: it is void, and nothing "
            "was written",
            hint="do it again when nobody writes there",
            changed=changed,
        )
