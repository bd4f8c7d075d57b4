"""The sentences on a run for a lead: what a score can do, whom it finds, what got worse; numbers.

They are made from the run's records alone, without the account table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gtmar.metrics.metric import marked
from gtmar.plain_data import apart, some, whole
from gtmar.stats import LEAST

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

#: State in the views of a run without an end record.
RUNNING = "running or cut off"
#: State of a run that another tool made.
IMPORTED = "imported"
#: Changes up to this, or up to this share of the start, count as none.
SAME = 0.0005

#: Parts of the accounts that are measured date by date, and their names in sentences.
DATED = {"searched": "searched", "held_out": "held out"}

#: Accounts of either side, those that stayed and those that left, below which pairs tell nothing:
#: with fewer a coin may well rank all of them right.
_LEAST_OF_PAIRS = 10
_SIDES = ("start", "best")
_AUC, _HHI = "auc_roc_retain", "hhi_normalised"
#: Headline metrics: common name, format of a value, and the sign of a better change.
_HEADLINES = {
    "revenue_capture_at_20": ("MRR held by the best-scored fifth", ".1%", 1),
    "nrr_at_20": ("NRR of the best-scored fifth", ".1%", 1),
    "tier_separation": ("LTV of the best-scored quarter against the worst", ".2f", 1),
    _HHI: ("MRR concentration at equal sizes", ".3f", -1),
}
#: Objectives and the headline metric with the same meaning.
TWINS = {
    "auc_roc_churn": _AUC,
    "revenue_capture_lift": "revenue_capture_at_20",
    "revenue_concentration_hhi": _HHI,
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run's start and best on the holdout, or without one on the accounts searched."""

    #: Whether the search never used these accounts.
    unseen: bool
    accounts: int
    #: Metrics of the whole score, by key.
    start: Mapping[str, Any]
    best: Mapping[str, Any]
    #: Both by tier at the start's sizes, measured by `at_equal_sizes`; None for runs of earlier
    #: versions.
    sized: Mapping[str, Any] | None
    #: Whether a high score is bad.
    risk: bool
    #: Number of these accounts that are in the searched table, too, with an earlier row.
    old: int = 0
    #: Whether accounts have several rows, of several dates, so that tiers count rows.
    rows: bool = False

    @property
    def where(self) -> str:
        """The accounts that this is of, in words."""
        if self.unseen and self.old:
            return f"on {held_out(self.accounts, self.old)}"
        if self.unseen:
            return f"on {some(self.accounts, 'account')} never seen by the search"
        return f"in-sample, on the {some(self.accounts, 'account')} searched: no proof"

    def sentences_on(self, *, improved: bool) -> list[str]:
        """Return sentences on what the best can do, compared with the start if `improved`."""
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
        few = ", too few to tell" if self.unseen and self._fewest < _LEAST_OF_PAIRS else ""
        return f"{pairs} {two} right{coin}{was if improved else ''} ({self.where}{few})."

    @property
    def _fewest(self) -> float:
        """The accounts that stayed or those that left, whichever are fewer; many if unknown."""
        if self.sized is None or len(self.sized["tiers"]) < 2:
            return _LEAST_OF_PAIRS
        labelled: list[float] = self.sized["labelled_best"]
        left = sum(self._left("best"))
        return min(left, round(sum(labelled)) - left)

    def _by_tier(self, *, improved: bool) -> list[str]:
        if self.sized is None or len(self.sized["tiers"]) < 2:
            return []
        tiers, sizes = self.sized["tiers"], self.sized["sizes"]
        worst, top = (0, -1) if self.risk else (-1, 0)
        size = some(sizes[worst], "account")
        them = f"the {size} of highest risk" if self.risk else f"the lowest {size}"
        left = [self._left(side) for side in _SIDES]
        known = round(sum(self.sized["labelled_best"]))
        if known and not sum(left[1]):
            none, where = ("None", "held out") if self.unseen else ("In-sample, none", "searched")
            them = f"{some(known, 'account')} {where}"
            return [f"{none} of the {them} left, so what a tier keeps tells nothing."]
        gone = _shares([self._gone(side) for side in _SIDES], worst, improved=improved)
        held = [_leavers(left, worst, improved=improved), gone and f"{gone} of the MRR that leaves"]
        prefix = "" if self.unseen else "In-sample, "
        sentences = []
        if any(held) and sizes[worst]:
            at = f"{prefix}at equal sizes tier" if improved else f"{prefix}tier"
            listed = " and ".join(filter(None, held))
            sentences.append(f"{at[:1].upper()}{at[1:]} {tiers[worst]}, {them}, holds {listed}.")
        kept = self._kept(top, improved=improved)
        if kept:
            which = "tier of lowest risk" if self.risk else "top tier"
            the = f"{prefix}the" if prefix else "The"
            sentences.append(f"{the} {which}, {tiers[top]}, keeps {kept}.")
        return sentences

    def _kept(self, tier: int, *, improved: bool) -> str | None:
        """Say how many of its accounts a tier keeps: of few, and of all, in numbers."""
        sized: Any = self.sized
        name = f"logo_retention_by_tier.{sized['tiers'][tier]}"
        shares = [sized[side].get(name) for side in _SIDES]
        share = _shares([[each] for each in shares], 0, improved=improved)
        if share is None:
            return None
        known = [sized[f"labelled_{side}"][tier] for side in _SIDES]
        few = min(known) < LEAST
        if not few and shares[1] < 1:
            return f"{share} of its accounts"
        was, now = (f"{_count(n * k)} of {_count(n)}" for n, k in zip(known, shares, strict=True))
        if not few:
            was = share.partition(" ")[2]
        elif improved:
            was = "(as before)" if was == now else f"(was {was})"
        else:
            was = ""
        of_all = f"{now} of its accounts"
        if shares[1] == 1:
            count = _count(known[1])
            of_all = "its only account" if count == "1" else f"all {count} of its accounts"
        outcome = "" if known[1] == sized["sizes"][tier] else "whose outcome is known"
        words = " ".join(filter(None, (of_all, outcome, was)))
        return f"{words}, too few to tell" if few else words

    def _left(self, side: str) -> list[float]:
        """Return how many accounts of each tier left; a tie across a cut counts in part."""
        sized: Any = self.sized
        kept = [sized[side].get(f"logo_retention_by_tier.{tier}") for tier in sized["tiers"]]
        labelled = sized[f"labelled_{side}"]
        left = (0.0 if k is None else n * (1 - k) for n, k in zip(labelled, kept, strict=True))
        return [round(each, 6) for each in left]

    def _gone(self, side: str) -> list[float] | None:
        """Return each tier's share of the MRR of accounts that left; None without any."""
        gone = (self.sized or {}).get(f"churned_mrr_{side}")
        return None if gone is None else _of_all(gone)

    def costs(self, objective: str) -> dict[str, str]:
        """Return the headline metrics that got worse as measured, in words, without `objective`."""
        by_metric = {}
        for key, (words, unit, sign) in _HEADLINES.items():
            before, after = self._ends(key)
            if before is None or after is None or key in (objective, TWINS.get(objective)):
                continue
            if sign * (after - before) < -SAME * max(1.0, abs(before)):
                by_metric[key] = f"{words} {before:{unit}} -> {after:{unit}}"
        return by_metric

    def _ends(self, key: str) -> tuple[float | None, float | None]:
        """Return a metric of start and best; concentration only at equal sizes."""
        if key != _HHI:
            return self.start.get(key), self.best.get(key)
        return (
            (None, None)
            if self.sized is None
            else (self.sized["start"].get(key), self.sized["best"].get(key))
        )


