"""Each check gives no row on a sound journal, and says so where one is broken for it."""

import json
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ledgers import Ledger, Row
from sql_files import files_of

from gtmar.integrations.jsonl_format import export_jsonl
from gtmar.integrations.jsonl_import import import_jsonl
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event

CHECKS = files_of("checks")

Change = Callable[[list[Row]], object]


@pytest.mark.slow
def test_a_sound_journal_has_nothing_to_find(ledger: Ledger) -> None:
    for name in CHECKS:
        assert ledger.ask(name) == [], name


@pytest.mark.slow
def test_an_import_has_nothing_to_find(ledger: Ledger, tmp_path: Path) -> None:
    with Journal(ledger.folder) as journal:
        lines = [
            *export_jsonl(journal, ledger.ids["first"]),
            *export_jsonl(journal, ledger.ids["less"]),
        ]
    for number, line in enumerate(lines):
        lines[number] = json.dumps({**json.loads(line), "experiment_id": f"exp_{number:05d}"})
    file = tmp_path / "others.jsonl"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    import_jsonl(file, tmp_path / "journal")
    made = Ledger(tmp_path / "journal")
    assert sum(map(len, made.experiments.values())) > 100
    for name in CHECKS:
        assert made.ask(name) == [], name


@pytest.mark.slow
def test_a_journal_of_events_alone_has_nothing_to_find(tmp_path: Path) -> None:
    write_event(tmp_path, EventKind.COMPACTION)
    for name in CHECKS:
        assert Ledger(tmp_path).ask(name) == [], name


# ---- broken ones ----------------------------------------------------------------------------


class Broken:
    """A copy of some runs, to be broken."""

    def __init__(self, ledger: Ledger, folder: Path, names: Iterable[str]) -> None:
        self.folder, self.ids = folder, ledger.ids
        for name in names:
            for kind in ("runs", "experiments"):
                place = f"{kind}/run_id={ledger.ids[name]}"
                shutil.copytree(ledger.folder / place, folder / place)

    def rows(self, name: str, change: Change) -> None:
        """Change the rows of a run, and write them anew as one part."""
        parts = sorted((self.folder / "experiments" / f"run_id={self.ids[name]}").iterdir())
        table = pa.concat_tables(pq.ParquetFile(part).read() for part in parts)
        rows = table.to_pylist()
        change(rows)
        for part in parts:
            part.unlink()
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), parts[0])

    def record(
        self, name: str, record: str, /, *, copied_to: str | None = None, **fields: Any
    ) -> None:
        """Change a record of a run, or write it under another name."""
        path = self.folder / "runs" / f"run_id={self.ids[name]}" / f"{record}.parquet"
        table = pq.ParquetFile(path).read()
        [row] = table.to_pylist()
        made = pa.Table.from_pylist([{**row, **fields}], schema=table.schema)
        pq.write_table(made, path.with_name(f"{copied_to or record}.parquet"))

    def found(self, check: str) -> list[Row]:
        """What a check finds now."""
        return Ledger(self.folder).ask(f"checks/{check}")


@pytest.fixture
def broken(ledger: Ledger, tmp_path: Path) -> Broken:
    return Broken(ledger, tmp_path / "journal", ["first", "warm"])


def at(outcome: str, rows: list[Row], nth: int = 0) -> Row:
    return [row for row in rows if row["outcome"] == outcome][nth]


def setting(outcome: str, nth: int = 0, /, **fields: Any) -> Change:
    """Set fields of the nth row with an outcome."""
    return lambda rows: at(outcome, rows, nth).update(fields)


@pytest.mark.slow
def test_the_copy_is_sound_before_it_is_broken(broken: Broken) -> None:
    broken.rows("first", lambda rows: None)
    broken.rows("warm", lambda rows: None)
    broken.record("first", "start")
    for name in CHECKS:
        assert broken.found(name.partition("/")[2]) == [], name


def test_a_hole_in_the_sequence(broken: Broken) -> None:
    broken.rows("first", lambda rows: rows.pop(30))
    first, *_ = broken.found("sequence")
    assert (first["number"], first["expected"]) == (31, 30)


def test_a_row_that_stands_twice(broken: Broken) -> None:
    broken.rows("first", lambda rows: rows.append(rows[7]))
    first, *_ = broken.found("sequence")
    assert (first["experiment_id"], first["expected"]) == ("exp_00007", 8)


