"""The objective and the guardrails on metrics, by which candidates are compared.

The objective is the metric's own expression, so decisions rest on the values that are shown.
"Better" means greater by more than 1e-12, or less by as much for metrics where less is better; a
null objective never wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from gtmar.errors import UsageError, nearest
from gtmar.metrics.metric import Sums
from gtmar.metrics.registry import expression, objective_keys
from gtmar.plain_data import digits
from gtmar.spec.model import COMPARISONS, Guardrail
from gtmar.spec.tier_rule import TierRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from gtmar.data.outcomes import OutcomeColumns
    from gtmar.metrics.metric import Exact, Metric
    from gtmar.spec.model import ScoringSpec

__all__ = [
    "DEFAULT_OBJECTIVE",
    "TIER_SHARE_FLOOR",
    "Judge",
    "better",
    "breach",
    "expected",
    "fallen",
    "guardrail_of",
    "held_metric",
    "missed_by",
]

DEFAULT_OBJECTIVE = "auc_roc_retain"
#: Smallest share of accounts in the tier whose metric is the objective, unless the spec sets one.
#: Without it, a tier of one good account would win.
TIER_SHARE_FLOOR = 0.05
#: Differences up to this are rounding error, not gain.
_EPSILON = 1e-12


def better(value: float | None, than: float | None, *, sign: int = 1) -> bool:
    """Return whether `value` beats `than`; a null objective never wins, and loses to any value.

    `sign` is 1 where more is better, -1 where less is.

    Examples
    --------
    >>> better(0.7, 0.6), better(0.6, 0.6), better(None, 0.6), better(0.6, None)
    (True, False, False, True)
    """
    if value is None:
        return False
    return than is None or sign * (value - than) > _EPSILON


def _metric_of(guardrail: Guardrail, spec: ScoringSpec) -> tuple[Metric, pl.Expr]:
    """Return a guardrail's metric; the error hints at a comparison with a similar name."""
    try:
        return expression(guardrail.metric, spec.tier_names)
    except UsageError as err:
        likely = nearest(guardrail.metric, COMPARISONS)
        if likely is None:
            raise
        raise UsageError(err.message, hint=f'did you mean "{likely}"?') from err


def held_metric(name: str, spec: ScoringSpec, *, same_sizes: bool) -> tuple[str, Metric, pl.Expr]:
    """Return a metric of `no_worse`: its name, definition and expression.

    `same_sizes` says whether tiers keep their sizes from start to candidate.

    Raises
    ------
    UsageError
        If there is no such metric; if neither direction of it is better; or if it is of a tier
        whose size differs between candidates, so that values don't compare.
    """
    metric, value = expression(name, spec.tier_names)
    if metric.better == "neither":
        raise UsageError(
            f'no_worse: neither more nor less of "{name}" is better',
            hint="a guardrail with min or max holds it within limits",
        )
    if metric.by_tier and not same_sizes:
        raise UsageError(
            f'no_worse: "{name}" is of a tier with fixed edges, which has another size under each '
            "candidate, so its values don't compare",
            hint="gtmar tiers gives tiers a rule; or a metric without tiers, as nrr_at_20",
        )
    return name, metric, value


def breach(guardrail: Guardrail, value: float | None) -> str | None:
    """Return the message of a value that breaks a guardrail; None if it holds.

    Examples
    --------
    >>> breach(Guardrail(metric="share_by_tier.A", min=0.05), 0.04)
    'share_by_tier.A 0.04 < min 0.05'
    """
    if value is None:
        return f"{guardrail.metric} is null"
    if guardrail.min is not None and value < guardrail.min:
        return f"{guardrail.metric} {digits(value, 4)} < min {digits(guardrail.min)}"
    if guardrail.max is not None and value > guardrail.max:
        return f"{guardrail.metric} {digits(value, 4)} > max {digits(guardrail.max)}"
    return None


#: An expectation that can be checked: a metric, a comparison and a number.
_PROMISE = re.compile(r"\s*([\w.* -]+?)\s*(>=|<=|=>|=<|>|<|≥|≤)\s*([+-]?[0-9.,]+)\s*(%?)\s*")


