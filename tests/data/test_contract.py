"""The data contract: every way to break it is named, with source, column, rows and what to do."""

import math
import re
from dataclasses import replace
from datetime import date, time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import OUTCOMES, binned, make_accounts, make_spec, weighted

from gtmar.autospec.first_spec import first_spec
from gtmar.data import rules
from gtmar.data.contract import Checked, check_contract
from gtmar.data.matrix import load_accounts
from gtmar.data.outcomes import OutcomeColumns
from gtmar.data.rules import RowRule, id_rules
from gtmar.data.scan import scan
from gtmar.errors import AccountDataError, SpecError, UsageError, Violation, ViolationsError
from gtmar.runs.run import run
from gtmar.spec import ScoringSpec

ACCOUNTS = make_accounts(60)
SPEC = make_spec()
DEPTH = make_spec(features={"depth": weighted()})


def check(frame: pl.DataFrame, spec: ScoringSpec = DEPTH, **more: Any) -> Checked:
    return check_contract(scan(frame), spec, **more)


def violations(
    frame: pl.DataFrame, spec: ScoringSpec = DEPTH, **more: Any
) -> dict[str, tuple[Violation, ...]]:
    """Return what `check` refuses, by column."""
    with pytest.raises(ViolationsError) as caught:
        check(frame, spec, **more)
    found: dict[str, tuple[Violation, ...]] = {}
    for violation in caught.value.violations:
        found[violation.column] = (*found.get(violation.column, ()), violation)
    return found


def the_violation(frame: pl.DataFrame, spec: ScoringSpec = DEPTH, **more: Any) -> Violation:
    """Return the one violation that `check` finds."""
    [[violation]] = violations(frame, spec, **more).values()
    return violation


def small(**columns: Any) -> pl.DataFrame:
    """Return four current accounts, with some columns replaced or added."""
    return pl.DataFrame(
        {
            "account_id": ["a", "b", "c", "d"],
            "depth": [0.0, 0.25, 0.5, 1.0],
            "retained_6mo": [0, 1, 0, 1],
        }
        | columns,
        strict=False,
    )


def test_a_good_table() -> None:
    checked = check(ACCOUNTS, SPEC)
    assert checked.accounts == 60
    assert checked.dropped == 0
    assert checked.id_column == "account_id"
    assert set(checked.outcomes.columns.values()) == set(OUTCOMES)
    assert checked.ranges == {
        "alert_created": (0, 10_000),
        "depth": (0, 10_000),
        "logins": (min(ACCOUNTS["logins"].to_list()) * 250, 10_000),
        "plan": (0, 10_000),
    }


# The file


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(AccountDataError, match=r"nope\.csv\": no such file or folder"):
        load_accounts(scan(tmp_path / "nope.csv"), SPEC)


