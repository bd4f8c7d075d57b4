"""The first spec of a table: what becomes a feature, what is left out and why; nothing leaks."""

import math
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from factories import OUTCOMES, make_accounts

from gtmar.autospec.first_spec import FirstSpec, first_spec
from gtmar.data.encode import encoded_terms
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.data.split import holdout_mask
from gtmar.engine.equal_sizes import tier_sizes
from gtmar.errors import AccountDataError
from gtmar.spec import Outcomes, parse
from gtmar.stats import logistic as additive

N = 400
ACCOUNTS = make_accounts(N)
HELD_OUT = pl.Series(holdout_mask(ACCOUNTS["account_id"], share=0.3, salt="gtmar"))


def detect(frame: pl.DataFrame, **more: Any) -> FirstSpec:
    return first_spec(scan(frame), **more)


def with_column(values: Any) -> FirstSpec:
    """Detect the shared table with one more column."""
    column = values if isinstance(values, pl.Series) else pl.Series(values, strict=False)
    return detect(ACCOUNTS.with_columns(extra=column))


def cycled(*values: Any) -> list[Any]:
    return [values[i % len(values)] for i in range(N)]


# What becomes of a column


def test_what_only_accounts_held_out_have_is_read_too() -> None:
    """Neither a 2 among flags nor an endless value leaves a spec that its own table breaks."""
    two = pl.when(HELD_OUT).then(pl.Series(cycled(0, 2))).otherwise(pl.Series(cycled(0, 1, 1)))
    endless = pl.when(HELD_OUT).then(math.inf).otherwise(pl.int_range(N) % 7)
    flag = pl.Series(cycled(0.0, 1.0, math.nan, None))
    frame = ACCOUNTS.with_columns(two=two, endless=endless, flag=flag)
    found = detect(frame)
    kinds = {name: feature.encode.kind for name, feature in found.spec.features.items()}
    assert (kinds["two"], kinds["flag"]) == ("range", "bool")
    assert "#   endless: has infinite values" in found.text
    read = load_accounts(scan(frame), found.spec)
    assert read.holdout is not None
    assert read.search.accounts + read.holdout.accounts == N


def test_features_of_the_shared_table() -> None:
    found = detect(ACCOUNTS)
    kinds = {name: feature.encode.kind for name, feature in found.spec.features.items()}
    assert kinds == {
        "alert_created": "bool",
        "depth": "range",
        "logins": "range",
        "plan": "one_of",
    }
    assert found.left_out == {
        "account_id": "the account id",
        **dict.fromkeys(OUTCOMES, "an outcome"),
    }


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (cycled(True, False, False), "bool"),
        (cycled(0, 1, 1), "bool"),
        (cycled(0.0, 1.0, None), "bool"),
        (cycled(1, None), "bool"),
        (cycled(1, 2), "range"),
        (cycled(1, 2, 3), "range"),
        (cycled(0.5, 1.0, math.nan), "curve"),
        (cycled("a", "b", None), "one_of"),
        (pl.Series(cycled("a", "b")).cast(pl.Categorical), "one_of"),
        (pl.Series(cycled("1.5", "2.5")).cast(pl.Decimal(5, 1)), "range"),
    ],
    ids=[
        *("boolean", "0 and 1", "doubles", "1 or unknown", "two", "three", "with NaN", "text"),
        *("categorical", "decimal"),
    ],
)
def test_encoder_that_suits_a_column(values: Any, kind: str) -> None:
    assert with_column(values).spec.features["extra"].encode.kind == kind


