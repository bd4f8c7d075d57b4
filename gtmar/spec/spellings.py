"""Spellings of values: the categories of a spec match by value, not by spelling.

10, 10.0, "10" and a decimal 10.00 are one category; so are true and True, and also 1 if the spec
lists true and false and no other number. Other texts match exactly: "01" is not "1". Two categories
of one spec that are equal as numbers, such as "1.1" and "1.10", match as texts.
"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["number_spellings", "value_form", "value_forms"]

#: A plain number: without plus sign, leading zeros and exponent.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?", re.ASCII)
_FLAGS = {"true": "1", "false": "0"}


def value_form(text: str) -> str | None:
    """Return the canonical form of a plain number or a flag; None for any other text.

    Examples
    --------
    >>> value_form("10.00"), value_form("-0.0"), value_form("True"), value_form("01")
    ('10', '0', 'true', None)
    """
    if text.lower() in _FLAGS:
        return text.lower()
    if not _NUMBER.fullmatch(text):
        return None
    form = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if form == "-0" else form


def value_forms(categories: Iterable[str]) -> dict[str, str]:
    """Return a spec's categories by the canonical forms of values that match them.

    Categories that are equal as numbers have no entry, since they match by spelling alone.
    """
    formed = [(form, name) for name in categories if (form := value_form(name)) is not None]
    counted = Counter(form for form, _ in formed)
    forms = {form: name for form, name in formed if counted[form] == 1}
    for word, digit in _FLAGS.items():
        for form, other in ((word, digit), (digit, word)):
            if form in forms and other not in counted and set(counted) <= {*_FLAGS, "0", "1"}:
                forms[other] = forms[form]
    return forms


def number_spellings(form: str) -> list[str]:
    """Return the texts that SQL engines write for a value, given its canonical form.

    They differ by trailing zeros, exponents, and the spelling of flags.
    """
    if form in _FLAGS:
        return [form, form.capitalize(), form.upper(), form[0]]
    padded = [f"{form}{'' if '.' in form else '.'}{'0' * zeros}" for zeros in range(1, 11)]
    sign, digits, exponent = Decimal(form).normalize().as_tuple()
    shown = "".join(map(str, digits))
    power = len(shown) - 1 + int(exponent)
    minus, fraction = "-" * sign, shown[1:]
    java = f"{minus}{shown[0]}.{fraction or 0}E{power}"
    short = f"{minus}{shown[0]}{'.' * bool(fraction)}{fraction}e{power:+03d}"
    return [form, *padded, java, short, *(["-0", "-0.0"] if form == "0" else [])]
