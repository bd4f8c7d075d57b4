"""Queries over a journal equal what plain Python makes of its rows, and run in the shell too."""

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from journals import unchained
from ledgers import FEATURE, Ledger, Row, kept
from polars.testing import assert_frame_equal
from sql_files import files_of

from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.sql_library import library, sql_folder
from gtmar.metrics import all_metrics
from gtmar.objective.objective import better
from gtmar.spec import load, parse, to_json

ROOT = Path(__file__).parents[2]
RUNS = ["first", "second", "nothing", "warm", "better", "guarded", "less", "risks", "cut off"]

every_run = pytest.mark.parametrize("name", RUNS)


def worded(changes: dict[str, dict[str, int | None]]) -> str:
    ends = ((k, *("none" if c[e] is None else c[e] for e in c)) for k, c in changes.items())
    return ", ".join(f"{name}: {before} -> {after}" for name, before, after in ends)


def differing(one: dict[str, int], two: dict[str, int]) -> dict[str, dict[str, int | None]]:
    names = [*two, *(name for name in one if name not in two)]
    both = {name: {"before": one.get(name), "after": two.get(name)} for name in names}
    return {name: ends for name, ends in both.items() if ends["before"] != ends["after"]}


def flat(row: Row) -> dict[str, float | None]:
    """All metrics of an experiment, by tier as `nrr_by_tier.A`."""
    found: dict[str, float | None] = {}
    for key, metric in all_metrics().items():
        if metric.by_tier:
            found |= {f"{key}.{tier}": value for tier, value in row[key].items()}
        else:
            found[key] = row[key]
    return found


def evaluated(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["outcome"] in ("win", "lose", "blocked")]


def reference_of(row: Row) -> str:
    return f"{row['run_id']}/{row['experiment_id']}"


def sign_of(run: Row) -> int:
    return 1 if run["higher_is_better"] else -1


# ---- both ways of asking --------------------------------------------------------------------


