"""Random specs of every encoder, and account tables full of edge values that they can score."""

import math
import random
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from gtmar.spec import Calibration, ScoringSpec, points_id
from gtmar.spec.rule import Condition, Rule

#: Where the lines and steps of the specs begin and end; the tables hold them and their neighbours.
KNOTS = (-1e12, -100.0, -0.1, 0.0, 0.1, 1 / 3, 1.0, 2.5, 7.3, 40.0, 99.99, 1e6, 1e15)
CATEGORIES = (
    "basic",
    "team",
    "Team",
    "",
    "o'brien",
    'a "b"',
    "back\\slash",
    "\u00e4\u4e2d",
    "{{x}}",
)
DAY = date(2026, 3, 1)
#: Encoders of a sum of points; `draw_combined` has the points that fade, too.
ENCODERS = {
    *("bins", "bool", "curve", "days_before", "identity", "one_of", "quantile", "range", "table")
}
#: A column of each kind under a name that only quotes hold.
ODD_NUMBER, ODD_TEXT = 'it\'s "odd" -- ä', "select"
#: What rules compare with numbers, and the categories that they list.
COMPARED = ("scaled", "holey", "count", "amount", "bit", "float_bit", "tenure", ODD_NUMBER)
LISTED = {
    "plan": CATEGORIES,
    ODD_TEXT: (*CATEGORIES, "nan", "7"),
    "seats": ("1", "2", "30", "7"),
    "float_bit": ("0", "1", "7"),
    "flag": ("true", "false"),
}

_HALVES = tuple((k + 0.5) / 10_000 for k in (-3, -1, 0, 1, 2, 4999, 123_456))
_ODD = (5e-324, -5e-324, 1e-300, -1e-300, 1e-17, 0.1 + 0.2, 2.0**53, -0.0)
_HUGE = (1e308, -1e308, 1.7976931348623157e308, 1e100, -1e300)


def _number(draw: random.Random, pool: tuple[float, ...], spread: float) -> float:
    if draw.random() < 0.5:
        return draw.choice(pool)
    return draw.uniform(-spread, spread)


def _near(values: tuple[float, ...]) -> tuple[float, ...]:
    beside = [math.nextafter(v, end) for v in values for end in (-math.inf, math.inf)]
    return (*values, *beside)


def draw_accounts(n: int, seed: int = 0) -> pl.DataFrame:
    """Draw accounts: a column for each kind of encoder, the optional ones with unknowns."""
    draw = random.Random(seed)
    exact = (*_near((0.0, 0.1, 1 / 3, 2.5, 99.99, 9e11, -9e11)), *_HALVES, *_ODD[:6])
    exact = (*exact, 2**53 / 10_000, -(2**53) / 10_000)
    scaled = (*_near(KNOTS), *_ODD, *_HUGE)
    binned = (*_near((0.0, 3.0, 12.0, -5.5)), *_ODD, *_HUGE)
    columns: dict[str, list[Any]] = {
        "account_id": [f"acct-{i:06}" for i in range(n)],
        "exact": [_number(draw, exact, 1000) for _ in range(n)],
        "scaled": [_number(draw, scaled, 200) for _ in range(n)],
        "holey": [
            draw.choice((None, math.nan)) if draw.random() < 0.2 else _number(draw, scaled, 50)
            for _ in range(n)
        ],
        "count": [draw.choice((0, 1, 40, -7, 10**11, draw.randrange(100))) for _ in range(n)],
        "amount": [Decimal(draw.randrange(-10_000_000, 10_000_000)).scaleb(-4) for _ in range(n)],
        "flag": [draw.choice((True, False, None)) for _ in range(n)],
        "bit": [draw.randrange(2) for _ in range(n)],
        "float_bit": [draw.choice((0.0, 1.0, -0.0, None, math.nan)) for _ in range(n)],
        "plan": [draw.choice((*CATEGORIES, "else", None)) for _ in range(n)],
        "seats": [draw.choice((1, 2, 30, None)) for _ in range(n)],
        "tenure": [None if draw.random() < 0.1 else _number(draw, binned, 20) for _ in range(n)],
        "since": [DAY - timedelta(days=draw.randrange(-400, 4000)) for _ in range(n)],
        "seen": [
            None
            if draw.random() < 0.1
            else datetime(2026, 2, 27) + timedelta(microseconds=draw.randrange(-(10**13), 10**12))
            for _ in range(n)
        ],
        "as_of": [DAY + timedelta(days=draw.randrange(3)) for _ in range(n)],
        ODD_NUMBER: [
            draw.choice((None, math.nan, math.inf, -math.inf, *_near((0.1, 2.5)), 40.0))
            for _ in range(n)
        ],
        ODD_TEXT: [draw.choice((*CATEGORIES, " basic ", "7", None)) for _ in range(n)],
    }
    schema: dict[str, Any] = {
        "account_id": pl.String,
        **dict.fromkeys(("exact", "scaled", "holey", "float_bit", "tenure"), pl.Float64),
        **dict.fromkeys(("count", "bit", "seats"), pl.Int64),
        "amount": pl.Decimal(18, 4),
        "flag": pl.Boolean,
        "plan": pl.String,
        **dict.fromkeys(("since", "as_of"), pl.Date),
        "seen": pl.Datetime("us"),
        ODD_NUMBER: pl.Float64,
        ODD_TEXT: pl.String,
    }
    return pl.DataFrame(columns, schema={name: schema[name] for name in columns})