LATER = datetime(2026, 1, 1)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([7] * N, "constant: always 7"),
        (["same"] * N, "constant: always same"),
        (pl.Series([None] * N, dtype=pl.Float64), "empty"),
        (pl.Series([None] * N), "empty"),
        ([math.nan] * N, "empty"),
        (cycled(1.0, math.inf), "has infinite values"),
        ([date(2026, 1, 1)] * N, "a date; encode it with days_before and --as-of"),
        (
            [LATER + timedelta(i) for i in range(N)],
            "a date; encode it with days_before and --as-of",
        ),
        (
            [timedelta(i) for i in range(N)],
            "a Duration(time_unit='us'), no date and no number; store it as a number, of hours or "
            "days",
        ),
        (
            cycled("2026-01-31", "2026-02-01"),
            "a date; encode it with days_before and --as-of",
        ),
        ([[1, 2]] * N, "of type List(Int64), neither number nor category"),
        ([{"a": 1}] * N, "of type Struct({'a': Int64}), neither number nor category"),
        (cycled(b"x", b"y"), "of type Binary, neither number nor category"),
    ],
    ids=[
        *("number", "text", "nulls", "no type", "NaN", "infinite", "dates", "times", "durations"),
        *("dates as text", "list", "struct", "bytes"),
    ],
)
def test_what_is_left_out_and_why(values: Any, reason: str) -> None:
    found = with_column(values)
    assert found.left_out["extra"] == reason
    assert "extra" not in found.spec.features
    assert f"  #   extra: {reason}\n" in found.text


def test_many_categories_are_free_text() -> None:
    found = with_column([f"category {i % 51}" for i in range(N)])
    assert found.left_out["extra"] == "free text or an identifier: 51 distinct values"


def test_categories_that_are_all_rare_say_nothing() -> None:
    found = with_column([f"category {i % 50}" for i in range(N)])
    assert found.left_out["extra"] == "no category differs from the others"


@pytest.mark.parametrize(
    ("name", "left_out"),
    [("user_id", True), ("userId", True), ("GSID", True), ("age", False), ("amount_paid", False)],
)
def test_numbers_that_all_differ_are_an_identifier_by_their_name(name: str, left_out: bool) -> None:
    """Also where a merge made doubles of them: 1000.0 was a feature."""
    for dtype in (pl.Int64, pl.Float64):
        found = detect(ACCOUNTS.with_columns(pl.Series(name, range(N), dtype=dtype)))
        assert (name in found.left_out) is left_out
        if left_out:
            assert found.left_out[name] == "an identifier: every value differs"
    found = detect(ACCOUNTS.with_columns(pl.Series(name, [n + 0.5 for n in range(N)])))
    assert name not in found.left_out


def test_outcome_under_another_name_is_left_out() -> None:
    twin = ACCOUNTS["retained_6mo"].fill_null(0)
    for column in (twin, 1 - twin, twin * 5.0 + 2):
        found = with_column(column)
        assert "it is the outcome under another name" in found.left_out["extra"]
        assert "--outcome" in found.left_out["extra"]


# Only the search part is looked at


def test_holdout_is_not_looked_at() -> None:
    wild = ACCOUNTS.with_columns(
        pl.when(HELD_OUT).then(value).otherwise(name).alias(name)
        for name, value in {
            "alert_created": 1 - pl.col("alert_created"),
            "depth": pl.lit(1e9),
            "logins": pl.lit(None, dtype=pl.Int64),
            "plan": pl.lit("never seen"),
            "retained_6mo": 1 - pl.col("retained_6mo"),
            "churned": 1 - pl.col("churned"),
            "mrr": pl.col("mrr") * 1_000,
            "mrr_end": pl.lit(123.0),
            "actual_ltv": pl.lit(None, dtype=pl.Float64),
            "activated": pl.lit(1),
            "won_back": pl.lit(None, dtype=pl.Int64),
        }.items()
    )
    assert not wild.equals(ACCOUNTS)
    before, after = detect(ACCOUNTS), detect(wild)
    assert after.spec == before.spec
    assert after.text == before.text
    assert after.left_out == before.left_out


def test_search_part_is_looked_at() -> None:
    turned = ACCOUNTS.with_columns(
        pl.when(HELD_OUT).then(name).otherwise(1 - pl.col(name)).alias(name)
        for name in ("retained_6mo", "churned")
    )
    assert detect(turned).spec != detect(ACCOUNTS).spec


def test_fit_does_not_depend_on_the_order_of_rows() -> None:
    shuffled = ACCOUNTS.sample(fraction=1, shuffle=True, seed=2)
    assert detect(shuffled).spec == detect(ACCOUNTS).spec


