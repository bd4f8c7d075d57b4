"""Monitoring the live score: keep its scores by date, and measure them once outcomes are known.

Meant to be started regularly by a timer. If it is killed, the next start continues: kept scores
stay, and each date is measured once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import polars as pl

from gtmar import spec as specs
from gtmar.data.contract import needed_id
from gtmar.data.split import key_expression
from gtmar.errors import UsageError, ViolationsError, culprits
from gtmar.plain_data import PlainData, html_sentence, html_table, plain
from gtmar.runs.holdout import journal_if_there
from gtmar.runs.inputs import (
    TableOptions,
    local_inputs,
    outcome_end,
    outcomes_known,
    refuse_unknown_options,
    tables_by_date,
)
from gtmar.runs.kept_scores import Live, measure, measurements, score_store
from gtmar.runs.leaving import before_leaving, follow_scored
from gtmar.runs.score import score
from gtmar.spec.model import Guardrail
from gtmar.validation.psi import shift_of_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gtmar.data.scan import AccountTable, Tabular
    from gtmar.runs.kept_scores import KeptScores, Measurement, ScoreStore, TableStore
    from gtmar.runs.leaving import TimeToLeaving
    from gtmar.spec.model import ScoringSpec

__all__ = ["MOST_SHADOWS", "Watched", "live_history", "watch"]

#: Most specs that may be measured beside the live one: each adds a comparison to every date.
MOST_SHADOWS = 3
_LIVE = "live"


@dataclass(frozen=True)
class Watched(PlainData):
    """The state of the live score after a watch."""

    _left_out = ("leaving",)
    _beside = ("verdict", "sentence", "drift")

    model: str
    live: Live
    #: Scores that were kept now: day, role and number of accounts.
    kept: tuple[tuple[date, str, int], ...]
    #: All measurements of the model, dates ascending; `new` are the dates measured now.
    measurements: tuple[Measurement, ...]
    new: tuple[date, ...]
    #: Dates with kept scores that can't be measured yet, each with the reason.
    waiting: tuple[tuple[date, str], ...]
    #: Scores of accounts that left, 30, 60 and 90 days before, see `leaving.before_leaving`.
    before_leaving: pl.DataFrame
    #: Each kept date with the stability index of the score since the date before; None if another
    #: spec was live then, and for the first date.
    drifts: tuple[tuple[date, float | None], ...]
    #: Shares gone after some days, by the tiers and scores kept; None if none are kept.
    leaving: TimeToLeaving | None
    #: All specs of the model that were live, in order; the last one is live now.
    history: tuple[Live, ...]
    forgotten: int
    notes: tuple[str, ...]

    @property
    def drift(self) -> float | None:
        """Stability index of the score between the last two kept dates; None with fewer."""
        return self.drifts[-1][1] if self.drifts else None

    @property
    def latest(self) -> Measurement | None:
        """The newest measurement of the spec that is live now."""
        own = specs.score_id(self.live.spec)
        return next((m for m in reversed(self.measurements) if m.score_id == own), None)

    @property
    def verdict(self) -> str:
        """The verdict of the latest measurement: `holds`, `worse` or `unknown`."""
        return "unknown" if self.latest is None else self.latest.verdict

    @property
    def sentence(self) -> str:
        """The latest measurement in a sentence, for a lead."""
        if self.latest is None:
            return (
                f"{self.model}, live since {self.live.since:%Y-%m-%d}, can't be judged yet: no "
                "window of its scores is over."
            )
        return f"{self.model}: {self.latest.sentence}"

    def _repr_html_(self) -> str:
        rows = []
        for each in self.measurements:
            own = each.metrics.get(each.objective)
            ends = (None,) * 3 if own is None else (own.value, own.low, own.high)
            rows.append((str(each.day), each.accounts, each.objective, *ends, each.verdict))
        heads = ("date", "accounts", "metric", "value", "from", "to", "verdict")
        return html_sentence(self.sentence) + html_table(heads, rows, caption=self.model)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return super().as_json() | {
            "kept": [
                dict(zip(("day", "role", "accounts"), each, strict=True)) for each in self.kept
            ],
            "waiting": [{"day": day, "why": why} for day, why in self.waiting],
            "drifts": [{"day": day, "psi": psi} for day, psi in self.drifts],
            "time_to_leaving": plain(self.leaving),
        }


def watch(
    data: Tabular,
    *,
    model: str | None = None,
    shadows: Sequence[ScoringSpec] = (),
    grace: int = 0,
    forget_before: date | None = None,
    scores: str | Path = "scores",
    journal: str | Path = "journal",
    today: date | None = None,
    **table_options: Unpack[TableOptions],
) -> Watched:
    """Score the newest date by the live spec, and measure the dates whose window is over.

    Parameters are those of `gtmar.watch`; `scores` may also be a Delta or DuckDB table.

    Raises
    ------
    UsageError
        If nothing is live, or several models are and none is named; if there are more than three
        shadows, or one is of another model; or if another process watches.
    AccountDataError
        If the tables have no dates or ids, or break the contract.
    """
    refuse_unknown_options(table_options, TableOptions)
    if len(shadows) > MOST_SHADOWS:
        raise UsageError(
            f"{len(shadows)} shadows, and {MOST_SHADOWS} at most",
            hint="each is one more comparison on the same accounts",
        )
    folder = Path(journal)
    history = live_history(folder, model)
    store = score_store(scores, folder, local_inputs(data))
    live = history[-1]
    strange = [spec.model for spec in shadows if spec.model != live.spec.model]
    if strange:
        raise UsageError(
            f'a shadow of "{live.spec.model}" must be of that model, got {culprits(strange)}',
            hint=f"model: {live.spec.model} in the shadow's spec",
        )
    day_over = (today or datetime.now(UTC).date()) - timedelta(days=grace)
    tables = tables_by_date(data)
    with store.alone():
        notes: list[str] = []
        kept = _keep(store, tables, history, shadows, notes, table_options)
        measured = measurements(folder, live.spec.model)
        done = {each.day for each in measured}
        new, waiting = [], []
        for day, group in _by_day(store.kept(), live.spec.model):
            if day in done:
                continue
            why = _unready(day, group, tables, day_over)
            if why is not None:
                waiting.append((day, why))
                continue
            measurement = measure(tables[day], day, group, history, folder, table_options)
            measured.append(measurement)
            new.append(day)
        every = [each for each in store.kept() if each.spec.model == live.spec.model]
        lives = [each for each in every if each.role == _LIVE]
        leaving = before_leaving(lives, tables)
        drifts = _drifts(lives)
        leaving_by_tier = _leaving(lives, live.spec, tables)
        forgotten = 0 if forget_before is None else store.forget(forget_before)
    return Watched(
        model=live.spec.model,
        live=live,
        kept=tuple(kept),
        measurements=tuple(sorted(measured, key=lambda m: m.day)),
        new=tuple(new),
        waiting=tuple(waiting),
        before_leaving=leaving,
        drifts=drifts,
        leaving=leaving_by_tier,
        history=tuple(history),
        forgotten=forgotten,
        notes=tuple(notes),
    )


# ---- what is live ----------------------------------------------------------------------------


def live_history(journal: Path, model: str | None) -> list[Live]:
    """Return all specs of a model that were live, in order; the last one is live now.

    Raises `UsageError` if nothing is live, or `model` is None and several models are.
    """
    query = (
        "select model, spec, since, author, expect, details, run_id, experiment_id from went_live "
        "where since <= now() order by model, position"
    )
    with journal_if_there(journal) as opened:
        rows = opened.query(query).to_dicts() if opened else []
    models = list(dict.fromkeys(row["model"] for row in rows))
    if model is None and len(models) > 1:
        raise UsageError(
            f"{len(models)} models are live: {culprits(models)}", hint=f"--model {models[0]}"
        )
    rows = [row for row in rows if model is None or row["model"] == model]
    if not rows:
        named = "" if model is None else f' of model "{model}"'
        raise UsageError(
            f'nothing{named} is live by the journal "{journal}"',
            hint='gtmar promote RUN/EXP --note "why" puts on record what is',
        )
    history = []
    for row in rows:
        expectation = json.loads(row["details"] or "{}").get("expectation")
        history.append(
            Live(
                spec=specs.parse(row["spec"], source="a live spec"),
                since=row["since"],
                author=row["author"],
                expect=row["expect"],
                expectation=None if expectation is None else Guardrail.model_validate(expectation),
                experiment=row["run_id"] and f"{row['run_id']}/{row['experiment_id']}",
            )
        )
    return history


# ---- keeping scores ---------------------------------------------------------------------------


def _keep(
    store: ScoreStore | TableStore,
    tables: dict[date, AccountTable],
    history: Sequence[Live],
    shadows: Sequence[ScoringSpec],
    notes: list[str],
    options: TableOptions,
) -> list[tuple[date, str, int]]:
    """Keep the newest date's scores by the live spec, the one before it, and the shadows.

    Returns day, role and number of accounts of those that weren't kept already. Sentences about
    what can't be kept, or changed since it was kept, are added to `notes`.
    """
    day = max(tables)
    live = history[-1].spec
    own = specs.score_id(live)
    before = [each.spec for each in history if specs.score_id(each.spec) != own]
    # The role of scores that are kept already never changes, even if a shadow went live since.
    to_keep = [(_LIVE, live), *(("predecessor", spec) for spec in before[-1:])]
    to_keep += [("shadow", spec) for spec in shadows]
    kept = []
    for role, spec in to_keep:
        others = [each for each in store.kept() if each.day == day and each.role == role == _LIVE]
        there = [each for each in others if each.spec.model == live.model]
        if there and specs.score_id(there[0].spec) != own:
            notes.append(
                f"Another spec was live when the scores of {day} were first kept; it is judged on "
                "that date, and this one stands beside it as a shadow."
            )
            role = "shadow"  # noqa: PLW2901 - what it is on this date
        try:
            scored = _scores(tables[day], spec, options)
        except ViolationsError as err:
            if role == _LIVE:
                raise
            # The spec that was live before, or a shadow, may read other columns.
            first = err.violations[0]
            notes.append(f"The {role} can't be scored on {day}: {first.column}: {first.problem}.")
            continue
        if store.keep(day, role, spec, scored):
            kept.append((day, role, scored.height))
            continue
        [same] = [
            each
            for each in store.kept()
            if each.day == day and specs.score_id(each.spec) == specs.score_id(spec)
        ]
        columns = ["account", "score", "tier"]
        moved = (
            f"The table of {day} gives other scores now than when they were kept; those that were "
            "kept stand."
        )
        if moved not in notes and not same.frame().select(columns).equals(scored.select(columns)):
            notes.append(moved)
    return kept


def _scores(table: AccountTable, spec: ScoringSpec, options: TableOptions) -> pl.DataFrame:
    """Return a table's scores as the store keeps them: a row for each account, sorted by id."""
    identifier = needed_id(spec, table, "scores can't be kept")
    as_of, aside = options.get("as_of"), options.get("set_aside")
    scored = score(table, spec, as_of=as_of, set_aside=aside)
    probability = pl.col("probability") if "probability" in scored.columns else pl.lit(None)
    return scored.select(
        key_expression(identifier, scored.schema).alias("account"),
        "score",
        "tier",
        probability.cast(pl.Float64).alias("probability"),
        pl.lit(spec.model).alias("model"),
        pl.lit(specs.spec_id(spec)).alias("spec_id"),
        pl.lit(datetime.now(UTC).date()).alias("scored_on"),
    ).sort("account")


