"""Walking forward: each step searches what was known, and the next date judges."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import forks
import numpy as np
import polars as pl
import pytest
from engines import PASSWORD, postgres
from sklearn.metrics import roc_auc_score

from gtmar import spec as specs
from gtmar.data.databases import fetch
from gtmar.data.scan import Source
from gtmar.errors import AccountDataError
from gtmar.journal.catalog import Journal
from gtmar.journal.verify import verify
from gtmar.runs import Limits, Walked, replay, walk

DAYS = [date(2024, 1, 1), date(2024, 4, 1), date(2024, 7, 1), date(2024, 10, 1)]
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
            name: {
                "weight": 20,
                "min": -60,
                "max": 60,
                "encode": {"kind": "range", "from": 0, "to": 10},
            }
            for name in ("logins", "tickets")
        },
        "base": 30,
        "tiers": {
            "A": {"min": 60, "max": 101},
            "B": {"min": 45, "max": 60},
            "C": {"min": 0, "max": 45},
        },
    }
)


def table_of(day: date, *, accounts: int = 500, drift: float = 0.0) -> pl.DataFrame:
    """Return a date's accounts: logins keep them, and tickets too, or the reverse as it drifts."""
    draw = np.random.default_rng(day.toordinal())
    logins, tickets = draw.integers(0, 11, accounts), draw.integers(0, 11, accounts)
    pull = 0.5 * (logins - 5) + 0.5 * (1 - 2 * drift) * (tickets - 5)
    stays = draw.random(accounts) < 1 / (1 + np.exp(-pull))
    until = DAYS.index(day) + 1
    end = (DAYS[until] if until < len(DAYS) else day + timedelta(days=92)) - timedelta(days=1)
    every = pl.repeat(0, accounts, eager=True)
    return pl.DataFrame(
        {
            "account_id": [f"a{n:05}" for n in range(accounts)],
            "features_until": pl.repeat(day - timedelta(days=1), accounts, eager=True),
            "logins": logins,
            "tickets": tickets,
            "their_score": 100 - logins * 5,
            "outcome_start": pl.repeat(day, accounts, eager=True),
            "outcome_end": pl.repeat(end, accounts, eager=True),
            "mrr": every + 100.0,
            "mrr_end": np.where(stays, 100.0, 0.0),
            "retained_6mo": stays.astype(int),
        }
    )


def write(folder: Path, drifts: list[float], *, last_open: bool = False) -> None:
    for number, (day, drift) in enumerate(zip(DAYS, drifts, strict=False)):
        place = folder / f"features_asof={day.isoformat()}"
        place.mkdir(parents=True)
        table = table_of(day, drift=drift)
        if last_open and number == len(drifts) - 1:
            table = table.drop("outcome_start", "outcome_end", "mrr_end", "retained_6mo")
        table.write_parquet(place / "accounts.parquet")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


#: Of a step.
EXPERIMENTS = 60


def walked(**options: Any) -> Walked:
    return walk("accounts", SPEC, limits=Limits(EXPERIMENTS), seed=1, **options)


def made(folder: Path, drifts: list[float], **options: Any) -> tuple[Path, Walked]:
    """Walk once for several tests; those that write more go on in a copy."""
    write(folder / "accounts", drifts)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, walked(**options)


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Walked]:
    return made(tmp_path_factory.mktemp("two"), [0, 0.5, 1])


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Walked]:
    return made(tmp_path_factory.mktemp("three"), [0, 0.5, 1, 1], score_column="their_score")


def score_of(table: pl.DataFrame, weights: dict[str, int]) -> np.ndarray[Any, Any]:
    raw = 30 + sum(weights[name] * table[name].to_numpy() / 10 for name in ("logins", "tickets"))
    return np.clip(np.floor(np.asarray(raw) * 100 + 0.5) / 100, 0, 100)


