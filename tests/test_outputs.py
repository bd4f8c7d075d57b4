"""Writing aside and placing, on systems that can do less, and stopped at any moment."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gtmar.errors import UsageError
from gtmar.outputs import Output, place_file, settle, staged, write_together

if TYPE_CHECKING:
    from collections.abc import Callable


class Unable:
    """A system without `renameat2`."""


def without_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["rename", "link", "neither"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the system can do at once."""
    if request.param != "rename":
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Unable())
    if request.param == "neither":
        monkeypatch.setattr(os, "link", without_links)
    return str(request.param)


def test_what_appears_meanwhile_is_kept(tmp_path: Path, system: str) -> None:
    path = tmp_path / "a"
    with staged(path, lambda file: file.write(b"new")) as beside:
        path.write_text("mine")
        with pytest.raises(FileExistsError):
            settle(beside, path, replace=False)
    assert path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_file_and_a_folder_are_placed_whole(tmp_path: Path, system: str) -> None:
    Output(tmp_path / "a").write("text")
    with Output(tmp_path / "b" / "c", folder=True, parents=True).made() as folder:
        (folder / "file").write_text("in it")
    with Output(tmp_path / "d").made() as path:
        path.write_text("by its path")
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"a", "b/c/file", "d"}
    assert (tmp_path / "d").stat().st_nlink == 1
    assert (tmp_path / "a").stat().st_nlink == 1
    for output in (Output(tmp_path / "e"), Output(tmp_path / "f", folder=True)):
        output.path.mkdir()
        with pytest.raises(UsageError), output.made():
            pass
        assert list(output.path.iterdir()) == []


def test_whatever_lies_under_a_temporary_name_is_stepped_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "a.000000000000.partial").symlink_to(mine)
    monkeypatch.setattr("gtmar.outputs.secrets.token_hex", lambda size: "00" * size)
    for write in (lambda p: place_file(p, b"new"), lambda p: Output(p).write("new")):
        with pytest.raises((FileExistsError, UsageError)):
            write(tmp_path / "a")
    assert mine.read_text() == "mine"
    assert (tmp_path / "a.000000000000.partial").is_symlink()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, OSError])
def test_an_interruption_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    def write(_: object) -> None:
        raise stop

    raised = UsageError if stop is OSError else stop
    with pytest.raises(raised):
        Output(tmp_path / "a").write(write)

    def half() -> None:
        with Output(tmp_path / "b", folder=True).made() as folder:
            (folder / "file").write_text("half")
            raise stop

    with pytest.raises(raised):
        half()
    assert list(tmp_path.iterdir()) == []


def test_files_written_together_are_all_there_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = Output(tmp_path / "one"), Output(tmp_path / "two")

    def late(beside: Path, path: Path, *, replace: bool) -> None:
        if path == two.path:
            path.write_text("mine")
        settle(beside, path, replace=replace)

    monkeypatch.setattr("gtmar.outputs.settle", late)
    with pytest.raises(UsageError, match='two" is there already'):
        write_together({one: "1", two: "2"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"two": "mine"}


def test_an_output_with_several_faults_of_its_name(tmp_path: Path) -> None:
    makes: tuple[Callable[[], Output], ...] = (
        lambda: Output(Path("a\0b")),
        lambda: Output(tmp_path / ("ä" * 200)),
        lambda: Output(tmp_path),
        lambda: Output(tmp_path / ".."),
        lambda: Output(Path("-")),
        lambda: Output(Path("/dev/null"), force=True),
        lambda: Output(Path("/dev/stdout"), force=True),
    )
    for make in makes:
        with pytest.raises(UsageError):
            make()
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_has_room_for_the_temporary_one(tmp_path: Path) -> None:
    name = "ä" * 120 + ".yaml"
    Output(tmp_path / name).write("text")
    assert [file.name for file in tmp_path.iterdir()] == [name]
