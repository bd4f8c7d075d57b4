"""Reviews and comparisons of runs: rows of the SQL library, and the sentences made of them.

The tables come from files under `sql/journal/`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from gtmar.earning import earnings
from gtmar.errors import NotComparableError, RunNotFoundError, culprits
from gtmar.journal.sentences import (
    IMPORTED,
    SAME,
    Seen,
    at_its_size,
    held_by_date,
    lead,
    of_rows,
    old_customers,
    unimproved,
    verdict,
)
from gtmar.metrics.published_ranges import published_sentences
from gtmar.metrics.registry import all_metrics
from gtmar.plain_data import percent, some

if TYPE_CHECKING:
    from gtmar.journal.catalog import Journal
    from gtmar.journal.files import Row

_NO_EXPERIMENT = "wait for its first part, or gtmar resume it"
#: Share of accounts from which a tier is in use, and below which it is nearly empty.
_IN_USE, _EMPTY = 0.05, 0.01

__all__ = ["Comparison", "Review", "compare", "review", "sized_rows", "why_none"]

#: Columns that must agree for the values of two runs to be comparable, and their names.
_SHARED = {
    "outcomes_fingerprint": "tables (ids, outcomes or split)",
    "tiers_id": "tiers",
    "objective": "objectives",
    "evaluator_version": "evaluators",
}


@dataclass(frozen=True)
class Review:
    """The review of one run: the rows of five queries, and more of its records and events."""

    summary: Row
    wins: list[Row]
    weights: list[Row]
    tiers: list[Row]
    drift: list[Row]
    #: What a check of table and start brought out, each with `grade` and `text`.
    findings: tuple[dict[str, Any], ...] = ()
    #: The latest decision on the run, as its event has it; None where there is none.
    decision: dict[str, Any] | None = None
    #: Start and best by tier at the start's sizes, by part of the accounts: `searched`, `held_out`.
    #: From the end record; empty for runs of earlier versions.
    equal_sizes: dict[str, Any] = field(default_factory=dict)
    #: Start and best on the holdout, or without one on the accounts searched; None if imported.
    seen: Seen | None = None
    #: The best's probabilities and how they did on the holdout, as the run's end has them; None
    #: where there are none.
    calibration: dict[str, Any] | None = None
    #: Old customers and new ones of a later table apart, as the run's end has them.
    customers: tuple[dict[str, Any], ...] = ()
    #: What is usual, beside the table's own values; empty where the two aren't alike.
    usual: tuple[str, ...] = ()
    #: Start and best date by date, as the run's end has it; None of a table of one date.
    by_date: dict[str, Any] | None = None
    #: Whether the search pays on accounts that it doesn't see, in words; None if nobody asked.
    search_pays: str | None = None

    @property
    def dates(self) -> list[str]:
        """Sentences on the accounts and dates of a run, and on which of them its gain holds."""
        return [] if self.by_date is None else held_by_date(self.by_date, improved=self.improved)

    @property
    def counted(self) -> str:
        """The unit that tiers count: `accounts`, or `rows` if an account has several."""
        return "accounts" if self.by_date is None else "rows"

    @property
    def probabilities(self) -> str | None:
        """Say what the best's probabilities rest on, and how they did where nobody searched."""
        if self.calibration is None:
            return None
        table, checked = self.calibration["table"], self.calibration["held_out"]
        fitted = sum(step["accounts"] for step in table["steps"])
        steps = f"{some(len(table['steps']), 'step')} of {fitted:,} {self.counted}"
        start = f"Probabilities of leaving, in {steps}"
        if checked is None:
            return f"{start} searched, are in the spec; no accounts were held out to check them on."
        how = checked["sentence"].removeprefix("Probabilities of leaving: ")
        return f"{start} searched, are in the spec. Where nobody searched: {how}"

    @property
    def warnings(self) -> list[str]:
        """Sentences on problems of the run's table and start, and on the decision."""
        if self.decision is None:
            return self.found_against
        decided = f"Decided: {self.decision['verdict']}; segment safety: {self.segment_safety}."
        return [*self.found_against, decided]

    @property
    def found_against(self) -> list[str]:
        """Sentences on problems of the run's table and start."""
        return [
            f"{'Leak: ' if each['kind'] == 'leak' else ''}{each['text']}"
            for each in self.findings
            if each["grade"] != "note"
        ]

    @property
    def segment_safety(self) -> str:
        """The segment safety of the latest decision."""
        return str((self.decision or {}).get("segment_safety", "not on record"))

    @property
    def headline(self) -> str | None:
        """The latest decision on the run with date and reason; None if there is none."""
        if self.decision is None:
            return None
        reason = str(self.decision.get("sentence", "")).partition(": ")[2] or self.sentences[0]
        return f"{self.decision['verdict']}, decided {self.decision['at']:%Y-%m-%d}: {reason}"

    @property
    def improved(self) -> bool:
        """Whether anything beat the baseline."""
        return bool(self.summary["wins"])

    @property
    def held(self) -> bool | None:
        """Whether the holdout shows a gain, too; None without a holdout."""
        before, after = (self.summary[f"holdout_{x}_value"] for x in ("baseline", "best"))
        if before is None or after is None:
            return None
        sign = 1 if self.summary["higher_is_better"] else -1
        return bool(sign * (after - before) > 1e-12)

    @property
    def sentences(self) -> list[str]:
        """The sentences on the run for a lead, the most important first."""
        return self.sentences_on()

    @property
    def decided_costs(self) -> list[str] | None:
        """The metrics that got worse, by the decision on the best; None without one."""
        if self.decision is None or not self.improved:
            return None
        if self.decision.get("experiment_id") != self.summary["best_experiment"]:
            return None
        costs: list[str] | None = self.decision.get("costs")
        return costs

    def sentences_on(self, *, costs: bool = True) -> list[str]:
        """Return `sentences`, with or without those on metrics that got worse.

        These are from the decision on the best, if there is one, else from the run's measurement.
        """
        if costs and self.decided_costs is not None:
            return [*self.sentences_on(costs=False), *self.decided_costs]
        return lead(self.summary, self.seen, improved=self.improved, held=self.held, costs=costs)

    @property
    def costs(self) -> dict[str, str]:
        """Sentences on the headline metrics that got worse; none if the gain doesn't hold."""
        if self.seen is None or not self.improved or self.held is False:
            return {}
        return self.seen.costs(self.summary["objective"])

    @property
    def verdict(self) -> list[str]:
        """Say what the run found by its objective, in a few sentences."""
        sentences = verdict(self.summary, improved=self.improved, held=self.held)
        sentence = None
        tier = self.summary["objective"].partition(".")[2]
        if self.improved and tier and self.tiers:
            sizes = [row["accounts"] for row in self.tiers if row["tier"] == tier]
            measured = self.equal_sizes.get("searched")
            sentence = at_its_size(self.summary["objective"], sizes[0], sizes[-1], measured)
            sentence = of_rows(sentence) if sentence and self.by_date else sentence
        return [sentences[0], sentence, *sentences[1:]] if sentence else sentences

    @property
    def tiers_at_equal_sizes(self) -> tuple[str, list[dict[str, Any]]] | None:
        """Start and best by tier at the start's sizes; None for runs of earlier versions.

        The first entry is the part of the accounts, `held_out` if there is a holdout, else
        `searched`; the second is the result of `sized_rows`.
        """
        part = "held_out" if "held_out" in self.equal_sizes else "searched"
        if part not in self.equal_sizes:
            return None
        return part, sized_rows(self.equal_sizes[part])

    @property
    def hhi_reading(self) -> str | None:
        """Say what the concentration means; None without MRR."""
        value = self.summary["best_hhi_normalised"]
        if value is None or not self.summary["tier_count"]:
            return None
        floor = 10_000 / self.summary["tier_count"]
        count = self.summary["tier_count"]
        words = (
            f"spread almost evenly over the {count} tiers"
            if value < 0.1
            else f"leaning on some of the {count} tiers"
            if value < 0.4
            else f"concentrated in few of the {count} tiers"
        )
        return (
            f"MRR is {words}: HHI {self.summary['best_hhi']:,.0f}, where {floor:,.0f} is an even "
            "split and 10,000 is all in one tier."
        )

    @property
    def retention_reading(self) -> str | None:
        """The sentence on an imported file's NRR of all accounts; None if it has none."""
        value = self.summary["revenue_weighted_retention"]
        return (
            None
            if value is None
            else f"NRR of all accounts (binary), as imported: {percent(value, 1)} at the best."
        )

    @property
    def resized(self) -> str | None:
        """The sentence on tiers whose sizes differ by their own edges.

        None if no size differs by more than one in a hundred accounts, which ties may cause.
        """
        if not self.improved:
            return None
        # An imported run may not know how many accounts a tier had.
        sizes = [
            (name, one["accounts"], two["accounts"])
            for name, one, two in self._by_stage
            if None not in (one["accounts"], two["accounts"])
        ]
        moved = [each for each in sizes if each[1] != each[2]]
        most = max(1.0, sum(start for _, start, _ in sizes) / 100)
        if all(abs(start - best) <= most for _, start, best in moved):
            return None
        listed = ", ".join(f"{name} {start:,} -> {best:,}" for name, start, best in moved)
        return (
            f"By their own edges tiers have other sizes: {listed}. What moved in them may be the "
            "edges alone; compare them at equal sizes."
        )

    @property
    def emptied(self) -> list[str]:
        """A sentence on each tier that the best weights leave nearly empty."""
        return [
            f"Tier {name} went from {start['accounts']:,} {self.counted} to "
            f"{best['accounts']:,}: {self.summary['objective']} doesn't hold the tiers in "
            "place. gtmar tiers SPEC --data TABLE --like START -o NEW gives them their sizes back."
            for name, start, best in self._by_stage
            if None not in (start["share"], best["share"])
            if start["share"] >= _IN_USE and best["share"] < _EMPTY
        ]

    @property
    def _by_stage(self) -> list[tuple[str, Row, Row]]:
        """Each tier with its rows at the start and at the best."""
        by_stage: dict[str, dict[str, Row]] = {"start": {}, "best": {}}
        for row in self.tiers:
            by_stage[row["stage"]][row["tier"]] = row
        start, best = by_stage["start"], by_stage["best"]
        return [(name, row, best[name]) for name, row in start.items() if name in best]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "sentence": " ".join(self.sentences),
            "verdict": self.verdict,
            "improved": self.improved,
            "held_on_holdout": self.held,
            "hhi_reading": self.hhi_reading,
            "findings": list(self.findings),
            "decision": self.decision,
            **self.summary,
            "wins_list": self.wins,
            "weights": self.weights,
            "tiers_at_equal_sizes": self.equal_sizes,
            "tiers": self.tiers,
            "proxy_drift": self.drift,
            "probabilities": self.probabilities,
            "customers": list(self.customers),
            "usual": list(self.usual),
            "search_pays": self.search_pays,
            "by_date": self.by_date,
        }


