"""Categories match by value: in a score, in the contract, and in SQL."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from factories import weighted

from gtmar import spec as specs
from gtmar.errors import ViolationsError
from gtmar.integrations.sql import select
from gtmar.runs import score
from gtmar.spec import ScoringSpec


def spec_of(values: dict[str, float], default: float | None = 0, **more: Any) -> ScoringSpec:
    encode = {"kind": "one_of", "values": values, **({} if default is None else {"default": 0})}
    return ScoringSpec.model_validate(
        {
            "model": "m",
            "id": "account_id",
            "features": {"code": weighted(10, encode=encode, missing={"value": 0.5})},
            "tiers": {"all": {"min": 0, "max": 101}},
            **more,
        }
    )


def points(code: pl.Series, values: dict[str, float], default: float | None = 0) -> list[float]:
    frame = pl.DataFrame({"account_id": [f"a{n}" for n in range(len(code))], "code": code})
    scored = score(frame, spec_of(values, default))
    return scored["points.code"].to_list()


TEN = {"10": 1.0, "20": 0.2}


@pytest.mark.parametrize(
    ("code", "values", "expected"),
    [
        (pl.Series([10, 20, None]), TEN, [10, 2, 5]),
        (pl.Series([10.0, 20.0, None]), TEN, [10, 2, 5]),
        (pl.Series([10.0, 20.0], dtype=pl.Float32), TEN, [10, 2]),
        (pl.Series([Decimal("10.00"), Decimal("20.50")]), TEN, [10, 0]),
        (pl.Series(["10.0", "20", "30"]), TEN, [10, 2, 0]),
        (pl.Series([2**53 + 1, 2**53]), {str(2**53 + 1): 1.0}, [10, 0]),
        (pl.Series([1e15, 2e15]), {"1000000000000000": 1.0, "2000000000000000": 0.5}, [10, 5]),
        (pl.Series([True, False]), {"True": 1.0, "False": 0.5}, [10, 5]),
        (pl.Series(["True", "FALSE"]), {"true": 1.0, "false": 0.5}, [10, 5]),
        (pl.Series([1, 0]), {"true": 1.0, "false": 0.5}, [10, 5]),
        (pl.Series([True, False]), {"1": 1.0, "0": 0.5}, [10, 5]),
        (pl.Series(["1.1", "1.10"]), {"1.1": 1.0, "1.10": 0.5}, [10, 5]),
        (pl.Series([1.1]), {"1.10": 1.0}, [10]),
        (pl.Series(["01", "x"]), {"01": 1.0}, [10, 0]),
        (pl.Series(["1E2", "x"]), {"1E2": 1.0}, [10, 0]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), {"a": 1.0}, [10, 0]),
        (pl.Series(["10", "20"], dtype=pl.Enum(["10", "20"])), TEN, [10, 2]),
    ],
)
def test_a_category_matches_by_value(
    code: pl.Series, values: dict[str, float], expected: list[float]
) -> None:
    assert points(code, values) == expected


@pytest.mark.parametrize(
    "code", [pl.Series([1, 12]), pl.Series([1.0, 12.0]), pl.Series(["1", "12"])]
)
def test_a_code_that_lost_its_zeros_is_refused_and_no_default(code: pl.Series) -> None:
    with pytest.raises(
        ViolationsError, match="equals one of the spec's categories as numbers"
    ) as e:
        points(code, {"01": 1.0, "12": 0.5})
    assert e.value.violations[0].rows == 1
    assert 'the spec has "01"' in e.value.violations[0].hint


def test_a_column_of_which_no_value_matches_is_refused() -> None:
    with pytest.raises(ViolationsError, match="none of its 3 known values is one") as caught:
        points(pl.Series(["Starter", "Growth", "Growth", None]), {"starter": 1.0, "growth": 0.5})
    [violation] = caught.value.violations
    assert '"Growth" for "growth"' in violation.hint


def test_where_most_values_match_nothing_it_is_said() -> None:
    frame = pl.DataFrame({"account_id": list("abc"), "code": ["10", "30", "40"]})
    said: list[str] = []
    score(frame, spec_of(TEN), announce=said.append)
    assert len(said) == 1
    assert said[0].startswith('Feature "code": 2 of 3 known values are none of the spec\'s 2')
    assert "count as default" in said[0]


CSV = "account_id,code\na1,{0}\na2,{1}\n"


@pytest.mark.parametrize(
    ("one", "two", "values"),
    [
        ("01", "02", {"01": 1.0, "02": 0.5}),
        ("True", "False", {"True": 1.0, "False": 0.5}),
        ("1.10", "1.1", {"1.10": 1.0, "1.1": 0.5}),
        ("1E2", "1e3", {"1E2": 1.0, "1e3": 0.5}),
        ("10.0", "20.0", {"10": 1.0, "20": 0.5}),
        ("NA", "-", {"NA": 1.0, "-": 0.5}),
    ],
)
def test_a_csv_column_of_categories_keeps_its_spelling(
    tmp_path: Path, one: str, two: str, values: dict[str, float]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV.format(one, two), encoding="utf-8")
    assert score(path, spec_of(values))["points.code"].to_list() == [10, 5]


@pytest.mark.parametrize(
    "sql_type", ["integer", "double", "decimal(12, 3)", "varchar", "hugeint", "float"]
)
def test_sql_matches_by_value_too(sql_type: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "create table accounts as select account_id, cast(code as "
            f"{sql_type}) as code from (values ('a', '10'), ('b', '20'), ('c', '30')) t(account_id,"
            " code)"
        )
        scored = connection.sql(select(spec_of(TEN), "accounts")).pl().sort("account_id")
    assert scored["points.code"].cast(pl.Float64).to_list() == [10, 2, 0]


@pytest.mark.parametrize("words", [("true", "false"), ("True", "False"), ("1", "0")])
def test_sql_takes_a_flag_by_its_value(words: tuple[str, str]) -> None:
    values = dict(zip(words, (1.0, 0.2), strict=True))
    with duckdb.connect() as connection:
        connection.execute("create table accounts (account_id varchar, code boolean)")
        connection.execute("insert into accounts values ('a', true), ('b', false)")
        scored = connection.sql(select(spec_of(values), "accounts")).pl().sort("account_id")
    assert scored["points.code"].cast(pl.Float64).to_list() == [10, 2]


def test_how_cells_are_read_is_part_of_a_spec_and_of_its_id() -> None:
    plain, marked = spec_of(TEN), spec_of(TEN, read={"nulls": ["tbd"]})
    assert specs.score_id(plain) != specs.score_id(marked)
    assert specs.score_id(plain) == specs.score_id(spec_of(TEN, read={}))
    assert specs.parse(specs.to_yaml(marked)) == marked


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical])
def test_blanks_around_a_category_count_nowhere(tmp_path: Path, dtype: Any) -> None:
    cells = ["pro", "pro ", " pro", " basic", "other "]
    code = pl.Series(cells, dtype=dtype)
    assert points(code, {"pro": 1, "basic": 0.5}) == [10, 10, 10, 5, 0]
    assert points(code, {"pro ": 1, "basic": 0.5}) == [10, 10, 10, 5, 0]
    frame = pl.DataFrame({"account_id": [f"a{n}" for n in range(5)], "code": cells})
    frame.write_csv(tmp_path / "a.csv", quote_style="always")
    of_text = score(tmp_path / "a.csv", spec_of({"pro": 1, "basic": 0.5}))
    assert of_text["points.code"].to_list() == [10, 10, 10, 5, 0]


def test_blanks_around_a_category_count_nowhere_in_sql() -> None:
    code = pl.Series(["pro", "pro ", " basic", "other"])
    frame = pl.DataFrame({"account_id": ["a", "b", "c", "d"], "code": code})
    spec = spec_of({"pro ": 1, "basic": 0.5})
    with duckdb.connect() as con:
        con.register("accounts", frame)
        found = con.sql(select(spec, "accounts")).pl().sort("account_id")
    assert found["score"].to_list() == score(frame, spec)["score"].to_list()


@pytest.mark.parametrize(("dtype", "code"), [(pl.Float64, 2.0**53), (pl.Float32, 2.0**24)])
def test_codes_that_a_float_cannot_hold_are_refused(dtype: Any, code: float) -> None:
    with pytest.raises(ViolationsError, match=f"too large for {dtype.__name__} to hold exactly"):
        points(pl.Series([1.0, code], dtype=dtype), {"1": 1, str(int(code)): 0.5})
