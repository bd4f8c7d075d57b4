"""Every metric a second time, from its formula alone: the oracle of the tests.

Plain loops over plain dicts in exact fractions, with no numpy, no Polars and no SQL, so that it
shares no code and no arithmetic with what it checks. Clarity goes before speed: most of it is
quadratic, which is fine for the small tables of a test. It imports nothing of `gtmar`.

A row is a dict with the keys `score` (hundredths of a point), `tier`, `retained` (0, 1 or None),
`start`, `end` and `ltv` (cents or None), `activated` (0, 1 or None), `days` (or None) and
`won_back` (0, 1 or None).
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

Row = dict[str, Any]

#: Share of the paying accounts that the "at 20" metrics look at.
TOP_SHARE = Fraction(1, 5)
#: Share of the accounts with LTV that each end of tier separation takes.
QUARTER = Fraction(1, 4)
#: HHI of a table whose revenue is all in one tier.
HHI_SCALE = 10_000
#: Cents in a currency unit, and hundredths in a point.
HUNDRED = 100


def metrics(
    rows: Sequence[Row], tiers: Sequence[str], orientation: str = "health"
) -> dict[str, object]:
    """Compute every metric of a scored table.

    Parameters
    ----------
    rows
        One dict per account, as the module describes.
    tiers
        All tier names of the spec. Each gets a value in every by-tier metric.
    orientation
        `health` (a high score is good) or `risk` (a high score is bad).

    Returns
    -------
    dict
        Metric key to float or None; for a by-tier metric a dict from tier to float or None.
        Counts are integers, `arpa_by_tier` is in currency units, scores are in points.

    Raises
    ------
    ValueError
        If the orientation is neither of the two.
    """
    if orientation not in {"health", "risk"}:
        message = f"orientation must be 'health' or 'risk', got {orientation!r}"
        raise ValueError(message)
    sign = 1 if orientation == "health" else -1
    ranked = [{**row, "standing": sign * row["score"]} for row in rows]
    paying = [row for row in ranked if is_paying(row)]

    def each_tier(formula: Callable[[list[Row]], Fraction | None]) -> dict[str, float | None]:
        return {
            tier: as_float(formula([row for row in ranked if row["tier"] == tier]))
            for tier in tiers
        }

    capture = top_share_of_revenue(paying)
    return {
        "nrr_by_tier": each_tier(nrr),
        "grr_by_tier": each_tier(grr),
        "logo_retention_by_tier": each_tier(logo_retention),
        "expansion_rate_by_tier": each_tier(expansion_rate),
        "expanded_share_by_tier": each_tier(expanded_share),
        "contraction_rate_by_tier": each_tier(contraction_rate),
        "contracted_share_by_tier": each_tier(contracted_share),
        "quick_ratio_by_tier": each_tier(quick_ratio),
        "winback_rate_by_former_tier": each_tier(winback_rate),
        "activation_rate_by_tier": each_tier(activation_rate),
        "median_days_to_activate_by_tier": each_tier(median_days_to_activate),
        "arpa_by_tier": each_tier(arpa),
        "revenue_concentration_hhi": as_float(hhi(paying, tiers)),
        "hhi_normalised": as_float(hhi_normalised(paying, tiers)),
        "revenue_capture_at_20": as_float(capture),
        "revenue_capture_ceiling": as_float(revenue_capture_ceiling(paying)),
        "revenue_capture_random": as_float(TOP_SHARE),
        "revenue_capture_lift": as_float(None if capture is None else capture / TOP_SHARE),
        "nrr_at_20": as_float(nrr_of_top_share(paying)),
        "auc_roc_retain": as_float(auc_retain(ranked)),
        "auc_roc_churn": as_float(auc_churn(ranked)),
        "tier_separation": as_float(tier_separation(ranked)),
        "scored": len(rows),
        "score_mean": as_float(score_mean(rows)),
        "score_deviation": score_deviation(rows),
        "accounts_by_tier": {tier: count_in(rows, tier) for tier in tiers},
        "share_by_tier": {tier: as_float(ratio(count_in(rows, tier), len(rows))) for tier in tiers},
    }


# ---- who counts where -----------------------------------------------------------------------


def is_current(row: Row) -> bool:
    """Tell whether the account was a customer at the start of the window."""
    return row["won_back"] is None and row["retained"] is not None


def is_former(row: Row) -> bool:
    """Tell whether the account had churned before the window."""
    return row["won_back"] is not None


def end_of(row: Row) -> Any:
    """Return end MRR; who left pays nothing at the end, whether or not the table says so."""
    return 0 if row["end"] is None and row["retained"] == 0 else row["end"]


def is_paying(row: Row) -> bool:
    """Tell whether the account is in the revenue cohort."""
    return (
        is_current(row)
        and row["start"] is not None
        and row["start"] > 0
        and end_of(row) is not None
    )


def has_ltv(row: Row) -> bool:
    """Tell whether the account is in the LTV cohort."""
    return not is_former(row) and row["ltv"] is not None and row["ltv"] > 0


# ---- metrics of one tier, from all of its accounts ------------------------------------------


def nrr(rows: list[Row]) -> Fraction | None:
    """Net revenue retention: end MRR over start MRR."""
    paying = [row for row in rows if is_paying(row)]
    return ratio(sum(end_of(row) for row in paying), sum(row["start"] for row in paying))


def grr(rows: list[Row]) -> Fraction | None:
    """Gross revenue retention: as NRR, with no account above its start MRR."""
    paying = [row for row in rows if is_paying(row)]
    kept = sum(min(row["start"], end_of(row)) for row in paying)
    return ratio(kept, sum(row["start"] for row in paying))


def logo_retention(rows: list[Row]) -> Fraction | None:
    """Retained accounts over accounts with an outcome."""
    current = [row for row in rows if is_current(row)]
    return ratio(sum(row["retained"] for row in current), len(current))


def expansion_rate(rows: list[Row]) -> Fraction | None:
    """MRR added by accounts that grew, over start MRR."""
    paying = [row for row in rows if is_paying(row)]
    return ratio(expansion(paying), sum(row["start"] for row in paying))


def expanded_share(rows: list[Row]) -> Fraction | None:
    """Paying accounts that grew, over the retained ones."""
    paying = [row for row in rows if is_paying(row)]
    grown = [row for row in paying if end_of(row) > row["start"]]
    return ratio(len(grown), sum(row["retained"] for row in paying))


def contraction_rate(rows: list[Row]) -> Fraction | None:
    """MRR shed by accounts that still pay, over start MRR."""
    paying = [row for row in rows if is_paying(row)]
    return ratio(contraction(paying), sum(row["start"] for row in paying))


def contracted_share(rows: list[Row]) -> Fraction | None:
    """Paying accounts that shrank and still pay, over the retained ones."""
    paying = [row for row in rows if is_paying(row)]
    shrunk = [row for row in paying if 0 < end_of(row) < row["start"]]
    return ratio(len(shrunk), sum(row["retained"] for row in paying))


def quick_ratio(rows: list[Row]) -> Fraction | None:
    """Expansion over contraction and churned MRR together."""
    paying = [row for row in rows if is_paying(row)]
    churned = sum(row["start"] for row in paying if end_of(row) == 0)
    return ratio(expansion(paying), contraction(paying) + churned)


def winback_rate(rows: list[Row]) -> Fraction | None:
    """Former accounts that came back over all former ones."""
    former = [row for row in rows if is_former(row)]
    return ratio(sum(row["won_back"] for row in former), len(former))


def activation_rate(rows: list[Row]) -> Fraction | None:
    """Activated accounts over those for which activation applies."""
    new = [row for row in rows if row["activated"] is not None]
    return ratio(sum(row["activated"] for row in new), len(new))


def median_days_to_activate(rows: list[Row]) -> Fraction | None:
    """Middle number of days of the activated accounts, or the mean of the two middle ones."""
    days = sorted(row["days"] for row in rows if row["activated"] == 1 and row["days"] is not None)
    if not days:
        return None
    return Fraction(days[(len(days) - 1) // 2] + days[len(days) // 2], 2)


def arpa(rows: list[Row]) -> Fraction | None:
    """Start MRR per paying account, in currency units."""
    paying = [row for row in rows if is_paying(row)]
    return ratio(sum(row["start"] for row in paying), HUNDRED * len(paying))


def expansion(paying: list[Row]) -> int:
    """Sum what the accounts that grew added, in cents."""
    return sum(end_of(row) - row["start"] for row in paying if end_of(row) > row["start"])


def contraction(paying: list[Row]) -> int:
    """Sum what the accounts that shrank but still pay gave up, in cents."""
    return sum(row["start"] - end_of(row) for row in paying if 0 < end_of(row) < row["start"])


# ---- metrics of the whole table -------------------------------------------------------------


def hhi(paying: list[Row], tiers: Sequence[str]) -> Fraction | None:
    """Sum of the squared percentages of start MRR, over tiers."""
    starts = [sum(row["start"] for row in paying if row["tier"] == tier) for tier in tiers]
    total = sum(starts)
    if total == 0:
        return None
    return sum(((HUNDRED * Fraction(start, total)) ** 2 for start in starts), Fraction(0))


def hhi_normalised(paying: list[Row], tiers: Sequence[str]) -> Fraction | None:
    """HHI moved and stretched so that an even split is 0 and one tier with all is 1."""
    index = hhi(paying, tiers)
    if index is None or len(tiers) == 1:
        return None
    floor = Fraction(HHI_SCALE, len(tiers))
    return (index - floor) / (HHI_SCALE - floor)


def top_share_of_revenue(paying: list[Row]) -> Fraction | None:
    """Start MRR of the top fifth by score over all start MRR."""
    places = TOP_SHARE * len(paying)
    top = sum_of_first([(row["standing"], row["start"]) for row in paying], places)
    return ratio(top, sum(row["start"] for row in paying))


def revenue_capture_ceiling(paying: list[Row]) -> Fraction | None:
    """Start MRR of the largest fifth over all start MRR: no score can capture more."""
    places = TOP_SHARE * len(paying)
    top = sum_of_first([(row["start"], row["start"]) for row in paying], places)
    return ratio(top, sum(row["start"] for row in paying))


def nrr_of_top_share(paying: list[Row]) -> Fraction | None:
    """NRR of the top fifth by score."""
    places = TOP_SHARE * len(paying)
    end = sum_of_first([(row["standing"], end_of(row)) for row in paying], places)
    start = sum_of_first([(row["standing"], row["start"]) for row in paying], places)
    return ratio(end, start)


def tier_separation(ranked: list[Row]) -> Fraction | None:
    """Mean LTV of the top quarter by score over that of the bottom quarter."""
    valued = [row for row in ranked if has_ltv(row)]
    if len(valued) < 1 / QUARTER:
        return None
    places = QUARTER * len(valued)
    top = sum_of_first([(row["standing"], row["ltv"]) for row in valued], places)
    bottom = sum_of_first([(-row["standing"], row["ltv"]) for row in valued], places)
    return ratio(top / places, bottom / places)


def auc_retain(ranked: list[Row]) -> Fraction | None:
    """AUC of the retained accounts, ranked by standing."""
    current = [row for row in ranked if is_current(row)]
    return auc([(row["standing"], row["retained"] == 1) for row in current])


def auc_churn(ranked: list[Row]) -> Fraction | None:
    """AUC of the churned accounts, ranked by the opposite of standing."""
    current = [row for row in ranked if is_current(row)]
    return auc([(-row["standing"], row["retained"] == 0) for row in current])


def score_mean(rows: Sequence[Row]) -> Fraction | None:
    """Mean score, in points."""
    return ratio(sum(row["score"] for row in rows), HUNDRED * len(rows))


def score_deviation(rows: Sequence[Row]) -> float | None:
    """Population standard deviation of the score, in points."""
    mean = score_mean(rows)
    if mean is None:
        return None
    squares = sum(((Fraction(row["score"], HUNDRED) - mean) ** 2 for row in rows), Fraction(0))
    return math.sqrt(squares / len(rows))


# ---- what the formulas are made of ----------------------------------------------------------


def auc(pairs: list[tuple[int, bool]]) -> Fraction | None:
    """Compute AUC by the rank formula, with average ranks for ties.

    Parameters
    ----------
    pairs
        One (place value, is positive) per account; the greater value ranks higher.

    Returns
    -------
    Fraction or None
        (R - m(m+1)/2) / (m n) with R the positives' rank sum, m positives and n negatives. None
        when either class is missing.
    """
    values = [value for value, _ in pairs]
    positives = [value for value, positive in pairs if positive]
    rank_sum = Fraction(0)
    for value in positives:
        below = sum(other < value for other in values)
        level = sum(other == value for other in values)
        rank_sum += below + Fraction(level + 1, 2)
    m, n = len(positives), len(pairs) - len(positives)
    return ratio(rank_sum - Fraction(m * (m + 1), 2), m * n)


def sum_of_first(pairs: list[tuple[int, int]], places: Fraction) -> Fraction:
    """Add up the amounts of the first `places` accounts, in falling order of their value.

    Parameters
    ----------
    pairs
        One (place value, amount) per account.
    places
        How many accounts to take, in [0, number of accounts]. Need not be whole.

    Returns
    -------
    Fraction
        The sum. A tied group that fits in part counts with the part that fits, which is the mean
        over all orders of its accounts.
    """
    left = places
    total = Fraction(0)
    for value in sorted({value for value, _ in pairs}, reverse=True):
        amounts = [amount for other, amount in pairs if other == value]
        taken = min(left, Fraction(len(amounts)))
        total += sum(amounts) * taken / len(amounts)
        left -= taken
    return total


def count_in(rows: Sequence[Row], tier: str) -> int:
    """Count the accounts of a tier."""
    return sum(row["tier"] == tier for row in rows)


def ratio(numerator: Fraction | int, denominator: Fraction | int) -> Fraction | None:
    """Divide exactly; None when the denominator is zero."""
    return None if denominator == 0 else Fraction(numerator) / denominator


def as_float(value: Fraction | None) -> float | None:
    """Turn an exact value into the nearest double, once, at the very end."""
    return None if value is None else float(value)
