"""What is written for somebody: never onto an input, never over what is there unless asked.

One rule for the files and folders of every command. An output is checked before work begins, and
once more as it is put in its place. It is written beside that place under a fresh name that no
other process has, synced, and then renamed in one step that doesn't replace a file which appeared
meanwhile. So whatever is killed, and whoever writes there too, a name holds a whole file or
nothing, and nothing is removed that this process didn't make. A journal's files are written so too.
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

#: Of a file's name, in the name under which it is written.
_SHOWN = 40
#: Linux, `renameat2(2)`: refuse where the new name is taken; let two paths change places.
_NO_REPLACE, _EXCHANGE = 1, 2
_WORKING_FOLDER = -100
#: What a system answers that can't: no such call, no such flag, not on this file system.
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
#: What a file system answers that has no hard links.
_NO_LINKS = _UNABLE | {errno.EPERM, errno.EMLINK}

Content: TypeAlias = "str | bytes | Callable[[IO[bytes]], object]"


# ---- written aside, then placed --------------------------------------------------------------


def _fresh(path: Path) -> Path:
    """Return a name beside a path that nothing has."""
    return path.with_name(f"{path.name[:_SHOWN]}.{secrets.token_hex(6)}.partial")


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder, or a file's bytes, outlive a loss of power."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        # A folder may be written to and not listed.
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def staged(path: Path, write: Callable[[IO[bytes]], object]) -> Iterator[Path]:
    """Give a file written beside its place, synced; removed where `settle` doesn't place it."""
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
    """Put what was written beside its place there, in one step.

    Raises
    ------
    FileExistsError
        If something is there and isn't to be replaced.
    """
    if replace:
        beside.rename(path)
    else:
        _rename_new(beside, path)
    sync_folder(path.parent)


def place_file(path: Path, content: bytes) -> None:
    """Write a file of the journal whole or not at all; the caller alone has its name."""
    with staged(path, lambda file: file.write(content)) as beside:
        settle(beside, path, replace=True)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system or file system can't."""
    return _rename_flagged(one, other, _EXCHANGE)


def _rename_new(beside: Path, path: Path) -> None:
    """Rename to a name that is free; refuse where it has been taken meanwhile."""
    if _rename_flagged(beside, path, _NO_REPLACE):
        return
    if beside.is_dir():
        # A folder may be renamed over an empty one: this one is ours.
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
    """Rename as `renameat2(2)` does; False where the system or file system can't."""
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
    """A file, or a folder, to be written; checked when it is made and again as it is placed.

    Parameters
    ----------
    path
        Where it goes. A link there is neither followed nor replaced.
    inputs
        Files, folders and globs that are read, and the journal's folder.
    force
        Whether a file that is there may be replaced. A folder never is, nor an input.
    folder
        Whether it is a folder.
    parents
        Whether folders above it are made.

    Raises
    ------
    UsageError
        If it is an input or lies in one, is there already, or can't be written.
    """

    path: Path
    inputs: tuple[str | Path, ...] = ()
    force: bool = False
    folder: bool = False
    parents: bool = False

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Refuse what may not or can't be written; nothing is changed by that."""
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
        """Word that something is there already."""
        return UsageError(
            f'"{self.path}" is there already and may have been edited; it is not replaced',
            hint=_ANOTHER if self.folder else f"{_ANOTHER}, or --force to replace it",
        )

    def unwritable(self, err: Exception) -> UsageError:
        """Word why it can't be written."""
        reason = getattr(err, "strerror", None) or (str(err).strip() or repr(err)).splitlines()[0]
        return UsageError(f'"{self.path}": can\'t be written: {reason}')

    def write(self, content: Content) -> Path:
        """Write the file whole or not at all.

        Raises
        ------
        UsageError
            If it may not or can't be written now.
        """
        return write_together({self: content})[0]

    @contextmanager
    def made(self) -> Iterator[Path]:
        """Give a fresh path to make the file or fill the folder at, for those that take no file.

        What is there at the end of the block is put in its place.

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
    """Write files, all of them or none.

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
    """Refuse a path that is an input, lies in one, or would hold one.

    Parameters
    ----------
    path
        Where something is to be written; a file that is the same by another name counts.
    inputs
        Files, folders and globs that are read, and the journal's folder, there or not yet.

    Raises
    ------
    UsageError
        Naming all of them; or the journal that the path lies in, if the command uses another.
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
    # Of a link, both where it stands and where it leads to.
    places = {path.parent.resolve() / path.name, path.resolve()}
    if any(_same(p, used) for place in places for p in (place, *place.parents)):
        return True
    # One of the two isn't there yet, as a journal before its first run.
    real = used.resolve()
    return any(
        p == real or real in p.parents or (p in real.parents and not p.exists()) for p in places
    )


def _is_journal(folder: Path) -> bool:
    """Whether a folder holds records or parts of runs, or events."""
    try:
        return any(
            entry.name.startswith(("run_id=", "event_id="))
            for kind in ("runs", "experiments", "events")
            if (folder / kind).is_dir()
            for entry in (folder / kind).iterdir()
        )
    except OSError:  # A folder that isn't ours to look into: writing there fails by itself.
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
