"""What each command prints with ``--json``, as JSON Schema.

Types and descriptions of keys are read off the code: from fields and properties of the class that a
command returns, and from columns of the SQL library's files. This module lists which of them each
command prints, and the keys that it adds.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from functools import cache
from inspect import get_annotations, getsource
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import polars as pl

from gtmar import runs
from gtmar.integrations.jsonl_import import Imported, Undone
from gtmar.integrations.lakehouse import Published
from gtmar.integrations.mlflow_tracking import Logged
from gtmar.journal.compaction import Compaction
from gtmar.journal.front import Front
from gtmar.journal.review import Review
from gtmar.journal.sql_library import find_file
from gtmar.journal.verify import Verification
from gtmar.plain_data import PlainData
from gtmar.runs.kept_scores import Live, Measurement
from gtmar.runs.side_by_side import Customers
from gtmar.spec import ScoringSpec
from gtmar.stats.interval import Interval
from gtmar.validation.gates import Gate, Gates
from gtmar.validation.intervals import Uncertainty
from gtmar.validation.psi import Shift
from gtmar.validation.reliability import Reliability
from gtmar.validation.search_pays import SearchPays

__all__ = ["json_schemas"]


@dataclass(frozen=True, eq=False)
class _Keys:
    #: Type of each key, and its description where there is one.
    """The keys of an object."""

    types: dict[str, Any]
    meanings: dict[str, str] = field(default_factory=dict)
    #: Keys that may be left out.
    optional: frozenset[str] = frozenset()


#: Names in annotations of the classes below that their modules import only for type checking.
_KINDS = (date, datetime, Customers, Gate, Gates, Interval, Live, Measurement, Reliability, Shift)
_MORE = (ScoringSpec, SearchPays, Uncertainty)
_NAMES = vars(runs) | {each.__name__: each for each in (*_KINDS, *_MORE)}
_NAMES |= {"Any": Any, "Literal": Literal, "Row": dict[str, Any], "pl": pl}


def _keys(of: object = None, more: str = "", **own: Any) -> _Keys:
    """Return the keys of a class's plain data, or of another `_Keys`, and further ones.

    Parameters
    ----------
    of
        A dataclass: its fields, with what `PlainData` leaves out and adds. Or a `_Keys`, copied.
    more
        Names of further properties of the class, with blanks between them. After ``=``, the names
        of all fields and properties that are printed.
    own
        Further keys, with their types.
    """
    types: dict[str, Any] = {}
    meanings: dict[str, str] = {}
    optional: frozenset[str] = frozenset()
    if isinstance(of, _Keys):
        types, meanings, optional = dict(of.types), dict(of.meanings), of.optional
    elif isinstance(of, type):
        fields = [] if more.startswith("=") else [each.name for each in dataclasses.fields(of)]
        if issubclass(of, PlainData) and fields:
            fields = [name for name in fields if name not in of._left_out]
            more = " ".join((*of._beside, more))
        comments = _comments(of)
        for name in (*fields, *more.removeprefix("=").split()):
            attribute = of.__dict__.get(name) if name not in fields else None
            if isinstance(attribute, property):
                types[name] = _read(of, str(attribute.fget.__annotations__["return"]))
                comments[name] = (attribute.fget.__doc__ or "").strip().partition("\n")[0]
            else:
                types[name] = _annotation(of, name)
            if name in comments:
                meanings[name] = re.sub(r"\bNone\b", "null", comments[name])
    return _Keys(types | own, meanings, optional)


def _comments(of: type) -> dict[str, str]:
    """Return the ``#:`` comments above the fields of a class, by field."""
    comments: dict[str, str] = {}
    for each in filter(dataclasses.is_dataclass, of.__mro__):
        # `getsource` of a class would parse its whole module.
        module = getsource(sys.modules[each.__module__])
        body = re.search(rf"^class {each.__name__}\b.*\n(?:(?:[ )].*)?\n)*", module, re.M)
        text = body[0] if body else ""
        for comment, name in re.findall(r"((?:^    #: .*\n)+)    (\w+):", text, re.M):
            comments.setdefault(name, " ".join(re.findall(r"#: (.*)", comment)))
    return comments


def _annotation(of: type, name: str) -> Any:
    owner = next(each for each in of.__mro__ if name in get_annotations(each))
    return _read(owner, get_annotations(owner)[name])


def _read(of: type, annotation: str) -> Any:
    return eval(annotation, vars(sys.modules[of.__module__]), _NAMES)


def _row(query: str, **own: Any) -> _Keys:
    """Return the columns of a query in the SQL library as keys, and further ones by type."""
    columns = find_file(f"journal/{query}").columns
    meanings = {each.name: each.meaning for each in columns}
    return _Keys({each.name: _column(each.type) | None for each in columns} | own, meanings)


