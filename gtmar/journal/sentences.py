"""What a lead reads first: what a score can do, whom it finds, what that costs; then the numbers.

All of it comes from what a run has put on record: nothing here needs the account table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gtmar.metrics.metric import marked
from gtmar.plain_data import apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "DATED",
    "IMPORTED",
    "RUNNING",
    "SAME",
    "TWINS",
    "Seen",
    "at_its_size",
    "held_by_date",
    "held_out",
    "lead",
    "numbers",
    "of_rows",
    "old_customers",
    "on_dates",
    "unimproved",
    "verdict",
    "worse",
]

#: What the views call a run without an end record.
RUNNING = "running or cut off"
#: The state of a run that another tool made.
IMPORTED = "imported"
#: Changes up to this, or this share of the start, are none.
SAME = 0.0005

#: Parts of the accounts that are measured date by date, and how they are called.
DATED = {"searched": "searched", "held_out": "held out"}

_AUC, _HHI = "auc_roc_retain", "hhi_normalised"
#: Headline metrics, as people call them, how a value is written, and the sign of what is better.
_HEADLINES = {
    "revenue_capture_at_20": ("MRR held by the best-scored fifth", ".1%", 1),
    "nrr_at_20": ("NRR of the best-scored fifth", ".1%", 1),
    "tier_separation": ("LTV of the best-scored quarter against the worst", ".2f", 1),
    _HHI: ("MRR concentration at equal sizes", ".3f", -1),
}
#: Objectives that say what a headline metric says.
TWINS = {
    "auc_roc_churn": _AUC,
    "revenue_capture_lift": "revenue_capture_at_20",
    "revenue_concentration_hhi": _HHI,
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run's start and best on the accounts that count: those held out; searched, without any."""

    #: Whether the search never saw these accounts.
    unseen: bool
    accounts: int
    #: Metrics of the whole score, by key.
    start: Mapping[str, Any]
    best: Mapping[str, Any]
    #: Both by tier at the start's sizes, as `at_equal_sizes` measured them; None of runs from
    #: before it was.
    sized: Mapping[str, Any] | None
    #: Whether a high score is bad.
    risk: bool
    #: How many of the accounts stood in the table searched as well, with an earlier row.
    old: int = 0
    #: Whether accounts have several rows, of several dates: what tiers count are then rows.
    rows: bool = False

    @property
    def where(self) -> str:
        """Say which accounts these are."""
        if self.unseen and self.old:
            return f"on {held_out(self.accounts, self.old)}"
        if self.unseen:
            return f"on {self.accounts:,} accounts never seen by the search"
        return f"in-sample, on the {self.accounts:,} accounts searched: no proof"

    def said(self, *, improved: bool) -> list[str]:
        """Say what the best can do, beside the start where anything was kept."""
        by_tier = self._by_tier(improved=improved)
        each = (self._pairs(improved=improved), *(map(of_rows, by_tier) if self.rows else by_tier))
        return [sentence for sentence in each if sentence]

    def _pairs(self, *, improved: bool) -> str | None:
        before, after = self.start.get(_AUC), self.best.get(_AUC)
        if before is None or after is None:
            return None
        one, two = apart(before, after, "")
        if after < 0.5 and two == "50":
            two = apart(after, 0.5, "")[0]
        coin = ", fewer than a coin would" if after < 0.5 and two != "50" else ""
        was = ", as before" if one == two else f"; it was {one}"
        if one != two and after < before:
            was = f", fewer than the {one} before"
        one_of = "row" if self.rows else "account"
        pairs = f"Of 100 pairs of a kept and a lost {one_of} the score ranks"
        return f"{pairs} {two} right{coin}{was if improved else ''} ({self.where})."

    def _by_tier(self, *, improved: bool) -> list[str]:
        if self.sized is None or len(self.sized["tiers"]) < 2:
            return []
        tiers, sizes = self.sized["tiers"], self.sized["sizes"]
        worst, top = (0, -1) if self.risk else (-1, 0)
        some = f"{sizes[worst]:,} accounts"
        them = f"the {some} of highest risk" if self.risk else f"the lowest {some}"
        held = [
            f"{share} of {what}"
            for what, totals in (
                ("the accounts that leave", [self._leavers(side) for side in ("start", "best")]),
                ("the MRR that leaves", [self._gone(side) for side in ("start", "best")]),
            )
            if (share := _shares(totals, worst, improved=improved))
        ]
        prefix = "" if self.unseen else "In-sample, "
        said = []
        if held and sizes[worst]:
            at = f"{prefix}at equal sizes tier" if improved else f"{prefix}tier"
            listed = " and ".join(held)
            said.append(f"{at[:1].upper()}{at[1:]} {tiers[worst]}, {them}, holds {listed}.")
        name = f"logo_retention_by_tier.{tiers[top]}"
        kept = _shares([[self.sized[x].get(name)] for x in ("start", "best")], 0, improved=improved)
        if kept:
            which = "tier of lowest risk" if self.risk else "top tier"
            the = f"{prefix}the" if prefix else "The"
            said.append(f"{the} {which}, {tiers[top]}, keeps {kept} of its accounts.")
        return said

    def _leavers(self, side: str) -> list[float] | None:
        """Return by tier the share that it has of those who left; None where nobody did."""
        sized: Any = self.sized
        kept = [sized[side].get(f"logo_retention_by_tier.{tier}") for tier in sized["tiers"]]
        labelled = sized[f"labelled_{side}"]
        return _of_all([n * (1 - (k or 0)) for n, k in zip(labelled, kept, strict=True)])

    def _gone(self, side: str) -> list[float] | None:
        """Return by tier the share that it has of the MRR of those who left; None without any."""
        gone = (self.sized or {}).get(f"churned_mrr_{side}")
        return None if gone is None else _of_all(gone)

    def costs(self, objective: str) -> dict[str, str]:
        """Say which headline metrics got worse as measured, by key; `objective` is left out."""
        said = {}
        for key, (words, unit, sign) in _HEADLINES.items():
            before, after = self._ends(key)
            if before is None or after is None or key in (objective, TWINS.get(objective)):
                continue
            if sign * (after - before) < -SAME * max(1.0, abs(before)):
                said[key] = f"{words} {before:{unit}} -> {after:{unit}}"
        return said

    def _ends(self, key: str) -> tuple[float | None, float | None]:
        """Return a metric of start and best; concentration at equal sizes alone."""
        if key != _HHI:
            return self.start.get(key), self.best.get(key)
        return (
            (None, None)
            if self.sized is None
            else (self.sized["start"].get(key), self.sized["best"].get(key))
        )


