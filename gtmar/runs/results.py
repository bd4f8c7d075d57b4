"""A run's progress, the findings of checks before it, and its result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.autospec.first_spec import MOST_CLIPPED
from gtmar.autospec.leakage import Leak, find_leaks
from gtmar.data.matrix import MOST_SAMPLED, search_sample
from gtmar.journal.sentences import held_by_date, old_customers
from gtmar.objective.guardrails import Guard
from gtmar.objective.objective import missed_by
from gtmar.plain_data import PlainData, digits, percent

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec
    from gtmar.validation.search_pays import SearchPays

__all__ = [
    "Finding",
    "Progress",
    "RunResult",
    "clipping",
    "copies_finding",
    "findings_in",
    "findings_of",
    "leak_findings",
    "leaks_of",
    "limit_findings",
    "order_findings",
    "recorded_findings",
    "start_breaches",
    "warnings_of",
]


@dataclass(frozen=True)
class Progress:
    """The state of a running search, as callbacks get it."""

    run_id: str
    experiments: int
    limit: int
    wins: int
    baseline: float | None
    best: float | None
    seconds: float
    #: Seconds after which the run stops; None without such a limit.
    budget: float | None = None
    #: The best weights so far. A batch ends with a win, so a callback sees every best.
    weights: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult(PlainData):
    """The result of a run. `metrics` are of the search part; `holdout` is None without one."""

    _left_out = ("higher_is_better", "spec", "sentences", "tied", "null", "resumed_from")
    _beside = ("experiments_per_second",)

    run_id: str
    journal: str
    metric: str
    #: `finished`, `patience`, `time_budget`, `exhausted` or `interrupted`.
    state: str
    baseline_value: float | None
    best_value: float | None
    experiments: int
    wins: int
    seconds: float
    best_experiment: str
    weights: dict[str, int]
    metrics: dict[str, object]
    holdout: dict[str, Any] | None
    digest: str
    #: False where less of the metric is better.
    higher_is_better: bool
    spec: ScoringSpec = field(repr=False)
    notes: tuple[str, ...] = ()

    #: Findings of the check of table and start.
    findings: tuple[Finding, ...] = ()
    #: Candidates better than the incumbent that broke a guardrail: all, and by guardrail.
    blocked: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    #: Candidates with exactly the baseline's value, and without a value.
    tied: int = 0
    null: int = 0
    #: `observed` or `binary` revenue retention; None without MRR.
    basis: str | None = None

    #: Results taken over from earlier runs, not evaluated here.
    known: int = 0
    #: Experiments that were in the journal already when a run was resumed.
    resumed_from: int = 0
    #: If the objective is of one tier whose size changed, a sentence that says what is left of the
    #: gain at the tier's old size; else None.
    resized: str | None = None
    #: The probabilities compared with the outcomes of the holdout, as `Reliability.as_json`; None
    #: if the spec has none, or nothing was held out.
    reliability: dict[str, Any] | None = None
    #: Old and new customers of a later table, each group by itself, as `Customers.as_json`.
    customers: tuple[dict[str, Any], ...] = ()
    #: A sentence if no window shows the holdout's own table to be later; None if one does, or there
    #: is no such table.
    time_order: str | None = None
    #: Whether the search pays on accounts that it doesn't see; None if nobody asked.
    search_pays: SearchPays | None = None
    #: Start and best on each date, as in the end record; None for a table of one date.
    by_date: dict[str, Any] | None = None
    #: Sentences for a lead, the most important first.
    sentences: tuple[str, ...] = ()

    @property
    def experiments_per_second(self) -> float:
        """Experiments evaluated here, over the seconds of the loop."""
        return (self.experiments - self.resumed_from) / self.seconds if self.seconds else 0.0

    @property
    def improved(self) -> bool:
        """Whether anything beat the baseline on the search part."""
        return self.wins > 0

    @property
    def held(self) -> bool | None:
        """Whether there is a gain on the holdout, too; None if that isn't known."""
        holdout = self.holdout
        if holdout is None or None in (holdout["baseline_value"], holdout["best_value"]):
            return None
        return bool(holdout["improved"])

    @property
    def dates_held(self) -> list[str]:
        """Sentences on the dates, and on how many the gain holds; none for a table of one date."""
        return held_by_date(self.by_date, improved=self.improved) if self.by_date else []

    @property
    def row(self) -> dict[str, Any]:
        """The values that functions of `journal.sentences` need to word a verdict."""
        holdout = self.holdout or {}
        return {
            "objective": self.metric,
            "holdout_accounts": holdout.get("accounts", 0),
            "old_customers": old_customers(self.customers),
            **{f"holdout_{end}": holdout.get(end) for end in ("baseline_value", "best_value")},
            **self.values(
                "experiments wins baseline_value best_value blocked broken tied null basis"
            ),
        }

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "sentence": " ".join(self.sentences),
            **super().as_json(),
            "in_sample": self.holdout is None,
            "spec": json.loads(specs.to_json(self.spec)),
        }


