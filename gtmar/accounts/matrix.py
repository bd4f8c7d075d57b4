"""`load_accounts`, the one way from a table to arrays: contract, encoding, split, fingerprints."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from gtmar.accounts.arrays import AccountMatrix, freeze
from gtmar.accounts.contract import Checked, as_of_date, check_contract
from gtmar.accounts.copies import Copies, find_copies
from gtmar.accounts.encode import encoded_terms
from gtmar.accounts.identity import (
    KeyOrder,
    content_keys,
    fingerprint,
    holdout_mask,
    key_expression,
)
from gtmar.accounts.outcomes import (
    canonical_outcomes,
    lacks_outcome,
    movement_class,
)
from gtmar.accounts.segments import segment_codes, segment_values
from gtmar.accounts.storage import Storage
from gtmar.errors import SpecError
from gtmar.spec.model import SCORE_UNITS, VALUE_UNITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gtmar.accounts.scan import AccountTable
    from gtmar.accounts.storage import Columns
    from gtmar.spec.model import ScoringSpec

__all__ = ["AccountMatrix", "Accounts", "check_reach", "load_accounts"]

_BYTES: dict[type[pl.DataType], int] = {pl.Int8: 1, pl.Int16: 2, pl.Int32: 4, pl.Int64: 8}
#: Bytes an account: of `codes`, `ltv_rows` and `day_codes`, and while a table is read of its key
#: (some 30), the key's order, seven outcomes and the movement class.
_OTHER_BYTES = 10
_READING_BYTES = 110


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
    #: Of ids and segments; None where the spec has none.
    segments_fingerprint: str | None = None
    #: Whether the arrays are mapped from files, since memory would not do.
    on_disk: bool = False
    #: The table that the holdout is all of, where it isn't a part of this one.
    later: Accounts | None = None
    #: Accounts of one content under several ids; None where there are none.
    copies: Copies | None = None
    #: How many accounts repeat another one, of those searched and of those held out.
    repeated: tuple[int, int] = (0, 0)


def load_accounts(
    table: AccountTable,
    spec: ScoringSpec,
    *,
    as_of: str | None = None,
    drop_unlabelled: bool = False,
    set_aside: float | None = None,
    memory: int | None = None,
    copies_together: bool = True,
) -> Accounts:
    """Check, encode and split an account table.

    Parameters
    ----------
    table, spec
        What is loaded, and how.
    as_of
        ISO date for `days_before`, where the table has no such column.
    drop_unlabelled
        Leave accounts without any outcome out, and count them, instead of refusing.
    set_aside
        Share of rows that may be left out since they break the contract; None to refuse them.
    memory
        Bytes that the table may take; arrays that need more are mapped from a temporary file. None
        for half of the machine's. Changes no result.
    copies_together
        Whether copies, see `find_copies`, are in one part of the split, drawn by the smallest of
        their ids. False for runs from before this was so.

    Raises
    ------
    ViolationsError
        If the table breaks the data contract.
    SpecError
        If a score could leave Int64 within the spec's bounds.
    ResourceError
        If the arrays have to go to disk, and it is full.

    Notes
    -----
    Two streaming passes over the source, of the columns that are needed: one to check, one to
    encode. Memory is the encoded columns' own and one more of them; with the arrays on disk, that
    of the ids, which must be told apart and sorted.
    """
    checked = check_contract(
        table, spec, as_of=as_of, drop_unlabelled=drop_unlabelled, set_aside=set_aside
    )
    table = checked.table
    check_reach(spec, checked.ranges)
    widths = {name: _narrowest(*checked.ranges[name]) for name in checked.ranges}
    date = as_of_date(spec, table.schema, as_of)
    encoded = [
        expression.cast(widths[name]).alias(f"x.{name}")
        for name, expression in encoded_terms(spec, table.schema, date).items()
    ]
    key = key_expression(checked.id_column, table.schema)
    if checked.id_column is None:
        key = key.map_batches(content_keys, return_dtype=pl.String, is_elementwise=True)
    outcomes = canonical_outcomes(checked.outcomes, table.schema)
    segments = segment_values(table, spec.segments)
    coded = segment_codes(segments, table.schema)
    lazy = table.frame.select(key.alias("key"), *outcomes.values(), *encoded, *coded)
    if checked.dropped:
        lazy = lazy.filter(~lacks_outcome(checked.outcomes))
    # The contract has seen to it that these are 0 and 1.
    lazy = lazy.with_columns(
        movement_class(checked.outcomes), pl.col("retained", "activated", "won_back").cast(pl.Int8)
    )
    names = [term.name for term in spec.terms]
    storage = _storage(checked, widths, memory, segments=len(segments))
    with storage.columns(table, lazy) as columns:
        keys = columns.pop("key")
        blocks: dict[str, list[str]] = {"": list(outcomes)}
        for term in spec.terms:
            blocks.setdefault(f"x.{term.column}", []).append(f"x.{term.name}")
        copies = find_copies(keys, columns, blocks)
        drawn_by = copies.drawn_by(keys) if copies and copies_together else keys
        mask = holdout_mask(drawn_by, share=spec.split.holdout, salt=spec.split.salt)
        repeated = [copies.repeated_in(mask, held=h) if copies else 0 for h in (False, True)]
        held_out = pl.Series(mask, dtype=pl.Int8)
        prints = _fingerprints(columns, keys, held_out, list(outcomes), names, segments)
        del keys
        found = freeze(columns, names, checked.outcomes, held_out.to_numpy(), storage, segments)
    return Accounts(
        table=table,
        checked=checked,
        search=found[0],
        holdout=found[1] if len(found) > 1 else None,
        outcomes_fingerprint=prints[0],
        features_fingerprint=prints[1],
        segments_fingerprint=prints[2],
        on_disk=storage.on_disk,
        copies=copies,
        repeated=(repeated[0], repeated[1]),
    )


def _fingerprints(
    columns: Columns,
    keys: pl.Series,
    held_out: pl.Series,
    outcomes: list[str],
    names: list[str],
    segments: Mapping[str, tuple[str, ...]],
) -> tuple[str, str, str | None]:
    """Return the fingerprints of ids, outcomes and split; of ids and features; and of segments."""

    def column(name: str) -> Callable[[], pl.Series]:
        return lambda: columns[name]

    order = KeyOrder.of(keys)
    with ThreadPoolExecutor(2) as pool:
        # Hashing lets go of Python's lock, so the two go on side by side.
        of_outcomes = pool.submit(
            fingerprint, order, {"split": lambda: held_out, **{n: column(n) for n in outcomes}}
        )
        of_features = pool.submit(fingerprint, order, {n: column(f"x.{n}") for n in names})
        prints = of_outcomes.result(), of_features.result()
    if not segments:
        return *prints, None
    # Values stand in the name, since a code says nothing without them.
    named = {json.dumps([name, *values]): column(f"s.{name}") for name, values in segments.items()}
    return *prints, fingerprint(order, named)


def _storage(
    checked: Checked, widths: dict[str, type[pl.DataType]], memory: int | None, *, segments: int
) -> Storage:
    """Choose where the arrays go, by what they need an account."""
    features = sum(_BYTES[width] for width in widths.values())
    outcomes = sum(map(checked.outcomes.has, ("mrr", "mrr_end", "ltv"))) * 8
    kept = features + outcomes + segments + _OTHER_BYTES
    return Storage.fitting(
        needed=checked.accounts * (features + kept + _READING_BYTES),
        kept=checked.accounts * kept,
        budget=memory,
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
    for dtype, size in _BYTES.items():
        if -(2 ** (8 * size - 1)) <= low and high < 2 ** (8 * size - 1):
            return dtype
    return pl.Int64
