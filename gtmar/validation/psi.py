"""Drift: whether a column, or a score, is still spread over its values as it was.

Bins are made of the reference alone and then fixed; counts are exact. Where the values come from is
for `runs.check` to say.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.plain_data import digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Counts = NDArray[np.int64]

__all__ = [
    "Shift",
    "ShiftReading",
    "chance_bound",
    "population_stability",
    "shift_of_categories",
    "shift_of_numbers",
]

#: The customary bounds: below the first a population is stable, from the second it has shifted.
_MODERATE, _LARGE = 0.1, 0.25
#: Bins of equal mass that numbers fall into.
_BINS = 10
#: Categories beyond the most frequent ones are taken together.
_MOST_CATEGORIES = 50
_LEVEL = 0.95


class ShiftReading(StrEnum):
    """What an index says."""

    STABLE = "stable"
    MODERATE = "moderate"
    LARGE = "large"
    #: Large enough to matter, and no larger than what so few accounts give by chance.
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Shift:
    """How far one column, or the score, has moved from a reference."""

    name: str
    #: Population stability index, 0 or more; 0 where nothing moved.
    index: float
    #: What the index stays below 95 times in 100 where nothing moved, at so many accounts.
    chance: float
    reading: ShiftReading
    #: Bin, accounts of the reference, accounts now; the bins in order.
    bins: tuple[tuple[str, int, int], ...]
    #: Place in `bins` of the one that adds most to the index.
    most: int

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "name": self.name,
            "index": self.index,
            "chance": self.chance,
            "reading": str(self.reading),
            "most": self.bins[self.most][0],
            "bins": [list(each) for each in self.bins],
        }


def population_stability(reference: Counts, now: Counts) -> Doubles:
    """Return what each bin adds to the population stability index.

    Parameters
    ----------
    reference, now
        Accounts in each of B bins, shape (B,); each with at least one account somewhere.

    Returns
    -------
    ndarray of float64, shape (B,)
        0 or more each; their sum is the index.

    Notes
    -----
    ``(q - p) * ln(q / p)``, p and q being the bin's share of the reference and now. An empty bin
    counts as half an account, since a logarithm of 0 has no value; a bin that is empty on both
    sides adds nothing.

    References
    ----------
    Siddiqi (2006), Credit Risk Scorecards, for the index and its bounds 0.1 and 0.25; the sum is
    the symmetric divergence of Kullback and Leibler (1951), On information and sufficiency.
    """
    p = np.maximum(reference, 0.5) / reference.sum()
    q = np.maximum(now, 0.5) / now.sum()
    parts: Doubles = (q - p) * np.log(q / p)
    return np.where((reference == 0) & (now == 0), 0.0, parts)


def chance_bound(reference: int, now: int, bins: int) -> float:
    """Return what the index stays below 95 times in 100 where nothing moved.

    Parameters
    ----------
    reference, now
        Accounts on either side, 1 or more.
    bins
        Bins that hold an account.

    Notes
    -----
    Over ``1 / reference + 1 / now`` the index is about chi-squared with ``bins - 1`` degrees of
    freedom; its quantile by Wilson and Hilferty (1931), which is within 3 %.

    References
    ----------
    Yurdakul (2018), Statistical Properties of Population Stability Index.
    """
    freedom = bins - 1
    if freedom < 1:
        return 0.0
    part = 2 / (9 * freedom)
    quantile = freedom * (1 - part + NormalDist().inv_cdf(_LEVEL) * part**0.5) ** 3
    return float((1 / reference + 1 / now) * quantile)


def shift_of_numbers(
    name: str, reference: Doubles, now: Doubles, *, accounts: tuple[int, int] | None = None
) -> Shift:
    """Hold numbers against a reference, in ten bins of equal mass of it.

    Parameters
    ----------
    reference, now
        Shapes (N,) and (M,), NaN where unknown, which is a bin of its own.
    accounts
        How many accounts they are of, where an account has several rows: what chance gives is that
        of so many. None for N and M.

    Notes
    -----
    A bin is closed once it holds a tenth of the reference, and begins with a value of it; a value
    that a tenth of the accounts share begins one. Where the reference has ten values at most, each
    begins a bin. A bin of one value that two accounts share ends with that value: what is new
    beside it is a bin of its own, and so is what lies below or above all of the reference. These
    hold none of the reference, so a constant that is none any more shows.
    """
    cuts, labels = _bins(reference[~np.isnan(reference)])
    sides = []
    for values in (reference, now):
        unknown = np.isnan(values)
        places = np.searchsorted(cuts, values[~unknown], side="right")
        counts = np.bincount(places, minlength=len(cuts) + 1)
        sides.append(np.append(counts, unknown.sum()))
    return _shift(name, [*labels, "(unknown)"], *sides, accounts=accounts)


def _bins(known: Doubles) -> tuple[Doubles, list[str]]:
    """Return the ascending values at which bins begin, the first bin's aside, and all labels."""
    distinct, counts = np.unique(known, return_counts=True)
    if not len(distinct):
        return distinct, ["any value"]
    begins = _begins(counts, len(known) / _BINS)
    cuts, labels = [distinct[0]], [f"below {digits(distinct[0])}"]
    for first, after in pairwise([*begins, len(distinct)]):
        value, highest = distinct[first], distinct[after - 1]
        last = after == len(distinct)
        shared = after == first + 1 and counts[first] > 1
        if value == highest and (last or shared):
            labels.append(digits(value))
        else:
            end = digits(highest) if last else f"below {digits(distinct[after])}"
            labels.append(f"{digits(value)} to {end}")
        if (last or shared) and highest < np.inf:
            # The next double begins what lies beside a shared value, or above all of them.
            cuts.append(np.nextafter(highest, np.inf))
            beside = (
                f"between {digits(highest)} and {digits(distinct[after])}" if not last else None
            )
            labels.append(beside or f"above {digits(highest)}")
        if not last:
            cuts.append(distinct[after])
    return np.array(cuts), labels


