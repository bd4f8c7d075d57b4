"""Tables at 80 columns: a short column keeps its words, whatever the long ones need."""

from __future__ import annotations

import pytest

from gtmar.cli.journal import _arrow
from gtmar.cli.output import table
from gtmar.cli.validation import _print_segment_part, _segments_sentence
from gtmar.runs.segments import BySegment, SegmentLine, SegmentPart
from gtmar.stats.interval import Interval


def test_a_short_last_column_is_never_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [
        (
            "gain",
            "auc_roc_retain gets better, its 95% interval above 0",
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


def test_columns_move_together_before_a_word_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    row = ("r20261201-000855-63b0e8/exp_00017", 0.6798, 0.4394, "start")
    table(["experiment", "auc_roc_retain", "revenue_capture_at_20", ""], [row])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["experiment", "auc_roc_retain", "revenue_capture_at_20"]


@pytest.mark.parametrize(
    ("before", "after", "cell"),
    [(None, None, "-"), (None, "50.0%", "- -> 50.0%"), ("0.0%", "0.0%", "0.0% -> 0.0%")],
)
def test_no_account_is_a_dash_and_no_zero(before: str | None, after: str | None, cell: str) -> None:
    assert _arrow(before, after) == cell


def test_of_many_segments_without_an_answer_five_are_named() -> None:
    nothing = Interval(None, None, None, 0.95, 3, "too few: 3 accounts, 50 needed")
    none: dict[str, Interval] = {}
    lines = tuple(
        SegmentLine(f"plan={i}", 3, nothing, nothing, nothing, "unknown", none, none, none)
        for i in range(1_009)
    )
    five, all_of_them = (
        _segments_sentence(SegmentPart("searched", 0.95, some, None, None))
        for some in (lines[:5], lines)
    )
    assert five.endswith("plan=4 (too few: 3 accounts, 50 needed).")
    assert five.count("plan=") == all_of_them.count("plan=") == 5
    assert all_of_them.endswith(" and 1,004 more, with --json.")


def test_segments_of_the_accounts_searched_are_called_in_sample(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nothing = Interval(None, None, None, 0.95, 3, "too few: 3 accounts, 50 needed")
    line = SegmentLine("plan=a", 3, nothing, nothing, nothing, "unknown", {}, {}, {})
    told = []
    for part in ("searched", "held out"):
        made = SegmentPart(part, 0.95, (line,), None, None)
        of = BySegment(
            "r", "r/e", "auc", higher_is_better=True, tier="A", columns=("plan",), parts=(made,)
        )
        _print_segment_part(made, of)
        told.append(capsys.readouterr().out.split(": ")[0].strip())
    assert told == [
        "On the 3 accounts searched (in-sample, so too good)",
        "On the 3 accounts held out",
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
