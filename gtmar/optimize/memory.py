"""What finished runs taught, frozen at a run's start: plain data, and its JSON.

The start record keeps it, so that a run can be resumed and done again from its own files alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from gtmar.optimize.hill_climb import Given, Known

__all__ = ["MOST_GIVEN", "Memory"]

#: Best vectors that are tried before any proposal.
MOST_GIVEN = 3

Vector = tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """Results of earlier runs over the same table, objective and scale.

    Parameters
    ----------
    runs
        Ids of the runs it is from.
    names
        Names of the F weights.
    known
        Results by vector, the best first; null values are left out.
    best
        The best vectors that no guardrail blocked, at most three.
    """

    runs: tuple[str, ...]
    names: tuple[str, ...]
    known: dict[Vector, Known] = field(repr=False)
    best: tuple[Vector, ...]

    @property
    def given(self) -> Given:
        """Return the best vectors as what a search tries first."""
        return Given("memory", self.best)

    @property
    def remembered(self) -> tuple[tuple[Vector, float], ...]:
        """Return vectors with their values, the best first."""
        pairs = ((vector, known.value) for vector, known in self.known.items())
        return tuple((vector, value) for vector, value in pairs if value is not None)

    def to_json(self) -> str:
        """Return it as text that `from_json` reads back to an equal memory."""
        places = {run: place for place, run in enumerate(self.runs)}
        known = []
        for vector, result in self.known.items():
            run, _, experiment = result.source.partition("/")
            known.append([list(vector), result.value, places[run], experiment])
        return json.dumps(
            {"runs": self.runs, "names": self.names, "best": self.best, "known": known},
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Memory:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        runs = tuple(data["runs"])
        return cls(
            runs=runs,
            names=tuple(data["names"]),
            known={
                tuple(vector): Known(value, f"{runs[place]}/{experiment}")
                for vector, value, place, experiment in data["known"]
            },
            best=tuple(tuple(vector) for vector in data["best"]),
        )

    @property
    def digest(self) -> str:
        """Return a hash over all of it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
