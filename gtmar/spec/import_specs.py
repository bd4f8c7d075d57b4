"""Imports specs of other tools: JSON that includes results of a run, and weights as CSV.

Both are converted to a spec's plain data, with the line of each key, which `document` validates
like any other spec.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gtmar.errors import culprits, did_you_mean
from gtmar.plain_data import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["PASSED_OVER", "Draft", "encoded_features", "from_csv", "from_tools"]

#: Keys that may hold the spec.
_WRAPPERS = ("spec", "best_spec")
#: Keys that may hold bare weights.
_BARE = ("weights", "weights_snapshot")
#: Outcome by the other tools' key for its column.
_OUTCOMES = {
    "retain_column": "retained",
    "churn_column": "churned",
    "mrr_column": "mrr",
    "ltv_column": "ltv",
}
#: Keys about the run that produced a spec, which are left out.
PASSED_OVER = (
    *("_meta", "metadata", "baseline_value", "best_value", "improvement", "metrics"),
    *("experiment_id", "experiments", "n_experiments", "wins", "seed", "evaluation_version"),
    *("generated_at", "timestamp"),
)
#: Default tiers where only weights are given.
_TIERS = {
    "A": {"min": 60, "max": 101},
    "B": {"min": 35, "max": 60},
    "C": {"min": 15, "max": 35},
    "D": {"min": 0, "max": 15},
}
_ROOM = 25
_REQUIRED = ("feature", "weight")
_COLUMNS = (*_REQUIRED, "min", "max")
_NUMBER = re.compile(r"[-+]?\d+(?:\.0*)?")

_Place = tuple[str | int, ...]


@dataclass
class Draft:
    """A spec's plain data before validation."""

    data: dict[str, Any]
    #: Line by path of keys, as far as known.
    lines: dict[_Place, int]
    #: Problems of the import: line and message.
    problems: list[tuple[int, str]] = field(default_factory=list)
    hint: str | None = None
    #: Keys that were left out although they have a value.
    passed_over: list[str] = field(default_factory=list)


def from_tools(data: Mapping[str, Any], lines: Mapping[_Place, int], *, name: str) -> Draft:
    """Convert the JSON of another tool to a spec's data; a spec in our own form is unchanged.

    Parameters
    ----------
    data
        The whole object: a spec, a spec under ``spec`` or ``best_spec``, or bare weights under
        ``weights`` or ``weights_snapshot``. Keys of `PASSED_OVER` are left out and listed in
        `Draft.passed_over`. Unknown keys are kept, so that validation refuses them.
    lines
        Line by path of keys.
    name
        The model's name, for bare weights without one.
    """
    draft = Draft(dict(data), dict(lines))
    if "features" not in data:
        for key in _WRAPPERS:
            if isinstance(data.get(key), dict):
                inner = draft.data.pop(key)
                outer, needed = draft.data, "required_columns"
                if isinstance(outer.get(needed), list) and isinstance(inner.get(needed), list):
                    inner = inner | {needed: [*outer.pop(needed), *inner[needed]]}
                draft.passed_over += [k for k in outer if k in inner and outer[k] != inner[k]]
                draft.data |= inner
                draft.lines |= {p[1:]: n for p, n in lines.items() if len(p) > 1 and p[0] == key}
                break
    given = draft.data
    bare = next((key for key in _BARE if isinstance(given.get(key), dict)), None)
    if "features" not in given and bare is not None:
        weights = given.pop(bare)
        given["features"] = {feature: _feature(weight) for feature, weight in weights.items()}
        below = {path[1:]: line for path, line in draft.lines.items() if path[:1] == (bare,)}
        draft.lines |= {("features", *path): line for path, line in below.items()}
        given.setdefault("model", name)
        given.setdefault("tiers", _TIERS)
    draft.passed_over += [key for key in PASSED_OVER if given.pop(key, None) is not None]
    if given.get("required_columns", ()) is None:
        del given["required_columns"]
    metric = given.pop("metric", None)
    if metric is not None:
        if given.setdefault("objective", metric) != metric:
            draft.passed_over.append("metric")
        if ("metric",) in draft.lines:
            draft.lines.setdefault(("objective",), draft.lines["metric",])
    columns = {role: given.pop(key) for key, role in _OUTCOMES.items() if key in given}
    if columns:
        own = given.get("outcomes") or {}
        if isinstance(own, dict):
            given["outcomes"] = {**columns, **own}
            draft.passed_over += [
                key
                for key, role in _OUTCOMES.items()
                if role in columns and columns[role] != given["outcomes"][role]
            ]
    draft.passed_over = list(dict.fromkeys(draft.passed_over))
    return draft


