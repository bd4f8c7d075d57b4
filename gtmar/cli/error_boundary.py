"""The one error boundary: whatever ends a command becomes a message and an exit code.

A `GtmarError` says itself what is wrong. Any other exception is a fault of gtmar: one line says so
and how to report it, and ``--debug`` adds the traceback. A command whose answer leaves out damaged
parts of a journal ends with the exit code of a `JournalError`.
"""

from __future__ import annotations

import errno
import functools
import gc
import os
import re
import sys
import traceback
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import typer
from typer.core import TyperCommand, TyperGroup

from gtmar.cli import output
from gtmar.data.locations import consenting
from gtmar.documents import is_text
from gtmar.errors import (
    DamagedJournalWarning,
    FaultError,
    GtmarError,
    GtmarWarning,
    JournalError,
    OutputError,
    ResourceError,
    UsageError,
)
from gtmar.safe_text import without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Command", "Commands", "set_debug", "set_yes", "within_boundary"]

P = ParamSpec("P")
#: Commands, by function name, that answer from the journal alone: without its damaged parts their
#: answer is incomplete, so they end with an error code. Others only print a note of it.
_ANSWERING = {
    "best",
    "compare",
    "diff",
    "export_mlflow",
    "journal_export",
    "journal_publish",
    "lineage",
    "log",
    "report",
    "review",
    "show",
    "sql",
    "status",
}

#: Exit code after Ctrl-C.
_INTERRUPTED = 130
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REPORT = "please report it, with the command and what it prints with --debug"


class _RootOptions:
    """The options ``--debug`` and ``--yes``, which every command has."""

    debug = False
    yes = False


def set_debug(value: bool) -> None:
    """Set ``--debug`` for this process; once set, it stays."""
    _RootOptions.debug = _RootOptions.debug or value


def set_yes(value: bool) -> None:
    """Set ``--yes`` for this process; once set, it stays."""
    _RootOptions.yes = _RootOptions.yes or value


def _skip_conversion(parameter: Any) -> None:
    """Have an option take values that need no conversion as they are, without importing Pydantic.

    Typer's conversion imports it. Options that aren't given, texts, readable paths and defaults
    need none; without the import, an answer from a journal takes a fifth less time. In an older
    typer, which has no `type_descriptor`, nothing is changed.
    """
    descriptor, convert = getattr(parameter, "type_descriptor", None), parameter.process_value
    if descriptor is None or "process_value" in vars(parameter):
        return
    several = parameter.multiple or parameter.nargs == -1
    kind = None if several or parameter.nargs != 1 else descriptor.annotation

    def process(ctx: Any, value: Any) -> Any:
        # `os.path.exists` is False for texts that can't be a path, for which `access` raises.
        exists = os.path.exists
        is_path = kind is Path and isinstance(value, str | Path) and exists(value)
        readable = is_path and os.access(value, os.R_OK)
        is_default = kind in (int, float) and type(value) is kind and value == parameter.default
        absent = value is None and not parameter.required
        if not (absent or readable or is_default or (kind is str and isinstance(value, str))):
            return convert(ctx, value)
        value = Path(value) if readable else () if absent and several else value
        return value if parameter.callback is None else parameter.callback(ctx, parameter, value)

    parameter.process_value = process


class Command(TyperCommand):
    """A command that accepts ``--debug`` and ``--yes``, too, like gtmar itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        for parameter in self.get_params(ctx):
            _skip_conversion(parameter)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's own parameters, then those two."""
        own = super().get_params(ctx)
        root = ctx.find_root().command
        return [*own, *(p for p in root.params if p.name in ("debug", "yes") and root is not self)]


