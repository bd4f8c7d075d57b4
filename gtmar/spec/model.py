"""The scoring spec as frozen data: features, tiers, outcomes, guardrails and constraints.

Constructing a spec validates it and reports all problems at once. `spec.document` reads and writes
files and text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads annotations at run time
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    StrictInt,
    field_validator,
    model_validator,
)

from gtmar.earning import Earning, earnings
from gtmar.errors import SpecError, UsageError, did_you_mean
from gtmar.plain_data import html_table, some
from gtmar.spec.calibration import Calibration  # noqa: TC001 - pydantic reads it at run time
from gtmar.spec.encoders import (
    VALUE_UNITS,
    WEIGHT_LIMIT,
    Bins,
    DaysBeforeEncoder,
    Encoder,
    IdentityEncoder,
    MissingValue,
    SpecModel,
    TableEncoder,
    Weight,
    slope,
)
from gtmar.spec.rule import Condition, Rule

__all__ = [
    "BY_SEGMENT",
    "COMPARISONS",
    "LABELS",
    "MAX_SCORE_LIMIT",
    "SCORE_UNITS",
    "TIER_RULES",
    "VALUE_UNITS",
    "Constraints",
    "Feature",
    "Group",
    "Guardrail",
    "Lineage",
    "Outcomes",
    "ProblemsError",
    "Reading",
    "ScoringSpec",
    "Split",
    "Term",
    "Tier",
    "Veto",
    "Window",
    "WrittenAs",
    "stated_as_of",
    "stated_date",
    "tier_problems",
]


#: Guardrails that compare a candidate with the spec it comes from instead of limiting a metric,
#: with the one bound that each takes.
COMPARISONS: dict[str, Literal["min", "max"]] = {
    "worst_segment_change": "min",
    "segment_gap": "max",
    "moved_share": "max",
    "gain": "min",
}
#: Comparisons that need segments.
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


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class Window(SpecModel):
    """The day that features are of, and the first and last day that outcomes are counted on.

    Each is a column of the table, or one ISO date for all accounts.
    """

    features_asof: str
    outcome_start: str | None = None
    outcome_end: str | None = None


def stated_date(text: str) -> date | None:
    """Return the date that a text states; None if it isn't of the form YYYY-MM-DD.

    Such a text names a column.

    Raises
    ------
    ValueError
        If it has the form of a date and is none, as 2026-02-30.

    Examples
    --------
    >>> stated_date("2026-01-31"), stated_date("snapshot_date")
    (datetime.date(2026, 1, 31), None)
    """
    return date.fromisoformat(text) if _DATE.fullmatch(text) else None


def stated_as_of(text: str) -> date:
    """Return the day that ``as_of`` states; raise `UsageError` if it is no ISO date."""
    try:
        return date.fromisoformat(text)
    except ValueError as err:
        raise UsageError(
            f'as_of expects a date, got "{text}"', hint="write it as YYYY-MM-DD"
        ) from err


#: Scores are rounded to 1/100 of a point.
SCORE_UNITS = 100
#: Largest `max_score`, so that the sum of squared scores of 10^8 accounts fits Int64.
MAX_SCORE_LIMIT = 1_000


_IDENTITY = IdentityEncoder(kind="identity")


def _rule_text(text: str) -> str:
    Rule.parse(text)
    return text


_RuleText = Annotated[str, AfterValidator(_rule_text)]


class Feature(SpecModel):
    """One column of the account table, how it is encoded, and its weight; or a rule's weight."""

    #: One to three conditions on columns, see `gtmar.spec.rule`: 1 where all hold, else 0.
    rule: _RuleText | None = None
    weight: StrictInt | None = Field(default=None, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)
    min: StrictInt | None = Field(default=None, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)
    max: StrictInt | None = Field(default=None, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)
    column: str | None = None
    encode: Encoder = _IDENTITY
    #: `redistribute` gives an unknown value's weight to known ones, see `gtmar.spec.combination`.
    missing: Literal["error", "redistribute"] | MissingValue = "error"
    description: str | None = None

    @property
    def parsed_rule(self) -> Rule | None:
        """The parsed rule; None for a feature that reads a column."""
        return None if self.rule is None else Rule.parse(self.rule)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What is asked of columns, by a rule or a table; nothing where one column is encoded."""
        conditional = self.encode if isinstance(self.encode, TableEncoder) else self.parsed_rule
        return () if conditional is None else conditional.conditions

    def reads(self, name: str) -> tuple[str, ...]:
        """Return the columns that the feature reads: one, or those of its rule or table.

        `name` is the feature's name, which is its column's name by default.
        """
        columns = tuple(dict.fromkeys(each.column for each in self.conditions))
        return columns or (self.column or name,)

    @model_validator(mode="after")
    def _weight_or_bins(self) -> Feature:
        own = {"weight": self.weight, "min": self.min, "max": self.max}
        if self.rule is not None:
            encoded = {
                "column": self.column is not None,
                "encode": self.encode != _IDENTITY,
                "missing": self.missing != "error",
            }
            if given := [key for key, is_given in encoded.items() if is_given]:
                raise ValueError(
                    f"a rule names its columns and is 1 or 0, unknown values included; drop {given}"
                )
        elif isinstance(self.encode, TableEncoder):
            named = {"column": self.column is not None, "missing": self.missing != "error"}
            if given := [key for key, is_given in named.items() if is_given]:
                raise ValueError(
                    f"a table names its columns and has cells for unknown values; drop {given}"
                )
        if isinstance(self.encode, Bins):
            given = [key for key, value in own.items() if value is not None]
            if given:
                raise ValueError(f"with bins each bin has its own weight; drop {given} here")
            if self.missing == "redistribute":
                if "missing" in self.encode.bins:
                    raise ValueError("the unknown is redistributed, or has a bin named `missing`")
            elif self.missing != "error":
                raise ValueError("with bins, give the unknown a bin of its own named `missing`")
            return self
        absent = [key for key, value in own.items() if value is None]
        if absent:
            raise ValueError(f"a feature needs weight, min and max; {absent} not given")
        weight = Weight(weight=self.weight, min=self.min, max=self.max)  # type: ignore[arg-type] # None is ruled out above
        self._keeps_order(weight)
        return self

    def _keeps_order(self, weight: Weight) -> None:
        """Refuse bounds within which a weight's sign could reverse the order of `monotone`."""
        scale = self.encode.then if isinstance(self.encode, DaysBeforeEncoder) else self.encode
        direction = getattr(scale, "monotone", None)
        if direction is None:
            return
        sign = slope(scale) * (1 if direction == "up" else -1)  # type: ignore[arg-type] # it has `monotone`
        rises = "rises" if (sign > 0) == (direction == "up") else "falls"
        if sign > 0 and weight.min < 0:
            raise ValueError(
                f"monotone: {direction} with an encoder that {rises} needs a min of 0 or more, "
                f"got {weight.min}"
            )
        if sign < 0 and weight.max > 0:
            raise ValueError(
                f"monotone: {direction} with an encoder that {rises} needs a max of 0 or less, "
                f"got {weight.max}"
            )


