"""The result of a decision, in words and as plain data; and the folder that it can be written as.

The folder has a report, the change of each account, both specs, and a manifest with the hashes of
all input files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from gtmar import spec as specs
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.errors import UsageError
from gtmar.journal.sentences import held_out, old_customers, on_dates
from gtmar.metrics.metric import marked
from gtmar.plain_data import (
    PlainData,
    apart,
    digits,
    html_sentence,
    html_table,
    percent,
    some,
)
from gtmar.runs.inputs import file_hashes
from gtmar.runs.results import warnings_of
from gtmar.runs.score import score
from gtmar.safe_text import markdown, spreadsheet_safe
from gtmar.spec.model import VALUE_UNITS
from gtmar.validation.gates import Verdict, reason_of, segment_safety
from gtmar.validation.intervals import costs_of, far_below, upside_down

if TYPE_CHECKING:
    from gtmar.data.scan import AccountTable
    from gtmar.outputs import Output
    from gtmar.runs.results import Finding
    from gtmar.runs.side_by_side import Customers
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval
    from gtmar.validation.gates import Gate, Gates
    from gtmar.validation.intervals import Uncertainty
    from gtmar.validation.reliability import Reliability

__all__ = ["Decided", "account_changes", "ids_of", "write_folder"]


def ids_of(spec: ScoringSpec) -> dict[str, str]:
    """Return the two hashes that identify a spec: of all that it says, and of its scores."""
    return {"spec_id": specs.spec_id(spec), "score_id": specs.score_id(spec)}


@dataclass(frozen=True)
class Decided(PlainData):
    """A decision: the verdict, and all measurements behind it."""

    _left_out = ("given",)
    _beside = ("sentence", "headline", "segment_safety", "costs", "compared")

    verdict: Verdict
    gates: tuple[Gate, ...]
    stated: Gates
    run_id: str
    #: ``RUN/EXP`` of the candidate.
    experiment: str
    objective: str
    higher_is_better: bool
    incumbent: ScoringSpec = field(repr=False)
    candidate: ScoringSpec = field(repr=False)
    #: The table whose accounts were held out, and how many accounts those are.
    source: str
    accounts: int
    #: Comparisons made on these accounts so far, with this one, and the level of intervals that
    #: follows from their number.
    looks: int
    level: float
    intervals: Uncertainty = field(repr=False)
    #: Accounts by tier before (rows) and after (columns), tiers from the highest down, each score
    #: by its own edges.
    moves: tuple[tuple[int, ...], ...]
    #: By-tier metrics by each score's own edges, where tiers may have other sizes.
    own_edges: Uncertainty = field(repr=False)
    #: By-tier metrics of both at the incumbent's tier sizes, see `side_by_side.at_equal_sizes`.
    equal_sizes: dict[str, Any] = field(repr=False)
    #: SHA-256 of the input files by name, and fingerprints of outcomes and features.
    inputs: dict[str, str]
    fingerprints: dict[str, str]
    notes: tuple[str, ...] = ()
    folder: str | None = None
    event_id: str | None = None
    #: Findings of the check of the searched table, and copies found in the holdout's.
    findings: tuple[Finding, ...] = ()
    #: `binary` if end MRR isn't known: a retained account counts with its start MRR. Else
    #: `observed`, and None without MRR.
    basis: str | None = None
    #: The candidate's objective on the accounts searched.
    promised: float | None = None
    #: Share of the MRR whose account changes tier, by each score's own edges; None without MRR.
    moved_mrr: float | None = None
    #: The candidate's probabilities beside what became of these accounts; None where it has none.
    reliability: Reliability | None = None
    #: Start and best on each date, see `side_by_side.by_date`; None for a table of one date.
    by_date: dict[str, Any] | None = None
    #: Old and new customers of a later table, each group by itself; empty without old ones.
    customers: tuple[Customers, ...] = ()
    #: A sentence if no window proves the order of time; else None.
    time_order: str | None = None
    #: Kind of the run: `search`, or `human` or `record` for a person's change.
    kind: str = "search"
    #: The specs as a person gave them, incumbent and candidate; None for those of a run.
    given: tuple[ScoringSpec, ScoringSpec] | None = field(default=None, repr=False)
    #: Names of the candidate and of the incumbent that were given; None for a run's.
    names: tuple[str, str] | None = None
    #: A sentence for each search that chose weights and whose accounts aren't known.
    unknown_searches: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[ScoringSpec, ScoringSpec]:
        """Incumbent and candidate, as given by a person or as the run has them."""
        return self.given or (self.incumbent, self.candidate)

    @property
    def old_customers(self) -> int:
        """How many of the accounts are in the table searched, too, with an earlier window."""
        return old_customers(each.as_json() for each in self.customers)

    @property
    def compared(self) -> str:
        """What was compared with what, on which accounts, in a sentence."""
        which = f"{self.unseen} of {self.source} that the search never saw"
        if self.old_customers:
            which = f"{held_out(self.accounts, self.old_customers)}, of {self.source}"
        elif self.kind != "search":
            which = f"{self.unseen} of {self.source} that were held out"
        if self.names is not None:
            one, other = self.names
            return f"{one} against {other} ({self.experiment}), on {which}."
        return f"{self.experiment} against its start, on {which}."

    @property
    def segment_safety(self) -> str:
        """In which segments the gates failed, are unknown or passed, in words."""
        return segment_safety(gate.as_json() for gate in self.gates)

    @property
    def sentence(self) -> str:
        """The verdict and its reason, in words."""
        reason = reason_of(self.gates)
        if reason is None:
            never = f"{self.unseen} {'never searched' if self.kind == 'search' else 'held out'}"
            old = self.old_customers
            reason = f"{self._gain}, on {held_out(self.accounts, old) if old else never}"
            reason += ", at a cost" if self.costs else ""
        return f"{self.verdict}: {reason}."

    @property
    def unseen(self) -> str:
        """The number of accounts measured and, for several dates, of dates and rows, in words."""
        if self.by_date is None:
            return some(self.accounts, "account")
        return on_dates(self.accounts, len(self.by_date["dates"]), self.by_date["rows"])

    @property
    def dates_held(self) -> list[str]:
        """A sentence on how many dates the gain holds; none for a table of one date."""
        if self.by_date is None:
            return []
        known = [gained for gained in self.by_date["gained"] if gained is not None]
        return [f"The gain holds in {sum(known):,} of {some(len(known), 'date')}."]

    @property
    def _gain(self) -> str:
        """The gain of the objective, in words."""
        sides = self.intervals.before[self.objective], self.intervals.after[self.objective]
        before, after = (side.value or 0.0 for side in sides)
        if self.objective in ("auc_roc_retain", "auc_roc_churn"):
            one = "account" if self.by_date is None else "row"
            pairs = f"of 100 pairs of a kept and a lost {one} it ranks"
            was, now = apart(before, after, "")
            return f"{pairs} {now} right, was {was}"
        return f"{marked(self.objective, self.basis)} {digits(before, 4)} -> {digits(after, 4)}"

    @property
    def headline(self) -> list[str]:
        """The sentences right below the verdict: leaks and copies, level, costs, segments."""
        # What makes a verdict UNVERIFIED is in its own sentence.
        first = {gate.name for gate in self.gates if self.verdict is Verdict.UNVERIFIED}
        known = [
            each.short
            for each in self.findings
            if each.short
            and each.grade != "note"
            and not (each.kind == "copies" and "copies" in first)
            and not (each.kind == "leak" and each.grade == "error" and "leakage" in first)
        ]
        beware = f"Beware: {'; '.join(known)}."
        level = self.level_sentence
        if any(gate.name == "level" and not gate.passed for gate in self.gates):
            # It is in the verdict's own sentence.
            level = level[1:]
        sentences = [*([beware] if known else []), *level, *self.dates_held, *self.costs]
        if self.reliability is not None and self.reliability.off:
            sentences.append(self.reliability.sentence)
        sentences += warnings_of(self.findings)
        if self.time_order is not None and self.time_order not in sentences:
            sentences.append(self.time_order)
        sentences += [*self.unknown_searches, *(each.sentence for each in self.customers)]
        return [*sentences, f"Segment safety: {self.segment_safety}."]

    @property
    def level_sentence(self) -> list[str]:
        """Sentences if a score is upside down here, or far below its value in the search."""
        sentences = [upside_down(self.intervals)]
        # A search measures an objective of one tier at each score's own edges.
        by_tier = "." in self.objective
        interval = (self.own_edges if by_tier else self.intervals).after.get(self.objective)
        if interval is not None and self.promised is not None:
            sentences.append(far_below(self.promised, interval, self.objective, better=self.better))
        return [text for text in sentences if text is not None]

    @property
    def better(self) -> int:
        """1 if more of the objective is better, -1 if less is."""
        return 1 if self.higher_is_better else -1

    @property
    def costs(self) -> list[str]:
        """A sentence for each metric beside the objective that got worse beyond chance."""
        return list(costs_of(self.intervals, self.objective).values())

    @property
    def moved(self) -> int:
        """How many accounts change tier; rows, in a table of several dates."""
        stay = sum(row[index] for index, row in enumerate(self.moves))
        return sum(map(sum, self.moves)) - stay

    @property
    def sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Accounts of each tier before and after, by each score's own edges."""
        return tuple(map(sum, self.moves)), tuple(map(sum, zip(*self.moves, strict=True)))

    @property
    def counted(self) -> str:
        """What tiers count: `accounts`, or `rows` where an account has several."""
        return "accounts" if self.by_date is None else "rows"

    @property
    def movement(self) -> str:
        """Which share of accounts changes tier, and the sizes of tiers, in a sentence."""
        before, after = self.sizes
        ends = zip(self.incumbent.tier_names, before, after, strict=True)
        listed = ", ".join(f"{n} {old:,} -> {new:,}" for n, old, new in ends)
        share = self.moved / max(1, sum(before))
        holding = "" if self.moved_mrr is None else f", with {percent(self.moved_mrr)} of the MRR,"
        return (
            f"{percent(share)} of these {self.counted}{holding} change tier; tiers by their own "
            f"edges: {listed}."
        )

    def _repr_html_(self) -> str:
        rows = [(gate.name, gate.limit, gate.found, gate.outcome) for gate in self.gates]
        headline = "".join(map(html_sentence, (self.sentence, *self.headline)))
        heads = ("gate", "stated beforehand", "measured", "")
        return headline + html_table(heads, rows, caption=str(self.verdict))

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return super().as_json() | {
            "tiers": list(self.incumbent.tier_names),
            **{
                name: {**ids_of(side), "weights": side.weights, "lineage": _lineage(side)}
                for name, side in zip(("incumbent", "candidate"), self.sides, strict=True)
            },
            "own_edges": {
                "sizes": dict(zip(("before", "after"), self.sizes, strict=True)),
                **{k: v for k, v in self.own_edges.as_json().items() if k != "gain"},
            },
        }


