"""Drift of a column or score against a reference: the population stability index (PSI).

Bins are made from the reference alone and then fixed; counts are exact. `runs.check` and
`runs.watch` pass in the values.
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
#: Number of equal-mass bins for numbers.
_BINS = 10
#: Categories with a bin of their own; the rarer ones share one.
_MOST_CATEGORIES = 50
_LEVEL = 0.95


class ShiftReading(StrEnum):
    """The interpretation of an index."""

    STABLE = "stable"
    MODERATE = "moderate"
    LARGE = "large"
    #: 0.1 or more, but within what chance gives with so few accounts.
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
    """Return the contribution of each bin to the population stability index.

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
    ``(q - p) * ln(q / p)``, where p and q are the bin's shares of the reference and now. An empty
    bin counts as half an account, since the logarithm of 0 is undefined; a bin that is empty on
    both sides adds nothing.

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
    """Return the 95 % quantile of the index if nothing has moved.

    Parameters
    ----------
    reference, now
        Accounts on either side, 1 or more.
    bins
        Bins that hold an account.

    Notes
    -----
    The index divided by ``1 / reference + 1 / now`` is about chi-squared with ``bins - 1`` degrees
    of freedom; the quantile is that of Wilson and Hilferty (1931), which is within 3 %.

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
    """Return the shift of numbers against a reference, in ten bins of equal mass.

    Parameters
    ----------
    reference, now
        Shapes (N,) and (M,), NaN where unknown; the unknown have a bin of their own.
    accounts
        Numbers of accounts on both sides, for the bound by chance, where accounts have several
        rows. None for N and M.

    Notes
    -----
    A bin begins with a value of the reference and is closed once it holds a tenth of it; a value
    that a tenth of the accounts share begins a new one. If the reference has ten distinct values at
    most, each begins a bin. A bin of a single value that two accounts or more share ends with that
    value. Values between such a bin and the next, and those below or above all of the reference,
    have bins of their own, empty in the reference; so a constant that begins to vary shows.
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
    """Return the values at which bins after the first begin, ascending, and the labels of all."""
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
            # The next double begins the bin beside a shared value, or above the whole reference.
            cuts.append(np.nextafter(highest, np.inf))
            beside = (
                f"between {digits(highest)} and {digits(distinct[after])}" if not last else None
            )
            labels.append(beside or f"above {digits(highest)}")
        if not last:
            cuts.append(distinct[after])
    return np.array(cuts), labels


def _begins(counts: Counts, full: float) -> list[int]:
    """Return the indices of the distinct values at which bins of the reference begin."""
    if len(counts) <= _BINS:
        return list(range(len(counts)))
    begins, held, left = [0], 0, int(counts.sum())
    for index, (count, coming) in enumerate(pairwise(counts.tolist()), start=1):
        held, left = held + count, left - count
        # At least half a bin must be left for the last one, unless a value fills a bin alone.
        if (held >= full and left >= full / 2) or max(count, coming) >= full:
            begins.append(index)
            held = 0
    return begins


def shift_of_categories(
    name: str,
    reference: Sequence[str | None],
    now: Sequence[str | None],
    *,
    accounts: tuple[int, int] | None = None,
) -> Shift:
    """Return the shift of categories against a reference; its 50 most frequent ones are bins.

    Parameters
    ----------
    reference, now
        N and M categories, None where unknown; the unknown have a bin of their own. Rarer
        categories of the reference share one bin, and categories new to it share another.
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
    # A bin that is empty in the reference varies more than others, so it counts as two.
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
