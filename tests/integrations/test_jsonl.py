"""Out to other tools and in from them: what a file becomes, what is refused, and the way back."""

from __future__ import annotations

import json
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar import runs
from gtmar.data import synthetic
from gtmar.errors import DamagedJournalWarning, JournalError, NotComparableError, RunNotFoundError
from gtmar.integrations import jsonl_import as exchange
from gtmar.integrations.jsonl_format import export_jsonl
from gtmar.integrations.jsonl_import import import_jsonl
from gtmar.journal import review, writer
from gtmar.journal.catalog import Journal
from gtmar.journal.events import event_files, read_event, untouched
from gtmar.journal.files import RunFiles
from gtmar.journal.sql_library import library
from gtmar.journal.verify import verify
from gtmar.journal.writer import RunWriter
from gtmar.metrics import all_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"

#: As an earlier tool keeps it: two runs into one file, the second on another metric.
TEXT = """\
{"experiment_id": "exp_00001", "seed": 42, "evaluation_version": 2, "timestamp": "2026-01-05T09:00:00.250000+00:00", "metric": "auc_roc_retain", "baseline_value": 0.6312, "variant_value": 0.648, "outcome": "win", "changes": ["alert_created: 5 -> 12", "session_depth: 5 -> 3"], "hypothesis": "Random mutation: alert_created: 5 -> 12; session_depth: 5 -> 3", "weights_snapshot": {"alert_created": 12, "session_depth": 3, "noise": -2}, "metrics": {"n_scored": 5000, "score_mean": 31.25, "score_std": 9.5, "revenue_capture_at_20": 0.31, "auc_roc_retain": 0.648, "nrr_by_tier": {"C": 0.59, "D": null}, "grr_by_tier": {}, "revenue_concentration_hhi": 3953.0, "arpa_by_tier": {"A": 910.2, "C": 300.0}, "pct_A_tier": 0.001, "pct_B_tier": 0.2, "pct_C_tier": 0.4, "pct_D_tier": 0.399, "revenue_capture_selected_count": 900}, "duration_ms": 3.4}
{"experiment_id": "exp_00002", "seed": 42, "evaluation_version": 2, "timestamp": "2026-01-05T10:00:00.500000+01:00", "metric": "auc_roc_retain", "baseline_value": 0.648, "variant_value": 0.62, "outcome": "lose", "changes": ["noise: -2 -> -1"], "hypothesis": "noise may be a signal", "weights_snapshot": {"noise": -1, "alert_created": 12, "session_depth": 3.0}, "metrics": {"auc_roc_retain": 0.62, "tier_separation": NaN, "nrr_by_tier": {"A": 1.0, "B": 0.92, "C": 0.59, "D": 0.32}}, "duration_ms": 0}

{"experiment_id": "exp_00003", "seed": 42, "evaluation_version": 2, "timestamp": "2026-01-05T09:00:01", "metric": "auc_roc_retain", "baseline_value": 0.648, "variant_value": 0.661, "outcome": "win", "changes": ["alert_created: 12 -> 14"], "hypothesis": "more of it", "weights_snapshot": {"alert_created": 14, "session_depth": 3, "noise": -2}, "metrics": {"auc_roc_retain": 0.661}, "duration_ms": 2.125}
{"experiment_id": "exp_00004", "seed": 7, "evaluation_version": 2, "timestamp": "2026-02-01T00:00:00Z", "metric": "tier_separation", "baseline_value": 1.38, "variant_value": null, "outcome": "lose", "changes": ["noise: 5 -> 4"], "hypothesis": "less noise", "weights_snapshot": {"alert_created": 5, "noise": 4}, "metrics": {}, "duration_ms": 3.0}
"""  # noqa: E501 - a line each, as the format has it
LINES = [json.loads(line) for line in TEXT.splitlines() if line]


def line(number: int = 1, **other: Any) -> dict[str, Any]:
    """Return an object of the format, with other values; a key of None's own is left out."""
    data: dict[str, Any] = {
        "experiment_id": f"exp_{number:05d}",
        "metric": "auc_roc_retain",
        "baseline_value": 0.6,
        "variant_value": 0.5,
        "outcome": "lose",
        "changes": {"nps": {"from": 5, "to": 6}},
        "weights_snapshot": {"nps": 6, "logins": 3},
        "metrics": {},
    }
    return {key: value for key, value in {**data, **other}.items() if value != "left out"}


def file_of(folder: Path, *lines: object, name: str = "old.jsonl") -> Path:
    path = folder / name
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def rows_of(journal: Path, run: str) -> list[dict[str, Any]]:
    """Read a run's rows past our own code."""
    parts = sorted((journal / "experiments" / f"run_id={run}").glob("*.parquet"))
    return [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]


def record_of(journal: Path, run: str, kind: str) -> dict[str, Any]:
    path = journal / "runs" / f"run_id={run}" / f"{kind}.parquet"
    row: dict[str, Any] = pq.ParquetFile(path).read().to_pylist()[0]
    return row