def expected(text: str, tiers: Sequence[str]) -> Guardrail | None:
    """Parse an expectation such as ``auc_roc_retain >= 0.80``; None for free text.

    A limit with ``%`` is divided by 100; strict and non-strict comparisons are the same.

    Raises
    ------
    UsageError
        If a text of that form has an unknown metric or tier, or a malformed number.

    Examples
    --------
    >>> expected("auc_roc_retain >= 0.80", ("A", "B")), expected("fewer calls", ("A", "B"))
    (Guardrail(metric='auc_roc_retain', min=0.8, max=None), None)
    >>> expected("auc_roc_retain >= 99.9%", ()).min  # the quotient of 99.9 and 100 is more
    0.999
    """
    match = _PROMISE.fullmatch(text)
    if match is None:
        return None
    name, sign, number, percent = match.groups()
    try:
        limit = float(f"{number}e-2" if percent else number)
    except ValueError as err:
        raise UsageError(
            f'--expect "{text}": "{number}" is no number', hint=f"--expect '{name} {sign} 0.8'"
        ) from err
    expression(name, tiers)
    return Guardrail(metric=name, **{"min" if sign in (">=", "=>", ">", "≥") else "max": limit})


_START = " no worse than the start"


def fallen(name: str, value: float | None, start: float | None, *, sign: int) -> str | None:
    """Return the message of a metric that is worse than at the start; None if it isn't.

    None, too, if it had no value at the start. `sign` is 1 where more is better, else -1.

    Examples
    --------
    >>> fallen("nrr_at_20", 0.401, 0.4123, sign=1)
    "nrr_at_20 no worse than the start's 0.4123, got 0.4010"
    """
    if start is None or (value is not None and sign * (value - start) >= -_EPSILON):
        return None
    if value is None:
        return f"{name}{_START}'s {start:.4f}, got null"
    digits = next(d for d in (4, 7, 10, 17) if f"{value:.{d}f}" != f"{start:.{d}f}")
    return f"{name}{_START}'s {start:.{digits}f}, got {value:.{digits}f}"


def guardrail_of(text: str) -> str:
    """Return the guardrail in a message of `breach` or `fallen`: metric and limit, no values.

    Examples
    --------
    >>> guardrail_of("nrr_at_20 no worse than the start's 0.4123, got 0.4010")
    'nrr_at_20 no worse than the start'
    >>> guardrail_of("share_by_tier.A 0.04 < min 0.05")
    'share_by_tier.A min 0.05'
    """
    limit = re.match(r"(.*) \S+ [<>] ((?:min|max) \S+)", text)
    if limit is None:
        name, start, _ = text.partition(_START)
        return name + start
    return f"{limit[1]} {limit[2]}"


def missed_by(text: str) -> float | None:
    """Return how far the value in a message of `breach` is from its limit; None without a value.

    Examples
    --------
    >>> missed_by("share_by_tier.A 0.04 < min 0.05")
    0.01
    """
    pair = re.search(r" (\S+) [<>] (?:min|max) (\S+)", text)
    return None if pair is None else round(abs(float(pair[1]) - float(pair[2])), 12)


