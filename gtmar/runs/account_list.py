"""The list of accounts to act on: most MRR at stake first, each with the reasons in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from gtmar import spec as specs
from gtmar.data.contract import id_column
from gtmar.data.outcomes import OutcomeColumns, canonical_outcomes, with_labels
from gtmar.data.scan import scan
from gtmar.errors import AccountDataError, SpecError, UsageError, culprits, nearest
from gtmar.plain_data import PlainData, digits, html_table, percent, some, whole
from gtmar.runs.inputs import newest_date
from gtmar.runs.score import CARRIED, had_left, score_table, with_spec_stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from gtmar.data.rules import SetAside
    from gtmar.data.scan import Tabular
    from gtmar.spec.model import ScoringSpec

__all__ = ["AccountList", "account_list"]

#: Most features named as an account's reasons, and least points of a difference that is one.
_REASONS, _LEAST_POINTS = 3, 0.05
_AT_STAKE = "at_stake"
_UNKNOWN = "unknown"
#: Name for the points that vetoes cost, beside those of features; no feature has it.
_VETO = "\x00veto"


@dataclass(frozen=True)
class AccountList(PlainData):
    """Accounts by what is at stake with them: the probability of leaving times MRR."""

    _left_out = ("set_aside", "notes")
    _beside = ("sentence",)

    source: str
    model: str
    #: A row each: the id, `score`, `tier`, `probability` of leaving, `mrr`, `at_stake` (probability
    #: times MRR), `reasons`, `spec_id`, `scored_on`. A table without MRR has neither `mrr` nor
    #: `at_stake`.
    rows: pl.DataFrame = field(repr=False)
    #: Accounts of the tier asked for, and of the whole table.
    asked: int
    accounts: int
    tier: str | None
    #: MRR at stake with the accounts listed, and with all of the tier; None where no MRR is known.
    listed_at_stake: float | None
    at_stake: float | None
    #: Accounts of the tier whose MRR isn't known; None in a table without MRR.
    mrr_unknown: int | None
    #: Rows that were left out since they break the data contract.
    set_aside: SetAside = field(repr=False)
    #: The newest date, whose accounts were taken from a table of several; else None.
    newest: date | None = None
    #: What was said of the table: unknown values, accounts left out, outcomes that it has already.
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """How much of the MRR at stake the accounts listed have, in a sentence."""
        of_tier = "" if self.tier is None else f" of tier {self.tier}"
        count = self.rows.height
        if not self.asked:
            return f"The table has no account{of_tier}."
        shown = f"{count:,} of {some(self.asked, 'account')}{of_tier}"
        if self.at_stake is None or self.listed_at_stake is None:
            expected = whole(float(self.rows["probability"].sum()))
            lacking = "The table has no" if self.mrr_unknown is None else "No account has a known"
            return (
                f"{shown}, the likeliest to leave first: {expected} of these "
                f"{'is' if expected == '1' else 'are'} expected to. {lacking} MRR to weigh them by."
            )
        weighed = "probability of leaving x MRR"
        if not self.at_stake:
            return f"{shown}, the likeliest to leave first: no MRR is at stake, {weighed} is 0."
        share = self.listed_at_stake / self.at_stake
        return (
            f"{shown} {'holds' if self.asked == 1 else 'hold'} {whole(self.listed_at_stake)} of "
            f"{whole(self.at_stake)} MRR at stake ({percent(share)}): {weighed}, the most first."
        )

    def _repr_html_(self) -> str:
        caption = " ".join([self.sentence, *self.notes])
        return html_table(self.rows.columns, self.rows.rows(), caption=caption)


def account_list(
    data: Tabular,
    spec: ScoringSpec,
    *,
    tier: str | None = None,
    most: int = 50,
    as_of: str | None = None,
    announce: Callable[[str], None] | None = None,
    set_aside: float | None = None,
) -> AccountList:
    """List accounts in the order of what is at stake. Outcomes aren't needed.

    Parameters are those of `gtmar.account_list`. If an account has rows on several dates, the
    newest one is taken.

    Returns
    -------
    AccountList
        MRR is the column that the spec's outcome `mrr` names; accounts without it come last. Former
        accounts, whose `won_back` is known, are left out. Among equals, the worse score comes
        first. A reason is a feature by which the account's points are worse than the mean of all
        accounts in the table that pay, or of all where none does; the difference is in brackets.

    Raises
    ------
    SpecError
        If the spec has no probabilities, or no such tier.
    UsageError
        If `most` is less than 1.
    ViolationsError
        If the table doesn't fit the spec.
    """
    if most < 1:
        raise UsageError(f"the number of accounts must be 1 or more, got {most}")
    if specs.calibration_of(spec) is None:
        raise SpecError(
            f'spec "{spec.model}" has no probabilities of leaving, so nothing can be put in order',
            hint="gtmar calibrate SPEC --data TABLE -o NEW fits them where the table says who left",
        )
    if tier is not None and tier not in spec.tiers:
        likely = nearest(tier, spec.tier_names)
        raise SpecError(
            f'spec "{spec.model}" has no tier "{tier}"; there are {", ".join(spec.tier_names)}',
            hint=f"--tier {likely or spec.tier_names[-1]}",
        )
    table = scan(data)
    table, newest = newest_date(table, id_column(spec, table.columns))
    money = spec.outcomes.mrr if spec.outcomes.mrr in table.columns else None
    columns = spec.columns
    known = OutcomeColumns.matching(spec.outcomes, table.columns).columns
    ends = [c for role, c in known.items() if role in ("retained", "churned", "mrr_end")]
    former = known.get("won_back")
    carried = dict.fromkeys([*columns, *ends, *(c for c in (money, former) if c is not None)])
    scored_table = score_table(table, spec, as_of=as_of, set_aside=set_aside, carry=list(carried))
    scored = scored_table.frame
    notes = list(scored_table.notes)
    scored = _without_former(scored, former, notes)
    identity = scored.columns[: scored.columns.index("score")]
    if not identity:
        scored = scored.with_row_index("account", offset=1)
        identity = ["account"]
    clash = {*_OWN, _AT_STAKE}.intersection(identity)
    if clash:
        raise UsageError(
            f"{culprits(sorted(clash))} is the account id's column and one of the list's",
            hint="rename the table's column",
        )
    # Former accounts, which pay nothing, are no measure of those that may leave.
    compared = scored
    if money is not None:
        scored = _with_money(scored, table.source, money)
        paying = scored.filter(pl.col("mrr") > 0)
        compared = scored if paying.is_empty() else paying
    wanted = scored if tier is None else scored.filter(pl.col("tier") == tier)
    order, own = ["probability"], ["score", "tier", "probability"]
    unknown = None
    if money is not None:
        unknown = wanted["mrr"].null_count()
        order, own = [_AT_STAKE, *order], [*own, "mrr", _AT_STAKE]
    # Accounts with the same probability are ordered by their score, the worse first.
    falling = [*(True for _ in order), spec.orientation == "risk"]
    ranked = wanted.sort(
        [*order, "score"], descending=falling, nulls_last=True, maintain_order=True
    )
    if wanted.height and unknown == wanted.height:
        money = None
    first = _with_reasons(ranked.head(most), compared, spec)
    if (past := _past(first, ends, spec)) is not None:
        notes.append(past)
    for note in notes:
        if announce is not None:
            announce(note)
    rows = with_spec_stamp(first.select(*identity, *own, "reasons"), spec)
    return AccountList(
        source=table.source,
        model=spec.model,
        rows=rows,
        asked=wanted.height,
        accounts=scored.height,
        tier=tier,
        listed_at_stake=None if money is None else float(rows[_AT_STAKE].sum()),
        at_stake=None if money is None else float(wanted[_AT_STAKE].sum()),
        mrr_unknown=unknown,
        newest=newest,
        set_aside=scored_table.set_aside,
        notes=tuple(notes),
    )


def _without_former(scored: pl.DataFrame, column: str | None, notes: list[str]) -> pl.DataFrame:
    """Leave out accounts whose win-back, a carried column, is known: who has left can't leave.

    Their number is appended to `notes`.
    """
    if column is None:
        return scored
    gone = had_left(scored, column)
    if gone.any():
        count = some(int(gone.sum()), "account that left", "accounts that left")
        notes.append(f"{count} before the window, by {column}, can't be listed.")
    return scored.filter(~gone)


def _past(listed: pl.DataFrame, ends: list[str], spec: ScoringSpec) -> str | None:
    """Word for how many of the accounts listed the table has an outcome already; None for none."""
    frame = listed.select(pl.col(f"{CARRIED}{column}").alias(column) for column in ends)
    table, _ = with_labels(scan(frame), spec.outcomes, spec.labels)
    outcomes = OutcomeColumns.matching(spec.outcomes, table.columns)
    if not all(table.schema[c].is_numeric() or table.schema[c] == pl.Boolean for c in ends):
        return None
    retained = canonical_outcomes(outcomes, table.schema)["retained"]
    ended = table.frame.select(retained.count(), left=(retained == 0).sum()).collect()
    settled, left = ended.row(0)
    if not settled:
        return None
    return (
        f"The table says already what became of {settled:,} of the "
        f"{some(listed.height, 'account')} listed: {left:,} left. That is past; whom to act on, "
        "a table of today's accounts says."
    )


#: Columns of the list beside the id.
_OWN = ("score", "tier", "probability", "mrr", "reasons", "spec_id", "scored_on")


def _with_money(scored: pl.DataFrame, source: str, column: str) -> pl.DataFrame:
    """Add columns `mrr`, null where it isn't known, and `at_stake`."""
    if not scored.schema[f"{CARRIED}{column}"].is_numeric():
        raise AccountDataError(
            f'{source}: column "{column}" must hold MRR as numbers, '
            f"got {scored.schema[f'{CARRIED}{column}']}",
            hint=f"read: {{columns: {{{column}: money}}}} in the spec says how it is written",
        )
    mrr = pl.col(f"{CARRIED}{column}").cast(pl.Float64)
    known = pl.when(mrr.is_finite()).then(mrr).alias("mrr")
    return scored.with_columns(known).with_columns(
        (pl.col("probability") * pl.col("mrr")).alias(_AT_STAKE)
    )