class Group(SpecModel):
    """Features whose points are summed, and the sum cut at both ends, before groups add up."""

    features: tuple[str, ...] = Field(min_length=1)
    min: StrictInt | None = Field(default=None, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)
    max: StrictInt | None = Field(default=None, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)

    @model_validator(mode="after")
    def _ends_in_order(self) -> Group:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Veto(SpecModel):
    """A rule that keeps whom it holds for out of the tiers that are better than one."""

    rule: _RuleText
    tier: str


def _listed(value: object) -> object:
    """Wrap a single veto in a list."""
    return [value] if isinstance(value, dict | Veto) else value


class Tier(SpecModel):
    """A band of scores, in points: `min` included, `max` excluded; or a rule that sets the edge.

    A rule is one of `share` (of the accounts searched), `accounts` (how many the tier takes) and
    `lift` (how many times the base rate of leaving the tier's accounts leave at, for risk scores).
    Where `min` and `max` stand beside it, they are the edges that the rule came to.
    """

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None
    share: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    accounts: Annotated[StrictInt, Field(ge=1)] | None = None
    lift: Annotated[FiniteFloat, Field(gt=0)] | None = None

    @property
    def low(self) -> int:
        """`min` in hundredths of a point."""
        return _hundredths(self.min)

    @property
    def high(self) -> int:
        """`max` in hundredths of a point."""
        return _hundredths(self.max)

    @property
    def rule(self) -> tuple[str, float] | None:
        """The rule's name and value; None where only edges are given."""
        given = [(name, value) for name in TIER_RULES if (value := getattr(self, name)) is not None]
        return given[0] if given else None

    @model_validator(mode="after")
    def _on_the_grid(self) -> Tier:
        if (self.min is None) != (self.max is None):
            raise ValueError("min and max stand together, or neither does")
        rules = [name for name in TIER_RULES if getattr(self, name) is not None]
        if len(rules) > 1:
            raise ValueError(f"a tier has one rule, got {' and '.join(rules)}")
        if self.min is None or self.max is None:
            return self
        for name, edge in (("min", self.min), ("max", self.max)):
            if not math.isclose(edge * SCORE_UNITS, round(edge * SCORE_UNITS), abs_tol=1e-6):
                raise ValueError(f"{name} must be a multiple of 0.01 points, got {edge!r}")
        if self.low >= self.high:
            raise ValueError(f"min {self.min:g} must be below max {self.max:g}")
        return self


