"""Rules: one to three conditions on columns, written as text and joined by ``and``.

sqlglot parses a text such as ``logins_30d < 3 and tenure_months < 6`` to a tree. Only the few forms
below are accepted, and a rule is never run as code. An unknown value, null or NaN, meets neither a
comparison or list nor its negation; only ``is missing`` holds for it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from gtmar.errors import nearest
from gtmar.spec.spellings import value_form

if TYPE_CHECKING:
    from sqlglot import Token, exp

__all__ = ["MOST_CONDITIONS", "Condition", "Rule"]

#: Most conditions of a rule, so that people can still read it.
MOST_CONDITIONS = 3
_NUMBERS = ("<", "<=", ">", ">=", "=", "!=")
_LISTS = ("in", "not in")
_PRESENCE = ("is missing", "is not missing")
_FORMS = (
    "write conditions as logins < 3, plan in ('a', 'b') or seats is missing, joined by and; a "
    'name with blanks or signs in double quotes, as "net mrr"'
)
#: Limits for the parser's input: characters, and signs that make it recurse.
_LONGEST, _MOST_NESTED = 10_000, 100


@dataclass(frozen=True)
class Condition:
    """A condition on one column: a comparison with a number, a list of categories, or presence.

    Parameters
    ----------
    column
        The column's name, not empty.
    operator
        ``<``, ``<=``, ``>``, ``>=``, ``=`` or ``!=`` for a number; ``in`` or ``not in`` for
        categories; ``is missing`` or ``is not missing``.
    value
        A finite number; or categories, which are sorted and deduplicated; or None.

    Raises
    ------
    ValueError
        If the column is empty, or operator and value don't fit together.

    Examples
    --------
    >>> str(Condition("logins", "<", 3.0)), str(Condition("plan", "in", ("gold",)))
    ('logins < 3', "plan = 'gold'")
    """

    column: str
    operator: str
    value: float | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.operator in _NUMBERS:
            fits = isinstance(self.value, int | float) and math.isfinite(self.value)
        elif self.operator in _LISTS:
            fits = isinstance(self.value, tuple) and bool(self.value)
        else:
            fits = self.operator in _PRESENCE and self.value is None
        if not fits or not self.column:
            raise ValueError(f"no condition: {self.column!r} {self.operator} {self.value!r}")
        if isinstance(self.value, tuple):
            object.__setattr__(self, "value", tuple(sorted(set(self.value))))
        elif self.value is not None:
            # Adding 0.0 turns -0.0 into 0.0.
            object.__setattr__(self, "value", float(self.value) + 0.0)

    @property
    def categories(self) -> tuple[str, ...]:
        """The listed categories; empty for another kind of condition."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def number(self) -> float | None:
        """The number of a comparison; None for another kind of condition."""
        return None if isinstance(self.value, tuple) else self.value

    def __str__(self) -> str:
        operator, listed = self.operator, [_quoted(each, "'") for each in self.categories]
        if self.number is not None:
            listed = [_digits(self.number)]
        elif len(listed) == 1:
            operator = "=" if operator == "in" else "!="
        elif listed:
            listed = [f"({', '.join(listed)})"]
        return " ".join([_name(self.column), operator, *listed])


@dataclass(frozen=True)
class Rule:
    """Conditions that must all hold.

    Raises
    ------
    ValueError
        If there is no condition, or more than `MOST_CONDITIONS`.

    Examples
    --------
    >>> rule = Rule.parse("3>logins_30d AND plan in ('b','a')")
    >>> str(rule), rule.columns
    ("logins_30d < 3 and plan in ('a', 'b')", ('logins_30d', 'plan'))
    """

    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.conditions) <= MOST_CONDITIONS:
            raise ValueError(
                f"a rule has 1 to {MOST_CONDITIONS} conditions, got {len(self.conditions)}"
            )

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parse a rule's text.

        Raises
        ------
        ValueError
            If it is no rule. The message names the character and suggests a correction.
        """
        return _parsed(text)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the rule reads, each once, in the order of the conditions."""
        return tuple(dict.fromkeys(each.column for each in self.conditions))

    @property
    def canonical(self) -> str:
        """The rule's text with sorted conditions, for ids that ignore their order."""
        return " and ".join(sorted(map(str, self.conditions)))

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions))


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace(quote, quote * 2) + quote


