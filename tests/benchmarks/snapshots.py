"""Account tables from raw history at scale: time, memory, and how both grow with the rows.

Run it from the checkout: ``python tests/benchmarks/snapshots.py``. Subscriptions, plans and events
are made in a temporary folder, a hundred events an account, in the order of time as a log has them;
a snapshot of eight dates is made of each size on two cores, and the bridge of the largest, every
build in a process of its own. On a size that fits into memory a plain pandas and a plain Polars
script make the same tables in turn with it; their values must be the same. It prints Markdown. How
time grows is taken from the time of both cores, which depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl

from gtmar.memory import parse_size
from gtmar.snapshots.bridge import bridge
from gtmar.snapshots.build import build
from gtmar.snapshots.recipe import Span, parse

RECIPE = """
name: scale
sources:
  subs: {data: subscriptions.parquet, account: account_id, from: starts, until: ends}
  events: {data: events.parquet, account: account_id, at: at}
  plans: {data: plans.parquet, account: account_id, valid_from: since}
dates: {from: 2023-07-01, to: 2025-04-01, every: 3 months}
window: 6 months
data_until: 2026-01-01
revenue: {subscriptions: {source: subs, amount: mrr}}
rules: {overlaps: add, events_outside: keep}
features:
  logins_90: {count: events, last: 90 days, where: "name = 'login'"}
  value_90: {sum: events.value, last: 90 days}
  value_mean: {mean: events.value}
  value_trend: {trend: events.value, last: 180 days}
  logins_change: {change: events, last: 30 days, where: "name = 'login'"}
  kinds_90: {distinct: events.name, last: 90 days}
  exports: {share: events, last: 180 days, where: "name = 'export'"}
  days_quiet: {days_since: events}
  last_event: {latest: events.name}
  plan: {latest: plans.plan}
  tenure: {tenure: subs}
