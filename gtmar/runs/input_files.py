"""The files that a command reads: which they are, and by hash, so that a change is noticed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from gtmar.data.locations import duckdb_place, local_path
from gtmar.data.scan import Source
from gtmar.errors import AccountDataError, culprits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["file_hashes", "local_inputs", "recorded_inputs", "refuse_changed"]

#: Parameters of a start record that name a table: of the query, and the holdout's own.
_SOURCE = re.compile(r"(holdout_)?source(\..+)?")


def local_inputs(*sources: object) -> tuple[Path, ...]:
    """Return the files, folders and globs of this machine that sources name.

    Parameters
    ----------
    sources
        Anything that an account table may be given as, and paths of other inputs. Frames, None and
        addresses of other machines have none.
    """
    return tuple(path for source in sources for path in _local(source))


def _local(source: object) -> Iterator[Path]:
    if isinstance(source, Source):
        for place in (source.location, *(other.location for _, other in source.others)):
            yield from _local(place)
        yield from _local(source.query_file)
    elif isinstance(source, Path):
        yield source
    elif isinstance(source, str):
        path = local_path(source)
        if path is not None:
            yield path


def recorded_inputs(start: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the local files, folders and globs of the tables that a run's start record names."""
    others = (v for k, v in dict(start["parameters"] or {}).items() if _SOURCE.fullmatch(k))
    # A frame's source is no path.
    return local_inputs(*(place for place in (start["source"], *others) if place != "frame"))


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