def _leavers(left: Sequence[Sequence[float]], tier: int, *, improved: bool) -> str | None:
    """Say what part of the accounts that left a tier holds: of few, in numbers."""
    total = sum(left[1])
    share = _shares([_of_all(each) for each in left], tier, improved=improved)
    if share is None:
        return None
    if total >= LEAST:
        return f"{share} of the accounts that leave"
    before, after = (_count(each[tier]) for each in left)
    was = "" if not improved else " (as before)" if before == after else f" (was {before})"
    return f"{after}{was} of the {some(round(total), 'account that leaves', 'accounts that leave')}"


def _count(accounts: float) -> str:
    """Write a number of accounts, of which one that ties across a cut counts in part."""
    return whole(round(accounts, 6))


def _of_all(parts: Sequence[float]) -> list[float] | None:
    total = sum(parts)
    return [part / total for part in parts] if total > 0 else None


def _shares(
    sides: Sequence[Sequence[float | None] | None], tier: int, *, improved: bool
) -> str | None:
    """Return a tier's share at the best, and at the start, in words; None if either is unknown."""
    before, after = (None if side is None else side[tier] for side in sides)
    if before is None or after is None:
        return None
    one, two = apart(before, after, "%")
    if not improved:
        return two
    return f"{two} (as before)" if one == two else f"{two} (was {one})"


