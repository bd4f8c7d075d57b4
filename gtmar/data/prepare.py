"""A table as a spec reads it: text as values, ids as the texts of their file, dates as days.

Labels become 0 and 1. What isn't settled here stays as it is, for `contract` to refuse with
everything else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.dates import with_days
from gtmar.data.encode import categories_of
from gtmar.data.outcomes import with_labels
from gtmar.data.scan import AccountTable, collect
from gtmar.data.text_columns import (
    NULL_MARKERS,
    TEXT_TYPES,
    Kind,
    Texts,
    cleaned,
    converted,
    stated_kinds,
)
from gtmar.errors import AccountDataError, culprits, nearest
from gtmar.spec.encoders import DaysBeforeEncoder
from gtmar.spec.model import Reading, stated_date

if TYPE_CHECKING:
    from gtmar.spec.model import ScoringSpec

__all__ = ["prepared", "read_for", "settled"]


def prepared(table: AccountTable, spec: ScoringSpec, *, outcomes: bool = True) -> AccountTable:
    """Return a table with the columns that a spec reads in the types that it reads them in.

    A table that is only scored needs no `outcomes`. Prepared once more a table is the same; what
    was made of its columns is among its notes.
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
    dated = [
        feature.column or name
        for name, feature in spec.features.items()
        if isinstance(feature.encode, DaysBeforeEncoder)
    ]
    dated += [spec.as_of] if spec.as_of else []
    if window and spec.window is not None:
        named = [text for text in spec.window.model_dump().values() if text is not None]
        dated += [text for text in named if not _is_date(text)]
    return dated


def read_for(table: AccountTable, spec: ScoringSpec) -> AccountTable:
    """Return a table with its text read as a spec wants it.

    A column of categories stays the text that it is; what is to be a number becomes one where all
    of its cells are. Dates stay text, for `dates` to read. Columns of formats that have types are
    left as they are, but for text that is to be a number.
    """
    table = table.with_text(spec.id)
    texts = table.texts_by(spec.read)
    categories: dict[str, list[str]] = {}
    values = {*spec.outcomes.model_dump().values()}
    dates = set(_dated(spec))
    for name, feature in spec.features.items():
        column, listed = feature.column or name, categories_of(feature.encode)
        if listed is not None:
            categories.setdefault(column, []).extend(listed)
        elif not isinstance(feature.encode, DaysBeforeEncoder):
            values.add(column)
    lowered = {name.lower() for name in values}
    values = {name for name in table.columns if name.strip().lower() in lowered} - set(categories)
    # In files without types any column may show the decimal sign.
    read = texts.columns if texts.typeless else sorted((values | dates) & set(texts.columns))
    texts = texts.looked_at(read, lambda lazy: collect(table, lazy))
    contents = texts.contents
    kinds = {name: contents[name].kind for name in values if name in contents}
    # What order a date is written in, and in whose time zone, the spec says to `dates`.
    kinds |= dict.fromkeys(dates, Kind.TEXT)
    # A category stays the text that it is, but for numbers of another country's spelling.
    comma = Kind.DECIMAL_COMMA
    kinds |= {
        name: comma if name in contents and contents[name].kind is comma else Kind.TEXT
        for name in categories
    }
    kinds |= _numbers_like_codes(table, texts, values)
    kinds |= stated_kinds(texts.reading)
    labels = {getattr(spec.outcomes, role).lower(): spec.labels[role] for role in spec.labels}
    kept = {name: list(labels.get(name.strip().lower(), ())) for name in values} | categories
    texts = replace(texts.taken_as(kinds), kept=kept).identifying([spec.id] if spec.id else [])
    return table.read_as(texts)


def _numbers_like_codes(table: AccountTable, texts: Texts, values: set[str]) -> dict[str, Kind]:
    """Return columns to be read as numbers whose cells are, though 007 looks like a code."""
    contents = texts.contents
    codes = [
        n for n in values if n in contents and contents[n].kind is Kind.TEXT and contents[n].known
    ]
    cells = {n: cleaned(pl.col(n).cast(pl.String), texts.nulls) for n in codes}
    whole = {
        name: (text.is_null() | converted(text, Kind.NUMBER).is_not_null()).all()
        for name, text in cells.items()
        if contents[name].nearly is None
    }
    if not whole:
        return {}
    row = collect(table, texts.raw.select(**whole)).row(0, named=True)
    return {name: Kind.NUMBER for name, numbers in row.items() if numbers}


def _is_date(text: str) -> bool:
    try:
        return stated_date(text) is not None
    except ValueError:
        return True


def settled(table: AccountTable, reading: Reading) -> Reading:
    """Return how cells are to be read, money's decimal sign chosen by the cells.

    Columns that aren't there or aren't text, or whose cells aren't written so, are refused at once.
    """
    wrong: list[str] = []
    columns: dict[str, str] = dict(reading.columns)
    raw = table.frame if table.texts is None else table.texts.raw
    schema = raw.collect_schema()
    nulls = NULL_MARKERS if reading.nulls is None else reading.nulls
    for name, stated in reading.columns.items():
        if name not in schema:
            likely = nearest(name, schema.names())
            wrong.append(f'no column "{name}"' + (f', did you mean "{likely}"?' if likely else ""))
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
        elif (
            len(fitting) > 1
            and counted["thousands."]
            and (counted["plain"] or counted["thousands,"])
        ):
            wrong.append(
                f'column "{name}": 1.234 may be a thousand or not, and no cell tells; say '
                f"{name}=number or {name}={Kind.MONEY_COMMA}"
            )
        elif len(fitting) > 1 and counted["thousands."]:
            # An amount with its currency has no three decimals.
            columns[name] = Kind.MONEY_COMMA.value
        else:
            columns[name] = fitting[0].value
    if wrong:
        raise AccountDataError(
            f"{table.source}: --parse can't read {'; '.join(wrong)}",
            hint="--parse mrr=money; kinds are text, number, percent, decimal-comma, money, "
            "money-comma",
        )
    return Reading.model_validate({"nulls": reading.nulls, "columns": columns})
