"""The progress of a run, what checks find against it, and its result."""

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
    "warnings_of",
]


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for whoever watches."""

    run_id: str
    experiments: int
    limit: int
    wins: int
    baseline: float | None
    best: float | None
    seconds: float
    #: Seconds after which the run stops whatever is done by then; None without such a limit.
    budget: float | None = None
    #: The best's weights so far; a batch ends with a win, so that no best is left out.
    weights: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult(PlainData):
    """What a run found. `metrics` are of the search part; `holdout` is None without one."""

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

    #: What a check of table and start brought out.
    findings: tuple[Finding, ...] = ()
    #: Better than the incumbent but breaking a guardrail: all, and by guardrail.
    blocked: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    #: Evaluated with exactly the baseline's value, and without any.
    tied: int = 0
    null: int = 0
    #: `observed` or `binary` revenue retention; None without MRR.
    basis: str | None = None

    #: Results taken over from earlier runs, not evaluated here.
    known: int = 0
    #: Experiments that were in the journal already when a run was resumed.
    resumed_from: int = 0
    #: What is left of a gain in one tier's metric where the tier keeps its size, in a sentence;
    #: None where it has its size, or the objective is none of a tier.
    resized: str | None = None
    #: The probabilities beside what became of the holdout, as `Reliability` has it; None where the
    #: spec has none, or nothing was held out.
    reliability: dict[str, Any] | None = None
    #: Old customers and new ones of a later table apart, as `Customers.as_json` has them.
    customers: tuple[dict[str, Any], ...] = ()
    #: That nothing shows a later table to be later; None where a window does, or there is none.
    time_order: str | None = None
    #: Start and best date by date, as the run's end has it; None where the table has one date.
    by_date: dict[str, Any] | None = None
    #: What a lead needs to know of it, what matters most first.
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
        """Whether the gain is there on the holdout too; None where that isn't known."""
        holdout = self.holdout
        if holdout is None or None in (holdout["baseline_value"], holdout["best_value"]):
            return None
        return bool(holdout["improved"])

    @property
    def dates_held(self) -> list[str]:
        """Say what it is on, and on how many dates its gain holds; nothing of a table of one."""
        return held_by_date(self.by_date, improved=self.improved) if self.by_date else []

    @property
    def row(self) -> dict[str, Any]:
        """What `journal.sentences` words a verdict from."""
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


#: Accounts that are searched for leaks before a run: enough to show an area of 0.85, and quick.
_SAMPLED = 20_000
_COPIED = " under another id"
#: Leaks that say nothing against a result: columns that add nothing.
_HARMLESS = ("constant", "duplicate")
_GRADES = ("warning", "note")


@dataclass(frozen=True)
class Finding(PlainData):
    """One thing worth knowing, as a sentence."""

    #: `leak`, `copies`, `limit` (a guardrail or bounds), `order`, or `note`.
    kind: str
    #: `error`, `warning` or `note`.
    grade: str
    text: str
    #: The column that a leak is about.
    column: str | None = None

    @property
    def short(self) -> str:
        """What a first line says of a leak or of copies; nothing of others."""
        if self.kind == "leak":
            sure = "seems" if self.grade == "error" else "may seem"
            return f'column "{self.column}" {sure} to know the outcome'
        return self.text.partition(_COPIED)[0] if self.kind == "copies" else ""


def findings_of(
    accounts: Accounts, spec: ScoringSpec, judge: Judge, sums: pl.DataFrame, auc: float | None
) -> tuple[Finding, ...]:
    """Look for all that a verdict on a run of this spec has to say, the worst first.

    `sums` are the start's over the accounts searched, `auc` its `auc_roc_retain` there. Cost: a
    pass over the columns that the spec reads, and what `find_leaks` costs.
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
    """Return findings as a start record's parameters keep them."""
    return json.dumps([finding.as_json() for finding in findings], ensure_ascii=False)


def findings_in(parameters: dict[str, Any]) -> tuple[Finding, ...] | None:
    """Read findings off a start record's parameters; None for a run from before they were kept."""
    text = parameters.get("findings")
    return None if text is None else tuple(Finding(**each) for each in json.loads(text))


def warnings_of(findings: Iterable[Finding]) -> list[str]:
    """Return what a verdict says in its first lines: a sentence for each error and warning."""
    return [
        f"{'Leak: ' if each.kind == 'leak' else ''}{each.text}"
        for each in findings
        if each.grade != "note"
    ]


def leaks_of(
    accounts: Accounts, spec: ScoringSpec, *, most: int = MOST_SAMPLED
) -> tuple[Leak, ...]:
    """Look for leakage in the columns that a spec reads, on so many of the accounts searched."""
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
    """Say which columns seem to know the outcome, parameters as for `leaks_of`."""
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
    """Say how many accounts repeat others, in the table or in the holdout's own."""
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
    """Say that a score puts accounts in the wrong order, and what may be the reason."""
    if auc is None or auc >= 0.5:
        return []
    word, other = ("good", "health") if spec.orientation == "risk" else ("bad", "risk")
    text = (
        f"auc_roc_retain is {auc:.4f}, below 0.5: the score puts accounts in the wrong order. If "
        f"a high score is {word} here, set orientation: {other} in the spec."
    )
    return [Finding("order", "note", text)]


def limit_findings(
    judge: Judge, spec: ScoringSpec, matrix: AccountMatrix, sums: pl.DataFrame
) -> list[Finding]:
    """Say which guardrails the start itself breaks, which have no value, and what can't move."""
    start = [term.weight for term in spec.terms]
    # The start can't gain anything over itself.
    comparisons = tuple(g for g in judge.comparisons if g.metric != "gain")
    guard = Guard(matrix, spec, replace(judge, comparisons=comparisons), start)
    lacking = guard.lacking()
    findings = [
        Finding("limit", "note", f"Guardrail {name} can't be asked here: {why}.")
        for name, why in lacking.items()
    ]
    findings += clipping(spec, sums)
    for breach in () if lacking else guard.breaches(sums, start, None, None):
        missed = missed_by(breach)
        by = "" if missed is None else f", by {digits(missed, 4)}"
        text = f"The start breaks a guardrail, {breach}{by}: nothing is kept until a candidate "
        findings.append(Finding("limit", "warning", f"{text}respects it."))
    if all(term.fixed for term in spec.terms):
        text = "No weight can move: each has one value within its bounds."
        findings.append(Finding("limit", "warning", text))
    return findings


def clipping(spec: ScoringSpec, sums: pl.DataFrame, whose: str = "start") -> list[Finding]:
    """Say that many accounts score alike since scores, the start's or the best's, are clipped."""
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
