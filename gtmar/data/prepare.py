"""Converts a table's columns to the types that a spec reads: numbers, text ids, days, 0/1 labels.

A timestamp with a time zone becomes its day in the spec's zone; one without a zone, its own day. A
text date is read with the year first. Any other order must be stated or follow from the column
itself: 25/12/2026 can only have the day first. A column that can't be converted is left as it is,
and `contract` refuses it together with all other violations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import polars as pl

from gtmar.data.encode import categories_of
from gtmar.data.outcomes import with_labels
from gtmar.data.scan import AccountTable, collect
from gtmar.data.text_columns import (
    NULL_MARKERS,
    ONE_CURRENCY,
    TEXT_TYPES,
    Kind,
    Texts,
    cleaned,
    converted,
    mixed_currencies,
)
from gtmar.errors import AccountDataError, culprits, did_you_mean
from gtmar.spec.encoders import DaysBeforeEncoder
from gtmar.spec.model import Reading, ScoringSpec, WrittenAs, stated_date

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


__all__ = ["endless", "looks_like_dates", "prepared", "read_for", "settled", "with_days"]


def prepared(table: AccountTable, spec: ScoringSpec, *, outcomes: bool = True) -> AccountTable:
    """Return a table whose columns have the types that a spec reads.

    Without `outcomes`, for a table that is only scored, labels and window dates are left alone.
    Preparing a prepared table changes nothing. The conversions of labels and dates are recorded in
    the table's notes.
    """
    table = read_for(table, spec)
    if dated := _dated(spec, window=outcomes):
        table = with_days(table, dated, date_format=spec.date_format, zone=spec.time_zone)
    if not outcomes:
        return table
    table, words = with_labels(table, spec.outcomes, spec.labels)
    sentences = [each.sentence for each in words if not each.unknown]
    return replace(table, notes=(*table.notes, *sentences))


def _dated(spec: ScoringSpec, *, window: bool = True) -> list[str]:
    """Return the columns that a spec reads as dates."""
    dated = [*spec.date_columns, *([spec.as_of] if spec.as_of else [])]
    if window and spec.window is not None:
        for text in spec.window.model_dump(exclude_none=True).values():
            try:
                dated += [] if stated_date(text) else [text]
            except ValueError:
                continue
    return dated


def read_for(table: AccountTable, spec: ScoringSpec) -> AccountTable:
    """Return a table with its text columns converted to what a spec reads.

    Columns of categories stay text. A column that the spec reads as a number becomes one where all
    of its cells are numbers. Dates stay text, for `with_days` to read. In formats with types only
    text columns are converted.
    """
    table = table.with_text(spec.id)
    texts = table.texts_by(spec.read)
    categories: dict[str, list[str]] = {}
    of_rules: list[tuple[str, tuple[str, ...]]] = []
    values = {*spec.outcomes.model_dump().values()}
    dates = set(_dated(spec))
    for name, feature in spec.inputs.items():
        for condition in feature.conditions:
            if condition.categories:
                of_rules.append((condition.column, condition.categories))
            elif condition.number is not None:
                values.add(condition.column)
        if feature.conditions:
            continue
        [column], listed = feature.reads(name), categories_of(feature.encode)
        if listed is not None:
            categories.setdefault(column, []).extend(listed)
        elif not isinstance(feature.encode, DaysBeforeEncoder):
            values.add(column)
    for column, named in of_rules:
        # Categories of rules match numbers too, so a numeric column stays numeric.
        if column not in values:
            categories.setdefault(column, []).extend(named)
    lowered = {name.lower() for name in values}
    values = {name for name in table.columns if name.strip().lower() in lowered} - set(categories)
    # In formats without types every column helps to tell the decimal sign.
    read = texts.columns if texts.typeless else sorted((values | dates) & set(texts.columns))
    texts = texts.looked_at(read, lambda lazy: collect(table, lazy))
    contents = texts.contents
    kinds = {name: contents[name].kind for name in values if name in contents}
    # `with_days` reads dates, by the spec's date format and time zone.
    kinds |= dict.fromkeys(dates, Kind.TEXT)
    # Categories stay text, except numbers with a decimal comma.
    comma = {name for name in contents if contents[name].kind is Kind.DECIMAL_COMMA}
    kinds |= {n: Kind.DECIMAL_COMMA if n in comma else Kind.TEXT for n in categories}
    kinds |= _numbers_like_codes(table, texts, values)
    kinds |= texts.stated
    labels = {getattr(spec.outcomes, role).lower(): spec.labels[role] for role in spec.labels}
    kept = {name: list(labels.get(name.strip().lower(), ())) for name in values} | categories
    texts = replace(texts.taken_as(kinds), kept=kept).identifying([spec.id] if spec.id else [])
    return table.read_as(texts)


def _numbers_like_codes(table: AccountTable, texts: Texts, values: set[str]) -> dict[str, Kind]:
    """Return the columns of `values` that are all numbers though some look like codes: 007."""
    whole = {}
    for name in values & texts.contents.keys():
        content = texts.contents[name]
        if content.kind is Kind.TEXT and content.known and content.nearly is None:
            text = cleaned(pl.col(name).cast(pl.String), texts.nulls)
            whole[name] = (text.is_null() | converted(text, Kind.NUMBER).is_not_null()).all()
    if not whole:
        return {}
    row = collect(table, texts.raw.select(**whole)).row(0, named=True)
    return {name: Kind.NUMBER for name, numbers in row.items() if numbers}


def settled(table: AccountTable, reading: Reading) -> Reading:
    """Return a reading in which the decimal sign of each money column is chosen by its cells.

    Raises
    ------
    AccountDataError
        If a stated column is absent or not text, has cells of another form, or leaves the decimal
        sign open. The message names all such columns.
    """
    wrong: list[str] = []
    columns: dict[str, str] = dict(reading.columns)
    raw = table.frame if table.texts is None else table.texts.raw
    schema = raw.collect_schema()
    nulls = NULL_MARKERS if reading.nulls is None else reading.nulls
    for name, stated in reading.columns.items():
        if name not in schema:
            wrong.append(f'no column "{name}"' + did_you_mean(name, schema.names(), before=", "))
            continue
        if schema[name] not in TEXT_TYPES:
            wrong.append(f'column "{name}" is {schema[name]} and no text')
            continue
        ways = [Kind.MONEY, Kind.MONEY_COMMA] if stated == "money" else [Kind(stated)]
        text = cleaned(pl.col(name).cast(pl.String), nulls)
        read = [converted(text, way) for way in ways]
        odd = [text.is_not_null() & each.is_null() for each in read]
        counts = raw.select(
            text.count().alias("known"),
            *(each.sum().alias(f"odd{i}") for i, each in enumerate(odd)),
            (text.is_null() | converted(text, Kind.NUMBER).is_not_null()).all().alias("plain"),
            (read[0].abs() > read[-1].abs()).any().alias("thousands,"),
            (read[0].abs() < read[-1].abs()).any().alias("thousands."),
            text.filter(odd[0]).unique(maintain_order=True).head(5).implode().alias("shown"),
        )
        counted = collect(table, counts).row(0, named=True)
        fitting = [way for i, way in enumerate(ways) if not counted[f"odd{i}"]]
        if not fitting:
            wrong.append(
                f'column "{name}": {counted["odd0"]:,} of {counted["known"]:,} cells are not '
                f"written as {stated}: {culprits(counted['shown'])}"
            )
        elif len(fitting) == 1 or not counted["thousands."]:
            columns[name] = fitting[0].value
        elif counted["plain"] or counted["thousands,"]:
            wrong.append(
                f'column "{name}": 1.234 may be a thousand or not, and no cell tells; say '
                f"{name}=number or {name}={Kind.MONEY_COMMA}"
            )
        else:
            # Amounts with a currency don't have three decimals, so the dots separate thousands.
            columns[name] = Kind.MONEY_COMMA.value
    money = [name for name, kind in columns.items() if kind in (Kind.MONEY, Kind.MONEY_COMMA)]
    money = [name for name in money if schema.get(name) in TEXT_TYPES]
    mixed = mixed_currencies(raw, money, lambda lazy: collect(table, lazy), nulls)
    hint = f"--parse mrr=money; kinds are {', '.join(get_args(WrittenAs))}" if wrong else ""
    wrong += [f'column "{name}": {problem}' for name, problem in mixed.items()]
    if wrong:
        raise AccountDataError(
            f"{table.source}: --parse can't read {'; '.join(wrong)}",
            hint="; ".join([hint] * bool(hint) + [ONE_CURRENCY] * bool(mixed)),
        )
    return Reading.model_validate({"nulls": reading.nulls, "columns": columns})


# ---- columns of dates as days --------------------------------------------------------------------

#: Days since 1970 of the first day of year 1 and the last of year 9999.
_FIRST, _LAST = -719_162, 2_932_896
#: Stand-ins for infinite dates and those beyond these years: a day before and a day after.
_ENDLESS = (_FIRST - 1, _LAST + 1)
_INFINITY = 2**63 - 1
_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}

_DATE_LIKE = r"^(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})(?:[T ].*)?$"
#: Spellings of infinite dates in databases.
_INFINITE = ("infinity", "+infinity", "-infinity", "inf", "-inf")


def endless(name: str) -> pl.Expr:
    """Return whether a day from `with_days` is infinite, or outside the years 1 to 9999."""
    days = pl.col(name).to_physical()
    return (days < _FIRST) | (days > _LAST)


def looks_like_dates(column: pl.Series) -> bool:
    """Return whether a column has known texts, and all of them look like dates in digits."""
    known = column.cast(pl.String).str.strip_chars().drop_nulls()
    return len(known) > 0 and bool(known.str.contains(_DATE_LIKE).all())


def _text_formats(
    table: AccountTable, columns: Iterable[str], stated: str | None
) -> dict[str, str]:
    """Return the date format, or ``iso``, of each text column whose cells are all such dates.

    ISO comes first, then the `stated` format, such as ``%m/%d/%Y``. Without a stated format, the
    order of day and month is inferred where only one order makes all cells dates.
    """
    formats = {}
    for name in columns:
        known = _plain(name, table.nulls).drop_nulls()
        text = known.filter(~known.is_in(_INFINITE))
        parts = text.str.extract_groups(r"^(\d{1,2})([-/.])(\d{1,2})[-/.](\d{4})$").struct
        read = text.str.to_date(stated, strict=False) if stated else pl.lit(None)
        parsed = table.frame.select(
            iso=_of_iso(text, "UTC").is_not_null().all(),
            stated=read.is_not_null().all(),
            last=text.str.contains(r"^\d{1,2}[-/.]\d{1,2}[-/.]\d{4}$").all(),
            first=parts.field("1").cast(pl.Int32).max(),
            second=parts.field("3").cast(pl.Int32).max(),
            sign=parts.field("2").first(),
            signs=parts.field("2").n_unique(),
        )
        facts = collect(table, parsed).row(0, named=True)
        if facts["iso"]:
            formats[name] = "iso"
        elif facts["stated"] and stated:
            formats[name] = stated
        elif stated is None and facts["last"] and facts["signs"] == 1:
            sign, first, second = facts["sign"], facts["first"], facts["second"]
            if 12 < first <= 31 and second <= 12:
                formats[name] = f"%d{sign}%m{sign}%Y"
            elif first <= 12 < second <= 31:
                formats[name] = f"%m{sign}%d{sign}%Y"
    return formats


def with_days(
    table: AccountTable, columns: Iterable[str], *, date_format: str | None, zone: str
) -> AccountTable:
    """Return a table with columns converted to days, and a note for each inferred date format.

    Columns that hold no dates are left as they are. Cost: a pass over the text columns.

    Parameters
    ----------
    columns
        Columns to convert; absent ones are ignored.
    date_format
        Format of text dates that don't have the year first, as ``%d/%m/%Y``; None to infer it.
    zone
        Time zone in which a timestamp with a zone becomes a day.
    """
    wanted = [name for name in dict.fromkeys(columns) if name in table.schema]
    table = _categories_as_text(table, wanted)
    texts = [name for name in wanted if table.schema[name] == pl.String]
    formats = _text_formats(table, texts, date_format)
    days: dict[str, pl.Expr] = {}
    for name in wanted:
        dtype = table.schema[name]
        if isinstance(dtype, pl.Datetime):
            days[name] = _of_moment(pl.col(name), dtype, zone)
        elif dtype == pl.Date:
            days[name] = pl.col(name).to_physical().clip(*_ENDLESS).cast(pl.Int32).cast(pl.Date)
        elif name in formats:
            days[name] = _of_text(_plain(name, table.nulls), formats[name], zone)
    notes = [
        f'Column "{name}": dates are read as {form}, since only so all of them are dates.'
        for name, form in formats.items()
        if form not in ("iso", date_format)
    ]
    return replace(
        table,
        frame=table.frame.with_columns(**days),
        schema=pl.Schema({**table.schema, **dict.fromkeys(days, pl.Date())}),
        notes=(*table.notes, *(note for note in notes if note not in table.notes)),
    )


def _categories_as_text(table: AccountTable, columns: Iterable[str]) -> AccountTable:
    """Return a table with its categorical and enum columns as text."""
    kinds = (pl.Categorical, pl.Enum)
    texts = [name for name in columns if isinstance(table.schema[name], kinds)]
    if not texts:
        return table
    return replace(
        table,
        frame=table.frame.with_columns(pl.col(texts).cast(pl.String)),
        schema=pl.Schema({**table.schema, **dict.fromkeys(texts, pl.String())}),
    )


def _of_moment(x: pl.Expr, dtype: pl.Datetime, zone: str) -> pl.Expr:
    # Integer arithmetic, since Polars' cast to a date fails on an infinite timestamp.
    ticks = x.to_physical()
    days = (ticks // _PER_DAY[dtype.time_unit]).clip(*_ENDLESS)
    # Nanoseconds end in the year 2262, so infinity, their last value, wouldn't be clipped above.
    days = pl.when(ticks >= _INFINITY).then(_ENDLESS[1]).otherwise(days)
    days = pl.when(ticks <= -_INFINITY).then(_ENDLESS[0]).otherwise(days)
    day = days.cast(pl.Int32).cast(pl.Date)
    if dtype.time_zone is None or zone == "UTC":
        return day
    known = days.is_between(_FIRST, _LAST)
    return pl.when(known).then(_in_zone(pl.when(known).then(x), zone)).otherwise(day)


def _in_zone(moment: pl.Expr, zone: str) -> pl.Expr:
    return moment.dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.date()


def _of_text(text: pl.Expr, form: str, zone: str) -> pl.Expr:
    day = _of_iso(text, zone) if form == "iso" else text.str.to_date(form, strict=False)
    low, high = (pl.lit(end, dtype=pl.Int32).cast(pl.Date) for end in _ENDLESS)
    endless = pl.when(text.str.starts_with("-")).then(low).otherwise(high)
    return pl.when(text.is_in(_INFINITE)).then(endless).otherwise(day)


def _plain(name: str, nulls: Collection[str]) -> pl.Expr:
    return cleaned(pl.col(name), nulls).str.to_lowercase()


def _of_iso(text: pl.Expr, zone: str) -> pl.Expr:
    """Return ISO dates and timestamps as days; null for other texts."""
    moment = text.str.to_uppercase().str.replace_all(" ", "T", literal=True)
    # Normalises to 2026-01-31T10:00:00+02:00; seconds, and minutes of the offset, are optional.
    offset = moment.str.replace(r"T?(?:Z|UTC)$", "+00:00")
    offset = offset.str.replace(r"(T\d.*?)T?([+-]\d{2})(?::?(\d{2}))?$", "$1$2:${3}00")
    offset = offset.str.replace(r"(:\d{2})00$", "$1")
    offset = offset.str.replace(r"(T\d{2}:\d{2})([+-])", "$1:00$2")
    zoned = offset.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    dashed = moment.str.replace_all("/", "-", literal=True)
    plain = dashed.str.extract(r"^(\d{4}-\d{1,2}-\d{1,2})(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?$")
    return pl.coalesce(plain.str.to_date("%Y-%m-%d", strict=False), _in_zone(zoned, zone))