def test_an_id_that_is_not_its_numbers(broken: Broken) -> None:
    broken.rows("first", lambda rows: rows[7].update(experiment_id="exp_00123"))
    [row] = broken.found("sequence")
    assert (row["experiment_id"], row["number"], row["expected"]) == ("exp_00123", 7, 7)


def test_a_missing_baseline(broken: Broken) -> None:
    broken.rows("first", lambda rows: rows.pop(0))
    assert broken.found("sequence")[0]["number"] == 1


@pytest.mark.parametrize("parent", ["exp_00000", "exp_00999", None])
def test_another_parent(broken: Broken, parent: str | None) -> None:
    broken.rows("first", lambda rows: rows[-1].update(parent=parent))
    [row] = broken.found("parents")
    assert row["parent"] == parent
    assert row["expected"] not in ("exp_00000", None)


def test_a_baseline_with_a_parent(broken: Broken) -> None:
    broken.rows("first", lambda rows: rows[0].update(parent="exp_00001"))
    [row] = broken.found("parents")
    assert (row["experiment_id"], row["expected"]) == ("exp_00000", None)


def test_a_win_that_nobody_followed(broken: Broken) -> None:
    broken.rows("first", setting("lose", 3, outcome="win"))
    assert broken.found("parents")


def test_another_value_before(broken: Broken) -> None:
    broken.rows("first", lambda rows: rows[9].update(value_before=0.5))
    [row] = broken.found("incumbents")
    assert (row["experiment_id"], row["value_before"]) == ("exp_00009", 0.5)


def test_another_value_of_an_incumbent(broken: Broken) -> None:
    broken.rows("first", setting("win", 3, value_after=0.7))
    assert {row["expected"] for row in broken.found("incumbents")} == {0.7}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (setting("win", 2, value_after=0.1), "not better than the incumbent"),
        (setting("win", 2, value_after=None), "not better than the incumbent"),
        (setting("win", 2, breaches=["share_by_tier.A 0.01 < min 0.05"]), "broke a guardrail"),
        (setting("lose", 2, value_after=0.99), "better than the incumbent"),
        (setting("lose", 2, value_before=None), "better than the incumbent"),
        (setting("lose", 2, outcome="blocked"), "not better than the incumbent"),
        (setting("win", 2, outcome="blocked"), "no guardrail is named"),
        (setting("lose", 2, outcome="baseline"), "a baseline is number 0"),
        (setting("baseline", outcome="win"), "a baseline is number 0"),
        (setting("lose", 2, outcome="tie"), "no outcome"),
        (setting("known", value_after=0.99), "better, and not evaluated"),
        (setting("known", repeats=None), "nothing says where it is known from"),
    ],
    ids=map(str, count()),
)
def test_an_outcome_that_is_not_what_the_values_say(
    broken: Broken, change: Change, problem: str
) -> None:
    broken.rows("warm", change)
    [row] = broken.found("outcomes")
    assert problem in row["problem"]


def test_less_is_better_where_the_run_says_so(ledger: Ledger, tmp_path: Path) -> None:
    broken = Broken(ledger, tmp_path / "journal", ["less"])
    assert broken.found("outcomes") == []
    broken.record("less", "start", higher_is_better=True)
    assert {row["outcome"] for row in broken.found("outcomes")} >= {"win"}


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update(
            weights=[(k, w + (k == "nps")) for k, w in row["weights"]][::-1][:-1]
        ),
        lambda row: row.update(weights=[(k, w + 1) for k, w in row["weights"]]),
        lambda row: row.update(changes=[]),
        lambda row: row.update(changes=[(k, {**c, "before": 99}) for k, c in row["changes"]]),
        lambda row: row.update(changes=[(k, {**c, "after": 99}) for k, c in row["changes"]]),
        lambda row: row.update(changes=[*row["changes"], ("x", {"before": 1, "after": 2})]),
    ],
    ids=map(str, count()),
)
def test_weights_that_do_not_follow(broken: Broken, change: Callable[[Row], None]) -> None:
    broken.rows("first", lambda rows: change(at("lose", rows, 4)))
    [row] = broken.found("changes")
    assert row["changes"] != row["expected"]