@pytest.mark.slow
def test_each_step_is_a_run_that_the_next_date_judges(
    three_steps: tuple[Path, Walked], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = three_steps
    monkeypatch.chdir(folder)
    assert [step.day for step in found.steps] == DAYS[1:]
    assert [step.known for step in found.steps] == [(DAYS[0], day) for day in DAYS[:3]]
    assert found.left_out == ((DAYS[0], "no outcomes were over before it"),)
    first = found.steps[0].weights
    for step, drift in zip(found.steps, [0.5, 1, 1], strict=True):
        table = table_of(step.day, drift=drift)
        kept = table["retained_6mo"]
        by_hand = {
            "alone": score_of(table, SPEC.weights),
            "once": score_of(table, first),
            "retuned": score_of(table, step.weights),
            "column": table["their_score"].to_numpy(),
        }
        for name, scores in by_hand.items():
            assert step.values[name] == pytest.approx(roc_auc_score(kept, scores), abs=1e-12), name
    with Journal("journal") as journal:
        runs = journal.query("select run_id, parent_run, note from runs order by started_at")
    assert runs["run_id"].to_list() == [step.run_id for step in found.steps]
    assert runs["parent_run"].to_list() == [None, *(step.run_id for step in found.steps[:-1])]
    assert verify(Path("journal")).findings == ()


@pytest.mark.slow
def test_the_interval_leaves_groups_of_accounts_out_in_turn(
    three_steps: tuple[Path, Walked],
) -> None:
    _, found = three_steps
    groups = (np.arange(500, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    groups %= np.uint64(40)

    def mean_gain(kept: np.ndarray[Any, Any]) -> float:
        gains = []
        for step, drift in zip(found.steps, [0.5, 1, 1], strict=True):
            table = table_of(step.day, drift=drift).filter(pl.Series(kept))
            label = table["retained_6mo"]
            new, old = (score_of(table, w) for w in (step.weights, SPEC.weights))
            gains.append(roc_auc_score(label, new) - roc_auc_score(label, old))
        return float(np.mean(gains))

    from scipy import stats

    value = mean_gain(np.ones(500, dtype=bool))
    without = np.array([mean_gain(groups != group) for group in range(40)])
    deviation = np.sqrt(39 / 40 * ((without - without.mean()) ** 2).sum())
    reach = stats.t.ppf(0.975, 39) * deviation
    gain = found.gains["alone"]
    assert gain.value == pytest.approx(value, abs=1e-12)
    assert gain.low == pytest.approx(value - reach, rel=1e-3)
    assert gain.high == pytest.approx(value + reach, rel=1e-3)
    assert gain.accounts == 500


@pytest.mark.slow
def test_a_walk_takes_any_table_of_several_dates(
    two_steps: tuple[Path, Walked], folder: Path
) -> None:
    """The same walk, to the id: which says that each step saw the same rows."""
    _, by_folder = two_steps
    parts = [
        table_of(day, drift=drift).with_columns(features_asof=pl.lit(day))
        for day, drift in zip(DAYS, [0, 0.5, 1], strict=False)
    ]
    every = pl.concat(parts)
    every.rename({"features_asof": "day"}).write_parquet("days.parquet")
    with duckdb.connect("accounts.duckdb") as database:
        database.execute("create table accounts as from 'days.parquet'")
    select = "select * exclude (day), day as features_asof from accounts"
    sources = {
        "frame": every,
        "column": Source("days.parquet", at=f"day={DAYS[0]}..{DAYS[2]}"),
        "query": Source("days.parquet", query=select),
        "database": Source("duckdb:///accounts.duckdb?table=accounts", query=select),
    }
    for name, data in sources.items():
        found = walk(data, SPEC, limits=Limits(EXPERIMENTS), seed=1, journal=name)
        assert (found.walk_id, found.gains) == (by_folder.walk_id, by_folder.gains), name
        if isinstance(data, Source):
            # What each step is on is on record, down to the query and the dates; the last one is
            # on all of them.
            assert replay(found.steps[-1].run_id, journal=name).identical, name


@pytest.mark.slow
def test_a_walk_over_postgresql_is_resumed_and_reads_the_database_once(
    two_steps: tuple[Path, Walked], folder: Path
) -> None:
    parts = [
        table_of(day, drift=drift).with_columns(features_asof=pl.lit(day))
        for day, drift in zip(DAYS, [0, 0.5, 1], strict=False)
    ]
    _, by_folder = two_steps
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with postgres(port=port) as server:
        if server is None:
            pytest.skip("PostgreSQL is not installed here")
        server.load("accounts", pl.concat(parts))
        address = f"{server.address}?table=accounts"
        reads = 0

        def counted(location: str, path: Path) -> Any:
            nonlocal reads
            reads += 1
            return fetch(location, path)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gtmar.data.scan.fetch", counted)
            found = walk(address, SPEC, limits=Limits(EXPERIMENTS), seed=1)
        assert reads == 1
        assert (found.walk_id, found.gains) == (by_folder.walk_id, by_folder.gains)
        assert walk(address, SPEC, limits=Limits(EXPERIMENTS), seed=1).reused == 2
    journal = b"".join(path.read_bytes() for path in Path("journal").rglob("*") if path.is_file())
    assert PASSWORD.encode() not in journal
    assert found.source.endswith("/postgres?table=accounts")


@pytest.mark.slow
def test_where_nothing_changes_the_weights_are_left_alone(folder: Path) -> None:
    write(folder / "accounts", [0, 0, 0, 0])
    found = walked()
    assert found.verdict == "alone"
    assert found.sentence.startswith("Leave the weights alone: ")


@pytest.mark.slow
def test_where_signals_turn_re_tuning_pays(folder: Path) -> None:
    write(folder / "accounts", [0.8, 0.9, 1, 1])
    found = walked()
    assert found.verdict == "pays"
    assert found.wins("alone") == 3
    assert found.sentence.startswith("Re-tuning on each date would have paid, on 3 of 3 dates: ")
    lost = held = 0.0
    for step, drift in zip(found.steps, [0.9, 1, 1], strict=True):
        table = table_of(step.day, drift=drift)
        alone = score_of(table, SPEC.weights)
        size = int((alone < 45).sum())
        new = score_of(table, step.weights)
        left = (table["retained_6mo"] == 0).to_numpy()
        # Ties across the cut belong to the worst tier in part.
        edge = np.sort(new)[size - 1]
        inside = np.where(new < edge, 1.0, 0.0)
        tied = new == edge
        inside[tied] = (size - inside.sum()) / tied.sum()
        held, lost = held + inside[left].sum(), lost + left.sum()
    assert found.caught["retuned"] == pytest.approx(held / lost)
    # What the first tuning does is said beside it, and nothing where re-tuning beats that, too.
    for low, high, said in (
        (-0.005, -0.001, "tuned once, on the first date, would have been better: +0.0030 (+0.0010"),
        (-0.005, 0.001, "no better beyond chance than weights tuned once, on the first date."),
        (0.001, 0.005, None),
    ):
        once = replace(found.gains["once"], value=(low + high) / 2, low=low, high=high)
        sentence = replace(found, gains={**found.gains, "once": once}).sentence
        assert said in sentence if said else "once" not in sentence


@pytest.mark.slow
def test_a_walk_is_done_once_and_goes_on_where_it_was_cut_off(
    two_steps: tuple[Path, Walked], folder: Path
) -> None:
    before, short = two_steps
    shutil.copytree(before, folder, dirs_exist_ok=True)
    write_more = table_of(DAYS[3], drift=1)
    place = folder / "accounts" / f"features_asof={DAYS[3]}"
    again = walked()
    assert (again.reused, again.event_id) == (2, short.event_id)
    with Journal("journal") as journal:
        assert journal.query("select 1 from runs").height == 2
    place.mkdir()
    write_more.write_parquet(place / "accounts.parquet")
    # Another date is another walk.
    longer = walked()
    assert longer.walk_id != short.walk_id
    assert len(longer.steps) == 3


@pytest.mark.slow
def test_a_step_that_was_killed_is_searched_again(
    two_steps: tuple[Path, Walked], folder: Path
) -> None:
    before, whole = two_steps
    shutil.copytree(before, folder, dirs_exist_ok=True)
    last = Path("journal/runs") / f"run_id={whole.steps[-1].run_id}"
    for name in ("end.parquet", "seal"):
        (last / name).unlink()
    for event in Path("journal/events").iterdir():
        event.unlink()
    again = walked()
    assert again.reused == 1
    assert again.steps[0].run_id == whole.steps[0].run_id
    assert again.steps[1].run_id != whole.steps[1].run_id
    assert again.steps[1].weights == whole.steps[1].weights
    assert again.gains == whole.gains


@pytest.mark.slow
def test_a_walk_that_is_killed_at_any_moment_goes_on_to_the_same_end(folder: Path) -> None:
    write(folder / "accounts", [0, 0.5, 1])
    Path("spec.yaml").write_text(specs.to_yaml(SPEC), "utf-8")
    words = ["walk", "--data", "accounts", "--spec", "spec.yaml", "--seed", "1"]
    words += ["--n", "20"]

    def begun(journal: str) -> forks.Fork:
        return forks.start(*words, "--journal", journal, "--json", "-q")

    def said(process: forks.Fork) -> tuple[dict[str, Any], list[str]]:
        done = process.ended()
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        runs = [step.pop("run_id") for step in found["steps"]]
        # By when a run was done, and what was found done, they differ.
        for name in ("event_id", "reused"):
            found.pop(name)
        return found, runs

    def digests_of(journal: str, runs: list[str]) -> list[str]:
        with Journal(journal) as opened:
            rows = opened.query("select run_id, digest from runs where state = 'finished'")
        by_run = dict(rows.select("run_id", "digest").iter_rows())
        # In the order of steps: ids are drawn, so their own order says nothing.
        return [by_run[run] for run in runs]

    undisturbed, runs = said(begun("whole"))
    digests = digests_of("whole", runs)
    assert len(runs) == 2
    kills = 0
    # Later and later, until it is done before it is killed.
    for moment in np.geomspace(0.05, 60.0, 11):
        process = begun("killed")
        seen = time.monotonic()
        while not Path("killed").exists() and process.wait(0.01) is None:
            seen = time.monotonic()
        if process.wait(max(0, seen + moment - time.monotonic())) is not None:
            break
        process.kill()
        assert process.wait() == -signal.SIGKILL
        kills += 1
    assert kills >= 2
    found, runs = said(begun("killed"))
    assert found == undisturbed
    with Journal("killed") as journal:
        walks = journal.query("select 1 from events where kind = 'walk'").height
    assert digests_of("killed", runs) == digests
    assert walks == 1
    unsound = [f for f in verify(Path("killed")).findings if "isn't finished" not in str(f)]
    assert unsound == []


@pytest.mark.slow
def test_a_date_without_outcomes_judges_nothing(folder: Path) -> None:
    write(folder / "accounts", [0, 0, 0], last_open=True)
    found = walked()
    assert [step.day for step in found.steps] == [DAYS[1]]
    assert (DAYS[2], "its outcomes aren't known") in found.left_out


def test_one_date_is_no_walk(folder: Path) -> None:
    write(folder / "accounts", [0])
    with pytest.raises(AccountDataError, match="no date of 1 can be judged"):
        walked()