#: Rules of a tier. A tier may have one of them beside its edges or instead of them.
TIER_RULES = ("share", "accounts", "lift")


def _hundredths(edge: float | None) -> int:
    if edge is None:
        raise SpecError(
            "the spec's tiers have a rule and no edges yet: which scores they take is not known",
            hint="gtmar tiers SPEC --data TABLE -o NEW sets the edges",
        )
    return round(edge * SCORE_UNITS)


class Outcomes(SpecModel):
    """Which column is which outcome. A default name that the table lacks is no outcome."""

    retained: str = "retained_6mo"
    churned: str = "churned"
    mrr: str = "mrr"
    mrr_end: str = "mrr_end"
    ltv: str = "actual_ltv"
    activated: str = "activated"
    days_to_activate: str = "days_to_activate"
    won_back: str = "won_back"


#: Outcomes whose values are 1 or 0.
LABELS = ("retained", "churned", "activated", "won_back")


def _words(value: object) -> object:
    """Turn words that YAML reads as flags or numbers, ``true`` or ``1``, back into text."""
    if not isinstance(value, dict):
        return value
    return {str(w).lower() if isinstance(w, bool) else str(w): v for w, v in value.items()}


#: 1 or 0 by word of the table; case is ignored.
LabelMeaning = Annotated[
    dict[str, Annotated[StrictInt, Field(ge=0, le=1)]], BeforeValidator(_words), Field(min_length=1)
]


class Split(SpecModel):
    """The holdout: its share of accounts, and the salt of the hash that draws it."""

    holdout: FiniteFloat = Field(default=0.3, ge=0, lt=1)
    salt: str = "gtmar"


#: Kinds that a spec can state for a text column.
WrittenAs = Literal[
    "text", "number", "percent", "percent-comma", "decimal-comma", "money", "money-comma"
]


class Reading(SpecModel):
    """How the text of a table's cells is read, where that isn't as usual.

    `nulls` are the markers of nothing, in place of the usual ones; `columns` says what a column's
    cells are written as.
    """

    nulls: tuple[str, ...] | None = None
    columns: dict[str, WrittenAs] = Field(default_factory=dict)


class Lineage(SpecModel):
    """Where a spec that the tool wrote came from."""

    run: str
    experiment: str
    parent_spec_id: str | None = None


@dataclass(frozen=True)
class Term:
    """One weight of the score and the encoded column that it multiplies.

    A plain feature has one term of its own name. A binned feature has a term per bin, named like
    ``tenure[0,3)``. A rule has one term and may read several columns.
    """

    name: str
    feature: str
    columns: tuple[str, ...]
    weight: int
    #: Bounds of the weight, both included.
    min: int
    max: int
    #: The bin's key; None for a feature without bins.
    bin: str | None = None

    @property
    def fixed(self) -> bool:
        """Whether the bounds allow one weight only."""
        return self.min == self.max


def _text(value: object) -> object:
    """Turn ``version: 3``, which YAML reads as a number, into the text "3"."""
    return str(value) if isinstance(value, int | float) else value


#: The path of keys of a problem in a spec, and its message.
Problem = tuple[tuple[str, ...], str]