def _knots(draw: random.Random, least: int = 2) -> list[float]:
    return sorted(draw.sample(KNOTS, draw.randint(least, 5)))


def _scale(draw: random.Random) -> dict[str, Any]:
    """Draw one of the encoders that take any number."""
    kind = draw.choice(("range", "curve", "quantile"))
    if kind == "range":
        low, high = sorted(draw.sample(KNOTS, 2))
        return {"kind": kind, "from": low, "to": high, "invert": draw.random() < 0.5}
    if kind == "quantile":
        return {"kind": kind, "cuts": _knots(draw, 1), "invert": draw.random() < 0.5}
    heights = (0.0, 1.0, -1.0, 0.00005, 0.1 + 0.2, draw.uniform(-2, 2), -0.33335)
    return {"kind": kind, "points": [[x, draw.choice(heights)] for x in _knots(draw)]}


def draw_rule(draw: random.Random) -> Rule:
    """Draw a rule of one to three conditions over `draw_accounts`."""

    return Rule(tuple(_condition(draw) for _ in range(draw.randint(1, 3))))


def _condition(draw: random.Random) -> Condition:
    kind = draw.choice(("number", "number", "list", "presence"))
    if kind == "presence":
        column = draw.choice((*COMPARED, *LISTED, "since", "seen"))
        return Condition(column, draw.choice(("is missing", "is not missing")))
    if kind == "list":
        column = draw.choice(sorted(LISTED))
        size = draw.randint(1, min(4, len(LISTED[column])))
        listed = tuple(draw.sample(LISTED[column], size))
        return Condition(column, draw.choice(("in", "not in")), listed)
    value = draw.choice((*_near((0.0, 0.1, 2.5)), *KNOTS, 3.0, 12.0, -5.5, 1e308))
    operator = draw.choice(("<", "<=", ">", ">=", "=", "!="))
    return Condition(draw.choice(COMPARED), operator, value)


def draw_table(draw: random.Random) -> dict[str, Any]:
    """Draw a table over two columns of `draw_accounts`, two to four rows of two to four cells."""
    sides: list[list[Condition]] = []
    while len(sides) < 2:
        side = [first := _condition(draw)]
        if first.column in [each[0].column for each in sides]:
            continue
        for _ in range(draw.randint(0, 2)):
            while (more := _condition(draw)).column != first.column:
                pass
            side.append(more)
        sides.append(side)
    down, across = ([*map(str, side)] for side in sides)
    values = [
        [
            draw.choice((0.0, 1.0, -0.25, 0.00005, 1 / 3, draw.random()))
            for _ in range(len(across) + 1)
        ]
        for _ in range(len(down) + 1)
    ]
    return {"kind": "table", "down": down, "across": across, "values": values}


