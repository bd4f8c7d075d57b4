"""Tables at 80 columns: a short column keeps its words, whatever the long ones need."""

from __future__ import annotations

import pytest

from gtmar.cli.output import table


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


@pytest.mark.parametrize("width", [80, 60, 40])
def test_names_lose_their_middle_and_stay_apart_while_numbers_and_verdicts_are_whole(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    names = [f"a_very_long_feature_name_of_team_{i}_quarterly_average" for i in range(3)]
    verdicts = ["holds", "noise", "READY_FOR_REVIEW"]
    rows = [(n, -1234.5, 12, "97.5%", v) for n, v in zip(names, verdicts, strict=True)]
    table(["weight", "start", "found", "sign held", ""], rows)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    for whole in ("-1,234.50", "97.5%", *verdicts):
        assert text.count(whole) == (1 if whole in verdicts else 3)
    short = [word for word in text.split() if "\N{HORIZONTAL ELLIPSIS}" in word]
    assert len(short) == 3
    if width >= 60:
        assert len(set(short)) == 3
