"""Writing output files and folders: never onto an input, never over a file unless asked to.

All commands write this way, and so does the journal. An output is checked before work begins, and
again when it is placed. It is written next to its final path under a new, random name, synced to
disk, and renamed in one step, which fails if another file appeared there meanwhile. So even if a
process is killed, or another one writes there, a path holds a whole file or nothing, and only files
of this process are ever removed.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from gtmar.errors import UsageError, culprits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = [
    "Output",
    "exchange",
    "place_file",
    "refuse_inputs",
    "settle",
    "staged",
    "sync_folder",
    "write_together",
]

#: Characters of the file's name in its temporary name.
_SHOWN = 40
#: Flags of Linux's `renameat2(2)`: fail if the new path exists; exchange two paths.
_NO_REPLACE, _EXCHANGE = 1, 2
#: `AT_FDCWD`: paths are relative to the working folder.
_WORKING_FOLDER = -100
#: Errors of a system without the call or the flag, or of a file system that doesn't support it.
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
#: Errors of a file system without hard links.
_NO_LINKS = _UNABLE | {errno.EPERM, errno.EMLINK}

Content: TypeAlias = "str | bytes | Callable[[IO[bytes]], object]"


# ---- written aside, then placed --------------------------------------------------------------


def _fresh(path: Path) -> Path:
    """Return a new, random path in the same folder."""
    return path.with_name(f"{path.name[:_SHOWN]}.{secrets.token_hex(6)}.partial")


def sync_folder(folder: Path) -> None:
    """Sync a folder or a file to disk, so that it survives a loss of power."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        # A folder without read permission can be written to, but not synced.
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def staged(path: Path, write: Callable[[IO[bytes]], object]) -> Iterator[Path]:
    """Yield a temporary file next to `path`, written and synced; deleted unless it is moved."""
    beside = _fresh(path)
    with beside.open("xb") as file:
        try:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    try:
        yield beside
    finally:
        if os.path.lexists(beside):
            beside.unlink()


def settle(beside: Path, path: Path, *, replace: bool) -> None:
    """Move a temporary file or folder to its final path in one step.

    Raises
    ------
    FileExistsError
        If something is there, and `replace` is False.
    """
    if replace:
        beside.rename(path)
    else:
        _rename_new(beside, path)
    sync_folder(path.parent)


def place_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, replacing one; no other process may use its name."""
    with staged(path, lambda file: file.write(content)) as beside:
        settle(beside, path, replace=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; return False if the system or file system can't."""
    return _rename_flagged(one, other, _EXCHANGE)


def _rename_new(beside: Path, path: Path) -> None:
    """Rename to a free path; raise `FileExistsError` if it has been taken meanwhile."""
    if _rename_flagged(beside, path, _NO_REPLACE):
        return
    if beside.is_dir():
        # `mkdir` fails if the path exists; the rename then replaces our own empty folder.
        path.mkdir()
        beside.rename(path)
        return
    try:
        os.link(beside, path, follow_symlinks=False)
    except OSError as err:
        if err.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from err
        beside.rename(path)


def _rename_flagged(one: Path, other: Path, flag: int) -> bool:
    """Call `renameat2(2)`; return False if the system or file system doesn't support it."""
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if call(_WORKING_FOLDER, paths[0], _WORKING_FOLDER, paths[1], flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNABLE:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


# ---- the rule --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    """A file or folder to be written; checked when this object is made, and when it is written.

    Parameters
    ----------
    path
        Its path. A link there is neither followed nor replaced.
    inputs
        Files, folders and globs that are read, and the journal's folder.
    force
        Whether an existing file is replaced; a folder or an input never is.
    folder
        Whether it is a folder.
    parents
        Whether to make the folders above it.

    Raises
    ------
    UsageError
        If the path is an input or lies in one, exists already, or can't be written.
    """

    path: Path
    inputs: tuple[str | Path, ...] = ()
    force: bool = False
    folder: bool = False
    parents: bool = False

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise `UsageError` if it may not or can't be written; changes nothing."""
        path = self.path
        if str(path) == "-":
            raise UsageError('"-": this is written to a file', hint="give -o a file's name")
        try:
            refuse_inputs(path, self.inputs)
            self._refuse_existing()
            self._refuse_parent()
        except (OSError, ValueError, RuntimeError) as err:
            if isinstance(err, UsageError):
                raise
            raise self.unwritable(err) from err

    def _refuse_existing(self) -> None:
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode) and not self.folder:
            raise UsageError(
                f'"{self.path}": can\'t be written: Is a directory', hint="give -o a file's name"
            )
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "no file"
            raise UsageError(
                f'"{self.path}" is there already and is {kind}; it is not replaced', hint=_ANOTHER
            )
        if self.folder or not self.force:
            raise self.taken()

    def _refuse_parent(self) -> None:
        parent = self.path.parent
        if self.parents:
            parent = next(p for p in self.path.absolute().parents if os.path.lexists(p))
        if not parent.exists():
            raise UsageError(
                f'"{self.path}": can\'t be written: No such file or directory: "{parent}"',
                hint="make the folder first",
            )
        if not parent.is_dir():
            raise UsageError(
                f'"{self.path}": can\'t be written: Not a directory: "{parent}"', hint=_ANOTHER
            )
        if not os.access(parent, os.W_OK | os.X_OK):
            raise UsageError(
                f'"{self.path}": can\'t be written: Permission denied: "{parent}"', hint=_ANOTHER
            )

    def _make_parents(self) -> None:
        if self.parents:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def taken(self) -> UsageError:
        """Return the error for a path that exists already."""
        return UsageError(
            f'"{self.path}" is there already and may have been edited; it is not replaced',
            hint=_ANOTHER if self.folder else f"{_ANOTHER}, or --force to replace it",
        )

    def unwritable(self, err: Exception) -> UsageError:
        """Return the error for a path that can't be written, with the reason."""
        reason = getattr(err, "strerror", None) or (str(err).strip() or repr(err)).splitlines()[0]
        return UsageError(f'"{self.path}": can\'t be written: {reason}')

    def write(self, content: Content) -> Path:
        """Write the file whole or not at all, and return its path.

        Raises
        ------
        UsageError
            If it may not or can't be written now.
        """
        return write_together({self: content})[0]

    @contextmanager
    def made(self) -> Iterator[Path]:
        """Yield a temporary path, to be made a file or filled as a folder, then moved to its path.

        For libraries that write to a path, and not to an open file.

        Raises
        ------
        UsageError
            If it may not or can't be written now.
        """
        self.check()
        beside = _fresh(self.path)
        try:
            self._make_parents()
            beside.mkdir()
            try:
                yield beside if self.folder else beside / self.path.name
                for file in beside.iterdir():
                    sync_folder(file)
                new = beside if self.folder else beside / self.path.name
                settle(new, self.path, replace=self.force)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
        except FileExistsError as err:
            raise self.taken() from err
        except OSError as err:
            raise self.unwritable(err) from err