def _with_reasons(listed: pl.DataFrame, compared: pl.DataFrame, spec: ScoringSpec) -> pl.DataFrame:
    """Add a column `reasons`: the features that speak most for each account's leaving.

    Points are held against the mean of the accounts `compared`.
    """
    sign = -1 if spec.orientation == "health" else 1
    features: dict[str, list[str]] = {}
    for term in spec.terms:
        features.setdefault(term.feature, []).append(f"points.{term.name}")
    if spec.veto:
        features[_VETO] = ["veto"]
    points = [pl.sum_horizontal(names).alias(feature) for feature, names in features.items()]
    means = compared.select(points).mean().row(0, named=True)
    apart = listed.select(points).select((pl.col(n) - means[n]) * sign for n in features)
    reasons = []
    shared = {n: f.reads(n)[0] for n, f in spec.features.items() if f.missing == "redistribute"}
    for number, row in enumerate(apart.iter_rows(named=True)):
        # Where a feature's weight is redistributed, since its value is unknown, it is no reason.
        out = {n for n, c in shared.items() if _worded(listed[f"{CARRIED}{c}"][number]) == _UNKNOWN}
        against = [n for n in row if row[n] >= _LEAST_POINTS and n not in out]
        worst = sorted(against, key=lambda n: (-row[n], n))
        reasons_of = [
            f"{_state(spec, name, listed, number)} ({sign * row[name]:+.1f})"
            for name in worst[:_REASONS]
        ]
        reasons.append("; ".join(reasons_of) or "nothing that speaks for leaving")
    return listed.with_columns(pl.Series("reasons", reasons, dtype=pl.String))


def _state(spec: ScoringSpec, name: str, listed: pl.DataFrame, number: int) -> str:
    """Word a feature's value for the account in row `number`: ``nps is 3``."""
    if name == _VETO:
        return f"veto by {' or '.join(str(rule) for rule, _ in spec.veto_ends)}"
    feature = spec.features[name]
    if feature.rule is not None:
        holds = "holds" if listed[f"points.{name}"][number] else "doesn't hold"
        return f"{feature.parsed_rule} {holds}"
    cells = (_worded(listed[f"{CARRIED}{column}"][number]) for column in feature.reads(name))
    return f"{name} is {' and '.join(cells)}"


def _worded(cell: object) -> str:
    if cell is None or cell != cell:  # noqa: PLR0124 - NaN is unknown, too
        return _UNKNOWN
    return digits(cell) if isinstance(cell, float) else str(cell)
