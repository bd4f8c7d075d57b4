"""A recipe: which raw tables there are, and how an account table of any date is made of them."""

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
    """A length of time in whole days, or in whole months, whose days differ."""

    months: int
    days: int

    @classmethod
    def of(cls, text: object) -> Span:
        """Read ``90 days``, ``6 months``, ``2 weeks`` or ``1 year``."""
        if isinstance(text, Span):
            return text
        found = _SPAN.fullmatch(str(text).lower())
        if found is None:
            raise ValueError(f'expected a length of time as "90 days" or "6 months", got "{text}"')
        number, unit = int(found[1]), found[2]
        if unit in ("month", "year"):
            return cls(number * (12 if unit == "year" else 1), 0)
        return cls(0, number * (7 if unit == "week" else 1))

    def after(self, day: date, times: int = 1) -> date:
        """Return the day that lies so many spans after another; before it, where negative.

        Months are counted from the day itself; one that its month doesn't have is the last one
        that it has: a month after 31 January is 28 or 29 February.

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


def _one_of(asked: str, values: Mapping[str, object]) -> str:
    """Return the name of the one value that is given; a `ValueError` for none or more."""
    given = [name for name, value in values.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"{asked}, got {' and '.join(given) or 'none'}")
    return given[0]


class RawTable(SpecModel):
    """One raw table: where it is, which column is the account, and when each row was true.

    A row is of one moment (`at`), holds from one day to another (`from`, `until`), holds from a day
    until the next row of its account (`valid_from`), or is as it is today (``as_of: today``), which
    no date in the past can be told from.
    """

    #: Where it is; left out where `tables` says where the tables of its query are.
    data: str | None = None
    #: Tables that the query joins, by the names that it gives them.
    tables: dict[str, str] = Field(default_factory=dict)
    #: One SELECT that makes the table: over `tables`, or over `data`, which it calls accounts.
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
        """The column that says from when a row is seen; None where nothing does."""
        return self.at or self.from_ or self.valid_from

    @property
    def places(self) -> dict[str, str]:
        """Where the tables are that it is made of, by the name that a query has for each."""
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
        """Return the dates in order."""
        found, number = [], 0
        while (day := self.every.after(self.from_, number)) <= self.to:
            found.append(day)
            number += 1
        return found

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
    #: What one unit of each currency counts, at all times or by date.
    rates: Annotated[
        Annotated[dict[str, Annotated[FiniteFloat, Field(gt=0)]], Tag("fixed")]
        | Annotated[RateTable, Tag("by date")],
        Discriminator(_kind_of_rates),
    ] = Field(default_factory=dict)
    #: Rows that don't recur: in no MRR, and a line of their own in the bridge.
    one_off: str | None = None
    #: A return within so long after an end is a pause, and no churn.
    gap: Length = Span(0, 0)
    #: A return later than so long after an end is a new account's, and no reactivation.
    new_again: Length | None = None

    @model_validator(mode="after")
    def _hold_together(self) -> _Money:
        if bool(self.rates) != (self.currency is not None):
            raise ValueError("currency and rates stand together")
        day = date(2024, 1, 1)
        if self.new_again is not None and self.new_again.after(day) <= self.gap.after(day):
            raise ValueError(f"new_again, {self.new_again}, must be longer than gap, {self.gap}")
        return self


#: The month that ends with a date, or the last whole one of the calendar before it.
_Month = Literal["rolling", "calendar"]


class Transactions(_Money):
    """Payments: each counts a part of its amount a month, for so many months from its date on."""

    #: Months that a payment is for: a number, or the column that has it.
    months: Annotated[StrictInt, Field(ge=1, le=120)] | str = 1
    #: In place of months: the column of the first day that isn't paid for any more.
    paid_until: str | None = None
    month: _Month = "rolling"
    #: Who counts as retained: who pays anything in the window, has any row there, or has MRR at its
    #: end, so that time paid in advance counts.
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

    #: Months that the amount is for: a number, or the column that has it.
    months: Annotated[StrictInt, Field(ge=1, le=120)] | str = 1
    quantity: str | None = None
    #: Share of the amount that is not paid, in [0, 1].
    discount: str | None = None
    #: What an `until` is: the first day that isn't paid for any more, or the last one that is.
    until: Literal["first day after", "last day"] = "first day after"
    #: The column of the day of a cancellation, where that ends MRR though more is paid up.
    cancelled: str | None = None
    month: _Month = "rolling"
    #: On which day of the month a subscription has to run, to be in its MRR.
    deciding_day: Literal["last day", "first day", "any day"] = "last day"


def _begins(shape: Transactions | Monthly | Subscriptions, day: date) -> date:
    """Return the first of the days that the MRR just before a day is of."""
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
        """The one that is given."""
        [given] = [s for s in (self.transactions, self.monthly, self.subscriptions) if s]
        return given

    @model_validator(mode="after")
    def _one(self) -> RevenueShape:
        _one_of("revenue is one of transactions, monthly and subscriptions", dict(self))
        return self


#: Columns that a table has beside its features.
RESERVED = (
    *("features_asof", "features_until", "outcome_start", "outcome_end", "mrr", "mrr_end"),
    *("retained_6mo", "churned", "won_back", "actual_ltv", "activated", "days_to_activate"),
)

#: What a feature does with the rows of a source.
KINDS = (
    *("count", "sum", "mean", "min", "max", "share", "distinct"),
    *("days_since", "latest", "change", "trend", "tenure", "sql"),
)
#: Those that ask for a column, ``SOURCE.COLUMN``; `change` may have one.
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
        [found] = [name for name in KINDS if getattr(self, name) is not None]
        return found

    @property
    def source(self) -> str:
        """The source that it reads; the text of a `sql` feature."""
        return str(getattr(self, self.kind)).partition(".")[0]

    @property
    def column(self) -> str | None:
        """The column that it reads; None for the rows themselves."""
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

    #: Subscriptions of one account that run at once: they add up.
    overlaps: Literal["refuse", "add"] = "refuse"
    ends_before_start: Literal["refuse", "leave out"] = "refuse"
    #: RevenueShape of an account that the table of `accounts` doesn't have.
    unknown_accounts: Literal["refuse", "keep"] = "refuse"
    #: Events of an account on a day on which no subscription of it runs.
    events_outside: Literal["refuse", "keep"] = "refuse"
    #: Accounts that a flag says have left, and that pay, or the reverse.
    flags: Literal["refuse", "believe revenue"] = "refuse"
    #: Subscriptions of 0: who has no other pays nothing.
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
    #: Accounts that pay on the date; those, too, that paid before and don't any more; or all that
    #: the source of revenue has a row of before the date.
    population: Literal["paying", "paying and former", "seen"] = "paying"
    #: What an account is worth: all its revenue in the history, or nothing is said of it.
    ltv: Literal["all revenue"] | None = None
    activation: Activation | None = None
    #: The source that knows all accounts, each once.
    accounts: str | None = None
    flags: tuple[Flag, ...] = ()
    rules: Rules = Rules()
    totals: Totals | None = None
    features: dict[str, FeatureRule] = Field(min_length=1)

    @property
    def days(self) -> list[date]:
        """The snapshot dates, in order."""
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
            # SQL tells no capital letters.
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
        for place, named in used.items():
            if named not in self.sources:
                hint = did_you_mean(named, self.sources, before="; ")
                wrong.append(f'{place}: there is no source "{named}"{hint}')
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
            # Else MRR at the window's end would be of what was before it.
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
    """Read a recipe from a YAML or JSON file.

    Raises
    ------
    RecipeError
        If it can't be read, or what it says can't hold; every fault is in the message, with its
        line.
    """
    try:
        text = read_text(Path(path))
    except ValueError as err:
        raise RecipeError(f'recipe "{path}": {err}', hint="docs/snapshots.md has one") from err
    return parse(text, source=str(path))


def parse(text: str, *, source: str = "recipe") -> SnapshotRecipe:
    """Read a recipe from YAML or JSON text; `source` names it in errors, which are `load`'s."""
    try:
        data, lines = read_with_lines(text, source)
    except SpecError as err:
        raise RecipeError(err.message, hint=err.hint) from err
    if not isinstance(data, dict):
        raise RecipeError(f"{source}: a recipe is a mapping with sources, dates and features")
    try:
        return SnapshotRecipe.model_validate(data)
    except ValidationError as err:
        found = []
        for detail in err.errors(include_url=False):
            if _of_other_form(detail["loc"], data):
                continue
            place = real_place(detail["loc"], data)
            name = ".".join(map(str, place)) or "recipe"
            for line in _worded(detail, place).splitlines():
                whole = ": " in line and name == "recipe"
                at = _named_place(line) if whole else place
                said = line if whole else f"{name}: {line}"
                found.append(f"{at_line(source, at, lines)}: {said}")
        texts = list(dict.fromkeys(found))
        raise RecipeError.of_all(texts, f"{source}: {len(texts)} problems", problems=texts) from err


