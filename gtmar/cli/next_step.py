"""The command that is proposed next: options of the one that ran are kept, secrets left out."""

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

#: Placeholder for the reason of a promotion, which only a person can give.
WHY = "why it goes live"

#: The click context of the running command; None where a test or a program calls these functions.
_running: ContextVar[Any] = ContextVar("running", default=None)

#: Options that aren't kept for the next command, though it may have one of that name.
_OWN = frozenset(
    {
        *("output_path", "as_json", "quiet", "force", "note", "expect", "since"),
        *("settings", "text", "most", "history", "n", "seed"),
    }
)


class ChosenCommand(error_boundary.Command):
    """A command that remembers its own options, for the command that it proposes next."""

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
    """Return the command that goes on from the running one, as a line for a shell.

    The journal is named only if it isn't the default one.

    Parameters
    ----------
    command
        Its name: ``review``, ``journal export``.
    arguments
        Positional arguments, in order.
    options
        Values by parameter name; None leaves an option out. Options that aren't named here are kept
        if both commands have them and they were given on the command line. Credentials in locations
        are left out.
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
    # The usual order: options that are kept, such as the table, new ones, the journal.
    journal = {"journal": kept.pop("journal")} if "journal" in kept else {}
    given = {**kept, **options, **journal}
    words = [word for name, value in given.items() for word in _words(known[name], value)]
    plain = [str(argument) for argument in arguments]
    # After two dashes, words that begin with a dash are arguments.
    ordered = [*words, "--", *plain] if any(each[:1] == "-" for each in plain) else [*plain, *words]
    return shlex.join(["gtmar", *command.split(), *ordered])


def _command(context: Any, name: str) -> Any:
    if context is None:
        from typer.main import get_command

        from gtmar.cli.options import app

        command: Any = get_command(app)
    else:
        command = context.find_root().command
    for part in name.split():
        assert isinstance(command, TyperGroup)
        command = command.commands[part]
    return command


def _kept(context: Any, parameter: TyperOption) -> object:
    """Return the value of an option of the running command, if it is to be kept, else None."""
    name = str(parameter.name)
    if context is None or name in _OWN:
        return None
    same = any(each.name == name and each.opts == parameter.opts for each in context.command.params)
    source = context.get_parameter_source(name)
    # A value from the environment is there for the next command, too.
    given = source is not None and source.name == "COMMANDLINE"
    return context.params[name] if same and given else None


def _words(parameter: TyperOption, value: object) -> list[str]:
    """Return an option and its value as words, repeated for several values.

    There are none for None, or for a flag that isn't set.
    """
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
    """Take credentials out of a location, which may have a name before it: ``usage=s3://...``."""
    from gtmar.data.locations import without_credentials

    name, sign, location = text.partition("=")
    if sign and "://" in location and "://" not in name:
        return f"{name}={without_credentials(location)}"
    return without_credentials(text)


def table_options_of(journal: str | Path, run_id: str) -> dict[str, object] | None:
    """Return the options that name a run's tables; None if the command line can't name them.

    That is a frame, or the result of a query: its text is on record, but not in a file. A later
    table that is the holdout is named by its place alone.
    """
    from gtmar.data.scan import Source
    from gtmar.errors import JournalError
    from gtmar.journal.files import RunFiles
    from gtmar.runs.holdout import later_source

    try:
        start = RunFiles(Path(journal), run_id).record("start")
    except JournalError:
        return None
    parameters = dict(start["parameters"])
    if start["kind"] == "import" or start["source"] == "frame" or "query" in parameters:
        return None
    later = later_source(parameters)
    if later is not None and later != Source(later.location, recorded=True):
        return None
    return {
        "data": start["source"],
        "at": parameters.get("at"),
        "at_version": parameters.get("source_version"),
        "as_of": parameters.get("as_of"),
        "drop_unlabelled": parameters.get("drop_unlabelled") == "True",
        "set_aside": parameters.get("set_aside"),
        "holdout_file": None if later is None else later.location,
        "holdout_as_of": None if later is None else parameters.get("holdout_as_of"),
    }


def free_path(name: str | Path) -> Path:
    """Return a path where nothing exists: the given one, or with a number: ``best-2.yaml``."""
    path, number = Path(name), 2
    while path.exists():
        path = Path(name).with_name(f"{Path(name).stem}-{number}{Path(name).suffix}")
        number += 1
    return path