def _lineage(spec: ScoringSpec) -> str | None:
    """Return the experiment that a spec came from, ``RUN/EXP``; None for none."""
    own = spec.lineage
    return None if own is None else f"{own.run}/{own.experiment}"


# ---- the decision as a folder --------------------------------------------------------------------

CUSTOMERS_NOTE = (
    "This folder holds customer data: account ids, scores and what moved them. Keep it where such "
    "data may be kept."
)
#: Metrics that the report shows first; the rest follow.
_FIRST = ("auc_roc_retain", "nrr_by_tier", "revenue_capture_at_20", "logo_retention_by_tier")


def write_folder(
    output: Output, decided: Decided, table: AccountTable, *, as_of: str | None
) -> None:
    """Write report, account changes, specs and manifest: the whole folder or nothing."""
    changes = account_changes(table, decided.incumbent, decided.candidate, as_of=as_of)
    try:
        with output.made() as folder:
            changes.write_csv(folder / "account_changes.csv")
            for name, spec in zip(("incumbent", "candidate"), decided.sides, strict=True):
                heading = f"Frozen by a decision on {decided.experiment}: the {name}."
                (folder / f"{name}.yaml").write_text(specs.to_yaml(spec, heading=heading), "utf-8")
            report = json.dumps(decided.as_json(), indent=2, ensure_ascii=False, default=str)
            (folder / "report.json").write_text(report + "\n", "utf-8")
            (folder / "report.md").write_text(_report(decided, changes.height), "utf-8")
            (folder / "manifest.json").write_text(_manifest(decided, folder), "utf-8")
    except UsageError as err:
        raise UsageError(
            f"{err.message}. The decision itself, {decided.verdict}, is in the journal as "
            f"{decided.event_id}",
            hint=f"gtmar decide {decided.run_id} -o NEW makes the folder",
            event=decided.event_id,
        ) from err