def test_accounts_that_a_large_table_is_thinned_to_do_not_depend_on_the_order_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = detect(ACCOUNTS).spec
    monkeypatch.setattr(additive, "_MOST_CELLS", 4_000)
    assert detect(ACCOUNTS).spec != whole
    shuffled = ACCOUNTS.sample(fraction=1, shuffle=True, seed=2)
    assert detect(shuffled).spec == detect(ACCOUNTS).spec


def test_share_of_the_holdout_is_written_into_the_spec() -> None:
    assert detect(ACCOUNTS).spec.split.holdout == 0.3
    half = detect(ACCOUNTS, holdout=0.5)
    assert half.spec.split.holdout == 0.5
    seen = N - int(holdout_mask(ACCOUNTS["account_id"], share=0.5, salt="gtmar").sum())
    assert (
        f"fitted together to {seen:,} accounts of the search part; the other 50% are" in half.text
    )


def test_without_a_holdout_all_is_looked_at() -> None:
    found = detect(ACCOUNTS, holdout=0)
    assert f"fitted together to {N} accounts of the search part; there is no holdout" in found.text


def test_split_is_the_one_of_the_run() -> None:
    accounts = load_accounts(scan(ACCOUNTS), detect(ACCOUNTS).spec)
    assert accounts.holdout is not None
    assert accounts.holdout.accounts == HELD_OUT.sum()
    assert f"fitted together to {accounts.search.accounts} accounts" in detect(ACCOUNTS).text


@pytest.mark.parametrize("bins", [False, True])
@pytest.mark.parametrize("late", [None, math.nan], ids=["null", "NaN"])
def test_an_unknown_that_the_holdout_alone_holds_counts_as_the_mean(
    late: float | None, bins: bool
) -> None:
    """Every kind of feature says what an unknown is worth, though the search part has none."""
    frame = ACCOUNTS.with_columns(
        curve=pl.Series(cycled(1, 2, 3)).cast(pl.Float64), same=pl.Series(cycled(0.5, 1.5))
    )
    names = ["alert_created", "depth", "logins", "plan", "curve", "same"]
    whole = detect(frame, bins=bins)
    gone = frame.with_columns(
        pl.when(HELD_OUT)
        .then(pl.lit(late) if frame.schema[name] == pl.Float64 else None)
        .otherwise(pl.col(name))
        .alias(name)
        for name in names
    )
    found = detect(gone, bins=bins)
    assert found.text == whole.text
    accounts = load_accounts(scan(gone), found.spec)
    [note] = [n for n in accounts.checked.notes if n.startswith("Unknown values")]
    assert f"of {N} accounts: alert_created {HELD_OUT.sum()}" in note
    assert note.count(f" {HELD_OUT.sum()}") == len(names) - 1
    assert note.endswith(" and 1 more.")
    encoded = frame.filter(~HELD_OUT).select(**encoded_terms(found.spec, frame.schema))
    for name, feature in found.spec.features.items():
        if feature.encode.kind == "bins":
            points = {t.bin: t for t in found.spec.terms if t.feature == name}
            fixed = points.pop("missing")
            assert fixed.min == fixed.weight == fixed.max
            shares = [_mean(encoded[t.name]) / 10_000 for t in points.values()]
            mean = sum(s * t.weight for s, t in zip(shares, points.values(), strict=True))
            assert fixed.weight == pytest.approx(mean, abs=1)
        else:
            assert not isinstance(feature.missing, str)
            mean = _mean(encoded[name]) / 10_000
            assert feature.missing.value == pytest.approx(mean, abs=0.06)


def _mean(values: pl.Series) -> float:
    mean = values.mean()
    assert isinstance(mean, float)
    return mean


def test_what_an_unknown_is_worth_changes_no_score_of_a_table_without_any() -> None:
    spec = detect(ACCOUNTS).spec
    bare = spec.model_copy(
        update={
            "features": {
                name: feature.model_copy(update={"missing": "error"})
                for name, feature in spec.features.items()
            }
        }
    )
    schema = ACCOUNTS.schema
    assert ACCOUNTS.select(**encoded_terms(spec, schema)).equals(
        ACCOUNTS.select(**encoded_terms(bare, schema))
    )


# Orientation