#: Accounts that are searched for leaks before a run: enough to notice an AUC of 0.85, and quick.
_SAMPLED = 20_000
_COPIED = " under another id"
#: Leaks that say nothing against a result: columns that add nothing.
_HARMLESS = ("constant", "duplicate")
_GRADES = ("warning", "note")


@dataclass(frozen=True)
class Finding(PlainData):
    """One finding about a table or a start, as a sentence."""

    #: `leak`, `copies`, `limit` (a guardrail or bounds), `order`, or `note`.
    kind: str
    #: `error`, `warning` or `note`.
    grade: str
    text: str
    #: The column that a leak is about.
    column: str | None = None

    @property
    def short(self) -> str:
        """A short form for the first lines of a report, of leaks and copies; empty for others."""
        if self.kind == "leak":
            sure = "seems" if self.grade == "error" else "may seem"
            return f'column "{self.column}" {sure} to know the outcome'
        return self.text.partition(_COPIED)[0] if self.kind == "copies" else ""


def findings_of(
    accounts: Accounts, spec: ScoringSpec, judge: Judge, sums: pl.DataFrame, auc: float | None
) -> tuple[Finding, ...]:
    """Return all findings about a run's table and start, the worst first.

    Parameters
    ----------
    accounts, spec, judge
        The table, the start, and the objective.
    sums
        The start's sums over the accounts searched.
    auc
        The start's `auc_roc_retain` there.

    Notes
    -----
    Cost: a pass over the columns that the spec reads, and that of `find_leaks`.
    """
    checked = accounts.checked
    findings = [
        *leak_findings(accounts, spec, most=_SAMPLED),
        *copies_finding(accounts),
        *limit_findings(judge, spec, accounts.search, sums),
        *order_findings(auc, spec),
        *(Finding("note", _GRADES[note not in checked.warnings], note) for note in checked.notes),
    ]
    return tuple(sorted(findings, key=lambda each: ("error", *_GRADES).index(each.grade)))


def recorded_findings(findings: Iterable[Finding]) -> str:
    """Return findings as JSON, for a start record's parameters."""
    return json.dumps([finding.as_json() for finding in findings], ensure_ascii=False)


def findings_in(parameters: dict[str, Any]) -> tuple[Finding, ...] | None:
    """Return the findings in a start record's parameters; None for a record that has none yet."""
    text = parameters.get("findings")
    return None if text is None else tuple(Finding(**each) for each in json.loads(text))


def warnings_of(findings: Iterable[Finding]) -> list[str]:
    """Return the sentences of errors and warnings, which a report shows first."""
    return [
        f"{'Leak: ' if each.kind == 'leak' else ''}{each.text}"
        for each in findings
        if each.grade != "note"
    ]


def leaks_of(
    accounts: Accounts, spec: ScoringSpec, *, most: int = MOST_SAMPLED
) -> tuple[Leak, ...]:
    """Look for leakage in the columns that a spec reads, on at most `most` accounts searched."""
    columns = spec.columns
    table, checked, copies = accounts.table, accounts.checked, accounts.copies
    ids, split = checked.id_column, spec.split
    sample = search_sample(
        table, checked.outcomes, ids, split, copies=copies, columns=columns, most=most
    )
    return find_leaks(sample, columns, checked.outcomes)


