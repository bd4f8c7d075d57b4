"""What a decision found: the verdict in words, and all that it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs
from gtmar.html import sentence
from gtmar.html import table as html_table
from gtmar.journal.sentences import held_out, old_customers, on_dates
from gtmar.metrics.metric import marked
from gtmar.plain_data import PlainData, digits
from gtmar.runs.results import warnings_of
from gtmar.validation.gates import Verdict, reason_of, segment_safety
from gtmar.validation.trade_offs import costs_of, far_below, upside_down

if TYPE_CHECKING:
    from gtmar.runs.customers_apart import Customers
    from gtmar.runs.results import Finding
    from gtmar.spec.model import ScoringSpec
    from gtmar.validation.gates import Gate, Gates
    from gtmar.validation.intervals import Uncertainty
    from gtmar.validation.reliability import Reliability

__all__ = ["Decided", "ids_of"]


def ids_of(spec: ScoringSpec) -> dict[str, str]:
    """Return the hashes that say which spec this is."""
    return {"spec_id": specs.spec_id(spec), "score_id": specs.score_id(spec)}


@dataclass(frozen=True)
class Decided(PlainData):
    """A verdict, with all that it rests on."""

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
    #: The table with the untouched accounts, and how many they are.
    source: str
    accounts: int
    #: Comparisons made on them so far, this one included, and the level that follows.
    looks: int
    level: float
    intervals: Uncertainty = field(repr=False)
    #: Accounts by tier before (rows) and after (columns), tiers from the highest down, each score
    #: by its own edges.
    moves: tuple[tuple[int, ...], ...]
    #: By-tier metrics by each score's own edges, where tiers may have other sizes.
    own_edges: Uncertainty = field(repr=False)
    #: Both by tier at the incumbent's sizes, as `tier_table.at_equal_sizes` gives it.
    equal_sizes: dict[str, Any] = field(repr=False)
    #: SHA-256 by file, and fingerprints of the tables.
    inputs: dict[str, str]
    fingerprints: dict[str, str]
    notes: tuple[str, ...] = ()
    folder: str | None = None
    event_id: str | None = None
    #: What a check of the searched table brought out, copies in the holdout's included.
    findings: tuple[Finding, ...] = ()
    #: `binary` where MRR is assumed flat, so that NRR and GRR are logo retention by revenue.
    basis: str | None = None
    #: The candidate's objective on the accounts searched.
    promised: float | None = None
    #: Share of the MRR whose account changes tier, by each score's own edges; None without MRR.
    moved_mrr: float | None = None
    #: The candidate's probabilities beside what became of these accounts; None where it has none.
    reliability: Reliability | None = None
    #: Start and best on each date, as `by_date` gives it, and the dates; None of a table of one.
    by_date: dict[str, Any] | None = None
    #: Old customers and new ones of a later table apart; empty where there are no old ones.
    customers: tuple[Customers, ...] = ()
    #: That nothing shows the order of time; None where a window does.
    time_order: str | None = None
    #: `search`, or `human` or `record` of a person's change.
    kind: str = "search"
    #: The specs as a person gave them, incumbent and candidate, and what they are called, the
    #: candidate first; None of a run's own.
    given: tuple[ScoringSpec, ScoringSpec] | None = field(default=None, repr=False)
    names: tuple[str, str] | None = None
    #: Of each search that chose weights and whose accounts aren't known, a sentence that says so.
    unknown_searches: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[ScoringSpec, ScoringSpec]:
        """Incumbent and candidate as whoever asked has them."""
        return self.given or (self.incumbent, self.candidate)

    @property
    def old_customers(self) -> int:
        """How many of the accounts stood in the table searched as well."""
        return old_customers(each.as_json() for each in self.customers)

    @property
    def compared(self) -> str:
        """Say what was held against what, on which accounts."""
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
        """What is known of the segments: in which the gates failed, are unknown, or passed."""
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
        """Say how many accounts it was measured on and, of a table of several dates, how often."""
        if self.by_date is None:
            return f"{self.accounts:,} accounts"
        return on_dates(self.accounts, len(self.by_date["dates"]), self.by_date["rows"])

    @property
    def dates_held(self) -> list[str]:
        """Say on how many of several dates the gain holds."""
        if self.by_date is None:
            return []
        known = [gained for gained in self.by_date["gained"] if gained is not None]
        return [f"The gain holds in {sum(known):,} of {len(known):,} dates."]

    @property
    def _gain(self) -> str:
        """Say what got better, where it is proven."""
        sides = self.intervals.before[self.objective], self.intervals.after[self.objective]
        before, after = (side.value or 0.0 for side in sides)
        if self.objective in ("auc_roc_retain", "auc_roc_churn"):
            one = "account" if self.by_date is None else "row"
            pairs = f"of 100 pairs of a kept and a lost {one} it ranks"
            return f"{pairs} {100 * after:.0f} right, was {100 * before:.0f}"
        return f"{marked(self.objective, self.basis)} {digits(before, 4)} -> {digits(after, 4)}"

    @property
    def headline(self) -> list[str]:
        """Return what stands right below: leaks and copies, level, costs, details, segments."""
        # The verdict's own line says what makes it UNVERIFIED.
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
            # The verdict's own line says it.
            level = level[1:]
        said = [*([beware] if known else []), *level, *self.dates_held, *self.costs]
        if self.reliability is not None and self.reliability.off:
            said.append(self.reliability.sentence)
        said += warnings_of(self.findings)
        if self.time_order is not None and self.time_order not in said:
            said.append(self.time_order)
        said += [*self.unknown_searches, *(each.sentence for each in self.customers)]
        return [*said, f"Segment safety: {self.segment_safety}."]

    @property
    def level_sentence(self) -> list[str]:
        """Say that a score is upside down here, or far below what the search promised."""
        said = [upside_down(self.intervals)]
        # Of a tier the search measured by each score's own edges.
        by_tier = "." in self.objective
        found = (self.own_edges if by_tier else self.intervals).after.get(self.objective)
        if found is not None and self.promised is not None:
            said.append(far_below(self.promised, found, self.objective, better=self.better))
        return [text for text in said if text is not None]

    @property
    def better(self) -> int:
        """1 where more of the objective is better, -1 where less is."""
        return 1 if self.higher_is_better else -1

    @property
    def costs(self) -> list[str]:
        """Name what got worse beyond chance beside the objective, a sentence each."""
        return list(costs_of(self.intervals, self.objective).values())

    @property
    def moved(self) -> int:
        """How many of the accounts, or their rows, change tier."""
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
        """Say who changes tier, and which tiers change their size."""
        before, after = self.sizes
        ends = zip(self.incumbent.tier_names, before, after, strict=True)
        listed = ", ".join(f"{n} {old:,} -> {new:,}" for n, old, new in ends)
        share = self.moved / max(1, sum(before))
        said = f"{share:.0%} of these {self.counted} change tier; tiers by their own edges: "
        said += f"{listed}."
        if self.moved_mrr is None:
            return said
        return f"{said} They hold {self.moved_mrr:.0%} of the MRR."

    def _repr_html_(self) -> str:
        rows = [(gate.name, gate.limit, gate.found, gate.outcome) for gate in self.gates]
        headline = "".join(map(sentence, (self.sentence, *self.headline)))
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