@pytest.fixture(scope="module")
def readable(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """The same journal without its torn part, which DuckDB by itself refuses."""
    folder = tmp_path_factory.mktemp("readable") / "journal"
    shutil.copytree(ledger.folder, folder)
    for part in folder.glob("experiments/*/*.parquet"):
        if not part.read_bytes().endswith(b"PAR1"):
            part.unlink()
            # Nor does anything speak of it.
            (folder / "runs" / part.parent.name / "lock").unlink()
    return Ledger(folder, ledger.ids)


def set_up(shell: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    """Do the two lines of set-up."""
    shell.execute(f"set variable journal = '{folder}'")
    shell.execute((sql_folder() / "views.sql").read_text("utf-8"))


@pytest.fixture(scope="module")
def shell(readable: Ledger) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A plain DuckDB after the set-up."""
    with duckdb.connect() as opened:
        set_up(opened, readable.folder)
        yield opened


def given_to(name: str, made: Ledger) -> list[dict[str, Any]]:
    """Values to ask a query of the library with."""
    first, warm = made.ids["first"], made.ids["warm"]
    best = kept(made.rows("warm"))[-1]["experiment_id"]
    pair = {"run": first, "experiment": "exp_00000", "other": warm, "other_experiment": best}
    known = ("outcomes_fingerprint", "features_fingerprint", "objective", "tiers_id")
    ground = {key: made.run("first")[key] for key in (*known, "evaluator_version")}
    special: dict[str, list[dict[str, Any]]] = {
        "journal/compare": [{"run": first, "other": warm}],
        "journal/difference": [pair],
        "journal/weight_difference": [pair],
        "journal/experiment": [{}, {"run": warm, "experiment": "exp_00003"}],
        "journal/lineage": [{"run": warm, "experiment": best}],
        "journal/weight_history": [{"feature": FEATURE}, {"feature": FEATURE, "model": "none"}],
        "journal/known_vectors": [ground, {**ground, "most": 7}],
        "journal/decisions": [{}],
        "journal/front": [
            {"run": warm, "metric": "revenue_capture_at_20"},
            {"run": warm, "metric": "nrr_by_tier.A", "whole_table": True, "blocked": True},
        ],
        "journal/leaderboard": [{}, {"metric": "nrr_by_tier.A", "most": 3}],
        "journal/live_history": [{}, {"model": "health_score"}],
    }
    takes_run = "run" in {parameter.name for parameter in library()[name].parameters}
    both = name in ("journal/acceptance", "journal/review")
    usual = [{}, {"run": warm}] if both else [{"run": warm}] if takes_run else [{}]
    return special.get(name, usual)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*files_of("journal"), *files_of("checks")])
def test_the_shell_and_the_tool_give_the_same_frame(
    readable: Ledger, shell: "duckdb.DuckDBPyConnection", name: str
) -> None:
    file = library()[name]
    for values in given_to(name, readable):
        for parameter in file.parameters:
            shell.execute(f"reset variable {parameter.name}")
        for key, value in values.items():
            shell.execute(f"set variable {key} = $value", {"value": value})
        frame = shell.sql(file.text).pl()
        assert_frame_equal(readable.journal.sql(name, **values), frame, check_exact=True)
        # The run that was cut off, which is the latest, has no wins.
        if values.get("run") == readable.ids["warm"] and not name.startswith("checks/"):
            assert not frame.is_empty()


@pytest.mark.slow
def test_the_shell_reads_a_journal_without_events_too(tmp_path: Path, readable: Ledger) -> None:
    folder = tmp_path / "journal"
    shutil.copytree(readable.folder, folder)
    shutil.rmtree(folder / "events")
    with duckdb.connect() as shell, Journal(folder) as journal:
        set_up(shell, folder)
        assert shell.sql("select count(*) from events").fetchall() == [(0,)]
        assert shell.sql("from events").columns == journal.query("from events").columns
        assert shell.sql(library()["journal/live"].text).fetchall() == []
        log = shell.sql(library()["journal/log"].text).pl()
        assert log.height == journal.sql("log").height == len(readable.runs)


# ---- views ----------------------------------------------------------------------------------


def test_runs_are_start_and_end_together(ledger: Ledger) -> None:
    rows = {row["run_id"]: row for row in ledger.journal.query("from runs").to_dicts()}
    assert rows.keys() == ledger.runs.keys()
    for run_id, run in ledger.runs.items():
        expected = {key: value for key, value in run.items() if key != "record"}
        expected["state"] = run["state"] or "running or cut off"
        expected.setdefault("equal_sizes", None)
        expected.setdefault("calibration", None)
        expected.setdefault("customers", None)
        expected.setdefault("by_date", None)
        for key in ("parameters", "packages"):
            rows[run_id][key], expected[key] = dict(rows[run_id][key]), dict(run[key])
        assert rows[run_id] == expected


def test_measures_are_all_metrics_of_all_experiments(ledger: Ledger) -> None:
    frame = ledger.journal.query("select run_id, number, name, amount from measures")
    found: dict[tuple[str, int], dict[str, float | None]] = defaultdict(dict)
    for run_id, number, name, amount in frame.rows():
        assert name not in found[run_id, number]
        found[run_id, number][name] = amount
    for run_id, rows in ledger.experiments.items():
        for row in rows:
            assert found[run_id, row["number"]] == flat(row)
    assert len(found) == sum(map(len, ledger.experiments.values()))


def test_changes_are_one_row_each(ledger: Ledger) -> None:
    text = "select run_id, number, feature, before, after from changes"
    found = ledger.journal.query(text).rows()
    expected = [
        (run_id, row["number"], name, ends["before"], ends["after"])
        for run_id, rows in ledger.experiments.items()
        for row in rows
        for name, ends in row["changes"].items()
    ]
    assert sorted(found) == sorted(expected)


def test_the_weights_in_a_specs_text_are_those_of_its_terms() -> None:
    odd = parse(
        """
        model: odd
        features:
          "it's \\"quoted\\".[0]": {weight: -3, min: -5, max: 5}
          tenure:
            encode:
              kind: bins
              bins:
                "[0,3)": {weight: 1, min: 0, max: 5}
                "[3,inf)": {weight: 0, min: 0, max: 5}
                missing: {weight: 2, min: 0, max: 5}
          band:
            encode: {kind: bins, bins: {"1-10": {weight: 7, min: 0, max: 9}}}
        tiers: {A: {min: 0, max: 101}}
        """
    )
    specs = [odd, *(load(path) for path in sorted((ROOT / "examples").glob("*/spec.yaml")))]
    assert len(specs) == 5
    with duckdb.connect() as shell:
        text = (sql_folder() / "views.sql").read_text("utf-8")
        shell.execute(re.search(r"create or replace macro spec_weights.*?;", text, re.DOTALL)[0])  # type: ignore[index] # it is there
        for spec in specs:
            [(found,)] = shell.execute(
                "select spec_weights($spec)", {"spec": to_json(spec)}
            ).fetchall()
            assert found == spec.weights


def test_directions_are_those_of_the_metrics(ledger: Ledger) -> None:
    directions = {"higher": 1, "lower": -1, "neither": 0}
    for key, metric in all_metrics().items():
        for name in (key, f"{key}.A"):
            text = "select better_direction(getvariable('metric'))"
            found = ledger.journal.query(text, metric=name).item()
            assert found == directions[metric.better], name


# ---- who, when, why, what it did ------------------------------------------------------------


def largest(changes: dict[str, dict[str, int | None]]) -> str:
    """Word the three largest changes, and how many more there are."""
    size = {n: -abs((c["after"] or 0) - (c["before"] or 0)) for n, c in changes.items()}
    ordered = sorted(changes, key=lambda name: (size[name], name))
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return worded({name: changes[name] for name in ordered[:3]}) + more


def effect_of(ledger: Ledger, run: Row) -> Row:
    """What a run did, as `log` tells it."""
    rows = ledger.experiments[run["run_id"]]
    human = [row for row in rows if row["proposer"] == "human"]
    last = (human or kept(rows))[-1]
    changes = worded(differing(rows[0]["weights"], last["weights"]))
    return {
        "at": run["started_at"],
        "kind": run["kind"],
        "author": run["author"],
        "note": run["note"],
        "model": run["model"],
        "change": changes or "nothing kept",
        "largest": largest(differing(rows[0]["weights"], last["weights"])) or "nothing kept",
        "objective": run["objective"],
        "value_before": rows[0]["value_after"] if last["number"] else None,
        "value_after": last["value_after"],
        "outcome": last["outcome"] if human else run["state"] or "running or cut off",
        "reference": reference_of(last),
        "verdict": None,
        "decided_at": None,
        "compared": None,
        **dict.fromkeys(("expect", "measured_on", "measurement", "promise_kept")),
    }


def live_effects(ledger: Ledger) -> list[Row]:
    found = []
    before: dict[str, int] | None = None
    edges: dict[str, float] = {}
    for event in ledger.live:
        spec = parse(event["spec"])
        weights, lows = spec.weights, {name: tier.low / 100 for name, tier in spec.tiers.items()}
        change = "first on record" if before is None else worded(differing(before, weights))
        ends = ((name, edges.get(name), low) for name, low in lows.items())
        moved = ", ".join(
            f"{name}: {'none' if a is None else f'{a:g}'} -> {b:g}" for name, a, b in ends if a != b
        )
        if before is not None and moved:
            change = f"{change or 'the same weights,'}{';' if change else ''} tiers from {moved}"
        edges = lows
        row = {key: event[key] for key in ("kind", "author", "note", "model")}
        row |= {"at": event["since"], "change": change or "the same weights"}
        row["largest"] = row["change"]
        if before is not None and before != weights:
            changes = differing(before, weights)
            row["largest"] = change.replace(worded(changes), largest(changes))
        pointed = {r["experiment_id"]: r for r in ledger.experiments.get(event["run_id"], [])}
        experiment = pointed.get(event["experiment_id"])
        if experiment is None:
            row |= dict.fromkeys(("objective", "value_before", "value_after", "outcome"))
            row["reference"] = event["event_id"]
        else:
            row |= {key: experiment[key] for key in ("objective", "value_after", "outcome")}
            baseline = pointed["exp_00000"]
            # What was live before is what it was measured against, or there is nothing to say.
            comes_from = experiment["number"] and baseline["weights"] == before
            row["value_before"] = baseline["value_after"] if comes_from else None
            row["reference"] = reference_of(experiment)
        row |= dict.fromkeys(("measured_on", "measurement", "promise_kept"))
        row["expect"] = event["expect"]
        found.append(row | {"verdict": None, "decided_at": None, "compared": None})
        before = weights
    return found


def test_the_log_is_runs_and_what_went_live_newest_first(ledger: Ledger) -> None:
    ours = [effect_of(ledger, run) for run in ledger.runs.values() if run["kind"] != "record"]
    expected = sorted(ours + live_effects(ledger), key=lambda row: row["at"], reverse=True)
    found = ledger.ask("log")
    assert [row["at"] for row in found] == [row["at"] for row in expected]
    key = lambda row: (row["reference"], row["kind"])  # noqa: E731
    assert sorted(found, key=key) == sorted(expected, key=key)
    kinds = Counter(row["kind"] for row in found)
    assert kinds == {"search": 9, "human": 2, "record": 2, "promotion": 1}
    told = {row["note"]: row for row in found}
    assert told["worse"]["outcome"] == "lose"
    assert told["better"]["change"] == f"{FEATURE}: 5 -> 11, session_depth: 7 -> 9"
    assert told["in the CS tool"]["change"].startswith(f"{told['better']['change']}; tiers from ")
    assert told["in the CS tool"]["outcome"] == "win"
    assert told["as set up"]["change"] == "first on record"
    assert told["nothing"]["change"] == "nothing kept"


def test_the_log_shows_a_measured_change_whose_event_is_missing(
    ledger: Ledger, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    shutil.copytree(ledger.folder, folder)
    shutil.rmtree(folder / "events")
    found = [row for row in Ledger(folder).ask("log") if row["kind"] == "record"]
    assert found == [effect_of(ledger, ledger.run("recorded"))]


def test_what_is_live_is_the_last_of_each_model(ledger: Ledger) -> None:
    [row] = ledger.ask("live")
    [*_, last] = ledger.live
    for key in ("model", "since", "author", "note", "expect", "kind", "spec_id", "score_id"):
        assert row[key] == last[key]
    assert (row["event_id"], row["recorded_at"]) == (last["event_id"], last["at"])
    assert dict(row["weights"]) == parse(last["spec"]).weights
    assert row["experiment"] == f"{last['run_id']}/{last['experiment_id']}"
    assert (row["note"], row["expect"]) == ("found", "calm")


def test_live_history_says_until_when_and_instead_of_what(ledger: Ledger) -> None:
    found = ledger.ask("live_history")[::-1]
    assert [row["note"] for row in found] == ["as set up", "in the CS tool", "found"]
    since = [row["since"] for row in found]
    assert [row["until"] for row in found] == [*since[1:], None]
    expected = [None, *(row["change"] for row in live_effects(ledger)[1:])]
    assert [row["change"] for row in found] == expected
    assert ledger.ask("live_history", model="health_score") == found[::-1]
    assert ledger.ask("live_history", model="other") == []


def test_models_go_live_apart_and_the_later_word_holds(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    day = datetime(2024, 3, 31, tzinfo=UTC)
    said = [("a", 1, day), ("b", 5, day), ("a", 2, day), ("a", 3, day.replace(day=1))]
    for model, weight, since in said:
        spec = json.dumps({"features": {"nps": {"weight": weight}}})
        write_event(tmp_path, EventKind.RECORD, model=model, since=since, spec=spec, note="why")
    made = Ledger(tmp_path)
    assert [(r["model"], dict(r["weights"])) for r in made.ask("live")] == [
        ("a", {"nps": 2}),
        ("b", {"nps": 5}),
    ]
    assert [(r["model"], r["change"]) for r in made.ask("live_history")] == [
        ("a", "nps: 1 -> 2"),
        ("a", "nps: 3 -> 1"),
        ("a", None),
        ("b", None),
    ]


def test_a_spec_that_went_live_though_it_was_not_kept_has_its_value(
    ledger: Ledger, tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    shutil.copytree(ledger.folder, folder)
    lost = next(row for row in ledger.rows("first") if row["outcome"] == "lose")
    spec = json.dumps({"features": {k: {"weight": w} for k, w in lost["weights"].items()}})
    write_event(
        folder,
        EventKind.PROMOTION,
        model="health_score",
        since=ledger.live[-1]["since"],
        spec=spec,
        run_id=lost["run_id"],
        experiment_id=lost["experiment_id"],
    )
    row = next(r for r in Ledger(folder).ask("log") if r["reference"] == reference_of(lost))
    assert (row["kind"], row["outcome"]) == ("promotion", "lose")
    assert (row["value_after"], row["objective"]) == (lost["value_after"], lost["objective"])
    # It was not measured against what was live before it.
    assert row["value_before"] is None


def test_one_weight_over_time(ledger: Ledger) -> None:
    found = ledger.ask("weight_history", feature=FEATURE)
    assert [row["at"] for row in found] == sorted(row["at"] for row in found)
    expected = []
    for run in ledger.runs.values():
        rows = ledger.experiments[run["run_id"]]
        human = [row for row in rows if row["proposer"] == "human"]
        last = (human or kept(rows))[-1]
        ends = rows[0]["weights"].get(FEATURE), last["weights"].get(FEATURE)
        if run["kind"] != "record" and ends[0] != ends[1]:
            expected.append((run["kind"], run["note"], *ends, reference_of(last)))
    before = None
    for event, row in zip(ledger.live, live_effects(ledger), strict=True):
        after = parse(event["spec"]).weights[FEATURE]
        if after != before:
            expected.append((event["kind"], event["note"], before, after, row["reference"]))
        before = after
    names = ("kind", "note", "before", "after", "reference")
    assert sorted(tuple(r[n] for n in names) for r in found) == sorted(expected)
    assert {"search", "human", "record", "promotion"} == {row["kind"] for row in found}
    logged = {(row["reference"], row["kind"]): row for row in ledger.ask("log")}
    for row in found:
        for key in ("author", "outcome", "objective", "value_before", "value_after"):
            assert row[key] == logged[row["reference"], row["kind"]][key]
    assert ledger.ask("weight_history", feature="no such") == []
    assert ledger.ask("weight_history", feature=FEATURE, model="churn_risk") == []


# ---- what was decided -----------------------------------------------------------------------

#: What nobody's text may do to a query or a page.
ODD = "<b>'; drop\nview\" runs --"


@pytest.fixture(scope="module")
def decided(readable: Ledger, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, list[Row]]:
    """The journal with decisions: two on one best, one of an older version, one on a loss."""
    folder = tmp_path_factory.mktemp("decided") / "journal"
    shutil.copytree(readable.folder, folder)
    made = Ledger(folder, readable.ids)
    gates = {
        "gain": {"name": "gain", "limit": "above 0", "found": "+0.02", "outcome": "passed"},
        "moved": {"name": "movement", "limit": "0.3", "found": "0.5", "outcome": "failed"},
        "small": {"name": f"segment {ODD}", "limit": "x", "found": "few", "outcome": "unknown"},
    }
    gain = {"value": 0.02, "low": 0.01, "high": 0.03, "level": 0.95, "accounts": 9, "reason": None}

    def said(
        name: str, verdict: str, named: list[str], number: int | None = None, **more: Any
    ) -> Row:
        rows = made.rows(name)
        row = kept(rows)[-1] if number is None else rows[number]
        details = {
            "verdict": verdict,
            "gates": [gates[gate] for gate in named],
            "segment_safety": "not asked",
            "looks": 2,
            "level": 0.975,
            **more,
        }
        fields = {
            "author": ODD,
            "note": f"{verdict} {ODD}",
            "model": "health_score",
            "run_id": row["run_id"],
            "experiment_id": row["experiment_id"],
            "source": "accounts.parquet",
        }
        event = write_event(folder, EventKind.DECISION, details=details, **fields)
        return {**fields, **details, "event_id": event}

    events = [
        said("first", "KEEP_INCUMBENT", ["gain", "small", "moved"]),
        said("first", "UNVERIFIED", ["gain", "small"], gain=gain),
        said("warm", "READY_FOR_REVIEW", ["gain"], gain=gain),
        said("second", "KEEP_INCUMBENT", []),
        said("onward", "KEEP_INCUMBENT", ["moved"], number=1),
    ]
    return made, events


@pytest.mark.slow
def test_decisions_are_the_events_newest_first(decided: tuple[Ledger, list[Row]]) -> None:
    made, events = decided
    found = made.ask("decisions")
    for row, event in zip(found, reversed(events), strict=True):
        for key in ("run_id", "experiment_id", "model", "verdict", "segment_safety", "looks"):
            assert row[key] == event[key]
        for key in ("level", "author", "note", "source", "event_id"):
            assert row[key] == event[key]
        names = {
            outcome: [gate["name"] for gate in event["gates"] if gate["outcome"] == outcome]
            for outcome in ("failed", "unknown", "passed")
        }
        assert (row["failed"], row["unknown"]) == (names["failed"], names["unknown"])
        first = [*names["failed"], *names["unknown"], *names["passed"], None][0]
        told = {g["name"]: f"{g['name']} ({g['limit']}): {g['found']}" for g in event["gates"]}
        assert row["reason"] == told.get(first)
        gain = event.get("gain") or {}
        ends = (row["gain"], row["gain_low"], row["gain_high"])
        assert ends == (gain.get("value"), gain.get("low"), gain.get("high"))
        assert row["objective"] == made.runs[event["run_id"]]["objective"]
    assert made.ask("decisions", run=made.ids["first"]) == found[-2:]
    assert made.ask("decisions", run="no such") == []
    with duckdb.connect() as shell:
        set_up(shell, made.folder)
        for name in ("decisions", "log", "live"):
            frame = shell.sql(library()[f"journal/{name}"].text).pl()
            assert_frame_equal(made.journal.sql(name), frame, check_exact=True)


@pytest.mark.slow
def test_the_last_decision_stands_beside_the_experiment(decided: tuple[Ledger, list[Row]]) -> None:
    made, events = decided
    # The later one on each experiment.
    last = {f"{e['run_id']}/{e['experiment_id']}": e["verdict"] for e in events}
    assert len(last) == 4
    for row in made.ask("log"):
        assert row["verdict"] == last.get(row["reference"])
        assert (row["decided_at"] is None) == (row["verdict"] is None)
    logged = {row["verdict"] for row in made.ask("log")}
    # The one on an experiment that was no run's last.
    assert logged == {"UNVERIFIED", "READY_FOR_REVIEW", "KEEP_INCUMBENT", None}
    [live] = made.ask("live")
    assert live["experiment"] == f"{events[0]['run_id']}/{events[0]['experiment_id']}"
    assert live["verdict"] == "UNVERIFIED"
    for event in events:
        [row] = made.ask("experiment", run=event["run_id"], experiment=event["experiment_id"])
        assert row["verdict"] == last[reference_of(row)]
        steps = made.ask("lineage", run=event["run_id"], experiment=event["experiment_id"])
        assert {s["verdict"] for s in steps} >= {row["verdict"]}
        assert all(s["verdict"] == last.get(reference_of(s)) for s in steps)
    [row] = made.ask("experiment", run=made.ids["less"], experiment="exp_00001")
    assert row["verdict"] is row["decided_at"] is row["reason"] is None


# ---- how it came about ----------------------------------------------------------------------


def chain_of(ledger: Ledger, run_id: str | None, experiment_id: str | None) -> list[Row]:
    found = []
    while run_id in ledger.experiments:
        [row] = [r for r in ledger.experiments[run_id] if r["experiment_id"] == experiment_id]
        found.append(row)
        if row["parent"] is None:
            run = ledger.runs[run_id]
            run_id, experiment_id = run["parent_run"], run["parent_experiment"]
        else:
            experiment_id = row["parent"]
    return found


@pytest.mark.parametrize("name", ["warm", "onward", "worse", "recorded", "first", "cut off"])
def test_lineage_leads_back_to_the_first_spec(ledger: Ledger, name: str) -> None:
    last = ledger.rows(name)[-1]
    chain = chain_of(ledger, last["run_id"], last["experiment_id"])
    found = ledger.ask("lineage", run=last["run_id"], experiment=last["experiment_id"])
    assert [row["depth"] for row in found] == list(range(len(chain)))
    for row, expected, earlier in zip(found, chain, [*chain[1:], None], strict=True):
        run = ledger.runs[expected["run_id"]]
        for key in ("run_id", "experiment_id", "proposer", "objective", "outcome"):
            assert row[key] == expected[key]
        assert (row["value_before"], row["value_after"]) == (
            expected["value_before"],
            expected["value_after"],
        )
        assert (row["kind"], row["at"]) == (run["kind"], expected["evaluated_at"])
        assert (row["author"], row["note"]) == (run["author"], run["note"])
        if expected["outcome"] != "baseline":
            assert row["changes"] == worded(expected["changes"])
        elif earlier is None:
            assert row["changes"] is None
        else:
            assert row["changes"] == worded(differing(earlier["weights"], expected["weights"]))
    across = {"warm": 2, "onward": 2, "worse": 2, "first": 1, "cut off": 2}
    passed = {row["run_id"] for row in found}
    assert len(passed) == across.get(name, len({row["run_id"] for row in chain}))


def relinked(ledger: Ledger, folder: Path, links: dict[str, tuple[str, str]]) -> Ledger:
    """Copy a journal, its runs pointing elsewhere."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.copytree(ledger.folder, folder)
    for name, link in links.items():
        path = folder / "runs" / f"run_id={ledger.ids[name]}" / "start.parquet"
        table = pq.ParquetFile(path).read()
        for column, value in zip(("parent_run", "parent_experiment"), link, strict=True):
            place = table.schema.get_field_index(column)
            table = table.set_column(place, column, pa.array([value]))
        pq.write_table(table, path)
    unchained(folder)
    return Ledger(folder, ledger.ids)


def test_lineage_ends_with_what_the_journal_lacks(ledger: Ledger, tmp_path: Path) -> None:
    links = {"first": ("r20200101-000000-000000", "exp_00007")}
    made = relinked(ledger, tmp_path / "journal", links)
    found = made.ask("lineage", run=made.ids["warm"], experiment="exp_00000")
    chain = chain_of(ledger, made.ids["warm"], "exp_00000")
    assert len(found) == len(chain) + 1
    [*_, last] = found
    assert (last.pop("run_id"), last.pop("experiment_id")) == links["first"]
    assert last.pop("depth") == len(chain)
    assert set(last.values()) == {None}


def test_lineage_of_an_experiment_that_is_not_there_says_so(ledger: Ledger) -> None:
    [row] = ledger.ask("lineage", run=ledger.ids["first"], experiment="exp_99999")
    assert (row["depth"], row["experiment_id"]) == (0, "exp_99999")
    assert (row["kind"], row["at"], row["value_after"]) == (None, None, None)


def test_lineage_does_not_run_in_circles(ledger: Ledger, tmp_path: Path) -> None:
    links = {
        "first": (ledger.ids["warm"], "exp_00000"),
        "onward": (ledger.ids["onward"], "exp_00000"),
    }
    made = relinked(ledger, tmp_path / "journal", links)
    chain = chain_of(ledger, made.ids["warm"], "exp_00000")
    found = made.ask("lineage", run=made.ids["warm"], experiment="exp_00000")
    assert [reference_of(row) for row in found] == [reference_of(row) for row in chain]
    [row] = made.ask("lineage", run=made.ids["onward"], experiment="exp_00000")
    assert row["outcome"] == "baseline"


def test_lineage_shows_what_was_changed_by_hand_between_two_runs(
    ledger: Ledger, tmp_path: Path
) -> None:
    made = relinked(ledger, tmp_path / "journal", {"second": (ledger.ids["better"], "exp_00001")})
    baseline, parent, *_ = made.ask("lineage", run=made.ids["second"], experiment="exp_00000")
    weights = ledger.rows("better")[1]["weights"], ledger.rows("second")[0]["weights"]
    assert baseline["changes"] == worded(differing(*weights)) != ""
    assert parent["changes"] == worded(ledger.rows("better")[1]["changes"])


@every_run
def test_a_trajectory_is_the_weights_of_what_was_kept(ledger: Ledger, name: str) -> None:
    found = ledger.ask("trajectory", run=ledger.ids[name])
    rows = kept(ledger.rows(name))
    expected = []
    for feature in sorted(rows[0]["weights"]):
        weights = [row["weights"][feature] for row in rows]
        changes = [None, *(after - before for before, after in pairwise(weights))]
        for row, weight, change in zip(rows, weights, changes, strict=True):
            expected.append((feature, row["number"], row["experiment_id"], weight, change))
    assert [tuple(row.values()) for row in found] == expected


# ---- what works -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "first", "less", "nothing"])
def test_acceptance_counts_by_feature_and_direction(ledger: Ledger, name: str | None) -> None:
    tried: dict[tuple[str, str, str], list[tuple[float | None, int]]] = defaultdict(list)
    for run_id, rows in ledger.experiments.items():
        if name is not None and run_id != ledger.ids[name]:
            continue
        run = ledger.runs[run_id]
        for row in evaluated(rows):
            for feature, ends in row["changes"].items():
                step = ends["after"] - ends["before"]
                gain = None
                if row["outcome"] == "win":
                    gain = sign_of(run) * (row["value_after"] - row["value_before"])
                direction = "up" if step > 0 else "down"
                tried[run["objective"], feature, direction].append((gain, step))
    found = ledger.ask("acceptance", run=None if name is None else ledger.ids[name])
    assert len(found) == len(tried)
    for row in found:
        pairs = tried[row["objective"], row["feature"], row["direction"]]
        won = [(gain, step) for gain, step in pairs if gain is not None]
        assert (row["tried"], row["won"]) == (len(pairs), len(won))
        assert row["win_rate"] == len(won) / len(pairs)
        for key, values in (("mean_gain", [g for g, _ in won]), ("mean_step", [s for _, s in won])):
            mean = sum(values) / len(values) if values else None
            assert row[key] == (mean if mean is None else pytest.approx(mean, rel=1e-12))
    assert all(row["mean_gain"] is None or row["mean_gain"] > 0 for row in found)
    rates = [(row["objective"], -row["win_rate"]) for row in found]
    assert rates == sorted(rates)


def test_people_and_machine_side_by_side(ledger: Ledger) -> None:
    key = ("outcomes_fingerprint", "tiers_id", "evaluator_version", "objective")
    tried: dict[tuple[Any, ...], list[float | None]] = defaultdict(list)
    for run_id, rows in ledger.experiments.items():
        run = ledger.runs[run_id]
        for row in evaluated(rows):
            by = "human" if row["proposer"] == "human" else "machine"
            gain = None
            if row["outcome"] == "win":
                gain = sign_of(run) * (row["value_after"] - row["value_before"])
            tried[(*(run[k] for k in key), by)].append(gain)
    found = ledger.ask("human_machine")
    assert {tuple(row[k] for k in (*key, "proposed_by")) for row in found} == set(tried)
    for row in found:
        gains = tried[tuple(row[k] for k in (*key, "proposed_by"))]
        won = [gain for gain in gains if gain is not None]
        assert (row["tried"], row["won"], row["win_rate"]) == (
            len(gains),
            len(won),
            len(won) / len(gains),
        )
        assert row["best_gain"] == max(won)
        assert row["mean_gain"] == pytest.approx(sum(won) / len(won), rel=1e-12)
    [human] = [row for row in found if row["proposed_by"] == "human"]
    assert (human["tried"], human["won"]) == (3, 2)


def test_every_look_at_a_holdout_is_counted(ledger: Ledger) -> None:
    looks: Counter[str] = Counter()
    expected = []
    ended = (run for run in ledger.runs.values() if run["ended_at"])
    for run in sorted(ended, key=lambda run: run["ended_at"]):
        if run["holdout_baseline_metrics"] is None:
            continue
        looks[run["outcomes_fingerprint"]] += 1
        ends = run["holdout_baseline_value"], run["holdout_best_value"]
        held = None if None in ends else better(ends[1], ends[0], sign=sign_of(run))
        expected.append((run["run_id"], *ends, held, looks[run["outcomes_fingerprint"]]))
    found = ledger.ask("holdout_looks")
    names = ("run_id", "baseline_value", "best_value", "held", "look")
    assert [tuple(row[n] for n in names) for row in found] == expected
    # A person's change that was not kept isn't worth a look.
    assert ledger.ids["worse"] not in {row["run_id"] for row in found}
    assert max(looks.values()) > 5


# ---- the best -------------------------------------------------------------------------------


def ranked(ledger: Ledger, metric: str | None) -> dict[tuple[Any, ...], list[tuple[float, str]]]:
    """The first experiment of each distinct weights by table and metric, the best first."""
    key = ("outcomes_fingerprint", "tiers_id", "evaluator_version")
    fields: dict[tuple[Any, ...], dict[Any, Any]] = defaultdict(dict)
    for run in sorted(ledger.runs.values(), key=lambda r: (r["started_at"], r["run_id"])):
        for row in kept(ledger.experiments[run["run_id"]]):
            name = metric or run["objective"]
            value = flat(row).get(name)
            if value is None:
                continue
            lower = all_metrics()[name.partition(".")[0]].better == "lower"
            place = (-value if not lower else value, run["started_at"], row["number"])
            vector = (run["features_fingerprint"], tuple(row["weights"].items()))
            field = fields[(*(run[k] for k in key), name)]
            field.setdefault(vector, (place, value, reference_of(row)))
    return {
        field: [(value, reference) for _, value, reference in sorted(best.values())]
        for field, best in fields.items()
    }


@pytest.mark.parametrize(
    "metric",
    [
        None,
        "auc_roc_retain",
        "nrr_by_tier.A",
        "contraction_rate_by_tier.B",
        "accounts_by_tier.C",
    ],
)
def test_the_leaderboard_ranks_distinct_weights(ledger: Ledger, metric: str | None) -> None:
    expected = ranked(ledger, metric)
    for most in (None, 3, 10_000):
        found: dict[tuple[Any, ...], list[tuple[float, str]]] = defaultdict(list)
        for row in ledger.ask("leaderboard", metric=metric, most=most):
            names = ("outcomes_fingerprint", "tiers_id", "evaluator_version", "metric")
            field = found[tuple(row[name] for name in names)]
            field.append((row["value"], reference_of(row)))
            assert row["rank"] == len(field)
        assert found == {field: best[: most or 10] for field, best in expected.items()}


def test_the_leaderboard_knows_every_metric() -> None:
    text = library()["journal/leaderboard"].text
    known = dict(re.findall(r"when '(\w+)'\s+then (\w+\[?)", text))
    assert known.pop("value_after") == "value_after"
    assert known == {k: f"{k}[" if m.by_tier else k for k, m in all_metrics().items()}


def test_the_leaderboard_tells_the_rest_of_it(ledger: Ledger) -> None:
    for row in ledger.ask("leaderboard"):
        run = ledger.runs[row["run_id"]]
        [own] = [
            r
            for r in ledger.experiments[row["run_id"]]
            if r["experiment_id"] == row["experiment_id"]
        ]
        best = run["best_experiment"] == row["experiment_id"]
        assert row["holdout_value"] == (run["holdout_best_value"] if best else None)
        for key in ("model", "objective", "kind", "author", "note", "source"):
            assert row[key] == run[key]
        assert row["at"] == own["evaluated_at"]


@pytest.mark.parametrize("metric", ["revenue_capture_at_20", "logo_retention_by_tier.B"])
def test_the_leaderboard_has_the_holdouts_value_of_any_metric(ledger: Ledger, metric: str) -> None:
    seen = 0
    for row in ledger.ask("leaderboard", metric=metric, most=10_000):
        run = ledger.runs[row["run_id"]]
        if run["best_experiment"] != row["experiment_id"] or run["holdout_best_metrics"] is None:
            assert row["holdout_value"] is None
            continue
        key, _, tier = metric.partition(".")
        held = json.loads(run["holdout_best_metrics"])[key]
        assert row["holdout_value"] == (held[tier] if tier else held)
        seen += 1
    assert seen > 2


def test_the_leaderboard_is_narrowed_by_what_it_is_asked(ledger: Ledger) -> None:
    whole = ledger.ask("leaderboard", most=10_000)
    run = ledger.run("less")
    for key in ("objective", "outcomes_fingerprint", "tiers_id", "evaluator_version"):
        found = ledger.ask("leaderboard", most=10_000, **{key: run[key]})
        assert found == [row for row in whole if row[key] == run[key]], key
        assert found
    assert ledger.ask("leaderboard", objective="no such") == []
    assert ledger.ask("leaderboard", metric="no_such_metric") == []


def compromises(
    ledger: Ledger, run: Row, metric: str, *, whole_table: bool, blocked: bool
) -> list[tuple[str, float, float, bool, str | None, int]]:
    """What front.sql must say, by holding each experiment against every other."""
    key = ("outcomes_fingerprint", "objective", "tiers_id", "evaluator_version")
    alike = [
        other
        for other in sorted(ledger.runs.values(), key=lambda r: (r["started_at"], r["run_id"]))
        if other is run or (whole_table and all(other[k] == run[k] for k in key))
    ]
    signs = sign_of(run), -1 if all_metrics()[metric.partition(".")[0]].better == "lower" else 1
    last = kept(ledger.experiments[run["run_id"]])[-1]
    found: dict[tuple[float, float], list[tuple[int, str, str | None]]] = defaultdict(list)
    for row in (row for other in alike for row in ledger.experiments[other["run_id"]]):
        pair = row["value_after"], flat(row)[metric] if row["outcome"] != "known" else None
        if None in pair or (row["outcome"] == "blocked" and not blocked):
            continue
        mark = None
        if row["run_id"] == run["run_id"] and row["number"] in (0, last["number"]):
            mark = "best" if row is last and row["number"] else "start"
        place = {"best": 0, "start": 1, None: 2}[mark]
        found[pair].append((place, reference_of(row), mark))  # type: ignore[index] # none is null

    def beaten(pair: tuple[float, float]) -> bool:
        return any(
            all(s * a >= s * b for s, a, b in zip(signs, other, pair, strict=True))
            for other in found
            if other != pair
        )

    rows = []
    for pair, several in found.items():
        # Runs come in order, experiments in their run's: the first of the least place.
        _, reference, mark = min(several, key=lambda each: each[0])
        if mark or not beaten(pair):
            rows.append((reference, *pair, not beaten(pair), mark, len(several)))
    return sorted(rows, key=lambda row: (-signs[0] * row[1], -signs[1] * row[2]))


@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("whole_table", [False, True])
@pytest.mark.parametrize("metric", ["revenue_capture_at_20", "contraction_rate_by_tier.C"])
@pytest.mark.parametrize("name", RUNS)
def test_the_front_is_what_no_other_experiment_beats(
    ledger: Ledger, name: str, metric: str, whole_table: bool, blocked: bool
) -> None:
    run = ledger.run(name)
    metric = metric if metric[-2:-1] != "." else f"{metric[:-1]}{run['tiers'][-1]}"
    options = {"whole_table": whole_table, "blocked": blocked}
    expected = compromises(ledger, run, metric, **options)
    found = ledger.ask("front", run=run["run_id"], metric=metric, **options)
    columns = ("value", "metric_value", "on_front", "mark", "alike")
    assert [(reference_of(row), *(row[c] for c in columns)) for row in found] == expected
    assert {row["mark"] for row in found} >= {"start"}
    for row in found:
        [own] = [
            r
            for r in ledger.experiments[row["run_id"]]
            if r["experiment_id"] == row["experiment_id"]
        ]
        assert row["outcome"] == own["outcome"]
        tier = metric.partition(".")[2]
        assert row["accounts"] == (own["accounts_by_tier"][tier] if tier else None)


def test_the_front_counts_what_it_looks_at_and_leaves_out(ledger: Ledger) -> None:
    rows = ledger.rows("guarded")
    blocked = sum(row["outcome"] == "blocked" for row in rows)
    assert blocked
    asked = {"run": ledger.ids["guarded"], "metric": "revenue_capture_at_20"}
    for given, looked_at in ((False, len(rows) - blocked), (True, len(rows))):
        found = ledger.ask("front", **asked, blocked=given)
        assert {row["looked_at"] for row in found} == {looked_at}
        assert {row["broke"] for row in found} == {blocked}
        assert given or all(row["outcome"] != "blocked" for row in found)
    wide = ledger.ask("front", run=ledger.ids["first"], metric="nrr_at_20", whole_table=True)
    assert wide[0]["runs"] == len({"first", "warm", "second", "nothing", "worse", "better"}) + sum(
        name in ledger.ids and ledger.run(name)["tiers_id"] == ledger.run("first")["tiers_id"]
        for name in ("recorded", "onward", "cut off", "guarded")
    )


def test_no_front_is_made_of_what_has_no_better_direction(ledger: Ledger) -> None:
    for metric in ("revenue_concentration_hhi", "accounts_by_tier.A"):
        assert ledger.ask("front", run=ledger.ids["first"], metric=metric) == []


def test_known_vectors_are_what_ended_runs_evaluated(ledger: Ledger) -> None:
    key = ("outcomes_fingerprint", "features_fingerprint", "objective", "tiers_id")
    for name in ("first", "less", "risks"):
        asked = {k: ledger.run(name)[k] for k in (*key, "evaluator_version")}
        first: dict[Any, tuple[Any, ...]] = {}
        for run in sorted(ledger.runs.values(), key=lambda r: (r["started_at"], r["run_id"])):
            if run["ended_at"] is None or any(run[k] != v for k, v in asked.items()):
                continue
            for row in ledger.experiments[run["run_id"]]:
                if row["outcome"] == "known":
                    continue
                feasible = {"blocked": False, "lose": None}.get(row["outcome"], True)
                told = (row["value_after"], row["outcome"], feasible)
                place = (-sign_of(run) * row["value_after"], row["run_id"], row["number"])
                first.setdefault(
                    tuple(row["weights"].items()),
                    (place, *told, reference_of(row), run["spec_id"]),
                )
        expected = [
            (vector, *told[1:]) for vector, told in sorted(first.items(), key=lambda x: x[1][0])
        ]
        for most in (None, 5, 10_000):
            found = [
                (
                    tuple(row["weights"].items())
                    if isinstance(row["weights"], dict)
                    else tuple(row["weights"]),
                    row["value_after"],
                    row["outcome"],
                    row["feasible"],
                    reference_of(row),
                    row["spec_id"],
                )
                for row in ledger.ask("known_vectors", **asked, most=most)
            ]
            assert found == expected[:most]
    assert ledger.ids["cut off"] not in str(found)


# ---- side by side ---------------------------------------------------------------------------


def test_a_difference_is_the_metrics_that_differ(ledger: Ledger) -> None:
    one, two = kept(ledger.rows("first"))[-1], ledger.rows("second")[0]
    ids = {
        "run": one["run_id"],
        "experiment": one["experiment_id"],
        "other": two["run_id"],
        "other_experiment": two["experiment_id"],
    }
    found = {row["metric"]: row for row in ledger.ask("difference", **ids)}
    left, right = flat(one), flat(two)
    assert found.keys() == {name for name in left if left[name] != right[name]}
    readings = set()
    for name, row in found.items():
        before, after = left[name], right[name]
        assert (row["one"], row["two"]) == (before, after)
        readings.add(row["reading"])
        if before is None or after is None:
            assert (row["change"], row["reading"]) == (None, "moved")
            continue
        assert row["change"] == after - before
        key, _, tier = name.partition(".")
        way = {"higher": 1, "lower": -1, "neither": 0}[all_metrics()[key].better]
        way = -1 if key.startswith("share_clipped") else way
        if abs(after - before) <= 0.0005 * max(1.0, abs(before)):
            expected = "same"
        elif way == 0 or tier not in ("", "A"):
            expected = "moved"
        else:
            expected = "better" if way * (after - before) > 0 else "worse"
        assert row["reading"] == expected, name
    assert readings >= {"worse", "moved"}
    places = {"worse": 1, "better": 2, "moved": 3, "same": 4}
    order = [(places[row["reading"]], name) for name, row in found.items()]
    assert order == sorted(order)
    weights = ledger.ask("weight_difference", **ids)
    expected_weights = differing(one["weights"], two["weights"])
    assert {r["feature"]: (r["one"], r["two"], r["change"]) for r in weights} == {
        name: (e["before"], e["after"], (e["after"] or 0) - (e["before"] or 0))
        for name, e in expected_weights.items()
    }
    assert [row["feature"] for row in weights] == sorted(expected_weights)


def test_an_experiment_does_not_differ_from_itself(ledger: Ledger) -> None:
    same = {"run": ledger.ids["first"], "experiment": "exp_00003"}
    ids = {**same, "other": same["run"], "other_experiment": same["experiment"]}
    assert ledger.ask("difference", **ids) == ledger.ask("weight_difference", **ids) == []


def test_weights_that_only_one_side_has_are_null_on_the_other(ledger: Ledger) -> None:
    one, two = ledger.rows("first")[0], ledger.rows("risks")[0]
    rows = ledger.ask(
        "weight_difference",
        run=one["run_id"],
        experiment="exp_00000",
        other=two["run_id"],
        other_experiment="exp_00000",
    )
    found = {row["feature"]: (row["one"], row["two"], row["change"]) for row in rows}
    assert found == {
        **{name: (weight, None, None) for name, weight in one["weights"].items()},
        **{name: (None, weight, None) for name, weight in two["weights"].items()},
    }


def test_tier_names_are_no_patterns(tmp_path: Path) -> None:
    # As a pattern, "B_D" would take in "BxD" as the best tier too, and "A%" every tier.
    from gtmar import runs
    from gtmar.data import synthetic

    table = synthetic.generate("health_score", accounts=250, seed=4)
    spec = load(ROOT / "examples" / "health_score" / "spec.yaml")
    names = dict(zip(spec.tiers, ("A%", "B_D", "BxD", "a.b"), strict=True))
    tiers = {names[name]: tier for name, tier in spec.tiers.items()}
    found = runs.run(
        table,
        spec.model_copy(update={"tiers": tiers}),
        limits=runs.Limits(40),
        journal=tmp_path,
    )
    drift = Ledger(tmp_path).ask("proxy_drift", run=found.run_id)
    judged = {
        row["metric"].partition(".")[2] for row in drift if row["reading"] in ("better", "worse")
    }
    assert judged <= {"", "A%"}
    assert "A%" in judged
    best = Ledger(tmp_path).ask("leaderboard", metric="nrr_by_tier.a.b", most=1)
    rows = kept(Ledger(tmp_path).experiments[found.run_id])
    assert best[0]["value"] == max(row["nrr_by_tier"]["a.b"] for row in rows)


@pytest.mark.parametrize("name", ["warm", "better", "guarded"])
def test_an_experiment_in_full(ledger: Ledger, name: str) -> None:
    run = ledger.run(name)
    blocked = [row for row in ledger.rows(name) if row["outcome"] in ("blocked", "known")]
    for row in (ledger.rows(name)[0], ledger.rows(name)[-1], *blocked[:1]):
        [found] = ledger.ask("experiment", run=run["run_id"], experiment=row["experiment_id"])
        for key in ("experiment_id", "number", "proposal", "proposer", "parent", "objective"):
            assert found[key] == row[key]
        for key in ("value_before", "value_after", "outcome", "breaches", "repeats", "basis"):
            assert found[key] == row[key]
        for key in ("kind", "model", "source", "spec_id", "tiers_id", "author", "note"):
            assert found[key] == run[key]
        assert dict(found["weights"]) == row["weights"]
        assert dict(found["metrics"]) == flat(row)
        assert dict(found["null_reasons"]) == row["null_reasons"]
        assert found["changes"] == worded(row["changes"])
        assert found["at"] == row["evaluated_at"]
        ends = row["value_before"], row["value_after"]
        assert found["gain"] == (None if None in ends else ends[1] - ends[0])
    [best] = ledger.ask("experiment", run=run["run_id"])
    assert best["experiment_id"] == kept(ledger.rows(name))[-1]["experiment_id"]


# ---- results taken over ---------------------------------------------------------------------


def test_results_taken_over_are_no_experiments(ledger: Ledger) -> None:
    rows = ledger.rows("warm")
    known = [row for row in rows if row["outcome"] == "known"]
    assert known
    run = ledger.ids["warm"]
    [found] = ledger.ask("review", run=run)
    assert (found["known"], found["experiments"]) == (len(known), 30)
    assert found["win_rate"] == found["wins"] / 30
    tried = [row for row in rows if row["outcome"] not in ("baseline", "known")]
    wins = [place for place, row in enumerate(tried, start=1) if row["outcome"] == "win"]
    gaps = [b - a for a, b in zip([0, *wins], [*wins, len(tried)], strict=True)]
    assert found["longest_gap"] == max(gaps)
    assert found["last_win"] == max(row["number"] for row in rows if row["outcome"] == "win")
    assert [row["gap"] for row in ledger.ask("convergence", run=run)] == gaps[: len(wins)]
    one, two = ledger.ask("compare", run=run, other=ledger.ids["cut off"])
    assert (one["experiments"], one["wins"]) == (30, len(wins))
    assert (two["experiments"], two["wins"], two["state"]) == (0, 0, "running or cut off")
    assert not {row["reading"] for row in ledger.ask("proxy_drift", run=run)} - {
        "worse",
        "better",
        "moved",
        "same",
    }


def test_runs_are_of_a_kind(ledger: Ledger) -> None:
    found = {row["run_id"]: row["kind"] for row in ledger.ask("runs")}
    assert found == {run_id: run["kind"] for run_id, run in ledger.runs.items()}
    for name, kind in (("first", "search"), ("better", "human"), ("recorded", "record")):
        [row] = ledger.ask("review", run=ledger.ids[name])
        assert row["kind"] == kind


def test_frames_are_polars(ledger: Ledger) -> None:
    frame = ledger.journal.sql("leaderboard", most=2)
    assert isinstance(frame, pl.DataFrame)
    assert frame.schema["value"] == pl.Float64