# ---- dates to measure -------------------------------------------------------------------------


def _by_day(kept: Iterable[KeptScores], model: str) -> list[tuple[date, list[KeptScores]]]:
    days: dict[date, list[KeptScores]] = {}
    for each in kept:
        if each.spec.model == model:
            days.setdefault(each.day, []).append(each)
    return [(day, group) for day, group in days.items() if group[0].role == _LIVE]


def _unready(
    day: date, group: Sequence[KeptScores], tables: dict[date, AccountTable], over: date
) -> str | None:
    """Word why a date can't be measured yet; None if it can."""
    if day not in tables:
        return "its table is not among the data"
    table, spec = tables[day], group[0].spec
    end = outcome_end(table, spec)
    if end is not None and end >= over:
        return f"its window ends on {end}"
    return None if outcomes_known(table, spec) else "its table has no outcomes yet"


def _drifts(lives: Sequence[KeptScores]) -> tuple[tuple[date, float | None], ...]:
    """Return each date's population stability index of the score, since the date before."""
    indices: list[tuple[date, float | None]] = []
    for before, each in zip([None, *lives], lives, strict=False):
        index = None
        if before is not None and specs.score_id(before.spec) == specs.score_id(each.spec):
            old, new = (kept.frame()["score"].to_numpy() for kept in (before, each))
            index = shift_of_numbers("score", old, new).index
        indices.append((each.day, index))
    return tuple(indices)


def _leaving(
    lives: Sequence[KeptScores], spec: ScoringSpec, tables: dict[date, AccountTable]
) -> TimeToLeaving | None:
    """Return the shares of accounts gone after some days, by their kept tiers and scores."""
    frames = [
        each.frame().select("account", "score", "tier", day=pl.lit(each.day)) for each in lives
    ]
    return follow_scored(pl.concat(frames), spec, tables) if frames else None
