"""A table with a spec and a finished run, for desks to be opened on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from factories import make_accounts, make_spec
from typer.testing import CliRunner

from gtmar import runs
from gtmar.cli.app import app
from gtmar.spec import to_yaml

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 accounts, a spec with probabilities and segments, a journal with one search."""
    made = tmp_path_factory.mktemp("desk")
    accounts = make_accounts(600, 7).with_columns(region=make_accounts(600, 7)["plan"])
    accounts.write_parquet(made / "accounts.parquet")
    shares = {"A": {"share": 0.1}, "B": {"share": 0.3}, "C": {"share": 0.6}}
    spec = runs.calibrate(accounts, make_spec(segments=["region"], tiers=shares)).spec
    (made / "spec.yaml").write_text(to_yaml(spec), "utf-8")
    runs.run(
        made / "accounts.parquet",
        made / "spec.yaml",
        limits=runs.Limits(60),
        journal=made / "journal",
        note="first baseline",
        author="RevOps",
    )
    return made


def asked(folder: Path, *words: str) -> Any:
    """Return what a command prints for programs, asked in a folder."""
    told = CliRunner().invoke(app, [*words, "--journal", str(folder / "journal"), "--json"])
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)
