"""What the live score says is kept by date, and held once against what became of accounts."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import forks
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from gtmar import spec as specs
from gtmar.errors import UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
from gtmar.runs import Limits, Watched, promote, run, watch
from gtmar.runs.kept_scores import ScoreStore

FIRST, SECOND, THIRD = date(2026, 1, 1), date(2026, 4, 1), date(2026, 7, 1)
SPEC = specs.ScoringSpec.model_validate(
    {
        "model": "health",
        "max_score": 100,
        "id": "account_id",
        "window": {
            "features_asof": "features_until",
            "outcome_start": "outcome_start",
            "outcome_end": "outcome_end",
        },
        "features": {
            "logins": {
                "weight": 60,
                "min": -100,
                "max": 100,
                "encode": {"kind": "range", "from": 0, "to": 30},
            },
            "tickets": {
                "weight": 5,
                "min": -100,
                "max": 100,
                "encode": {"kind": "range", "from": 0, "to": 10},
            },
        },
        "tiers": {
            "A": {"min": 40, "max": 101},
            "B": {"min": 20, "max": 40},
            "C": {"min": 0, "max": 20},
        },
    }
)


def table_of(
    day: date, *, accounts: int = 800, sign: int = 1, outcomes: bool = True
) -> pl.DataFrame:
    """Return the accounts of a date; more logins make them stay, or leave where the sign is -1."""
    draw = np.random.default_rng(day.toordinal())
    logins = draw.integers(0, 31, accounts)
    tickets = draw.integers(0, 11, accounts)
    stays = draw.random(accounts) < 1 / (1 + np.exp(-sign * (logins - 12) / 5))
    mrr = draw.integers(50, 500, accounts).astype(float)
    end = day + timedelta(days=89)
    frame = pl.DataFrame(
        {
            "account_id": [f"a{n:05}" for n in range(accounts)],
            "features_asof": pl.repeat(day, accounts, eager=True),
            "features_until": pl.repeat(day - timedelta(days=1), accounts, eager=True),
            "logins": logins,
            "tickets": tickets,
            "outcome_start": pl.repeat(day, accounts, eager=True),
            "outcome_end": pl.repeat(end, accounts, eager=True),
            "mrr": mrr,
            "mrr_end": np.where(stays, mrr, 0.0),
            "retained_6mo": stays.astype(int),
        }
    )
    return (
        frame if outcomes else frame.drop("mrr_end", "retained_6mo", "outcome_start", "outcome_end")
    )


def write(folder: Path, day: date, **how: Any) -> None:
    place = folder / f"features_asof={day.isoformat()}"
    place.mkdir(parents=True, exist_ok=True)
    table_of(day, **how).drop("features_asof").write_parquet(place / "accounts.parquet")


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a journal whose live spec was promoted with a promise."""
    monkeypatch.chdir(tmp_path)
    promote(SPEC, note="agreed", expect="auc_roc_retain >= 0.75")
    return tmp_path


