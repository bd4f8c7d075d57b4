"""The command line as a whole: groups of commands, `main`, and the status that ``gtmar`` shows.

A command's module is imported only when the command is called, or its help is printed.
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtmar import __version__
from gtmar.cli.error_boundary import Commands, set_debug, set_yes, within_boundary
from gtmar.cli.next_step import ChosenCommand, free_path, print_next
from gtmar.cli.options import app, export_app, journal_app, spec_app
from gtmar.cli.output import say, say_all, some, text
from gtmar.linear_algebra import use_one_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["app", "first_sentence", "main"]


#: Commands in the groups and in the order in which ``gtmar --help`` lists them.
_GROUPS = {
    "Prepare": ["snapshot", "bridge"],
    "Search": ["init", "check", "run", "simplify", "resume", "demo", "generate", "bench"],
    "Change by hand": ["desk", "try", "tiers", "promote", "record", "checkout", "spec"],
    "Prove": ["decide", "refresh", "backtest", "null", "stability", "segments", "drift", "replay"],
    "Through time": ["walk", "watch"],
    "Look": ["review", "report", "log", "show", "diff", "compare", "best", "front", "lineage"],
    "Score and explain": ["score", "list", "explain", "grid", "calibrate"],
    "Journal": ["sql", "verify", "journal"],
    "Export": ["export"],
}
#: Commands by the module of this folder that registers them.
_HOMES = {
    "data": "init check generate drift score list grid calibrate spec",
    "desk": "desk",
    "export": "report export journal",
    "history": "try tiers promote record checkout log show diff best front lineage",
    "journal": "review compare sql verify journal",
    "search": "run simplify resume demo bench replay",
    "through_time": "snapshot bridge walk watch",
    "validation": "decide refresh backtest null stability segments explain",
}
_SUBGROUPS = {"spec": spec_app, "journal": journal_app, "export": export_app}


class _LateCommands(MutableMapping[str, Any]):
    """All commands by name, each imported and built when it is first looked up.

    Building all of them would take a tenth of the time that an answer may take.
    """

    def __init__(self) -> None:
        self._names = [name for names in _GROUPS.values() for name in names]
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            for module in (home for home, names in _HOMES.items() if name in names.split()):
                import_module(f"gtmar.cli.{module}")
            group = _SUBGROUPS.get(name)
            if group is None:
                # Typer turns an application with a single command into that command.
                group = typer.Typer(add_completion=False, rich_markup_mode=None)
                group.registered_commands = [c for c in app.registered_commands if c.name == name]
            for registered in group.registered_commands:
                registered.cls = ChosenCommand
            self._made[name] = typer.main.get_command(group)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        self._names.remove(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Root(Commands):
    """gtmar itself, whose help lists the commands in groups."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = _LateCommands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click gives it
        """Return the commands, group by group."""
        return [*self.commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - click gives it
        """Write each group with the first sentence of each command's help."""
        width = max(map(len, self.commands))
        for group, names in _GROUPS.items():
            with formatter.section(group):
                formatter.write_dl(
                    [(name.ljust(width), first_sentence(self.commands[name])) for name in names]
                )


def first_sentence(command: Any) -> str:
    """Return the first sentence of a command's help."""
    return re.split(r"(?<=\.)\s", (command.help or "").strip(), maxsplit=1)[0]


#: Has jemalloc, Polars' allocator, return freed pages to the system after a tenth of a second. By
#: default it keeps what one stage of loading freed during the next ones: half as much again as the
#: table takes. A variable that is set already wins.
_ALLOCATOR = ("_RJEM_MALLOC_CONF", "dirty_decay_ms:100,muzzy_decay_ms:0")


def main() -> None:
    """Run the command line."""
    # If stdin, stdout or stderr is closed, the next file opened would get its number, and with it
    # whatever a library prints.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    # Before Polars and numpy are loaded, which no import so far has done.
    os.environ.setdefault(*_ALLOCATOR)
    use_one_thread()
    app()


def _version(value: bool) -> None:
    if value:
        text(f"gtmar {__version__}\n")
        raise typer.Exit


@app.callback(cls=_Root, invoke_without_command=True)
def _root(
    ctx: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[  # noqa: ARG001 - its callback takes it in
        bool,
        typer.Option(
            "--debug",
            callback=set_debug,
            expose_value=False,
            help="With an error, print where it came from. Before or after a command's name.",
        ),
    ] = False,
    yes: Annotated[  # noqa: ARG001 - its callback takes it in
        bool,
        typer.Option(
            "--yes",
            callback=set_yes,
            expose_value=False,
            help="Open what a run's record names elsewhere than on this machine.",
        ),
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        status()


_TABLES = (".parquet", ".csv", ".arrow")


@within_boundary
def status() -> None:
    """Print the state of the journal in this folder, and the next command."""
    from gtmar.cli.options import DEFAULT_JOURNAL
    from gtmar.data.locations import expanded

    folder = expanded(Path(os.environ.get("GTMAR_JOURNAL") or DEFAULT_JOURNAL))
    if any(folder.glob("runs/run_id=*")):
        _print_journal_status(folder)
    else:
        _print_first_steps(folder)
    say("All commands: gtmar --help")


def _print_journal_status(folder: Path) -> None:
    from gtmar.cli import history, journal
    from gtmar.errors import RunNotFoundError
    from gtmar.journal import review as reading
    from gtmar.journal.catalog import Journal
    from gtmar.journal.files import RunFiles
    from gtmar.journal.sentences import RUNNING

    with Journal(folder) as opened:
        [counted] = opened.query_rows("select count(*) as runs from runs", columns=())
        run_id = opened.run_id()
        live = opened.sql_rows("live", columns=())
        try:
            last = reading.review(opened, run_id, brief=True)
        except RunNotFoundError:
            last = None
    say(f'Journal "{folder}": {some(counted["runs"], "run")}.')
    if last is None:
        say(f"Last run: {run_id}. It has no experiment yet.")
    else:
        summary = last.summary
        say(f"Last run: {run_id} ({summary['state']}), {summary['model']} on {summary['source']}.")
        say_all(*last.dates)
        journal.verdict_lines(
            last.sentences,
            last.verdict,
            improved=last.improved,
            held=last.held,
            warnings=last.warnings,
        )
    history.live_lines(live)
    say()
    if last is None or last.summary["state"] == RUNNING:
        alive = RunFiles(folder, run_id).running()
        print_next("verify" if alive else "resume", run_id, journal=folder)
    elif f"{run_id}/{last.summary['best_experiment']}" in (row["experiment"] for row in live):
        print_next("log", journal=folder)
    elif "://" not in (source := last.summary["source"]) and not Path(source).exists():
        # A table's path counts from the folder where the run began.
        print_next("review", run_id, journal=folder)
    else:
        journal.after_review(last, journal=str(folder))


def _print_first_steps(folder: Path) -> None:
    """Print what to do in a folder without a journal: with the tables in it, or with the demo."""
    say(f'No journal "{folder}" in this folder yet: gtmar run writes one.')
    tables = sorted(path for path in Path().glob("*") if path.suffix.lower() in _TABLES)
    demo = Path("gtmar-demo")
    if tables:
        say(f"Here is {some(len(tables), 'table')}: {', '.join(map(str, tables[:5]))}.")
        spec = Path("spec.yaml")
        if spec.is_file():
            print_next("check", data=tables[0], spec=spec)
        else:
            print_next("init", data=tables[0], output_path=spec)
    elif (demo / "journal").is_dir():
        say(f"The demo is in {demo}.")
        print_next("log", journal=demo / "journal")
    else:
        say("With your own table: gtmar init --data YOUR_TABLE -o spec.yaml")
        print_next("demo", folder=None if not os.path.lexists(demo) else free_path(demo))
