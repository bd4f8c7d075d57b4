"""Commands by which experiments leave the journal and come to it: journal export, import."""

from __future__ import annotations

import os
import sys
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import IO, TYPE_CHECKING, Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli.arguments import journal_app
from gtmar.cli.boundary import bounded

if TYPE_CHECKING:
    from gtmar.journal.exchange import Imported

__all__ = ["journal_export", "journal_import"]

_FORMATS = ("jsonl",)
#: Kinds of things left out that an import names, the most frequent first.
_NAMED = 5


@journal_app.command("export", epilog="Example: gtmar journal export -o experiments.jsonl")
@bounded
def journal_export(
    run_id: a.AnyRun = None,
    form: Annotated[str, typer.Option("--format", help="jsonl: an object a line.")] = "jsonl",
    output_path: Annotated[
        Path | None, typer.Option("-o", "--output", help="New file; none: stdout.")
    ] = None,
    force: a.Force = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Write experiments as JSONL, in the format of earlier tools."""
    from gtmar.cli import files
    from gtmar.journal.catalog import Journal
    from gtmar.journal.exchange import export_jsonl

    files.refuse_unknown("format", form, _FORMATS)
    new = files.output(None if files.printed(output_path) else output_path, journal, force=force)
    with Journal(journal) as opened:
        lines = export_jsonl(opened, run_id)
        if new is None:
            sys.stdout.writelines(f"{line}\n" for line in lines)
            return
        count = 0

        def write(file: IO[bytes]) -> None:
            nonlocal count
            for line in lines:
                file.write(f"{line}\n".encode())
                count += 1

        _say_exported(new.write(write), count, as_json=as_json)


@journal_app.command("import", epilog="Example: gtmar journal import experiment_journal.jsonl")
@bounded
def journal_import(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL, an experiment a line.")],
    author: Annotated[str | None, typer.Option(help="Who brings it in.")] = None,
    note: Annotated[str | None, typer.Option(help="Why, or what it is.")] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Bring in experiments of an earlier tool, marked as imported."""
    from gtmar.journal.exchange import import_jsonl

    _say_imported(
        import_jsonl(path, journal, author=author, note=note),
        journal=journal,
        as_json=as_json,
    )


def _say_exported(path: Path, count: int, *, as_json: bool) -> None:
    from gtmar.cli.output import data, say, some

    if as_json:
        data({"output": str(path), "experiments": count})
    else:
        say(f"{some(count, 'experiment')} in {path}.")


def _say_imported(found: Imported, *, journal: Path, as_json: bool) -> None:
    from gtmar.cli.output import data, following, say, some

    if as_json:
        data(found.as_json())
        return
    say(
        f"{some(found.experiments, 'experiment')}, {found.wins:,} of them wins, imported from "
        f"{found.source} as {some(len(found.runs), 'run')}:"
    )
    for run_id in found.runs:
        say(f"  {run_id}")
    if found.ignored:
        names = sorted(found.ignored, key=lambda name: (-found.ignored[name], name))
        rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        say(f"Left out, since the journal has no place for it: {', '.join(names[:_NAMED])}{rest}.")
    usual = str(journal) == os.environ.get("GTMAR_JOURNAL", "journal")
    flag = "" if usual else f" --journal {journal}"
    following(f"gtmar review {found.runs[-1]}{flag}")
