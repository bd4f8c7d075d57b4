"""Copies: accounts of one content under several ids, as an export that was joined twice has them.

Rows of equal content are also what chance gives where content is coarse: three flags and a label
take 16 values. So the number of repeated rows is held against the number that is expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from numpy.typing import NDArray

    from gtmar.accounts.storage import Columns

    Doubles = NDArray[np.float64]
    Hashes = NDArray[np.uint64]

__all__ = ["Copies", "find_copies"]

#: Repeated rows must be so many times those that independent columns give: columns seldom are.
_BEYOND = 10.0
#: Fewer contents than this prove nothing by their number.
_FEW = 3
#: So many contents have sizes with a common divisor once in a million times.
_MANY = 20


@dataclass(frozen=True)
class Copies:
    """Accounts that repeat another one, and which one.

    Parameters
    ----------
    rows
        Row numbers of all accounts of repeated content, the first of each included.
    keys
        Their keys.
    first
        For each the smallest key of its content, by which the split draws all of them.
    largest
        Accounts of the content that is repeated most.
    """

    rows: pl.Series
    keys: pl.Series
    first: pl.Series
    largest: int

    @property
    def repeated(self) -> int:
        """How many accounts repeat another one: those that would be left away to have each once."""
        return len(self.rows) - self.first.n_unique()

    def repeated_in(self, held_out: NDArray[np.bool_], *, held: bool) -> int:
        """Count the same of one part of the split; contents lie in one part as a whole.

        Parameters
        ----------
        held_out
            Shape (N,): the accounts of the holdout.
        held
            Whether the holdout is meant.
        """
        inside = pl.Series(held_out[self.rows.to_numpy()] == held)
        return int(inside.sum()) - self.first.filter(inside).n_unique()

    def drawn_by(self, keys: pl.Series) -> pl.Series:
        """Return the keys, shape (N,), that the split draws by."""
        return keys.clone().scatter(self.rows, self.first)


def find_copies(
    keys: pl.Series, columns: Columns, blocks: Mapping[str, Collection[str]]
) -> Copies | None:
    """Find accounts of equal features and outcomes, where chance doesn't explain them.

    Parameters
    ----------
    keys
        Account keys, shape (N,).
    columns
        Features and outcomes as integers, shape (N,) each.
    blocks
        Their names, by what they say together: the terms of a column, all outcomes.

    Returns
    -------
    Copies or None
        None where no row is repeated, or coincidence gives as many.

    Notes
    -----
    A content is rare where fewer than one account in all would have it by coincidence, were blocks
    independent: the product of its values' shares, times N. Of rare contents alone, two questions
    are asked. Are more of them repeated than ten times what coincidence gives, and its chance? And
    more than there are pairs of them that differ in one block alone? Where equal rows are
    coincidence, almost equal ones are more frequent still, however columns depend on each other.
    One or two contents may be those of accounts that never did anything, and count where two blocks
    have values that no other content has. Apart from all that, twenty contents or more that each
    occur twice, or six times, or a multiple of it, are a table that was copied as a whole.

    Cost: a hash of each column, and a hash table of N numbers, 8 bytes each; twice more where a row
    repeats.
    """

    def hashes() -> Iterator[Hashes]:
        # One block at a time, and again where it is needed again: a table may outgrow memory.
        for seed, names in enumerate(blocks.values()):
            block = pl.DataFrame([columns[name].alias(name) for name in names])
            yield block.hash_rows(seed=seed).to_numpy()

    whole = pl.Series(sum(hashes(), np.zeros(len(keys), np.uint64)))
    if not whole.is_duplicated().any():
        return None
    distinct = pl.DataFrame({"whole": whole}).with_row_index("row").unique("whole", keep="first")
    at = distinct["row"].sort().to_numpy()
    sizes = _sizes(whole)[at]
    # A table that was copied as a whole has every content as often, or a multiple of it.
    whole_table = len(at) >= _MANY and np.gcd.reduce(sizes.astype(np.int64)) > 1
    repeats = sizes > 1 if whole_table else _beyond_coincidence(hashes, whole, at, sizes)
    if not repeats.any():
        return None
    contents_repeated = pl.DataFrame({"whole": whole.gather(at[repeats])})
    frame = pl.DataFrame({"whole": whole, "key": keys}).with_row_index("row")
    frame = frame.join(contents_repeated, on="whole", how="semi").sort("row")
    return Copies(
        rows=frame["row"],
        keys=frame["key"],
        first=frame.select(pl.col("key").min().over("whole")).to_series(),
        largest=int(sizes[repeats].max()),
    )


def _beyond_coincidence(
    hashes: Callable[[], Iterator[Hashes]], whole: pl.Series, at: NDArray[np.uint32], sizes: Doubles
) -> NDArray[np.bool_]:
    """Say which contents are repeated beyond coincidence: rare ones, or none."""
    shares, own = np.zeros(len(at)), np.zeros(len(at))
    for values in hashes():
        alike = _sizes(pl.Series(values))[at]
        shares += np.log(alike / len(whole))
        own += alike == sizes
    expected = len(whole) * np.exp(shares)
    rare = expected < 1
    repeats: NDArray[np.bool_] = rare & (sizes > 1)
    if repeats.sum() < _FEW:
        repeats &= own > 1
    by_chance = _BEYOND * float(expected[rare].sum()) / 2
    least = max(by_chance + 3 * by_chance**0.5, _almost(hashes, whole.to_numpy()[at], at, rare))
    return repeats if repeats.sum() > least else np.zeros_like(repeats)


def _sizes(values: pl.Series) -> Doubles:
    """Return for each value how often it occurs."""
    counted = values.to_frame("v").select(pl.len().over("v"))
    return counted.to_series().cast(pl.Float64).to_numpy()


def _almost(
    hashes: Callable[[], Iterator[Hashes]],
    whole: Hashes,
    at: NDArray[np.uint32],
    rare: NDArray[np.bool_],
) -> float:
    """Count pairs of rare contents and others that differ from them in one block alone."""
    found = 0.0
    for values in hashes():
        # Sums of hashes wrap, so that taking a block away leaves the sum of the others.
        rest = pl.Series(whole - values[at])
        found += float((_sizes(rest)[rare] - 1).sum())
    return found / 2
