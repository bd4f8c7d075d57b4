"""Leakage planted and found, honest features left alone, and nothing of the holdout looked at."""

from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from factories import make_accounts
from sklearn.metrics import roc_auc_score

from gtmar.autospec.first_spec import first_spec
from gtmar.autospec.leakage import Grade, Leak, find_leaks
from gtmar.data import synthetic
from gtmar.data.matrix import search_sample
from gtmar.data.outcomes import OutcomeColumns
from gtmar.data.scan import scan
from gtmar.data.split import holdout_mask
from gtmar.errors import AccountDataError
from gtmar.runs.check import check
from gtmar.spec import Outcomes, Split

N = 600
ACCOUNTS = make_accounts(N)
DRAW = np.random.default_rng(11)
LABEL = ACCOUNTS["retained_6mo"]


def leaks_of(frame: pl.DataFrame, *columns: str) -> tuple[Leak, ...]:
    table = scan(frame)
    found = OutcomeColumns.matching(Outcomes(), table.columns)
    return find_leaks(search_sample(table, found, "account_id", Split()), columns, found)


def only(values: Any, name: str = "extra", frame: pl.DataFrame = ACCOUNTS) -> Leak | None:
    """Return the finding on one more column, if there is one."""
    column = values if isinstance(values, pl.Series | pl.Expr) else pl.Series(values, strict=False)
    found = leaks_of(frame.with_columns(column.alias(name)), name)
    assert len(found) <= 1
    return found[0] if found else None


def graded(leak: Leak | None) -> tuple[str, str] | None:
    return None if leak is None else (str(leak.grade), leak.kind)


def noisy(size: float) -> pl.Series:
    """Return the label with noise of a size on it, and noise alone where it is unknown."""
    return LABEL.fill_null(0) + pl.Series(DRAW.normal(scale=size, size=N))


# ---- the outcome under another name ----------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        LABEL.fill_null(7),
        1 - LABEL,
        LABEL.replace_strict({0: "gone", 1: "here"}, default=None, return_dtype=pl.String),
        LABEL.replace_strict({0: 2, 1: 9}, default=5) + pl.Series([i % 3 * 20 for i in range(N)]),
        pl.Series([None if v == 1 else "too dear" for v in LABEL]),
        pl.Series([None if v == 1 else i for i, v in enumerate(LABEL)]),
        pl.Series([None if v != 1 else f"renewal {i}" for i, v in enumerate(LABEL)]),
        pl.Series([float("nan") if v == 1 else 0.0 for v in LABEL]),
        ACCOUNTS["activated"],
        ACCOUNTS["won_back"],
        ACCOUNTS["mrr_end"],
        ACCOUNTS["mrr_end"] * 12 + 5,
        ACCOUNTS["actual_ltv"] ** 3,
        -ACCOUNTS["days_to_activate"],
    ],
    ids=[
        *(
            "label",
            "turned",
            "words",
            "codes",
            "empty for who stays",
            "number of who left",
            "text of who stays",
            "NaN",
        ),
        *("activation", "win-back", "end MRR", "a line of it", "a bent LTV", "days, turned"),
    ],
)
def test_the_outcome_under_another_name_is_an_error(values: pl.Series) -> None:
    found = only(values)
    assert graded(found) == ("error", "outcome")


def test_a_date_that_only_the_lost_have_is_an_error() -> None:
    day = pl.date_range(pl.date(2026, 1, 1), pl.date(2026, 1, 1) + pl.duration(days=N - 1))
    frame = ACCOUNTS.with_columns(extra=day).with_columns(
        extra=pl.when(pl.col("retained_6mo") == 0).then("extra")
    )
    [found] = leaks_of(frame, "extra")
    assert found.kind == "outcome"
    assert found.found == "it is empty exactly where retention is 1"


def test_days_that_go_one_to_one_with_those_to_activate_are_an_error() -> None:
    days = ACCOUNTS["days_to_activate"]
    frame = ACCOUNTS.with_columns(days_to_activate=days % 7)
    # No line and no order: as a code would be.
    codes = frame["days_to_activate"].fill_null(0) * 3 % 7
    found = only(codes, frame=frame)
    assert graded(found) == ("error", "outcome")
    assert found is not None
    assert "one to one with days to activate" in found.found


def test_what_was_known_of_the_money_beforehand_is_no_leak() -> None:
    flat = ACCOUNTS.with_columns(mrr_end=pl.col("mrr") * pl.col("retained_6mo"))
    kept = flat.with_columns(
        pl.when(pl.col("mrr") > 0).then(1).otherwise("retained_6mo").alias("retained_6mo")
    ).with_columns(churned=1 - pl.col("retained_6mo"), mrr_end="mrr", actual_ltv=pl.col("mrr") * 24)
    price = kept["mrr"] * 1.19
    assert only(price, name="list_price", frame=kept) is None
    # The same column beside money that isn't known beforehand.
    assert graded(only(price, name="list_price", frame=kept.drop("mrr"))) == ("error", "outcome")


