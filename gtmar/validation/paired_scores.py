"""One or two scores of the same accounts, sorted by content for resampling.

Resampling gives each account a random weight. The sorted order gives the same accounts the same
weights, whatever the order of the table's rows. In a table of several dates an account has several
rows, all with one weight, since the rows of an account depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gtmar.data.outcomes import ACTIVATION_STATES, Movement
from gtmar.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.outcomes import OutcomeColumns

    Floats = NDArray[np.float64]
    Places = NDArray[np.intp]

__all__ = ["Panel", "Scored", "known", "weights"]

#: Weights that are drawn at a time; changing it changes the weights of a seed.
_DRAWN = 4_000_000
#: Weights that are yielded at a time if several replicates fit: 128 KB, so that arrays computed
#: from them stay in a cache and in memory that the C library reuses.
_CHUNK = 16_384
#: Resolution of the table that maps 16 random bits to a Poisson weight.
_BITS = 65_536


@dataclass(frozen=True)
class Scored:
    """One score of N accounts, in the order of a matrix.

    Parameters
    ----------
    places
        Shape (N,): score values in hundredths of a point.
    tiers
        Shape (N,), in [0, T): each account's tier, 0 the highest.
    tier_names
        T names, from the highest scores down.
    risk
        True where a high score is bad.
    membership
        Shape (N, T), in [0, 1]: the fraction of each account in each tier, where tiers have the
        sizes of another score's and accounts tie across a cut; None if every account is whole.
    """

    places: Places
    tiers: Places
    tier_names: tuple[str, ...]
    risk: bool = False
    membership: Floats | None = None

    @property
    def parts(self) -> tuple[Places, Places, Floats]:
        """Accounts, their tiers and the fractions in them, one entry for each pair."""
        if self.membership is None:
            return np.arange(len(self.tiers)), self.tiers, np.ones(len(self.tiers))
        rows, tiers = np.nonzero(self.membership)
        return rows, tiers, self.membership[rows, tiers]

    def inside(self, tier: int) -> Floats:
        """Return the fraction of each account in a tier, shape (N,)."""
        if self.membership is None:
            return np.asarray(self.tiers == tier, dtype=np.float64)
        return np.asarray(self.membership[:, tier])

    def take(self, rows: NDArray[Any]) -> Scored:
        """Return the score of some accounts, given by index or mask."""
        membership = None if self.membership is None else self.membership[rows]
        return replace(
            self, places=self.places[rows], tiers=self.tiers[rows], membership=membership
        )


@dataclass(frozen=True)
class Panel:
    """N rows with their outcomes, and one or two scores of them.

    Parameters
    ----------
    before, after
        Scores; the same one twice if there is only one.
    movement, activation
        Shape (N,): `Movement` and activation state.
    start, end, ltv
        Shape (N,): cents; None if the table has no such column.
    account_of
        Shape (N,), in [0, A): each row's account; None if each row is an account of its own.
    """

    outcomes: OutcomeColumns
    before: Scored
    after: Scored
    movement: Places
    activation: Places
    start: Floats | None
    end: Floats | None
    ltv: Floats | None
    account_of: Places | None = None

    @classmethod
    def of(cls, matrix: AccountMatrix, before: Scored, after: Scored | None = None) -> Panel:
        """Return the panel of a matrix and its scores, sorted by content.

        Raises
        ------
        ShapeError
            If a score doesn't have the N rows of the matrix.
        """
        after = after or before
        if {len(before.places), len(after.places)} != {matrix.accounts}:
            raise ShapeError(
                f"scores: expected N = {matrix.accounts} of each side, "
                f"got {len(before.places)} and {len(after.places)}"
            )
        codes = matrix.codes.astype(np.intp)
        columns = (matrix.ltv, matrix.end, matrix.start)
        money = [column for column in columns if column is not None]
        keys: list[NDArray[Any]] = [*money, codes, after.places, before.places]
        if matrix.account_of is not None:
            keys.insert(0, matrix.account_of)
        order = np.lexsort(keys)

        def sorted_money(values: NDArray[np.int64] | None) -> Floats | None:
            return None if values is None else values[order].astype(np.float64)

        return cls(
            outcomes=matrix.outcomes,
            before=before.take(order),
            after=after.take(order),
            movement=codes[order] // ACTIVATION_STATES,
            activation=codes[order] % ACTIVATION_STATES,
            start=sorted_money(matrix.start),
            end=sorted_money(matrix.end),
            ltv=sorted_money(matrix.ltv),
            account_of=_numbered(matrix.account_of, order),
        )

    @property
    def rows(self) -> int:
        """N."""
        return len(self.movement)

    @property
    def accounts(self) -> int:
        """Number of accounts: A, or N if each row is one."""
        return self.rows if self.account_of is None else len(self._of_accounts[0])

    @cached_property
    def _of_accounts(self) -> tuple[Places, Places]:
        """Where each account begins among the sorted rows, and the rows sorted by account."""
        whose = np.arange(self.rows) if self.account_of is None else self.account_of
        order = np.argsort(whose, kind="stable")
        return np.flatnonzero(np.diff(whose[order], prepend=-1)), order

    def per_account(self, values: Floats) -> Floats:
        """Sum the values of rows by account: from shape (..., N) to (..., A)."""
        if self.account_of is None:
            return values
        starts, order = self._of_accounts
        if not len(starts):
            return values
        return np.add.reduceat(values[..., order], starts, axis=-1)

    def of_accounts(self, weights: Floats) -> Floats:
        """Return the weights of accounts from those of rows: from shape (..., N) to (..., A)."""
        if self.account_of is None:
            return weights
        starts, order = self._of_accounts
        return weights[..., order[starts]]

    def weights(self, replicates: int, *, seed: int) -> Iterator[Floats]:
        """Draw weights as `weights` does, one for all rows of an account; shape (b, N)."""
        for drawn in weights(self.accounts, replicates, seed=seed, rows=self.rows):
            yield drawn if self.account_of is None else drawn[:, self.account_of]

    def among(self, *classes: Movement) -> NDArray[np.bool_]:
        """Return whether the movement class of each row is one of these, shape (N,)."""
        return np.isin(self.movement, classes)

    def part(self, rows: NDArray[np.bool_]) -> Panel:
        """Return the panel of the rows in a mask, in the same order."""

        def money(values: Floats | None) -> Floats | None:
            return None if values is None else values[rows]

        return Panel(
            outcomes=self.outcomes,
            before=self.before.take(rows),
            after=self.after.take(rows),
            movement=self.movement[rows],
            activation=self.activation[rows],
            start=money(self.start),
            end=money(self.end),
            ltv=money(self.ltv),
            account_of=_numbered(self.account_of, rows),
        )


def known(values: Floats | None) -> Floats:
    """Return a column that exists, as a metric without its columns is never measured."""
    assert values is not None
    return values


def _numbered(account_of: NDArray[Any] | None, rows: NDArray[Any]) -> Places | None:
    """Renumber the accounts of some rows without gaps, in the same order."""
    if account_of is None:
        return None
    return np.unique(account_of[rows], return_inverse=True)[1].astype(np.intp)


def weights(
    accounts: int, replicates: int, *, seed: int, rows: int | None = None
) -> Iterator[Floats]:
    """Draw Poisson weights of mean 1, the bootstrap's counts, in chunks of replicates.

    Parameters
    ----------
    accounts, replicates
        N and B.
    rows
        Number of rows of these accounts, for the size of chunks; None for N.

    Yields
    ------
    ndarray of float64, shape (b, N)
        Several replicates within 128 KB, or else as many as fit in 32 MB, at least one; B in all.

    Notes
    -----
    Poisson counts replace multinomial ones: weights are independent of each other, and their
    varying total cancels, as everything resampled here is a ratio.
    """
    table = np.repeat(np.arange(9), np.diff(_poisson_edges())).astype(np.float64)
    generator = np.random.Generator(np.random.Philox(key=[seed, accounts]))
    own = max(1, rows or accounts)
    size = max(1, _DRAWN // own)
    few = _CHUNK // own if 2 * own <= _CHUNK else size
    for first in range(0, replicates, size):
        some = min(size, replicates - first)
        drawn = generator.integers(0, _BITS, size=(some, accounts), dtype=np.uint16)
        for start in range(0, some, few):
            yield table[drawn[start : start + few]]


def _poisson_edges() -> NDArray[np.int64]:
    """Return where each count of 0 to 8 begins in a table of 65,536 entries, then its length."""
    chances = np.exp(-1.0) / np.cumprod([1.0, *range(1, 9)])
    edges = np.floor(np.concatenate([[0.0], np.cumsum(chances)]) * _BITS + 0.5)
    edges[-1] = _BITS
    return edges.astype(np.int64)