@pytest.fixture
def imported(tmp_path: Path) -> exchange.Imported:
    path = file_of(tmp_path, TEXT.removesuffix("\n"))
    return import_jsonl(path, tmp_path / "journal", author="RevOps", note="the old tool's")


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of two runs, several parts each."""
    folder = tmp_path_factory.mktemp("normal")
    table = folder / "accounts.parquet"
    synthetic.generate("health_score", accounts=500).write_parquet(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "FLUSH_ROWS", 10)
        patch.setattr("gtmar.runs.journaled_search._MEASURED_AT_ONCE", 10)
        for seed, note in ((0, "first"), (1, None)):
            limits = runs.Limits(40)
            runs.run(table, SPEC, limits=limits, seed=seed, journal=folder / "journal", note=note)
    return folder / "journal"


def run_ids(journal: Path) -> list[str]:
    """Return ids of all runs in the order of their starts, which may lie within one second."""
    ids = [folder.name.partition("=")[2] for folder in (journal / "runs").iterdir()]
    return sorted(ids, key=lambda run: record_of(journal, run, "start")["started_at"])


def told(journal: Path, run: str) -> list[dict[str, Any]]:
    """Return the rows of a run that other tools are told of."""
    rows = rows_of(journal, run)
    return [row for row in rows if row["outcome"] in ("win", "lose", "blocked")]


def exported(journal: Path, run: str | None = None) -> list[dict[str, Any]]:
    with Journal(journal) as opened:
        return [json.loads(text) for text in export_jsonl(opened, run)]


# Coming


def test_the_result_counts_runs_and_what_was_left_out(
    imported: exchange.Imported, tmp_path: Path
) -> None:
    assert imported.experiments == 4
    assert imported.wins == 2
    assert imported.ignored == {"metrics.revenue_capture_selected_count": 1}
    with Journal(tmp_path / "journal") as journal:
        assert journal.sql("runs")["run_id"].to_list() == list(reversed(imported.runs))
    assert [run[:16] for run in imported.runs] == ["r20260105-090000", "r20260201-000000"]
    assert imported.as_json()["source"] == str(tmp_path / "old.jsonl")


def test_a_line_becomes_a_row(imported: exchange.Imported, tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "journal", imported.runs[0])
    assert [row["experiment_id"] for row in rows] == [f"exp_{n:05d}" for n in range(4)]
    given = {key: value for key, value in rows[1].items() if value not in (None, [])}
    share = [("A", 0.001), ("B", 0.2), ("C", 0.4), ("D", 0.399)]
    assert given == {
        "run_id": imported.runs[0],
        "experiment_id": "exp_00001",
        "number": 1,
        "proposal": 1,
        "parent": "exp_00000",
        "objective": "auc_roc_retain",
        "value_before": 0.6312,
        "value_after": 0.648,
        "outcome": "win",
        "changes": [
            ("alert_created", {"before": 5, "after": 12}),
            ("session_depth", {"before": 5, "after": 3}),
        ],
        "weights": [("alert_created", 12), ("session_depth", 3), ("noise", -2)],
        "auc_roc_retain": 0.648,
        "revenue_capture_at_20": 0.31,
        "nrr_by_tier": [("A", None), ("B", None), ("C", 0.59), ("D", None)],
        "grr_by_tier": [("A", None), ("B", None), ("C", None), ("D", None)],
        "arpa_by_tier": [("A", 910.2), ("B", None), ("C", 300.0), ("D", None)],
        "revenue_concentration_hhi": 3953.0,
        "scored": 5000,
        "score_mean": 31.25,
        "score_deviation": 9.5,
        "share_by_tier": share,
        "null_reasons": [
            ("*", "imported: not in the file"),
            ("imported from", json.dumps(LINES[0], separators=(",", ":"))),
        ],
        "proposer": "import",
        "note": "Random mutation: alert_created: 5 -> 12; session_depth: 5 -> 3",
        "evaluated_at": datetime(2026, 1, 5, 9, 0, 0, 250_000, tzinfo=UTC),
        "duration_us": 3400,
    }
    assert [row["parent"] for row in rows[1:]] == ["exp_00000", "exp_00001", "exp_00001"]
    assert [row["evaluated_at"].time().isoformat() for row in rows[2:]] == [
        "09:00:00.500000",
        "09:00:01",
    ]
    assert rows[2]["tier_separation"] is None
    assert rows[2]["weights"] == [("alert_created", 12), ("session_depth", 3), ("noise", -1)]


def test_the_baseline_is_what_the_first_line_changed(
    imported: exchange.Imported, tmp_path: Path
) -> None:
    row = rows_of(tmp_path / "journal", imported.runs[0])[0]
    assert (row["number"], row["outcome"], row["proposer"]) == (0, "baseline", "baseline")
    assert row["weights"] == [("alert_created", 5), ("session_depth", 5), ("noise", -2)]
    assert row["value_before"] is None
    assert row["value_after"] == 0.6312
    metrics = [row[key] for key, metric in all_metrics().items() if not metric.by_tier]
    assert set(metrics) == {None}
    assert row["nrr_by_tier"] == [("A", None), ("B", None), ("C", None), ("D", None)]
    assert row["null_reasons"] == [("*", "imported: not in the file")]


def test_the_records_hold_what_is_known_and_no_more(
    imported: exchange.Imported, tmp_path: Path
) -> None:
    start = record_of(tmp_path / "journal", imported.runs[0], "start")
    digest = dict(start["parameters"]).pop("file_sha256")
    assert {key: value for key, value in start.items() if value is not None} == {
        "run_id": imported.runs[0],
        "record": "start",
        "format_version": 2,
        "kind": "import",
        "started_at": datetime(2026, 1, 5, 9, 0, 0, 250_000, tzinfo=UTC),
        "author": "RevOps",
        "note": "the old tool's",
        "seed": 42,
        "parameters": [
            ("format", "jsonl"),
            ("file_sha256", digest),
            ("lines", "1-4"),
            ("first_experiment", "exp_00001"),
            ("evaluation_version", "2"),
        ],
        "objective": "auc_roc_retain",
        "higher_is_better": True,
        "model": "old",
        "tiers": ["A", "B", "C", "D"],
        "source": str(tmp_path / "old.jsonl"),
    }
    end = record_of(tmp_path / "journal", imported.runs[0], "end")
    now = datetime.now(UTC)
    assert now - timedelta(minutes=1) < end["ended_at"] <= now
    keys = {"state", "experiments", "wins", "seconds", "baseline_value", "best_value"}
    assert {key: end[key] for key in keys} == {
        "state": "imported",
        "experiments": 3,
        "wins": 2,
        "seconds": 0.005525,
        "baseline_value": 0.6312,
        "best_value": 0.661,
    }
    assert end["best_experiment"] == "exp_00003"
    second = record_of(tmp_path / "journal", imported.runs[1], "end")
    assert (second["wins"], second["best_experiment"]) == (0, "exp_00000")
    assert (second["baseline_value"], second["best_value"]) == (1.38, 1.38)
    assert dict(record_of(tmp_path / "journal", imported.runs[1], "start")["parameters"])[
        "lines"
    ] == ("5-5")


def test_an_empty_name_takes_nothing_back(imported: exchange.Imported, tmp_path: Path) -> None:
    """As of a shell's variable that nobody set."""
    journal = tmp_path / "journal"
    with pytest.raises(JournalError, match='"" stands for 0 imports'):
        exchange.undo_import("", journal)
    assert run_ids(journal) == sorted(imported.runs)