@dataclass(frozen=True)
class Judge:
    """An objective and guardrails, ready to be computed from frames of sums."""

    #: The objective's name, with its tier if it has one, and the metric.
    name: str
    metric: Metric
    #: 1 where more is better, -1 where less is.
    sign: int
    value: pl.Expr
    #: Guardrails on metrics, the implied one on a tier's size included.
    limits: tuple[tuple[Guardrail, Metric, pl.Expr], ...]
    #: Guardrails that compare a candidate with start or incumbent; `guardrails.Guard` checks them.
    comparisons: tuple[Guardrail, ...] = ()
    #: The spec's tier names.
    tiers: tuple[str, ...] = ()
    #: Metrics in which a candidate may not be worse than the start.
    held: tuple[tuple[str, Metric, pl.Expr], ...] = ()

    @classmethod
    def of(cls, spec: ScoringSpec, name: str | None = None) -> Judge:
        """Return the judge of a spec; `name`, if given, replaces the spec's objective.

        Raises
        ------
        UsageError
            If a metric or tier doesn't exist, the objective has no better direction, or a metric of
            `no_worse` can't be compared.
        """
        name = name or spec.objective or DEFAULT_OBJECTIVE
        metric, value = expression(name, spec.tier_names)
        if metric.key not in objective_keys():
            raise UsageError(
                f'"{metric.key}" can\'t be the objective: neither more nor less of it is better; '
                f"objectives are {', '.join(objective_keys())}",
                hint=f"for example {DEFAULT_OBJECTIVE}",
            )
        guardrails = [g for g in spec.guardrails if g.metric not in COMPARISONS]
        rule = TierRule.of(spec)
        holds_sizes = rule is not None and rule.holds_sizes
        # Where a rule keeps the tiers' sizes, no tier can shrink to its best account.
        if metric.by_tier and not holds_sizes:
            size = f"share_by_tier.{name.partition('.')[2]}"
            if not any(g.metric == size and g.min is not None for g in guardrails):
                guardrails.append(Guardrail(metric=size, min=TIER_SHARE_FLOOR))
        limits = tuple((g, *_metric_of(g, spec)) for g in guardrails)
        comparisons = tuple(g for g in spec.guardrails if g.metric in COMPARISONS)
        held = tuple(held_metric(each, spec, same_sizes=holds_sizes) for each in spec.no_worse)
        return cls(name, metric, metric.sign, value, limits, comparisons, spec.tier_names, held)

    @cached_property
    def reads(self) -> frozenset[str]:
        """Names of the sums that the objective is computed from."""
        return frozenset(self.value.meta.root_names())

    @cached_property
    def limited(self) -> frozenset[str]:
        """Names of the sums that the guardrails are computed from."""
        values = (*self.limits, *self.held)
        return frozenset(name for *_, value in values for name in value.meta.root_names())

    def decide(self, known: Mapping[str, Sequence[Any]]) -> list[float | None]:
        """Return the objective of each of K candidates from Python sums, those in `reads`.

        Equals `values` to the last bit, but costs some microseconds where a query takes a hundred,
        as a search calls it thousands of times.
        """
        tier = self.name.partition(".")[2] or None
        values = self.metric.formula_of(Sums(self.tiers, tier, known))
        return list(cast("Exact", values).values)

    def lacking(self, outcomes: OutcomeColumns) -> dict[str, str]:
        """Return the reason why a table can't compute the objective or a guardrail, by metric."""
        metrics = {self.name: self.metric, **{g.metric: metric for g, metric, _ in self.limits}}
        metrics |= {name: metric for name, metric, _ in self.held}
        reasons = {name: outcomes.missing_reason(metric.needs) for name, metric in metrics.items()}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def values(self, sums: pl.DataFrame) -> list[float | None]:
        """Return the objective of each of K rows of sums."""
        return sums.select(self.value.alias("value"))["value"].to_list()

    def values_held(self, sums: pl.DataFrame) -> dict[str, float | None]:
        """Return the values of the `no_worse` metrics by name, from one row of sums."""
        return sums.select(value.alias(name) for name, _, value in self.held).row(0, named=True)

    def breaches(self, sums: pl.DataFrame) -> tuple[str, ...]:
        """Return a message for each limit that one row of sums breaks, in the spec's order."""
        if not self.limits:
            return ()
        values = sums.select(value.alias(str(i)) for i, (_, _, value) in enumerate(self.limits))
        pairs = zip(self.limits, values.row(0), strict=True)
        texts = (breach(guardrail, value) for (guardrail, *_), value in pairs)
        return tuple(text for text in texts if text is not None)

    def gain(self, value: float | None, than: float | None) -> bool:
        """Return whether an objective value beats another, see `better`."""
        return better(value, than, sign=self.sign)
