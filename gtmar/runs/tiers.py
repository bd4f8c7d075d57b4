"""Tier edges set on a table, by shares, capacity, lift or another spec; and grids of two scores."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import polars as pl

from gtmar import spec as specs
from gtmar.data.contract import check_contract, id_column
from gtmar.data.outcomes import CENTS, Movement, canonical_outcomes
from gtmar.data.prepare import prepared
from gtmar.data.scan import AccountTable, collect, scan
from gtmar.engine.equal_sizes import tier_sizes, with_edges
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.sum_names import tier_sum
from gtmar.engine.tally import TierEdges
from gtmar.errors import AccountDataError, SpecError, UsageError, culprits
from gtmar.journal.columns import experiment_id
from gtmar.metrics import accounts as account_metrics
from gtmar.metrics.registry import measure, metric_column
from gtmar.objective.objective import Judge
from gtmar.optimize.search_loop import Limits
from gtmar.plain_data import PlainData, html_table, plain, some
from gtmar.runs.holdout import searched_note, without_holdout
from gtmar.runs.inputs import TableOptions, load, newest_date, of_day
from gtmar.runs.journaled_search import Search
from gtmar.runs.plan import Plan
from gtmar.runs.run import run_and_journal
from gtmar.runs.score import refuse_other_id, score
from gtmar.spec.model import SCORE_UNITS
from gtmar.stats.interval import Interval, from_proportion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from pathlib import Path

    from gtmar.data.matrix import AccountMatrix
    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["Grid", "TierLine", "Tiers", "grid", "named_apart", "refuse_unlike", "tiers_of"]

#: Decimals of shares.
_DIGITS = 6


@dataclass(frozen=True)
class TierLine(PlainData):
    """One tier on a table: its edges in points, its accounts, and their retention."""

    tier: str
    low: float
    high: float
    accounts: int
    share: float
    #: None without an account that has a label.
    logo_retention: Interval | None
    nrr: float | None
    grr: float | None
    #: MRR at the start, in units of currency; None without MRR.
    mrr: float | None


@dataclass(frozen=True)
class Tiers(PlainData):
    """A spec's tiers on a table, and how setting their edges changed them."""

    _left_out = ("spec", "lines")

    spec: ScoringSpec
    source: str
    accounts: int
    lines: tuple[TierLine, ...]
    #: Lower edges before, in points by tier; None if the spec had none.
    before: dict[str, float] | None
    #: Accounts whose tier changed; None if the spec had no edges.
    moved: int | None
    #: ``RUN/EXP`` that records the change; None if it wasn't recorded.
    experiment: str | None = None
    #: The date taken from a table of several, the newest with outcomes; None for one date.
    newest: date | None = None
    #: Accounts that left before the window; they count in the sizes of tiers alone.
    former: int = 0

    @property
    def ties(self) -> str | None:
        """Which tiers miss the size that the spec asks for by over 1 % of all accounts; else None.

        Accounts of one score are in one tier, so a large tie leaves no edge near that size.
        """
        own = ((line, self.spec.tiers[line.tier]) for line in self.lines)
        sizes = [(x, t.accounts if t.share is None else t.share * self.accounts) for x, t in own]
        if sum(size or 0 for _, size in sizes) > self.accounts + 1:
            # More is asked for than there is, which is no tie.
            return None
        missed = [
            f"tier {line.tier} has {some(line.accounts, 'account')}, not {size:,.0f}"
            for line, size in sizes
            if size is not None and abs(line.accounts - size) > self.accounts / 100
        ]
        listed = "; ".join(missed)
        return f"Accounts with the same score are in one tier: {listed}." if missed else None

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return super().as_json() | {
            "tiers": plain(self.lines),
            "spec_id": specs.spec_id(self.spec),
        }


def tiers_of(
    data: Tabular,
    spec: ScoringSpec | str | Path,
    *,
    rule: Literal["share", "accounts", "lift"] | None = None,
    sizes: Mapping[str, float] | None = None,
    like: ScoringSpec | None = None,
    journal: str | Path | None = None,
    author: str | None = None,
    note: str | None = None,
    **table_options: Unpack[TableOptions],
) -> Tiers:
    """Set the edges of a spec's tiers on all accounts of a table, and measure each tier.

    Parameters are those of `gtmar.tiers`. From a table of several dates, the newest date with
    outcomes is taken, since a capacity is that of one day. The result's spec has the new edges and,
    if the change was recorded, a lineage.

    Raises
    ------
    SpecError
        If the rule doesn't fit.
    UsageError
        If there is a rule without sizes, sizes without one, or both beside `like`.
    AccountDataError
        If the table breaks the contract.
    """
    if (rule is None) != (sizes is None) or None not in (rule, like):
        raise UsageError("a rule and its sizes go together, or `like` says the sizes")
    given = specs.reading_dates(spec, table_options.get("date_format"))
    table, newest = _newest_known(scan(data), given, table_options)
    accounts, _ = load(table, without_holdout(given), **table_options)
    matrix = accounts.search
    if like is not None:
        rule, sizes = "share", _shares_of(like, table, table_options)
    ruled = given if rule is None else _with_rule(given, rule, sizes or {})
    edged = with_edges(ruled, matrix)
    before = moved = None
    if given.has_edges:
        ends = zip(given.tier_names, given.tier_lows, strict=True)
        before = {name: low / SCORE_UNITS for name, low in ends}
        moved = _moved(matrix, given, edged)
    lines = _lines(matrix, edged)
    former = matrix.accounts - int(matrix.offsets[Movement.FORMER_LOST])
    tiers = Tiers(
        edged, table.source, matrix.accounts, lines, before, moved, newest=newest, former=former
    )
    if journal is None:
        return tiers
    plan = Plan(
        kind="human",
        limits=Limits(experiments=0),
        author=author,
        note=note,
        as_of=table_options.get("as_of"),
        tiers_before=json.dumps(before or {}),
    )
    measured = without_holdout(edged)
    search = Search(accounts, measured, Judge.of(measured), plan)
    run = run_and_journal(search, journal)
    lineage = specs.Lineage(
        run=run.run_id,
        experiment=experiment_id(0),
        parent_spec_id=specs.spec_id(given) if given.has_edges else None,
    )
    kept = edged.model_copy(update={"lineage": lineage})
    return replace(tiers, spec=kept, experiment=f"{run.run_id}/{experiment_id(0)}")