class ProblemsError(ValueError):
    """The parts of a spec contradict each other; holds every problem with its path of keys."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{'.'.join(path)}: {text}" for path, text in problems))


def tier_problems(
    tiers: dict[str, Tier], max_score: int, orientation: str = "health"
) -> list[Problem]:
    """Return problems of tiers: gaps, overlaps, uncovered scores, and rules that don't fit."""
    problems = _rule_problems(tiers, orientation)
    edged = [name for name, tier in tiers.items() if tier.min is not None]
    if not edged:
        bare = [name for name, tier in tiers.items() if tier.rule is None]
        # If other tiers have rules, one tier without a rule may take the rest.
        if len(bare) == len(tiers):
            problems += [(("tiers", name), "needs min and max, or a rule") for name in bare]
        return problems
    if len(edged) < len(tiers):
        text = "needs min and max as the other tiers have them"
        return [*problems, *((("tiers", name), text) for name in tiers if name not in edged)]
    ordered = sorted(tiers.items(), key=lambda item: item[1].low)
    if ordered[0][1].low != 0:
        name, tier = ordered[0]
        problem = f'the lowest tier, "{name}", must begin at 0, got {tier.min:g}'
        problems.append((("tiers", name), problem))
    for (name, one), (next_name, two) in pairwise(ordered):
        if one.high != two.low:
            fault = "overlap" if one.high > two.low else "leave a gap"
            problem = f'"{name}" and "{next_name}" {fault} between {one.max:g} and {two.min:g}'
            problems.append((("tiers", name), problem))
    name, top = ordered[-1]
    if top.high <= max_score * SCORE_UNITS:
        problem = (
            f'the highest tier, "{name}", ends at {top.max:g}, short of the maximum: max is '
            f"excluded, so it must be above max_score {max_score}, "
            f"for example {max_score + 1}"
        )
        problems.append((("tiers", name), problem))
    return problems


def _rule_problems(tiers: dict[str, Tier], orientation: str) -> list[Problem]:
    """Return problems of rules that don't fit together."""
    rules = {name: tier.rule for name, tier in tiers.items()}
    kinds = {rule[0] for rule in rules.values() if rule is not None}
    if not kinds:
        return []
    if len(kinds) > 1:
        text = f"all tiers have the same kind of rule, got {' and '.join(sorted(kinds))}"
        return [(("tiers",), text)]
    [kind] = kinds
    bare = [name for name, rule in rules.items() if rule is None]
    if kind == "share":
        text = "needs a share as the other tiers have one"
        problems: list[Problem] = [(("tiers", name), text) for name in bare]
        total = sum(rule[1] for rule in rules.values() if rule is not None)
        if not bare and not math.isclose(total, 1, abs_tol=1e-6):
            problems.append((("tiers",), f"the shares must add up to 1, they add up to {total:g}"))
        return problems
    if len(bare) != 1:
        listed = ", ".join(bare) or "none"
        text = f"one tier has no {kind} and takes the rest, got {len(bare)} such: {listed}"
        return [(("tiers",), text)]
    if kind == "lift" and orientation != "risk":
        text = "lift is for risk scores: it counts from the accounts most likely to leave"
        return [(("tiers",), text)]
    return []