def encoded_features(data: Mapping[str, Any]) -> list[str]:
    """Return the features whose points aren't simply the column's number times the weight.

    Such a feature has an encoder, is a rule, is in a group, or gives unknown values a value. Vetoes
    follow the features. Tools that read only the weights compute other scores from such a spec.

    Parameters
    ----------
    data
        A spec as plain data, with or without its defaults.
    """
    groups = (data.get("groups") or {}).values()
    grouped = {name for group in groups for name in group["features"]}
    return [
        *(
            name
            for name, feature in data["features"].items()
            if (feature.get("encode") or {}).get("kind", "identity") != "identity"
            or feature.get("missing", "error") != "error"
            or feature.get("rule") is not None
            or name in grouped
        ),
        *(f"veto: {veto['rule']}" for veto in data.get("veto") or ()),
    ]


def _feature(weight: object, low: int | None = None, high: int | None = None) -> dict[str, Any]:
    """Return a feature with default bounds: from 0 to 25, or twice the weight, on its side of 0."""
    if isinstance(weight, float) and weight.is_integer():
        weight = int(weight)
    size = weight if isinstance(weight, int) else 0
    reach = max(_ROOM, 2 * abs(size))
    sides = (-reach, 0) if size < 0 else (0, reach)
    return {
        "weight": weight,
        "min": sides[0] if low is None else low,
        "max": sides[1] if high is None else high,
    }


def from_csv(text: str, *, name: str) -> Draft:
    """Read weights from CSV: a header ``feature,weight``, optionally ``min`` and ``max``, and rows.

    Parameters
    ----------
    text
        The file's text; the separator is a comma, semicolon or tab.
    name
        The model's name.

    Returns
    -------
    Draft
        Features with identity encoders, default tiers, and default bounds where a row has none.
        Its problems are in `Draft.found`.
    """
    draft = Draft({"model": name, "max_score": 100, "features": {}, "tiers": _TIERS}, {})
    text = text.removeprefix("\ufeff")
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows += [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as err:
        draft.problems.append((reader.line_num, f"not readable as CSV: {err}"))
        return draft
    if not rows:
        draft.problems.append((0, "the file is empty; expected a head feature,weight"))
        return draft
    line, cells = rows[0]
    head = [cell.strip().lower() for cell in cells]
    draft.problems += [(line, problem) for problem in _head_problems(head)]
    if draft.problems:
        return draft
    if len(rows) == 1:
        draft.problems.append((line, "no feature below the head"))
    _read_rows(draft, head, rows[1:])
    return draft


def _head_problems(head: list[str]) -> Iterable[str]:
    missing = [name for name in _REQUIRED if name not in head]
    if missing:
        yield f"the head lacks {culprits(missing)}; expected feature,weight, also min and max"
    for name in dict.fromkeys(head):
        if name not in _COLUMNS:
            yield f'unknown column "{name}"' + did_you_mean(name, _COLUMNS, before="; ")
        elif head.count(name) > 1:
            yield f'column "{name}" stands twice'


def _read_rows(draft: Draft, head: list[str], rows: list[tuple[int, list[str]]]) -> None:
    """Add one feature per row to the draft, or the row's problems."""
    shares = []
    at: dict[str, int] = {}
    for line, cells in rows:
        stripped = [cell.strip() for cell in cells]
        row = dict(zip(head, stripped, strict=False))
        feature = row.get("feature", "")
        problems = []
        if any(stripped[len(head) :]):
            problems.append(f"{some(len(stripped), 'cell')} under a head of {len(head)}")
        if not feature:
            problems.append("no name of a feature")
        elif feature in at:
            problems.append(f'feature "{feature}" stands on line {at[feature]} already')
        at.setdefault(feature, line)
        numbers: dict[str, int | None] = {"weight": None, "min": None, "max": None}
        for key in numbers:
            cell = row.get(key, "")
            if _NUMBER.fullmatch(cell):
                numbers[key] = int(cell.partition(".")[0])
            elif cell:
                problems.append(f'{key} of "{feature}" must be a whole number, got "{cell}"')
                shares.append(_is_share(cell))
            elif key == "weight":
                problems.append(f'"{feature}" has no weight')
        bounds = _feature(numbers["weight"], numbers["min"], numbers["max"])
        if not problems and not bounds["min"] <= bounds["weight"] <= bounds["max"]:
            problems.append(
                f'weight {bounds["weight"]} of "{feature}" is outside its bounds '
                f"[{bounds['min']}, {bounds['max']}]"
            )
        draft.problems += [(line, problem) for problem in problems]
        if not problems:
            draft.data["features"][feature] = bounds
            draft.lines["features", feature] = line
    if shares and all(shares):
        draft.hint = "weights are points: write 25 for 0.25"


def _is_share(cell: str) -> bool:
    try:
        return -1 < float(cell) < 1
    except ValueError:
        return False