# ---- strength --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "grade"),
    [(0.05, ("error", "outcome")), (0.55, ("warning", "strong")), (1.5, None), (50, None)],
)
def test_strength_alone_is_a_question_until_it_is_the_outcome(
    size: float, grade: tuple[str, str] | None
) -> None:
    values = noisy(size)
    found = only(values)
    assert graded(found) == grade
    if grade == ("warning", "strong"):
        assert found is not None
        seen = pl.Series(~holdout_mask(ACCOUNTS["account_id"], share=0.3, salt="gtmar"))
        mask = seen & LABEL.is_not_null()
        expected = roc_auc_score(LABEL.filter(mask), values.filter(mask))
        assert found.found == f"alone it ranks retention with AUC {expected:.3f}"
        assert "was known when the window began" in found.advice


def test_few_accounts_of_a_class_tell_nothing() -> None:
    rare = ACCOUNTS.with_columns(
        retained_6mo=pl.when(pl.col("retained_6mo").is_not_null()).then(
            (pl.int_range(pl.len()) % 50 > 0).cast(pl.Int64)
        )
    ).with_columns(churned=1 - pl.col("retained_6mo"))
    assert 0 < int(rare["churned"].sum()) < 20
    assert only(rare["churned"] * 3, frame=rare.drop("mrr", "mrr_end", "actual_ltv")) is None


# ---- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "grade"),
    [
        ("churn_reason_code", 50, ("error", "afterwards")),
        ("months_active", 1.0, ("error", "running")),
        ("months_active", 1.6, ("warning", "running")),
        ("months_active", 50, None),
        ("churn_score", 50, ("warning", "mentions")),
        ("churn_score", 1.0, ("warning", "mentions")),
        ("churn_score", 0.55, ("error", "mentions")),
        ("logins_per_day", 1.0, None),
    ],
)
def test_a_name_weighs_with_what_the_column_can_do(
    name: str, size: float, grade: tuple[str, str] | None
) -> None:
    assert graded(only(noisy(size), name=name)) == grade


def test_without_a_label_a_name_is_a_question() -> None:
    frame = ACCOUNTS.select("account_id", "mrr", "depth")
    [found] = leaks_of(frame.rename({"depth": "tenure"}), "tenure")
    assert graded(found) == ("warning", "running")
    assert found.found == 'its name says "tenure"'


# ---- columns that add nothing ----------------------------------------------------------------


def test_constants_and_duplicates_are_warnings() -> None:
    frame = ACCOUNTS.with_columns(
        same=pl.lit(3),
        nothing=pl.lit(None, dtype=pl.Float64),
        shallow=1 - 0.3 * pl.col("depth"),
        edition=pl.col("plan").replace_strict({"basic": "S", "team": "M", "enterprise": "L"}),
        bent=pl.col("depth") ** 2,
        gappy=pl.when(pl.int_range(pl.len()) % 9 > 0).then("depth"),
    )
    columns = ("depth", "plan", "same", "nothing", "shallow", "edition", "bent", "gappy")
    found = leaks_of(frame, *columns)
    assert [(k.column, k.kind, k.found) for k in found] == [
        ("same", "constant", "it is always 3"),
        ("nothing", "constant", "it is empty"),
        ("shallow", "duplicate", 'it is a straight line of "depth"'),
        ("edition", "duplicate", 'it goes one to one with "plan"'),
    ]
    assert {k.grade for k in found} == {Grade.WARNING}


# ---- the same for any order, and for any holdout ---------------------------------------------


PLANTED = ACCOUNTS.with_columns(
    copy=1 - pl.col("retained_6mo"),
    tenure=noisy(1.0),
    strong=noisy(0.55),
    shallow=-pl.col("depth"),
    same=pl.lit("x"),
)
COLUMNS = ("depth", "strong", "copy", "shallow", "tenure", "same")