"""
EVENTS_AN_ACCOUNT = 100
WAYS = ("gtmar", "pandas", "polars")


def make(folder: Path, events: int) -> None:
    """Write the raw tables of so many events; the first accounts have more than the last."""
    folder.mkdir(parents=True)
    accounts = events // EVENTS_AN_ACCOUNT
    written = "(format parquet, compression zstd)"

    def account(number: str) -> str:
        return f"'acct-' || lpad(cast({number} as varchar), 8, '0')"

    with duckdb.connect(config={"memory_limit": "3GB", "threads": 2}) as connection:
        connection.execute(
            f"copy (with a as (select i, hash(i) as h from range({accounts}) t(i)), "
            "p as (select i, date '2022-01-01' + cast(h % 900 as integer) as b, case when "
            "(h >> 12) % 10 < 4 then date '2022-01-01' + cast(h % 900 + 60 + (h >> 20) % 800 as "
            "integer) end as e, 20 + (h >> 30) % 480 as mrr from a union all select i, date "
            "'2022-01-01' + cast(h % 900 + 100 + (h >> 40) % 500 as integer), null, 20 + (h >> 50) "
            f"% 480 from a where (h >> 8) % 5 = 0) select {account('i')} as account_id, b as "
            "starts, e as ends, cast(mrr as decimal(10, 2)) as mrr from p) "
            f"to '{folder}/subscriptions.parquet' {written}"
        )
        connection.execute(
            f"copy (select {account('i')} as account_id, date '2022-01-01' + "
            "cast(hash(i, n) % 1400 as integer) as since, "
            "['free', 'team', 'business'][1 + cast(hash(n, i) % 3 as bigint)] as plan "
            f"from range({accounts}) a(i), range(2) p(n)) to '{folder}/plans.parquet' {written}"
        )
        skewed = f"cast({accounts} * pow((hash(j) >> 11) / pow(2, 53), 2) as bigint) % {accounts}"
        connection.execute(
            f"copy (select {account(skewed)} as account_id, timestamp '2023-01-01' + "
            f'to_microseconds(cast(j * (1096.0 * 86400e6 / {events}) as bigint)) as "at", '
            "['login', 'export', 'invite', 'search', 'alert'][1 + cast(hash(j, 1) % 5 as bigint)] "
            "as name, cast((hash(j, 2) % 10000) / 100.0 as decimal(10, 2)) as value "
            f"from range({events}) t(j)) to '{folder}/events.parquet' {written}"
        )
    (folder / "snapshots.yaml").write_text(RECIPE, encoding="utf-8")


# ---- the same by hand ----------------------------------------------------------------------------


def by_pandas(folder: Path, out: Path) -> None:
    """Make the tables with pandas, as one would without this program: no check, all in memory."""
    subs = pd.read_parquet(folder / "subscriptions.parquet").astype({"mrr": "float64"})
    for name in ("starts", "ends"):
        subs[name] = pd.to_datetime(subs[name])
    plans = pd.read_parquet(folder / "plans.parquet")
    plans["since"] = pd.to_datetime(plans["since"])
    events = pd.read_parquet(folder / "events.parquet").astype({"value": "float64"})
    for day, end in windows():

        def mrr(at: date) -> pd.Series:
            then = pd.Timestamp(at)
            runs = subs[(subs["starts"] < then) & (subs["ends"].isna() | (subs["ends"] >= then))]
            return runs.groupby("account_id")["mrr"].sum()

        then = pd.Timestamp(day)
        table = pd.DataFrame({"mrr": mrr(day)})
        table = table[table["mrr"] > 0]
        table["mrr_end"] = mrr(end).reindex(table.index).fillna(0.0)
        table["retained_6mo"] = (table["mrr_end"] > 0).astype("int8")
        seen = events[events["at"] < then]

        def last(days: int) -> pd.DataFrame:
            return seen[seen["at"] >= then - pd.Timedelta(days=days)]  # noqa: B023 - used at once

        def count(rows: pd.DataFrame) -> pd.Series:
            return rows.groupby("account_id").size().reindex(table.index).fillna(0)  # noqa: B023

        of_90, of_180 = last(90), last(180)
        logins = seen[seen["name"] == "login"]
        table["logins_90"] = count(of_90[of_90["name"] == "login"])
        table["value_90"] = of_90.groupby("account_id")["value"].sum()
        table["value_90"] = table["value_90"].fillna(0.0)
        table["value_mean"] = seen.groupby("account_id")["value"].mean()
        x = (of_180["at"].dt.normalize() - then).dt.days.astype("float64")
        line = pd.DataFrame(
            {"account_id": of_180["account_id"], "x": x, "y": of_180["value"]}
        ).assign(xx=x * x, xy=x * of_180["value"], n=1.0)
        s = line.groupby("account_id").sum()
        below = s["n"] * s["xx"] - s["x"] ** 2
        table["value_trend"] = (s["n"] * s["xy"] - s["x"] * s["y"]) / below.where(below != 0)
        recent = logins["at"] >= then - pd.Timedelta(days=30)
        before = (logins["at"] >= then - pd.Timedelta(days=60)) & ~recent
        table["logins_change"] = count(logins[recent]) - count(logins[before])
        table["kinds_90"] = of_90.groupby("account_id")["name"].nunique()
        table["kinds_90"] = table["kinds_90"].fillna(0)
        exports = of_180[of_180["name"] == "export"].groupby("account_id").size()
        totals = of_180.groupby("account_id").size()
        table["exports"] = exports.reindex(totals.index).fillna(0) / totals
        newest = seen.groupby("account_id")["at"].max()
        table["days_quiet"] = (then - newest.dt.normalize()).dt.days
        ends = seen.merge(newest.rename("at").reset_index(), on=["account_id", "at"])
        table["last_event"] = ends.groupby("account_id")["name"].max()
        known = plans[plans["since"] < then]
        newest = known.groupby("account_id")["since"].max()
        ends = known.merge(newest.rename("since").reset_index(), on=["account_id", "since"])
        table["plan"] = ends.groupby("account_id")["plan"].max()
        first = subs[subs["starts"] < then].groupby("account_id")["starts"].min()
        table["tenure"] = (then - first).dt.days
        table.sort_index().reset_index().to_parquet(out / f"{day}.parquet")


def by_polars(folder: Path, out: Path) -> None:
    """Make the tables with Polars' streaming engine: no check."""
    subs = pl.scan_parquet(folder / "subscriptions.parquet").with_columns(
        pl.col("mrr").cast(pl.Float64)
    )
    plans = pl.scan_parquet(folder / "plans.parquet")
    events = pl.scan_parquet(folder / "events.parquet").with_columns(
        pl.col("value").cast(pl.Float64)
    )
    for day, end in windows():

        def mrr(at: date, name: str) -> pl.LazyFrame:
            runs = pl.col("ends").is_null() | (pl.col("ends") >= at)
            rows = subs.filter((pl.col("starts") < at) & runs)
            return rows.group_by("account_id").agg(pl.col("mrr").sum().alias(name))

        def last(days: int) -> pl.Expr:
            return at >= day - timedelta(days)  # noqa: B023 - used at once

        at, name, value = pl.col("at"), pl.col("name"), pl.col("value")
        login, of_180 = name == "login", last(180)
        x = (at.dt.date() - pl.lit(day)).dt.total_days().cast(pl.Float64).filter(of_180)
        y = value.filter(of_180)
        n = of_180.sum()
        used = events.filter(at < day).group_by("account_id")
        features = used.agg(
            logins_90=(last(90) & login).sum(),
            value_90=value.filter(last(90)).sum(),
            value_mean=value.mean(),
            above=n * (x * y).sum() - x.sum() * y.sum(),
            below=n * (x * x).sum() - x.sum() * x.sum(),
            logins_change=(last(30) & login).sum().cast(pl.Int64)
            - (last(60) & ~last(30) & login).sum().cast(pl.Int64),
            kinds_90=name.filter(last(90)).n_unique(),
            exports=(of_180 & (name == "export")).sum() / n,
            days_quiet=(pl.lit(day) - at.max().dt.date()).dt.total_days(),
            last_event=name.filter(at == at.max()).max(),
        )
        plan = pl.col("plan").filter(pl.col("since") == pl.col("since").max()).max()
        table = (
            mrr(day, "mrr")
            .filter(pl.col("mrr") > 0)
            .join(mrr(end, "mrr_end"), on="account_id", how="left")
            .join(features, on="account_id", how="left")
            .join(
                plans.filter(pl.col("since") < day).group_by("account_id").agg(plan),
                on="account_id",
                how="left",
            )
            .join(
                subs.filter(pl.col("starts") < day)
                .group_by("account_id")
                .agg(tenure=(pl.lit(day) - pl.col("starts").min()).dt.total_days()),
                on="account_id",
                how="left",
            )
            .with_columns(
                pl.col("mrr_end", "logins_90", "value_90", "logins_change", "kinds_90").fill_null(0)
            )
            .with_columns(
                value_trend=pl.when(pl.col("below") != 0).then(pl.col("above") / pl.col("below")),
                exports=pl.col("exports").fill_nan(None),
                retained_6mo=(pl.col("mrr_end") > 0).cast(pl.Int8),
            )
            .drop("above", "below")
            .sort("account_id")
        )
        table.collect(engine="streaming").write_parquet(out / f"{day}.parquet")