def test_an_event_says_what_was_brought_in(imported: exchange.Imported, tmp_path: Path) -> None:
    [path] = event_files(tmp_path / "journal")
    assert untouched(path)
    event = read_event(path)
    assert (event["kind"], event["author"], event["note"]) == ("import", "RevOps", "the old tool's")
    assert event["run_id"] is None
    details = json.loads(event["details"])
    assert details["runs"] == list(imported.runs)
    assert (details["experiments"], details["wins"]) == (4, 2)
    assert details["ignored"] == {"metrics.revenue_capture_selected_count": 1}
    one = import_jsonl(file_of(tmp_path, line(), name="one.jsonl"), tmp_path / "journal")
    events = [read_event(path) for path in event_files(tmp_path / "journal")]
    assert [e["run_id"] for e in events if e["source"].endswith("one.jsonl")] == list(one.runs)


def test_the_same_file_twice_is_refused_naming_the_run(tmp_path: Path) -> None:
    found = import_jsonl(file_of(tmp_path, line()), tmp_path / "journal")
    again = file_of(tmp_path, line(), name="copy.jsonl")
    before = sorted((tmp_path / "journal").rglob("*"))
    with pytest.raises(JournalError, match=f'already, as run "{found.runs[0]}"') as caught:
        import_jsonl(again, tmp_path / "journal")
    assert caught.value.facts == {"runs": list(found.runs)}
    assert sorted((tmp_path / "journal").rglob("*")) == before
    import_jsonl(again, tmp_path / "elsewhere")
    import_jsonl(file_of(tmp_path, line(2), name="other.jsonl"), tmp_path / "journal")


# Forms of a line


@pytest.mark.parametrize(
    "changes",
    [
        ["nps: 5 -> 6", "a: b: -1 -> 0"],
        ["nps:5->6", "a: b:  -1 → 0.0"],
        {"nps": {"from": 5, "to": 6}, "a: b": {"from": -1, "to": 0}},
        {"nps": {"before": 5, "after": 6}, "a: b": {"after": 0, "before": -1}},
        {"nps": {"old": 5, "new": 6.0}, "a: b": {"old": -1.0, "new": 0}},
        {"nps": [5, 6], "a: b": [-1, 0]},
        {"nps": "5 -> 6", "a: b": "-1 -> 0"},
    ],
    ids=str,
)
def test_changes_in_many_forms(tmp_path: Path, changes: object) -> None:
    weights = {"nps": 6, "a: b": 0, "logins": 3}
    found = import_jsonl(
        file_of(tmp_path, line(changes=changes, weights_snapshot=weights)), tmp_path / "journal"
    )
    baseline, row = rows_of(tmp_path / "journal", found.runs[0])
    assert dict(row["changes"]) == {
        "nps": {"before": 5, "after": 6},
        "a: b": {"before": -1, "after": 0},
    }
    assert dict(baseline["weights"]) == {"nps": 5, "a: b": -1, "logins": 3}


def test_a_change_that_says_the_new_weight_alone(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        line(outcome="win", variant_value=0.7),
        line(2, baseline_value=0.7, changes={"nps": 9}, weights_snapshot={"nps": 9, "logins": 3}),
    )
    found = import_jsonl(path, tmp_path / "journal")
    rows = rows_of(tmp_path / "journal", found.runs[0])
    assert rows[2]["changes"] == [("nps", {"before": 6, "after": 9})]
    first = file_of(tmp_path, line(changes={"nps": 6}), name="first.jsonl")
    with pytest.raises(JournalError, match=r'line 1: the first .* was before, got "nps"'):
        import_jsonl(first, tmp_path / "journal")


