"""What the journal has on record of whether a run's find holds: null search, stability."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gtmar.validation.repeated_search import CHANCE

if TYPE_CHECKING:
    from gtmar.journal.catalog import Journal

__all__ = ["NullRecord", "StabilityRecord", "null_record", "stability_record"]

_LATEST = """
    select details
    from events
    where kind = getvariable('kind')
        and run_id = getvariable('run')
    order by "at" desc, event_id desc
    limit 1
"""


@dataclass(frozen=True)
class NullRecord:
    """The latest null search of a run, as its event has it.

    Parameters
    ----------
    found
        The run's gain, as an improvement.
    gains
        Those of the same search on shuffled outcomes, smallest first.
    p_value, typical, high
        (1 + as much) / (1 + searches); median of the gains, and what 95 % of them stay below.
    experiments
        Of each search.
    """

    found: float
    gains: tuple[float, ...]
    p_value: float
    typical: float
    high: float
    experiments: int

    @property
    def as_much(self) -> int:
        """How many searches on noise gained as much as the run."""
        return sum(gain >= self.found for gain in self.gains)

    @property
    def reading(self) -> str:
        """Return `proven`, `chance`, or `few`: so few searches can't say less."""
        if self.p_value <= CHANCE:
            return "proven"
        return "chance" if self.as_much else "few"


@dataclass(frozen=True)
class StabilityRecord:
    """The latest stability of a run, as its event has it.

    Parameters
    ----------
    searches, experiments
        How many, and the experiments of each.
    weights
        By weight: `name`, `start`, `found`, `low`, `middle`, `high`, `sign_held`, `reading`.
    """

    searches: int
    experiments: int
    weights: tuple[dict[str, Any], ...]

    def named(self, reading: str) -> list[str]:
        """Return the names of all weights of a reading."""
        return [weight["name"] for weight in self.weights if weight["reading"] == reading]


def null_record(journal: Journal, run_id: str) -> NullRecord | None:
    """Return a run's latest null search; None where none was done."""
    details = _latest(journal, "null", run_id)
    if details is None:
        return None
    return NullRecord(
        found=details["found"],
        gains=tuple(details["gains"]),
        p_value=details["p_value"],
        typical=details["typical"],
        high=details["high"],
        experiments=details["experiments"],
    )


def stability_record(journal: Journal, run_id: str) -> StabilityRecord | None:
    """Return a run's latest stability; None where none was done."""
    details = _latest(journal, "stability", run_id)
    if details is None:
        return None
    return StabilityRecord(
        searches=details["searches"],
        experiments=details["experiments"],
        weights=tuple(details["weights"]),
    )


def _latest(journal: Journal, kind: str, run_id: str) -> dict[str, Any] | None:
    rows = journal.query(_LATEST, kind=kind, run=run_id)
    if rows.is_empty():
        return None
    details: dict[str, Any] = json.loads(rows["details"].item())
    return details