def account_changes(
    table: AccountTable, one: ScoringSpec, two: ScoringSpec, *, as_of: str | None
) -> pl.DataFrame:
    """Return every account's score and tier under two specs, and what the difference consists of.

    Returns
    -------
    DataFrame
        `account` (its id, or its row from 1), `date` in a table of several, `score_before`,
        `score_after`, `change`, `tier_before`, `tier_after`, then ``by.<term>`` for each weight,
        ``by.base``, ``by.rounding``, ``by.clipping`` and one for each of the score's other lines,
        which add up to `change`. Texts that a spreadsheet would run as a formula begin with an
        apostrophe.
    """
    before, after = (score(table.as_read, spec, as_of=as_of) for spec in (one, two))
    identifier = before.columns[0] if before.columns[0] != "score" else None
    dated = {} if table.several is None else {"date": table.several.column}
    account = pl.col(identifier) if identifier else pl.int_range(1, before.height + 1)
    names = [name for name in before.columns if name.startswith("points.")]
    others = before.columns[before.columns.index("base") :]
    parts = [*names, *(name for name in others if name not in names)]

    def difference(name: str) -> pl.Series:
        # Both are whole numbers of 1/10,000 of a point, so the difference is rounded to one.
        units = ((after[name] - before[name]) * VALUE_UNITS).round().cast(pl.Int64)
        return units / VALUE_UNITS

    changes = before.select(
        account.cast(pl.String if identifier else pl.Int64).alias("account"),
        **dated,
        score_before="score",
        score_after=after["score"],
        change=difference("score"),
        tier_before="tier",
        tier_after=after["tier"],
        **{f"by.{name.removeprefix('points.')}": difference(name) for name in parts},
    )
    safe = spreadsheet_safe(changes)
    order = ["account", *dated]
    return safe.sort(pl.col("change").abs(), *order, descending=[True, *[False] * len(order)])


