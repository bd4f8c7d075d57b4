"""Tables at 80 columns: a short column keeps its words, whatever the long ones need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.cli.output import table

if TYPE_CHECKING:
    import pytest


def test_a_short_last_column_is_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [
        (
            "gain",
            "auc_roc_retain gets better, its 95.0% interval above 0",
            "+0.1032, from +0.0538 to +0.1526",
            "passed",
        ),
        ("guardrails", "the candidate breaks none of the spec's", "none is broken", "failed"),
    ]
    table(["gate", "stated beforehand", "measured", ""], rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [
        word for line in lines for word in line.split()[-1:] if word in ("passed", "failed")
    ] == [
        "passed",
        "failed",
    ]