def of_rows(sentence: str) -> str:
    """Replace accounts by rows in a sentence, for tables with a row for each account and date.

    Examples
    --------
    >>> of_rows("tier D, the lowest 40 accounts, holds 31% of the accounts that leave.")
    'tier D, the lowest 40 rows, holds 31% of the rows that leave.'
    """
    return re.sub(r"\baccount(s?)\b", r"row\1", sentence)


def on_dates(accounts: int, dates: int, rows: int) -> str:
    """Return the numbers of accounts, dates and rows in words.

    Examples
    --------
    >>> on_dates(312, 8, 2190)
    '312 accounts on 8 dates, 2,190 rows'
    """
    return f"{some(accounts, 'account')} on {some(dates, 'date')}, {some(rows, 'row')}"


def held_by_date(by_date: Mapping[str, Any], *, improved: bool) -> list[str]:
    """Return a sentence on the accounts and dates of a run, and on how many its gain holds."""
    parts = {name: by_date["parts"][name] for name in DATED if name in by_date["parts"]}
    if len({tuple(part["dates"]) for part in parts.values()}) > 1:
        # The holdout is a later table, which may have the same accounts.
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
        held.append(f"{sum(known):,} of {some(len(known), 'date')} {DATED[name]}")
    return [f"{total}. The gain holds in {', in '.join(held)}."]


def lead(
    row: Mapping[str, Any],
    seen: Seen | None,
    *,
    improved: bool,
    held: bool | None,
    costs: bool = True,
) -> list[str]:
    """Return the sentences on a run for a lead: can it be used, what it does, what got worse.

    `row` is as for `verdict`, whose sentences are all if `seen` is None. If nothing was kept, or
    the gain doesn't hold, that comes first. `costs` includes the metrics that got worse.
    """
    plain = verdict(row, improved=improved, held=held)
    if seen is None:
        return plain
    sentences = seen.sentences_on(improved=improved)
    if not improved or not row["experiments"]:
        return [*plain, *sentences]
    if not sentences:
        return plain
    if held is False:
        unseen = f"the {_never_saw(row)}"
        return [f"The gain did not hold on {unseen}: keep the spec.", *sentences]
    # In-sample sentences are marked as such, so no further sentence is needed.
    open_still = plain[1:] if held is None and row["holdout_accounts"] else []
    cost = worse(seen, row["objective"]) if costs else []
    return [*open_still, *sentences, *cost]


def worse(seen: Seen, objective: str) -> list[str]:
    """Return a sentence on the metrics that got worse as measured, in a list; empty if none."""
    costs = seen.costs(objective)
    if not costs:
        return []
    mark = "chance not excluded" if seen.unseen else "in-sample"
    return [f"Worse as measured, {mark}: {'; '.join(costs.values())}."]


def old_customers(customers: Iterable[Mapping[str, Any]]) -> int:
    """Return the number of holdout accounts that are in the searched table, too."""
    return sum(each["accounts"] for each in customers if each["group"] == "old")