@pytest.mark.parametrize("name", ["empty.csv", "empty.parquet"])
def test_empty_table(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    empty = ACCOUNTS.clear()
    if path.suffix == ".csv":
        empty.write_csv(path)
    else:
        empty.write_parquet(path)
    for refuse in (lambda: load_accounts(scan(path), SPEC), lambda: first_spec(scan(path))):
        with pytest.raises(AccountDataError) as caught:
            refuse()
        assert caught.value.message == f"{path}: the table is empty"
        assert caught.value.hint == "does --data name the right file?"


def test_broken_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    ACCOUNTS.write_parquet(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(AccountDataError, match=re.escape(f'"{path}": can\'t be read')):
        load_accounts(scan(path), SPEC)


def test_parquet_broken_where_only_reading_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    ACCOUNTS.write_parquet(path)
    content = bytearray(path.read_bytes())
    content[20:400] = b"\xff" * 380
    path.write_bytes(content)
    with pytest.raises(AccountDataError, match="can't be read"):
        load_accounts(scan(path), SPEC)


def test_message_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "accounts.parquet"
    ACCOUNTS.drop("depth").write_parquet(path)
    with pytest.raises(ViolationsError) as caught:
        load_accounts(scan(path), DEPTH)
    assert caught.value.message == (
        f"{path}: 1 violation of the data contract\n"
        '  - column "depth": no such column (feature "depth")\n'
        '    hint: the table has "account_id", "alert_created", "logins", "plan", '
        '"retained_6mo" and 7 more'
    )


# Columns that aren't there


def test_no_feature_can_be_found() -> None:
    table = ACCOUNTS.select("account_id", "retained_6mo")
    with pytest.raises(AccountDataError) as caught:
        first_spec(scan(table))
    assert caught.value.message == (
        "frame: no column can be a feature; left out: "
        '"account_id" (the account id); "retained_6mo" (an outcome)'
    )
    assert caught.value.hint == (
        "features are numbers, flags and categories known at the window's start"
    )


def test_no_outcome() -> None:
    violation = the_violation(ACCOUNTS.drop(OUTCOMES))
    assert violation.column == ""
    assert violation.problem == (
        "no outcome column; expected at least one of retained_6mo, churned, mrr, mrr_end, "
        "actual_ltv, activated, days_to_activate, won_back"
    )
    assert violation.hint == "name yours in the spec: outcomes: {retained: my_column}"


def test_no_outcome_to_fit_to() -> None:
    with pytest.raises(AccountDataError, match="frame: no outcome column; expected at least one"):
        first_spec(scan(ACCOUNTS.drop(OUTCOMES)))


@pytest.mark.parametrize(
    ("spec", "column", "role", "hint"),
    [
        (
            make_spec(features={"dept": weighted()}),
            "dept",
            'feature "dept"',
            'did you mean "depth"?',
        ),
        (
            make_spec(features={"x": weighted(column="Logins")}),
            "Logins",
            'feature "x"',
            'did you mean "logins"?',
        ),
        (
            make_spec(features={"p": binned("a")}),
            "p",
            'feature "p"',
            'the table has "account_id", "alert_created", "depth", "logins", "plan" and 8 more',
        ),
        (make_spec(id="acount_id"), "acount_id", "the spec's id", 'did you mean "account_id"?'),
        (make_spec(as_of="depht"), "depht", "the spec's as_of", 'did you mean "depth"?'),
        (
            make_spec(outcomes={"retained": "retaind"}),
            "retaind",
            "outcome retained",
            'did you mean "retained_6mo"?',
        ),
    ],
)
def test_unknown_column_with_the_nearest_name(
    spec: ScoringSpec, column: str, role: str, hint: str
) -> None:
    violation = the_violation(ACCOUNTS, spec)
    assert (violation.column, violation.problem) == (column, f"no such column ({role})")
    assert violation.hint == hint


def test_outcome_that_has_only_its_default_name_may_be_absent() -> None:
    assert check(small()).outcomes.columns == {"retained": "retained_6mo"}


# Values of features

SPECIALS = {"null": None, "NaN": math.nan}


@pytest.mark.parametrize("special", SPECIALS)
def test_unknown_in_a_numeric_feature(special: str) -> None:
    violation = the_violation(small(depth=[0.5, SPECIALS[special], SPECIALS[special], 1.0]))
    assert violation.column == "depth"
    assert violation.problem == '2 of 4 values of feature "depth" are null or NaN: "b", "c"'
    assert violation.hint == (
        "say what an unknown counts in the spec: depth: {missing: {value: 0}}"
    )
    assert violation.rows == 2


def test_unknown_in_an_integer_or_text_feature() -> None:
    frame = small(depth=[1, None, 2, 3], plan=["x", "x", None, "x"])
    spec = make_spec(features={"depth": weighted(), "plan": binned("x")})
    found = violations(frame, spec)
    assert found["depth"][0].problem == '1 of 4 values of feature "depth" is null: "b"'
    assert found["plan"][0].problem == '1 of 4 values of feature "plan" is null: "c"'
    assert found["plan"][0].hint == "give it a bin named missing"


def test_unknown_that_the_spec_speaks_of_is_fine() -> None:
    frame = small(depth=[None, math.nan, 0.5, 1.0], plan=["x", None, "x", "x"])
    spec = make_spec(
        features={"depth": weighted(missing={"value": 0.25}), "plan": binned("x", "missing")}
    )
    assert check(frame, spec).ranges["depth"] == (2_500, 10_000)


@pytest.mark.parametrize("dtype", [pl.Null, pl.String], ids=["no type", "as CSV reads it"])
def test_number_that_is_unknown_for_everybody(dtype: type[pl.DataType]) -> None:
    frame = small(depth=pl.Series([None] * 4, dtype=dtype))
    violation = the_violation(frame)
    assert violation.problem.startswith('4 of 4 values of feature "depth" are null')
    spoken_of = make_spec(features={"depth": weighted(missing={"value": 0.25})})
    assert check(frame, spoken_of).ranges == {"depth": (2_500, 2_500)}


@pytest.mark.parametrize("infinite", [math.inf, -math.inf])
@pytest.mark.parametrize("missing", ["error", {"value": 0}])
def test_infinite_value_of_a_feature(infinite: float, missing: Any) -> None:
    spec = make_spec(features={"depth": weighted(missing=missing)})
    violation = the_violation(small(depth=[0.5, 1.0, 1.0, infinite]), spec)
    assert violation.problem == '1 of 4 values of feature "depth" is infinite: "d"'
    assert violation.hint == "replace or cap them"


@pytest.mark.parametrize(
    "encode",
    [
        "identity",
        "bool",
        {"kind": "range", "from": 0, "to": 1},
        {"kind": "curve", "points": [[0, 0], [1, 1]]},
        {"kind": "quantile", "cuts": [1]},
    ],
    ids=str,
)
def test_text_in_a_numeric_feature(encode: Any) -> None:
    spec = make_spec(features={"depth": weighted(encode=encode)})
    kind = spec.features["depth"].encode.kind
    violation = the_violation(small(depth=["0.5", "deep", "0.5", None]), spec)
    assert violation.problem == (
        f'feature "depth" has encoder {kind} and expects numbers, got String: "0.5", "deep"'
    )
    assert violation.hint == "encode categories with one_of or bins"


def test_text_in_bins_of_numbers() -> None:
    spec = make_spec(features={"depth": binned("[0,1)", "other")})
    violation = the_violation(small(depth=["a", "b", "c", "d"]), spec)
    assert "has encoder bins and expects numbers, got String" in violation.problem


def test_flag_that_is_neither_0_nor_1() -> None:
    spec = make_spec(features={"depth": weighted(encode="bool")})
    violation = the_violation(small(depth=[0, 1, 2, 2]), spec)
    assert violation.problem == '2 of 4 values of feature "depth" are neither 0 nor 1: 2'
    assert violation.hint == "encode it with range or identity"


def test_flag_of_doubles() -> None:
    spec = make_spec(features={"depth": weighted(encode="bool", missing={"value": 0.5})})
    assert check(small(depth=[0.0, 1.0, None, math.nan]), spec).ranges == {"depth": (0, 10_000)}
    violation = the_violation(small(depth=[0.0, 1.0, None, 0.25]), spec)
    assert violation.problem == '1 of 4 values of feature "depth" is neither 0 nor 1: 0.25'


@pytest.mark.parametrize(
    ("feature", "values", "problem"),
    [
        (
            weighted(encode={"kind": "one_of", "values": {"x": 1}}),
            ["x", "y", "z", "y"],
            '3 of 4 values of feature "depth" are in none of the spec\'s categories or bins: '
            '"y", "z"',
        ),
        (binned("x"), ["x", "y", "z", "y"], '"y", "z"'),
        (binned("[0,1)", "[2,3)"), [0.0, 1.0, 2.5, 3.0], "2 of 4 values"),
        (binned("[0,1)", "[2,3)"), [0.0, 1.0, 2.5, 3.0], "categories or bins: 1.0, 3.0"),
    ],
)
def test_value_that_no_category_or_bin_takes(
    feature: dict[str, Any], values: list[Any], problem: str
) -> None:
    violation = the_violation(small(depth=values), make_spec(features={"depth": feature}))
    assert problem in violation.problem
    assert violation.hint == "add a default, or a bin named other"


def test_categories_of_a_nested_type() -> None:
    spec = make_spec(features={"depth": binned("x", "other")})
    violation = the_violation(small(depth=[["x"], ["x"], [], ["x"]]), spec)
    assert violation.problem == "expected categories, got List(String)"


def test_value_too_large_to_be_exact() -> None:
    violation = the_violation(small(depth=[0.5, 1e12, 0.5, 0.5]))
    assert violation.problem == "values reach 1e+12: too large to be exact"
    assert violation.hint == "scale it with `encode: {kind: range, ...}`"
    assert check(small(depth=[0.5, 9e11, 0.5, 0.5])).ranges["depth"][1] == 9 * 10**15
    stated = {"kind": "one_of", "values": {"x": 1e12, "y": 0.5}}
    spec = make_spec(features={"depth": {"weight": 5, "min": 0, "max": 9, "encode": stated}})
    violation = the_violation(small(depth=["x", "y", "x", "y"]), spec)
    assert violation.hint == "the spec's values of depth go from 0 to 1 as a rule"


@pytest.mark.parametrize(
    "frame",
    [small(depth=[0.5, 1e15, 0.5, 0.5]), small(depth=[0, 2**62, 0, 0])],
    ids=["double", "integer"],
)
def test_value_far_too_large_to_be_exact(frame: pl.DataFrame) -> None:
    assert "too large to be exact" in the_violation(frame).problem


def test_name_with_braces() -> None:
    spec = make_spec(features={"{depth}": weighted()})
    violation = the_violation(
        small().rename({"depth": "{depth}"}).with_columns(pl.lit(math.nan).alias("{depth}")), spec
    )
    assert '4 of 4 values of feature "{depth}" are null or NaN' in violation.problem


@pytest.mark.parametrize("name", ["_account", "_start", "_end", "_retained"])
def test_column_named_like_one_of_the_contract_s_own(name: str) -> None:
    spec = make_spec(features={name: weighted()})
    frame = small(mrr=[1, 2, 3, 4], depth=[0.0, 0.5, 1.0, 7.0]).rename({"depth": name})
    assert check(frame, spec).ranges == {name: (0, 70_000)}


# Dates

DAYS = make_spec(features={"depth": weighted(encode="days_before")}, as_of="today")


def test_days_before_needs_a_date_to_count_from() -> None:
    spec = make_spec(features={"depth": weighted(encode="days_before")})
    frame = small(depth=[date(2026, 1, 1)] * 4)
    violation = the_violation(frame, spec)
    assert violation.problem == "days_before has no date to count from"
    assert violation.hint == "give --as-of DATE, or name the column in the spec's as_of"
    assert check(frame, spec, as_of="2026-01-03").ranges == {"depth": (20_000, 20_000)}


def test_dates_after_the_day_that_is_counted_from_are_said() -> None:
    days = [date(2026, 1, 30), date(2026, 1, 31), date(2026, 2, 1), date(2027, 1, 1)]
    spec = make_spec(features={"depth": weighted(encode="days_before"), "plan": binned("x", "y")})
    frame = small(depth=days, plan=["x", "y", "x", "y"])
    [note] = [n for n in check(frame, spec, as_of="2026-01-31").notes if "days_before" in n]
    assert "of 4 accounts: depth 2. That is right of what lies ahead" in note
    none = check(frame, spec, as_of="2027-01-01").notes
    assert not any("days_before" in each for each in none)


def test_days_before_needs_dates() -> None:
    frame = small(today=[date(2026, 1, 3)] * 4)
    violation = the_violation(frame, DAYS)
    assert violation.problem == "expected dates, got Float64"
    assert violation.hint == "store it as a date; dates as text are read as YYYY-MM-DD"


@pytest.mark.parametrize(
    "today",
    [
        pl.Series([date(2026, 1, 3), None, date(2026, 1, 3), None]),
        pl.Series([None] * 4, dtype=pl.Date),
        pl.Series(["01/03/2026"] * 4),
        pl.Series([time(1)] * 4),
    ],
    ids=["half of it null", "all of it null", "text", "time of day"],
)
def test_column_to_count_from_holds_dates(today: pl.Series) -> None:
    frame = small(depth=[date(2026, 1, 1)] * 4, today=today)
    assert "today" in violations(frame, DAYS)


@pytest.mark.parametrize("as_of", ["2026-13-01", "tomorrow", ""])
def test_date_to_count_from_is_written_as_one(as_of: str) -> None:
    frame = small(depth=[date(2026, 1, 1)] * 4)
    with pytest.raises(UsageError, match=f'as_of expects a date, got "{as_of}"') as caught:
        check(frame, make_spec(features={"depth": weighted(encode="days_before")}), as_of=as_of)
    assert caught.value.hint == "write it as YYYY-MM-DD"


# Ids


def test_null_ids() -> None:
    violation = the_violation(small(account_id=["a", None, "c", None]))
    assert violation.column == "account_id"
    assert violation.problem == '2 of 4 account ids are null: "row 2", "row 4"'
    assert violation.hint == "every account needs an id of its own"


@pytest.mark.parametrize(
    ("ids", "shown"), [(["a", "b", "a", "a"], '"a"'), ([7, 8, 7, 7], '"7"')], ids=["text", "number"]
)
def test_ids_that_several_rows_share(ids: list[Any], shown: str) -> None:
    violation = the_violation(small(account_id=ids))
    assert violation.problem == (f"3 of 4 rows share their account id with another: {shown}")
    assert violation.hint == "one row per account: aggregate the table first"


def test_ids_whose_hashes_alone_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ids of one hash are told apart by the rows themselves, and cost nothing but time."""

    def alarmed(*arguments: Any) -> list[RowRule]:
        return [replace(rule, sign=pl.lit(1)) for rule in id_rules(*arguments)]

    expected = check(ACCOUNTS)
    monkeypatch.setattr(rules, "id_rules", alarmed)
    assert check(ACCOUNTS) == expected
    assert expected.ranges["depth"][1] > 0


def test_id_is_found_under_its_usual_names() -> None:
    spec = make_spec(id=None, features={"depth": weighted()})
    for name in ("customer_id", "COMPANY_ID", "Id"):
        assert check(small().rename({"account_id": name}), spec).id_column == name
    assert check(small().with_columns(id=1), spec).id_column == "account_id"
    assert check(small().drop("account_id"), spec).id_column is None


def test_id_that_the_spec_names_is_text_in_a_csv_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("client,depth,retained_6mo\n00012,0,1\n12,1,0\n", encoding="utf-8")
    spec = make_spec(id="client", features={"depth": weighted()})
    assert load_accounts(scan(path), spec).checked.accounts == 2


def test_without_an_id_culprits_go_by_their_row() -> None:
    frame = small(depth=[0.0, math.nan, 0.5, math.nan]).drop("account_id")
    violation = the_violation(frame, make_spec(id=None, features={"depth": weighted()}))
    assert violation.problem.endswith(': "row 2", "row 4"')


# Outcomes


@pytest.mark.parametrize("role", ["retained_6mo", "churned", "activated", "won_back"])
@pytest.mark.parametrize("odd", [2, -1, 0.5])
def test_labels_other_than_0_and_1(role: str, odd: float) -> None:
    base = small() if role != "won_back" else small(retained_6mo=[0, None, 0, 1])
    frame = base.with_columns(pl.Series(role, [None, odd, None, None], strict=False))
    if role in ("retained_6mo", "churned"):
        frame = frame.drop("retained_6mo").with_columns(
            pl.Series(role, [0, odd, 1, odd], strict=False)
        )
    violation = the_violation(frame)
    assert violation.column == role
    assert re.search(
        r"(2 of 4 values of outcome \w+ are|1 of 4 values of outcome \w+ is) neither 0 nor 1: ",
        violation.problem,
    )
    assert violation.problem.endswith(f": {float(odd)}")
    assert violation.hint == "labels are 0 and 1, null where unknown"


@pytest.mark.parametrize(
    ("column", "expected"),
    [("mrr", "amounts"), ("actual_ltv", "amounts")],
)
def test_text_in_an_outcome(column: str, expected: str) -> None:
    frame = small(mrr=[1, 2, 3, 4]).with_columns(pl.Series(column, ["yes", "no", "yes", None]))
    [violation] = violations(frame)[column]
    assert violation.problem.endswith(f'expects {expected}, got String: "yes", "no"')
    assert violation.hint == "store it as a number"


def test_words_of_a_label_that_nobody_knows() -> None:
    frame = small().with_columns(retained_6mo=pl.Series(["bleibt", "geht", "bleibt", None]))
    [violation] = violations(frame)["retained_6mo"]
    assert violation.problem.endswith('expects 0 and 1, got String: "bleibt", "geht"')
    assert "labels: {retained: {bleibt: 1, geht: 0}}, or the other way round" in violation.hint


@pytest.mark.parametrize("label", [[False, True, False, True], [0.0, 1.0, 0.0, 1.0]], ids=str)
def test_labels_of_other_types(label: list[Any]) -> None:
    assert check(small(retained_6mo=label)).accounts == 4


@pytest.mark.parametrize("column", ["mrr", "mrr_end", "days_to_activate"])
def test_negative_amounts(column: str) -> None:
    frame = small(retained_6mo=[1] * 4, mrr=[1.0] * 4).with_columns(
        pl.Series(column, [-0.01, 0.0, 1.0, -5.0])
    )
    violation = the_violation(frame)
    assert violation.column == column
    assert violation.problem == f"2 of 4 values of {column} are negative: -0.01, -5.0"
    assert violation.hint == "amounts are 0 or more"


def test_negative_ltv_is_allowed_and_said() -> None:
    checked = check(small(actual_ltv=[-1.0, 0.0, 2.0, None]))
    assert "2 accounts have no positive LTV and are left out of tier_separation." in checked.notes


@pytest.mark.parametrize("amount", [math.inf, 9.1e13])
@pytest.mark.parametrize("column", ["mrr", "mrr_end", "actual_ltv"])
def test_amounts_beyond_exact_cents(column: str, amount: float) -> None:
    frame = small(retained_6mo=[1] * 4, mrr=[1.0] * 4).with_columns(
        pl.Series(column, [1.0, 2.0, amount, 3.0])
    )
    violation = the_violation(frame)
    name = column.removeprefix("actual_")
    assert violation.problem == f'1 of 4 values of {name} is infinite or above 9e13: "c"'


@pytest.mark.parametrize("mrr", [None, math.nan])
def test_unknown_mrr_of_a_current_account(mrr: float | None) -> None:
    violation = the_violation(small(mrr=[1.0, mrr, 0.0, 2.0]))
    assert violation.column == "mrr"
    assert violation.problem == '1 of 4 values of mrr is unknown for current accounts: "b"'
    assert violation.hint == "MRR at the start of the window; 0 for who pays nothing"


def test_unknown_mrr_of_a_former_account_is_fine() -> None:
    frame = small(retained_6mo=[0, 1, None, 1], mrr=[1, 1, None, 1], won_back=[None, None, 1, None])
    assert check(frame).accounts == 4


def test_unknown_end_mrr_of_a_retained_account() -> None:
    violation = the_violation(small(mrr=[1] * 4, mrr_end=[None, None, None, 2.0]))
    assert violation.column == "mrr_end"
    assert violation.problem == ('1 of 4 values of mrr_end is unknown for retained accounts: "b"')
    assert violation.hint == "give the amount at the window's end; it may be 0"


def test_both_labels_and_not_complementary() -> None:
    violation = the_violation(small(churned=[0, 0, 1, 1]))
    assert violation.column == "churned"
    assert violation.problem == (
        '2 of 4 accounts are not either "retained_6mo" or churned: "a", "d"'
    )
    assert violation.hint == "exactly one of the two is 1"
    assert check(small(churned=[1, None, 1, 0])).accounts == 4


@pytest.mark.parametrize("label", ["retained_6mo", "churned"])
def test_churned_with_an_end_mrr(label: str) -> None:
    stays = pl.col("retained_6mo")
    frame = small(mrr=[5.0] * 4, mrr_end=[0.0, 5.0, 3.0, 0.0]).select(
        "account_id",
        "depth",
        "mrr",
        "mrr_end",
        (stays if label == "retained_6mo" else 1 - stays).alias(label),
    )
    violation = the_violation(frame)
    assert violation.column == "mrr_end"
    assert violation.problem == '1 of 4 churned accounts has an end MRR above 0: "c"'
    assert "label or amount is wrong" in violation.hint


def test_former_account_with_a_label() -> None:
    violation = the_violation(small(won_back=[None, 1, 0, None]))
    assert violation.column == "won_back"
    assert violation.problem == ('2 of 4 former accounts also have a retention label: "b", "c"')
    assert violation.hint == (
        "who left before the window has won_back, no label; who is current the reverse"
    )


def test_accounts_without_any_outcome() -> None:
    frame = small(retained_6mo=[0, None, 1, None], won_back=[None] * 4)
    violation = the_violation(frame)
    assert violation.column == ""
    assert violation.problem == '2 of 4 accounts have no outcome of any kind: "b", "d"'
    assert violation.hint == "--drop-unlabelled leaves them out and counts them"
    checked = check(frame, drop_unlabelled=True)
    assert (checked.accounts, checked.dropped) == (2, 2)


def test_no_account_with_an_outcome() -> None:
    frame = small(retained_6mo=[None] * 4, mrr_end=[None] * 4)
    violation = the_violation(frame, drop_unlabelled=True)
    assert violation.problem == "no account has an outcome"


def test_outcomes_aren_t_asked_for_where_a_table_is_only_scored() -> None:
    frame = small(retained_6mo=["maybe"] * 4, mrr=[-1] * 4)
    assert check(frame, outcomes=False).accounts == 4
    assert check(frame.drop("retained_6mo", "mrr"), outcomes=False).ranges["depth"] == (0, 10_000)
    assert set(violations(frame)) == {"retained_6mo", "mrr"}


@pytest.mark.parametrize("spec", [DEPTH, None], ids=["spec", "detected"])
def test_one_class_only_is_refused_before_anything_is_written(
    tmp_path: Path, spec: ScoringSpec | None
) -> None:
    frame = ACCOUNTS.filter(pl.col("retained_6mo") == 1).select(
        "account_id", "depth", "retained_6mo"
    )
    message = 'frame: objective "auc_roc_retain" is null on this table: one class only'
    hint = "choose another with --metric, or look at gtmar check"
    if spec is None:
        message = r"frame: none of \d+ accounts to fit on left, so nothing tells who leaves"
        hint = "the table must have accounts that left, too"
    with pytest.raises(AccountDataError, match=message) as caught:
        run(frame, spec, journal=tmp_path / "journal")
    assert str(caught.value.hint).startswith(hint)
    assert not (tmp_path / "journal").exists()


# All at once


def test_several_violations_come_in_one_message_and_nothing_is_accepted() -> None:
    frame = pl.DataFrame(
        {
            "account_id": ["a", "a", "c", None],
            "depth": [0.5, math.nan, math.inf, 0.5],
            "plan": ["x", "y", "y", "x"],
            "retained_6mo": [0, 3, 1, 1],
            "churned": ["weg", "weg", "da", "weg"],
            "mrr": [5.0, 5.0, -5.0, 5.0],
            "mrr_end": [5.0, 5.0, 5.0, 5.0],
        }
    )
    spec = make_spec(
        features={"depth": weighted(), "plan": binned("x"), "logins": weighted(), "mry": weighted()}
    )
    with pytest.raises(ViolationsError) as caught:
        load_accounts(scan(frame), spec)
    assert [violation.column for violation in caught.value.violations] == [
        "logins",
        "mry",
        "churned",
        "account_id",
        "account_id",
        "depth",
        "depth",
        "plan",
        "retained_6mo",
        "mrr",
        "mrr_end",
    ]
    first, *listed = caught.value.message.splitlines()
    assert first == "frame: 11 violations of the data contract"
    assert [line for line in listed if line.startswith("  - ")] == [
        f'  - column "{v.column}": {v.problem}' for v in caught.value.violations
    ]
    assert [line for line in listed if not line.startswith("  - ")] == [
        f"    hint: {v.hint}" for v in caught.value.violations
    ]
    assert caught.value.facts["violations"] == [
        {"column": v.column, "problem": v.problem, "hint": v.hint, "rows": v.rows}
        for v in caught.value.violations
    ]
    assert caught.value.code == "contract"
    assert caught.value.exit_code == 3


def test_first_five_culprits_in_the_order_of_the_table() -> None:
    values = [math.nan if i % 2 else 0.5 for i in range(60)]
    frame = ACCOUNTS.with_columns(depth=pl.Series(values))
    problem = the_violation(frame).problem
    assert problem.startswith(
        '30 of 60 values of feature "depth" are null or NaN: '
        '"acct-00001", "acct-00003", "acct-00005", "acct-00007", "acct-00009"'
    )


@pytest.mark.parametrize(
    "frame",
    [
        ACCOUNTS.with_columns(depth=math.nan),
        ACCOUNTS.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in OUTCOMES),
    ],
    ids=["values", "unlabelled"],
)
def test_number_of_further_culprits_is_right(frame: pl.DataFrame) -> None:
    problem = the_violation(frame).problem
    assert "60 of 60" in problem
    assert "and 1 more" not in problem


# Overflow


def test_overflow_of_the_integer_score() -> None:
    spec = make_spec(features={"depth": weighted(1, 0, 1_000_000)}, base=0)
    frame = small(depth=[0.0, 8e11, 0.0, 0.0])
    with pytest.raises(SpecError) as caught:
        load_accounts(scan(frame), spec)
    assert caught.value.message == (
        'spec "test": scores may reach 8e+17 points within the bounds, beyond what 64-bit '
        "integers hold"
    )
    assert caught.value.hint == "scale the largest feature with `encode: {kind: range, ...}`"


def test_overflow_is_judged_by_the_bounds_and_not_by_the_weights() -> None:
    frame = small(depth=[0.0, 8e11, 0.0, 0.0])
    # 8e15 units times 576 is just below 2^62, times 577 just above.
    assert load_accounts(scan(frame), make_spec(features={"depth": weighted(1, -576, 576)}))
    for low, high in ((-577, 1), (1, 577)):
        with pytest.raises(SpecError, match="beyond what 64-bit integers hold"):
            load_accounts(scan(frame), make_spec(features={"depth": weighted(1, low, high)}))


# What is allowed and said


def notes(frame: pl.DataFrame, spec: ScoringSpec = DEPTH) -> tuple[str, ...]:
    return check(frame, spec).notes


def test_nothing_to_say() -> None:
    assert notes(small()) == ()


def test_no_id_is_said() -> None:
    spec = make_spec(id=None, features={"depth": weighted()})
    assert notes(small().drop("account_id"), spec) == (
        "No account id: the split follows each row's content, so that twins stay together.",
    )


def test_label_taken_from_the_end_mrr_is_said() -> None:
    frame = small(mrr=[1, 1, 1, 1], mrr_end=[0, 1, 0, 2])
    note = "No retained_6mo or churned column: retained is taken as mrr_end > 0."
    assert note in notes(frame.drop("retained_6mo"))
    assert note not in notes(frame)


def test_free_accounts_that_count_as_lost_are_said() -> None:
    """A tenth of the accounts paid nothing at either end, and was called lost without a word."""
    frame = small(mrr=[0, 0, 1, 1], mrr_end=[0, 0, 0, 2])
    start = "2 accounts paid nothing at the start and pay nothing at the end: they count as lost"
    assert any(note.startswith(start) for note in notes(frame.drop("retained_6mo")))
    assert not any("paid nothing" in note for note in notes(frame.with_columns(retained_6mo=1)))
    paid = small(mrr=[1, 1, 1, 1], mrr_end=[0, 1, 0, 2]).drop("retained_6mo")
    assert not any("paid nothing" in note for note in notes(paid))


def test_binary_basis_is_said() -> None:
    start = "No mrr_end column: revenue retention is on the binary basis, MRR assumed flat"
    frame = small(mrr=[1, 1, 1, 1])
    assert any(note.startswith(start) for note in notes(frame))
    assert not any(note.startswith(start) for note in notes(frame.with_columns(mrr_end=0)))


def test_retained_without_revenue_is_said() -> None:
    note = "1 account is retained with mrr_end = 0: it kept the logo and lost the revenue."
    assert note in notes(small(mrr=[1, 1, 0, 0], mrr_end=[0, 0, 0, 0]))


def test_fractions_of_cents_are_said() -> None:
    note = (
        "mrr is read in cents: 1 value had finer fractions; the total moves from 4.0051 to 4.01 "
        "(+0.0049)."
    )
    assert note in notes(small(mrr=[1.005_1, 1, 1, 1], mrr_end=[0, 1, 0, 2]))
    for said in notes(small(mrr=[1.01, 0.29, 0.57, 1.13], mrr_end=[0, 1, 0, 2])):
        assert "finer fractions" not in said


def test_roles_of_a_table() -> None:
    columns = OutcomeColumns.matching(SPEC.outcomes, ["x", "mrr", "retained_6mo"])
    assert columns.columns == {"retained": "retained_6mo", "mrr": "mrr"}