def _column(kind: str) -> Any:
    """Return the Python type of a DuckDB type."""
    if kind.endswith("[]"):
        return list[str]
    if kind.startswith("map("):
        return dict[str, _column(kind.split(", ")[1].removesuffix(")")) | None]  # type: ignore[misc] # made at run time
    plain = {"bigint": int, "integer": int, "double": float, "boolean": bool}
    return plain.get(kind, str)


def _maybe(kind: Any) -> tuple[Any, ...]:
    return kind, None


@dataclass(frozen=True, eq=False)
class _Plain:
    """A class of which all fields are printed, and so of the classes within it."""

    of: type


_TEXTS: Any = list[str]
_COUNTS: Any = dict[str, int]
_ANY: Any = dict[str, Any]
_FILE: dict[str, Any] = {"output": str}
_MAYBE_FILE: dict[str, Any] = {"output": str | None}


@cache
def _shapes() -> dict[type, Any]:
    """Return the keys of classes that print other keys than their fields, by class."""
    return {
        Gate: _keys(Gate, "= name limit found outcome mrr_share cause"),
        Gates: _keys(Gates, max_segment_drop=float),
        Live: _keys(Live, "= since author expect experiment", spec_id=str, score_id=str),
        Reliability: dataclasses.replace(_keys(Reliability), optional=frozenset({"several"})),
        Shift: _keys(Shift, most=str),
        runs.TimeToLeaving: _Plain(runs.TimeToLeaving),
        runs.RunResult: _keys(runs.RunResult, sentence=str, in_sample=bool, spec=_ANY),
    }


@cache
def _answers() -> dict[str, Any]:
    """Return what each command prints, by the command's name."""
    run = _shapes()[runs.RunResult]
    side = _keys(spec_id=str, score_id=str, weights=_COUNTS, lineage=str | None)
    review = _keys(
        _row("review"),
        **_keys(Review, "= verdict improved hhi_reading findings decision customers").types,
        **_keys(Review, "= probabilities usual by_date search_pays").types,
        sentence=str,
        held_on_holdout=bool | None,
        broken=dict[str, int] | None,
        tied=int | None,
        null=int | None,
        old_customers=int,
        wins_list=[_row("convergence")],
        weights=list[_ANY],
        tiers_at_equal_sizes=_ANY,
        tiers=[_row("tier_table")],
        proxy_drift=list[_ANY],
    )
    experiment = _row("experiment", experiment=str, points=dict[str, str])
    experiment = _keys(experiment, effect=_maybe([_row("difference")]))
    decided = _keys(
        runs.Decided,
        tiers=_TEXTS,
        incumbent=side,
        candidate=side,
        own_edges=_keys(sizes=_ANY, before=dict[str, Interval], after=dict[str, Interval]),
    )
    conflict = _keys(kind=str, count=int, text=str, accounts=_TEXTS, rule=str | None)
    made = _keys(date=str, accounts=int, outcomes=Any, data=str, change=str)
    live = _keys(day=str, why=str)
    return {
        "demo": review,
        "run": _keys(run, **_MAYBE_FILE),
        "resume": _keys(run, **_MAYBE_FILE),
        "replay": runs.Replay,
        "simplify": _keys(
            runs.Simplified,
            sizes=list[_ANY],
            run=_maybe(run),
            **_MAYBE_FILE,
        ),
        "bench": runs.Pace,
        "generate": _keys(accounts=int, columns=_TEXTS, **_FILE),
        "init": _keys(
            features=_TEXTS,
            rules=dict[str, str],
            left_out=dict[str, str],
            id=str | None,
            outcomes=dict[str, str],
            labels=_ANY,
            objective=str | None,
            notes=_TEXTS,
            **_FILE,
        ),
        "check": _Plain(runs.Checkup),
        "drift": _keys(runs.Drift, moved=_TEXTS),
        "score": _keys(
            accounts=int,
            accounts_by_tier=_COUNTS,
            set_aside=_COUNTS,
            notes=_TEXTS,
            time_to_leaving=_maybe(runs.TimeToLeaving),
            **_FILE,
        ),
        "list": _keys(runs.AccountList, notes=_TEXTS, **_MAYBE_FILE),
        "grid": _keys(runs.Grid, **_MAYBE_FILE),
        "calibrate": _keys(
            runs.Calibrated, "= source held_out", accounts=int, calibration=_ANY, **_FILE
        ),
        "spec show": _keys(spec_id=str, score_id=str, spec=_ANY),
        "null": _Plain(runs.NullSearch),
        "stability": _Plain(runs.FoundStability),
        "segments": _Plain(runs.BySegment),
        "decide": decided,
        "refresh": decided,
        "explain": _Plain(runs.Explanation),
        "backtest": _keys(runs.Backtest),
        "try": _keys(experiment, run=run, **_MAYBE_FILE),
        "tiers": _keys(
            runs.Tiers,
            tiers=list[runs.TierLine],
            spec_id=str,
            **_MAYBE_FILE,
        ),
        "checkout": _keys(experiment=str, weights=_COUNTS, **_FILE),
        "promote": runs.WentLive,
        "record": runs.WentLive,
        "log": _keys(live=[_row("live")], log=[_row("log")]),
        "show": experiment,
        "diff": _keys(
            runs.Difference,
            one=str,
            two=str,
            weights=[_keys(weight=str, one=int | None, two=int | None, earned_by=str | None)],
            metrics=_maybe([_row("difference")]),
            equal_sizes=_ANY | None,
        ),
        "lineage": [_row("lineage")],
        "best": [_row("leaderboard")],
        "front": _keys(Front),
        "review": review,
        "compare": _keys(verdict=str, runs=[_row("compare")]),
        "sql": list[_ANY],
        "verify": _keys(Verification, "sound"),
        "journal compact": Compaction,
        "journal export": _keys(experiments=int, **_FILE),
        "journal import": (Imported, Undone),
        "journal publish": Published,
        "report": _keys(run_id=str | None, title=str, bytes=int, left_out=_TEXTS, **_FILE),
        "walk": _keys(runs.Walked, wins=_COUNTS, left_out=[live], **_MAYBE_FILE),
        "watch": _keys(
            runs.Watched,
            kept=[_keys(day=str, role=str, accounts=int)],
            waiting=[live],
            drifts=[_keys(day=str, psi=float | None)],
            time_to_leaving=_maybe(runs.TimeToLeaving),
            **_MAYBE_FILE,
        ),
        "export sql": _keys(dialect=str, spec_id=str, sql=str),
        "export dbt": _keys(model=str, output=_TEXTS),
        "export mlflow": _keys(Logged, files=_TEXTS, without=_TEXTS),
        "snapshot": (
            _keys(
                recipe=str,
                sources=Any,
                tables=[made],
                conflicts=[conflict],
                notes=_TEXTS,
            ),
            _keys(models=_TEXTS, output=_TEXTS),
            _keys(
                revenue=str,
                recognised=dict[str, str],
                features=_TEXTS,
                dates=_TEXTS,
                dates_with_outcomes=int,
                unsure=_TEXTS,
                conflicts=[conflict],
                **_FILE,
            ),
        ),
        "bridge": _keys(
            headline=str,
            months=list[_ANY],
            unit=Literal["cents"],
            conventions=_ANY,
            differences=[_keys(month=str, against=str, bridge=int, other=int)],
            conflicts=[conflict],
            notes=_TEXTS,
            **_MAYBE_FILE,
        ),
    }


