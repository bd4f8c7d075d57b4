"""The same customers in a later window: welcome where windows say so, and judged apart from new."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import polars as pl
import pytest
from asked_once import asked_once
from blank_charts import blank_charts
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.cli.app import app
from gtmar.data.scan import scan
from gtmar.errors import AccountDataError, ViolationsError
from gtmar.journal.catalog import Journal
from gtmar.journal.files import RunFiles
from gtmar.journal.review import review
from gtmar.journal.verify import verify
from gtmar.validation.gates import Verdict

if TYPE_CHECKING:
    from pathlib import Path

#: Customers with a standing order, customers who order as they like, and those who came later.
STANDING, LOOSE, NEW = 421, 500, 300
COLUMNS = {
    "features_asof": "features_until",
    "outcome_start": "outcome_start",
    "outcome_end": "outcome_end",
}
#: The months of features and of outcomes, by window; half a year each.
FIRST, SECOND = (0, 6), (6, 12)


@pytest.fixture(scope="module")
def orders() -> pl.DataFrame:
    """Months 0 to 17 of a wholesaler: a row for each customer and month with an order."""
    draw = np.random.default_rng(7)
    rows: list[tuple[str, int, float]] = []
    for i in range(STANDING):
        rows += [(f"s{i:03}", month, float(100 + i)) for month in range(18)]
    for i in range(LOOSE + NEW):
        begins = 0 if i < LOOSE else 6
        habit, alive = draw.uniform(0.2, 0.95), True
        for month in range(begins, 18):
            # Who orders seldom stops sooner.
            if month % 6 == 0 and month > begins:
                alive = alive and draw.random() < 0.35 + 0.6 * habit
            if alive and (month == begins or draw.random() < habit):
                rows.append((f"c{i:03}", month, float(np.round(draw.gamma(3, 80), 2))))
    return pl.DataFrame(rows, schema=["account_id", "month", "amount"], orient="row")


def window_of(orders: pl.DataFrame, first: int, end: int) -> pl.DataFrame:
    """Make the table of one window in DuckDB: six months of features, six of outcomes."""
    text = f"""
        select account_id,
            count(*) filter (month < {end}) as orders,
            {end} - 1 - max(month) filter (month < {end}) as gap,
            round(sum(amount) filter (month < {end}) / 6, 2) as spend,
            spend as mrr,
            round(coalesce(sum(amount) filter (month >= {end}), 0) / 6, 2) as mrr_end,
            cast(count(*) filter (month >= {end}) > 0 as int) as retained_6mo,
            cast(date '2023-01-01' + to_months({end}) - interval 1 day as date) as features_until,
            cast(date '2023-01-01' + to_months({end}) as date) as outcome_start,
            cast(date '2023-01-01' + to_months({end + 6}) - interval 1 day as date) as outcome_end
        from orders
        where month >= {first} and month < {end + 6}
        group by account_id
        having count(*) filter (month < {end}) > 0
        order by account_id
    """
    with duckdb.connect() as connection:
        connection.register("orders", orders.to_arrow())
        return pl.DataFrame(connection.sql(text).pl())


@pytest.fixture(scope="module")
def windows(orders: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return window_of(orders, *FIRST), window_of(orders, *SECOND)


def spec_of(**more: Any) -> specs.ScoringSpec:
    def feature(low: float, high: float, weight: int) -> dict[str, Any]:
        encode = {"kind": "range", "from": low, "to": high}
        return {"weight": weight, "min": -60, "max": 60, "encode": encode}

    features = {"orders": feature(0, 6, 5), "gap": feature(0, 6, 10), "spend": feature(0, 600, 20)}
    tiers = {"A": {"min": 50, "max": 101}, "B": {"min": 30, "max": 50}, "C": {"min": 0, "max": 30}}
    data = {"model": "orders", "id": "account_id", "base": 30, "features": features, "tiers": tiers}
    return specs.ScoringSpec.model_validate({**data, **more})


# ---- by hand ---------------------------------------------------------------------------------


def placed(table: pl.DataFrame, weights: dict[str, int]) -> tuple[Any, Any]:
    """Score kept and lost accounts in DuckDB, from the formula, to the hundredth of a point."""

    def points(name: str, top: int) -> str:
        return f"{weights[name]} * floor(least({name} / {top}.0, 1) * 10000 + 0.5)"

    with duckdb.connect() as connection:
        connection.register("accounts", table.to_arrow())
        rows = connection.execute(
            f"""
            select retained_6mo, least(greatest(
                floor((300000 + {points("orders", 6)} + {points("gap", 6)} + {points("spend", 600)})
                / 100 + 0.5), 0), 10000)
            from accounts
            """
        ).fetchall()
    kept, lost = (np.array([s for label, s in rows if label == side]) for side in (1, 0))
    return kept, lost


def by_hand(table: pl.DataFrame, old: dict[str, int], new: dict[str, int]) -> dict[str, Any]:
    """AUC of two weight vectors by counting pairs, and DeLong's interval of the difference."""
    ups, downs, area = [], [], []
    for weights in (old, new):
        kept, lost = placed(table, weights)
        pairs = (kept[:, None] > lost) + (kept[:, None] == lost) / 2
        area.append(pairs.mean())
        ups.append(pairs.mean(axis=1))
        downs.append(pairs.mean(axis=0))
    up, down = ups[1] - ups[0], downs[1] - downs[0]
    reach = 1.959963984540054 * np.sqrt(up.var(ddof=1) / len(up) + down.var(ddof=1) / len(down))
    gain = area[1] - area[0]
    return {"before": area[0], "after": area[1], "gain": (gain, gain - reach, gain + reach)}


