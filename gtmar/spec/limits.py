"""What a candidate must keep: guardrails on what it gives, constraints on its weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, FiniteFloat, StrictInt, model_validator

from gtmar.spec.encoders import SpecModel

__all__ = ["BY_SEGMENT", "COMPARISONS", "Constraints", "Guardrail"]

#: Guardrails that no metric gives: they compare a candidate with what it comes from. By name, the
#: one end that each takes.
COMPARISONS: dict[str, Literal["min", "max"]] = {
    "worst_segment_change": "min",
    "segment_gap": "max",
    "moved_share": "max",
    "gain": "min",
}
#: Those among them that need segments.
BY_SEGMENT = ("worst_segment_change", "segment_gap")


class Guardrail(SpecModel):
    """A limit that a kept candidate respects.

    On a metric, on one tier of a by-tier metric, or on one of `COMPARISONS`.
    """

    metric: str
    min: FiniteFloat | None = None
    max: FiniteFloat | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Guardrail:
        if self.min is None and self.max is None:
            raise ValueError(f"guardrail on {self.metric} needs a min or a max")
        end = COMPARISONS.get(self.metric)
        if end is not None and (self.min is None) == (end == "min"):
            raise ValueError(f"guardrail on {self.metric} takes a {end}")
        if end is not None and self.min is not None and self.max is not None:
            raise ValueError(f"guardrail on {self.metric} takes a {end} alone")
        if self.metric == "moved_share" and self.max is not None and not 0 <= self.max <= 1:
            raise ValueError(f"moved_share is a share of accounts, in [0, 1], got {self.max:g}")
        return self


class Constraints(SpecModel):
    """What the weights hold together, in the spec and in every candidate."""

    total: StrictInt | None = None
    most_nonzero: StrictInt | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _says_something(self) -> Constraints:
        if self.total is None and self.most_nonzero is None:
            raise ValueError("constraints need a total or most_nonzero")
        return self
