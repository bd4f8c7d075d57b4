"""AccountMatrix: an account table as frozen integer arrays, ready for the kernel.

`load_accounts` is the one way from a table to arrays: contract, encoding, split, fingerprints.
Rows are put in the order of their movement class, so that each cohort of the kernel is a run of
rows; since every tally is an exact sum, no result depends on that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gtmar.accounts.contract import Checked, as_of_date, check_contract
from gtmar.accounts.encode import encoded_terms
from gtmar.accounts.identity import content_keys, fingerprint, holdout_mask, key_expression
from gtmar.accounts.outcomes import (
    ACTIVATION_STATES,
    Movement,
    OutcomeColumns,
    canonical_outcomes,
    lacks_outcome,
    movement_class,
)
from gtmar.accounts.scan import AccountTable, collect
from gtmar.errors import SpecError
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gtmar.spec.model import ScoringSpec

__all__ = ["AccountMatrix", "Accounts", "check_reach", "load_accounts"]

_OUTCOMES = ("retained", "start", "end", "ltv", "activated", "days", "won_back")


@dataclass(frozen=True)
class AccountMatrix:
    """Encoded features and outcomes of N accounts, F features; every array is read-only.

    Parameters
    ----------
    names
        Term names, F of them, in the spec's order.
    columns
        F arrays of shape (N,), each of the narrowest integer type that holds it, in 1/10,000ths.
    codes
        int16, shape (N,): movement class x 3 + activation state (0 unknown, 1 missed, 2 reached).
        Ascending in the movement class.
    offsets
        int64, shape (12,): where each movement class begins, the last entry being N.
    start, end, ltv
        int64, shape (N,), in cents, unknown taken as 0; None where the table has no such column.
    ltv_rows
        Row numbers of the LTV cohort (current, LTV above 0), ascending; None without LTV.
    day_codes, days
        Place of each activated account's days in `days`, the sorted distinct values, or -1; None
        without such a column.
    """

    names: tuple[str, ...]
    columns: tuple[NDArray[np.integer], ...]
    codes: NDArray[np.int16]
    offsets: NDArray[np.int64]
    outcomes: OutcomeColumns
    start: NDArray[np.int64] | None = None
    end: NDArray[np.int64] | None = None
    ltv: NDArray[np.int64] | None = None
    ltv_rows: NDArray[np.int32] | None = None
    day_codes: NDArray[np.int32] | None = None
    days: NDArray[np.int64] | None = None

    @property
    def accounts(self) -> int:
        """N."""
        return len(self.codes)

    def rows(self, first: Movement, last: Movement) -> slice:
        """Return the run of rows whose movement class lies between two, both included."""
        return slice(int(self.offsets[first]), int(self.offsets[last + 1]))

    @property
    def paying_rows(self) -> slice:
        """The revenue cohort: current accounts with start MRR above 0."""
        unlabelled = self.rows(Movement.UNLABELLED_PAYING, Movement.UNLABELLED_PAYING)
        if unlabelled.start < unlabelled.stop:
            return unlabelled
        return self.rows(Movement.LOST_PAYING, Movement.KEPT_EXPANDED)


@dataclass(frozen=True)
class Accounts:
    """An account table, loaded: the search part, the holdout, and what identifies them."""

    table: AccountTable
    checked: Checked
    search: AccountMatrix
    #: None where there is no holdout.
    holdout: AccountMatrix | None
    outcomes_fingerprint: str
    features_fingerprint: str


def load_accounts(
    table: AccountTable,
    spec: ScoringSpec,
    *,
    as_of: str | None = None,
    drop_unlabelled: bool = False,
) -> Accounts:
    """Check, encode and split an account table.

    Raises
    ------
    ViolationsError
        If the table breaks the data contract.
    SpecError
        If a score could leave Int64 within the spec's bounds.

    Notes
    -----
    Two streaming passes: one to check, one to encode. Memory is the encoded columns' own.
    """
    table = table.with_text(spec.id)
    checked = check_contract(table, spec, as_of=as_of, drop_unlabelled=drop_unlabelled)
    check_reach(spec, checked.ranges)
    date = as_of_date(spec, table.schema, as_of)
    encoded = [
        expression.cast(_narrowest(*checked.ranges[name])).alias(f"x.{name}")
        for name, expression in encoded_terms(spec, table.schema, date).items()
    ]
    key = key_expression(checked.id_column, table.schema).alias("key")
    outcomes = list(canonical_outcomes(checked.outcomes, table.schema).values())
    lazy = table.frame.select(key, *outcomes, *encoded)
    if checked.dropped:
        lazy = lazy.filter(~lacks_outcome(checked.outcomes))
    frame = collect(table, lazy.with_columns(movement_class(checked.outcomes)))
    keys = frame["key"] if checked.id_column else content_keys(frame["key"])
    held_out = holdout_mask(keys, share=spec.split.holdout, salt=spec.split.salt)

    names = [term.name for term in spec.terms]
    split = pl.Series(held_out).cast(pl.Int8)
    outcomes_print = fingerprint(keys, {"split": split, **{n: frame[n] for n in _OUTCOMES}})
    features_print = fingerprint(keys, {name: frame[f"x.{name}"] for name in names})
    frame = frame.drop("key")
    holdout = frame.filter(pl.Series(held_out)) if held_out.any() else None
    search = frame.filter(pl.Series(~held_out)) if holdout is not None else frame
    return Accounts(
        table=table,
        checked=checked,
        search=_matrix(search, names, checked.outcomes),
        holdout=None if holdout is None else _matrix(holdout, names, checked.outcomes),
        outcomes_fingerprint=outcomes_print,
        features_fingerprint=features_print,
    )


def check_reach(spec: ScoringSpec, ranges: dict[str, tuple[int, int]]) -> int:
    """Return the largest raw score, either way, that the bounds allow, in 1/10,000ths of a point.

    Raises
    ------
    SpecError
        If it leaves Int64, where a sum would wrap.
    """
    reach = abs(spec.base) * VALUE_UNITS + SCORE_UNITS
    for term in spec.terms:
        reach += max(abs(term.min), abs(term.max)) * max(map(abs, ranges[term.name]))
    if reach >= 2**62:
        raise SpecError(
            f'spec "{spec.model}": scores may reach {reach / VALUE_UNITS:.3g} points within the '
            "bounds, beyond what 64-bit integers hold",
            hint="scale the largest feature with `encode: {kind: range, ...}`",
        )
    return reach


def _narrowest(low: int, high: int) -> type[pl.DataType]:
    for dtype, bits in ((pl.Int8, 7), (pl.Int16, 15), (pl.Int32, 31)):
        if -(2**bits) <= low and high < 2**bits:
            return dtype
    return pl.Int64


def _matrix(frame: pl.DataFrame, names: list[str], outcomes: OutcomeColumns) -> AccountMatrix:
    """Freeze a frame's columns, rows by movement class."""
    order = np.argsort(frame["movement"].to_numpy(), kind="stable")

    def frozen(values: NDArray[Any]) -> NDArray[Any]:
        values = np.ascontiguousarray(values)
        values.flags.writeable = False
        return values

    def column(name: str) -> NDArray[Any]:
        return frozen(frame[name].fill_null(0).to_numpy()[order])

    movement = frame["movement"].to_numpy()[order]
    activated = frame["activated"].cast(pl.Int16).fill_null(-1).to_numpy()[order] + 1
    codes = movement.astype(np.int16) * ACTIVATION_STATES + activated.astype(np.int16)
    sizes = np.bincount(movement, minlength=len(Movement))
    has = outcomes.has
    ltv = column("ltv") if has("ltv") else None
    ltv_rows = None
    if ltv is not None:
        cohort = (ltv > 0) & (movement < Movement.FORMER_LOST)
        ltv_rows = frozen(np.flatnonzero(cohort).astype(np.int32))
    days = day_codes = None
    if has("days_to_activate"):
        known = frame["days"].is_not_null() & (frame["activated"] == 1).fill_null(value=False)
        value = frame["days"].fill_null(0).to_numpy()[order]
        mask = known.to_numpy()[order]
        days = frozen(np.unique(value[mask]))
        day_codes = frozen(np.where(mask, np.searchsorted(days, value), -1).astype(np.int32))
    return AccountMatrix(
        names=tuple(names),
        columns=tuple(column(f"x.{name}") for name in names),
        codes=frozen(codes),
        offsets=frozen(np.concatenate([[0], np.cumsum(sizes)])),
        outcomes=outcomes,
        start=column("start") if has("mrr") else None,
        end=column("end") if outcomes.basis is not None else None,
        ltv=ltv,
        ltv_rows=ltv_rows,
        day_codes=day_codes,
        days=days,
    )
