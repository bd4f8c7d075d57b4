"""What a page shows, read from its HTML, and what a journal says, read from its Parquet files.

The second uses none of gtmar's queries, so that the two can be held against each other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Shown",
    "agrees",
    "attributes_in",
    "details_of",
    "experiments_of",
    "proof_numbers",
    "record_of",
    "report_numbers",
    "revenue_numbers",
    "values_in",
]


@dataclass(frozen=True)
class Shown:
    """A number on a page: what people read, and the exact value beside it; None for no value."""

    text: str
    exact: str | None


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[Shown]] = {}
        self.open: tuple[str, str, str | None] | None = None
        self.text = ""
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.attributes += given
        if key := given.get("data-key"):
            self.open, self.text = (tag, key, given.get("value")), ""

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[0] == tag:
            _, key, exact = self.open
            self.found.setdefault(key, []).append(Shown(self.text.strip(), exact))
            self.open = None


def values_in(html: str) -> dict[str, list[Shown]]:
    """Return every number of a page by its key; one that stands twice has two."""
    reader = _Reader()
    reader.feed(html)
    return reader.found


def attributes_in(html: str) -> list[str]:
    """Return the names of all attributes of a page's elements."""
    reader = _Reader()
    reader.feed(html)
    return reader.attributes


def agrees(shown: Shown, value: float | None) -> bool:
    """Whether a number is the value: exactly in its attribute, and rounded in what people read."""
    if value is None or shown.exact is None:
        return value is None and shown.exact is None and shown.text == "\u2013"
    if float(shown.exact) != value:
        return False
    plain = shown.text.replace("\u2212", "-").replace(",", "")
    scale = Decimal(100) if plain.endswith("%") else Decimal(1)
    read = Decimal(plain.rstrip("%"))
    unit = Decimal(1).scaleb(int(read.as_tuple().exponent))
    return abs(read - Decimal(value) * scale) <= unit / 2


def experiments_of(journal: Path, run_id: str) -> list[dict[str, Any]]:
    """Return a run's rows in order, maps as dicts."""
    rows: list[dict[str, Any]] = []
    for part in sorted((journal / "experiments" / f"run_id={run_id}").glob("*.parquet")):
        rows += pq.read_table(part, partitioning=None).to_pylist(maps_as_pydicts="strict")
    return sorted(rows, key=lambda row: row["number"])


def record_of(journal: Path, run_id: str, name: str) -> dict[str, Any]:
    """Return a run's `start` or `end` record."""
    path = journal / "runs" / f"run_id={run_id}" / f"{name}.parquet"
    table = pq.read_table(path, partitioning=None)
    row: dict[str, Any] = table.to_pylist(maps_as_pydicts="strict")[0]
    return row


def report_numbers(journal: Path, run_id: str) -> dict[str, float | None]:
    """Return what a report must show of a run's wins, weights, tiers and metrics, by key."""
    rows = experiments_of(journal, run_id)
    start, end = record_of(journal, run_id, "start"), record_of(journal, run_id, "end")
    kept = [row for row in rows if row["outcome"] in ("baseline", "win")]
    first, best = kept[0], kept[-1]
    judged = [row for row in rows if row["outcome"] not in ("baseline", "known")]
    found: dict[str, float | None] = {
        "summary.baseline_value": first["value_after"],
        "summary.best_value": best["value_after"],
        "summary.experiments": len(judged),
        "summary.wins": len(kept) - 1,
        "summary.accounts": start["search_accounts"],
        "summary.holdout_accounts": start["holdout_accounts"],
        "summary.longest_gap": _longest_gap(judged),
    }
    if end["holdout_best_value"] is not None:
        found["summary.holdout_baseline_value"] = end["holdout_baseline_value"]
        found["summary.holdout_best_value"] = end["holdout_best_value"]
    if judged:
        found["summary.win_rate"] = (len(kept) - 1) / len(judged)
    for name in ("blocked", "known"):
        if count := sum(row["outcome"] == name for row in rows):
            found[f"summary.{name}"] = count
    if len(kept) > 1:
        found["summary.last_win"] = best["number"]
    for row in kept[1:]:
        key = f"wins.{row['number']}"
        found[f"{key}.value_before"] = row["value_before"]
        found[f"{key}.value_after"] = row["value_after"]
        found[f"{key}.gain"] = row["value_after"] - row["value_before"]
    for name, weight in best["weights"].items():
        found[f"weights.{name}.start"] = first["weights"][name]
        found[f"weights.{name}.best"] = weight
        if weight != first["weights"][name]:
            found[f"weights.{name}.change"] = weight - first["weights"][name]
    money = any(v is not None for row in (first, best) for v in row["arpa_by_tier"].values())
    shown = ("nrr", "grr", "arpa") if money else ()
    for stage, row in (("start", first), ("best", best)):
        for tier in start["tiers"]:
            key = f"tiers.{stage}.{tier}"
            found[f"{key}.accounts"] = row["accounts_by_tier"][tier]
            for name in ("logo_retention", *shown):
                found[f"{key}.{name}"] = row[f"{name}_by_tier"][tier]
    return found


