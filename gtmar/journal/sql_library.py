"""The SQL library: finds the files under `sql/` and reads their headers.

A file's header states purpose, parameters, result columns, grain and order; a test compares it with
the query.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gtmar.errors import QueryError, did_you_mean

__all__ = ["Column", "SqlFile", "find_file", "library", "read_file", "sql_folder"]

_FIELD = re.compile(r"^--   (?P<name>\w+) \((?P<type>[^:]+)\): (?P<meaning>.+)$")
_SECTION = re.compile(
    r"^-- (?P<name>purpose|parameters|columns|grain|order|reads):\s*(?P<rest>.*)$"
)
_MORE = re.compile(r"^--     (?P<text>\S.*)$")


@dataclass(frozen=True)
class Column:
    """A parameter or a result column: name, DuckDB type in lower case, meaning."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True)
class SqlFile:
    """One file of the library."""

    #: Folder and name without ending, such as ``journal/review``.
    name: str
    path: Path
    purpose: str
    parameters: tuple[Column, ...]
    columns: tuple[Column, ...]
    grain: str
    order: str
    #: Whether it reads only the runs in its parameters `run` and `other`.
    named_runs: bool
    text: str


def sql_folder() -> Path:
    """Return the folder of the SQL library: in the package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "_sql"
    return inside if inside.is_dir() else package.parent / "sql"


def read_file(path: Path, name: str) -> SqlFile:
    """Read a file of the library and parse its header.

    Raises
    ------
    QueryError
        If the header lacks a section, or has a malformed line.
    """
    text = path.read_text(encoding="utf-8")
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("--"):
            break
        if section := _SECTION.match(line):
            current = sections.setdefault(section["name"], [])
            if section["rest"]:
                current.append(section["rest"])
        elif more := _MORE.match(line):
            current[-1] += f" {more['text']}"
        elif _FIELD.match(line):
            current.append(line)
        else:
            raise QueryError(f'"{path}":{number}: not a line of a header: {line}')
    missing = {"purpose", "parameters", "columns", "grain", "order"} - sections.keys()
    if missing:
        raise QueryError(f'"{path}": the header lacks {", ".join(sorted(missing))}')
    return SqlFile(
        name=name,
        path=path,
        purpose=" ".join(sections["purpose"]),
        parameters=_fields(sections["parameters"]),
        columns=_fields(sections["columns"]),
        grain=" ".join(sections["grain"]),
        order=" ".join(sections["order"]),
        named_runs=sections.get("reads") == ["the runs named"],
        text=text,
    )


def _fields(lines: list[str]) -> tuple[Column, ...]:
    matches = [_FIELD.match(line) for line in lines if line != "none"]
    return tuple(Column(m["name"], m["type"], m["meaning"]) for m in matches if m)


def library() -> dict[str, SqlFile]:
    """Return all files by name."""
    return {name: read_file(path, name) for name, path in _paths().items()}


@cache
def _paths() -> dict[str, Path]:
    return {
        f"{path.parent.name}/{path.stem}": path for path in sorted(sql_folder().glob("*/*.sql"))
    }


def find_file(name: str) -> SqlFile:
    """Return a file by its name, with folder (``journal/review``) or without (``review``).

    Raises
    ------
    QueryError
        If there is no such file.
    """
    files = _paths()
    for candidate in (name, f"journal/{name}", f"checks/{name}", f"metrics/{name}"):
        if candidate in files:
            return read_file(files[candidate], candidate)
    likely = did_you_mean(name, [file.partition("/")[2] for file in files])
    raise QueryError(f'no query "{name}" in the SQL library', hint=likely or "gtmar sql lists them")
