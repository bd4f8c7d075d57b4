"""Recipes: which raw tables exist, and how the account table of any date is built from them."""

from __future__ import annotations

import calendar
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    FiniteFloat,
    PlainSerializer,
    StrictInt,
    Tag,
    ValidationError,
    model_validator,
)

from gtmar.documents import read_text
from gtmar.errors import RecipeError, SpecError, did_you_mean
from gtmar.spec.document import at_line, known_keys, read_with_lines, real_place, schema_of
from gtmar.spec.encoders import SpecModel

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "KINDS",
    "RESERVED",
    "Activation",
    "Dates",
    "FeatureRule",
    "Flag",
    "Monthly",
    "RateTable",
    "RawTable",
    "SnapshotRecipe",
    "Span",
    "Subscriptions",
    "Totals",
    "Transactions",
    "conventions",
    "json_schema",
    "load",
    "parse",
    "recipe_id",
]

_SPAN = re.compile(r"\s*(\d{1,4})\s*(day|week|month|year)s?\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, order=True)
class Span:
    """A length of time in whole days or in whole calendar months."""

    months: int
    days: int

    @classmethod
    def of(cls, text: object) -> Span:
        """Parse ``90 days``, ``6 months``, ``2 weeks`` or ``1 year``; raise `ValueError` else."""
        if isinstance(text, Span):
            return text
        match = _SPAN.fullmatch(str(text).lower())
        if match is None:
            raise ValueError(f'expected a length of time as "90 days" or "6 months", got "{text}"')
        number, unit = int(match[1]), match[2]
        if unit in ("month", "year"):
            return cls(number * (12 if unit == "year" else 1), 0)
        return cls(0, number * (7 if unit == "week" else 1))

    def after(self, day: date, times: int = 1) -> date:
        """Return the day `times` spans after another, or before it if `times` is negative.

        A day that the resulting month doesn't have becomes that month's last day: one month after
        31 January is 28 or 29 February.

        Examples
        --------
        >>> (
        ...     Span.of("1 month").after(date(2024, 1, 31)),
        ...     Span.of("2 weeks").after(date(2024, 1, 31), -1),
        ... )
        (datetime.date(2024, 2, 29), datetime.date(2024, 1, 17))
        """
        month = day.year * 12 + day.month - 1 + self.months * times
        year, month = divmod(month, 12)
        last = calendar.monthrange(year, month + 1)[1]
        return date(year, month + 1, min(day.day, last)) + timedelta(days=self.days * times)

    def __str__(self) -> str:
        number, unit = (self.months, "month") if self.months else (self.days, "day")
        return f"{number} {unit}{'' if number == 1 else 's'}"


Length = Annotated[
    Span,
    BeforeValidator(Span.of, json_schema_input_type=str),
    PlainSerializer(str, return_type=str),
]


def _day(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError as err:
        raise ValueError(f'expected a day as 2024-01-31, got "{value}"') from err


Day = Annotated[date, BeforeValidator(_day, json_schema_input_type=str)]


def _one_of(expected: str, values: Mapping[str, object]) -> str:
    """Return the name of the only value that isn't None; raise `ValueError` for none or several."""
    given = [name for name, value in values.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"{expected}, got {' and '.join(given) or 'none'}")
    return given[0]


class RawTable(SpecModel):
    """One raw table: where it is, which column is the account, and when each row was true.

    A row is of one moment (`at`), holds from one day to another (`from`, `until`), holds from a day
    until the next row of its account (`valid_from`), or is as it is today (``as_of: today``), which
    no date in the past can be told from.
    """

    #: Location of the table; None where `tables` has the locations of the query's tables.
    data: str | None = None
    #: Locations of the tables that the query joins, by their names in the query.
    tables: dict[str, str] = Field(default_factory=dict)
    #: One SELECT that makes the table, over `tables`, or over `data` under the name `accounts`.
    query: str | None = None
    account: str
    at: str | None = None
    from_: str | None = Field(default=None, alias="from")
    until: str | None = None
    valid_from: str | None = None
    as_of: Literal["today"] | None = None
    known_at: str | None = None
    where: str | None = None

    @property
    def kind(self) -> str:
        """`events`, `periods`, `states` or `today`."""
        if self.at is not None:
            return "events"
        if self.from_ is not None:
            return "periods"
        return "states" if self.valid_from is not None else "today"

    @property
    def time(self) -> str | None:
        """The column with the day from which a row is visible; None for a table without days."""
        return self.at or self.from_ or self.valid_from

    @property
    def places(self) -> dict[str, str]:
        """Locations of the underlying tables, by their names in a query."""
        return {"accounts": self.data} if self.data is not None else self.tables

    @model_validator(mode="after")
    def _somewhere(self) -> RawTable:
        if (self.data is None) == (not self.tables):
            raise ValueError(
                "a source has data, or tables and a query that joins them, "
                f"got {'both' if self.tables else 'neither'}"
            )
        if self.tables and self.query is None:
            raise ValueError("tables needs a query: one SELECT that makes one table of them")
        twice = Counter(name.lower() for name in self.tables)
        for name in self.tables:
            if not _NAME.fullmatch(name) or twice[name.lower()] > 1:
                raise ValueError(
                    f'tables: "{name}" must be letters, digits and underscores, each name once'
                )
        return self

    @model_validator(mode="after")
    def _one_kind(self) -> RawTable:
        given = _one_of(
            "a source has one of at, from, valid_from and as_of",
            {"at": self.at, "from": self.from_, "valid_from": self.valid_from, "as_of": self.as_of},
        )
        if (self.until is not None) != (given == "from"):
            raise ValueError("from and until stand together")
        return self


class Dates(SpecModel):
    """The snapshot dates, evenly apart, both ends included."""

    from_: Day = Field(alias="from")
    to: Day
    every: Length

    def days(self) -> list[date]:
        """Return the dates in ascending order."""
        listed, number = [], 0
        while (day := self.every.after(self.from_, number)) <= self.to:
            listed.append(day)
            number += 1
        return listed

    @model_validator(mode="after")
    def _go_on(self) -> Dates:
        if self.every == Span(0, 0):
            raise ValueError("every must be a day or more")
        if self.from_ > self.to:
            raise ValueError(f"from {self.from_} lies after to {self.to}")
        return self


class RateTable(SpecModel):
    """What one unit of a currency counts from a date on; the latest by the date of a row holds."""

    data: str
    currency: str
    date: str
    rate: str


def _kind_of_rates(value: object) -> str:
    dated = isinstance(value, RateTable) or (isinstance(value, dict) and "data" in value)
    return "by date" if dated else "fixed"


class _Money(SpecModel):
    """What all shapes of revenue say."""

    source: str
    amount: str
    currency: str | None = None
    #: Value of one unit of each currency, fixed or by date.
    rates: Annotated[
        Annotated[dict[str, Annotated[FiniteFloat, Field(gt=0)]], Tag("fixed")]
        | Annotated[RateTable, Tag("by date")],
        Discriminator(_kind_of_rates),
    ] = Field(default_factory=dict)
    #: SQL condition on rows that don't recur: part of no MRR, shown separately in the bridge.
    one_off: str | None = None
    #: An account that returns within this time after an end has paused and not churned.
    gap: Length = Span(0, 0)
    #: An account that returns later than this after an end is new and not reactivated.
    new_again: Length | None = None

    @model_validator(mode="after")
    def _hold_together(self) -> _Money:
        if bool(self.rates) != (self.currency is not None):
            raise ValueError("currency and rates stand together")
        day = date(2024, 1, 1)
        if self.new_again is not None and self.new_again.after(day) <= self.gap.after(day):
            raise ValueError(f"new_again, {self.new_again}, must be longer than gap, {self.gap}")
        return self


#: The month that MRR covers: the one that ends with the date, or the last whole calendar month.
_Month = Literal["rolling", "calendar"]


class Transactions(_Money):
    """Payments: each counts a part of its amount a month, for so many months from its date on."""

    #: Months that a payment covers: a number, or the column with the number.
    months: Annotated[StrictInt, Field(ge=1, le=120)] | str = 1
    #: Instead of `months`: the column with the first day that isn't paid for.
    paid_until: str | None = None
    month: _Month = "rolling"
    #: An account counts as retained if it has any row in the outcome window (refunds aside), pays
    #: more than 0 there, or has MRR at the window's end, which includes time paid in advance.
    retained_by: Literal["any row", "amount", "mrr"] = "any row"
    negative: Literal["refuse", "subtract", "leave out"] = "refuse"

    @model_validator(mode="after")
    def _spread(self) -> Transactions:
        if self.paid_until is not None and self.months != 1:
            raise ValueError("months and paid_until say the same thing: one of them")
        own = self.paid_until is not None or isinstance(self.months, str)
        if own and self.retained_by != "mrr":
            raise ValueError(
                "payments for times of their own need retained_by: mrr; who paid in advance may "
                "pay nothing in the window"
            )
        if self.gap != Span(0, 0) and self.retained_by != "mrr":
            raise ValueError("gap needs retained_by: mrr; else any payment in the window counts")
        return self


class Monthly(_Money):
    """A row an account and month, the shape of the usual dbt model.

    On a day the MRR is that of the month which ended last before it.
    """

    negative: Literal["refuse", "subtract", "leave out"] = "refuse"


class Subscriptions(_Money):
    """Periods with an amount; all that run on a day add up to the MRR of their account."""

    #: Months that the amount covers: a number, or the column with the number.
    months: Annotated[StrictInt, Field(ge=1, le=120)] | str = 1
    quantity: str | None = None
    #: Column with the share of the amount that is not paid, in [0, 1].
    discount: str | None = None
    #: Whether the source's `until` is the first unpaid day or the last paid one.
    until: Literal["first day after", "last day"] = "first day after"
    #: The column with the day of a cancellation, if that ends MRR before the paid period ends.
    cancelled: str | None = None
    month: _Month = "rolling"
    #: The day of the month on which a subscription must run to count in that month's MRR.
    deciding_day: Literal["last day", "first day", "any day"] = "last day"


def _begins(shape: Transactions | Monthly | Subscriptions, day: date) -> date:
    """Return the first day that the MRR just before `day` depends on."""
    if isinstance(shape, Monthly) or shape.month == "calendar":
        day = day.replace(day=1)
    if isinstance(shape, Transactions):
        return Span(shape.months if isinstance(shape.months, int) else 0, 0).after(day, -1)
    one_day = isinstance(shape, Subscriptions) and shape.deciding_day == "last day"
    return (Span(0, 1) if one_day else Span(1, 0)).after(day, -1)


class RevenueShape(SpecModel):
    """One shape of revenue."""

    transactions: Transactions | None = None
    monthly: Monthly | None = None
    subscriptions: Subscriptions | None = None

    @property
    def shape(self) -> Transactions | Monthly | Subscriptions:
        """The given one of the three shapes."""
        [given] = [s for s in (self.transactions, self.monthly, self.subscriptions) if s]
        return given

    @model_validator(mode="after")
    def _one(self) -> RevenueShape:
        _one_of("revenue is one of transactions, monthly and subscriptions", dict(self))
        return self


#: Columns of an account table that are no features.
RESERVED = (
    *("features_asof", "features_until", "outcome_start", "outcome_end", "mrr", "mrr_end"),
    *("retained_6mo", "churned", "won_back", "actual_ltv", "activated", "days_to_activate"),
)

#: Kinds of features: how the rows of a source are aggregated.
KINDS = (
    *("count", "sum", "mean", "min", "max", "share", "distinct"),
    *("days_since", "latest", "change", "trend", "tenure", "sql"),
)
#: Kinds that need a column, ``SOURCE.COLUMN``; for `change` it is optional.
_OF_COLUMN = ("sum", "mean", "min", "max", "distinct", "latest", "trend")


class FeatureRule(SpecModel):
    """One column of the account table, made of the rows of a source that a date could see."""

    count: str | None = None
    sum: str | None = None
    mean: str | None = None
    min: str | None = None
    max: str | None = None
    share: str | None = None
    distinct: str | None = None
    days_since: str | None = None
    latest: str | None = None
    change: str | None = None
    trend: str | None = None
    tenure: str | None = None
    sql: str | None = None
    last: Length | None = None
    where: str | None = None

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        [stated] = [name for name in KINDS if getattr(self, name) is not None]
        return stated

    @property
    def source(self) -> str:
        """The source that the feature reads. Meaningless for a `sql` feature."""
        return str(getattr(self, self.kind)).partition(".")[0]

    @property
    def column(self) -> str | None:
        """The column that the feature reads; None if it aggregates whole rows."""
        return str(getattr(self, self.kind)).partition(".")[2] or None

    @model_validator(mode="after")
    def _fits(self) -> FeatureRule:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a feature is one of {', '.join(KINDS)}, got {given or 'none'}")
        kind = given[0]
        if kind == "sql":
            if self.last is not None or self.where is not None:
                raise ValueError("an expression of one's own says itself which rows it takes")
            return self
        if kind in _OF_COLUMN and self.column is None:
            raise ValueError(f'{kind} needs a column, as "{self.source}.COLUMN"')
        if kind in ("count", "share", "days_since", "tenure") and self.column is not None:
            raise ValueError(f'{kind} is of rows, and takes a source alone, got "{self.column}"')
        if kind == "share" and self.where is None:
            raise ValueError("share needs a where: the share of rows for which it holds")
        if kind == "change" and self.last is None:
            raise ValueError("change needs a last: it compares that time with as much before it")
        return self


class Activation(SpecModel):
    """The event that makes an account an active one, and how soon after its start."""

    source: str
    where: str | None = None
    within: Length


class Flag(SpecModel):
    """Rows of a source that say an account has left; its revenue may say otherwise."""

    source: str
    where: str | None = None


class Rules(SpecModel):
    """What holds where the history contradicts itself; nothing is settled without a rule."""

    #: Subscriptions of one account that overlap: `add` adds their amounts.
    overlaps: Literal["refuse", "add"] = "refuse"
    ends_before_start: Literal["refuse", "leave out"] = "refuse"
    #: Revenue of accounts that are missing from the source `accounts`.
    unknown_accounts: Literal["refuse", "keep"] = "refuse"
    #: Events on a day on which no subscription of their account runs.
    events_outside: Literal["refuse", "keep"] = "refuse"
    #: Accounts that are flagged as having left and pay, or the reverse.
    flags: Literal["refuse", "believe revenue"] = "refuse"
    #: Subscriptions with an amount of 0: an account that has no others isn't paying.
    zero_amounts: Literal["refuse", "not paying"] = "refuse"


class Totals(SpecModel):
    """What the books say of all accounts together, a row a month, to hold the bridge against."""

    data: str
    month: str
    amount: str


class SnapshotRecipe(SpecModel):
    """What an account table of any date is made of."""

    name: str = Field(min_length=1)
    id: str = "account_id"
    sources: dict[str, RawTable] = Field(min_length=1)
    dates: Dates | tuple[Day, ...]
    window: Length
    lead: Length = Span(0, 0)
    data_until: Day | None = None
    revenue: RevenueShape
    #: Accounts in the table: those paying on the date; these and those that paid before; or all
    #: with a row in the source of revenue before the date.
    population: Literal["paying", "paying and former", "seen"] = "paying"
    #: Definition of `actual_ltv`: the account's revenue in the whole history. None: no such column.
    ltv: Literal["all revenue"] | None = None
    activation: Activation | None = None
    #: The source with all accounts, one row each.
    accounts: str | None = None
    flags: tuple[Flag, ...] = ()
    rules: Rules = Rules()
    totals: Totals | None = None
    features: dict[str, FeatureRule] = Field(min_length=1)

    @property
    def days(self) -> list[date]:
        """The snapshot dates, ascending."""
        return self.dates.days() if isinstance(self.dates, Dates) else sorted(self.dates)

    @model_validator(mode="after")
    def _holds_together(self) -> SnapshotRecipe:
        wrong = [*self._misnamed(), *self._unfit()]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _misnamed(self) -> list[str]:
        wrong = [
            f'sources: "{name}" must be letters, digits and underscores'
            for name in self.sources
            if not _NAME.fullmatch(name)
        ]
        for what, names in (("sources", self.sources), ("features", self.features)):
            # Names in SQL are case-insensitive.
            twice = Counter(name.lower() for name in names)
            for name in names:
                if twice[name.lower()] > 1:
                    wrong.append(f'{what}: "{name}" stands twice but for its capitals')
                if what == "features" and name.lower() in {*RESERVED, self.id.lower()}:
                    wrong.append(f'features: "{name}" is a column that every table has')
        used = {"revenue": self.revenue.shape.source}
        used |= {f"features.{n}": f.source for n, f in self.features.items() if f.kind != "sql"}
        if self.activation is not None:
            used["activation"] = self.activation.source
        if self.accounts is not None:
            used["accounts"] = self.accounts
        used |= {f"flags.{number}": flag.source for number, flag in enumerate(self.flags, 1)}
        for key, named in used.items():
            if named not in self.sources:
                hint = did_you_mean(named, self.sources, before="; ")
                wrong.append(f'{key}: there is no source "{named}"{hint}')
        return wrong

    def _unfit(self) -> list[str]:
        wrong = []
        if self.activation is not None:
            events = self.sources.get(self.activation.source)
            if events is not None and events.kind != "events":
                wrong.append(f'activation: source "{self.activation.source}" needs at')
        if self.window == Span(0, 0):
            wrong.append("window: must be a day or more")
        if not self.days:
            wrong.append("dates: none is given")
        if isinstance(self.dates, tuple) and len(set(self.dates)) < len(self.dates):
            wrong.append("dates: one stands twice")
        for name, feature in self.features.items():
            source = self.sources.get(feature.source)
            if source is None or feature.kind == "sql":
                continue
            if source.kind == "today" and feature.kind not in ("latest", "count"):
                wrong.append(
                    f"features.{name}: {feature.source} has no dates; only latest reads it"
                )
            if source.kind != "events" and feature.last is not None:
                wrong.append(f"features.{name}: last is of rows with an at")
        shape = self.revenue.shape
        if isinstance(shape, Subscriptions) and self.ltv is not None:
            wrong.append("ltv: subscriptions say what is paid a month, not what was paid in all")
        paid_up = isinstance(shape, Transactions) and shape.retained_by == "mrr"
        early = [d for d in self.days if _begins(shape, self.window.after(d)) < d]
        if early and not paid_up:
            # Otherwise MRR at the window's end would include days before the window.
            whole = isinstance(shape, Transactions) and shape.month == "rolling"
            months = getattr(shape, "months", None)
            wrong.append(
                f"revenue: months is {months}, longer than the window"
                if whole
                else f"revenue: MRR at the end of the window of {early[0]} is of days before it; "
                "take a longer window, or dates on the first of a month"
            )
        kind = self.sources[shape.source].kind if shape.source in self.sources else None
        wanted = "periods" if isinstance(shape, Subscriptions) else "events"
        if kind not in (None, wanted):
            needs = "from and until" if wanted == "periods" else "at"
            wrong.append(f'revenue: source "{shape.source}" needs {needs}')
        return wrong


def load(path: str | Path) -> SnapshotRecipe:
    """Load a recipe from a YAML or JSON file.

    Raises
    ------
    RecipeError
        If the file can't be read or the recipe is invalid. The message lists every fault with its
        line.
    """
    try:
        text = read_text(Path(path))
    except ValueError as err:
        raise RecipeError(f'recipe "{path}": {err}', hint="docs/snapshots.md has one") from err
    return parse(text, source=str(path))


def parse(text: str, *, source: str = "recipe") -> SnapshotRecipe:
    """Load a recipe from YAML or JSON text; raises as `load`, and `source` names it in messages."""
    try:
        data, lines = read_with_lines(text, source)
    except SpecError as err:
        raise RecipeError(err.message, hint=err.hint) from err
    if not isinstance(data, dict):
        raise RecipeError(f"{source}: a recipe is a mapping with sources, dates and features")
    try:
        return SnapshotRecipe.model_validate(data)
    except ValidationError as err:
        problems = []
        for detail in err.errors(include_url=False):
            if _of_other_form(detail["loc"], data):
                continue
            key = real_place(detail["loc"], data)
            name = ".".join(map(str, key)) or "recipe"
            for line in _worded(detail, key).splitlines():
                whole = ": " in line and name == "recipe"
                at = _named_place(line) if whole else key
                text_of = line if whole else f"{name}: {line}"
                problems.append(f"{at_line(source, at, lines)}: {text_of}")
        texts = list(dict.fromkeys(problems))
        raise RecipeError.of_all(texts, f"{source}: {len(texts)} problems", problems=texts) from err


def _of_other_form(loc: tuple[int | str, ...], data: dict[str, Any]) -> bool:
    """Whether an error concerns the other form of `dates` than the given one (list or mapping)."""
    if len(loc) < 2 or loc[0] != "dates":
        return False
    return str(loc[1]).startswith("tuple") == isinstance(data.get("dates"), dict)


def _named_place(line: str) -> tuple[str | int, ...]:
    """Return the path that an error on the whole recipe starts with, as in ``features.n: ...``."""
    key, _, rest = line.partition(": ")
    name = re.match('"([^"]*)" ', rest)
    return (*key.split("."), *([name[1]] if name else []))


def _worded(detail: Any, key_path: tuple[str | int, ...]) -> str:
    """Translate one of pydantic's errors into the message shown to the user."""
    kind, given = detail["type"], detail.get("input")
    shown = "nothing" if given is None else "a list" if isinstance(given, list) else f'"{given}"'
    if kind == "extra_forbidden":
        key = str(key_path[-1])
        known = known_keys(SnapshotRecipe) - {key}
        return f'unknown key "{key}"{did_you_mean(key, known, before="; ")}'
    if kind == "missing":
        return f'"{key_path[-1] if key_path else "?"}" is required'
    if kind == "literal_error":
        expected = detail["ctx"]["expected"]
        hint = did_you_mean(str(given), re.findall("'([^']*)'", expected), before="; ")
        return f"expected {expected.replace(chr(39), chr(34))}, got {shown}{hint}"
    if key_path[:1] == ("dates",) and kind in ("tuple_type", "model_type"):
        return f"expected a list of days, or from, to and every, got {shown}"
    if kind in ("model_type", "dict_type"):
        return f'expected keys with values, as "key: value", got {shown}'
    return str(detail["msg"]).removeprefix("Value error, ")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe, for editors that complete and check YAML."""
    return schema_of(SnapshotRecipe, "gtmar snapshot recipe")


def recipe_id(recipe: SnapshotRecipe) -> str:
    """Return a hash of everything that determines values: not name, dates, totals or locations."""
    content = recipe.model_dump(mode="json", by_alias=True, exclude={"name", "dates", "totals"})
    for source in content["sources"].values():
        del source["data"], source["tables"]
    for shape in content["revenue"].values():
        if shape is not None and _kind_of_rates(shape["rates"]) == "by date":
            del shape["rates"]["data"]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return "h" + hashlib.sha256(text.encode()).hexdigest()[:16]


def conventions(recipe: SnapshotRecipe) -> dict[str, Any]:
    """Return the parts that define how values are counted, defaults included, as plain data."""
    fields = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: fields[key] for key in ("window", "lead", "revenue", "population", "rules")}
