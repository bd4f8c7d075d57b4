"""What readers keep between commands, outside the journal: only ever a cache.

It lies in the user's cache folder, so that to read a journal changes no byte of it and a folder
that can't be written to reads as quickly. Each entry begins with the hash of its content: one that
was cut off or changed counts as absent, and is made anew. Whoever writes last wins; both entries
are right. Nothing that `verify` says rests on it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Cache"]

_HASH_BYTES = 64
_JOURNAL = "journal"


@dataclass(frozen=True)
class Cache:
    """The cache of one journal.

    Parameters
    ----------
    folder
        Where its entries are; None where nothing is to be kept.
    journal
        The journal's folder.
    """

    folder: Path | None
    journal: Path

    @classmethod
    def of(cls, journal: Path) -> Self:
        """Return a journal's cache: below ``GTMAR_CACHE``, else the user's cache folder."""
        stated = os.environ.get("GTMAR_CACHE")
        if stated == "":
            return cls(None, journal)
        try:
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gtmar"
        except RuntimeError:
            return cls(None, journal)
        name = hashlib.sha256(os.fsencode(journal)).hexdigest()[:16]
        return cls((Path(stated) if stated else home) / name, journal)

    def read(self, name: str) -> bytes | None:
        """Return an entry's content; None where there is none that is whole."""
        if self.folder is None:
            return None
        try:
            content = (self.folder / name).read_bytes()
        except OSError:
            return None
        stated, kept = content[:_HASH_BYTES], content[_HASH_BYTES:]
        return kept if stated == _hash(kept) else None

    def write(self, name: str, content: bytes) -> None:
        """Keep an entry, whole or not at all; where that can't be done, it is left undone."""
        if self.folder is None:
            return
        with suppress(OSError):
            if not self.folder.is_dir():
                self._clear_abandoned()
                # Notes and specs are in it: nobody else's business.
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self.folder / _JOURNAL).write_bytes(os.fsencode(self.journal))
            beside = self.folder / f"{name}.{secrets.token_hex(8)}"
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_hash(content))
                    file.write(content)
                beside.replace(self.folder / name)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise

    def _clear_abandoned(self) -> None:
        """Remove the caches of journals that are gone."""
        if self.folder is None or not self.folder.parent.is_dir():
            return
        for other in self.folder.parent.iterdir():
            marker = other / _JOURNAL
            if marker.is_file() and not os.path.isdir(marker.read_bytes()):  # noqa: PTH112 - bytes
                for entry in other.iterdir():
                    entry.unlink()
                other.rmdir()


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode("ascii")
