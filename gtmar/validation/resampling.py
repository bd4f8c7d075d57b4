"""An account matrix drawn anew: outcomes shuffled among all or like accounts, or half the accounts.

All stay ordinary matrices, so that the very same search runs over them. In a table of several dates
it is whole accounts that are drawn, and whole histories of features that change hands.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gtmar.data.outcomes import Movement

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix

__all__ = ["ALIKE", "halved", "in_order_of_content", "repeated", "shuffled"]

#: Accounts of like score among which outcomes are shuffled, about. The more of them, the less is
#: left of the start's own order; the fewer, the more accounts keep their own outcome.
ALIKE = 25
#: Who exchanges outcomes with whom: the labelled, the unlabelled, the former; first and last class.
_GROUPS = (
    (Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING),
    (Movement.UNLABELLED, Movement.UNLABELLED),
    (Movement.UNLABELLED_PAYING, Movement.UNLABELLED_PAYING),
    (Movement.FORMER_LOST, Movement.FORMER_WON_BACK),
)
#: Odd, of random bits, for a hash by multiplication.
_MIX = np.uint64(0x9E3779B97F4A7C15)


def in_order_of_content(matrix: AccountMatrix) -> AccountMatrix:
    """Return the same accounts in an order that doesn't depend on that of the table's rows.

    So that a draw by row number depends on no order either. Rows stay in the order of their codes;
    within one, a hash of all that is known of an account decides.
    """
    money = (matrix.start, matrix.end, matrix.ltv, matrix.day_codes)
    segments = (each.codes for each in matrix.segments)
    own = (*matrix.columns, *matrix.flags.values(), *segments, *money)
    digest = np.zeros(matrix.accounts, dtype=np.uint64)
    for values in own:
        if values is not None:
            digest = (digest ^ values.astype(np.int64).view(np.uint64)) * _MIX
            digest ^= digest >> np.uint64(29)
    whose = (matrix.date_of, matrix.account_of)
    ties = [each for each in whose if each is not None]
    return matrix.take(np.lexsort((*ties, digest, matrix.codes)))


def shuffled(
    matrix: AccountMatrix, *, seed: int, number: int, scores: NDArray[np.int64] | None = None
) -> AccountMatrix:
    """Give every account the whole outcome of another: what is left between them is chance.

    Parameters
    ----------
    matrix
        N rows.
    seed, number
        Key the generator; the n-th shuffle of a seed is always the same.
    scores
        Shape (N,): shuffle among accounts of like score only, some `ALIKE` at a time, so that the
        scores know what they knew, and features nothing beyond. None to shuffle among all.

    Notes
    -----
    Features move, outcomes stay: MRR, end MRR and flags of an account keep together. A segment is
    what an account is, so it moves with the features. Labelled, unlabelled and former accounts
    exchange outcomes among themselves, since what an objective counts isn't what it asks about.

    Where accounts have several rows, all features of one account go to one other, and on each date
    the receiver has what the giver had on that date, or on its date nearest to it: so both sides
    keep their histories, and what links them is chance. Accounts of the same dates alone would be
    no null: who left has no dates after that, so it would go on saying who leaves. Like score is
    then like mean score.
    """
    # Another stream for each of the two, by the counter's last word.
    counter = [0, 0, 0, 0 if scores is None else 1]
    generator = np.random.Generator(np.random.Philox(key=[seed, number], counter=counter))
    order = np.arange(matrix.accounts)
    for first, last in _GROUPS:
        group = order[matrix.rows(first, last)].copy()
        if matrix.account_of is None or matrix.date_of is None:
            own = None if scores is None else scores[group].astype(np.float64)
            order[group] = group[_givers(len(group), own, generator)]
            continue
        accounts, whose = np.unique(matrix.account_of[group], return_inverse=True)
        own = None
        if scores is not None:
            own = np.bincount(whose, weights=scores[group]) / np.bincount(whose)
        givers = _givers(len(accounts), own, generator)
        order[group] = group[_nearest(whose, matrix.date_of[group], givers)]
    return replace(
        matrix,
        columns=tuple(_frozen(column[order]) for column in matrix.columns),
        segments=tuple(replace(s, codes=_frozen(s.codes[order])) for s in matrix.segments),
        flags={name: _frozen(flag[order]) for name, flag in matrix.flags.items()},
    )


def _givers(
    size: int, scores: NDArray[np.float64] | None, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Say of each of so many who gives its features to it; of like score where scores are given."""
    if scores is None:
        return generator.permutation(size)
    # Ties lie by chance, apart for those who give and those who take.
    givers, takers = (np.lexsort((generator.random(size), scores)) for _ in range(2))
    strata = np.arange(size) * max(1, size // ALIKE) // max(1, size)
    found = np.empty(size, dtype=np.intp)
    found[takers] = givers[np.lexsort((generator.random(size), strata))]
    return found


def _nearest(
    whose: NDArray[np.intp], dates: NDArray[np.int16], givers: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return for each row that of its account's giver of the date nearest to its own."""
    far = np.intp(3 * (int(dates.max(initial=0)) + 1))
    # In one line, account after account, so far apart that none is near another.
    line = whose * far + dates
    order = np.argsort(line)
    there, wanted = line[order], givers[whose] * far + dates
    after = np.searchsorted(there, wanted).clip(max=max(0, len(there) - 1))
    before = (after - 1).clip(min=0)
    closer = np.abs(there[before] - wanted) <= np.abs(there[after] - wanted)
    return np.asarray(order[np.where(closer, before, after)])


def halved(matrix: AccountMatrix, *, seed: int, number: int) -> AccountMatrix:
    """Draw half the accounts; draws 1 and 2, 3 and 4, ... of a seed are two halves of a whole.

    Unlike two bootstrap resamples, the two know nothing of each other's outcomes; and each varies
    about the whole as a bootstrap resample does. Shah and Samworth, Variable selection with
    error control: another look at stability selection, 2013.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, (number + 1) // 2]))
    count = matrix.distinct
    times = np.zeros(count, dtype=np.intp)
    times[generator.permutation(count)[: count // 2]] = 1
    times = times if number % 2 else 1 - times
    if matrix.account_of is not None:
        times = times[np.unique(matrix.account_of, return_inverse=True)[1]]
    return repeated(matrix, times)


def repeated(matrix: AccountMatrix, times: NDArray[np.intp]) -> AccountMatrix:
    """Return the matrix with each row as often as said, shape (N,), 0 leaving it out."""
    return matrix.take(np.repeat(np.arange(matrix.accounts), times))


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    values = np.ascontiguousarray(values)
    values.flags.writeable = False
    return values