def same(found: Any, expected: dict[str, Any]) -> None:
    assert found.before.value == pytest.approx(expected["before"], abs=1e-12)
    assert found.after.value == pytest.approx(expected["after"], abs=1e-12)
    ends = (found.gain.value, found.gain.low, found.gain.high)
    assert ends == pytest.approx(expected["gain"], abs=1e-9)


# ---- a verdict, the right numbers, old and new apart --------------------------------------------


@pytest.mark.slow
def test_a_wholesalers_next_half_year_is_decided_on_with_old_and_new_customers_apart(
    windows: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    train, later = windows
    values = [name for name in train.columns if name not in COLUMNS.values()]
    assert train.join(later, on=values, how="inner").height == STANDING
    spec = spec_of(window=COLUMNS)
    done = runs.refresh(train, later, spec, limits=runs.Limits(60), journal=tmp_path / "j")
    assert done.verdict in (Verdict.READY, Verdict.KEEP)
    weights = spec.weights, done.candidate.weights
    assert weights[0] != weights[1]
    expected = by_hand(later, *weights)
    found = done.intervals
    name = "auc_roc_retain"
    assert found.before[name].value == pytest.approx(expected["before"], abs=1e-12)
    assert found.after[name].value == pytest.approx(expected["after"], abs=1e-12)
    again = later["account_id"].is_in(train["account_id"].implode())
    old, new = done.customers
    assert (old.group, new.group) == ("old", "new")
    assert (old.accounts, new.accounts) == (int(again.sum()), int((~again).sum()))
    assert old.accounts > STANDING
    assert new.accounts > 100
    same(old, by_hand(later.filter(again), *weights))
    same(new, by_hand(later.filter(~again), *weights))
    said = f"{later.height:,} accounts held out, {old.accounts:,} of them customers that were"
    assert said in done.compared
    assert "never searched" not in done.sentence
    assert done.time_order is None
    note = f"{old.accounts:,} accounts stand in both tables, the same customers; {new.accounts:,} "
    assert done.notes[0].startswith(note)
    with Journal(tmp_path / "j") as opened:
        [event] = opened.query("select details from events where kind = 'decision'").to_dicts()
        found_again = review(opened)
    details = json.loads(event["details"])
    assert [each["accounts"] for each in details["customers"]] == [old.accounts, new.accounts]
    # The run's end has them, too, at the level of a first look.
    assert [each["group"] for each in found_again.customers] == ["old", "new"]
    assert found_again.customers[1]["gain"] == new.gain.as_json()
    assert any("customers that were searched" in each for each in found_again.verdict)
    assert not verify(tmp_path / "j").findings


@pytest.mark.slow
def test_a_run_over_two_windows_is_replayed_and_decided_on(
    windows: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    tables = [tmp_path / name for name in ("h1.parquet", "h2.parquet")]
    for frame, path in zip(windows, tables, strict=True):
        frame.write_parquet(path)
    ran = runs.run(
        tables[0],
        spec_of(window=COLUMNS),
        holdout_file=tables[1],
        limits=runs.Limits(20),
        journal=tmp_path / "j",
    )
    assert runs.replay(ran.run_id, journal=tmp_path / "j").identical
    end = RunFiles(tmp_path / "j", ran.run_id).record("end")
    assert json.loads(end["customers"]) == list(ran.customers)
    start = dict(RunFiles(tmp_path / "j", ran.run_id).record("start")["parameters"])
    assert start["order_of_time"] == "declared"
    assert runs.decide(ran.run_id, journal=tmp_path / "j").customers[0].accounts > STANDING


@pytest.mark.slow
def test_too_few_new_customers_are_unknown_and_not_judged(
    windows: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    train, later = windows
    again = later["account_id"].is_in(train["account_id"].implode())
    few = pl.concat([later.filter(again), later.filter(~again).head(49)])
    ran = runs.run(
        train,
        spec_of(window=COLUMNS),
        holdout_file=few,
        limits=runs.Limits(5),
        journal=tmp_path / "j",
    )
    new = ran.customers[1]
    assert (new["accounts"], new["reading"]) == (49, "unknown")
    assert new["gain"]["value"] is None
    assert new["sentence"] == "New customers (49): unknown, too few: 49 accounts, 50 needed."


# ---- without a window ------------------------------------------------------------------------


def command(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.slow
def test_identical_rows_without_a_window_are_an_error_whose_lines_mend_it(
    windows: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    tables = [tmp_path / name for name in ("h1.parquet", "h2.parquet")]
    for frame, path in zip(windows, tables, strict=True):
        frame.write_parquet(path)
    spec = tmp_path / "spec.yaml"
    spec.write_text(specs.to_yaml(spec_of(), heading="orders"), "utf-8")
    words = ("refresh", "--train", tables[0], "--holdout", tables[1], "--spec", spec, "--n", 20)
    refused = command(*words, "--journal", tmp_path / "j")
    assert refused.exit_code == 3
    assert "421 rows stand in both tables" in refused.stderr
    assert "spec.yaml" in "".join(refused.stderr.split())
    lines = refused.stderr.splitlines()
    at = lines.index("window:")
    assert lines[at + 1 : at + 3] == [
        '  features_asof: "features_until"',
        '  outcome_end: "outcome_end"',
    ]
    with spec.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines[at : at + 3]) + "\n")
    done = command(*words, "--journal", tmp_path / "j")
    assert done.exit_code in (0, 10), done.output
    assert "Old customers" in done.stdout


def test_without_columns_of_days_the_hint_says_what_is_needed(
    windows: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    bare = [frame.drop(COLUMNS.values()) for frame in windows]
    with pytest.raises(AccountDataError, match="421 rows stand in both tables") as caught:
        runs.refresh(bare[0], bare[1], spec_of(), journal=tmp_path / "j")
    assert "features_asof=DATE/outcome_end=DATE" in str(caught.value.hint)


@pytest.mark.slow
def test_an_unverified_order_of_time_is_said_in_every_output(
    windows: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    train, later = windows
    values = [name for name in train.columns if name not in COLUMNS.values()]
    changed = later.join(train, on=values, how="anti").drop(COLUMNS.values())
    tables = [tmp_path / name for name in ("h1.parquet", "h2.parquet")]
    for frame, path in zip((train.drop(COLUMNS.values()), changed), tables, strict=True):
        frame.write_parquet(path)
    spec, journal = tmp_path / "spec.yaml", tmp_path / "j"
    spec.write_text(specs.to_yaml(spec_of(), heading="orders"), "utf-8")
    line = (
        "The order of time is unverified: no window says that the holdout's table is later than "
        "the one searched."
    )

    def has(text: str) -> bool:
        return line in " ".join(text.split())

    shared = ("--spec", spec, "--n", 10, "--journal", journal, "--quiet")
    for words in (
        ("run", "--data", tables[0], "--holdout-file", tables[1]),
        ("refresh", "--train", tables[0], "--holdout", tables[1]),
    ):
        with asked_once(words[0]):
            assert has(command(*words, *shared).stdout)
            assert has(command(*words, *shared, "--json").stdout)
    folder = tmp_path / "decision"
    with asked_once("decide_on"):
        assert has(command("decide", "--journal", journal, "-o", folder).stdout)
        told = json.loads(command("decide", "--journal", journal, "--json").stdout)
    assert has((folder / "report.md").read_text("utf-8"))
    assert told["time_order"] == line
    assert has(command("review", "--journal", journal).stdout)
    page = tmp_path / "page.html"
    with blank_charts():
        assert command("report", "--journal", journal, "-o", page).exit_code == 0
    assert line in page.read_text("utf-8").replace("&#39;", "'")
    with Journal(journal) as opened:
        recorded = opened.query("select parameters['order_of_time'] as said from runs")["said"]
        decided = opened.query(
            "select details ->> '$.time_order' as said from events where kind = 'decision'"
        )["said"]
    assert {*recorded, *decided} == {line}


@pytest.mark.slow
def test_a_split_of_one_table_without_a_window_says_so_as_well(
    windows: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    for name, spec in (("a", spec_of()), ("b", spec_of(window=COLUMNS))):
        ran = runs.run(windows[0], spec, limits=runs.Limits(5), journal=tmp_path / name)
        done = runs.decide(ran.run_id, data=windows[0], journal=tmp_path / name)
        said = [each for each in done.headline if each.startswith("The order of time")]
        assert len(said) == (name == "a")
        assert done.customers == ()


# ---- tables of one recipe, and days as text ---------------------------------------------------


def made_by(recipe: str, frame: pl.DataFrame, day: date, folder: Path) -> Path:
    """Write a table as gtmar snapshot does, the recipe in its file."""
    place = folder / f"features_asof={day}" / "accounts.parquet"
    place.parent.mkdir(parents=True)
    frame.write_parquet(place, metadata={"gtmar_recipe": recipe})
    return place


@pytest.mark.slow
def test_tables_of_one_recipe_need_no_window_in_the_spec(
    windows: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    days = date(2023, 7, 1), date(2024, 1, 1)
    one, two = (
        made_by("r1", frame, day, tmp_path / "snapshots")
        for frame, day in zip(windows, days, strict=True)
    )
    done = runs.refresh(one, two, spec_of(), limits=runs.Limits(5), journal=tmp_path / "j")
    assert done.time_order is None
    assert done.customers[0].accounts > STANDING
    other = made_by("r2", windows[1], days[1], tmp_path / "other")
    with pytest.raises(AccountDataError, match="421 rows stand in both tables"):
        runs.refresh(one, other, spec_of(), journal=tmp_path / "j")
    # The other way round the days say that it is no later window.
    with pytest.raises(ViolationsError, match="have features from before"):
        runs.refresh(two, one, spec_of(), journal=tmp_path / "j")


@pytest.mark.slow
def test_days_as_text_are_read_where_they_are_iso(
    windows: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    """As plain text in the table searched, and as categories in the later one."""
    tables = []
    for frame, kind in zip(windows, (pl.String, pl.Categorical), strict=True):
        texts = frame.with_columns(pl.col(COLUMNS.values()).cast(pl.String).cast(kind))
        tables.append(tmp_path / f"{kind}.parquet")
        texts.write_parquet(tables[-1])
    done = runs.refresh(
        tables[0],
        tables[1],
        spec_of(window=COLUMNS),
        limits=runs.Limits(5),
        journal=tmp_path / "j",
    )
    assert done.time_order is None
    assert done.customers[0].accounts > STANDING
    # init writes the window of such a table, too.
    for table in tables:
        found = first_spec(scan(table)).spec.window
        assert found is not None
        assert found.model_dump() == COLUMNS