def rises(encode: dict[str, Any]) -> bool:
    """Whether more of the column is more of the feature, from end to end."""
    if encode["kind"] == "curve":
        return bool(encode["points"][0][1] < encode["points"][-1][1])
    return not encode["invert"]


def test_every_feature_is_turned_towards_the_outcome() -> None:
    frame = ACCOUNTS.with_columns(
        shallow=1 - pl.col("depth"),
        silent=1 - pl.col("alert_created"),
        late=(pl.col("depth") * -9).exp(),
    )
    spec = detect(frame).spec
    search = frame.filter(~HELD_OUT).filter(pl.col("retained_6mo").is_not_null())
    encoded = search.select(**encoded_terms(spec, search.schema))
    label = search["retained_6mo"].to_numpy()
    for name in encoded.columns:
        assert np.corrcoef(encoded[name].to_numpy(), label)[0, 1] >= 0, name
    stated = {name: f.encode.model_dump() for name, f in spec.features.items()}
    assert rises(stated["depth"])
    assert not rises(stated["shallow"])
    assert rises(stated["alert_created"]) is not rises(stated["silent"])


def test_comment_states_the_correlation_before_the_turn() -> None:
    found = detect(ACCOUNTS.with_columns(shallow=1 - pl.col("depth")))
    lines = found.text.splitlines()
    for name, sign in (("depth", "+"), ("shallow", "-")):
        row = next(i for i, line in enumerate(lines) if line.startswith(f"  {name}:"))
        assert lines[row - 1].startswith(f"  # r = {sign}0.")


# Values


def test_values_of_categories_follow_their_retention() -> None:
    plans = pl.Series(cycled("gold", "silver", "lead", None))
    retained = pl.Series(cycled(1, 0, 0, 1)).zip_with(
        pl.Series(i % 8 != 5 for i in range(N)), pl.Series(cycled(1, 1, 0, 0))
    )
    frame = pl.DataFrame(
        {"account_id": ACCOUNTS["account_id"], "plan": plans, "retained_6mo": retained}
    )
    feature = detect(frame).spec.features["plan"].model_dump()
    values = feature["encode"]["values"]
    assert values["gold"] == 1.0
    assert values["lead"] == 0.0
    assert 0.0 < values["silver"] < 1.0
    assert feature["encode"]["default"] is not None
    assert feature["missing"] == {"value": 1.0}


def test_unknown_number_gets_a_value_of_its_own() -> None:
    depth = pl.when(pl.int_range(pl.len()) % 5 == 0).then(None).otherwise("depth")
    feature = detect(ACCOUNTS.with_columns(depth=depth)).spec.features["depth"]
    assert feature.model_dump()["missing"]["value"] == pytest.approx(0.5, abs=0.3)
    lines = detect(ACCOUNTS).text.splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith("  depth:"))
    assert lines[row - 1].endswith("; none unknown; one that comes counts as the mean")


# The rest of the spec


def test_weights_start_equal_and_bounds_are_wide() -> None:
    spec = detect(ACCOUNTS).spec
    assert set(spec.weights.values()) == {25}
    assert {(term.min, term.max) for term in spec.terms} == {(-75, 75)}


@pytest.mark.slow
def test_many_features_share_the_points() -> None:
    more = {f"x{i}": ACCOUNTS["depth"] * (i + 1) for i in range(300)}
    spec = detect(ACCOUNTS.with_columns(**more)).spec
    assert set(spec.weights.values()) == {1}
    assert {(term.min, term.max) for term in spec.terms} == {(-25, 25)}


def test_tiers_are_the_quarters_of_the_search_part() -> None:
    spec = detect(ACCOUNTS).spec
    assert spec.tier_names == ("A", "B", "C", "D")
    search = ACCOUNTS.filter(~HELD_OUT)
    encoded = search.select(**encoded_terms(spec, search.schema))
    scores = sorted(sum(row) * 25 / 10_000 for row in encoded.iter_rows())
    lows = [low / 100 for low in reversed(spec.tier_lows)]
    assert lows[0] == 0
    for low, share in zip(lows[1:], (0.25, 0.5, 0.75), strict=True):
        assert low == pytest.approx(float(np.quantile(scores, share)), abs=0.5)