def _of_all(parts: Sequence[float]) -> list[float] | None:
    total = sum(parts)
    return [part / total for part in parts] if total > 0 else None


def _shares(
    sides: Sequence[Sequence[float | None] | None], tier: int, *, improved: bool
) -> str | None:
    """Word a tier's share at the best, and what it was; None where either has none."""
    before, after = (None if side is None else side[tier] for side in sides)
    if before is None or after is None:
        return None
    one, two = apart(before, after, "%")
    if not improved:
        return two
    return f"{two} (as before)" if one == two else f"{two} (was {one})"


def of_rows(sentence: str) -> str:
    """Word what a sentence counts as rows: accounts that stand once for each of several dates.

    Examples
    --------
    >>> of_rows("tier D, the lowest 40 accounts, holds 31% of the accounts that leave.")
    'tier D, the lowest 40 rows, holds 31% of the rows that leave.'
    """
    return re.sub(r"\baccounts\b", "rows", sentence)


def on_dates(accounts: int, dates: int, rows: int) -> str:
    """Say how many accounts there are, on how many dates.

    Examples
    --------
    >>> on_dates(312, 8, 2190)
    '312 accounts on 8 dates, 2,190 rows'
    """
    return f"{accounts:,} accounts on {dates:,} dates, {rows:,} rows"


def held_by_date(by_date: Mapping[str, Any], *, improved: bool) -> list[str]:
    """Say what a run is on, of several dates, and on how many of them its gain holds."""
    parts = {name: by_date["parts"][name] for name in DATED if name in by_date["parts"]}
    if len({tuple(part["dates"]) for part in parts.values()}) > 1:
        # A later table of its own, which may have the same accounts again.
        total = "; ".join(
            f"{on_dates(part['accounts'], len(part['dates']), part['rows'])} {DATED[name]}"
            for name, part in parts.items()
        )
    else:
        accounts, rows = (sum(p[key] for p in parts.values()) for key in ("accounts", "rows"))
        total = on_dates(accounts, len(by_date["dates"]), rows)
    if not improved:
        return [f"{total}."]
    held = []
    for name, part in parts.items():
        known = [gained for gained in part["gained"] if gained is not None]
        held.append(f"{sum(known):,} of {len(known):,} dates {DATED[name]}")
    return [f"{total}. The gain holds in {', in '.join(held)}."]


def lead(
    row: Mapping[str, Any],
    seen: Seen | None,
    *,
    improved: bool,
    held: bool | None,
    costs: bool = True,
) -> list[str]:
    """Say in order what a lead needs to know of a run: can it be used, what it does, what it costs.

    `row` is as for `verdict`, which is all there is to say where `seen` is None. Where nothing was
    kept, why comes first; where the gain doesn't hold, that. Without `costs` those are left out.
    """
    plain = verdict(row, improved=improved, held=held)
    if seen is None:
        return plain
    found = seen.said(improved=improved)
    if not improved or not row["experiments"]:
        return [*plain, *found]
    if not found:
        return plain
    if held is False:
        unseen = f"the {_never_saw(row)}"
        return [f"The gain did not hold on {unseen}: keep the spec.", *found]
    # In-sample, each sentence says so itself.
    open_still = plain[1:] if held is None and row["holdout_accounts"] else []
    cost = worse(seen, row["objective"]) if costs else []
    return [*open_still, *found, *cost]


