"""Whether `gtmar walk` and `gtmar watch` say what was planted: nothing, a slow drift, a reversal.

Run it from the checkout: ``python tests/benchmarks/walks.py --rounds 40``. Each round simulates a
team: the same accounts on eight dates a quarter apart, with features that persist and an own
inclination to stay, so that an account's rows are no independent draws. Signals are stable, turn
slowly into others, or turn round on one date. The given weights are those of the truth on the first
date. A round asks whether the walk says that re-tuning pays, and on which date the watch first ends
with `worse`; where signals are stable, of how many dates it says so of a score that was promised to
rank as well as it does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.runs import Limits, promote, score, walk, watch

DAYS = [date(2023 + n // 4, 1 + 3 * (n % 4), 1) for n in range(8)]
#: The date from which on the signals of a reversal are turned round.
TURNS = 4
FEATURES = ("logins", "exports", "invites", "tickets")
#: Log odds a standard deviation of each feature, on the first date and on the last of a drift.
TRUTH = np.array([0.9, 0.6, 0.3, 0.0])
DRIFTED = np.array([0.2, 0.3, 0.6, 0.9])
SPEC = specs.ScoringSpec.model_validate(
    {
        "model": "health",
        "max_score": 1000,
        "base": 50,
        "id": "account_id",
        "window": {
            "features_asof": "features_until",
            "outcome_start": "outcome_start",
            "outcome_end": "outcome_end",
        },
        "features": {
            name: {
                "weight": round(60 * weight),
                "min": -90,
                "max": 90,
                "encode": {"kind": "range", "from": -3, "to": 3},
            }
            for name, weight in zip(FEATURES, TRUTH, strict=True)
        },
        "tiers": {
            "A": {"min": 110, "max": 1001},
            "B": {"min": 90, "max": 110},
            "C": {"min": 0, "max": 90},
        },
    }
)


def signals(kind: str, number: int) -> Any:
    """Return the log odds of each feature on the n-th date."""
    if kind == "drift":
        share = number / (len(DAYS) - 1)
        return (1 - share) * TRUTH + share * DRIFTED
    return -TRUTH if kind == "reversal" and number >= TURNS else TRUTH


def simulate(folder: Path, kind: str, accounts: int, seed: int) -> None:
    """Write the tables of eight dates."""
    draw = np.random.default_rng(seed)
    own, persisting = draw.normal(0, 0.7, accounts), draw.normal(0, 1, (accounts, len(FEATURES)))
    for number, day in enumerate(DAYS):
        values = 0.8 * persisting + 0.6 * draw.normal(0, 1, persisting.shape)
        odds = values @ signals(kind, number) + own + 0.8
        stays = draw.random(accounts) < 1 / (1 + np.exp(-odds))
        until = DAYS[number + 1] if number + 1 < len(DAYS) else day + timedelta(days=91)
        days = {
            "features_until": day - timedelta(days=1),
            "outcome_start": day,
            "outcome_end": until - timedelta(days=1),
        }
        table = pl.DataFrame(
            {
                "account_id": [f"a{n:06}" for n in range(accounts)],
                **dict(zip(FEATURES, values.clip(-3, 3).round(3).T, strict=True)),
                "mrr": np.full(accounts, 100.0),
                "mrr_end": np.where(stays, 100.0, 0.0),
                "retained_6mo": stays.astype(int),
            }
        ).with_columns(**{name: pl.lit(value) for name, value in days.items()})
        place = folder / f"features_asof={day.isoformat()}"
        place.mkdir(parents=True)
        table.write_parquet(place / "accounts.parquet")


def walked(kind: str, accounts: int, seed: int, experiments: int) -> str:
    """Return what the walk says."""
    with tempfile.TemporaryDirectory() as home:
        simulate(Path(home) / "accounts", kind, accounts, seed)
        found = walk(
            f"{home}/accounts",
            SPEC,
            limits=Limits(experiments),
            seed=seed,
            journal=f"{home}/journal",
        )
    return found.verdict


def watched(kind: str, accounts: int, seed: int, expect: str | None = None) -> list[bool]:
    """Return of each date in turn whether the watch says `worse` of it; reversals end it."""
    with tempfile.TemporaryDirectory() as home:
        whole, shown = Path(home) / "whole", Path(home) / "accounts"
        simulate(whole, kind, accounts, seed)
        shown.mkdir()
        options = {"journal": f"{home}/journal", "scores": f"{home}/scores"}
        promote(SPEC, note="as planted", expect=expect, journal=options["journal"])
        worse = []
        for day in DAYS:
            name = f"features_asof={day.isoformat()}"
            (shown / name).symlink_to(whole / name)
            worse.append(watch(str(shown), **options).verdict == "worse")  # type: ignore[arg-type]
            if worse[-1] and kind == "reversal":
                break
    return worse


def kept_promise() -> str:
    """Return the promise that the planted score just keeps: its AUC among 400,000 accounts."""
    with tempfile.TemporaryDirectory() as home:
        simulate(Path(home), "stable", 400_000, 999_999)
        table = pl.read_parquet(f"{home}/features_asof={DAYS[0]}/accounts.parquet")
    known = score(table, SPEC)["score"].rank().filter(table["retained_6mo"] == 1)
    stay, leave = known.len(), table.height - known.len()
    auc = (float(known.sum()) - stay * (stay + 1) / 2) / (stay * leave)
    return f"auc_roc_retain >= {auc:.4f}"


def main() -> None:
    """Print how often what was planted was said."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--accounts", type=int, default=1_500)
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--only", choices=("walk", "watch"), help="ask one of the two alone")
    parser.add_argument("--kinds", nargs="+", default=["stable", "drift", "reversal"])
    asked = parser.parse_args()
    seeds = range(asked.first_seed, asked.first_seed + asked.rounds)
    for kind in asked.kinds if asked.only != "watch" else ():
        if kind != "reversal":
            said = Counter(walked(kind, asked.accounts, s, asked.experiments) for s in seeds)
            print(f"walk, {kind}: pays in {said['pays']} of {asked.rounds} teams; {dict(said)}")
    for kind in asked.kinds if asked.only != "walk" else ():
        if kind == "reversal":
            ends = Counter(len(watched(kind, asked.accounts, s)) - 1 for s in seeds)
            print(
                f"watch, reversal: worse in the first window after it turned in {ends[TURNS]} of "
                f"{asked.rounds} teams; {dict(ends)}"
            )
        if kind == "stable":
            promise = kept_promise()
            dates = [worse for s in seeds for worse in watched(kind, asked.accounts, s, promise)]
            print(f"watch, stable, {promise}: worse on {sum(dates)} of {len(dates)} dates")


if __name__ == "__main__":
    main()