def held_out(accounts: int, old: int) -> str:
    """Return the numbers of accounts and, among them, old customers of a later table, in words."""
    return f"{some(accounts, 'account')} held out, {old:,} of them customers that were searched"


def _never_saw(row: Mapping[str, Any]) -> str:
    old, accounts = row.get("old_customers"), row["holdout_accounts"]
    return (
        held_out(accounts, old) if old else f"{some(accounts, 'account')} that the search never saw"
    )


def numbers(row: Mapping[str, Any]) -> str:
    """Return a sentence on the objective's change, the accounts and the number of experiments."""
    name = marked(row["objective"], row.get("basis"))
    text = (
        f"{name}: {row['baseline_value']:.4f} -> {row['best_value']:.4f} on the accounts searched, "
        f"in {some(row['experiments'], 'experiment')}, {row['wins']:,} of them kept"
    )
    before, after = row.get("holdout_baseline_value"), row.get("holdout_best_value")
    if before is not None and after is not None:
        never = f"{row['holdout_accounts']:,} that it never saw"
        never = _never_saw(row) if row.get("old_customers") else never
        text += f"; {before:.4f} -> {after:.4f} on {never}"
    return f"{text}."


def at_its_size(
    objective: str, before: int, after: int, measured: dict[str, Any] | None
) -> str | None:
    """Return a sentence on the gain in a tier's metric if the tier keeps its size.

    `before` and `after` are the tier's accounts by each score's own edges; `measured` has both
    scores at the first one's sizes. None if the sizes differ by one account at most, as ties may
    cause, or weren't measured.
    """
    if measured is None or abs(before - after) <= 1:
        return None
    one, two = (measured[side].get(objective) for side in ("start", "best"))
    if one is None or two is None:
        return None
    return (
        f"Tier {objective.partition('.')[2]} went from {some(before, 'account')} to {after:,}. "
        f"With {before:,} by either score: {one:.4f} -> {two:.4f} ({two - one:+.4f})."
    )


def verdict(row: Mapping[str, Any], *, improved: bool, held: bool | None) -> list[str]:
    """Return sentences on the result of a run, from a row with the columns of ``review.sql``."""
    name, tried = marked(row["objective"], row.get("basis")), row["experiments"]
    if not tried:
        return ["No experiment yet: the run is at its baseline, or was cut off there."]
    if not improved:
        return [unimproved(row)]
    moved = "rose" if row["best_value"] > row["baseline_value"] else "fell"
    on = "" if row.get("state") == IMPORTED else " on the accounts searched,"
    sentences = [
        f"{name} {moved} from {row['baseline_value']:.4f} to {row['best_value']:.4f} "
        f"({row['best_value'] - row['baseline_value']:+.4f}){on} in "
        f"{some(tried, 'experiment')}, {row['wins']:,} of them kept."
    ]
    if held is None:
        if row.get("state") == IMPORTED:
            sentences.append("Imported: whether it holds on other accounts isn't known here.")
        elif row.get("state") == RUNNING:
            sentences.append("The run has not ended, so the holdout has not been looked at.")
        elif row["holdout_accounts"]:
            sentences.append("On the holdout it has no value, so whether the gain holds is open.")
        else:
            sentences.append(
                "In-sample: no holdout was kept, so this says nothing about accounts that the "
                "search has not seen."
            )
        return sentences
    before, after = row["holdout_baseline_value"], row["holdout_best_value"]
    unseen = f"On the {_never_saw(row)}: {before:.4f} -> {after:.4f} ({after - before:+.4f})"
    sentences.append(f"{unseen}." if held else f"{unseen}. The gain did not hold: keep the spec.")
    return sentences


def unimproved(row: Mapping[str, Any]) -> str:
    """Return why no experiment was kept: none was better, or the better ones broke a guardrail."""
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
        all_tie = "The one experiment ties" if tried == 1 else f"All {tried:,} experiments tie"
        return f"{all_tie} with {baseline}: no weight that may move changes it."
    without = f", {row['null']:,} of them without a value" if row.get("null") else ""
    return f"No experiment of {tried:,} beat {baseline}{without}: keep the spec."