def test_time_hypothesis_and_duration_may_be_missing(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    lines = line(), line(2, metric="tier_separation", timestamp=None, hypothesis="")
    found = import_jsonl(file_of(tmp_path, *lines), tmp_path / "journal")
    for run in found.runs:
        row = rows_of(tmp_path / "journal", run)[1]
        assert (row["evaluated_at"], row["note"], row["duration_us"]) == (None, None, None)
        assert record_of(tmp_path / "journal", run, "end")["seconds"] is None
    starts = [record_of(tmp_path / "journal", r, "start")["started_at"] for r in found.runs]
    assert before <= starts[0] < starts[1]
    again = exported(tmp_path / "journal")
    assert [entry | {"experiment_id": ""} for entry in again] == [
        entry | {"experiment_id": ""} for entry in lines
    ]


def test_tiers_stand_in_the_order_of_their_longest_list(tmp_path: Path) -> None:
    metrics = {"nrr_by_tier": {"C": 1, "D": 1}, "arpa_by_tier": {"B": 1, "D": 2}}
    full = {"share_by_tier": {"A": 0.1, "B": 0.2, "C": 0.3, "D": 0.4}}
    path = file_of(tmp_path, line(metrics=metrics), line(2, metrics=full))
    found = import_jsonl(path, tmp_path / "journal")
    start = record_of(tmp_path / "journal", found.runs[0], "start")
    assert start["tiers"] == ["A", "B", "C", "D"]


# Where a run begins


def two(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> int:
    """Return how many runs two lines make."""
    path = file_of(tmp_path, first, second)
    return len(import_jsonl(path, tmp_path / "journal").runs)


def test_lines_from_one_incumbent_are_one_run(tmp_path: Path) -> None:
    assert two(tmp_path, line(), line(7, changes=[], weights_snapshot={"logins": 3, "nps": 5})) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"metric": "tier_separation"},
        {"seed": 1},
        {"evaluation_version": 3},
        {"experiment_id": "r2/exp_00002"},
        {"baseline_value": 0.61},
        {"weights_snapshot": {"nps": 6, "logins": 4}},
        {"changes": {"nps": {"from": 4, "to": 6}}},
        {"baseline_value": 0.61, "weights_snapshot": {"nps": 6, "calls": 3}},
    ],
    ids=str,
)
def test_another_run_begins(tmp_path: Path, other: dict[str, Any]) -> None:
    assert two(tmp_path, line(), line(2, **other)) == 2


def test_a_win_is_the_next_incumbent(tmp_path: Path) -> None:
    win = line(outcome="win", variant_value=0.7)
    after = {"changes": ["logins: 3 -> 4"], "weights_snapshot": {"nps": 6, "logins": 4}}
    assert two(tmp_path, win, line(2, baseline_value=0.7000001, **after)) == 1
    assert two(tmp_path, win, line(2, baseline_value=0.6, **after)) == 2


def test_other_names_within_a_run_are_an_error(tmp_path: Path) -> None:
    other = line(2, weights_snapshot={"nps": 6, "logins": 3, "calls": 1})
    with pytest.raises(JournalError, match=r'line 2: weights_snapshot has .* got \["calls"\]'):
        two(tmp_path, line(), other)


@pytest.mark.parametrize(
    ("metric", "before", "after", "higher"),
    [
        ("auc_roc_retain", 0.6, 0.7, True),
        ("contraction_rate_by_tier.A", 0.6, 0.5, False),
        ("our_own_score", 0.6, 0.5, False),
        ("our_own_score", 0.6, 0.7, True),
    ],
)
def test_which_way_is_better(
    tmp_path: Path, metric: str, before: float, after: float, higher: bool
) -> None:
    won = line(metric=metric, outcome="win", baseline_value=before, variant_value=after)
    found = import_jsonl(file_of(tmp_path, won), tmp_path / "journal")
    start = record_of(tmp_path / "journal", found.runs[0], "start")
    assert start["higher_is_better"] is higher


# What is refused


def refused(tmp_path: Path, *lines: object) -> list[str]:
    with pytest.raises(JournalError) as caught:
        import_jsonl(file_of(tmp_path, *lines), tmp_path / "journal")
    assert not (tmp_path / "journal").exists()
    problems: list[str] = caught.value.facts["problems"]  # type: ignore[assignment] # facts are objects
    assert all(problem in caught.value.message for problem in problems)
    assert 'old.jsonl": nothing was imported' in caught.value.message
    return problems


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"metric": "left out"}, 'lacks "metric"'),
        (
            {"changes": "left out", "metrics": "left out", "outcome": "left out"},
            'lacks "outcome", "changes", "metrics"',
        ),
        ({"metric": 5}, "metric must be text, got 5"),
        ({"experiment_id": ""}, 'experiment_id must be text, got ""'),
        ({"outcome": "blocked"}, 'outcome must be "win" or "lose", got "blocked"'),
        ({"outcome": ["win"]}, 'outcome must be "win" or "lose", got ["win"]'),
        ({"outcome": "win", "variant_value": None}, "a win needs a variant_value, got null"),
        (
            {"outcome": "win"},
            "outcome is win, but variant_value is no better, got 0.5",
        ),
        (
            {"outcome": "win", "variant_value": 0.6},
            "outcome is win, but variant_value is no better, got 0.6",
        ),
        ({"baseline_value": None}, "baseline_value must be a number, got null"),
        ({"baseline_value": float("nan")}, "baseline_value must be a number, got NaN"),
        ({"baseline_value": "0.6"}, 'baseline_value must be a number or null, got "0.6"'),
        ({"variant_value": True}, "variant_value must be a number or null, got true"),
        (
            {"weights_snapshot": {"nps": 6, "logins": 3.5}},
            "weights must be whole numbers, at most 1,000,000 either way, got 3.5",
        ),
        (
            {"weights_snapshot": {"nps": 6, "logins": 10**7}},
            "weights must be whole numbers, at most 1,000,000 either way, got 10000000",
        ),
        (
            {"weights_snapshot": {"nps": 6, "logins": True}},
            "weights must be whole numbers, at most 1,000,000 either way, got true",
        ),
        (
            {"weights_snapshot": {}},
            "weights_snapshot must be an object from name to weight, got {}",
        ),
        (
            {"weights_snapshot": [6, 3]},
            "weights_snapshot must be an object from name to weight, got [6, 3]",
        ),
        ({"changes": {"nps": [5, 7]}}, 'changes and weights_snapshot disagree, got "nps"'),
        ({"changes": ["visits: 1 -> 2"]}, 'changes and weights_snapshot disagree, got "visits"'),
        ({"changes": ["nps up"]}, 'changes are a list like ["nps: 5 -> 12"], or'),
        ({"changes": {"nps": {"from": 5, "until": 6}}}, "changes are a list like"),
        ({"changes": {"nps": [5, 6, 7]}}, "changes are a list like"),
        ({"changes": None}, "changes are a list like"),
        (
            {"changes": {"nps": [5.5, 6]}},
            "weights in changes must be whole numbers, at most 1,000,000 either way, got 5.5",
        ),
        ({"metrics": []}, "metrics must be an object from name to value, got []"),
        (
            {"metrics": {"auc_roc_retain": "0.6"}},
            'metrics.auc_roc_retain must be a number or null, got "0.6"',
        ),
        (
            {"metrics": {"nrr_by_tier": 0.9}},
            "metrics.nrr_by_tier must be an object from tier to value, got 0.9",
        ),
        (
            {"metrics": {"nrr_by_tier": {"A": "1"}}},
            'metrics.nrr_by_tier must be a number or null, got "1"',
        ),
        ({"metrics": {"n_scored": 5.5}}, "metrics.n_scored must be a count, got 5.5"),
        (
            {"metrics": {"accounts_by_tier": {"A": -1}}},
            "metrics.accounts_by_tier must be a count, got -1",
        ),
        (
            {"timestamp": "yesterday"},
            'timestamp must be a time as ISO 8601 writes it, got "yesterday"',
        ),
        ({"timestamp": 1767600000}, "timestamp must be a time as ISO 8601 writes it"),
        ({"timestamp": "0001-01-01T00:00:00+05:00"}, "timestamp must be a time"),
        ({"hypothesis": ["x"]}, 'hypothesis must be text, got ["x"]'),
        ({"duration_ms": -1}, "duration_ms must be 0 or more, got -1.0"),
        ({"duration_ms": "3 ms"}, 'duration_ms must be a number or null, got "3 ms"'),
    ],
    ids=str,
)
def test_a_line_that_can_t_be(tmp_path: Path, other: dict[str, Any], said: str) -> None:
    [problem] = refused(tmp_path, line(**other), line(2))
    assert problem.startswith(f"line 1: {said}")


