"""The names of all sums, in their order: kernels, tally and metrics read them.

Nothing is imported here: a journal needs the metrics' names and formulas, and would otherwise load
the code of account tables and specs with them.
"""

from __future__ import annotations

__all__ = ["ACCOUNT_SUMS", "COUNTED", "SCALAR_SUMS", "TIER_LOW", "TIER_SUMS", "tier_sum"]

#: Cohorts whose accounts are counted in each tier; the sum has the cohort's name.
COUNTED = (
    *("accounts", "labelled", "retained", "paying", "kept_paying", "expanded", "contracted"),
    *("former", "won_back"),
)
#: Counts of accounts in each tier.
ACCOUNT_SUMS = (*COUNTED, "applies", "activated")
#: Sums of each tier; `days_doubled` is twice the median, `days_known` the accounts behind it.
TIER_SUMS = (
    *ACCOUNT_SUMS,
    *("start", "end", "expansion", "contraction", "churned", "days_known", "days_doubled"),
)
#: Each tier's lowest bin, among the sums where a rule sets it.
TIER_LOW = "low"
#: Sums over all tiers. `rank_doubled` is twice the rank sum of the positives, average ranks for
#: ties. `top_*` are of the top fifth of paying accounts by score, `best_*` and `worst_*` of the
#: quarters of the LTV cohort at either end: cents beyond the boundary, cents of the accounts tied
#: on it (`*_tied`), how many are tied, and how many fifths or quarters of an account of the tied
#: still belong to the group (`*_fit`).
SCALAR_SUMS = (
    *("scored", "clipped_low", "clipped_high", "score_sum", "score_squares"),
    *("positives", "negatives", "rank_doubled"),
    *("top_accounts", "top_start", "top_start_tied", "top_end", "top_end_tied"),
    *("top_tied", "top_fit"),
    *("ltv_accounts", "best_ltv", "best_ltv_tied", "best_tied", "best_fit"),
    *("worst_ltv", "worst_ltv_tied", "worst_tied", "worst_fit"),
)


def tier_sum(name: str, tier: str) -> str:
    """Return the name of a tier's sum in a frame of sums."""
    return f"{name}[{tier}]"