def sized_rows(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the result of `side_by_side.at_equal_sizes` as a row for each tier.

    A row has `tier`, `accounts`, and, each with `_start` and `_best` appended, `logo_retention`,
    `nrr`, `grr` and `arpa`.
    """
    return [
        {
            "tier": tier,
            "accounts": size,
            **{
                f"{short}_{side}": measured[side].get(f"{short}_by_tier.{tier}")
                for short in ("logo_retention", "nrr", "grr", "arpa")
                for side in ("start", "best")
            },
        }
        for tier, size in zip(measured["tiers"], measured["sizes"], strict=True)
    ]


_WHY_NONE = """
    select
        any_value(objective) as objective,
        any_value(value_after) filter (where outcome = 'baseline') as baseline_value,
        count(*) filter (where outcome not in ('baseline', 'known')) as experiments,
        count(*) filter (where outcome = 'blocked') as blocked,
        count(*) filter (where outcome not in ('baseline', 'known', 'blocked')
            and value_after = (
                select value_after
                from experiments
                where run_id = getvariable('run') and number = 0
            )) as tied,
        count(*) filter (where outcome = 'lose' and value_after is null) as "null"
    from experiments
    where run_id = getvariable('run')
"""
_BROKEN = """
    select breaches
    from experiments
    where run_id = getvariable('run') and outcome = 'blocked'
"""
_RECORDED = """
    select
        parameters['findings'] as findings,
        parameters['search_pays'] as search_pays,
        equal_sizes,
        calibration,
        customers,
        by_date,
        holdout_baseline_metrics,
        holdout_best_metrics,
        spec
    from runs
    where run_id = getvariable('run')
"""
#: The baseline and the best, on the accounts searched.
_ENDS = """
    select *
    from experiments
    where run_id = getvariable('run')
        and experiment_id in ('exp_00000', getvariable('best'))
    order by number
"""
_DECISION = """
    select details, "at", experiment_id
    from events
    where kind = 'decision' and run_id = getvariable('run')
    order by "at" desc, event_id desc
    limit 1
"""


def _tried(journal: Journal, run_id: str) -> dict[str, Any]:
    """Return counts of the reasons why experiments of a run were not kept."""
    [row] = journal.query_rows(_WHY_NONE, among=[run_id], run=run_id)
    broken: Counter[str] = Counter()
    if row["blocked"]:
        from gtmar.objective.objective import guardrail_of

        for blocked in journal.query_rows(_BROKEN, among=[run_id], run=run_id):
            broken.update({guardrail_of(breach) for breach in blocked["breaches"] or ()})
    return {**row, "broken": dict(broken.most_common())}


def why_none(journal: Journal, run_id: str) -> str | None:
    """Return why a run without a win kept nothing, in words; None if nothing was tried."""
    row = _tried(journal, run_id)
    return unimproved(row) if row["experiments"] else None


#: The tables of a review, and their queries.
_TABLES = {
    "wins": "convergence",
    "weights": "weights",
    "tiers": "tier_table",
    "drift": "proxy_drift",
}


def review(journal: Journal, run: str | None = None, *, brief: bool = False) -> Review:
    """Return the review of a run, by default the latest; if `brief`, without its four tables.

    Raises
    ------
    RunNotFoundError
        If there is no such run, or it has no experiment yet.
    """
    run_id = journal.run_id(run)
    rows = journal.sql_rows("review", run=run_id)
    if not rows:
        raise RunNotFoundError(f"run {run_id} has no experiment yet", hint=_NO_EXPERIMENT)
    [record] = journal.query_rows(_RECORDED, among=[run_id], run=run_id)
    decided = journal.query_rows(_DECISION, among=[run_id], run=run_id)
    customers = tuple(json.loads(record["customers"] or "[]"))
    old = old_customers(customers)
    tried = _tried(journal, run_id) if not rows[0]["wins"] else {}
    counts = {name: tried.get(name) for name in ("broken", "tied", "null")}
    equal_sizes = json.loads(record["equal_sizes"] or "{}")
    by_date = json.loads(record["by_date"] or "null")
    tables = {
        name: [] if brief else journal.sql_rows(query, run=run_id)
        for name, query in _TABLES.items()
    }
    if not brief:
        tables["weights"] = _with_spec(tables["weights"], json.loads(record["spec"] or "{}"))
        if by_date is not None:
            tables["weights"] = _with_signs(tables["weights"], by_date["signs"])
    if equal_sizes:
        names = equal_sizes["searched"]["tiers"]
        best_tier = names[-1 if rows[0]["orientation"] == "risk" else 0]
        tables["drift"] = _drift_at_equal_sizes(tables["drift"], equal_sizes["searched"], best_tier)
    return Review(
        summary={**rows[0], **counts, "old_customers": old},
        **tables,
        findings=tuple(json.loads(record["findings"] or "[]")),
        decision=None if not decided else json.loads(decided[0].pop("details")) | decided[0],
        equal_sizes=equal_sizes,
        seen=_seen(journal, rows[0], record, equal_sizes, old),
        customers=customers,
        calibration=json.loads(record["calibration"] or "null"),
        by_date=by_date,
        search_pays=json.loads(record["search_pays"] or "{}").get("sentence"),
        usual=()
        if brief
        else _usual(tables["tiers"], equal_sizes, record["spec"], rows[0]["basis"]),
    )


def _usual(
    tiers: list[Row], equal_sizes: dict[str, Any], spec: str | None, basis: str | None
) -> tuple[str, ...]:
    """Return published ranges beside the values over all tiers, which don't depend on the score."""
    window = (json.loads(spec or "{}").get("window") or {}).get
    try:
        ends = [date.fromisoformat(window(f"outcome_{end}") or "") for end in ("start", "end")]
    except ValueError:
        return ()
    start = [row for row in tiers if row["stage"] == "start"]
    labelled = equal_sizes.get("searched", {}).get("labelled_start") or [None] * len(start)
    money = [
        None if None in (row["arpa"], row["paying"]) else row["arpa"] * row["paying"]
        for row in start
    ]

    def total(name: str, weights: list[float | None]) -> float | None:
        weighed = whole = 0.0
        for row, weight in zip(start, weights, strict=True):
            if weight is not None and row[name] is not None:
                weighed += row[name] * weight
                whole += weight
        return weighed / whole if whole else None

    totals = {
        "nrr_by_tier": total("nrr", money),
        "grr_by_tier": total("grr", money),
        "logo_retention_by_tier": total("logo_retention", labelled),
    }
    days = (ends[1] - ends[0]).days + 1
    return tuple(published_sentences(totals, days=days, basis=basis))


def _seen(
    journal: Journal,
    summary: dict[str, Any],
    record: dict[str, Any],
    equal_sizes: dict[str, Any],
    old: int,
) -> Seen | None:
    """Return start and best on the holdout, or without one on the accounts searched."""
    if summary["state"] == IMPORTED:
        return None
    unseen = record["holdout_best_metrics"] is not None
    if unseen:
        ends = [json.loads(record[f"holdout_{side}_metrics"]) for side in ("baseline", "best")]
    else:
        run_id, best = summary["run_id"], summary["best_experiment"]
        ends = journal.query_rows(_ENDS, among=[run_id], run=run_id, best=best)
    return Seen(
        unseen=unseen,
        accounts=summary["holdout_accounts" if unseen else "accounts"],
        start=ends[0],
        best=ends[-1],
        sized=equal_sizes.get("held_out" if unseen else "searched"),
        risk=summary["orientation"] == "risk",
        old=old if unseen else 0,
        rows=record["by_date"] is not None,
    )


def _with_signs(weights: list[Row], signs: dict[str, list[bool | None]]) -> list[Row]:
    """Add to each weight the number of dates on which its sign holds, of how many; null if 0."""
    rows = []
    for row in weights:
        known = [held for held in signs.get(row["feature"], ()) if held is not None]
        counted = {"sign_held": sum(known) if known else None, "sign_dates": len(known) or None}
        rows.append(row | counted)
    return rows


def _with_spec(weights: list[Row], spec: dict[str, Any]) -> list[Row]:
    """Add to each weight its feature, the bound that it has reached, and what earns its points.

    Read from the spec as plain data, without parsing it; null if the spec doesn't have it.
    """
    earned = earnings(spec)
    known: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, feature in spec.get("features", {}).items():
        bins = (feature.get("encode") or {}).get("bins")
        known |= {name: (name, feature)} if bins is None else {}
        for key, limits in (bins or {}).items():
            # The key of an interval has its own brackets, a category gets them.
            known |= {f"{name}{key}": (name, limits), f"{name}[{key}]": (name, limits)}
    rows = []
    for row in weights:
        of, limits = known.get(row["feature"], (None, {}))
        low, high = limits.get("min"), limits.get("max")
        bound = None
        if low != high:
            bound = {low: "min", high: "max"}.get(row["best"])
        how = earned[row["feature"]].how(row["best"] or 0) if row["feature"] in earned else None
        rows.append(row | {"of": of, "at_bound": bound, "earned_by": how})
    return rows


def _drift_at_equal_sizes(
    drift: list[Row], measured: dict[str, Any] | None, best_tier: str
) -> list[Row]:
    """Replace metrics of tiers by those at equal sizes, and sort the rows again."""
    if measured is None:
        return drift
    rows = []
    for row in drift:
        name = row["metric"]
        one, two = (measured[side].get(name) for side in ("start", "best"))
        if name in measured["start"] and not name.startswith("share_by_tier."):
            change = None if one is None or two is None else two - one
            reading = _reading(name, one, two, best_tier)
            row |= {"start": one, "best": two, "change": change, "reading": reading}
        rows.append(row)
    order = {"worse": 0, "better": 1, "moved": 2}
    rows.sort(key=lambda row: (order.get(row["reading"], 3), row["metric"]))
    return rows


def _reading(name: str, one: float | None, two: float | None, best_tier: str) -> str:
    """Classify a tier's metric at equal sizes, as ``metric_reading`` of the views does."""
    key, _, tier = name.partition(".")
    if one is None or two is None:
        return "moved"
    if abs(two - one) <= SAME * max(1.0, abs(one)):
        return "same"
    better = all_metrics()[key].better
    if better == "neither" or tier != best_tier:
        return "moved"
    return "better" if (two > one) == (better == "higher") else "worse"


@dataclass(frozen=True)
class Comparison:
    """Two comparable runs: a row of ``compare.sql`` each."""

    one: dict[str, Any]
    two: dict[str, Any]

    @property
    def verdict(self) -> str:
        """The sentence on which run reached the better objective."""
        sign = 1 if self.one["higher_is_better"] else -1
        gap = sign * (self.two["best_value"] - self.one["best_value"])
        name = self.one["objective"]
        if abs(gap) <= 1e-12:
            return f"Both runs reach the same {name}, {self.one['best_value']:.4f}."
        better, worse = (self.two, self.one) if gap > 0 else (self.one, self.two)
        text = (
            f"{better['run_id']} found more: {name} {better['best_value']:.4f} "
            f"against {worse['best_value']:.4f}."
        )
        held = better["holdout_best_value"], worse["holdout_best_value"]
        if None not in held and sign * (held[0] - held[1]) <= 0:
            text += f" On the holdout it is not ahead: {held[0]:.4f} against {held[1]:.4f}."
        return text

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"verdict": self.verdict, "runs": [self.one, self.two]}