def _manifest(decided: Decided, folder: Path) -> str:
    """Return the manifest: hashes of the decision's inputs, and of the files written."""
    content = {
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "event": decided.event_id,
        "run": decided.run_id,
        "inputs_sha256": decided.inputs,
        "fingerprints": decided.fingerprints,
        "incumbent": ids_of(decided.sides[0]),
        "candidate": ids_of(decided.sides[1]),
        "compared": decided.compared,
        "evaluator_version": EVALUATOR_VERSION,
        "packages": {name: version(name) for name in ("gtmar", "polars", "numpy")},
        "files_sha256": {Path(name).name: sha for name, sha in file_hashes(folder).items()},
        "customer_data": CUSTOMERS_NOTE,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _report(decided: Decided, listed: int) -> str:
    """Return the report as Markdown."""
    tiers, own = decided.incumbent.tier_names, decided.own_edges
    old, new = decided.incumbent.weights, decided.candidate.weights
    of = decided.intervals
    before, after, gain = of.before, of.after, of.gain

    def rank(name: str) -> tuple[int, str]:
        key = name.partition(".")[0]
        return _FIRST.index(key) if key in _FIRST else len(_FIRST), name

    looks = f"First look at these accounts: intervals at {100 * decided.level:.5g}%."
    if decided.looks > 1:
        looks = (
            f"Comparison number {decided.looks} on these accounts, so intervals are taken at "
            f"{100 * decided.level:.5g}% (1 - 0.05 / {decided.looks}). Each look makes them less "
            "unseen."
        )
    lines = [
        f"# {markdown(decided.sentence)}",
        "",
        *(f"- {markdown(sentence)}" for sentence in (*decided.headline, decided.movement)),
        "",
        f"{markdown(decided.incumbent.model)}: {markdown(decided.compared)}",
        "",
        f"**{CUSTOMERS_NOTE}**",
        "",
        looks,
        "",
        *_customers(decided),
        "## Gates",
        "",
        "| gate | stated beforehand | measured | |",
        "|---|---|---|---|",
        *(
            f"| {markdown(g.name)} | {markdown(g.limit)} | {markdown(g.found)} | {g.outcome} |"
            for g in decided.gates
        ),
        "",
        "## Weights",
        "",
        "| weight | incumbent | candidate |",
        "|---|---:|---:|",
        *(f"| {markdown(n)} | {w} | {new[n]} |" for n, w in old.items() if w != new[n]),
        "",
        f"## {decided.counted.capitalize()} by tier, before (rows) and after (columns)",
        "",
        f"| | {' | '.join(map(markdown, tiers))} |",
        "|---|" + "---:|" * len(tiers),
        *(
            f"| {markdown(name)} | {' | '.join(f'{n:,}' for n in row)} |"
            for name, row in zip(tiers, decided.moves, strict=True)
        ),
        "",
        f"`account_changes.csv` lists all {listed:,} {decided.counted} of the table.",
        "",
        f"## Metrics, with {100 * decided.level:.5g}% intervals",
        "",
        "Metrics of a tier are taken at the incumbent's tier sizes: both scores are cut after as "
        "many accounts, and those that tie across a cut belong to both sides in part.",
        "",
        "| metric | incumbent | candidate | gain |",
        "|---|---|---|---|",
        *(
            f"| {markdown(marked(name, decided.basis))} | {_worded(before[name])} "
            f"| {_worded(after[name])} "
            f"| {_worded(gain[name]) if name in gain else 'none: any score has it'} |"
            for name in sorted(after, key=rank)
            if name in before and not name.startswith("share_by_tier.")
        ),
        "",
        "## Tiers by each score's own edges",
        "",
        "| metric | incumbent | candidate |",
        "|---|---|---|",
        *(
            f"| {decided.counted} in {markdown(tier)} | {one:,} | {two:,} |"
            for tier, one, two in zip(tiers, *decided.sizes, strict=True)
        ),
        *(
            f"| {markdown(marked(name, decided.basis))} | {_worded(own.before[name])} "
            f"| {_worded(own.after[name])} |"
            for name in sorted(own.after, key=rank)
            if name in own.before and not name.endswith(".*")
        ),
    ]
    if decided.notes:
        lines += ["", "## Notes", "", *(f"- {markdown(note)}" for note in decided.notes)]
    return "\n".join([*lines, ""])


def _customers(decided: Decided) -> list[str]:
    """Return the section on old and new customers; empty if there are no old ones."""
    if not decided.customers:
        return []
    rows = [
        f"| {each.group} | {each.accounts:,} | {_worded(each.before)} | {_worded(each.after)} "
        f"| {_worded(each.gain)} | {each.reading} |"
        for each in decided.customers
    ]
    return [
        f"## Old and new customers apart, by {markdown(marked(decided.objective, decided.basis))}",
        "",
        "Old ones stood in the table searched as well. What a score does for new ones is another "
        "question.",
        "",
        "| customers | accounts | incumbent | candidate | gain | |",
        "|---|---:|---|---|---|---|",
        *rows,
        "",
    ]


def _worded(interval: Interval) -> str:
    if interval.value is None:
        return f"none: {markdown(str(interval.reason))}"
    if interval.low is None or interval.high is None:
        return f"{interval.worded} ({markdown(str(interval.reason))})"
    return interval.worded