def test_lines_that_are_no_json(tmp_path: Path) -> None:
    deep = "[" * 100_000
    problems = refused(tmp_path, line(), "{'single': 1}", "[1]", deep, '{"half": ')
    assert problems[0].startswith("line 2: not JSON: Expecting property name")
    assert "line 3: each line must be one JSON object, got [1]" in problems
    assert any(problem.startswith("line 4: not JSON") for problem in problems)
    assert any(problem.startswith("line 5: not JSON") for problem in problems)


def test_all_problems_are_said_at_once_with_their_lines(tmp_path: Path) -> None:
    wrong = [line(n, outcome="maybe", metric=None) for n in range(2, 10)]
    problems = refused(tmp_path, line(), *wrong, line(10, duration_ms="x"), "{")
    assert problems == [
        'lines 2, 3, 4, 5, 6 and 3 more: outcome must be "win" or "lose", got "maybe"',
        "lines 2, 3, 4, 5, 6 and 3 more: metric must be text, got null",
        'line 10: duration_ms must be a number or null, got "x"',
        "line 11: not JSON: Expecting property name enclosed in double quotes",
    ]


def test_a_line_that_stands_twice_is_no_second_experiment(tmp_path: Path) -> None:
    """A file that was put together twice counted its experiments twice, as runs of their own."""
    moments = ("2026-01-05T09:00:00Z", "2026-01-05T09:00:01Z")
    first, second = (line(n, timestamp=moment) for n, moment in enumerate(moments, start=1))
    problems = refused(tmp_path, first, second, first, second)
    assert problems == ["lines 3, 4: the same experiment stands before it, equal in every key"]
    # Two runs of one seed that don't say when they were made.
    without = line(timestamp=None)
    assert two(tmp_path, without, without) == 1


def test_files_that_are_none(tmp_path: Path) -> None:
    assert refused(tmp_path, "", "  ") == ["it is empty"]
    (tmp_path / "old.jsonl").write_bytes(b'{"a": "\xe4"}\n')
    with pytest.raises(JournalError, match="line 1: not UTF-8 text"):
        import_jsonl(tmp_path / "old.jsonl", tmp_path / "journal")
    with pytest.raises(JournalError, match="No such file"):
        import_jsonl(tmp_path / "none.jsonl", tmp_path / "journal")


def test_a_mark_and_windows_line_ends_don_t_matter(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    path.write_bytes(("\ufeff" + json.dumps(line()) + "\r\n\r\n").encode())
    assert import_jsonl(path, tmp_path / "journal").experiments == 1


# A journal that holds imported runs


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, normal: Path) -> Path:
    """The normal journal, with a file brought in."""
    folder = tmp_path_factory.mktemp("mixed")
    with Journal(normal) as opened:
        (folder / "out.jsonl").write_text("\n".join(export_jsonl(opened)), encoding="utf-8")
    shutil.copytree(normal, folder / "journal")
    before = verify(folder / "journal").digest
    (folder / "digest").write_text(before, encoding="ascii")
    import_jsonl(file_of(folder, TEXT.removesuffix("\n")), folder / "journal")
    return folder / "journal"


@pytest.fixture(scope="module")
def opened(mixed: Path) -> Iterator[Journal]:
    with Journal(mixed) as journal:
        yield journal