_ANOTHER = "give -o another name"


def write_together(contents: Mapping[Output, Content]) -> list[Path]:
    """Write several files, all of them or none; return their paths.

    Raises
    ------
    UsageError
        If one may not or can't be written now.
    """
    with ExitStack() as stack:
        placed: list[Path] = []
        for output in contents:
            output.check()
        output = next(iter(contents))
        try:
            aside = []
            for output, content in contents.items():
                output._make_parents()
                aside.append(stack.enter_context(staged(output.path, _writer(content))))
            for beside, output in zip(aside, contents, strict=True):
                settle(beside, output.path, replace=output.force)
                placed.append(output.path)
        except OSError as err:
            for path, made in zip(placed, contents, strict=False):
                if not made.force:
                    path.unlink(missing_ok=True)
            raise (
                output.taken() if isinstance(err, FileExistsError) else output.unwritable(err)
            ) from err
    return placed


def _writer(content: Content) -> Callable[[IO[bytes]], object]:
    if callable(content):
        return content
    data = content.encode("utf-8") if isinstance(content, str) else content
    return lambda file: file.write(data)


def refuse_inputs(path: Path, inputs: Iterable[str | Path]) -> None:
    """Raise if a path is an input, lies in one, or would contain one.

    Parameters
    ----------
    path
        Where something is to be written. Links are resolved.
    inputs
        Files, folders and globs that are read, and the journal's folder, even if not made yet.

    Raises
    ------
    UsageError
        With all inputs concerned; or for a path within any journal.
    """
    hit = [str(given) for given in dict.fromkeys(map(str, inputs)) if _is_or_in(path, given)]
    journal = next((p for p in path.resolve().parents if _is_journal(p)), None)
    if journal is not None and not hit:
        raise UsageError(
            f'"{path}" would be written into the journal "{journal}"; '
            "no output goes onto an input or into a journal",
            hint="give it a name elsewhere",
        )
    if hit:
        raise UsageError(
            f'"{path}" would be written onto or into {culprits(hit)}, which this command uses; '
            "no output goes onto an input or into a journal",
            hint="give it a name elsewhere",
        )


def _is_or_in(path: Path, given: str) -> bool:
    used = Path(given)
    if any(sign in given for sign in "*?[") and not used.exists():
        alike = fnmatch(path.name, used.name) and any(
            _same(path.parent, folder) for folder in _matching(used.parent)
        )
        return alike or (path.exists() and any(_same(path, file) for file in _matching(used)))
    # Both the link itself and its target count.
    targets = {path.parent.resolve() / path.name, path.resolve()}
    if any(_same(p, used) for path in targets for p in (path, *path.parents)):
        return True
    # Paths that don't exist yet, such as a journal before its first run, are compared by name.
    real = used.resolve()
    return any(
        p == real or real in p.parents or (p in real.parents and not p.exists()) for p in targets
    )


def _is_journal(folder: Path) -> bool:
    """Return whether a folder is a journal: whether it has files of runs or events."""
    try:
        return any(
            entry.name.startswith(("run_id=", "event_id="))
            for kind in ("runs", "experiments", "events")
            if (folder / kind).is_dir()
            for entry in (folder / kind).iterdir()
        )
    except OSError:  # No permission to list it: writing there will fail by itself.
        return False


def _matching(pattern: Path) -> list[Path]:
    anchor = Path(pattern.anchor)
    rest = str(pattern.relative_to(anchor))
    return [anchor] if rest == "." else list(anchor.glob(rest))


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
