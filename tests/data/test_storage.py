"""Arrays in memory and on disk: the same values, read-only, nothing left behind."""

import dataclasses
import errno
import mmap
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import make_accounts, make_spec

from gtmar import memory
from gtmar import spec as specs
from gtmar.data import storage as room
from gtmar.data.matrix import Accounts, load_accounts
from gtmar.data.scan import scan
from gtmar.data.storage import Storage
from gtmar.errors import ResourceError, UsageError
from gtmar.memory import default_budget, parse_size

ACCOUNTS = make_accounts(300)


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give temporary files a folder of their own, to be looked into."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def load(memory: int | None, data: Any = ACCOUNTS, **overrides: Any) -> Accounts:
    return load_accounts(scan(data), make_spec(**overrides), memory=memory)


def arrays(accounts: Accounts) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for part in ("search", "holdout"):
        matrix = getattr(accounts, part)
        for field in dataclasses.fields(matrix):
            value = getattr(matrix, field.name)
            if isinstance(value, np.ndarray):
                found[f"{part}.{field.name}"] = value
        found |= {f"{part}.columns[{i}]": column for i, column in enumerate(matrix.columns)}
    return found


def is_mapped(array: np.ndarray[Any, Any]) -> bool:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap)


# The same, wherever it is kept


@pytest.mark.parametrize("overrides", [{}, {"split": {"holdout": 0}}, {"id": None}], ids=str)
def test_arrays_on_disk_are_those_in_memory(overrides: Any) -> None:
    frame = ACCOUNTS.drop("account_id") if "id" in overrides else ACCOUNTS
    kept, mapped = (load(memory, frame, **overrides) for memory in (None, 0))
    assert (kept.on_disk, mapped.on_disk) == (False, True)
    assert kept.outcomes_fingerprint == mapped.outcomes_fingerprint
    assert kept.features_fingerprint == mapped.features_fingerprint
    assert (kept.holdout is None) == (mapped.holdout is None)
    if kept.holdout is None:
        assert kept.search.accounts == mapped.search.accounts == 300
        return
    before, after = arrays(kept), arrays(mapped)
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)
        assert array.dtype == after[name].dtype, name


def test_every_array_of_the_size_of_the_table_is_mapped_and_read_only() -> None:
    for name, array in arrays(load(0)).items():
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0
        if len(array) > 50:
            assert is_mapped(array), name
            # Not only marked so: the pages themselves can't be written to.
            with pytest.raises(ValueError, match="cannot set WRITEABLE"):
                array.flags.writeable = True


def test_a_column_longer_than_what_is_copied_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_SLICE", 7)
    values = np.arange(100, dtype=np.int16)
    rows = np.arange(100, dtype=np.int32)[::-1]
    kept = Storage(Path(tempfile.gettempdir())).keep(values, rows)
    np.testing.assert_array_equal(kept, values[::-1])


def test_arrays_beyond_what_was_expected_have_room_too() -> None:
    place = Storage(Path(tempfile.gettempdir()), expected=100)
    rows = np.arange(90, dtype=np.int32)
    kept = [place.keep(np.full(90, i, dtype=np.int8), rows) for i in range(5)]
    assert [set(array.tolist()) for array in kept] == [{i} for i in range(5)]
    assert place.keep(np.zeros(3), rows[:0]).shape == (0,)


# Nothing is left behind


def open_files(folder: Path) -> list[str]:
    """List the files of a folder that this process has open, those without a name included."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:  # closed meanwhile: the listing's own
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs the /proc of Linux")
def test_files_have_no_name_and_end_with_the_arrays(scratch: Path) -> None:
    accounts = load(0)
    assert list(scratch.iterdir()) == []
    assert open_files(scratch)
    del accounts
    assert not open_files(scratch)


def test_nothing_is_left_where_loading_fails(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: object) -> None:
        assert list(scratch.iterdir()), "the folder should stand while the table is read"
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "write_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(0)
    assert list(scratch.iterdir()) == []


# Which


def test_memory_is_used_up_to_the_budget() -> None:
    assert not Storage.fitting(needed=100, kept=50, budget=100).on_disk
    assert Storage.fitting(needed=101, kept=50, budget=100).on_disk


def test_the_default_is_a_share_of_the_machine() -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < default_budget() <= whole // 2
    assert not load(None).on_disk


def test_a_control_group_limits_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [tmp_path / "none", tmp_path / "max", tmp_path / "limited"]
    limits[1].write_text("max\n")
    limits[2].write_text("1000000\n")
    monkeypatch.setattr(memory, "_LIMITS", tuple(map(str, limits)))
    assert default_budget() == 500_000


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_large_files_go_where_tmpdir_says(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is None:
        monkeypatch.delenv("TMPDIR")
        expected = Path("/var/tmp")
    else:
        expected = tmp_path / given
        expected.mkdir()
        monkeypatch.setenv("TMPDIR", str(expected))
    assert Storage.fitting(needed=1, kept=1, budget=0).folder == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("4gb", 4 * 10**9),
        ("512 MB", 512 * 10**6),
        ("2GiB", 2 * 2**30),
        ("1.5kib", 1536),
        ("0", 0),
        ("1000", 1000),
        ("3TB", 3 * 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4 G B", "4PB", "1,5GB", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="memory expects a size, got") as caught:
        parse_size(text)
    assert "4GB" in str(caught.value.hint)


# A full disk


FILL = """
import resource, signal, sys
from gtmar import spec
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.errors import ResourceError

# A limit on the size of files gives errors as a full disk does, on a disk that isn't full.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
most = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    load_accounts(scan(sys.argv[1]), spec.load(sys.argv[2]), memory=0)
except ResourceError as err:
    print(err)
"""


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 10_000, 100_000])
def test_no_room_is_an_error_in_words(scratch: Path, tmp_path: Path, most: int) -> None:
    """The first limit stops the encoded rows, the last one the arrays alone."""
    ACCOUNTS.write_parquet(tmp_path / "accounts.parquet")
    (tmp_path / "spec.json").write_text(specs.to_json(make_spec()), encoding="utf-8")
    command = [sys.executable, "-c", FILL, "accounts.parquet", "spec.json", str(most)]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if most == 100_000:
        assert done.stdout == ""
    else:
        expected = f"{scratch}: no room for the account table: File too large"
        assert done.stdout.startswith(expected)
        assert "TMPDIR" in done.stdout
    assert list(scratch.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    with pytest.raises(ResourceError, match=r"nowhere: no room .*: No such file or directory"):
        load(0)


def test_a_full_disk_for_the_arrays_is_an_error_in_words(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(room, "_reserve", full)
    with pytest.raises(ResourceError, match="no room for the account table: No space left"):
        load(0)
    assert list(scratch.iterdir()) == []


def test_room_is_reserved_before_it_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a full disk ends the process with a signal, in the middle of a copy."""
    spare: list[int] = []
    reserve = room._reserve

    def noted(file: int, size: int) -> None:
        reserve(file, size)
        spare.append(os.fstat(file).st_blocks * 512 - size)

    monkeypatch.setattr(room, "_reserve", noted)
    load(0)
    assert spare
    assert min(spare) >= 0