def test_verify_finds_it_sound_and_an_earlier_digest_holds(mixed: Path) -> None:
    before = (mixed.parent / "digest").read_text("ascii")
    found = verify(mixed, against=before)
    assert found.findings == ()
    assert found.against_holds
    assert found.runs == 4
    assert found.digest != before


def test_the_latest_run_is_the_latest_that_was_made(mixed: Path, normal: Path) -> None:
    with Journal(mixed) as opened:
        assert opened.run_id() == run_ids(normal)[-1]


@pytest.mark.parametrize("name", [n for n in library() if not n.startswith("metrics/")])
def test_every_query_takes_imported_runs(opened: Journal, mixed: Path, name: str) -> None:
    ids = run_ids(mixed)
    known = {parameter.name for parameter in library()[name].parameters}
    # One with metrics and tiers, one with none.
    for run in (ids[0], ids[1]):
        given = {"run": run, "other": ids[-1]}
        rows = opened.sql(name, **{key: given[key] for key in known & given.keys()})
        if name.startswith("checks/"):
            assert rows.is_empty(), name


def test_an_imported_run_can_be_reviewed(mixed: Path) -> None:
    run = run_ids(mixed)[0]
    with Journal(mixed) as opened:
        found = review.review(opened, run)
    assert found.summary["state"] == "imported"
    assert found.summary["experiments"] == 3
    assert found.verdict[0] == (
        "auc_roc_retain rose from 0.6312 to 0.6610 (+0.0298) in 3 experiments, 2 of them kept."
    )
    assert [win["changes"] for win in found.wins] == [
        "alert_created: 5 -> 12, session_depth: 5 -> 3",
        "alert_created: 12 -> 14",
    ]
    assert found.emptied == []


def test_an_imported_run_compares_with_no_normal_one(mixed: Path) -> None:
    ids = run_ids(mixed)
    with Journal(mixed) as opened:
        for pair in ((ids[0], ids[-1]), (ids[-1], ids[0])):
            with pytest.raises(NotComparableError, match="tables"):
                review.compare(opened, *pair)


# Going


@pytest.mark.slow
def test_export_says_what_the_parts_hold(normal: Path) -> None:
    for place, run in enumerate(run_ids(normal)):
        rows = told(normal, run)
        entries = exported(normal, run)
        assert len(entries) == len(rows) == 40
        for entry, row in zip(entries, rows, strict=True):
            assert list(entry) == [
                "experiment_id",
                "metric",
                "baseline_value",
                "variant_value",
                "outcome",
                "changes",
                "weights_snapshot",
                "metrics",
                "timestamp",
                "hypothesis",
                "duration_ms",
                "seed",
                "evaluation_version",
                "basis",
            ]
            start = record_of(normal, run, "start")
            assert entry["seed"] == start["seed"] == place
            assert entry["evaluation_version"] == str(start["evaluator_version"])
            assert entry["basis"] == row["basis"]
            assert entry["experiment_id"] == row["experiment_id"]
            assert entry["metric"] == row["objective"]
            assert (entry["baseline_value"], entry["variant_value"]) == (
                row["value_before"],
                row["value_after"],
            )
            assert entry["outcome"] == ("win" if row["outcome"] == "win" else "lose")
            assert entry["changes"] == [
                f"{name}: {step['before']} -> {step['after']}" for name, step in row["changes"]
            ]
            assert entry["weights_snapshot"] == dict(row["weights"])
            values = {k: dict(row[k]) if m.by_tier else row[k] for k, m in all_metrics().items()}
            for key in [key for key, metric in all_metrics().items() if metric.by_tier]:
                values[key] = {k: v for k, v in values[key].items() if v is not None}
            assert entry["metrics"] == {k: v for k, v in values.items() if v is not None}
            assert datetime.fromisoformat(entry["timestamp"]) == row["evaluated_at"]
            assert entry["timestamp"].endswith("+00:00")
            assert entry["duration_ms"] == row["duration_us"] / 1000
        said = entries[0]["hypothesis"]
        assert said == "first" if place == 0 else said.startswith(("raise ", "lower "))


def test_all_runs_come_in_order_under_ids_of_their_own(normal: Path) -> None:
    ids = run_ids(normal)
    entries = exported(normal)
    names = [entry["experiment_id"] for entry in entries]
    assert names == [f"{run}/{row['experiment_id']}" for run in ids for row in told(normal, run)]
    assert len(set(names)) == 80


def test_blocked_counts_as_lose_and_known_is_left_out(normal: Path, tmp_path: Path) -> None:
    run = run_ids(normal)[0]
    rows = RunFiles(normal, run).rows().to_pylist()
    rows[2].update(outcome="blocked", note="because")
    rows[3].update(outcome="known")
    table = pa.Table.from_pylist(rows, schema=RunFiles(normal, run).rows().schema)
    with RunWriter(tmp_path / "journal", run) as made:
        made.append(table.slice(0, 1))
        made.record("start", RunFiles(normal, run).record("start") | {"note": "asked for"})
        made.append(table.slice(1))
        made.flush()
    entries = {entry["experiment_id"]: entry for entry in exported(tmp_path / "journal", run)}
    assert len(entries) == len(told(normal, run)) - 1 == 39
    assert entries["exp_00002"]["outcome"] == "lose"
    assert entries["exp_00002"]["hypothesis"] == "because"
    assert entries["exp_00001"]["hypothesis"] == "asked for"
    assert "exp_00000" not in entries
    assert "exp_00003" not in entries


def test_export_of_no_such_run_fails_at_once(normal: Path) -> None:
    with Journal(normal) as opened, pytest.raises(RunNotFoundError):
        export_jsonl(opened, "r1999")