def leak_findings(
    accounts: Accounts, spec: ScoringSpec, *, most: int = MOST_SAMPLED
) -> list[Finding]:
    """Return a finding for each column that seems to leak the outcome; see `leaks_of`."""
    return [
        Finding(
            "leak",
            "note" if leak.kind in _HARMLESS else str(leak.grade),
            f'Column "{leak.column}": {leak.found}; {leak.why}.',
            leak.column,
        )
        for leak in leaks_of(accounts, spec, most=most)
    ]


def copies_finding(accounts: Accounts) -> list[Finding]:
    """Return findings about accounts that are copies of others, in the table and the holdout's."""
    findings = []
    for loaded in (accounts, accounts.later):
        if loaded is None or loaded.copies is None:
            continue
        where = "" if loaded is accounts else " of the holdout's table"
        money = ", amounts within 1 %" if loaded.copies.near else ""
        text = (
            f"{loaded.copies.repeated:,} of {loaded.checked.accounts:,} accounts{where} repeat "
            f"another one{_COPIED}, features and outcomes alike{money} (one "
            f"{loaded.copies.largest:,} times): intervals are narrower than of so many different "
            "accounts. The split keeps them together."
        )
        findings.append(Finding("copies", "warning", text))
    return findings


def order_findings(auc: float | None, spec: ScoringSpec) -> list[Finding]:
    """Return a finding if the start ranks accounts the wrong way round, with its likely cause."""
    if auc is None or auc >= 0.5:
        return []
    word, other = ("good", "health") if spec.orientation == "risk" else ("bad", "risk")
    text = (
        f"auc_roc_retain is {auc:.4f}, below 0.5: the score puts accounts in the wrong order. If "
        f"a high score is {word} here, set orientation: {other} in the spec."
    )
    return [Finding("order", "note", text)]


def _start_guard(judge: Judge, spec: ScoringSpec, matrix: AccountMatrix) -> Guard:
    """Return the guardrails that can be asked of a start, which gains nothing over itself."""
    comparisons = tuple(g for g in judge.comparisons if g.metric != "gain")
    return Guard(matrix, spec, replace(judge, comparisons=comparisons), spec.vector)


def start_breaches(
    judge: Judge, spec: ScoringSpec, matrix: AccountMatrix, sums: pl.DataFrame
) -> tuple[str, ...]:
    """Return a message for each guardrail that a spec's own weights break; `sums` are theirs.

    None where a guardrail can't be asked.
    """
    guard = _start_guard(judge, spec, matrix)
    return () if guard.lacking() else guard.breaches(sums, spec.vector, None, None)


def limit_findings(
    judge: Judge, spec: ScoringSpec, matrix: AccountMatrix, sums: pl.DataFrame
) -> list[Finding]:
    """Return findings about guardrails that the start breaks or lacks, clipping, fixed weights."""
    lacking = _start_guard(judge, spec, matrix).lacking()
    findings = [
        Finding("limit", "note", f"Guardrail {name} can't be asked here: {why}.")
        for name, why in lacking.items()
    ]
    findings += clipping(spec, sums)
    for breach in start_breaches(judge, spec, matrix, sums):
        missed = missed_by(breach)
        by = "" if missed is None else f", by {digits(missed, 4)}"
        text = f"The start breaks a guardrail, {breach}{by}: nothing is kept until a candidate "
        findings.append(Finding("limit", "warning", f"{text}respects it."))
    if all(term.fixed for term in spec.terms):
        text = "No weight can move: each has one value within its bounds."
        findings.append(Finding("limit", "warning", text))
    return findings


def clipping(spec: ScoringSpec, sums: pl.DataFrame, whose: str = "start") -> list[Finding]:
    """Return findings if many accounts have the same score because it is clipped.

    `whose` is ``start`` or ``best``, and `sums` are those of its score.
    """
    accounts = sums["scored"][0]
    ends = (
        ("clipped_low", "fewer points than 0", "raise base or weights"),
        ("clipped_high", f"more than {spec.max_score} points", "raise max_score, or lower weights"),
    )
    return [
        Finding(
            "limit",
            "warning",
            f"The {whose} clips {percent(clipped / accounts)} of accounts, which have {beyond}: "
            f"they all score the same. To tell them apart, {remedy}.",
        )
        for name, beyond, remedy in ends
        if (clipped := sums[name][0]) > MOST_CLIPPED * accounts
    ]
