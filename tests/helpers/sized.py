"""Plain sums by tier at given sizes, from the definition: accounts in order, ties shared evenly."""

from collections.abc import Sequence
from fractions import Fraction


def memberships(scores: Sequence[float], sizes: Sequence[int]) -> list[list[Fraction]]:
    """Return how much of each account each tier takes; tiers fill up from the highest score down.

    Of accounts that tie, each belongs to a tier as often as it would in a random order.
    """
    assert sum(sizes) == len(scores)
    shares = [[Fraction(0)] * len(sizes) for _ in scores]
    # Seats in the order of scores, each of one tier.
    seats = [tier for tier, size in enumerate(sizes) for _ in range(size)]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    at = 0
    while at < len(order):
        tied = [i for i in order[at:] if scores[i] == scores[order[at]]]
        for tier in seats[at : at + len(tied)]:
            for index in tied:
                shares[index][tier] += Fraction(1, len(tied))
        at += len(tied)
    return shares


def ratio(
    shares: Sequence[Sequence[Fraction]],
    tier: int,
    numerator: Sequence[float],
    denominator: Sequence[float],
) -> float:
    """Return the ratio of two sums over the accounts of a tier."""
    over, under = (
        sum((own[tier] * Fraction(value) for own, value in zip(shares, values, strict=True)))
        for values in (numerator, denominator)
    )
    return float(over / under)