def compare(journal: Journal, run: str, other: str) -> Comparison:
    """Compare two runs.

    Raises
    ------
    RunNotFoundError
        If a run doesn't exist, or has no experiment yet.
    NotComparableError
        If they differ in table, tiers, objective or evaluator; the message says in which.
    """
    ids = journal.run_id(run), journal.run_id(other)
    rows = journal.sql_rows("compare", run=ids[0], other=ids[1])
    by_id = {row["run_id"]: row for row in rows}
    empty = [run_id for run_id in ids if run_id not in by_id]
    if empty:
        raise RunNotFoundError(f"{culprits(empty)} has no experiment yet", hint=_NO_EXPERIMENT)
    one, two = by_id[ids[0]], by_id[ids[1]]
    # Unknown values, as of imported runs, never count as equal.
    differing = {
        column: name
        for column, name in _SHARED.items()
        if one[column] != two[column] or one[column] is None
    }
    if differing:
        details = "; ".join(
            f"{name}: {one[column] or 'not known'} and {two[column] or 'not known'}"
            for column, name in differing.items()
        )
        raise NotComparableError(
            f"runs {ids[0]} and {ids[1]} don't compare: they differ in {details}",
            hint="run both specs on one table with one --metric, or review each by itself",
            differing=list(differing),
        )
    return Comparison(one, two)
