"""Rows that break the data contract, left out on request: counted by rule, and kept apart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.scan import AccountTable, collect
from gtmar.errors import AccountDataError, UsageError

if TYPE_CHECKING:
    from gtmar.data.rules import Rule

__all__ = ["DEFAULT_SHARE", "REASON", "SetAside", "leave_out"]

#: Share of rows that may be set aside where none is stated.
DEFAULT_SHARE = 0.01
#: The column that says in the file which rules a row broke.
REASON = "set_aside_for"


@dataclass(frozen=True)
class SetAside:
    """What was left out of a table, and why."""

    #: The share of rows that was allowed; None where nothing was to be left out.
    share: float | None = None
    #: Rows left out; one that breaks two rules counts once here.
    rows: int = 0
    #: Rows by the rule that they break.
    counts: dict[str, int] = field(default_factory=dict)
    #: The rows themselves, with their reasons; not read before they are asked for.
    frame: pl.LazyFrame | None = field(default=None, compare=False)

    @property
    def sentence(self) -> str:
        """Say how many rows were left out, by rule."""
        listed = "; ".join(f"{count:,} {rule}" for rule, count in self.counts.items())
        rows = "1 row that breaks" if self.rows == 1 else f"{self.rows:,} rows that break"
        return f"{rows} the data contract {'is' if self.rows == 1 else 'are'} set aside: {listed}."

    @property
    def parameters(self) -> dict[str, object]:
        """Return what a run's record keeps of it."""
        if self.share is None:
            return {}
        counts = {f"set_aside.{rule}": count for rule, count in self.counts.items()}
        return {"set_aside": self.share, **counts}

    def written(self) -> pl.DataFrame:
        """Read the rows, nested values as text, so that any kind of file holds them."""
        frame = pl.DataFrame() if self.frame is None else self.frame.collect(engine="streaming")
        nested = [n for n, t in frame.schema.items() if t.is_nested() or t == pl.Binary]
        return frame.with_columns(
            pl.Series(name, [None if v is None else str(v) for v in frame[name]], dtype=pl.String)
            for name in nested
        )


def leave_out(
    table: AccountTable, rules: list[Rule], share: float
) -> tuple[AccountTable, SetAside]:
    """Leave the rows out that break a rule, as long as they are few.

    Parameters
    ----------
    table
        The account table.
    rules
        What its rows have to keep.
    share
        The largest share of rows to leave out, in [0, 1).

    Raises
    ------
    UsageError
        If the share is none.
    AccountDataError
        If more rows break a rule.
    """
    if not 0 <= share < 1:
        raise UsageError(
            f"the share of rows to set aside must be in [0, 1), got {share:g}",
            hint=f"--set-aside {DEFAULT_SHARE:g}",
        )
    masks = {f"{i}": rule.broken.fill_null(value=False) for i, rule in enumerate(rules)}
    if not masks:
        return table, SetAside(share)
    broken = pl.any_horizontal(masks.values())
    asked = [pl.len().alias("rows"), broken.sum().alias("broken")]
    asked += [mask.sum().alias(name) for name, mask in masks.items()]
    facts = collect(table, table.frame.select(asked)).row(0, named=True)
    counts: dict[str, int] = {}
    for i, rule in enumerate(rules):
        if facts[f"{i}"]:
            counts[rule.text] = counts.get(rule.text, 0) + facts[f"{i}"]
    rows, found = int(facts["rows"]), int(facts["broken"])
    if not found:
        return table, SetAside(share)
    aside = SetAside(share, found, counts)
    if found > share * rows:
        needed = -(-found * 1_000 // rows) / 1_000
        raise AccountDataError(
            f"{table.source}: {found:,} of {rows:,} rows break the data contract, "
            f"{found / rows:.2%}, more than the {share:.2%} that may be set aside: "
            + "; ".join(f"{count:,} {rule}" for rule, count in counts.items()),
            hint=f"mend the table, or allow for more: --set-aside {needed:g}",
        )
    reasons = pl.concat_list(
        pl.when(masks[f"{i}"]).then(pl.lit(rule.text)) for i, rule in enumerate(rules)
    )
    marked = table.frame.with_columns(
        **{f"\x00{REASON}": reasons.list.drop_nulls().list.unique(maintain_order=True)}
    )
    out = marked.filter(broken).select(
        pl.col(f"\x00{REASON}").list.join("; ").alias(REASON), *table.columns
    )
    left = replace(table, frame=table.frame.filter(~broken))
    return left, replace(aside, frame=out)