def windows() -> list[tuple[date, date]]:
    """Return the dates and the ends of their windows."""
    return [(day, Span(6, 0).after(day)) for day in parse(RECIPE).days]


def differing(found: Path, wanted: Path) -> int:
    """Count the values that aren't the same, to a billionth where they are shares or sums."""
    wrong = 0
    for day, _ in windows():
        ours = pl.read_parquet(found / f"features_asof={day}" / "accounts.parquet")
        other = pl.read_parquet(wanted / f"{day}.parquet")
        assert ours["account_id"].equals(other["account_id"]), (wanted.name, day)
        for name in parse(RECIPE).features.keys() | {"mrr", "mrr_end", "retained_6mo"}:
            a, b = ours[name], other[name]
            if a.dtype != pl.String:
                a, b = a.cast(pl.Float64), b.cast(pl.Float64).fill_nan(None)
                far = (a - b).abs() > 1e-9 * b.abs() + 1e-8
                wrong += int(far.sum()) + int((a.is_null() != b.is_null()).sum())
            else:
                wrong += int(a.ne_missing(b).sum())
    return wrong


# ---- measuring -----------------------------------------------------------------------------------


def measure(way: str, folder: Path, out: Path, memory: str) -> dict[str, Any]:
    """Make the tables, or the bridge, of one folder in this process; say what it took."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    began, used = time.perf_counter(), time.process_time()
    rows = 0
    if way == "pandas":
        by_pandas(folder, out)
    elif way == "polars":
        by_polars(folder, out)
    else:
        recipe, limit = parse(RECIPE), parse_size(memory)
        if way == "bridge":
            found = bridge(recipe, base=folder, memory=limit)
            assert found.differences == ()
            rows = found.months.height
        else:
            built = build(recipe, out, base=folder, memory=limit)
            rows = sum(each.accounts for each in built.tables)
    return {
        "wall": time.perf_counter() - began,
        "cores": time.process_time() - used,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "rows": rows,
    }


def apart(way: str, folder: Path, out: Path, memory: str) -> dict[str, Any]:
    """Measure in a process of its own, whose temporary files must be gone after it."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, "--measure", way, str(folder), str(out)]
        done = subprocess.run(
            [*command, "--memory", memory],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": scratch, "POLARS_MAX_THREADS": "2"},
        )
        left = list(Path(scratch).iterdir())
        assert left == [], left
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a row a size, then the scripts beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = [5_000_000, 25_000_000, 100_000_000]
    parser.add_argument("--events", type=int, nargs="*", default=sizes)
    parser.add_argument("--beside", type=int, default=sizes[0], help="events of the scripts' table")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--tables", type=Path, help="keep raw tables in this folder, and take them")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        way, folder, out = arguments.measure
        print(json.dumps(measure(way, Path(folder), Path(out), arguments.memory)))
        return
    packages = ", ".join(f"{p} {version(p)}" for p in ("duckdb", "polars", "pandas"))
    print(f"Python {platform.python_version()}, {packages}, {platform.machine()}\n")
    keeping = nullcontext(arguments.tables) if arguments.tables else tempfile.TemporaryDirectory()
    with keeping as kept, tempfile.TemporaryDirectory() as made:

        def raw(events: int) -> Path:
            folder = Path(kept) / str(events)
            if not folder.is_dir():
                make(folder, events)
            return folder

        print("| | event rows | accounts | rows out | s | of cores | µs a row | peak, GB | load |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for events in arguments.events:
            for way in ("gtmar", "bridge") if events == max(arguments.events) else ("gtmar",):
                found = apart(way, raw(events), Path(made) / f"{way}{events}", arguments.memory)
                what = "8 dates" if way == "gtmar" else "bridge"
                each = 1e6 * found["cores"] / events
                print(
                    f"| {what} | {events:,} | {events // EVENTS_AN_ACCOUNT:,} | {found['rows']:,} "
                    f"| {found['wall']:.1f} | {found['cores']:.1f} | {each:.2f} "
                    f"| {found['peak'] / 1e9:.2f} | {os.getloadavg()[0]:.0f} |",
                    flush=True,
                )
        best: dict[str, dict[str, Any]] = {}
        for number in range(arguments.rounds):
            for way in WAYS:
                out = Path(made) / f"{number}{way}"
                found = apart(way, raw(arguments.beside), out, arguments.memory)
                if way not in best or found["cores"] < best[way]["cores"]:
                    best[way] = found
        if not best:
            return
        ours = best["gtmar"]
        print(f"\n{arguments.beside:,} events, best of {arguments.rounds} rounds in turn:\n")
        print("| | s | s of cores | times ours | peak, GB | values that differ |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for way, found in best.items():
            wrong = (
                differing(Path(made) / "0gtmar", Path(made) / f"0{way}") if way != "gtmar" else 0
            )
            print(
                f"| {way} | {found['wall']:.1f} | {found['cores']:.1f} "
                f"| {found['cores'] / ours['cores']:.2f} | {found['peak'] / 1e9:.2f} | {wrong} |"
            )


if __name__ == "__main__":
    main()
