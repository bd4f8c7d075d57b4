"""Commands by which experiments leave the journal and come to it: journal export, import."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import IO, TYPE_CHECKING, Annotated

import typer

from gtmar.cli import arguments as a
from gtmar.cli.arguments import journal_app
from gtmar.cli.boundary import bounded
from gtmar.errors import UsageError

if TYPE_CHECKING:
    from gtmar.journal.exchange import Imported, Undone

__all__ = ["journal_export", "journal_import"]

_FORMATS = ("jsonl",)
#: Kinds of things without a column that an import names, the most frequent first.
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
    from gtmar.cli import files, output
    from gtmar.journal.catalog import Journal
    from gtmar.journal.exchange import encoded_in, export_jsonl

    files.refuse_unknown("format", form, _FORMATS)
    new = files.output(None if files.printed(output_path) else output_path, journal, force=force)
    with Journal(journal) as opened:
        lines = export_jsonl(opened, run_id)
        files.note_encoders(encoded_in(opened, run_id))
        if new is None:
            for line in lines:
                output.json_line(line)
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
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="JSON objects, one an experiment: lines, pretty-printed or a list."
        ),
    ] = None,
    undo: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Take back the import of this event.")
    ] = None,
    author: Annotated[str | None, typer.Option(help="Who brings it in.")] = None,
    note: Annotated[str | None, typer.Option(help="Why, or what it is.")] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Bring in experiments of an earlier tool, marked as imported; or take them back."""
    from gtmar.journal.exchange import import_jsonl, undo_import

    if undo is not None and path is None:
        _say_undone(undo_import(undo, journal, author=author, note=note), as_json=as_json)
    elif path is not None and undo is None:
        found = import_jsonl(path, journal, author=author, note=note)
        _say_imported(found, journal=journal, as_json=as_json)
    else:
        raise UsageError(
            "name a FILE to bring in, or with --undo the event of an import to take back",
            hint="gtmar journal import experiments.jsonl",
        )


def _say_undone(found: Undone, *, as_json: bool) -> None:
    from gtmar.cli.output import data, say, some

    if as_json:
        data(found.as_json())
        return
    say(
        f"{some(found.experiments, 'experiment')} from {found.source} taken back: "
        f"{some(len(found.runs), 'run')} deleted. Event {found.event_id} says so."
    )


def _say_exported(path: Path, count: int, *, as_json: bool) -> None:
    from gtmar.cli.output import data, say, some

    if as_json:
        data({"output": str(path), "experiments": count})
    else:
        say(f"{some(count, 'experiment')} in {path}.")


def _say_imported(found: Imported, *, journal: Path, as_json: bool) -> None:
    from gtmar.cli.next_step import elsewhere, follow
    from gtmar.cli.output import data, say, some

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
        listed = f"{', '.join(names[:_NAMED])}{rest}"
        say(f"Kept as they are for an export, since no column of the journal has them: {listed}.")
    follow("review", found.runs[-1], journal=elsewhere(journal))
