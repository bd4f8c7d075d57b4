"""Who is gone after some days, by tier: followed by hand, and by plain Python."""

from __future__ import annotations

import json
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from lifelines import KaplanMeierFitter
from typer.testing import CliRunner

from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.runs.inputs import tables_by_date
from gtmar.runs.leaving import TimeToLeaving, before_leaving, time_to_leaving
from gtmar.runs.score import score

SPEC = specs.ScoringSpec.model_validate(
    {
        "model": "health",
        "max_score": 100,
        "id": "account_id",
        "features": {
            "logins": {
                "weight": 100,
                "min": 0,
                "max": 100,
                "encode": {"kind": "range", "from": 0, "to": 10},
            },
        },
        "tiers": {"A": {"min": 50, "max": 101}, "B": {"min": 0, "max": 50}},
    }
)
#: Accounts of each date with their logins, and who stayed in the window of as many days.
Rows = dict[str, tuple[int, int | None]]


def write(folder: Path, day: date, rows: Rows, window: int | None = None) -> None:
    place = folder / f"features_asof={day}"
    place.mkdir(parents=True)
    frame = pl.DataFrame({"account_id": [*rows], "logins": [n for n, _ in rows.values()]})
    if window is not None:
        frame = frame.with_columns(
            outcome_end=pl.lit(day + timedelta(days=window - 1)),
            retained_6mo=pl.Series([kept for _, kept in rows.values()], dtype=pl.Int64),
        )
    frame.write_parquet(place / "accounts.parquet")


def shares(found: TimeToLeaving, days: int) -> dict[str, float | None]:
    return {tier: each[days].gone.value for tier, each in found.of("tier").items()}


def test_followed_by_hand(tmp_path: Path) -> None:
    """Of A's rows 1 of 4 is gone in a month; of B's 2 of 3, one of them followed no further."""
    write(tmp_path, date(2026, 1, 1), {"a": (9, None), "b": (8, None), "c": (2, None)})
    write(tmp_path, date(2026, 2, 1), {"a": (9, None), "b": (1, None), "d": (7, None)})
    write(tmp_path, date(2026, 3, 1), {"a": (9, None), "d": (7, None)})
    found = time_to_leaving(tmp_path, SPEC)
    # January: a, b stay, c is gone. February: a, d stay, b is gone, by then one of B. The rows of
    # March, the newest, can't be followed.
    assert shares(found, 30) == {"A": 0.0, "B": 1.0}
    # 60 days: January's two of A, of whom b is gone in March; February's are there at 30 days.
    assert shares(found, 60)["A"] == pytest.approx(0.5)
    each = found.of("tier")["A"]
    assert (each[30].rows, each[30].accounts, each[30].looked) == (4, 3, (28, 31))
    assert (each[60].rows, each[60].looked) == (4, (59, 59))
    assert each[90].gone.reason == "accounts could be followed for 59 days at most"


def test_between_dates_nothing_can_be_told(tmp_path: Path) -> None:
    for day in (date(2026, 1, 1), date(2026, 4, 1), date(2026, 7, 1)):
        write(tmp_path, day, {"a": (9, None)})
    found = time_to_leaving(tmp_path, SPEC).of("tier")
    reason = "no date lies about 30 days after another: between dates nothing can be told"
    assert found["A"][30].gone.value is None
    assert found["A"][30].gone.reason == reason
    assert (found["A"][90].gone.value, found["A"][90].looked) == (0.0, (90, 91))
    assert (found["A"][180].gone.value, found["A"][180].looked) == (0.0, (181, 181))
    # Nobody was ever in B.
    assert found["B"][90].gone.reason == "nobody was followed so long"


def test_a_window_says_who_left_without_a_later_date(tmp_path: Path) -> None:
    rows: Rows = {"a": (9, 1), "b": (9, 0), "c": (9, None), "d": (1, 0)}
    write(tmp_path, date(2026, 1, 1), rows, window=30)
    found = time_to_leaving(tmp_path, SPEC)
    # Of c nobody knows.
    assert shares(found, 30) == {"A": 0.5, "B": 1.0}
    assert found.of("tier")["A"][30].rows == 2


def test_who_left_by_the_windows_end_is_gone_though_the_next_date_has_it(tmp_path: Path) -> None:
    """The end and the date are one day: January's row is gone on it, February's begins on it."""
    write(tmp_path, date(2026, 1, 1), {"a": (9, 0), "b": (9, 1)}, window=31)
    write(tmp_path, date(2026, 2, 1), {"a": (1, None), "b": (1, None)})
    write(tmp_path, date(2026, 3, 1), {"a": (1, None), "b": (1, None)})
    assert shares(time_to_leaving(tmp_path, SPEC), 30) == {"A": 0.5, "B": 0.0}