def test_tiers_are_quarters_by_share_and_need_no_guardrail() -> None:
    spec = detect(ACCOUNTS).spec
    assert spec.guardrails == ()
    assert [spec.tiers[tier].share for tier in "ABCD"] == [0.25] * 4
    assert spec.has_edges
    searched = load_accounts(scan(ACCOUNTS), spec).search
    sizes = tier_sizes(searched, spec, [term.weight for term in spec.terms])
    assert max(sizes) - min(sizes) <= 0.05 * searched.accounts


@pytest.mark.parametrize(
    ("outcomes", "objective", "spoken"),
    [
        (("retained_6mo",), "auc_roc_retain", "retention"),
        (("churned",), "auc_roc_retain", "retention"),
        (("mrr_end",), "auc_roc_retain", "retention"),
        (("mrr", "mrr_end"), "auc_roc_retain", "retention"),
        (("actual_ltv",), "tier_separation", "LTV"),
        (("actual_ltv", "mrr"), "tier_separation", "LTV"),
        (("activated",), "activation_rate_by_tier.A", "activation"),
        (("won_back",), "winback_rate_by_former_tier.A", "win-back"),
        (("mrr",), "revenue_capture_at_20", "MRR"),
    ],
    ids=str,
)
def test_objective_follows_from_the_outcomes_there_are(
    outcomes: tuple[str, ...], objective: str, spoken: str
) -> None:
    others = [name for name in OUTCOMES if name not in outcomes]
    frame = ACCOUNTS.drop(others).filter(pl.any_horizontal(pl.col(outcomes).is_not_null()))
    found = detect(frame)
    assert found.spec.objective == objective
    assert f"goes with more {spoken};" in found.text
    assert set(found.spec.features) == {"alert_created", "depth", "logins", "plan"}
    accounts = load_accounts(scan(frame), found.spec)
    assert accounts.search.accounts > 0


def test_money_orients_by_its_rank() -> None:
    """One account of enormous value must not turn a feature round."""
    search = ACCOUNTS.filter(~HELD_OUT)["account_id"]
    here = pl.col("account_id") == search[0]
    frame = ACCOUNTS.select(
        "account_id",
        depth=pl.when(here).then(0.0).otherwise("depth"),
        actual_ltv=pl.when(here).then(1e12).otherwise(pl.col("depth") * 100 + 1)
        + pl.int_range(pl.len()) % 97,
    )
    assert rises(detect(frame).spec.features["depth"].encode.model_dump())


# Bins


def test_with_bins_each_account_is_in_one_bin_of_each_feature() -> None:
    frame = ACCOUNTS.with_columns(
        depth=pl.when(pl.int_range(pl.len()) % 5 == 0).then(None).otherwise("depth")
    )
    spec = detect(frame, bins=True).spec
    kinds = {name: feature.encode.kind for name, feature in spec.features.items()}
    assert kinds == {"alert_created": "bool", "depth": "bins", "logins": "bins", "plan": "bins"}
    encoded = frame.select(**encoded_terms(spec, frame.schema))
    for name in ("depth", "logins", "plan"):
        own = [term.name for term in spec.terms if term.feature == name]
        assert (encoded.select(pl.sum_horizontal(own)).to_series() == 10_000).all()
    assert "depth[missing]" in spec.weights
    fixed = {term.name for term in spec.terms if term.fixed}
    assert fixed == {"logins[missing]", "plan[missing]"}


def test_with_bins_each_feature_reaches_from_0_to_the_same_points() -> None:
    spec = detect(ACCOUNTS, bins=True).spec
    for name in ("depth", "logins", "plan"):
        points = [term.weight for term in spec.terms if term.feature == name]
        assert (min(points), max(points)) == (0, 25)
    assert {(t.min, t.max) for t in spec.terms if t.bin not in (None, "missing")} == {(0, 75)}
    assert spec.weights["alert_created"] == 25


def test_text_with_bins_parses_to_the_spec_a_line_a_bin() -> None:
    found = detect(ACCOUNTS, bins=True)
    assert parse(found.text) == found.spec
    lines = {line.strip().replace("'", "") for line in found.text.splitlines()}
    for term in found.spec.terms:
        if term.bin is not None:
            weight = f"{{weight: {term.weight}, min: {term.min}, max: {term.max}}}"
            assert f"{term.bin}: {weight}" in lines