def _newest_known(
    table: AccountTable, spec: ScoringSpec, options: TableOptions
) -> tuple[AccountTable, date | None]:
    """Return the rows of the newest date with outcomes, and the date; all rows if there is one."""
    if table.several is None:
        return table, None
    options = TableOptions(**{**options, "set_aside_to": None})
    accounts, _ = load(table, without_holdout(spec), **options)
    matrix = accounts.search
    assert matrix.date_of is not None  # a table of several dates has it
    last = matrix.dates[int(matrix.date_of.max())]
    return of_day(table, table.several.column, last), last


def _shares_of(like: ScoringSpec, table: Any, options: TableOptions) -> dict[str, float]:
    """Return the share of a table's accounts in each tier of another spec; they add up to 1."""
    accounts, _ = load(table, without_holdout(like), **options)
    edged = like if like.has_edges else with_edges(like, accounts.search)
    sizes = tier_sizes(accounts.search, edged, edged.vector)
    shares = [round(size / sum(sizes), _DIGITS) for size in sizes]
    shares[-1] = round(1 - sum(shares[:-1]), _DIGITS)
    return dict(zip(edged.tier_names, shares, strict=True))


def _with_rule(spec: ScoringSpec, rule: str, sizes: Mapping[str, float]) -> ScoringSpec:
    """Return a spec whose tiers have a rule, and no edges yet."""
    names = list(sizes)
    if rule != "share":
        # The tier without a number takes the rest: the spec's, else a new lowest one.
        own = spec.tier_names
        strangers = [name for name in names if name not in own]
        if 0 < len(strangers) < len(names):
            listed = ", ".join(own)
            raise SpecError(f'there is no tier "{strangers[0]}": {listed}', hint=_hint(rule, spec))
        has_rest = not strangers and len(names) < len(own)
        ordered = list(own) if has_rest else [*names, "rest"]
    else:
        ordered = names
    number = int if rule == "accounts" else float
    tiers = {name: {rule: number(sizes[name])} if name in sizes else {} for name in ordered}
    try:
        return specs.retiered(spec, tiers)
    except SpecError as err:
        reason = err.message.rpartition("tiers: ")[2]
        raise SpecError(f"the tiers can't be set so: {reason}", hint=_hint(rule, spec)) from err


def _hint(rule: str, spec: ScoringSpec) -> str:
    """Return an example of an option that fits a spec's tiers, for an error's hint."""
    if rule == "accounts":
        return f"--accounts {','.join(f'{name}=200' for name in spec.tier_names[:-1])}"
    return "--shares 10,25,40,25"


def _moved(matrix: AccountMatrix, one: ScoringSpec, two: ScoringSpec) -> int:
    names = []
    for spec in (one, two):
        # A veto caps scores at a tier's edge, so scores may differ, too.
        scores = LocalEvaluator(matrix, spec, threads=1).scores(spec.vector)
        names.append(np.array(spec.tier_names)[TierEdges.of(spec).tiers_of(scores)])
    return int((names[0] != names[1]).sum())


def _lines(matrix: AccountMatrix, spec: ScoringSpec) -> tuple[TierLine, ...]:
    sums = LocalEvaluator(matrix, spec).frame([spec.vector])
    measured = measure(sums, spec.tier_names, matrix.outcomes).values.row(0, named=True)
    counted = sums.row(0, named=True)
    money = matrix.start is not None
    lines = []
    for tier in spec.tier_names:
        labelled = counted[tier_sum("labelled", tier)]
        retained = counted[tier_sum("retained", tier)]
        accounts = counted[tier_sum("accounts", tier)]
        lines.append(
            TierLine(
                tier=tier,
                low=spec.tiers[tier].low / SCORE_UNITS,
                high=spec.tiers[tier].high / SCORE_UNITS,
                accounts=accounts,
                share=accounts / max(1, matrix.accounts),
                logo_retention=from_proportion(retained, labelled, level=0.95)
                if labelled
                else None,
                nrr=measured[metric_column("nrr_by_tier", tier)],
                grr=measured[metric_column("grr_by_tier", tier)],
                mrr=counted[tier_sum("start", tier)] / 100 if money else None,
            )
        )
    return tuple(lines)


