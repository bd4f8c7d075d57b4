"""The files of the SQL library by folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.journal.sql_library import library

if TYPE_CHECKING:
    from gtmar.journal.sql_library import SqlFile

__all__ = ["files_of"]


def files_of(folder: str) -> dict[str, SqlFile]:
    """Return the files of a folder by name: `journal`, `checks` or `metrics`."""
    return {name: file for name, file in library().items() if name.startswith(f"{folder}/")}