def test_bins_do_not_depend_on_the_order_of_rows() -> None:
    shuffled = ACCOUNTS.sample(fraction=1, shuffle=True, seed=2)
    assert detect(shuffled, bins=True).text == detect(ACCOUNTS, bins=True).text


def test_bins_are_fitted_to_the_search_part_alone() -> None:
    wild = ACCOUNTS.with_columns(
        depth=pl.when(HELD_OUT).then(pl.lit(1e9)).otherwise("depth"),
        plan=pl.when(HELD_OUT).then(pl.lit("never seen")).otherwise("plan"),
        retained_6mo=pl.when(HELD_OUT).then(1 - pl.col("retained_6mo")).otherwise("retained_6mo"),
        churned=pl.when(HELD_OUT).then(1 - pl.col("churned")).otherwise("churned"),
    )
    assert detect(wild, bins=True).text == detect(ACCOUNTS, bins=True).text


# The text


def test_text_parses_to_the_spec() -> None:
    found = detect(ACCOUNTS)
    assert parse(found.text) == found.spec
    assert found.text.startswith("# First spec, detected by gtmar from frame. Edit it: it is yours")
    assert "# Outcomes found: retained_6mo (retained), churned (churned), mrr (mrr)," in found.text
    assert "id: account_id\n" in found.text


def test_source_is_named(tmp_path: Any) -> None:
    path = tmp_path / "accounts.parquet"
    ACCOUNTS.write_parquet(path)
    assert f"detected by gtmar from {path}." in first_spec(scan(path)).text


@pytest.mark.parametrize(
    "name",
    ["Call  Failure", "no", "1", "a: b", "# a", "[0,3)", "a\nb", '"', "é", "null", "-", "x" * 200],
)
def test_awkward_column_names_survive(name: str) -> None:
    found = detect(ACCOUNTS.rename({"depth": name}))
    assert name in found.spec.features
    left_out = detect(ACCOUNTS.with_columns(pl.lit("same").alias(name)))
    assert left_out.left_out[name] == "constant: always same"


@pytest.mark.parametrize(
    "category",
    [
        *("no", "1.5", "", "a\nb", "a: b", "'", "\x07", "~"),
        "\u2028",
    ],
)
def test_awkward_categories_survive(category: str) -> None:
    found = with_column([category if depth > 0.5 else "else" for depth in ACCOUNTS["depth"]])
    assert set(found.spec.features["extra"].encode.model_dump()["values"]) == {category, "else"}


@pytest.mark.parametrize(
    "frame",
    [
        ACCOUNTS.with_columns(extra=pl.lit("\x07")),
        ACCOUNTS.with_columns(pl.lit("same").alias("\x07")),
    ],
    ids=["value", "name"],
)
def test_control_characters_in_what_is_left_out(frame: pl.DataFrame) -> None:
    assert detect(frame).spec.features


# Ids and outcomes by other names


@pytest.mark.parametrize("name", ["customer_id", "COMPANY_ID", "id"])
def test_id_under_its_usual_names(name: str) -> None:
    found = detect(ACCOUNTS.rename({"account_id": name}))
    assert found.spec.id == name
    assert found.left_out[name] == "the account id"


def test_id_that_is_named() -> None:
    frame = ACCOUNTS.with_columns(key=pl.col("account_id").str.to_uppercase())
    found = detect(frame, identifier="key")
    assert found.spec.id == "key"
    assert found.left_out["key"] == "the account id"
    assert found.left_out["account_id"].startswith("free text or an identifier")


def test_table_without_an_id() -> None:
    frame = ACCOUNTS.drop("account_id")
    found = detect(frame)
    assert found.spec.id is None
    accounts = load_accounts(scan(frame), found.spec)
    assert f"fitted together to {accounts.search.accounts} accounts" in found.text