class ScoringSpec(SpecModel):
    """The scoring model: what is scored how, which band of scores is which tier, what decides.

    A score is ``base`` plus the points of all terms (weight x encoded value), clipped to ``[0,
    max_score]`` and rounded half up to 0.01.
    """

    model: str = Field(min_length=1)
    version: Annotated[str | None, BeforeValidator(_text, json_schema_input_type=str | int)] = None
    max_score: StrictInt = Field(default=100, ge=1, le=MAX_SCORE_LIMIT)
    id: str | None = None
    orientation: Literal["health", "risk"] = "health"
    base: StrictInt = Field(default=0, ge=-WEIGHT_LIMIT, le=WEIGHT_LIMIT)
    as_of: str | None = None
    date_format: str | None = None
    time_zone: str = "UTC"
    window: Window | None = None
    outcomes: Outcomes = Outcomes()
    labels: dict[Literal["retained", "churned", "activated", "won_back"], LabelMeaning] = Field(
        default_factory=dict
    )
    split: Split = Split()
    read: Reading = Reading()
    objective: str | None = None
    guardrails: tuple[Guardrail, ...] = ()
    #: Metrics in which a kept candidate must not be worse than the baseline.
    no_worse: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    constraints: Constraints | None = None
    segments: tuple[str, ...] = ()
    #: Columns that a table must have, even if no part of the spec reads them.
    required_columns: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    features: dict[str, Feature] = Field(min_length=1)
    groups: dict[str, Group] = Field(default_factory=dict)
    veto: Annotated[
        tuple[Veto, ...], BeforeValidator(_listed, json_schema_input_type=Veto | tuple[Veto, ...])
    ] = ()
    tiers: dict[str, Tier] = Field(min_length=1)
    #: The probability of leaving by score, as fitted to outcomes; None where none was fitted.
    calibration: Calibration | None = None
    #: `encoder_id` by feature when its encoder was fitted to outcomes.
    fitted: dict[str, str] = Field(default_factory=dict)
    #: Number of columns that the features were chosen from by outcomes; None where none were.
    chosen_from: StrictInt | None = Field(default=None, ge=2)
    lineage: Lineage | None = None

    @field_validator("date_format")
    @classmethod
    def _is_a_format(cls, text: str | None) -> str | None:
        parts = ("%[de]", "%[mbB]", "%[yY]")
        if text is not None and not all(re.search(part, text) for part in parts):
            raise ValueError(f'expected day, month and year, as "%d/%m/%Y", got "{text}"')
        return text

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as err:
            raise ValueError(f'no time zone "{name}"; one is called as Europe/Berlin') from err
        return name

    @model_validator(mode="after")
    def _holds_together(self) -> ScoringSpec:
        problems = [
            *tier_problems(self.tiers, self.max_score, self.orientation),
            *self._column_problems(),
            *self._group_problems(),
            *self._veto_problems(),
            *self._constraint_problems(),
            *self._segment_problems(),
            *self._calibration_problems(),
        ]
        twice = sorted({name for name in self.no_worse if self.no_worse.count(name) > 1})
        problems += [(("no_worse",), f'metric "{name}" stands twice') for name in twice]
        if problems:
            raise ProblemsError(problems)
        return self

    def _column_problems(self) -> list[Problem]:
        outcomes = {column: role for role, column in self.outcomes.model_dump().items()}
        problems: list[Problem] = []
        for name, feature in self.inputs.items():
            for column in feature.reads(name):
                if column in outcomes:
                    problem = (
                        f'reads column "{column}", which is the outcome "{outcomes[column]}"; '
                        "a score must not see its own outcome"
                    )
                    path = ("features", name) if name in self.features else ("veto",)
                    problems.append((path, problem))
        names = [term.name for term in self.terms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problem = f"these names stand for more than one weight: {twice}"
            problems.append((("features",), problem))
        return problems

    def _group_problems(self) -> list[Problem]:
        problems: list[Problem] = []
        grouped: dict[str, str] = {}
        for name, group in self.groups.items():
            for feature in group.features:
                if feature not in self.features:
                    hint = did_you_mean(feature, self.features, before="; ")
                    problems.append((("groups", name), f'there is no feature "{feature}"{hint}'))
                elif feature in grouped:
                    listed = dict.fromkeys((grouped[feature], name))
                    where = " and ".join(f'"{each}"' for each in listed)
                    text = f'feature "{feature}" stands in more than one place: {where}'
                    problems.append((("groups", name), text))
                grouped.setdefault(feature, name)
            shared = any(
                self.features[each].missing == "redistribute"
                for each in group.features
                if each in self.features
            )
            if group.min is None and group.max is None and not shared:
                text = "needs a min or a max, or a feature with `missing: redistribute`"
                problems.append((("groups", name), text))
        return problems

    def _veto_problems(self) -> list[Problem]:
        problems: list[Problem] = []
        names, risk = self.tier_names, self.orientation == "risk"
        worst, best = (names[0], names[-1]) if risk else (names[-1], names[0])
        rules = [Rule.parse(veto.rule).canonical for veto in self.veto]
        for number, veto in enumerate(self.veto):
            text = None
            if rules[number] in rules[:number]:
                text = "stands twice"
            elif veto.tier not in self.tiers:
                hint = did_you_mean(veto.tier, names) or f"there are {', '.join(names)}"
                text = f'there is no tier "{veto.tier}"; {hint}'
            elif self.has_rule and risk:
                text = (
                    "with orientation risk a veto needs tiers with fixed edges: where a rule sets "
                    "them, no score is sure to be in the tier"
                )
            elif self.has_rule and veto.tier != worst:
                text = (
                    f'where a rule sets the tiers\' edges, a veto leads to the lowest, "{worst}", '
                    f'alone: the edge of "{veto.tier}" would follow from the scores that it cuts'
                )
            elif veto.tier == best:
                text = f'"{best}" is the best tier, so this veto changes nothing'
            if text is not None:
                problems.append((("veto",), f'"{veto.rule}": {text}'))
        return problems

    def _constraint_problems(self) -> list[Problem]:
        problems: list[Problem] = []
        if self.constraints is None:
            return problems
        weights, total = list(self.weights.values()), self.constraints.total
        if total is not None and sum(weights) != total:
            problem = f"the weights must add up to {total}, they add up to {sum(weights)}"
            problems.append((("constraints", "total"), problem))
        nonzero, most = sum(weight != 0 for weight in weights), self.constraints.most_nonzero
        if most is not None and nonzero > most:
            problem = f"at most {some(most, 'weight')} may differ from 0, {nonzero} do"
            problems.append((("constraints", "most_nonzero"), problem))
        return problems

    def _segment_problems(self) -> list[Problem]:
        outcomes = {column: role for role, column in self.outcomes.model_dump().items()}
        features = {c: name for name, feature in self.inputs.items() for c in feature.reads(name)}
        problems: list[Problem] = []
        for index, column in enumerate(self.segments):
            problem = None
            if column in self.segments[:index]:
                problem = "stands twice"
            elif column in outcomes:
                problem = f'is the outcome "{outcomes[column]}"'
            elif column in features:
                problem = f'is what feature "{features[column]}" reads'
            elif column == self.id:
                problem = "is the account id"
            if problem is not None:
                text = f'segment column "{column}" {problem}'
                problems.append((("segments",), text))
        if not self.segments:
            problems += [
                (("guardrails",), f"a guardrail on {limit.metric} needs segments in the spec")
                for limit in self.guardrails
                if limit.metric in BY_SEGMENT
            ]
        return problems

    def _calibration_problems(self) -> list[Problem]:
        if self.calibration is None:
            return []
        problems = self.calibration.problems(self.max_score, rising=self.orientation == "risk")
        return [(("calibration",), problem) for problem in problems]

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms in the spec's order, with one term per bin."""
        terms: list[Term] = []
        for name, feature in self.features.items():
            columns = feature.reads(name)
            if isinstance(feature.encode, Bins):
                intervals = feature.encode.intervals
                terms += [
                    Term(
                        name=f"{name}{key}" if key in intervals else f"{name}[{key}]",
                        feature=name,
                        columns=columns,
                        weight=bounds.weight,
                        min=bounds.min,
                        max=bounds.max,
                        bin=key,
                    )
                    for key, bounds in feature.encode.bins.items()
                ]
            elif feature.weight is not None and feature.min is not None and feature.max is not None:
                terms.append(Term(name, name, columns, feature.weight, feature.min, feature.max))
        return tuple(terms)

    @property
    def inputs(self) -> dict[str, Feature]:
        """Everything that reads columns, by name: features, and vetoes as rules of weight 0."""
        none = {"weight": 0, "min": 0, "max": 0}
        return self.features | {
            f"veto: {veto.rule}": Feature(rule=veto.rule, **none) for veto in self.veto
        }

    @property
    def columns(self) -> list[str]:
        """The columns that the score depends on, each once."""
        read = (column for name, each in self.inputs.items() for column in each.reads(name))
        return list(dict.fromkeys(read))

    @property
    def date_columns(self) -> list[str]:
        """The columns that features read as dates."""
        dated = (n for n, f in self.features.items() if isinstance(f.encode, DaysBeforeEncoder))
        return [self.features[name].reads(name)[0] for name in dated]

    @property
    def veto_ends(self) -> tuple[tuple[Rule, int], ...]:
        """Each veto's rule, and the best score that it allows, in hundredths of a point.

        It is the veto tier's highest score, or its lowest with `orientation: risk`. Where a rule
        sets the edges it is 0, which is in the lowest tier for any edges.
        """

        def end(tier: Tier) -> int:
            if self.has_rule:
                return 0
            return tier.low if self.orientation == "risk" else tier.high - 1

        return tuple((Rule.parse(each.rule), end(self.tiers[each.tier])) for each in self.veto)

    @property
    def ordered_terms(self) -> tuple[tuple[int, ...], ...]:
        """Term indices in the order in which weights never fall, per feature of ordered bins."""
        numbers = {(term.feature, term.bin): i for i, term in enumerate(self.terms)}
        return tuple(
            tuple(numbers[name, key] for key in feature.encode.ordered)
            for name, feature in self.features.items()
            if isinstance(feature.encode, Bins) and len(feature.encode.ordered) > 1
        )

    @property
    def weights(self) -> dict[str, int]:
        """Weight by term."""
        return {term.name: term.weight for term in self.terms}

    @property
    def vector(self) -> tuple[int, ...]:
        """The weights in the order of `terms`, F of them."""
        return tuple(term.weight for term in self.terms)

    @property
    def earned_by(self) -> dict[str, str]:
        """What earns a term's points, in words, by term; only for terms that need explanation."""
        weights = self.weights
        return {name: each.how(weights[name]) for name, each in self.earnings.items()}

    @property
    def earnings(self) -> dict[str, Earning]:
        """What earns a term's points, with the encoder's values, by term."""
        return earnings(self.model_dump(by_alias=True, include={"features"}))

    @property
    def has_edges(self) -> bool:
        """Whether every tier has its edges."""
        return all(tier.min is not None for tier in self.tiers.values())

    @property
    def has_rule(self) -> bool:
        """Whether a rule sets the tiers' edges."""
        return any(tier.rule is not None for tier in self.tiers.values())

    @property
    def tier_names(self) -> tuple[str, ...]:
        """Tiers from the highest scores to the lowest; without edges, in the spec's order."""
        if not self.has_edges:
            return tuple(self.tiers)
        return tuple(sorted(self.tiers, key=lambda name: -self.tiers[name].low))

    @property
    def tier_lows(self) -> tuple[int, ...]:
        """Each tier's lower edge in hundredths of a point, in the order of `tier_names`.

        Raises
        ------
        SpecError
            If a rule is to set the edges and hasn't yet.
        """
        return tuple(self.tiers[name].low for name in self.tier_names)

    def with_edges(self, lows: Sequence[int]) -> ScoringSpec:
        """Return the same spec with other tier edges.

        Parameters
        ----------
        lows
            Lower edges in the order of `tier_names`, in hundredths of a point, descending to 0.
        """
        names, top = self.tier_names, (self.max_score + 1) * SCORE_UNITS
        if self.has_edges:
            top = max(top, self.tiers[names[0]].high)
        ends = [top, *lows[:-1]]
        tiers = {
            name: self.tiers[name].model_copy(
                update={"min": low / SCORE_UNITS, "max": high / SCORE_UNITS}
            )
            for name, low, high in zip(names, lows, ends, strict=True)
        }
        return self.model_copy(update={"tiers": {name: tiers[name] for name in self.tiers}})

    def _repr_html_(self) -> str:
        earned = self.earnings
        weights = [
            (t.name, t.weight, t.min, t.max, points)
            for t in self.terms
            for points in [earned[t.name].points(t.weight) if t.name in earned else ""]
        ]
        tiers = [(name, self.tiers[name].min, self.tiers[name].max) for name in self.tier_names]
        return html_table(
            ("weight", "points", "min", "max", "for what"), weights, caption=f"Spec {self.model}"
        ) + html_table(("tier", "from", "below"), tiers, caption="Tiers")

    def with_weights(self, weights: Mapping[str, int]) -> ScoringSpec:
        """Return the same spec with other weights.

        Parameters
        ----------
        weights
            Weight by term; other terms keep theirs, and unknown names are ignored.

        Raises
        ------
        pydantic.ValidationError
            If a weight is outside its bounds. `document.reweighed` turns this into a `SpecError`.
        """
        data = self.model_dump(by_alias=True)
        for term in self.terms:
            if term.name in weights:
                feature = data["features"][term.feature]
                written = feature if term.bin is None else feature["encode"]["bins"][term.bin]
                written["weight"] = int(weights[term.name])
                if written["weight"] != term.weight:
                    # The calibration was fitted to other scores.
                    data["calibration"] = None
        return ScoringSpec.model_validate(data)