class Commands(TyperGroup):
    """The group of all commands, which also puts the parsing of arguments within the boundary."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; after ``--set-aside`` without a share, insert 0.01."""
        for index in reversed([i for i, arg in enumerate(args) if arg == "--set-aside"]):
            after = args[index + 1] if index + 1 < len(args) else "-"
            if not re.fullmatch(r"-?[0-9.]+(?:e-?[0-9]+)?", after):
                args.insert(index + 1, "0.01")
        for parameter in self.get_params(ctx):
            _skip_conversion(parameter)
        return super().parse_args(ctx, args)

    def main(  # type: ignore[override] # the rest of its parameters are handed on as they are
        self, args: Any = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run a command line, and end the process with its exit code in `standalone_mode`."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        words = list(sys.argv[1:] if args is None else args)
        _RootOptions.debug = os.environ.get("GTMAR_DEBUG", "") not in ("", "0")
        _RootOptions.yes = False
        output.hide_credentials_of(
            w.partition("=")[2] if w.startswith("--") else w for w in map(str, words)
        )
        code: object = 0
        try:
            with (
                _errors_as_exits(as_json="--json" in words),
                _help_errors_worded(),
                _until_the_reader_goes(),
            ):
                code = super().main(args, standalone_mode=False, **extra)
                output.flush_stdout()
        except typer.Exit as ended:
            code = ended.exit_code
        sys.exit(code if isinstance(code, int) else 0)


def within_boundary(command: Callable[P, output.Answer | None]) -> Callable[P, None]:
    """Put a command within the boundary: errors as text or JSON on stderr, exit code by kind."""

    @functools.wraps(command)
    def inner(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.pop("as_json", False))
        output.set_form(as_json=as_json)
        answers = command.__name__ in _ANSWERING
        if answers:
            # Reading thousands of files creates many small objects, and hardly a cycle among them.
            # Collecting garbage as often as usual would take a tenth of the answer's time.
            gc.set_threshold(100_000, *gc.get_threshold()[1:])
        with (
            _errors_as_exits(as_json=as_json),
            consenting(_person_agrees),
            _warnings_as_notes(answers, as_json=as_json),
        ):
            words = list(_texts(kwargs))
            output.hide_credentials_of(text for _, text in words)
            _refuse_unwritable(words)
            answer = None
            with _until_the_reader_goes():
                answer = command(*args, **kwargs)
                if answer is not None:
                    answer.print()
            if answer is not None and answer.code:
                raise typer.Exit(answer.code)

    return inner


@contextmanager
def _warnings_as_notes(answers: bool, *, as_json: bool) -> Iterator[None]:
    """Print each `GtmarWarning` once, as a note on stderr.

    If `answers`, raise the exit code of a `JournalError`, 5, where damaged files were left out.
    """
    shown: set[str] = set()
    partial = False
    with warnings.catch_warnings():
        warnings.simplefilter("always", GtmarWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            nonlocal partial
            if not issubclass(category, GtmarWarning):
                others(message, category, *rest)
                return
            partial |= issubclass(category, DamagedJournalWarning)
            if str(message) in shown:
                return
            shown.add(str(message))
            if as_json:
                warning = {"code": category.code, "message": str(message), "hint": category.hint}
                output.data({"warning": warning}, to_errors=True)
                return
            output.complain("note", str(message))
            if category.hint:
                output.complain("hint", category.hint)

        warnings.showwarning = cast("Any", show)
        yield
    if partial and answers:
        raise typer.Exit(JournalError.exit_code)


def _texts(options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the texts and paths among a command's options, with the option's name."""
    for name, value in options.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, str | Path):
                yield name, str(each)


def _refuse_unwritable(words: list[tuple[str, str]]) -> None:
    """Refuse options with a null byte or with text that isn't valid UTF-8.

    The journal's folder alone may have such a name: no library but Python opens it.
    """
    for name, text in words:
        if "\0" in text or not (is_text(text) or name == "journal"):
            what = "a null byte" if "\0" in text else "bytes that are no UTF-8 text"
            raise UsageError(
                f'{name}: "{text}" has {what} in it',
                hint="give it in UTF-8; names of files and folders, too",
            )


def _person_agrees(location: str) -> bool:
    """Return whether the user agrees to open a location that a journal's record names."""
    if _RootOptions.yes:
        return True
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)):
        return False
    name = without_credentials(location)
    output.announce(f'The journal\'s record names "{name}". Open it? Only if you know it. [y/N]')
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def _errors_as_exits(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except (typer.Exit, SystemExit, GeneratorExit):
        raise
    except typer.Abort:
        raise typer.Exit(_INTERRUPTED) from None
    except BaseException as err:
        # Polars' panics are no subclass of Exception.
        if _is_usage(err):
            raise typer.Exit(_show_usage(err, as_json=as_json)) from None
        if _interrupted(err):
            output.complain("interrupted", "what was finished before stays")
            raise typer.Exit(_INTERRUPTED) from None
        worded = _worded(err)
        _show(worded, err, as_json=as_json)
        if isinstance(worded, OutputError):
            _silence()
        raise typer.Exit(worded.exit_code) from err


@contextmanager
def _until_the_reader_goes() -> Iterator[None]:
    """Ignore that stdout's reader has gone, as with ``| head``: the exit code stays as it is."""
    try:
        yield
    except (BrokenPipeError, SystemExit) as err:
        # While it prints help, typer itself turns a broken pipe into SystemExit.
        if not any(isinstance(each, BrokenPipeError) for each in (err, err.__context__)):
            raise
        _silence()


@contextmanager
def _help_errors_worded() -> Iterator[None]:
    """Word errors while help is printed, which typer does outside of any command."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as err:
        raise output.unwritable(err.strerror or str(err)) from err


def _silence() -> None:
    """Redirect stdout to the null device: flushing it as the process ends would fail again."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _interrupted(err: BaseException) -> bool:
    """Return whether a KeyboardInterrupt caused an error, as where a library wraps it."""
    seen: BaseException | None = err
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _worded(err: BaseException) -> GtmarError:
    if isinstance(err, GtmarError):
        return err
    if isinstance(err, MemoryError):
        return ResourceError(
            "memory ran out", hint="--memory 1GB maps the table from disk, where a command has it"
        )
    if isinstance(err, RecursionError):
        return ResourceError("something given is nested too deeply to be worked on")
    if isinstance(err, OSError) and err.errno is not None:
        # Errors of files that a user named are worded where they are opened; this is another one.
        if err.filename is not None:
            return ResourceError(f'"{os.fsdecode(err.filename)}": {err.strerror}')
        if err.errno in _NO_ROOM:
            return ResourceError(str(err.strerror), hint="TMPDIR names another folder")
    kind, text = type(err).__name__, str(err).strip()
    first = text.splitlines()[0] if text else "no message"
    return FaultError(
        f"a fault of gtmar: {kind}: {first}{_where(err)}",
        hint=_REPORT,
        exception=kind,
        **({"traceback": _trace(err)} if _RootOptions.debug else {}),
    )


def _where(err: BaseException) -> str:
    """Return the innermost line of gtmar's own code in an error's traceback."""
    package = Path(__file__).parents[1]
    for step in reversed(traceback.extract_tb(err.__traceback__)):
        path = Path(step.filename)
        if path.is_relative_to(package):
            return f" ({path.relative_to(package.parent).as_posix()}, line {step.lineno})"
    return ""


def _trace(err: BaseException) -> list[str]:
    text = "".join(traceback.format_exception(err))
    return output.without_secrets(text, foreign=True).splitlines()


def _show(worded: GtmarError, err: BaseException, *, as_json: bool) -> None:
    ours = not isinstance(worded, FaultError)
    message = output.without_secrets(worded.message, foreign=not ours)
    hint = output.without_secrets(worded.hint or "") or None
    if as_json:
        fault = {"code": worded.code, "message": message, "hint": hint, **worded.facts}
        output.data({"error": fault}, to_errors=True)
        return
    if _RootOptions.debug:
        for line in _trace(err):
            output.announce(line)
    if not ours:
        label, _, rest = message.partition(": ")
        output.complain(label, f"{rest}; {hint}", "bad")
        return
    output.complain("error", message, "bad")
    if hint:
        output.complain("hint", hint)


def _is_usage(err: BaseException) -> bool:
    """Return whether the command line's parser raised an error; its class differs by version."""
    return hasattr(err, "format_message") and hasattr(err, "exit_code")


def _show_usage(err: Any, *, as_json: bool) -> int:
    """Print the parser's message as it would itself, with control characters shown as escapes."""
    message, ctx = err.format_message(), getattr(err, "ctx", None)
    code = int(err.exit_code)
    if as_json:
        hint = f"{ctx.command_path} --help" if ctx else None
        error = {"code": "usage", "message": message, "hint": hint}
        output.data({"error": error}, to_errors=True)
        return code
    if type(err).__name__ == "NoArgsIsHelpError":
        for line in message.splitlines():
            output.announce(line)
        return code
    if ctx is not None:
        for line in ctx.get_usage().splitlines():
            output.announce(line)
        output.announce(f"Try '{ctx.command_path} --help' for help.")
        output.announce("")
    for line in f"Error: {message}".splitlines():
        output.announce(line)
    return code