def test_outcomes_that_are_named() -> None:
    frame = ACCOUNTS.rename({"retained_6mo": "stayed"}).drop("churned", "mrr_end")
    found = detect(frame, outcomes=Outcomes(retained="stayed"))
    assert found.spec.outcomes == Outcomes(retained="stayed")
    assert found.left_out["stayed"] == "an outcome"
    assert found.spec.features == detect(ACCOUNTS.drop("churned", "mrr_end")).spec.features


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"identifier": "acount_id"}, 'frame: no column "acount_id" (id)'),
        ({"outcomes": Outcomes(ltv="acount_id")}, 'frame: no column "acount_id" (ltv)'),
    ],
    ids=["id", "outcome"],
)
def test_name_that_the_table_lacks(more: Any, message: str) -> None:
    with pytest.raises(AccountDataError) as caught:
        detect(ACCOUNTS, **more)
    assert caught.value.message == message
    assert caught.value.hint == 'did you mean "account_id"?'


# What can't be detected


def test_no_outcome() -> None:
    with pytest.raises(
        AccountDataError, match="frame: no outcome column; expected at least one of"
    ):
        detect(ACCOUNTS.drop(OUTCOMES))


def test_categories_that_differ_by_case_alone_are_said() -> None:
    words = pl.Series(["Pro", "PRO", "basic", "team"] * (ACCOUNTS.height // 4 + 1))
    found = detect(ACCOUNTS.with_columns(deal=words.head(ACCOUNTS.height)))
    assert "deal" in found.spec.features
    [note] = [note for note in found.notes if "case alone" in note]
    assert note.startswith('Column "deal": "PRO", "Pro" differ by case alone')
    assert not [note for note in detect(ACCOUNTS).notes if "case alone" in note]


def test_outcome_that_is_text() -> None:
    frame = ACCOUNTS.with_columns(retained_6mo=pl.lit("bleibt"))
    message = 'frame: column "retained_6mo": outcome retained expects numbers, got String'
    with pytest.raises(AccountDataError, match=message):
        detect(frame)


def test_labels_that_break_the_contract_turn_no_feature() -> None:
    frame = ACCOUNTS.drop("retained_6mo", "won_back").with_columns(pl.col("churned") + 1)
    count = int((frame["churned"] == 2).sum())
    message = f'frame: column "churned": {count} values of outcome churned are neither 0 nor 1'
    with pytest.raises(AccountDataError, match=message):
        detect(frame)
    few = pl.when(pl.int_range(pl.len()) == 3).then(9).otherwise(pl.col("churned") - 1)
    with pytest.raises(AccountDataError, match=r"1 values? of outcome churned") as caught:
        detect(frame.with_columns(churned=few))
    assert "--set-aside 0.01" in str(caught.value.hint)
    assert detect(frame.with_columns(churned=few), set_aside=0.01).spec.features


def test_blanks_around_an_outcomes_name_make_no_feature_of_it() -> None:
    found = detect(ACCOUNTS.rename({"mrr": " mrr ", "mrr_end": "MRR End "}))
    assert found.left_out[" mrr "] == "an outcome"
    assert found.left_out["MRR End "] == "an outcome"


def test_nothing_to_score_by() -> None:
    frame = ACCOUNTS.select("account_id", "retained_6mo", extra=pl.lit(1))
    with pytest.raises(AccountDataError) as caught:
        detect(frame)
    assert caught.value.message == (
        'frame: no column can be a feature; left out: "account_id" (the account id); '
        '"retained_6mo" (an outcome); "extra" (constant: always 1)'
    )


def test_empty_table() -> None:
    with pytest.raises(AccountDataError, match="frame: the table is empty"):
        detect(ACCOUNTS.clear())


@pytest.mark.parametrize(
    ("column", "value", "others"), [("retained_6mo", 1, "left"), ("churned", 1, "stayed")]
)
def test_labels_of_one_class_are_refused(column: str, value: int, others: str) -> None:
    frame = pl.DataFrame({"account_id": range(90), "x": range(90), column: [value] * 90})
    with pytest.raises(AccountDataError, match=f"to fit on {others}, so nothing tells") as told:
        detect(frame)
    assert f"must have accounts that {others}, too" in str(told.value.hint)
    # Three of the others are enough.
    some = frame.with_columns(
        pl.when(pl.col("x") % 30 == 0).then(1 - value).otherwise(column).alias(column)
    )
    assert detect(some, holdout=0.0).spec.objective
