"""Commands that ask the journal: review, compare, sql."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import IO, TYPE_CHECKING, Annotated

import typer

from gtmar.cli import completion
from gtmar.cli import options as a
from gtmar.cli.error_boundary import bounded
from gtmar.cli.options import app, journal_app
from gtmar.errors import UsageError
from gtmar.sql_sandbox import DEFAULT_SECONDS, memory_of

if TYPE_CHECKING:
    from gtmar.integrations.jsonl_import import Imported, Undone
    from gtmar.journal.compaction import Compaction

__all__ = ["compact", "compare", "journal_export", "journal_import", "review", "sql", "verify"]


@app.command(epilog="Example: gtmar review r20260101-120000-abc123")
@bounded
def review(
    run_id: a.OptionalRun = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Say what a run found: verdict, wins, weights, tiers."""
    from gtmar.cli import run_text
    from gtmar.journal import review as reading
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        run_text.review(reading.review(opened, run_id), journal=str(journal), as_json=as_json)


@app.command(epilog="Example: gtmar compare RUN OTHER")
@bounded
def compare(
    run_id: a.Run,
    other: a.Run,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Put two runs over one table and objective side by side."""
    from gtmar.cli import run_text
    from gtmar.journal import review as reading
    from gtmar.journal.catalog import Journal

    with Journal(journal) as opened:
        found = reading.compare(opened, run_id, other)
    run_text.comparison(found, journal=str(journal), as_json=as_json)


@app.command(epilog="Example: gtmar sql weights --set run=r20260101-120000-abc123")
@bounded
def sql(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="None: list the library.",
            autocompletion=completion.queries,
        ),
    ] = None,
    text: Annotated[str | None, typer.Option("-c", "--command", help="One SELECT.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter: run=r2026...")
    ] = None,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.001, help="Seconds it may take.")
    ] = DEFAULT_SECONDS,
    memory: Annotated[
        str | None,
        typer.Option(help="What it may take, such as 2GB; none: half the machine's, 4 GB at most."),
    ] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Ask the journal in SQL, read only. By a query of the library, a file, or one SELECT."""
    from gtmar.cli import files, output, run_text
    from gtmar.journal.catalog import Journal
    from gtmar.journal.sql_library import library

    if name is None and text is None:
        run_text.listing(library(), as_json=as_json)
        return
    size = None if memory is None else memory_of(memory)
    with Journal(journal, time_limit=time_limit, memory=size) as opened:
        found = files.ask(opened, name, text, settings or [])
    output.frame(found, as_json=as_json)


@app.command(epilog="Example: gtmar verify --against gtmar2:12:0f3a...:Qx...")
@bounded
def verify(
    run_id: a.AnyRun = None,
    against: Annotated[
        str | None, typer.Option(help="A digest printed earlier, or a list saved by --save.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="New file: a list of all that the digest covers.")
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="Read all rows, where hashes hold too.")
    ] = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    as_json: a.Json = False,
) -> None:
    """Check that the journal is what was written."""
    from gtmar.cli import files, run_text
    from gtmar.journal.catalog import Journal
    from gtmar.journal.verify import run_named
    from gtmar.journal.verify import verify as verified

    if run_id in ("latest", "live"):
        with Journal(journal) as opened:
            run_id = opened.run_id(run_id)
    elif run_id is not None:
        # By names of files alone, so that a damaged journal can be checked.
        run_id = run_named(journal, run_id)
    if save is not None and run_id is not None:
        raise UsageError("--save is of the whole journal", hint="leave the run out")
    new = files.output(save, journal)
    found = verified(journal, run_id, against=against, rows=rows)
    run_text.verification(found, as_json=as_json)
    if new is not None and not found.findings:
        new.write(found.entries)
    if not found.sound:
        raise typer.Exit(5)


@journal_app.command("compact", epilog="Example: gtmar journal compact")
@bounded
def compact(journal: a.JournalPath = a.DEFAULT_JOURNAL, as_json: a.Json = False) -> None:
    """Pack the small parts of each run that has ended into one; no row changes."""
    from gtmar.journal.compaction import compact as compacted

    _packing(compacted(journal), as_json=as_json)


def _packing(found: Compaction, *, as_json: bool) -> None:
    from gtmar.cli.output import data, say, some
    from gtmar.errors import culprits

    if as_json:
        data(found.as_json())
        return
    if found.packed:
        before = sum(run.parts_before for run in found.packed)
        after = sum(run.parts_after for run in found.packed)
        say(f"{some(len(found.packed), 'run')}: {before:,} parts packed into {after:,}.")
    elif not found.tidied:
        say("Nothing to pack.")
    if found.tidied:
        say(
            f"{some(len(found.tidied), 'run')}: old parts that lay beside the packed one were "
            "taken away."
        )
    for reason, runs in found.left_alone.items():
        say(f"Left alone, {reason}: {culprits(runs)}.")


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
    from gtmar.integrations.jsonl_import import encoded_in, export_jsonl
    from gtmar.journal.catalog import Journal

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
    from gtmar.integrations.jsonl_import import import_jsonl, undo_import

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
