"""A run's best by segment: values from other paths, intervals, what is unknown, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from sized import memberships, ratio
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.errors import NotResumableError, UsageError
from gtmar.journal.verify import verify
from gtmar.objective.objective import Judge
from gtmar.runs.segments import segment_part
from gtmar.validation.intervals import panel_of, uncertainty

if TYPE_CHECKING:
    from pathlib import Path

NAMES = tuple(f"x{i}" for i in range(3))
START, OTHER = (10, 10, 10), (25, 12, -4)


def table(n: int = 1_500, seed: int = 3) -> pl.DataFrame:
    """Accounts that `x0` keeps but in apac, where it drives them away; twelve are of no region."""
    draw = np.random.default_rng(seed)
    x = {name: draw.random(n) for name in NAMES}
    region = np.where(draw.random(n) < 0.35, "apac", "emea").astype(object)
    logit = (x["x0"] - 0.5) * np.where(region == "apac", -4.0, 5.0)
    region[:12] = None
    mrr = draw.integers(100, 90_000, n)
    retained = (draw.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    return pl.DataFrame(
        {
            "account_id": [f"s{seed}-{i}" for i in range(n)],
            "region": pl.Series(region.tolist(), dtype=pl.String),
            **x,
            "retained_6mo": retained,
            "mrr": mrr / 100,
            "mrr_end": retained * (mrr * draw.uniform(0.7, 1.4, n)).round() / 100,
        }
    )


def make(**more: Any) -> specs.ScoringSpec:
    return specs.ScoringSpec.model_validate(
        {
            "model": "parted",
            "id": "account_id",
            "base": 20,
            "segments": ["region"],
            "features": {n: {"weight": 10, "min": -25, "max": 25} for n in NAMES},
            "tiers": {"A": {"min": 35, "max": 101}, "B": {"min": 0, "max": 35}},
            **more,
        }
    )


TABLE, SPEC = table(), make(split={"holdout": 0})


def scored(weights: tuple[int, ...]) -> pl.DataFrame:
    spec = SPEC.with_weights(dict(zip(NAMES, weights, strict=True)))
    found = runs.score(TABLE, spec).select("score", "tier")
    return pl.concat([TABLE, found], how="horizontal").filter(pl.col("region") == "apac")


def total(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].sum())


def part_of(frame: pl.DataFrame, spec: specs.ScoringSpec = SPEC, name: str | None = None) -> Any:
    accounts = load_accounts(scan(frame), spec)
    return segment_part(accounts.search, spec, Judge.of(spec, name), START, OTHER)


def test_values_are_those_of_scikit_learn_and_of_plain_sums() -> None:
    part = part_of(TABLE)
    apac, emea, unknown = part.lines
    assert [line.name for line in part.lines] == [
        "region=apac",
        "region=emea",
        "region=(unknown)",
    ]
    start = scored(START)
    # Tier A of either score has as many accounts as the start's.
    sizes = [start.filter(pl.col("tier") == tier).height for tier in ("A", "B")]
    for weights, got, at in (
        (START, apac.start, apac.at_start),
        (OTHER, apac.best, apac.at_best),
    ):
        frame = scored(weights)
        assert got.value == pytest.approx(roc_auc_score(frame["retained_6mo"], frame["score"]))
        shares = memberships(frame["score"].to_list(), sizes)
        frame = frame.with_columns(kept=pl.min_horizontal("mrr", "mrr_end"), one=1.0)

        def top(one: str, two: str, shares: Any = shares, frame: pl.DataFrame = frame) -> float:
            return ratio(shares, 0, frame[one].to_list(), frame[two].to_list())

        assert at["nrr"].value == pytest.approx(top("mrr_end", "mrr"))
        assert at["grr"].value == pytest.approx(top("kept", "mrr"))
        assert at["logo_retention"].value == pytest.approx(top("retained_6mo", "one"))
        assert at["logo_retention"].accounts == sizes[0]
    assert apac.accounts == frame.height
    assert apac.retention["nrr"].value == pytest.approx(
        total(frame, "mrr_end") / total(frame, "mrr")
    )
    assert part.gap_best == abs(apac.best.value - emea.best.value)
    assert unknown.accounts == 12


def test_intervals_are_those_of_the_segments_accounts_alone() -> None:
    apac = part_of(TABLE).lines[0]
    alone = TABLE.filter(pl.col("region") == "apac").sample(fraction=1, shuffle=True, seed=1)
    matrix = load_accounts(scan(alone), SPEC).search
    expected = uncertainty(panel_of(matrix, SPEC, START, OTHER))
    for got, side in (
        (apac.start, expected.before),
        (apac.best, expected.after),
        (apac.change, expected.gain),
    ):
        assert got == replace(side["auc_roc_retain"], value=got.value)
        assert got.value == pytest.approx(side["auc_roc_retain"].value)
    assert apac.retention["nrr"] == expected.after["nrr_by_tier.*"]
    assert apac.at_start["grr"] == expected.before["grr_by_tier.A"]
    assert apac.at_best["logo_retention"] == expected.after["logo_retention_by_tier.A"]


def test_a_small_segment_is_unknown_and_shows_nothing_but_its_size() -> None:
    apac, emea, unknown = part_of(TABLE).lines
    assert (apac.reading, emea.reading, unknown.reading) == ("worse", "better", "unknown")
    shown = [unknown.start, unknown.best, unknown.change]
    for side in (unknown.retention, unknown.at_start, unknown.at_best):
        shown += side.values()
    assert {interval.value for interval in shown} == {interval.low for interval in shown} == {None}
    assert {i.reason for i in shown} == {"too few: 12 accounts, 50 needed"}
    few = part_of(TABLE.with_columns(region=pl.lit("one"))).lines
    assert [line.reading for line in few] == ["better"]


def test_values_that_are_numbers_stand_in_their_order() -> None:
    seats = {"apac": 100, "emea": 20}
    region = pl.col("region").replace_strict(seats, default=None, return_dtype=pl.Int64)
    names = [line.name for line in part_of(TABLE.with_columns(region=region)).lines]
    assert names == ["region=20", "region=100", "region=(unknown)"]


def test_less_is_better_where_the_objective_says_so() -> None:
    """More contraction in tier A is worse, though the number rises."""
    low = TABLE.with_columns(
        mrr_end=pl.col("retained_6mo")
        * pl.when(pl.col("x0") > 0.6).then(pl.col("mrr") / 2).otherwise("mrr").round(2)
    )
    line = part_of(low, name="contraction_rate_by_tier.A").lines[1]
    assert line.change.low > 0
    assert line.reading == "worse"


def test_a_risk_score_thinks_best_of_its_lowest_tier() -> None:
    risk = make(orientation="risk", split={"holdout": 0})
    part = part_of(TABLE, risk)
    # The start's sizes are the best's.
    low = scored(START).filter(pl.col("tier") == "B")
    assert part.lines[0].at_best["logo_retention"].accounts == low.height
    assert part.lines[0].reading == "better"


# ---- of a run --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, runs.RunResult]:
    folder = tmp_path_factory.mktemp("segments")
    table(3_000).write_parquet(folder / "a.parquet")
    journal = folder / "journal"
    runs.run(folder / "a.parquet", make(), limits=runs.Limits(30), seed=8, journal=journal)
    found = runs.run(
        folder / "a.parquet", make(), limits=runs.Limits(80), seed=1, journal=journal, cold=True
    )
    return folder, found


@pytest.mark.slow
def test_a_run_is_looked_at_where_it_searched_and_where_it_did_not(
    ran: tuple[Path, runs.RunResult],
) -> None:
    folder, run = ran
    before = verify(folder / "journal").digest
    found = runs.by_segment(run.run_id, journal=folder / "journal")
    searched, held = found.parts
    assert (searched.part, held.part) == ("searched", "held out")
    assert found.experiment == f"{run.run_id}/{run.best_experiment}"
    # The other run's best is another look at the same accounts.
    assert (searched.level, held.level) == (0.95, 0.975)
    accounts = load_accounts(scan(folder / "a.parquet"), make())
    weights = [run.weights[name] for name in NAMES]
    assert list(START) != weights
    judge = Judge.of(make())
    assert searched == segment_part(accounts.search, make(), judge, START, weights)
    assert sum(line.accounts for part in found.parts for line in part.lines) == 3_000
    assert verify(folder / "journal").digest == before
    done = runs.decide(run.run_id, journal=folder / "journal")
    gates = {gate.name: gate for gate in done.gates}
    apac = held.lines[0].change
    assert gates["segment region=apac"].found == (
        f"{apac.value:+.4f}, from {apac.low:+.4f} to {apac.high:+.4f}, {apac.accounts:,} accounts"
    )
    assert gates["segment region=(unknown)"].outcome == "unknown"


@pytest.mark.slow
def test_any_column_can_be_asked_for_and_a_persons_change_too(
    ran: tuple[Path, runs.RunResult], tmp_path: Path
) -> None:
    both = TABLE.with_columns(half=pl.int_range(pl.len()) % 2)
    tried = runs.try_weights(both, make(), {"x0": 25}, note="more of it", journal=tmp_path)
    found = runs.by_segment(tried.run_id, journal=tmp_path, data=both, columns=["half"])
    assert found.columns == ("half",)
    assert [line.name for line in found.parts[0].lines] == ["half=0", "half=1"]
    own = runs.by_segment(tried.run_id, journal=tmp_path, data=both)
    again = runs.by_segment(tried.run_id, journal=tmp_path, data=both, columns=["region", "half"])
    assert again.parts[0].lines == (*own.parts[0].lines, *found.parts[0].lines)


@pytest.mark.slow
def test_some_of_the_specs_segments_can_be_asked_for(tmp_path: Path) -> None:
    both = TABLE.with_columns(half=pl.int_range(pl.len()) % 2)
    spec = make(segments=["region", "half"])
    run = runs.run(both, spec, limits=runs.Limits(5), journal=tmp_path)
    found = runs.by_segment(run.run_id, journal=tmp_path, data=both, columns=["half"])
    assert [line.name for line in found.parts[0].lines] == ["half=0", "half=1"]


@pytest.mark.slow
def test_a_decision_takes_a_segment_of_forty_nine_for_unknown(tmp_path: Path) -> None:
    """Both classes have ten accounts and more, so an interval there is; it proves nothing."""
    outcomes = {}
    for few in (49, 50):
        later = table(2_000, seed=9).with_columns(
            region=pl.when(pl.int_range(pl.len()) < few).then(pl.lit("few")).otherwise("region")
        )
        done = runs.refresh(
            TABLE, later, make(), limits=runs.Limits(20), journal=tmp_path / str(few)
        )
        [gate] = [gate for gate in done.gates if gate.name == "segment region=few"]
        outcomes[few] = (gate.outcome, gate.found.split(",")[0])
    assert outcomes[49] == ("unknown", "unknown: 49 accounts")
    assert outcomes[50][0] != "unknown"


@pytest.mark.slow
def test_what_can_not_be_answered_is_refused(tmp_path: Path) -> None:
    plain = runs.run(TABLE, make(segments=[]), limits=runs.Limits(5), journal=tmp_path)
    with pytest.raises(UsageError, match="names no segments"):
        runs.by_segment(plain.run_id, journal=tmp_path, data=TABLE)
    with pytest.raises(UsageError, match='no column "plan" to take segments from'):
        runs.by_segment(plain.run_id, journal=tmp_path, data=TABLE, columns=["plan"])
    with pytest.raises(UsageError) as near:
        runs.by_segment(plain.run_id, journal=tmp_path, data=TABLE, columns=["regoin"])
    assert near.value.hint == 'did you mean "region"?'
    with pytest.raises(NotResumableError):
        runs.by_segment(plain.run_id, journal=tmp_path, data=TABLE.head(900))


@pytest.mark.slow
def test_the_command_says_who_loses_first_and_gives_all_as_json(
    ran: tuple[Path, runs.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = ran
    monkeypatch.setenv("COLUMNS", "80")
    words = ["segments", run.run_id, "--journal", str(folder / "journal")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert told.stderr == ""
    lines = told.stdout.splitlines()
    assert [line for line in lines if line.startswith("On the ")][1].partition(": ")[2] == (
        "worse in region=apac; better in region=emea; "
        "unknown in region=(unknown) (too few: 5 accounts, 50 needed)."
    )
    tables = [line for line in lines if "region=" in line and not line.startswith("On the ")]
    assert max(map(len, tables)) <= 80
    assert "pass" not in told.stdout
    as_json = CliRunner().invoke(app, [*words, "--json"])
    found = runs.by_segment(run.run_id, journal=folder / "journal")
    assert json.loads(as_json.stdout) == json.loads(json.dumps(found.as_json()))
    missing = CliRunner().invoke(app, [*words, "--segment", "plan"])
    assert missing.exit_code == 2
    assert 'no column "plan"' in missing.stderr