def _begins(counts: Counts, full: float) -> list[int]:
    """Return the places of the distinct values that bins of the reference begin with."""
    if len(counts) <= _BINS:
        return list(range(len(counts)))
    begins, held, left = [0], 0, int(counts.sum())
    for place, (count, coming) in enumerate(pairwise(counts.tolist()), start=1):
        held, left = held + count, left - count
        # What would be left for the last bin must be worth one, but beside a value of a full bin.
        if (held >= full and left >= full / 2) or max(count, coming) >= full:
            begins.append(place)
            held = 0
    return begins


def shift_of_categories(
    name: str,
    reference: Sequence[str | None],
    now: Sequence[str | None],
    *,
    accounts: tuple[int, int] | None = None,
) -> Shift:
    """Hold categories against a reference, each of its 50 most frequent ones a bin.

    Parameters
    ----------
    reference, now
        N and M categories, None where unknown, which is a bin of its own. The rarer ones of the
        reference are one bin, and those that it doesn't have another.
    accounts
        As for `shift_of_numbers`.
    """
    before, after = Counter(reference), Counter(now)
    known = sorted((c for c in before if c is not None), key=lambda c: (-before[c], c))
    listed, rare = known[:_MOST_CATEGORIES], known[_MOST_CATEGORIES:]
    labels = [*listed, "(rarer ones)", "(new ones)", "(unknown)"]
    new = [c for c in after if c is not None and c not in before]
    sides = [
        np.array(
            [
                *(counts[c] for c in listed),
                sum(counts[c] for c in rare),
                sum(counts[c] for c in new),
                counts[None],
            ],
            dtype=np.int64,
        )
        for counts in (before, after)
    ]
    return _shift(name, labels, *sides, accounts=accounts)


def _shift(
    name: str,
    labels: Sequence[str],
    reference: Counts,
    now: Counts,
    *,
    accounts: tuple[int, int] | None,
) -> Shift:
    used = (reference > 0) | (now > 0)
    parts = population_stability(reference, now)
    index = float(parts.sum())
    # What lies beside so few accounts varies more than a bin of many: it counts for two.
    bins_counted = int(used.sum() + (used & (reference == 0)).sum())
    sizes = accounts or (int(reference.sum()), int(now.sum()))
    chance = chance_bound(*sizes, bins_counted)
    if index < _MODERATE:
        reading = ShiftReading.STABLE
    elif index <= chance:
        reading = ShiftReading.UNCLEAR
    else:
        reading = ShiftReading.LARGE if index >= _LARGE else ShiftReading.MODERATE
    bins = tuple(
        (label, int(before), int(after))
        for label, before, after, there in zip(labels, reference, now, used, strict=True)
        if there
    )
    return Shift(name, index, chance, reading, bins, int(parts[used].argmax()))
