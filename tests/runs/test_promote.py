"""What is live is on record: since when, by whom, why, and what it took the place of."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gtmar import spec as specs
from gtmar.data.synthetic import generate
from gtmar.errors import AccountDataError, UsageError
from gtmar.journal import lookup
from gtmar.journal.catalog import Journal
from gtmar.journal.events import event_files, read_event, untouched
from gtmar.journal.files import RunFiles
from gtmar.runs import Limits, promote, record, run
from gtmar.runs.two_specs import difference

EXAMPLE = Path(__file__).parents[1] / "golden" / "fixed_edges.yaml"
SPEC = specs.load(EXAMPLE)
OTHER = specs.reweighed(SPEC, {"alert_created": 9})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "accounts.parquet"
    generate("health_score", accounts=400, seed=4).write_parquet(path)
    return path


def events(journal: Path) -> list[dict[str, Any]]:
    files = event_files(journal)
    assert all(untouched(file) for file in files)
    return sorted((read_event(file) for file in files), key=lambda row: row["at"])


@pytest.mark.slow
def test_a_promotion_says_who_why_what_and_what_is_expected(table: Path, tmp_path: Path) -> None:
    found = run(table, SPEC, limits=Limits(40), seed=3, journal=tmp_path)
    with Journal(tmp_path) as journal:
        best = lookup.checkout(journal, found.run_id)
    before = datetime.now(UTC)
    first = promote(SPEC, note="as it always was", journal=tmp_path)
    second = promote(
        best, note="measured", author="CS lead", expect="fewer surprises", journal=tmp_path
    )
    assert (first.changes, first.replaced_since) == (None, None)
    # It is what the run started from.
    assert first.experiment == f"{found.run_id}/exp_00000"
    assert second.experiment == f"{found.run_id}/{found.best_experiment}"
    assert second.replaced_since == first.since
    assert second.changes == {
        name: (SPEC.weights[name], weight)
        for name, weight in found.weights.items()
        if weight != SPEC.weights[name]
    }
    row = events(tmp_path)[1]
    assert (row["kind"], row["author"], row["note"]) == ("promotion", "CS lead", "measured")
    assert row["expect"] == "fewer surprises"
    assert (row["run_id"], row["experiment_id"]) == (found.run_id, found.best_experiment)
    assert row["spec_id"] == specs.spec_id(best)
    assert specs.parse(row["spec"]).weights == found.weights
    assert before <= row["since"] <= row["at"] + timedelta(seconds=1)


@pytest.mark.slow
def test_an_edited_file_is_not_the_experiment_in_its_lineage(table: Path, tmp_path: Path) -> None:
    found = run(table, SPEC, limits=Limits(20), seed=3, journal=tmp_path)
    with Journal(tmp_path) as journal:
        best = lookup.checkout(journal, found.run_id)
    name = next(iter(best.weights))
    edited = specs.reweighed(best, {name: best.weights[name] + 1})
    assert promote(edited, note="a little more", journal=tmp_path).experiment is None


@pytest.mark.slow
def test_scores_read_the_other_way_round_were_not_measured(table: Path, tmp_path: Path) -> None:
    """Accounts have the same scores; the values of their experiment are those of the other end."""
    found = run(table, SPEC, limits=Limits(10), seed=3, journal=tmp_path)
    with Journal(tmp_path) as journal:
        best = lookup.checkout(journal, found.run_id)
    for measured in (SPEC, best):
        turned = measured.model_copy(update={"orientation": "risk"})
        assert promote(turned, note="high is bad", journal=tmp_path).experiment is None
    between = difference(SPEC, SPEC.model_copy(update={"orientation": "risk"}), journal=tmp_path)
    assert (between.metrics, between.parts) == (None, ("orientation",))
    assert between.unmeasured is not None
    turned = OTHER.model_copy(update={"orientation": "health"})
    # Weights are not all that differs.
    assert promote(turned, note="high is good", journal=tmp_path).changes is None


@pytest.mark.slow
def test_what_is_live_already_is_not_promoted_again(tmp_path: Path) -> None:
    promote(SPEC, note="first", journal=tmp_path)
    with pytest.raises(UsageError, match="is live already, since"):
        promote(SPEC, note="again", journal=tmp_path)
    promote(OTHER, note="other", journal=tmp_path)
    promote(SPEC, note="and back", journal=tmp_path)
    assert [row["note"] for row in events(tmp_path)] == ["first", "other", "and back"]


def test_a_reason_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        promote(SPEC, note=" ", journal=tmp_path)
    assert not event_files(tmp_path)


def test_a_change_made_elsewhere_is_measured_against_what_was_live(
    table: Path, tmp_path: Path
) -> None:
    first = record(SPEC, since="2026-01-31", note="set up", author="RevOps", journal=tmp_path)
    assert (first.measured, first.replaced_since) == (None, None)
    assert first.since == datetime(2026, 1, 31, tzinfo=UTC)
    second = record(
        OTHER,
        since="2026-03-01T09:30",
        note="VP of CS",
        author="CS ops",
        data=table,
        journal=tmp_path,
    )
    assert second.measured is not None
    assert second.experiment == f"{second.measured.run_id}/exp_00001"
    rows = RunFiles(tmp_path, second.measured.run_id).rows().to_pylist()
    assert dict(rows[0]["weights"]) == SPEC.weights
    assert dict(rows[1]["weights"]) == OTHER.weights
    assert (rows[1]["author"], rows[1]["note"]) == ("CS ops", "VP of CS")
    start = RunFiles(tmp_path, second.measured.run_id).record("start")
    assert start["kind"] == "record"
    assert json.loads(json.dumps(second.as_json(), default=str))["measured"]["wins"] in (0, 1)


def test_a_first_record_is_measured_by_itself(table: Path, tmp_path: Path) -> None:
    found = record(
        SPEC, since="2026-01-31", note="set up", author="RevOps", data=table, journal=tmp_path
    )
    assert found.measured is not None
    assert found.measured.experiments == 0
    assert found.experiment == f"{found.measured.run_id}/exp_00000"


def test_what_was_live_then_is_what_counts(table: Path, tmp_path: Path) -> None:
    """A record between two others is compared with the one before it, not with the newest."""
    third = specs.reweighed(SPEC, {"alert_created": 3})
    record(SPEC, since="2026-01-01", note="one", author="RevOps", journal=tmp_path)
    record(third, since="2026-03-01", note="three", author="RevOps", journal=tmp_path)
    between = record(OTHER, since="2026-02-01", note="two", author="RevOps", journal=tmp_path)
    assert between.changes is not None
    assert between.changes["alert_created"] == (SPEC.weights["alert_created"], 9)


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "2999-01-01"])
def test_since_is_a_past_date(tmp_path: Path, since: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        record(SPEC, since=since, note="n", author="RevOps", journal=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_table_that_cant_be_read_leaves_nothing_on_record(tmp_path: Path) -> None:
    with pytest.raises(AccountDataError):
        record(
            SPEC,
            since="2026-01-01",
            note="n",
            author="RevOps",
            data=tmp_path / "none.csv",
            journal=tmp_path,
        )
    assert not list(tmp_path.iterdir())


def test_the_log_says_that_another_spec_of_the_same_weights_went_live(tmp_path: Path) -> None:
    promote(SPEC, note="first", journal=tmp_path)
    raised = SPEC.model_copy(update={"base": SPEC.base + 5})
    promote(raised, note="base", journal=tmp_path)
    with Journal(tmp_path) as journal:
        changes = {row["note"]: row["change"] for row in journal.sql_rows("log")}
    assert changes == {"first": "first on record", "base": "the same weights, but another spec"}