def paying_and_former(folder: Path, *, former: bool, free: bool = False) -> None:
    """Write three months with windows of 90 days: b leaves in January, c in February.

    With `former`, tables keep those who left, as `population: paying and former` does. With `free`,
    a is a customer who pays nothing.
    """
    paid = 0.0 if free else 5.0
    months: dict[date, dict[str, tuple[int, float, int | None]]] = {
        date(2026, 1, 1): {"a": (9, paid, 1), "b": (9, 5.0, 0), "c": (1, 5.0, 0), "d": (1, 5.0, 1)},
        date(2026, 2, 1): {"a": (9, paid, 1), "c": (1, 5.0, 0), "d": (1, 5.0, 1)},
        date(2026, 3, 1): {"a": (9, paid, None), "d": (1, 5.0, None)},
    }
    left: set[str] = set()
    for day, customers in months.items():
        left |= {*months[date(2026, 1, 1)]} - {*customers}
        everyone = customers | {account: (1, 0.0, None) for account in left if former}
        frame = pl.DataFrame(
            [(account, *row) for account, row in everyone.items()],
            schema={
                "account_id": pl.String,
                "logins": pl.Int64,
                "mrr": pl.Float64,
                "kept": pl.Int8,
            },
            orient="row",
        )
        customer = pl.col("account_id").is_in(list(customers))
        if day < date(2026, 3, 1):
            frame = frame.select(
                "account_id",
                "logins",
                pl.when(customer).then("mrr").alias("mrr"),
                pl.col("kept").alias("retained_6mo"),
                pl.when(~customer).then(pl.lit(0)).alias("won_back"),
                pl.lit(day + timedelta(days=89)).alias("outcome_end"),
            )
        place = folder / f"features_asof={day}"
        place.mkdir(parents=True)
        frame.drop("kept", strict=False).write_parquet(place / "accounts.parquet")


def test_who_has_left_can_neither_stay_nor_leave_again(tmp_path: Path) -> None:
    """Tables that keep those who left say of the others what tables without them say."""
    # Those who left in January are in February's table of former accounts, and those of February
    # in March's, which has no outcomes yet and thus nobody's win-back.
    paying_and_former(tmp_path / "paying", former=False)
    paying_and_former(tmp_path / "former", former=True)
    paying, former = (time_to_leaving(tmp_path / name, SPEC) for name in ("paying", "former"))
    assert former == paying
    # Of A's rows b is gone after a month, and a stays twice; of B's c, in February, of four.
    assert shares(former, 30) == {"A": pytest.approx(1 / 3), "B": 0.25}


def test_scores_before_leaving_are_of_customers(tmp_path: Path) -> None:
    """Whoever stands in later tables as a former account is among the leavers all the same."""
    rows = {}
    for name in ("paying", "former"):
        paying_and_former(tmp_path / name, former=name == "former")
        tables = tables_by_date(tmp_path / name)
        lives: list[Any] = [
            SimpleNamespace(spec=SPEC, day=day, frame=partial(scored_rows, table))
            for day, table in sorted(tables.items())
        ]
        rows[name] = before_leaving(lives, tables)
    assert rows["former"].equals(rows["paying"])
    # b in A and c in B, each scored in January 30 days before it was gone.
    assert rows["former"].row(0, named=True) == {
        "days": 30,
        "leavers": 2,
        "lowest": 0.5,
        "others": 0.5,
        "median": 50.0,
    }


def scored_rows(table: Any) -> pl.DataFrame:
    scored = score(table, SPEC)
    return scored.select(pl.col("account_id").alias("account"), "score", "tier")


def test_a_customer_who_pays_nothing_has_not_left(tmp_path: Path) -> None:
    """Where customers pay nothing, no MRR on a date without outcomes says who is a former one."""
    paying_and_former(tmp_path, former=True, free=True)
    assert shares(time_to_leaving(tmp_path, SPEC), 30)["A"] == pytest.approx(1 / 3)


