"""Resampled account matrices: outcomes shuffled among all or similar accounts, or half of them.

The results are ordinary matrices, so the same search runs over them. In a table of several dates,
whole accounts are drawn, and whole histories of features are exchanged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gtmar.data.matrix import read_only
from gtmar.data.outcomes import Movement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix

__all__ = ["ALIKE", "folded", "halved", "in_order_of_content", "repeated", "shuffled"]

#: Approximate number of accounts of similar score among which outcomes are shuffled. With more of
#: them, less of the start's own order is left; with fewer, more accounts keep their own outcome.
ALIKE = 25
#: Groups that exchange outcomes, first and last class of each: labelled, unlabelled, former.
_GROUPS = (
    (Movement.LOST_NONPAYING, Movement.KEPT_NONPAYING),
    (Movement.UNLABELLED, Movement.UNLABELLED),
    (Movement.UNLABELLED_PAYING, Movement.UNLABELLED_PAYING),
    (Movement.FORMER_LOST, Movement.FORMER_WON_BACK),
)
#: An odd number of random bits, for a multiplicative hash.
_MIX = np.uint64(0x9E3779B97F4A7C15)


def in_order_of_content(matrix: AccountMatrix) -> AccountMatrix:
    """Return the same accounts in an order that depends on nothing but their content.

    So draws by row number depend neither on the order of the table's rows nor on accounts that the
    matrix doesn't have. Rows stay in the order of their movement and activation codes; within a
    code, they are sorted by a hash of all other columns.
    """
    money = (matrix.start, matrix.end, matrix.ltv, matrix.day_codes)
    own = (*matrix.content, *matrix.flags.values(), *money)
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
    """Permute outcomes among accounts, so that features and outcomes are related by chance alone.

    Parameters
    ----------
    matrix
        N rows.
    seed, number
        Key the generator; the n-th shuffle of a seed is always the same.
    scores
        Shape (N,): shuffle only among some `ALIKE` accounts of similar score, so that the scores
        keep their relation to outcomes, and features have none beyond it. None to shuffle among
        all.

    Notes
    -----
    Features move between rows and outcomes stay, so MRR, end MRR and label of an account stay
    together. Segments and rule flags move with the features. Labelled, unlabelled and former
    accounts exchange only among themselves, so the accounts that an objective counts stay the same.

    Where accounts have several rows, all features of one account go to one other account. On each
    date, the receiver has the features that the giver had on that date or on the nearest one. So
    both sides keep their histories. Exchanging only among accounts with the same dates would be no
    null: an account that left has no later dates, so its dates would still tell who leaves. Similar
    score means similar mean score then.
    """
    # The last word of the counter gives each of the two kinds a stream of its own.
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
        columns=tuple(read_only(column[order]) for column in matrix.columns),
        segments=tuple(replace(s, codes=read_only(s.codes[order])) for s in matrix.segments),
        flags={name: read_only(flag[order]) for name, flag in matrix.flags.items()},
    )


def _givers(
    size: int, scores: NDArray[np.float64] | None, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Return which of `size` accounts gives its features to each; of similar score, if given."""
    if scores is None:
        return generator.permutation(size)
    # Ties are in random order, a different one for givers and takers.
    givers, takers = (np.lexsort((generator.random(size), scores)) for _ in range(2))
    strata = np.arange(size) * max(1, size // ALIKE) // max(1, size)
    giver_of = np.empty(size, dtype=np.intp)
    giver_of[takers] = givers[np.lexsort((generator.random(size), strata))]
    return giver_of


def _nearest(
    whose: NDArray[np.intp], dates: NDArray[np.int16], givers: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return for each row its giver's row of the nearest date."""
    far = np.intp(3 * (int(dates.max(initial=0)) + 1))
    # All accounts on one line, so far apart that the nearest date is always of the same account.
    line = whose * far + dates
    order = np.argsort(line)
    there, wanted = line[order], givers[whose] * far + dates
    after = np.searchsorted(there, wanted).clip(max=max(0, len(there) - 1))
    before = (after - 1).clip(min=0)
    closer = np.abs(there[before] - wanted) <= np.abs(there[after] - wanted)
    return np.asarray(order[np.where(closer, before, after)])


def halved(matrix: AccountMatrix, *, seed: int, number: int) -> AccountMatrix:
    """Draw half the accounts; draws 1 and 2, 3 and 4, ... of a seed are complementary halves.

    Unlike two bootstrap resamples, the two halves share no outcomes, while each varies about the
    whole as a resample does. Shah and Samworth, Variable selection with error control: another look
    at stability selection, 2013.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, (number + 1) // 2]))
    count = matrix.distinct
    times = np.zeros(count, dtype=np.intp)
    times[generator.permutation(count)[: count // 2]] = 1
    times = times if number % 2 else 1 - times
    if matrix.account_of is not None:
        times = times[np.unique(matrix.account_of, return_inverse=True)[1]]
    return repeated(matrix, times)


def folded(
    matrix: AccountMatrix, *, folds: int, number: int
) -> tuple[AccountMatrix, AccountMatrix]:
    """Return all accounts but those of one fold, and those of the fold; `number` is 1 to `folds`.

    Every so many accounts are one fold, so rows in the order of their content spread the outcomes
    evenly. All rows of an account are in the same fold.
    """
    whose = matrix.account_of
    accounts = (
        np.arange(matrix.accounts) if whose is None else np.unique(whose, return_inverse=True)[1]
    )
    own = accounts % folds == number - 1
    return matrix.take(np.flatnonzero(~own)), matrix.take(np.flatnonzero(own))


def repeated(matrix: AccountMatrix, times: NDArray[np.intp]) -> AccountMatrix:
    """Return the matrix with each row repeated `times`, shape (N,); 0 leaves it out."""
    return matrix.take(np.repeat(np.arange(matrix.accounts), times))