def details_of(journal: Path, run_id: str, kind: str) -> dict[str, Any] | None:
    """Return what a run's latest event of a kind says."""
    rows = [
        row
        for path in journal.glob("events/*.parquet")
        for row in pq.read_table(path, partitioning=None).to_pylist()
        if row["kind"] == kind and row["run_id"] == run_id
    ]
    if not rows:
        return None
    details: dict[str, Any] = json.loads(max(rows, key=lambda row: row["at"])["details"])
    return details


def proof_numbers(journal: Path, run_id: str) -> dict[str, float | None]:
    """Return what a report must show of null search and stability, by key, where on record."""
    found: dict[str, float | None] = {}
    null = details_of(journal, run_id, "null")
    if null:
        found |= {f"null.{name}": null[name] for name in ("found", "typical", "high", "p_value")}
        knows = null.get("knows") or {}
        shown = knows.keys() & {"found", "typical", "high", "p_value"}
        found |= {f"null.knows.{name}": knows[name] for name in shown}
    stability = details_of(journal, run_id, "stability")
    for weight in stability["weights"] if stability else ():
        for name in ("found", "low", "middle", "high", "sign_held"):
            found[f"stability.{weight['name']}.{name}"] = weight[name]
    return found


#: Revenue metrics of a report, of the whole score and tier by tier.
_WHOLE = ("revenue_capture_at_20", "nrr_at_20")
_TIERS = ("logo_retention", "nrr", "grr", "expansion_rate", "contraction_rate", "arpa")


def revenue_numbers(journal: Path, run_id: str) -> dict[str, float | None]:
    """Return a report's revenue metrics: those on the holdout where there is one, else searched.

    Metrics that the table has no column for are not among them.
    """
    start, end = record_of(journal, run_id, "start"), record_of(journal, run_id, "end")
    if end["holdout_best_metrics"] is not None:
        sides = [json.loads(end[f"holdout_{side}_metrics"]) for side in ("baseline", "best")]
    else:
        rows = experiments_of(journal, run_id)
        kept = [row for row in rows if row["outcome"] in ("baseline", "win")]
        sides = [kept[0], kept[-1]]
    # Metrics of a tier are taken at the start's sizes.
    part = "searched" if end["holdout_best_metrics"] is None else "held_out"
    sized = json.loads(end["equal_sizes"])[part]
    reasons = experiments_of(journal, run_id)[0]["null_reasons"] or {}
    found: dict[str, float | None] = {}
    for key in (*_WHOLE, *(f"{name}_by_tier" for name in _TIERS)):
        for tier in start["tiers"] if key.endswith("_by_tier") else (None,):
            column = key if tier is None else f"{key}.{tier}"
            if reasons.get(column, "").startswith("no ") and "column" in reasons[column]:
                continue
            before, after = (side[key] for side in sides) if tier is None else (None, None)
            if tier is not None:
                before, after = (sized[side][column] for side in ("start", "best"))
            found[f"revenue.{column}.start"], found[f"revenue.{column}.best"] = before, after
            change = None if before is None or after is None else after - before
            found[f"revenue.{column}.change"] = change
    return found


def _longest_gap(judged: list[dict[str, Any]]) -> int:
    longest = since = 0
    for row in judged:
        since += 1
        longest = max(longest, since)
        if row["outcome"] == "win":
            since = 0
    return longest
