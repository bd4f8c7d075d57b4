"""What a run shows while it goes, and gives in the end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gtmar import spec as specs

if TYPE_CHECKING:
    from gtmar.runs.findings import Finding
    from gtmar.spec.model import ScoringSpec

__all__ = ["Progress", "RunResult"]


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


@dataclass(frozen=True)
class RunResult:
    """What a run found. `metrics` are of the search part; `holdout` is None without one."""

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

    @property
    def experiments_per_second(self) -> float:
        """Experiments evaluated here, over the seconds of the loop."""
        return (self.experiments - self.resumed_from) / self.seconds if self.seconds else 0.0

    @property
    def improved(self) -> bool:
        """Whether anything beat the baseline on the search part."""
        return self.wins > 0

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        names = (
            "run_id journal metric state baseline_value best_value experiments known wins seconds "
            "experiments_per_second best_experiment weights metrics holdout digest notes blocked "
            "broken basis"
        )
        plain = {name: getattr(self, name) for name in names.split()}
        return {
            **plain,
            "in_sample": self.holdout is None,
            "findings": [finding.as_json() for finding in self.findings],
            "spec": json.loads(specs.to_json(self.spec)),
        }
