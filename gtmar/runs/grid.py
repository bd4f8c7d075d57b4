"""Two scores of the same accounts as a grid: who has which tiers, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.contract import check_contract, id_column
from gtmar.data.outcomes import CENTS, canonical_outcomes
from gtmar.data.prepare import prepared
from gtmar.data.scan import AccountTable, collect, scan
from gtmar.errors import AccountDataError, UsageError, culprits
from gtmar.html import table as html_table
from gtmar.metrics import accounts as metrics
from gtmar.plain_data import PlainData
from gtmar.runs.inputs import newest_date
from gtmar.runs.score import score

if TYPE_CHECKING:
    from datetime import date

    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["Grid", "grid", "refuse_unlike"]


@dataclass(frozen=True)
class Grid(PlainData):
    """Accounts by the tiers of two scores."""

    _left_out = ("rows",)

    source: str
    #: Names of the two scores.
    models: tuple[str, str]
    accounts: int
    #: A row a cell, the best tiers first: the tier by each score, `cell` (both, as A1), `accounts`,
    #: `share` of all, `logo_retention`, `nrr` and `mrr`, null without their columns.
    cells: pl.DataFrame
    #: An account each: the id where there is one, ``<model>_score`` and ``<model>_tier`` for both
    #: scores, `cell`.
    rows: pl.DataFrame = field(repr=False)
    #: Why there are no outcomes; None where there are.
    unmeasured: str | None = None
    #: The date taken of a table of several, its newest; None of a table of one date.
    newest: date | None = None

    def _repr_html_(self) -> str:
        return html_table(self.cells.columns, self.cells.rows(), caption=" by ".join(self.models))


def refuse_unlike(one: ScoringSpec, two: ScoringSpec) -> None:
    """Refuse two specs that make no grid.

    Raises
    ------
    UsageError
        If their models have one name, or they name different ids.
    """
    if one.model == two.model:
        raise UsageError(
            f'both specs are called "{one.model}", so their columns would be, too',
            hint="give one of them another `model`",
        )
    if one.id != two.id:
        raise UsageError(
            f'the specs name different id columns: "{one.id}" and "{two.id}"',
            hint="give both the same id",
        )


def grid(data: Tabular, one: ScoringSpec, two: ScoringSpec, *, as_of: str | None = None) -> Grid:
    """Score a table by two specs, and count what became of the accounts in each pair of tiers.

    Parameters
    ----------
    data, as_of
        As for `score`.
    one, two
        Scores of the grid's rows and columns. The first one's outcomes count.

    Raises
    ------
    UsageError
        If the specs make no grid, see `refuse_unlike`.
    ViolationsError
        If the table doesn't fit one of them.
    """
    refuse_unlike(one, two)
    given = scan(data)
    table, newest = newest_date(given, id_column(one, given.columns))
    sides = [score(table.as_read, spec, as_of=as_of) for spec in (one, two)]
    named = [f"{spec.model}_tier" for spec in (one, two)]
    identity = sides[0].columns[: sides[0].columns.index("score")]
    columns = {
        f"{spec.model}_{name}": side[name]
        for spec, side in zip((one, two), sides, strict=True)
        for name in ("score", "tier")
    }
    if clash := {*columns, "cell"}.intersection(identity):
        raise UsageError(
            f"{culprits(clash)} is the account id's column and one of the grid's",
            hint="rename the table's column",
        )
    cell = pl.concat_str(*named).alias("cell")
    rows = sides[0].select(identity).with_columns(**columns).with_columns(cell)
    outcomes, reason = _outcomes(table, one, as_of)
    counted = pl.DataFrame(
        list(product(one.tier_names, two.tier_names)), schema=named, orient="row"
    ).with_columns(cell)
    measured = rows.select(*named).hstack(outcomes) if outcomes is not None else rows.select(named)
    found = measured.group_by(named).agg(
        accounts=pl.len(),
        share=pl.len() / rows.height,
        **({} if outcomes is None else _measures(outcomes)),
    )
    empty = pl.col("accounts", "share").fill_null(0)
    cells = counted.join(found, on=named, how="left", maintain_order="left").with_columns(empty)
    models = one.model, two.model
    return Grid(table.source, models, rows.height, cells, rows, reason, newest)


def _measures(outcomes: pl.DataFrame) -> dict[str, pl.Expr]:
    """Return what is measured of each cell, as far as there are columns for it."""
    known = {name for name in outcomes.columns if outcomes[name].count()}
    measures = {}
    if "retained" in known:
        measures["logo_retention"] = metrics.logo_retention("retained")
    if {"start", "end"} <= known:
        measures["nrr"] = metrics.nrr("start", "end", "retained")
    if "start" in known:
        measures["mrr"] = pl.col("start").sum() / CENTS
    return measures


def _outcomes(
    table: AccountTable, spec: ScoringSpec, as_of: str | None
) -> tuple[pl.DataFrame | None, str | None]:
    """Return each account's retention and money, in the table's order; or why there is neither."""
    table = prepared(table, spec)
    try:
        checked = check_contract(table, spec, as_of=as_of)
    except AccountDataError as err:
        return None, err.message
    canonical = canonical_outcomes(checked.outcomes, table.schema)
    kept = [canonical[name].alias(name) for name in ("retained", "start", "end")]
    return collect(table, table.frame.select(kept)), None