def _digits(number: float) -> str:
    whole = number.is_integer() and abs(number) < 1e15
    return str(int(number)) if whole else repr(number)


@lru_cache(maxsize=4096)
def _name(column: str) -> str:
    """Return a column's name as a rule writes it: quoted unless it parses back bare."""
    if re.fullmatch(r"[A-Za-z_]\w*", column, re.ASCII):
        from sqlglot import TokenType, tokenize

        # SQL keywords need quotes. ANY and MISSING are plain names to the tokenizer, but not here.
        if column.upper() not in ("ANY", "MISSING") and [
            token.token_type for token in tokenize(column)
        ] == [TokenType.VAR]:
            return column
    return _quoted(column, '"')


# ---- parsing ------------------------------------------------------------------------------------

#: Operators of other languages, and the operator to suggest for each.
_MEANT = {"=>": ">=", "=<": "<=", "≥": ">=", "≤": "<=", "≠": "!=", "&&": "and", "&": "and"}
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Rule:
    from sqlglot import exp, parse_one, tokenize
    from sqlglot.errors import ParseError, SqlglotError

    if not text.strip():
        raise ValueError(f"the rule is empty; {_FORMS}")
    if len(text) > _LONGEST:
        raise ValueError(f"the rule has {len(text):,} characters, more than {_LONGEST:,}")
    try:
        tokens = tokenize(text)
    except SqlglotError as err:
        raise ValueError(f"the rule has a quote or a comment without an end; {_FORMS}") from err
    reader = _RuleText(text, tokens)
    if sum(token.text.lower() in ("(", "[", "{", "-", "+", "~", "not") for token in tokens) > (
        _MOST_NESTED
    ):
        raise ValueError(f"the rule has more than {_MOST_NESTED} brackets and signs; {_FORMS}")
    for token in tokens:
        if token.comments:
            raise reader.fault(token.start, token.end, "a rule has no comments")
    try:
        tree = parse_one(text, into=exp.Condition)
    except ParseError as err:
        at = {(e.get("line"), e.get("col")) for e in err.errors}
        wrong_tokens = [t for t in tokens if (t.line, t.col) in at] or tokens[-1:]
        if not wrong_tokens:
            raise ValueError(f"the rule is empty; {_FORMS}") from err
        raise reader.unexpected(wrong_tokens[0]) from err
    except (SqlglotError, RecursionError, AttributeError) as err:
        # The last one is the parser's own fault, at "{:}".
        raise ValueError(f"no rule; {_FORMS}") from err
    parts = list(tree.flatten()) if isinstance(tree, exp.And) else [tree]
    if len(parts) > MOST_CONDITIONS:
        start, _ = reader.span(parts[MOST_CONDITIONS])
        problem = f"a rule has {MOST_CONDITIONS} conditions at most, got {len(parts)}"
        raise reader.fault(start, len(text) - 1, problem)
    return Rule(tuple(reader.condition(part) for part in parts))