# ---- grid of two scores --------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid(PlainData):
    """Accounts by their tiers under two scores."""

    _left_out = ("rows",)

    source: str
    #: Names of the two scores.
    models: tuple[str, str]
    accounts: int
    #: A row for each pair of tiers, the best first: the tier by each score, `cell` (both names
    #: joined, as A1), `accounts`, `share` of all; `logo_retention`, `nrr` and `mrr` if the table
    #: has their columns.
    cells: pl.DataFrame
    #: A row for each account: the id if there is one, ``<model>_score`` and ``<model>_tier`` for
    #: both scores, `cell`.
    rows: pl.DataFrame = field(repr=False)
    #: Why there are no outcomes; None if there are.
    unmeasured: str | None = None
    #: The newest date, if it was taken from a table of several; else None.
    newest: date | None = None
    #: That a run searched these accounts for one score's weights, in a sentence; None where no such
    #: run is known.
    searched: str | None = None

    def _repr_html_(self) -> str:
        models = " by ".join(self.models)
        caption = models if self.searched is None else f"{models}. {self.searched}"
        return html_table(self.cells.columns, self.cells.rows(), caption=caption)


def named_apart(one: ScoringSpec, two: ScoringSpec, files: tuple[Path, Path]) -> list[ScoringSpec]:
    """Return two specs of one model name, as `init` gives each, named after their files instead."""
    names = [path.stem for path in files]
    if one.model != two.model or names[0] == names[1]:
        return [one, two]
    both = zip((one, two), names, strict=True)
    return [spec.model_copy(update={"model": name}) for spec, name in both]


def refuse_unlike(one: ScoringSpec, two: ScoringSpec) -> None:
    """Raise `UsageError` for two specs with the same model name, or different ids."""
    if one.model == two.model:
        raise UsageError(
            f'both specs are called "{one.model}", so their columns would be, too',
            hint="give one of them another `model`",
        )
    refuse_other_id(one, two)


def grid(
    data: Tabular,
    one: ScoringSpec,
    two: ScoringSpec,
    *,
    as_of: str | None = None,
    journal: str | Path | None = None,
) -> Grid:
    """Score a table by two specs, and measure the accounts in each pair of tiers.

    Parameters
    ----------
    data, as_of
        As for `score`.
    one, two
        The scores of the grid's rows and columns. Outcomes are read as the first one says.
    journal
        Folder of the journal that knows which accounts were searched for the weights; None asks
        none.

    Raises
    ------
    UsageError
        If the specs can't make a grid, see `refuse_unlike`.
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
            f"{culprits(sorted(clash))} is the account id's column and one of the grid's",
            hint="rename the table's column",
        )
    cell = pl.concat_str(*named).alias("cell")
    rows = sides[0].select(identity).with_columns(**columns).with_columns(cell)
    outcomes, reason = _known_outcomes(table, one, as_of)
    counted = pl.DataFrame(
        list(product(one.tier_names, two.tier_names)), schema=named, orient="row"
    ).with_columns(cell)
    measured = rows.select(*named).hstack(outcomes) if outcomes is not None else rows.select(named)
    values = measured.group_by(named).agg(
        accounts=pl.len(),
        share=pl.len() / rows.height,
        **({} if outcomes is None else _cell_measures(outcomes)),
    )
    empty = pl.col("accounts", "share").fill_null(0)
    cells = counted.join(values, on=named, how="left", maintain_order="left").with_columns(empty)
    models = one.model, two.model
    searched = None
    if journal is not None and outcomes is not None:
        searched = searched_note(table, (one, two), journal, as_of)
    return Grid(table.source, models, rows.height, cells, rows, reason, newest, searched)


def _cell_measures(outcomes: pl.DataFrame) -> dict[str, pl.Expr]:
    """Return the measures of a cell that the table has columns for, by name."""
    known = {name for name in outcomes.columns if outcomes[name].count()}
    measures = {}
    if "retained" in known:
        measures["logo_retention"] = account_metrics.logo_retention("retained")
    if {"start", "end"} <= known:
        measures["nrr"] = account_metrics.nrr("start", "end", "retained")
    if "start" in known:
        measures["mrr"] = pl.col("start").sum() / CENTS
    return measures


def _known_outcomes(
    table: AccountTable, spec: ScoringSpec, as_of: str | None
) -> tuple[pl.DataFrame | None, str | None]:
    """Return each account's outcomes, in the table's order; or None, and why there are none."""
    table = prepared(table, spec)
    try:
        checked = check_contract(table, spec, as_of=as_of)
    except AccountDataError as err:
        return None, err.message
    canonical = canonical_outcomes(checked.outcomes, table.schema)
    kept = [canonical[name].alias(name) for name in ("retained", "start", "end")]
    return collect(table, table.frame.select(kept)), None