def watched(**options: Any) -> Watched:
    return watch("accounts", **options)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a team's folder after its first date, and one after its second, made once."""
    places = tuple(tmp_path_factory.mktemp(name) for name in ("first", "second"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(places[0])
        promote(SPEC, note="agreed", expect="auc_roc_retain >= 0.75")
        write(places[0] / "accounts", FIRST)
        watched()
        shutil.copytree(places[0], places[1], dirs_exist_ok=True)
        patch.chdir(places[1])
        write(places[1] / "accounts", SECOND)
        watched()
    return places[0], places[1]


@pytest.fixture
def after_first(kept: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of a team's folder, whose first date was watched."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(kept[0], tmp_path, dirs_exist_ok=True)


@pytest.fixture
def after_both(kept: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of a team's folder, of which two dates were watched."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(kept[1], tmp_path, dirs_exist_ok=True)


def test_the_newest_date_is_kept_and_can_not_be_judged_yet(team: Path) -> None:
    write(team / "accounts", FIRST, outcomes=False)
    found = watched()
    assert [(day, role) for day, role, _ in found.kept] == [(FIRST, "live")]
    assert (found.verdict, found.measurements) == ("unknown", ())
    assert found.waiting == ((FIRST, "its table has no outcomes yet"),)
    [kept] = ScoreStore("scores").kept()
    frame = kept.frame()
    assert frame.columns == [
        "account", "score", "tier", "probability", "model", "spec_id", "scored_on",
    ]  # fmt: skip
    by_hand = table_of(FIRST).select(
        account="account_id",
        score=(pl.col("logins") * 2.0 + pl.col("tickets") * 0.5).round(2),
    )
    assert frame.select("account", "score").equals(by_hand)
    assert set(frame["spec_id"]) == {specs.spec_id(SPEC)}


@pytest.mark.slow
def test_outcomes_are_held_against_the_scores_that_were_kept(team: Path) -> None:
    """Not against what the spec gives now: features that were changed since change nothing."""
    write(team / "accounts", FIRST, outcomes=False)
    watched()
    changed = table_of(FIRST).with_columns(logins=pl.lit(3)).drop("features_asof")
    changed.write_parquet(team / "accounts" / f"features_asof={FIRST}" / "accounts.parquet")
    write(team / "accounts", SECOND, outcomes=False)
    found = watched()
    [measured] = found.measurements
    outcomes = table_of(FIRST)
    scores = ScoreStore("scores").kept()[0].frame()["score"]
    auc = roc_auc_score(outcomes["retained_6mo"], scores)
    assert measured.metrics["auc_roc_retain"].value == pytest.approx(auc, abs=1e-12)
    assert measured.accounts == 800
    assert measured.promise_kept is True
    assert (found.verdict, found.new) == ("holds", (FIRST,))
    tiers = {row["tier"]: row for row in measured.tiers}
    best = (scores >= 40).to_numpy()
    assert tiers["A"]["accounts"] == best.sum()
    retained = outcomes["retained_6mo"].to_numpy()[best].mean()
    assert tiers["A"]["retained"] == pytest.approx(retained)


@pytest.mark.slow
def test_a_table_that_gives_other_scores_is_said_once(team: Path) -> None:
    promote(specs.reweighed(SPEC, {"logins": 50}), note="another")
    write(team / "accounts", FIRST)
    path = team / "accounts" / f"features_asof={FIRST}" / "accounts.parquet"
    watched()
    frame = pl.read_parquet(path)
    frame.reverse().write_parquet(path)
    assert watched().notes == ()
    frame.with_columns(logins=pl.lit(3)).write_parquet(path)
    [note] = watched().notes
    assert note.startswith(f"The table of {FIRST} gives other scores now")


@pytest.mark.slow
def test_a_date_is_measured_once_and_kept_bytes_stay(after_first: Path) -> None:
    files = {path: path.read_bytes() for path in Path("scores").rglob("*.parquet")}
    with Journal("journal") as opened:
        before = opened.query("select event_id from events")["event_id"].to_list()
    again = watched()
    assert (again.kept, again.new) == ((), ())
    assert again.verdict == "holds"
    assert {path: path.read_bytes() for path in Path("scores").rglob("*.parquet")} == files
    with Journal("journal") as opened:
        assert opened.query("select event_id from events")["event_id"].to_list() == before


@pytest.mark.slow
def test_a_reversal_ends_with_exit_code_10_in_its_first_window(team: Path) -> None:
    write(team / "accounts", FIRST)
    assert command().returncode == 0
    write(team / "accounts", SECOND, sign=-1)
    ended = command()
    assert ended.returncode == 10
    first = ended.stdout.splitlines()[0]
    assert first.startswith(f"health: Upside down on the accounts of {SECOND}: of 100 pairs")


@pytest.mark.slow
def test_without_a_window_that_is_over_the_exit_code_is_11(team: Path) -> None:
    write(team / "accounts", FIRST, outcomes=False)
    ended = command("--json")
    assert ended.returncode == 11
    assert json.loads(ended.stdout)["verdict"] == "unknown"


def command(*options: str) -> forks.Ended:
    return forks.gtmar("watch", "--data", "accounts", *options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"accounts": 12}, "Can't be told on"),
        ({"sign": 0, "accounts": 300}, "No better than a coin"),
    ],
)
def test_what_chance_may_give_does_not_hold(
    tmp_path: Path, monkeypatch: Any, how: dict[str, int], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    promote(SPEC, note="without a promise")
    write(tmp_path / "accounts", FIRST, **how)
    found = watched()
    assert found.verdict == "unknown"
    assert why in found.sentence


@pytest.mark.slow
def test_a_promise_that_is_broken_beyond_chance_is_worse(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    promote(SPEC, note="hope", expect="auc_roc_retain >= 99%")
    write(tmp_path / "accounts", FIRST)
    found = watched()
    assert found.verdict == "worse"
    assert found.measurements[0].promise_kept is False
    assert "Short of its promise" in found.sentence
    assert "auc_roc_retain 0.8" in found.sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "expect", "says"),
    [
        ({"sign": -1}, "logo_retention_by_tier.A >= 90%", "Upside down"),
        ({}, "logo_retention_by_tier.A >= 99.9%", "Worse on the accounts"),
        ({"sign": 0, "stay": True}, "arpa_by_tier.A >= 1000", "auc_roc_retain has no value"),
    ],
)
def test_a_broken_promise_is_told_whatever_else_is_wrong(
    tmp_path: Path, monkeypatch: Any, how: dict[str, Any], expect: str, says: str
) -> None:
    """Each stood in the record as broken, and in no sentence; of the last exit code 11 came."""
    monkeypatch.chdir(tmp_path)
    promote(specs.reweighed(SPEC, {"logins": 90}), note="before")
    live = specs.reweighed(SPEC, {"logins": 30, "tickets": 40})
    promote(live, note="hope", expect=expect)
    stay = how.pop("stay", False)
    write(tmp_path / "accounts", FIRST, **how)
    if stay:
        path = tmp_path / "accounts" / f"features_asof={FIRST}" / "accounts.parquet"
        all_stay = {"retained_6mo": pl.lit(1), "mrr_end": pl.col("mrr")}
        pl.read_parquet(path).with_columns(**all_stay).write_parquet(path)
    found = watched()
    assert found.measurements[0].promise_kept is False
    assert found.verdict == "worse"
    assert says in found.sentence
    assert expect.partition(" ")[0] in found.sentence
    assert "beyond chance" in found.sentence


@pytest.mark.slow
def test_free_text_is_no_promise_and_an_unknown_metric_is_refused(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="auc_roc_retian"):
        promote(SPEC, note="hope", expect="auc_roc_retian >= 0.8")
    with pytest.raises(UsageError, match="is no number"):
        promote(SPEC, note="hope", expect="auc_roc_retain >= 0.8.1")
    assert not Path("journal").exists()
    promote(SPEC, note="hope", expect="fewer calls, we hope")
    write(tmp_path / "accounts", FIRST)
    assert watched().measurements[0].promise_kept is None


@pytest.mark.slow
def test_predecessor_and_shadow_are_measured_on_the_same_accounts(team: Path) -> None:
    worse = specs.reweighed(SPEC, {"logins": -10, "tickets": 40})
    shadow = specs.reweighed(SPEC, {"logins": 90})
    promote(worse, note="a mistake")
    write(team / "accounts", FIRST, outcomes=False)
    kept = watched(shadows=[shadow]).kept
    assert [role for _, role, _ in kept] == ["live", "predecessor", "shadow"]
    write(team / "accounts", FIRST)
    found = watched(shadows=[shadow])
    [measured] = found.measurements
    retained = table_of(FIRST)["retained_6mo"]
    auc = {
        each.role: roc_auc_score(retained, each.frame()["score"])
        for each in ScoreStore("scores").kept()
    }
    gain = measured.gains["predecessor"]
    assert gain.value == pytest.approx(auc["live"] - auc["predecessor"], abs=1e-12)
    assert gain.high is not None
    assert gain.high < 0
    beside = measured.gains[f"shadow {specs.score_id(shadow)}"]
    assert beside.value == pytest.approx(auc["shadow"] - auc["live"], abs=1e-12)
    # Upside down comes before worse than the one before: both are so here.
    assert found.verdict == "worse"
    with Journal("journal") as opened:
        looks = opened.sql("holdout_looks")
    assert set(looks["comparison"]) == {specs.spec_id(SPEC), specs.spec_id(shadow)}


@pytest.mark.slow
def test_worse_than_the_spec_before_it_is_said(team: Path) -> None:
    promote(specs.reweighed(SPEC, {"logins": 20, "tickets": 40}), note="a mistake")
    write(team / "accounts", FIRST)
    found = watched()
    assert found.verdict == "worse"
    assert f"Worse on the accounts of {FIRST} than the score before it" in found.sentence


@pytest.mark.slow
def test_a_predecessor_of_other_columns_is_left_out_and_said(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    data = SPEC.model_dump(mode="json", exclude_none=True)
    data["features"] = {"gone_column": data["features"]["logins"]}
    promote(specs.ScoringSpec.model_validate(data), note="of another table")
    promote(SPEC, note="of this one")
    write(tmp_path / "accounts", FIRST)
    found = watched()
    assert [role for _, role, _ in found.kept] == ["live"]
    assert "The predecessor can't be scored" in found.notes[0]
    assert "gone_column" in found.notes[0]


@pytest.mark.slow
def test_what_goes_live_later_is_a_shadow_of_the_date(team: Path) -> None:
    write(team / "accounts", FIRST, outcomes=False)
    watched()
    promote(specs.reweighed(SPEC, {"logins": 50}), note="after the date")
    found = watched()
    assert [role for _, role, _ in found.kept] == ["shadow"]
    assert "Another spec was live" in found.notes[0]
    write(team / "accounts", FIRST)
    [measured] = watched().measurements
    assert measured.score_id == specs.score_id(SPEC)
    # What is live now has no date of its own yet.
    assert watched().verdict == "unknown"


@pytest.mark.slow
def test_accounts_that_were_searched_do_not_judge(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "accounts", FIRST)
    one = f"accounts/features_asof={FIRST}"
    plain = SPEC.model_copy(update={"split": SPEC.split.model_copy(update={"holdout": 0.3})})
    found = run(one, plain, limits=Limits(20), seed=1)
    with Journal("journal") as opened:
        from gtmar.journal import lookup

        best = lookup.checkout(opened, found.run_id)
    promote(best, note="searched here")
    seen = watched()
    assert seen.verdict == "unknown"
    assert "searched on them" in seen.measurements[0].sentence


@pytest.mark.slow
def test_late_scores_are_called_a_backtest(after_first: Path) -> None:
    today = datetime.now(UTC).date()
    write(after_first / "accounts", today, outcomes=False)
    found = watched()
    [measured] = found.measurements
    assert measured.in_time is False
    assert "a backtest, no forecast" in measured.sentence
    assert found.waiting == ((today, "its table has no outcomes yet"),)


@pytest.mark.slow
def test_grace_puts_a_date_off(team: Path) -> None:
    write(team / "accounts", FIRST)
    end = FIRST + timedelta(days=89)
    found = watched(today=end + timedelta(days=5), grace=5)
    assert found.waiting == ((FIRST, f"its window ends on {end}"),)
    assert watched(today=end + timedelta(days=6), grace=5).new == (FIRST,)


@pytest.mark.slow
def test_what_is_forgotten_stays_measured(after_both: Path) -> None:
    found = watched(forget_before=SECOND)
    assert found.forgotten == 1
    assert [each.day for each in ScoreStore("scores").kept()] == [SECOND]
    assert not (after_both / "scores" / f"features_asof={FIRST}").exists()
    assert [each.day for each in watched().measurements] == [FIRST, SECOND]


@pytest.mark.slow
def test_what_the_score_said_before_accounts_left(after_both: Path) -> None:
    rows = {row["days"]: row for row in watched().before_leaving.to_dicts()}
    # Everybody stands in both tables, so that those who left did in the second window.
    left = table_of(SECOND).filter(pl.col("retained_6mo") == 0)
    scores = left.select((pl.col("logins") * 2.0 + pl.col("tickets") * 0.5).round(2)).to_series()
    assert {row["leavers"] for row in rows.values()} == {left.height}
    assert rows[60]["lowest"] == pytest.approx((scores < 20).mean())
    stayed = table_of(SECOND).filter(pl.col("retained_6mo") == 1)
    others = stayed.select((pl.col("logins") * 2.0 + pl.col("tickets") * 0.5).round(2)).to_series()
    # Of the same date alone: another date's scores are of other features.
    assert rows[60]["others"] == pytest.approx((others < 20).mean())
    assert rows[60]["median"] == pytest.approx(scores.median())


@pytest.mark.slow
def test_two_at_once_do_not_write_both(team: Path) -> None:
    write(team / "accounts", FIRST)
    held = ScoreStore("scores").alone()
    with held, pytest.raises(UsageError, match="another process is writing"):
        watched()
    assert watched().new == (FIRST,)


@pytest.mark.slow
def test_the_story_is_in_log_history_and_sql(after_first: Path) -> None:
    assert verify(Path("journal")).findings == ()
    with Journal("journal") as opened:
        assert opened.query("select * from measurements").height == 1
        [row] = opened.sql("live_history").to_dicts()
        [live] = opened.sql("live").to_dicts()
    assert (row["measured"], row["measured_on"], row["promise_kept"]) == (1, FIRST, True)
    assert row["value"] == pytest.approx(watched().measurements[0].metrics["auc_roc_retain"].value)
    assert live["held"] == "holds"
    said = forks.gtmar("log").stdout
    assert "Expected: auc_roc_retain >= 0.75" in said
    assert f"Measured: Holds on the accounts of {FIRST}" in said


@pytest.mark.slow
def test_what_can_not_be_watched(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "accounts", FIRST)
    with pytest.raises(UsageError, match="nothing is live"):
        watched()
    promote(SPEC, note="one")
    promote(SPEC.model_copy(update={"model": "other"}), note="two")
    with pytest.raises(UsageError, match="2 models are live"):
        watched()
    assert watched(model="other").model == "other"
    with pytest.raises(UsageError, match='a shadow of "other" must be of that model, got "health"'):
        watched(model="other", shadows=[SPEC])
    assert len(ScoreStore("scores").kept()) == 1
    with pytest.raises(UsageError, match="4 shadows, and 3 at most"):
        watched(model="other", shadows=[SPEC] * 4)
