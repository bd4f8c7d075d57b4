"""Text is read once where memory suffices, and lines of nothing are no accounts."""

from pathlib import Path

import polars as pl
import pytest
from factories import make_accounts, make_spec

from gtmar.data import scan as scanning
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import collect, scan

ACCOUNTS = make_accounts(50)


@pytest.mark.slow
def test_a_text_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    ACCOUNTS.write_csv(path)
    table = scan(path)
    path.unlink()
    whole = load_accounts(scan(ACCOUNTS), make_spec())
    assert load_accounts(table, make_spec()).outcomes_fingerprint == whole.outcomes_fingerprint


@pytest.mark.parametrize("share", [0.5, 0])
@pytest.mark.parametrize("nothing", ["", "   ", ",,,,,", '"",""'])
@pytest.mark.parametrize("parted", [False, True])
def test_lines_of_nothing_are_no_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing: str, share: float, *, parted: bool
) -> None:
    monkeypatch.setattr(scanning, "_SHARE", share)
    folder = tmp_path / "region=emea" if parted else tmp_path
    folder.mkdir(exist_ok=True)
    lines = ACCOUNTS.write_csv().splitlines()
    commas = "," * (lines[0].count(",") - nothing.count(",")) if nothing.count(",") else ""
    odd = nothing + commas
    text = "\n".join([lines[0], odd, *lines[1:20], odd, odd, *lines[20:], odd, ""])
    (folder / "a.csv").write_text(text)
    table = scan(tmp_path)
    assert collect(table, table.frame.select(pl.len())).item() == 50
