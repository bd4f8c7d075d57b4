"""What a null search answers, in sentences: the terminal and a run's page say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gtmar.validation.repeated_search import CHANCE

__all__ = ["NullAnswers"]


@dataclass(frozen=True)
class NullAnswers:
    """What was found on drawn outcomes, as an event has it, and what that says."""

    objective: str
    #: Gain of the run, as an improvement.
    found: float
    #: Gains where nothing is left to find beyond the start, smallest first; where `knows` is None,
    #: as an earlier version had it, on outcomes shuffled among all accounts.
    gains: tuple[float, ...]
    p_value: float
    #: Median of these gains, and what 95 % of them stay below.
    typical: float
    high: float
    #: Experiments of each search.
    experiments: int
    #: `found`, the run's best value; `values` on outcomes shuffled among all accounts; and of these
    #: `p_value`, `typical` and `high`; `fitted`, whether the start may have been made from the same
    #: accounts and know them beforehand; `unseen`, the value on those held out. None where nobody
    #: asked.
    knows: dict[str, Any] | None

    @property
    def as_good(self) -> int:
        """How many searches gained as much as the run."""
        return _as_good(self.p_value, self.gains)

    @property
    def reading(self) -> Literal["proven", "chance", "few"]:
        """Whether the run is better than its start; `few` where more searches could say so."""
        return _reading(self.p_value, self.gains)

    @property
    def sentences(self) -> list[str]:
        """Both answers, the score's own first; an earlier version's is worded as what it was."""
        p = f"(p = {self.p_value:.2g})"
        if self.knows is None:
            return [
                f"The search gained {self.found:+.4f} on the accounts searched; on shuffled "
                f"outcomes it gains {self.typical:+.4f} typically, and as much as the run in "
                f"{self.as_good:,} of {self._tries} {p}. There it climbs from chance, the run from "
                "its start: that doesn't say whether the run is better than its start. Done again, "
                "gtmar null asks just that."
            ]
        return [self._knows(self.knows), self._better(p)]

    @property
    def _tries(self) -> str:
        return f"{len(self.gains):,} {'try' if len(self.gains) == 1 else 'tries'}"

    def _knows(self, knows: dict[str, Any]) -> str:
        """Answer whether the score knows anything."""
        found, p = f"{knows['found']:.4f}", f"(p = {knows['p_value']:.2g})"
        as_good = _as_good(knows["p_value"], knows["values"])
        there = (
            f"on shuffled outcomes the same search reaches {knows['typical']:.4f} typically, and "
            f"the run's {found} or better "
            + (f"in {as_good:,} of {self._tries} {p}" if as_good else f"never in {self._tries} {p}")
        )
        reading = _reading(knows["p_value"], knows["values"])
        if knows["fitted"] and reading != "chance":
            unseen = knows["unseen"]
            held = "those that it never saw can (gtmar decide)."
            if unseen is not None:
                held = f"on those that it never saw, which can say it, it reaches {unseen:.4f}."
            return (
                "Whether the score knows anything, these accounts can't say: its start may know "
                "them beforehand, as the best of an earlier run or an edited first spec does, and "
                "would on noise too. On shuffled outcomes the same search reaches "
                f"{knows['typical']:.4f} typically, the run {found}; {held}"
            )
        return {
            "proven": f"The score knows something: {there}.",
            "few": f"Whether the score knows anything: {there}. {_FEW}",
            "chance": f"Nothing here shows that the score knows anything: {there}. These accounts "
            "can't tell its order from a random one.",
        }[reading]

    def _better(self, p: str) -> str:
        """Answer whether the run is better than its start."""
        if self.found <= 0:
            return "The search found nothing better than the start: there is no gain to doubt."
        often = f"in {self.as_good:,} of them" if self.as_good else "in none of them"
        there = (
            f"where nothing is left to find, the same search gains {self.typical:+.4f} typically, "
            f"{max(self.gains):+.4f} at the most of {self._tries}, as much as the run {often} {p}; "
            f"this run gained {self.found:+.4f}."
        )
        return {
            "proven": f"It is better than the start: {there}",
            "few": f"Whether it is better than the start: {there} {_FEW}",
            "chance": f"Nothing here shows that it is better than the start: {there} That doesn't "
            "say that it is no better: these accounts can't tell, those that the search never saw "
            "may (gtmar decide).",
        }[self.reading]


_FEW = "So few searches can't prove anything; 20 or more can."


def _as_good(p_value: float, drawn: Any) -> int:
    return round(p_value * (1 + len(drawn))) - 1


def _reading(p_value: float, drawn: Any) -> Literal["proven", "chance", "few"]:
    if p_value <= CHANCE:
        return "proven"
    return "chance" if _as_good(p_value, drawn) else "few"
