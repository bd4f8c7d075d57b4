"""Where things stand in a folder: its journal, the last run, what is live, the next command."""

from __future__ import annotations

import os
from pathlib import Path

from gtmar.cli.error_boundary import bounded
from gtmar.cli.next_step import elsewhere, follow, unused
from gtmar.cli.output import say, some

__all__ = ["status"]

_TABLES = (".parquet", ".csv", ".arrow")


@bounded
def status() -> None:
    """Say where things stand in this folder, and what comes next."""
    from gtmar.cli.options import DEFAULT_JOURNAL
    from gtmar.data.sources import expanded

    folder = expanded(Path(os.environ.get("GTMAR_JOURNAL") or DEFAULT_JOURNAL))
    if any(folder.glob("runs/run_id=*")):
        _of_journal(folder)
    else:
        _at_first(folder)
    say("All commands: gtmar --help")


def _of_journal(folder: Path) -> None:
    from gtmar.cli.history_text import live_lines
    from gtmar.cli.run_text import after_review, verdict_lines
    from gtmar.errors import RunNotFoundError
    from gtmar.journal import review as reading
    from gtmar.journal.catalog import Journal
    from gtmar.journal.files import RunFiles

    with Journal(folder) as journal:
        runs = journal.query("select count(*) from runs").item()
        run_id = journal.run_id()
        live = journal.sql("live")
        try:
            last = reading.review(journal, run_id)
        except RunNotFoundError:
            last = None
    say(f'Journal "{folder}": {some(runs, "run")}.')
    if last is None:
        say(f"Last run: {run_id}. It has no experiment yet.")
    else:
        summary = last.summary
        say(f"Last run: {run_id} ({summary['state']}), {summary['model']} on {summary['source']}.")
        verdict_lines(last.verdict, improved=last.improved, held=last.held, warnings=last.warnings)
    live_lines(live)
    say()
    if last is None or last.summary["state"] == reading.RUNNING:
        alive = RunFiles(folder, run_id).running()
        follow("verify" if alive else "resume", run_id, journal=elsewhere(folder))
    elif live["experiment"].is_in([f"{run_id}/{last.summary['best_experiment']}"]).any():
        follow("log", journal=elsewhere(folder))
    elif "://" not in (source := last.summary["source"]) and not Path(source).exists():
        # A table's path counts from the folder where the run began.
        follow("review", run_id, journal=elsewhere(folder))
    else:
        after_review(last, journal=str(folder))


def _at_first(folder: Path) -> None:
    """Say what to do in a folder without a journal: by the tables in it, or the demo."""
    say(f'No journal "{folder}" in this folder yet: gtmar run writes one.')
    tables = sorted(path for path in Path().glob("*") if path.suffix.lower() in _TABLES)
    demo = Path("gtmar-demo")
    if tables:
        say(f"Here is {some(len(tables), 'table')}: {', '.join(map(str, tables[:5]))}.")
        spec = Path("spec.yaml")
        if spec.is_file():
            follow("check", data=tables[0], spec=spec)
        else:
            follow("init", data=tables[0], output_path=spec)
    elif (demo / "journal").is_dir():
        say(f"The demo is in {demo}.")
        follow("log", journal=demo / "journal")
    else:
        say("With your own table: gtmar init --data YOUR_TABLE -o spec.yaml")
        follow("demo", folder=None if not os.path.lexists(demo) else unused(demo))