def draw_spec(seed: int) -> ScoringSpec:
    """Draw a spec over `draw_accounts` with every encoder in it, a table included."""
    draw = random.Random(seed)

    def feature(column: str, encode: object, *, holey: bool = False) -> dict[str, Any]:
        weight = draw.choice((0, 1, -1, draw.randint(-60, 60), draw.randint(-60, 60)))
        found = {"column": column, "weight": weight, "min": -100, "max": 100, "encode": encode}
        missing = draw.choice((0.0, -0.5, 0.00005, 0.3))
        return {**found, "missing": {"value": missing}} if holey else found

    def bins(column: str, keys: list[str]) -> dict[str, Any]:
        weighted = {
            key: {"weight": draw.randint(-40, 40), "min": -50, "max": 50}
            for key in draw.sample(keys, len(keys))
        }
        return {"column": column, "encode": {"kind": "bins", "bins": weighted}}

    inverted = draw.random() < 0.5
    values = {name: draw.choice((0.0, 1.0, -0.25, 0.00005, 1 / 3)) for name in CATEGORIES}
    intervals = ["[-inf,-5.5)", "[0,3)", "[3,12)", "[12,inf)", "missing", "other"]
    candidates = {
        "exact": feature("exact", {"kind": "identity"}),
        "counted": feature("count", "identity"),
        "counted again": feature("count", _scale(draw)),
        "amount": feature("amount", _scale(draw)),
        "scaled": feature("scaled", _scale(draw)),
        "scaled too": feature("scaled", _scale(draw)),
        "holey": feature("holey", _scale(draw), holey=True),
        "flag": feature("flag", {"kind": "bool", "invert": inverted}, holey=True),
        "bit": feature("bit", {"kind": "bool", "invert": not inverted}),
        "float_bit": feature("float_bit", "bool", holey=True),
        "plan": feature("plan", {"kind": "one_of", "values": values, "default": 0.125}, holey=True),
        "plans": bins("plan", [*draw.sample(CATEGORIES, 4), "missing", "other"]),
        "seats": bins("seats", ["1", "2", "30", "missing"]),
        "tenure": bins("tenure", intervals),
        "since": feature("since", {"kind": "days_before", "then": _scale(draw)}),
        "seen": feature("seen", {"kind": "days_before", "then": _scale(draw)}, holey=True),
        "days": feature("since", "days_before"),
    }
    if draw.random() < 0.7:
        # The widest columns drown the others: left out most of the time.
        del candidates["exact"], candidates["counted"]
    ruled = random.Random(f"rules {seed}")
    rules = {
        f'rule "{i}"': {"rule": str(draw_rule(ruled)), "weight": w, "min": -60, "max": 60}
        for i, w in enumerate((ruled.randint(-60, 60), ruled.randint(-9, 9)))
    }
    rules["a table"] = {"encode": draw_table(ruled), "weight": -37, "min": -60, "max": 60}
    kept = draw.sample(sorted(candidates), min(len(candidates), draw.randint(8, 16)))
    edge = draw.choice((60.0, 33.35, 0.01, 99.99))
    top = draw.choice((100, 40, 1000))
    edge = min(edge, top)
    spec = ScoringSpec.model_validate(
        {
            "model": "random",
            "id": "account_id",
            "as_of": "as_of",
            "base": draw.choice((0, 10, -25, 50)),
            "max_score": top,
            "features": {name: candidates[name] for name in kept} | rules,
            "tiers": {
                "it's A": {"min": edge, "max": top + 1},
                "B": {"min": 0, "max": edge},
            },
        }
    )
    return spec if seed % 2 else with_probabilities(spec, draw)


def draw_combined(seed: int) -> ScoringSpec:
    """Draw a spec with groups, shared weights of the unknown, points that fade, and vetoes."""
    draw, spec = random.Random(f"combined {seed}"), draw_spec(2 * seed + 1)
    data = spec.model_dump(mode="json", by_alias=True)
    # What is shared out exactly has a bound, which the widest columns are far beyond.
    features = {n: f for n, f in data["features"].items() if n not in ("exact", "counted")}
    for feature in features.values():
        encode = feature["encode"]
        if encode["kind"] == "days_before" and draw.random() < 0.7:
            encode["then"] = {"kind": "decay", "half_life": draw.choice((1, 3, 30, 365))}
        if feature["missing"] != "error" and draw.random() < 0.7:
            feature["missing"] = "redistribute"
        elif encode["kind"] == "bins" and len(encode["bins"]) > 1 and draw.random() < 0.7:
            encode["bins"].pop("missing", None)
            feature["missing"] = "redistribute"
    names, groups = draw.sample(sorted(features), len(features)), {}
    for name in draw.sample(("engagement", 'it\'s "B"', "{{g}}"), draw.randint(0, 3)):
        own = [names.pop() for _ in range(min(len(names), draw.randint(1, 4)))]
        ends = sorted(draw.sample(range(-40, 60), 2))
        low, high = draw.choice((ends, (None, ends[1]), (ends[0], None)))
        if own:
            groups[name] = {"features": own, "min": low, "max": high}
    risk = draw.random() < 0.3
    rules = {draw_rule(draw).canonical for _ in range(draw.randint(0, 2))}
    veto = [{"rule": rule, "tier": "it's A" if risk else "B"} for rule in sorted(rules)]
    orientation = "risk" if risk else "health"
    combined = {"features": features, "groups": groups, "veto": veto, "orientation": orientation}
    return ScoringSpec.model_validate({**data, **combined})


def with_probabilities(spec: ScoringSpec, draw: random.Random) -> ScoringSpec:
    """Give a spec a calibration of its own scores, with steps at odd places."""
    top = spec.max_score * 100
    lows = [0, *sorted(draw.sample(range(1, top + 1), draw.randint(0, 12)))]
    shares = sorted((draw.randint(0, 300) for _ in lows), reverse=True)
    steps = [
        {"from": low / 100, "accounts": 300, "left": n} for low, n in zip(lows, shares, strict=True)
    ]
    table = {
        "fitted": "2026-01-31",
        "points_id": points_id(spec),
        "base_rate": sum(shares) / (300 * len(shares)),
        "steps": steps,
    }
    return spec.model_copy(update={"calibration": Calibration.model_validate(table)})