def panel(draw: np.random.Generator, months: int) -> tuple[list[date], list[Rows]]:
    """Draw tables of a month each: accounts come, pause, leave, and some outcomes are unknown."""
    days = [date(2025 + n // 12, n % 12 + 1, 1) for n in range(months)]
    here = {f"a{n}" for n in range(60)}
    tables: list[Rows] = []
    for n in range(months):
        tables.append(
            {
                name: (int(draw.integers(0, 11)), (1, 1, 1, 0, None)[draw.integers(0, 5)])
                for name in sorted(here)
            }
        )
        here = {name for name in here if draw.random() > 0.1}
        here |= {f"a{draw.integers(0, 60)}", f"n{n}"}
    return days, tables


def by_plain_python(
    days: list[date], tables: list[Rows], window: int, tier: str, asked: int
) -> float | None:
    """Follow each row look by look; the share gone is lifelines'."""
    ladder = {30: [1], 60: [1, 2], 90: [1, 2, 3], 180: [1, 2, 3, 6]}[asked]
    durations, events = [], []
    for at, table in enumerate(tables):
        for name, (logins, _) in table.items():
            if ("A" if logins >= 5 else "B") != tier:
                continue
            seen: dict[date, bool] = {}
            for other in range(len(days)):
                if other > at:
                    seen[days[other]] = seen.get(days[other], True) and name in tables[other]
                kept = tables[other].get(name, (0, None))[1]
                end = days[other] + timedelta(days=window)
                if kept is not None and end > days[at]:
                    seen[end] = seen.get(end, True) and kept == 1
            gone = min((d for d, there in seen.items() if not there), default=None)
            steps = [n for n in ladder if at + n < len(days)]
            durations.append(len(steps))
            events.append(False)
            for number, step in enumerate(steps, start=1):
                if gone is not None and gone <= days[at + step]:
                    durations[-1], events[-1] = number, True
                    break
    fitted = KaplanMeierFitter().fit(durations, events)
    return float(1 - fitted.predict(len(ladder)))


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_way_is_that_of_plain_python(tmp_path: Path, seed: int) -> None:
    """Windows of 5 days end between two dates: they say who left, and are near to no look."""
    days, tables = panel(np.random.default_rng(seed), 10)
    for day, rows in zip(days, tables, strict=True):
        write(tmp_path, day, rows, window=5)
    found = time_to_leaving(tmp_path, SPEC).of("tier")
    for tier in "AB":
        for asked in (30, 60, 90, 180):
            by_hand = by_plain_python(days, tables, 5, tier, asked)
            assert found[tier][asked].gone.value == pytest.approx(by_hand, abs=1e-9), (tier, asked)


def test_fifths_of_the_score_have_every_row_once(tmp_path: Path) -> None:
    days, tables = panel(np.random.default_rng(9), 4)
    for day, rows in zip(days, tables, strict=True):
        write(tmp_path, day, rows)
    found = time_to_leaving(tmp_path, SPEC)
    by_score = [each[30] for each in found.of("score").values()]
    by_tier = [each[30] for each in found.of("tier").values()]
    assert sum(each.rows for each in by_score) == sum(each.rows for each in by_tier)
    assert sum(each.rows for each in by_tier) == sum(len(rows) for rows in tables[:-1])
    assert 4 <= len(by_score) <= 5
    lows = [float(each.band.split(" to ")[0]) for each in by_score]
    assert lows == sorted(lows)


def test_score_adds_what_is_known_of_each_accounts_tier(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("accounts"), date(2026, 1, 1), {"a": (9, None), "b": (8, None), "c": (2, None)})
    write(Path("accounts"), date(2026, 2, 1), {"a": (9, None), "b": (1, None)})
    Path("spec.yaml").write_text(specs.to_json(SPEC), "utf-8")
    words = ["score", "--data", "accounts/features_asof=2026-02-01", "--spec", "spec.yaml"]
    words += ["--history", "accounts", "-o", "scored.parquet"]
    ended = CliRunner().invoke(app, [*words, "--json"])
    assert ended.exit_code == 0, ended.output
    said = json.loads(ended.stdout)
    scored = pl.read_parquet("scored.parquet")
    assert scored.select("account_id", "leaves_30", "leaves_60").rows() == [
        ("a", 0.0, None),
        ("b", 1.0, None),
    ]
    assert len(said["time_to_leaving"]["bands"]) == 4 * (2 + 4)
    told = CliRunner().invoke(app, [*words, "--force"])
    assert "Not known: who is gone after 60 days" in told.output
    assert "could be followed for 31 days at most" in " ".join(told.output.split())
    refused = CliRunner().invoke(app, [*words, "--changed-since", "scored.parquet", "--force"])
    assert refused.exit_code == 2