@pytest.mark.parametrize(
    "name", ["column_1", "Unnamed: 0", "__index_level_0__", "index", "row_number", "#"]
)
def test_numbers_of_rows_are_no_feature(name: str) -> None:
    # In an order that goes with the outcome, as that of an export by date of change.
    rows = (LABEL.fill_null(0) + pl.Series(DRAW.normal(scale=2, size=N))).rank("ordinal")
    assert graded(only(rows.cast(pl.Int64), name)) == ("warning", "row")
    assert only(rows.cast(pl.Int64) // 2, name) is None


@pytest.mark.slow
def test_init_leaves_numbers_of_rows_out_unless_told_to_keep_them() -> None:
    table = scan(ACCOUNTS.with_row_index("Unnamed: 0"))
    assert "it numbers the rows" in first_spec(table).left_out["Unnamed: 0"]
    assert "Unnamed: 0" in first_spec(table, keep=["Unnamed: 0"]).spec.features
    advice = leaks_of(ACCOUNTS.with_row_index("Unnamed: 0"), "Unnamed: 0")[0].advice
    assert "--keep 'Unnamed: 0' takes it" in advice


def test_errors_come_first_whatever_the_order_of_rows() -> None:
    found = leaks_of(PLANTED, *COLUMNS)
    assert [k.column for k in found] == ["copy", "tenure", "strong", "shallow", "same"]
    assert [k.grade for k in found] == [Grade.ERROR] * 2 + [Grade.WARNING] * 3
    assert leaks_of(PLANTED.sample(fraction=1, shuffle=True, seed=3), *COLUMNS) == found


def test_the_holdout_is_not_looked_at() -> None:
    held = pl.Series(holdout_mask(PLANTED["account_id"], share=0.3, salt="gtmar"))
    told = PLANTED.with_columns(
        pl.when(held).then(pl.col("retained_6mo") * factor).otherwise(name).alias(name)
        for name, factor in {"depth": 1.0, "strong": 5.0, "shallow": -2.0}.items()
    ).with_columns(mrr_end=pl.when(held).then(1.0).otherwise("mrr_end"))
    assert not told.equals(PLANTED)
    assert leaks_of(told, *COLUMNS) == leaks_of(PLANTED, *COLUMNS)


# ---- what init makes of it -------------------------------------------------------------------


def test_init_leaves_errors_out_with_the_reason_and_keeps_what_it_is_told_to() -> None:
    found = first_spec(scan(PLANTED))
    assert {"depth", "strong", "shallow"} <= set(found.spec.features)
    assert not {"copy", "tenure", "same"} & set(found.spec.features)
    assert f"  #   tenure: {found.left_out['tenure']}\n" in found.text
    assert found.left_out["tenure"].startswith('its name says "tenure" and alone it ranks ret')
    assert "--keep tenure takes it all the same" in found.left_out["tenure"]
    kept = first_spec(scan(PLANTED), keep=["tenure"])
    assert set(kept.spec.features) == {*found.spec.features, "tenure"}
    assert kept.leaks == found.leaks
    with pytest.raises(AccountDataError, match=r'no column "tenur" \(--keep\)') as caught:
        first_spec(scan(PLANTED), keep=["tenur"])
    assert caught.value.hint == 'did you mean "tenure"?'


@pytest.mark.slow
@pytest.mark.parametrize("accounts", [600, 4_000])
@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_examples_have_none(kind: str, accounts: int) -> None:
    assert first_spec(scan(synthetic.generate(kind, accounts=accounts))).leaks == ()


# ---- every type that a table may have --------------------------------------------------------

DAYS = [date(2026, 1, day) for day in (1, 2, 3)]
SPANS = [timedelta(days) for days in (1, 2, 3)]
NUMBERS = (pl.Int8, pl.Int64, pl.Int128, pl.UInt8, pl.UInt64, pl.Float32, pl.Float64)
TYPES: list[tuple[Any, list[Any]]] = [
    *((kind, [1, 2, 3]) for kind in NUMBERS),
    (pl.Decimal(10, 2), [Decimal("1.5"), Decimal("2.5"), Decimal(3)]),
    (pl.Boolean, [True, False, True]),
    (pl.String, ["a", "b", "c"]),
    (pl.Categorical, ["a", "b", "c"]),
    (pl.Enum(["a", "b", "c"]), ["a", "b", "c"]),
    (pl.Binary, [b"\xff", b"b", b"c"]),
    (pl.Date, DAYS),
    (pl.Datetime("ns"), DAYS),
    (pl.Datetime("us", "Europe/Zurich"), DAYS),
    (pl.Time, [time(hour) for hour in (1, 2, 3)]),
    *((pl.Duration(unit), SPANS) for unit in ("ms", "us", "ns")),
    (pl.List(pl.Int64), [[1], [2], []]),
    (pl.List(pl.Duration), [[SPANS[0]], [], [SPANS[1]]]),
    (pl.Array(pl.Int64, 2), [[1, 2], [2, 3], [3, 4]]),
    (pl.Struct({"a": pl.Duration}), [{"a": SPANS[0]}, {"a": None}, {"a": SPANS[1]}]),
    (pl.Null, [None, None, None]),
    (pl.Object, [object(), "x", 3]),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "places", [(0,), (0, None), (0, 1, 2), (None,)], ids=["constant", "holes", "varying", "empty"]
)
def test_columns_of_every_type_are_looked_at(places: tuple[int | None, ...]) -> None:
    frame = ACCOUNTS
    for kind, values in TYPES:
        content = [None if place is None else values[place] for place in places]
        column = [content[i % len(content)] for i in range(N)]
        frame = frame.with_columns(pl.Series(f"of {kind}", column, dtype=kind))
    # For the check a spec is detected, too.
    found = {leak.column: leak.found for leak in check(frame).leaks}
    spans = [found.get(f"of {kind}") for kind, _ in TYPES if kind == pl.Duration]
    if places == (0,):
        assert spans == ["it is always 1 day, 0:00:00"] * 3