def test_export_reads_as_it_is_asked(normal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    class Spy(pq.ParquetFile):  # type: ignore[misc] # pyarrow has no types
        def __init__(self, source: Any, **options: Any) -> None:
            # Answers about the journal read files that are in memory already.
            if isinstance(source, Path):
                opened.append(source.name)
            super().__init__(source, **options)

    monkeypatch.setattr("gtmar.integrations.jsonl_format.pq.ParquetFile", Spy)
    with Journal(normal) as journal:
        lines = export_jsonl(journal)
        assert opened == []
        next(lines)
        assert opened == ["part-000001.parquet", "part-000002.parquet"]
        list(lines)
    assert len(opened) > 8


def test_export_goes_on_where_parts_are_packed_meanwhile(
    normal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_BATCH", 4)
    shutil.copytree(normal, tmp_path / "journal")
    run = run_ids(normal)[0]
    files = RunFiles(tmp_path / "journal", run)
    rows = files.rows()
    expected = exported(normal, run)
    with Journal(tmp_path / "journal") as opened:
        lines = export_jsonl(opened, run)
        first = list(islice(lines, 6))
        for part in files.parts[1:]:
            part.unlink()
        pq.write_table(rows, files.parts[0])
        rest = list(lines)
    assert [json.loads(text) for text in first + rest] == expected


def test_export_of_a_damaged_part_says_so(normal: Path, tmp_path: Path) -> None:
    shutil.copytree(normal, tmp_path / "journal")
    run = run_ids(normal)[0]
    part = RunFiles(tmp_path / "journal", run).parts[2]
    content = part.read_bytes()
    part.write_bytes(content[:4] + bytes(60) + content[64:])
    with (
        Journal(tmp_path / "journal") as opened,
        pytest.warns(DamagedJournalWarning, match=r"part-000003\.parquet"),
        pytest.raises(JournalError, match=f"run {run} is damaged"),
    ):
        export_jsonl(opened, run)


# There and back


def strict(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry as JSON without NaN has it."""
    plain: dict[str, Any] = json.loads(json.dumps(entry), parse_constant=lambda _: None)
    return plain


@pytest.mark.slow
def test_an_imported_file_comes_out_as_it_came_in(
    imported: exchange.Imported, tmp_path: Path
) -> None:
    out = exported(tmp_path / "journal")
    runs_of = [*[imported.runs[0]] * 3, imported.runs[1]]
    for entry, old, run in zip(out, LINES, runs_of, strict=True):
        assert list(entry) == list(old)
        assert entry == strict(old) | {"experiment_id": f"{run}/{old['experiment_id']}"}
    assert exported(tmp_path / "journal", imported.runs[1]) == [strict(LINES[3])]
    again = import_jsonl(file_of(tmp_path, *out, name="again.jsonl"), tmp_path / "elsewhere")
    assert exported(tmp_path / "elsewhere") == out
    starts = [record_of(tmp_path / "elsewhere", run, "start") for run in again.runs]
    assert [start["seed"] for start in starts] == [42, 7]
    assert [dict(s["parameters"])["evaluation_version"] for s in starts] == ["2", "2"]


_VALUES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.floats()
_ANY = st.recursive(_VALUES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v))
_NUMBER = st.none() | st.floats(allow_nan=True, allow_infinity=True)
_METRICS = st.fixed_dictionaries(
    {},
    optional={
        "auc_roc_retain": _NUMBER,
        "score_std": _NUMBER,
        "pct_A_tier": _NUMBER,
        "n_scored": st.none() | st.integers(0, 2**50),
        "nrr_by_tier": st.dictionaries(st.sampled_from("ABC"), _NUMBER),
        "revenue_weighted_retention": _NUMBER | st.dictionaries(st.sampled_from("AB"), _NUMBER),
        "of their own": _ANY,
    },
)
_ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"metrics": st.none() | _METRICS, "variant_value": _NUMBER},
        optional={
            "seed": st.none() | st.integers(0, 2**62) | st.text(max_size=3),
            "evaluation_version": st.none() | st.integers(0, 9) | st.sampled_from(["1", "2.1"]),
            "basis": st.sampled_from(["binary", "observed", None]),
            "hypothesis": st.none() | st.text(),
            "duration_ms": st.none() | st.floats(0, 1e9),
            "timestamp": st.sampled_from([None, "2026-01-05T09:00:01", "2026-01-05T09:00:00Z"]),
            "of their own": _ANY,
        },
    ),
    min_size=1,
    max_size=4,
)


def forms(entries: list[dict[str, Any]], form: str) -> str:
    """Write entries in one of the forms that a file may have."""
    indent = None if form.endswith("in a line") else 2
    if form.startswith("list"):
        return json.dumps(entries, indent=indent)
    return "\n".join(json.dumps(entry, indent=indent) for entry in entries)


_FORMS = ("objects in a line", "objects over lines", "list in a line", "list over lines")


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(drawn=_ENTRIES, form=st.sampled_from(_FORMS))
def test_any_entries_come_out_as_they_came_in(drawn: list[dict[str, Any]], form: str) -> None:
    entries = [line(n) | {"experiment_id": f"r/{n}"} | each for n, each in enumerate(drawn, 1)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "old.json").write_text(forms(entries, form), encoding="utf-8")
        found = import_jsonl(folder / "old.json", folder / "journal")
        assert found.experiments == len(entries)
        out = exported(folder / "journal")
        # Runs come out in the order of their starts.
        expected = sorted(json.dumps(strict(entry)) for entry in entries)
        assert sorted(map(json.dumps, out)) == expected
        import_jsonl(file_of(folder, *out), folder / "again")
        assert sorted(map(json.dumps, exported(folder / "again"))) == expected


@pytest.mark.parametrize("form", _FORMS)
def test_a_file_may_be_a_list_or_pretty_printed(tmp_path: Path, form: str) -> None:
    (tmp_path / "old.json").write_text("\ufeff" + forms(LINES, form) + "\n\n", encoding="utf-8")
    found = import_jsonl(tmp_path / "old.json", tmp_path / "journal")
    assert (found.experiments, found.wins, len(found.runs)) == (4, 2, 2)
    got = [entry["weights_snapshot"] for entry in exported(tmp_path / "journal")]
    assert got == [entry["weights_snapshot"] for entry in LINES]


@pytest.mark.slow
def test_faults_of_a_pretty_printed_file_have_their_lines(tmp_path: Path) -> None:
    sound = json.dumps(line(), indent=2)
    wrong = json.dumps(line(2, outcome="maybe"), indent=2)
    broken = json.dumps(line(3), indent=2).replace('"lose",', '"lose"')
    height, where = sound.count("\n") + 1, broken.split("\n").index('  "outcome": "lose"') + 2
    assert refused(tmp_path, sound, wrong, broken, line(4, metric=5)) == [
        f'line {height + 1}: outcome must be "win" or "lose", got "maybe"',
        f"line {2 * height + where}: not JSON: Expecting ',' delimiter",
        f"line {3 * height + 1}: metric must be text, got 5",
    ]
    cut = json.dumps([line(), line(2)], indent=2)
    problems = refused(tmp_path, cut.removesuffix("\n]"))
    assert problems == ["line 1: the list that begins here doesn't end; is the file cut off?"]
    problems = refused(tmp_path, "[" + json.dumps(line()) + ", 5]")
    assert problems[0].startswith("line 1: ")
    assert refused(tmp_path, "[]") == ["it is empty"]
    assert refused(tmp_path, json.dumps(line(note="[" * 9)).replace("[[[", "[" * 2**22)) == [
        f"line 1: an object larger than {2**22:,} characters"
    ]


def test_what_is_null_is_left_out(normal: Path, tmp_path: Path) -> None:
    run = run_ids(normal)[0]
    rows = RunFiles(normal, run).rows().to_pylist()
    rows[1].update(value_after=None, auc_roc_retain=None, arpa_by_tier=[("A", None), ("B", 2.0)])
    rows[1].update(evaluated_at=None, duration_us=None, basis=None)
    schema = RunFiles(normal, run).rows().schema
    with RunWriter(tmp_path / "journal", run) as made:
        made.append(pa.Table.from_pylist(rows[:2], schema=schema))
        made.record("start", RunFiles(normal, run).record("start") | {"seed": None})
        made.flush()
    [entry] = exported(tmp_path / "journal", run)
    assert {key for key, value in entry.items() if value is None} == {"variant_value"}
    assert not {"timestamp", "duration_ms", "seed", "basis"} & entry.keys()
    assert "auc_roc_retain" not in entry["metrics"]
    assert entry["metrics"]["arpa_by_tier"] == {"B": 2.0}
    assert None not in entry["metrics"].values()


@pytest.mark.slow
def test_binary_nrr_of_an_earlier_tool_is_shown_and_marked(tmp_path: Path) -> None:
    metric = "revenue_weighted_retention"
    of_all = line(variant_value=0.7, outcome="win", metrics={metric: 0.83125})
    by_tier = of_all | {"metrics": {metric: {"A": 0.75, "B": 0.5, "C": None}}}
    journal = tmp_path / "journal"
    runs_made = [
        import_jsonl(file_of(tmp_path, each, name=f"{n}.jsonl"), journal).runs[0]
        for n, each in enumerate((of_all, by_tier, of_all | {"metrics": {"grr_by_tier": {}}}))
    ]
    with Journal(journal) as opened:
        one, two, three = (review.review(opened, run) for run in runs_made)
    assert one.summary[metric] == 0.83125
    assert one.retention_reading == (
        "NRR of all accounts (binary), as imported: 83.1% at the best."
    )
    best = [row for row in two.tiers if row["stage"] == "best"]
    assert [(row["tier"], row["nrr"], row["basis"]) for row in best] == [
        ("A", 0.75, "binary"),
        ("B", 0.5, "binary"),
        ("C", None, "binary"),
    ]
    assert (two.summary["basis"], two.retention_reading) == ("binary", None)
    assert (three.summary["basis"], three.summary[metric]) == (None, None)
    # The file's own NRR is not replaced, and what it says is observed is not called binary.
    own = by_tier["metrics"] | {"nrr_by_tier": {"A": 1.1}}
    for number, other in enumerate(({"metrics": own}, {"basis": "observed"})):
        path = file_of(tmp_path, by_tier | other, name=f"own{number}.jsonl")
        row = rows_of(journal, import_jsonl(path, journal).runs[0])[1]
        assert dict(row["nrr_by_tier"] or ()).get("A") == (None if number else 1.1)
        assert row["basis"] == (None, "observed")[number]


@pytest.mark.slow
def test_our_own_experiments_come_back_as_they_went(normal: Path, tmp_path: Path) -> None:
    before = exported(normal)
    path = file_of(tmp_path, *before)
    found = import_jsonl(path, tmp_path / "journal")
    assert len(found.runs) == 2
    assert found.ignored == {}
    after = exported(tmp_path / "journal")
    assert after == before
    for old, new in zip(run_ids(normal), found.runs, strict=True):
        then, now = record_of(normal, old, "end"), record_of(tmp_path / "journal", new, "end")
        for key in ("experiments", "wins", "baseline_value", "best_value"):
            assert now[key] == then[key]
        start, begun = rows_of(normal, old)[0], rows_of(tmp_path / "journal", new)[0]
        assert begun["weights"] == start["weights"]
