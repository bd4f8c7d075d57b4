"""Results as plain data, for ``--json`` and events; numbers and small HTML tables for people."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "PlainData",
    "apart",
    "arrows",
    "digits",
    "html_sentence",
    "html_table",
    "number",
    "of_one",
    "percent",
    "plain",
    "singular",
    "some",
    "whole",
]

#: Whole numbers from this one on are written with an exponent.
_MOST_DIGITS = 1e15
#: Amounts below this are written with a decimal.
_FEW = 10
#: Most decimals of a percentage that is near 0 or 100.
_MOST_DECIMALS = 2


@dataclass(frozen=True)
class PlainData:
    """Base class of results that can be plain data: fields and some properties, by name."""

    #: Fields that the plain data leaves out, and properties that it has beside the fields.
    _left_out: ClassVar[tuple[str, ...]] = ()
    _beside: ClassVar[tuple[str, ...]] = ()

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        own = [field.name for field in fields(self) if field.name not in self._left_out]
        return {name: plain(getattr(self, name)) for name in (*own, *self._beside)}

    def values(self, names: str) -> dict[str, Any]:
        """Return some fields and properties by name; `names` are separated by blanks."""
        return {name: getattr(self, name) for name in names.split()}


def plain(value: Any) -> Any:
    """Return a value as plain data; results, frames and enumerations in it are converted, too."""
    if isinstance(value, PlainData):
        return value.as_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    if isinstance(value, Enum):
        return value.value
    # A Pydantic model, such as a part of a spec; then a data frame.
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True)
    return value.to_dicts() if hasattr(value, "to_dicts") else value


def digits(value: float, significant: int = 6) -> str:
    """Write a number with so many significant digits, but its integer part with all digits.

    Examples
    --------
    >>> digits(0.1 + 0.2), digits(123456.78, 4), digits(1234567.0), digits(0.0000123)
    ('0.3', '123457', '1234567', '1.23e-05')
    """
    text = f"{value:.{significant}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < _MOST_DIGITS else text


def whole(amount: float) -> str:
    """Write an amount without decimals; below 10 with one, unless it is whole.

    Examples
    --------
    >>> whole(12345.6), whole(3.26), whole(0.04), whole(2.0), whole(0.0)
    ('12,346', '3.3', '<0.1', '2', '0')
    """
    if amount >= _FEW or amount == int(amount):
        return f"{amount:,.0f}"
    text = f"{amount:.1f}"
    return "<0.1" if text == "0.0" else text.removesuffix(".0")


def some(count: int, one: str, several: str | None = None) -> str:
    """Count things; `several` where more than an s tells them from one.

    Examples
    --------
    >>> some(1, "row"), some(1234, "row"), some(1, "account is", "accounts are")
    ('1 row', '1,234 rows', '1 account is')
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"


#: Verbs behind a count of several, and behind a count of one.
_OF_ONE = {
    "are": "is",
    "aren't": "isn't",
    "were": "was",
    "have": "has",
    "stand": "stands",
    "end before they begin": "ends before it begins",
    "begin": "begins",
    "pay": "pays",
}
_ONE = re.compile(rf"(?<![\w.,])1 (\w{{3,}}?)(ie)?s\b(?: ({'|'.join(map(re.escape, _OF_ONE))})\b)?")


def singular(text: str) -> str:
    """Put nouns and verbs behind a count of 1 in the singular, in a text made from a pattern.

    Examples
    --------
    >>> singular("1 rows are of days to come"), singular("21 rows are, of 1 accounts: a")
    ('1 row is of days to come', '21 rows are, of 1 account: a')
    """

    def worded(match: re.Match[str]) -> str:
        verb = "" if match[3] is None else f" {_OF_ONE[match[3]]}"
        return f"1 {match[1]}{'y' if match[2] else ''}{verb}"

    return _ONE.sub(worded, text)


#: The verb of a problem, unless it stands in a quoted name, and one that an "and" adds to it.
_VERB = re.compile(r'"[^"]*"|\b(are|have|equal)\b')
_ONE_DOES = {"are": "is", "have": "has", "equal": "equals"}


def of_one(problem: str) -> str:
    """Put the verb of a problem in the singular, for one row of several: 1 of 301 rows is a total.

    Examples
    --------
    >>> of_one('values of feature "we are" are null'), of_one("accounts have outcomes that are new")
    ('values of feature "we are" is null', 'accounts has outcomes that are new')
    """
    for match in _VERB.finditer(problem):
        if match[1]:
            rest = problem[match.end() :].replace("and are ", "and is ")
            return f"{problem[: match.start()]}{_ONE_DOES[match[1]]}{rest}"
    return problem


def percent(share: float, decimals: int = 0, unit: str = "%") -> str:
    """Write a share in percent; only 1 becomes 100%, and only 0 becomes 0%.

    Any other share that would be rounded to these gets more decimals, up to two.

    Examples
    --------
    >>> percent(0.631), percent(1.0), percent(0.996), percent(0.99996), percent(0.0004, 1)
    ('63%', '100%', '99.6%', '>99.99%', '0.04%')
    """
    for digits_after in range(decimals, max(decimals, _MOST_DECIMALS) + 1):
        text = f"{100 * share:.{digits_after}f}"
        if not 0 < share < 1 or float(text) not in (0, 100):
            return f"{text}{unit}"
    return f"{'<0.01' if share < 0.5 else '>99.99'}{unit}"


def apart(one: float, two: float, unit: str) -> tuple[str, str]:
    """Write two shares in percent: without decimals, or with one if they would look the same.

    Examples
    --------
    >>> apart(0.628, 0.751, "%"), apart(0.628, 0.631, "%"), apart(0.6281, 0.6283, "")
    (('63%', '75%'), ('62.8%', '63.1%'), ('63', '63'))
    """
    for decimals in (0, 1):
        texts = percent(one, decimals, unit), percent(two, decimals, unit)
        if texts[0] != texts[1]:
            return texts
    return percent(one, 0, unit), percent(two, 0, unit)


def number(value: object, *, none: str = "-") -> str:
    """Write a value for people: a dash for null, thousands separated, cents from 100 up.

    Examples
    --------
    >>> number(None), number(12345), number(0.51234), number("A")
    ('-', '12,345', '0.5123', 'A')
    >>> number(655.5495)
    '655.55'
    """
    if value is None:
        return none
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def arrows(text: str) -> str:
    """Write the journal's ``5 -> 12`` as people read it.

    Examples
    --------
    >>> arrows("nps: 5 -> 12")
    'nps: 5 → 12'
    """
    return text.replace(" -> ", " → ")


def html_sentence(text: str) -> str:
    """Return a text as an HTML paragraph."""
    return f"<p>{escape(text)}</p>"


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str) -> str:
    """Return an HTML table for notebooks, escaped; numbers are written by `number`.

    Examples
    --------
    >>> html_table(["name"], [["<b>"]], caption="names")
    '<table><caption>names</caption><tr><th>name</th></tr><tr><td>&lt;b&gt;</td></tr></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(number(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"