_SIMPLE: dict[Any, dict[str, Any]] = {
    Any: {},
    object: {},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    None: {"type": "null"},
    NoneType: {"type": "null"},
    date: {"type": "string"},
    datetime: {"type": "string"},
    Path: {"type": "string"},
    ScoringSpec: {"type": "object"},
    # Rows, whose columns are the table's own.
    pl.DataFrame: {"type": "array", "items": {"type": "object"}},
}


def _schema(kind: Any, *, plain: bool = False) -> dict[str, Any]:
    """Return the schema of a type, of [a list's items] or of (any of these).

    `plain` is for classes in it that print their fields alone.
    """
    if isinstance(kind, list):
        return {"type": "array", "items": _schema(kind[0], plain=plain)}
    if isinstance(kind, tuple):
        return {"anyOf": [_schema(each, plain=plain) for each in kind]}
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, _Plain):
        return _schema(_keys(kind.of), plain=True)
    if isinstance(kind, _Keys):
        meanings = kind.meanings
        properties = {
            name: _schema(each, plain=plain)
            | ({"description": meanings[name]} if name in meanings else {})
            for name, each in kind.types.items()
        }
        required = [name for name in properties if name not in kind.optional]
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [_schema(each, plain=plain) for each in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (list, tuple) and (origin is list or inner[-1] is Ellipsis):
        return {"type": "array", "items": _schema(inner[0], plain=plain)}
    if origin is tuple:
        items = [_schema(each, plain=plain) for each in inner]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(inner[1], plain=plain)}
    if issubclass(kind, Enum):
        return {"enum": [each.value for each in kind]}
    shape = None if plain else _shapes().get(kind)
    name = f"{kind.__name__}, as it is" if plain and kind in _shapes() else kind.__name__
    return {"title": name, **_schema(shape or _keys(kind), plain=plain)}


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (2020-12) of what each command prints with ``--json``, by command."""
    return {name: _schema(kind) for name, kind in _answers().items()}
