"""The text columns of a table: as the source has them, and as what they are taken for.

A table of a format without types is all text; of a format with types, a column may be text that
holds numbers or dates. What a column is taken for follows from its cells, or from the spec that
reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import polars as pl

from gtmar.accounts.categories import categories_of
from gtmar.accounts.text_values import (
    NULL_MARKERS,
    NUMBER_KINDS,
    SHOWN,
    Content,
    Kind,
    cleaned,
    contents,
    converted,
)
from gtmar.errors import AccountDataError, culprits, nearest
from gtmar.spec.encoders import DaysBeforeEncoder
from gtmar.spec.model import Reading
from gtmar.spec.window import stated_date

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from gtmar.accounts.scan import AccountTable
    from gtmar.spec.model import ScoringSpec

__all__ = ["TEXT_TYPES", "Texts", "settled", "stated_kinds", "texts_for"]

#: Types of columns that hold text.
TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum)
_DATES = (Kind.DATE, Kind.DATETIME)
_COMMA = Kind.DECIMAL_COMMA


@dataclass(frozen=True)
class Texts:
    """Columns of text, and what each is taken for."""

    #: The table, with `columns` as the source has them.
    raw: pl.LazyFrame
    columns: tuple[str, ...]
    #: Whether the source's format has no types, so that markers of nothing stand for null.
    typeless: bool
    #: Whether 12,5 may be a number.
    comma: bool = False
    reading: Reading = field(default_factory=Reading)
    #: What the cells of columns are, where that was looked at.
    found: Mapping[str, Content] = field(default_factory=dict)
    #: What columns are taken for; those of a typed format that aren't here stay as they are.
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    #: Columns of ids: text, and NULL or - an id as any other.
    ids: tuple[str, ...] = ()
    #: Markers of nothing that a column's own categories are called by.
    kept: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def nulls(self) -> tuple[str, ...]:
        """The markers of nothing."""
        return NULL_MARKERS if self.reading.nulls is None else self.reading.nulls

    def read_by(self, reading: Reading) -> Texts:
        """Return the columns as another spec says that cells are read."""
        known = self.found if reading.nulls == self.reading.nulls else {}
        kinds = {name: content.kind for name, content in known.items()}
        kinds |= dict.fromkeys(self.ids, Kind.TEXT)
        return replace(self, reading=reading, found=known, kinds=kinds, kept={})

    def looked_at(
        self, columns: Iterable[str], collect: Callable[[pl.LazyFrame], pl.DataFrame]
    ) -> Texts:
        """Return the columns, some of them taken for what their cells are."""
        new = [name for name in columns if name in self.columns and name not in self.found]
        raw = self.raw.with_columns(pl.col(new).cast(pl.String)) if new else self.raw
        looked = contents(raw, new, collect, nulls=self.nulls, comma=self.comma)
        found = {**self.found, **looked}
        kinds = {**self.kinds, **{name: content.kind for name, content in looked.items()}}
        return replace(self, found=found, kinds=kinds)

    def taken_as(self, kinds: Mapping[str, Kind]) -> Texts:
        """Return the columns, some of them taken for what is stated."""
        stated = {name: kind for name, kind in kinds.items() if name in self.columns}
        return replace(self, kinds={**self.kinds, **stated})

    def identifying(self, columns: Iterable[str]) -> Texts:
        """Return the columns, some of them as ids."""
        ids = tuple(columns)
        return replace(self.taken_as(dict.fromkeys(ids, Kind.TEXT)), ids=(*self.ids, *ids))

    def typed(self) -> pl.LazyFrame:
        """Return the table with its text as what it is taken for."""
        read = []
        for name in self.columns:
            kind = self.kinds.get(name, Kind.TEXT)
            if kind is Kind.TEXT and not self.typeless:
                continue
            kept = self.nulls if name in self.ids else self.kept.get(name, ())
            nulls = [marker for marker in self.nulls if marker not in kept]
            text = cleaned(pl.col(name).cast(pl.String), nulls)
            read.append(converted(text, kind).alias(name))
        return self.raw.with_columns(read) if read else self.raw

    def markers_note(self, columns: Collection[str]) -> str | None:
        """Say which cells of columns are read as unknown; None where none are."""
        parts = []
        for name in self.columns:
            content = self.found.get(name)
            if name not in columns or content is None:
                continue
            if not self.typeless and self.kinds.get(name, Kind.TEXT) is Kind.TEXT:
                continue
            kept = self.nulls if name in self.ids else self.kept.get(name, ())
            markers = {m: n for m, n in content.markers.items() if m not in kept}
            if markers:
                listed = ", ".join(f'{count:,} "{marker}"' for marker, count in markers.items())
                parts.append(f"{listed} in {name}")
        if not parts:
            return None
        return (
            f"Read as unknown: {'; '.join(parts)}. Where one is a value of its own, the spec says "
            "which markers mean nothing, as read: {nulls: []}, or lists it as a category."
        )

    def unlike(self, column: str) -> tuple[str, str] | None:
        """Word what keeps a text column from being numbers, or dates: problem and hint."""
        content = self.found.get(column)
        if content is None or content.nearly is None:
            return None
        kind = content.nearly
        plain = kind in (Kind.INTEGER, Kind.NUMBER)
        what = "dates" if kind in _DATES else "flags" if kind is Kind.BOOLEAN else "numbers"
        problem, hints = what, []
        if kind in NUMBER_KINDS and not plain:
            problem += f" written as {kind}"
            stated = f"read: {{columns: {{{column}: {kind}}}}}"
            hints.append(f"--parse {column}={kind} reads them; in a spec, {stated}")
        if content.other_cells:
            listed = culprits(content.others)
            more = ", ..." if len(content.others) == SHOWN else ""
            cells = f"{content.other_cells:,} of {content.known:,} cells"
            problem += f" but for {cells}: {listed}{more}"
            marks = ",".join(content.others)
            hints.append(f'--nulls "{marks}" reads these as unknown, beside the usual markers')
        return problem, "; ".join(hints)


def stated_kinds(reading: Reading) -> dict[str, Kind]:
    """Return the kinds of columns that a spec states."""
    return {name: Kind(kind) for name, kind in reading.columns.items()}


def settled(table: AccountTable, reading: Reading) -> Reading:
    """Return how cells are to be read, money's decimal sign chosen by the cells.

    Raises
    ------
    AccountDataError
        If a column that is named isn't there or isn't text, or its cells aren't written so.
    """
    wrong: list[str] = []
    columns: dict[str, str] = dict(reading.columns)
    raw = table.frame if table.texts is None else table.texts.raw
    schema = raw.collect_schema()
    for name, stated in reading.columns.items():
        if name not in schema:
            likely = nearest(name, schema.names())
            wrong.append(f'no column "{name}"' + (f', did you mean "{likely}"?' if likely else ""))
            continue
        if schema[name] not in TEXT_TYPES:
            wrong.append(f'column "{name}" is {schema[name]} and no text')
            continue
        ways = [Kind(stated)]
        if ways == [Kind.MONEY]:
            ways.append(Kind.MONEY_COMMA)
        nulls = NULL_MARKERS if reading.nulls is None else reading.nulls
        text = cleaned(pl.col(name).cast(pl.String), nulls)
        read = [converted(text, way) for way in ways]
        odd = [(text.is_not_null() & each.is_null()) for each in read]
        counts = raw.select(
            text.count().alias("known"),
            *(each.sum().alias(f"odd{i}") for i, each in enumerate(odd)),
            (read[0] != read[-1]).sum().alias("unlike"),
            text.filter(odd[0]).unique(maintain_order=True).head(5).implode().alias("shown"),
        )
        found = counts.collect(engine="streaming").row(0, named=True)
        fitting = [way for i, way in enumerate(ways) if not found[f"odd{i}"]]
        if not fitting:
            wrong.append(
                f'column "{name}": {found["odd0"]:,} of {found["known"]:,} cells are not written '
                f"as {stated}: {culprits(found['shown'])}"
            )
        elif len(fitting) > 1 and found["unlike"]:
            wrong.append(
                f'column "{name}": 1.234 may be a thousand or not, and no cell tells; say '
                f"{name}=number or {name}={Kind.MONEY_COMMA}"
            )
        else:
            columns[name] = fitting[0].value
    if wrong:
        raise AccountDataError(
            f"{table.source}: --parse can't read {'; '.join(wrong)}",
            hint="--parse mrr=money; kinds are text, number, percent, decimal-comma, money, "
            "money-comma",
        )
    return Reading.model_validate({"nulls": reading.nulls, "columns": columns})


def texts_for(
    texts: Texts,
    spec: ScoringSpec,
    present: Collection[str],
    collect: Callable[[pl.LazyFrame], pl.DataFrame],
) -> Texts:
    """Return text columns taken for what a spec reads them as.

    Parameters
    ----------
    texts
        The columns.
    spec
        The spec.
    present
        The table's columns.
    collect
        Runs a query over the table.
    """
    categories: dict[str, list[str]] = {}
    values: set[str] = {*spec.outcomes.model_dump().values()}
    dates = {spec.as_of} if spec.as_of else set()
    if spec.window is not None:
        named = [text for text in spec.window.model_dump().values() if text is not None]
        dates |= {text for text in named if not _is_date(text)}
    for name, feature in spec.features.items():
        column = feature.column or name
        listed = categories_of(feature.encode)
        if listed is not None:
            categories.setdefault(column, []).extend(listed)
        elif isinstance(feature.encode, DaysBeforeEncoder):
            dates.add(column)
        else:
            values.add(column)
    lowered = {name.lower() for name in values}
    values = {name for name in present if name.strip().lower() in lowered} - set(categories)
    texts = texts.looked_at(sorted((values | dates) & set(texts.columns)), collect)
    read = {name: texts.found[name].kind for name in values | dates if name in texts.found}
    # What order a date is written in, and in whose time zone, the spec says to `dates`.
    read |= dict.fromkeys(dates, Kind.TEXT)
    # A category stays the text that it is, but for numbers of another country's spelling.
    commas = {n for n in categories if n in texts.found and texts.found[n].kind is _COMMA}
    kinds = {**read, **{n: _COMMA if n in commas else Kind.TEXT for n in categories}}
    codes = [name for name in values if _of_codes(texts, name)]
    if codes:
        # What looks like codes, 007, is to be numbers here: a number if all cells are.
        number = {name: _all_numbers(texts, name) for name in codes}
        row = collect(texts.raw.select(**number)).row(0, named=True)
        kinds |= {name: Kind.NUMBER for name, whole in row.items() if whole}
    kinds |= stated_kinds(texts.reading)
    ids = [spec.id] if spec.id else []
    labels = {getattr(spec.outcomes, role).lower(): spec.labels[role] for role in spec.labels}
    words = {name: list(labels.get(name.strip().lower(), ())) for name in values}
    return replace(texts.taken_as(kinds), kept={**words, **categories}).identifying(ids)


def _of_codes(texts: Texts, name: str) -> bool:
    content = texts.found.get(name)
    return (
        content is not None
        and content.known > 0
        and content.kind is Kind.TEXT
        and content.nearly is None
    )


def _all_numbers(texts: Texts, name: str) -> pl.Expr:
    text = cleaned(pl.col(name).cast(pl.String), texts.nulls)
    return (text.is_null() | converted(text, Kind.NUMBER).is_not_null()).all()


def _is_date(text: str) -> bool:
    try:
        return stated_date(text) is not None
    except ValueError:
        return True
