"""A look at the holdout: a change of weights measured on accounts that no search saw, and counted.

Each look makes later proof on these accounts harder: the level of intervals rises with the count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gtmar import spec as specs
from gtmar.engine.equal_sizes import tier_sizes
from gtmar.errors import UsageError
from gtmar.journal.sentences import Seen, old_customers, worse
from gtmar.plain_data import PlainData, some
from gtmar.runs.holdout import comparisons_on, record_look, refuse_searched
from gtmar.runs.side_by_side import (
    at_equal_sizes,
    both_objectives,
    customers_apart,
    measured_at_sizes,
)
from gtmar.runs.two_specs import on_record
from gtmar.runs.weight_change import MetricChange, metric_changes
from gtmar.stats.interval import level_of, reading_of
from gtmar.validation.intervals import panel_of, uncertainty

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.data.matrix import AccountMatrix, Accounts
    from gtmar.objective.objective import Judge
    from gtmar.spec.model import ScoringSpec
    from gtmar.stats.interval import Interval

__all__ = ["HoldoutLook", "Looks", "look_at_holdout", "looks_so_far"]


@dataclass(frozen=True)
class Looks(PlainData):
    """How often a holdout was looked at so far."""

    #: Comparisons so far, and whether the one in question would be a new one.
    so_far: int
    new: bool
    accounts: int

    @property
    def sentence(self) -> str:
        """What a look would cost, in a sentence."""
        count = some(self.so_far, "comparison")
        before = f"The {some(self.accounts, 'account')} held out served {count} so far"
        if not self.new:
            return f"{before}, this one among them: to look again is no further look."
        return f"{before}; this is one more, and each further one makes proof harder."


@dataclass(frozen=True)
class HoldoutLook(PlainData):
    """A change of weights on accounts that no search saw, tiers at the incumbent's sizes."""

    weights: dict[str, int]
    accounts: int
    #: Comparisons on this holdout before this one, and with it; and the level of all intervals,
    #: which follows from their number.
    looks_before: int
    looks: int
    level: float
    objective: str
    before: float | None
    after: float | None
    #: Whether the objective is better there; None if it has no value.
    improved: bool | None
    #: What its interval says: ``better``, ``worse``, ``no proven change`` or ``unknown``.
    reading: str
    sentences: tuple[str, ...]
    metrics: tuple[MetricChange, ...]
    #: The event in the journal that records the look.
    event_id: str
    #: A sentence for each search that may have seen these accounts: nobody can tell.
    unknown_searches: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The sentences in one text."""
        return " ".join(self.sentences)


def _held_out(accounts: Accounts) -> tuple[AccountMatrix, Accounts]:
    """Return the accounts held out, and the table that they are in."""
    if accounts.holdout is None:
        raise UsageError(
            "no account is held out: all of them are searched",
            hint="--holdout 0.3, or --holdout-file LATER_TABLE",
        )
    return accounts.holdout, accounts if accounts.later is None else accounts.later


def _comparison(
    accounts: Accounts, spec: ScoringSpec, changed: ScoringSpec, judge: Judge, journal: Path
) -> str:
    """Return what identifies a comparison: the change's experiment, else the spec's id."""
    run_id = on_record(journal, accounts, spec, changed, judge.name)
    return specs.spec_id(changed) if run_id is None else f"{run_id}/exp_00001"


def looks_so_far(
    accounts: Accounts, spec: ScoringSpec, changed: ScoringSpec, judge: Judge, journal: Path
) -> Looks:
    """Return how often the holdout was looked at; errors are those of `look_at_holdout`."""
    holdout, held = _held_out(accounts)
    seen = comparisons_on(journal, held.outcomes_fingerprint)
    new = _comparison(accounts, spec, changed, judge, journal) not in seen
    return Looks(len(seen), new, holdout.distinct)


def look_at_holdout(
    accounts: Accounts,
    spec: ScoringSpec,
    changed: ScoringSpec,
    judge: Judge,
    journal: Path,
    *,
    as_of: str | None = None,
    author: str | None = None,
    note: str | None = None,
) -> HoldoutLook:
    """Measure a spec with other weights on the accounts held out, and count the look.

    `accounts` are loaded by the incumbent `spec`; `changed` is the same with other weights. The
    look is recorded in the journal, with `author` and `note`. `as_of` is the ISO date that
    `days_before` counts from in the holdout's table.

    Raises
    ------
    UsageError
        If no account is held out, or a search that chose the incumbent's weights saw some of them;
        nothing is written then.
    """
    holdout, held = _held_out(accounts)
    unknown = refuse_searched(journal, accounts, spec, spec)
    old, new = (each.vector for each in (spec, changed))
    seen = comparisons_on(journal, held.outcomes_fingerprint)
    comparison = _comparison(accounts, spec, changed, judge, journal)
    looks = len({*seen, comparison})
    level, outcomes = level_of(looks), held.checked.outcomes
    intervals = uncertainty(panel_of(holdout, spec, old, new), level=level)
    sizes = tier_sizes(holdout, spec, old)
    ends = [measured_at_sizes(holdout, spec, each, sizes, outcomes) for each in (old, new)]
    before, after = both_objectives(judge, holdout, spec, old, new)
    gain: Interval | None = intervals.gain.get(judge.name)
    apart = customers_apart(accounts, spec, judge, old, new, as_of=as_of, level=level)
    shown = Seen(
        unseen=True,
        accounts=holdout.distinct,
        start=ends[0],
        best=ends[1],
        sized=at_equal_sizes(holdout, spec, new, outcomes),
        risk=spec.orientation == "risk",
        old=old_customers(each.as_json() for each in apart),
        rows=bool(holdout.dates),
    )
    run_id, _, experiment = comparison.partition("/")
    event_id = record_look(
        journal,
        held.outcomes_fingerprint,
        comparison,
        objective=judge.name,
        before=before,
        after=after,
        higher_is_better=judge.sign > 0,
        author=author,
        note=note,
        model=spec.model,
        spec_id=specs.spec_id(spec),
        source=held.table.source,
        run_id=run_id if experiment else None,
        experiment_id=experiment or None,
    )
    return HoldoutLook(
        weights=changed.weights,
        accounts=holdout.distinct,
        looks_before=len(seen),
        looks=looks,
        level=level,
        objective=judge.name,
        before=before,
        after=after,
        improved=None if None in (before, after) else judge.gain(after, before),
        reading="unknown"
        if gain is None
        else reading_of(gain, "higher" if judge.sign > 0 else "lower"),
        sentences=(*shown.sentences_on(improved=True), *worse(shown, judge.name)),
        metrics=metric_changes(
            ends[0], ends[1], spec.tier_names, outcomes, intervals=intervals.gain
        ),
        event_id=event_id,
        unknown_searches=unknown,
    )