def test_weights_of_a_baseline_that_says_it_changed_some(broken: Broken) -> None:
    changes = [("alert_created", {"before": 1, "after": 5})]
    broken.rows("first", lambda rows: rows[0].update(changes=changes))
    [row] = broken.found("changes")
    assert (row["experiment_id"], row["changes"]) == ("exp_00000", "alert_created: 1 -> 5")
    assert row["expected"] == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("experiments", 59),
        ("wins", 1),
        ("proposals", 59),
        ("baseline_value", 0.5),
        ("best_value", 0.9),
        ("best_experiment", "exp_00001"),
    ],
)
def test_an_end_that_says_otherwise(broken: Broken, field: str, value: Any) -> None:
    broken.record("first", "end", **{field: value})
    [row] = broken.found("ends")
    assert (row["field"], row["stated"]) == (field, str(value))


def test_rows_that_are_missing_at_the_end(broken: Broken, ledger: Ledger) -> None:
    best = next(
        row["number"]
        for row in ledger.rows("warm")
        if row["experiment_id"] == ledger.run("warm")["best_experiment"]
    )
    broken.rows("warm", lambda rows: rows.__delitem__(slice(best, None)))
    assert {row["field"] for row in broken.found("ends")} >= {"experiments", "best_experiment"}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("r20200101-000000-abcdef/exp_00001", "not in this journal"),
        ("{first}/exp_99999", "not in this journal"),
        ("{first}/exp_00000", "other weights there"),
        ("{own}", "not evaluated there either"),
    ],
)
def test_a_result_taken_over_from_elsewhere(
    broken: Broken, ledger: Ledger, source: str, problem: str
) -> None:
    known = next(row for row in ledger.rows("warm") if row["outcome"] == "known")
    own = f"{known['run_id']}/{known['experiment_id']}"
    repeats = source.format(first=ledger.ids["first"], own=own)
    broken.rows("warm", setting("known", repeats=repeats))
    [row] = broken.found("repeats")
    assert (row["repeats"], row["problem"]) == (repeats, problem)


def test_a_result_taken_over_with_another_value(broken: Broken) -> None:
    broken.rows("warm", setting("known", value_after=0.1))
    [row] = broken.found("repeats")
    assert row["problem"] == "another value there"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"outcomes_fingerprint": "x"}, "another table there"),
        ({"features_fingerprint": "x"}, "another table there"),
        ({"objective": "nrr_at_20"}, "another objective there"),
        ({"tiers_id": "x"}, "other tiers there"),
        ({"evaluator_version": 2}, "another evaluator there"),
        ({"started_at": datetime(2100, 1, 1, tzinfo=UTC)}, "it began later"),
    ],
)
def test_a_result_taken_over_from_a_run_that_does_not_compare(
    broken: Broken, fields: Row, problem: str
) -> None:
    broken.record("first", "start", **fields)
    assert {row["problem"] for row in broken.found("repeats")} == {problem}


NOW = datetime(2024, 1, 1, tzinfo=UTC)
LIVE: Row = {"model": "m", "spec": '{"features": {}}', "since": NOW}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        ("rumour", {}, "no such kind"),
        ("promotion", {**LIVE, "spec": None}, "what is live, or since when, is not said"),
        ("record", {**LIVE, "since": None}, "what is live, or since when, is not said"),
        ("promotion", {**LIVE, "model": None}, "what is live, or since when, is not said"),
        ("record", {**LIVE, "since": NOW + timedelta(days=40_000)}, "live before it was so"),
        ("promotion", {**LIVE, "run_id": "rx"}, "its run is not in this journal"),
        (
            "promotion",
            {**LIVE, "run_id": "{first}", "experiment_id": "exp_99999"},
            "its experiment is not in this journal",
        ),
    ],
    ids=map(str, count()),
)
def test_an_event_that_says_what_cannot_be(
    broken: Broken, kind: Any, fields: Row, problem: str
) -> None:
    fields = {k: broken.ids["first"] if v == "{first}" else v for k, v in fields.items()}
    event_id = write_event(broken.folder, kind, **fields)
    [row] = broken.found("events")
    assert (row["event_id"], row["kind"], row["problem"]) == (event_id, kind, problem)