def worse(seen: Seen, objective: str) -> list[str]:
    """Name in one sentence what got worse as measured; nothing where nothing did."""
    costs = seen.costs(objective)
    if not costs:
        return []
    mark = "chance not excluded" if seen.unseen else "in-sample"
    return [f"Worse as measured, {mark}: {'; '.join(costs.values())}."]


def old_customers(customers: Iterable[Mapping[str, Any]]) -> int:
    """Return how many of a holdout's accounts stood in the table searched as well."""
    return sum(each["accounts"] for each in customers if each["group"] == "old")


def held_out(accounts: int, old: int) -> str:
    """Say how many accounts of a later table these are, and how many of them are old customers."""
    return f"{accounts:,} accounts held out, {old:,} of them customers that were searched"


def _never_saw(row: Mapping[str, Any]) -> str:
    old, accounts = row.get("old_customers"), row["holdout_accounts"]
    return held_out(accounts, old) if old else f"{accounts:,} accounts that the search never saw"


def numbers(row: Mapping[str, Any]) -> str:
    """Say by how much the objective moved, on which accounts, and after how many experiments."""
    name = marked(row["objective"], row.get("basis"))
    said = (
        f"{name}: {row['baseline_value']:.4f} -> {row['best_value']:.4f} on the accounts searched, "
        f"in {row['experiments']:,} experiments, {row['wins']:,} of them kept"
    )
    before, after = row.get("holdout_baseline_value"), row.get("holdout_best_value")
    if before is not None and after is not None:
        never = f"{row['holdout_accounts']:,} that it never saw"
        never = _never_saw(row) if row.get("old_customers") else never
        said += f"; {before:.4f} -> {after:.4f} on {never}"
    return f"{said}."


def at_its_size(
    objective: str, before: int, after: int, measured: dict[str, Any] | None
) -> str | None:
    """Say what is left of a gain in one tier's metric where the tier keeps its size.

    `before` and `after` are the tier's accounts by each score's own edges, `measured` both scores
    at the first one's sizes. None where the tier has its size, but for an account of ties, or it
    wasn't measured.
    """
    if measured is None or abs(before - after) <= 1:
        return None
    one, two = (measured[side].get(objective) for side in ("start", "best"))
    if one is None or two is None:
        return None
    return (
        f"Tier {objective.partition('.')[2]} went from {before:,} accounts to {after:,}. With "
        f"{before:,} by either score: {one:.4f} -> {two:.4f} ({two - one:+.4f})."
    )


def verdict(row: Mapping[str, Any], *, improved: bool, held: bool | None) -> list[str]:
    """Say what a run found, from a row with the names that ``review.sql`` gives."""
    name, tried = marked(row["objective"], row.get("basis")), row["experiments"]
    if not tried:
        return ["No experiment yet: the run is at its baseline, or was cut off there."]
    if not improved:
        return [unimproved(row)]
    moved = "rose" if row["best_value"] > row["baseline_value"] else "fell"
    said = [
        f"{name} {moved} from {row['baseline_value']:.4f} to {row['best_value']:.4f} "
        f"({row['best_value'] - row['baseline_value']:+.4f}) in {tried:,} experiments, "
        f"{row['wins']:,} of them kept."
    ]
    if held is None:
        if row.get("state") == IMPORTED:
            said.append("Imported: whether it holds on other accounts isn't known here.")
        elif row.get("state") == RUNNING:
            said.append("The run has not ended, so the holdout has not been looked at.")
        elif row["holdout_accounts"]:
            said.append("On the holdout it has no value, so whether the gain holds is open.")
        else:
            said.append(
                "In-sample: no holdout was kept, so this says nothing about accounts that the "
                "search has not seen."
            )
        return said
    before, after = row["holdout_baseline_value"], row["holdout_best_value"]
    unseen = f"On the {_never_saw(row)}: {before:.4f} -> {after:.4f} ({after - before:+.4f})"
    said.append(f"{unseen}." if held else f"{unseen}. The gain did not hold: keep the spec.")
    return said


def unimproved(row: Mapping[str, Any]) -> str:
    """Say why no experiment was kept: none was better, or those that were broke a guardrail."""
    name, tried = marked(row["objective"], row.get("basis")), row["experiments"]
    baseline = f"the baseline's {name} of {row['baseline_value']:.4f}"
    blocked = row.get("blocked") or 0
    if blocked:
        broken = row.get("broken") or {}
        listed = "; ".join(f"{guardrail} ({count:,})" for guardrail, count in broken.items())
        return (
            f"No experiment of {tried:,} was kept: {blocked:,} {'was' if blocked == 1 else 'were'} "
            f"better than {baseline} and broke a guardrail{': ' + listed if listed else ''}."
        )
    if row.get("tied") == tried:
        return f"All {tried:,} experiments tie with {baseline}: no weight that may move changes it."
    without = f", {row['null']:,} of them without a value" if row.get("null") else ""
    return f"No experiment of {tried:,} beat {baseline}{without}: keep the spec."