class _RuleText:
    """A rule's text and tokens, with methods to convert nodes of the parsed tree to conditions."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text, self.tokens = text, tokens

    def fault(self, start: int, end: int, problem: str) -> ValueError:
        """Return the error for the characters from `start` to `end`, marked within the text."""
        before, after = self.text[max(0, start - 30) : start], self.text[end + 1 : end + 31]
        marked = f"{before}>>{self.text[start : min(end, start + 59) + 1]}<<{after}"
        marked = " ".join(marked.split())
        return ValueError(f"character {start + 1}, {marked}: {problem}")

    def unexpected(self, token: Token) -> ValueError:
        meant = _MEANT.get(token.text)
        if meant is None:
            likely = nearest(token.text, ("and", "in", "is", "not", "missing"))
            meant = likely if likely != token.text.lower() else None
        hint = f'did you mean "{meant}"?' if meant else _FORMS
        return self.fault(token.start, token.end, f"not understood; {hint}")

    def span(self, node: exp.Expr) -> tuple[int, int]:
        """Return the first and last character of a node; the whole text if the parser has none."""
        places = [each.meta for each in node.walk() if "start" in each.meta]
        if not places:
            return 0, len(self.text) - 1
        return min(p["start"] for p in places), max(p["end"] for p in places)

    def condition(self, node: exp.Expr) -> Condition:
        from sqlglot import exp

        compared: dict[type[exp.Expr], str] = {
            exp.LT: "<",
            exp.LTE: "<=",
            exp.GT: ">",
            exp.GTE: ">=",
            exp.EQ: "=",
            exp.NEQ: "!=",
        }
        node = node.unnest()
        negated = isinstance(node, exp.Not)
        inner = node.this.unnest() if negated else node
        if isinstance(inner, exp.Is):
            column, of = self.column(inner.this), inner.expression
            bare = isinstance(of, exp.Column) and not of.this.quoted and of.name.lower()
            if isinstance(of, exp.Null) or bare == "missing":
                return Condition(column, _PRESENCE[negated])
            raise self.fault(*self.span(of), "after is stands missing or not missing")
        if isinstance(inner, exp.In) and inner.expressions:
            listed = tuple(self.category(each) for each in inner.expressions)
            return Condition(self.column(inner.this), _LISTS[negated], listed)
        if type(inner) not in compared or negated:
            raise self.other(node)
        left, operator, right = inner.this, compared[type(inner)], inner.expression
        if not isinstance(left, exp.Column) and isinstance(right, exp.Column):
            left, operator, right = right, _FLIPPED[operator], left
        column = self.column(left)
        if isinstance(right, exp.Literal) and right.is_string:
            if operator not in ("=", "!="):
                problem = f"{operator} compares with a number, and '{right.name}' is a text"
                raise self.fault(*self.span(right), problem)
            return Condition(column, _LISTS[operator == "!="], (right.name,))
        return Condition(column, operator, self.number(right))

    def column(self, node: exp.Expr) -> str:
        from sqlglot import exp

        start, end = self.span(node)
        if isinstance(node, exp.Column) and len(node.parts) == 1:
            return node.name
        whole = self.text[start : end + 1]
        if isinstance(node, exp.Column | exp.Sub | exp.Div | exp.Mod | exp.Dot):
            problem = f'expected a column; a name with signs is quoted, as "{whole}"'
            raise self.fault(start, end, problem)
        problem = f'expected a column, got {whole}; quote the name, as "{whole}", if it is one'
        raise self.fault(start, end, problem)

    def number(self, node: exp.Expr) -> float:
        """Return the number that a node states; true is 1 and false is 0."""
        from sqlglot import exp

        sign = 1.0
        if isinstance(node, exp.Neg):
            sign, node = -1.0, node.this
        if isinstance(node, exp.Boolean) and sign > 0:
            return float(bool(node.this))
        start, end = self.span(node)
        if isinstance(node, exp.Literal) and not node.is_string:
            value = sign * float(node.name)
            if math.isfinite(value):
                return value
            raise self.fault(start, end, "no finite number")
        if isinstance(node, exp.Null) or (
            isinstance(node, exp.Column) and node.name.lower() in ("missing", "null", "nan")
        ):
            raise self.fault(start, end, "an unknown value is asked for by is missing")
        if isinstance(node, exp.Column):
            name = node.name.replace("'", "''")
            problem = f"two columns are not compared; is it a text? Then quote it, as '{name}'"
            raise self.fault(start, end, problem)
        raise self.fault(start, end, "expected a number or a quoted text")

    def category(self, node: exp.Expr) -> str:
        """Return a category of a list; a number becomes its canonical text."""
        from sqlglot import exp

        if isinstance(node, exp.Literal) and node.is_string:
            return node.name
        number = self.number(node)
        text = _digits(number)
        return value_form(text) or text

    def other(self, node: exp.Expr) -> ValueError:
        """Return the error for a node that is no form of a condition."""
        from sqlglot import exp

        start, end = self.span(node)
        within = [token for token in self.tokens if start <= token.start <= end]
        for token in within:
            if token.text in _MEANT:
                return self.unexpected(token)
        if isinstance(node, exp.Or):
            [token, *_] = [t for t in within if t.text.lower() == "or"] or within
            problem = 'conditions are joined by "and" alone; write a rule for each part'
            return self.fault(token.start, token.end, problem)
        if isinstance(node, exp.Between):
            problem = "write between as two conditions, a >= 1 and a <= 2"
            return self.fault(start, end, problem)
        if isinstance(node, exp.Column):
            problem = f"nothing is asked of it; a flag is compared, as {node.name} = 1"
            return self.fault(start, end, problem)
        return self.fault(start, end, f"no condition of a rule; {_FORMS}")