def test_an_event_that_stands_twice(broken: Broken) -> None:
    write_event(broken.folder, EventKind.PROMOTION, **LIVE)
    [path] = (broken.folder / "events").iterdir()
    shutil.copy(path, path.with_name("event_id=ecopy.0.parquet"))
    [row] = broken.found("events")
    assert row["problem"] == "its id stands twice"


@pytest.mark.parametrize(
    "fields", [{"value_after": 0.123}, {"auc_roc_retain": 0.5}, {"objective": "nrr_at_20"}]
)
def test_a_value_that_is_not_the_objectives(broken: Broken, fields: Row) -> None:
    broken.rows("first", setting("lose", 5, **fields))
    [row] = broken.found("objectives")
    for key, value in fields.items():
        assert value in (row.get(key), row["expected"])


def test_the_value_of_an_objective_by_tier(ledger: Ledger, tmp_path: Path) -> None:
    broken = Broken(ledger, tmp_path / "journal", ["less"])
    assert broken.found("objectives") == []
    broken.rows("less", setting("lose", contraction_rate_by_tier=[("A", 0.1), ("B", 0.2)]))
    [row] = broken.found("objectives")
    assert (row["objective"], row["expected"]) == ("contraction_rate_by_tier.B", 0.2)


def in_tier(metric: str, tier: str, value: float) -> Change:
    def change(rows: list[Row]) -> None:
        row = at("win", rows, 1)
        row[metric] = [(name, value if name == tier else v) for name, v in row[metric]]

    return change


@pytest.mark.parametrize(
    ("change", "identity"),
    [
        (setting("win", 1, auc_roc_churn=0.25), "auc_roc_retain = auc_roc_churn"),
        (in_tier("share_by_tier", "A", 0.9), "shares of tiers add up to 1"),
        (in_tier("share_by_tier", "A", 0.9), "share = accounts / scored in tier A"),
        (in_tier("accounts_by_tier", "B", 7), "accounts of tiers add up to scored"),
        (setting("win", 1, revenue_capture_lift=9.0), "0.2 * revenue_capture_lift"),
        (setting("win", 1, revenue_capture_ceiling=0.01), "<= revenue_capture_ceiling"),
        (setting("win", 1, hhi_normalised=0.999), "concentration from even to 1"),
        (in_tier("expansion_rate_by_tier", "C", 0.7), "nrr - grr = expansion in tier C"),
        (setting("win", 1, auc_roc_churn=float("nan")), "auc_roc_retain = auc_roc_churn"),
        (setting("win", 1, hhi_normalised=float("inf")), "concentration from even to 1"),
    ],
    ids=map(str, count()),
)
def test_metrics_that_do_not_agree(broken: Broken, change: Change, identity: str) -> None:
    broken.rows("first", change)
    found = broken.found("identities")
    assert any(identity in row["identity"] for row in found)
    assert len({row["experiment_id"] for row in found}) == 1


def test_records_that_do_not_belong_together(broken: Broken) -> None:
    early = datetime(2000, 1, 1, tzinfo=UTC)
    broken.record("first", "start", copied_to="resume-9")
    broken.record("warm", "end", ended_at=early)
    found = {(row["run_id"], row["problem"]) for row in broken.found("records")}
    assert found == {
        (broken.ids["first"], "a record stands twice"),
        (broken.ids["warm"], "it ended before it began"),
    }


def test_an_end_without_a_start(broken: Broken) -> None:
    (broken.folder / "runs" / f"run_id={broken.ids['first']}" / "start.parquet").unlink()
    [row] = broken.found("records")
    assert row["problem"] == "an end without a start"


def test_a_run_that_ended_without_an_experiment(broken: Broken) -> None:
    shutil.rmtree(broken.folder / "experiments" / f"run_id={broken.ids['first']}")
    [row] = broken.found("records")
    assert row["problem"] == "it ended without an experiment"


def test_a_run_of_several_objectives_and_of_no_kind(broken: Broken) -> None:
    broken.rows("first", setting("lose", objective="nrr_at_20"))
    broken.record("warm", "start", kind=None)
    found = {(row["run_id"], row["problem"]) for row in broken.found("records")}
    assert found == {
        (broken.ids["first"], "experiments of several objectives"),
        (broken.ids["warm"], "no kind"),
    }