def _of_other_form(loc: tuple[int | str, ...], data: dict[str, Any]) -> bool:
    """Whether a finding is of the form of `dates` that wasn't meant: a list, or from and to."""
    if len(loc) < 2 or loc[0] != "dates":
        return False
    return str(loc[1]).startswith("tuple") == isinstance(data.get("dates"), dict)


def _named_place(line: str) -> tuple[str | int, ...]:
    """Return the place that a finding on the whole recipe begins with, as ``features.n: ...``."""
    place, _, rest = line.partition(": ")
    name = re.match('"([^"]*)" ', rest)
    return (*place.split("."), *([name[1]] if name else []))


def _worded(detail: Any, place: tuple[str | int, ...]) -> str:
    """Word one of pydantic's findings."""
    kind, given = detail["type"], detail.get("input")
    shown = "nothing" if given is None else "a list" if isinstance(given, list) else f'"{given}"'
    if kind == "extra_forbidden":
        key = str(place[-1])
        known = known_keys(SnapshotRecipe) - {key}
        return f'unknown key "{key}"{did_you_mean(key, known, before="; ")}'
    if kind == "missing":
        return f'"{place[-1] if place else "?"}" is required'
    if kind == "literal_error":
        expected = detail["ctx"]["expected"]
        hint = did_you_mean(str(given), re.findall("'([^']*)'", expected), before="; ")
        return f"expected {expected.replace(chr(39), chr(34))}, got {shown}{hint}"
    if place[:1] == ("dates",) and kind in ("tuple_type", "model_type"):
        return f"expected a list of days, or from, to and every, got {shown}"
    if kind in ("model_type", "dict_type"):
        return f'expected keys with values, as "key: value", got {shown}'
    return str(detail["msg"]).removeprefix("Value error, ")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe, for editors that complete and check YAML."""
    return schema_of(SnapshotRecipe, "gtmar snapshot recipe")


def recipe_id(recipe: SnapshotRecipe) -> str:
    """Return a hash of all that changes a value: not the name, the dates or where the data is."""
    content = recipe.model_dump(mode="json", by_alias=True, exclude={"name", "dates", "totals"})
    for source in content["sources"].values():
        del source["data"], source["tables"]
    for shape in content["revenue"].values():
        if shape is not None and _kind_of_rates(shape["rates"]) == "by date":
            del shape["rates"]["data"]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return "h" + hashlib.sha256(text.encode()).hexdigest()[:16]


def conventions(recipe: SnapshotRecipe) -> dict[str, Any]:
    """Return what a recipe says of how values are counted, defaults included, as plain data."""
    said = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: said[key] for key in ("window", "lead", "revenue", "population", "rules")}
