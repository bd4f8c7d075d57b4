"""The command to run next, made of the one that ran: its options kept, its secrets left out."""

from __future__ import annotations

import os
import shlex
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup, TyperOption

from gtmar.cli import error_boundary

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["WHY", "ChosenCommand", "free_path", "next_command", "print_next", "table_options_of"]

#: Placeholder for the reason, which only a person can give.
WHY = "why it goes live"

#: The command line that is running; None where code calls what commands print.
_running: ContextVar[Any] = ContextVar("running", default=None)

#: Options that concern one command alone, though another has one of that name.
_OWN = frozenset(
    {
        *("output_path", "as_json", "quiet", "force", "note", "expect", "since"),
        *("settings", "text", "most", "history", "n", "seed"),
    }
)


class ChosenCommand(error_boundary.Command):
    """A command that keeps what it was called with, for the one that it proposes next."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        token = _running.set(ctx)
        try:
            return super().invoke(ctx)
        finally:
            _running.reset(token)


def print_next(command: str, *arguments: object, **options: object) -> None:
    """Print the next command; parameters are those of `next_command`."""
    from gtmar.cli.output import print_command

    print_command(next_command(command, *arguments, **options))


def next_command(command: str, *arguments: object, **options: object) -> str:
    """Word a command of gtmar that goes on from the one that is running, as a line for a shell.

    A journal is named where it is another than commands take of themselves.

    Parameters
    ----------
    command
        Its name: ``review``, ``journal export``.
    arguments
        What stands without an option's name, in order.
    options
        Values by parameter. Every other option that the command shares with the running one, and
        that was given on the command line, is kept; None leaves one out. Passwords and keys of
        locations are left out.
    """
    usual = os.environ.get("GTMAR_JOURNAL", "journal")
    if "journal" in options and str(options["journal"]) == usual:
        options["journal"] = None
    context = _running.get()
    known = {
        str(each.name): each
        for each in _command(context, command).params
        if isinstance(each, TyperOption)
    }
    kept = {name: _kept(context, option) for name, option in known.items() if name not in options}
    # In the order in which people write them: the table, what is new, the journal.
    journal = {"journal": kept.pop("journal")} if "journal" in kept else {}
    given = {**kept, **options, **journal}
    words = [word for name, value in given.items() for word in _words(known[name], value)]
    plain = [str(argument) for argument in arguments]
    # A shell's words that begin with a dash are options, unless two dashes end those.
    ordered = [*words, "--", *plain] if any(each[:1] == "-" for each in plain) else [*plain, *words]
    return shlex.join(["gtmar", *command.split(), *ordered])


def _command(context: Any, name: str) -> Any:
    if context is None:
        from typer.main import get_command

        from gtmar.cli.options import app

        found: Any = get_command(app)
    else:
        found = context.find_root().command
    for part in name.split():
        assert isinstance(found, TyperGroup)
        found = found.commands[part]
    return found


def _kept(context: Any, parameter: TyperOption) -> object:
    """Return what was given for an option that the running command has too; None for nothing."""
    name = str(parameter.name)
    if context is None or name in _OWN:
        return None
    same = any(each.name == name and each.opts == parameter.opts for each in context.command.params)
    source = context.get_parameter_source(name)
    # A value from the environment is there for the next command, too.
    given = source is not None and source.name == "COMMANDLINE"
    return context.params[name] if same and given else None


def _words(parameter: TyperOption, value: object) -> list[str]:
    """Write an option with its value, each of several; nothing for None and a flag not set."""
    long = next((opt for opt in parameter.opts if opt.startswith("--")), parameter.opts[0])
    flag = "-o" if "-o" in parameter.opts else long
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    values: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
    words: list[str] = []
    for text in map(_without_secrets, map(str, values)):
        words += [f"{long}={text}"] if text.startswith("-") else [flag, text]
    return words


def _without_secrets(text: str) -> str:
    """Take credentials out of a location, also of one with a name: ``usage=s3://...``."""
    from gtmar.data.locations import without_credentials

    name, sign, location = text.partition("=")
    if sign and "://" in location and "://" not in name:
        return f"{name}={without_credentials(location)}"
    return without_credentials(text)


def table_options_of(journal: str | Path, run_id: str) -> dict[str, object] | None:
    """Return the options that name a run's table; None for a frame's or a query's.

    A query's text is on record, the file that it stood in is not.
    """
    from gtmar.errors import JournalError
    from gtmar.journal.files import RunFiles

    try:
        start = RunFiles(Path(journal), run_id).record("start")
    except JournalError:
        return None
    parameters = dict(start["parameters"])
    if start["kind"] == "import" or start["source"] == "frame" or "query" in parameters:
        return None
    return {
        "data": start["source"],
        "at": parameters.get("at"),
        "at_version": parameters.get("source_version"),
        "as_of": parameters.get("as_of"),
        "drop_unlabelled": parameters.get("drop_unlabelled") == "True",
        "set_aside": parameters.get("set_aside"),
    }


def free_path(name: str | Path) -> Path:
    """Return a path where nothing is yet: the one named, or the first free of best-2.yaml."""
    path, number = Path(name), 2
    while path.exists():
        path = Path(name).with_name(f"{Path(name).stem}-{number}{Path(name).suffix}")
        number += 1
    return path
