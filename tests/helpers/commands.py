"""Commands as pages have them, run in this process."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from gtmar.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["printed"]


def printed(line: str, folder: Path, *, columns: int = 80) -> str:
    """Run a line of a page in a folder, as in a shell without settings; return what it prints.

    Warnings are errors, as in all tests.
    """
    program, *arguments = shlex.split(line)
    assert program == "gtmar", line
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("GTMAR_JOURNAL", raising=False)
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("NO_COLOR", "1")
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done.stdout
