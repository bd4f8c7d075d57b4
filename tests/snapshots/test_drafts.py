"""A first recipe from raw tables: what is recognised, what is said, and that it runs."""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from snapshot_tables import snapshot_table
from stripe_export import make_export

from gtmar.errors import AccountDataError, UsageError
from gtmar.snapshots.build import build
from gtmar.snapshots.draft import DraftedRecipe, draft
from gtmar.snapshots.recipe import parse

HISTORY = Path(__file__).parents[3] / "shared" / "history"
SHARED = pytest.mark.skipif(not HISTORY.is_dir(), reason=f"no folder {HISTORY}")


def ruled(text: str) -> str:
    """Take in every rule that a draft has as a comment."""
    return re.sub(
        r"^( *)# (?=rules:$|  \w+: [a-z ]+$|negative: subtract$)", r"\1", text, flags=re.M
    )


def write(folder: Path, name: str, head: str, *rows: str) -> str:
    (folder / f"{name}.csv").write_text("\n".join([head, *rows]) + "\n")
    return str(folder / f"{name}.csv")


def days(count: int, step: int = 15, first: date = date(2023, 1, 1)) -> list[date]:
    return [first + timedelta(step * number) for number in range(count)]


def says(found: DraftedRecipe, *texts: str) -> None:
    """Every doubt stands in the recipe too, whole but for its line breaks."""
    told = " ".join(found.unsure)
    written = re.sub(r"\n *# +", " ", found.text)
    for text in texts:
        assert text in told
        assert text in written


# ---- histories of others ------------------------------------------------------------------------

CDNOW = ["cdnow_orders.parquet"]
PLAYBOOK = ["subscription_periods.csv"]
SAAS = [
    f"saas/{name}.parquet"
    for name in ("accounts", "churn_events", "feature_usage", "subscriptions", "support_tickets")
]
STRIPE = [
    f"stripe/{name}_data.csv"
    for name in (
        *("coupon", "credit_note", "discount", "invoice", "invoice_line_item", "plan", "price"),
        *("product", "refund", "subscription", "subscription_discount", "subscription_history"),
        "subscription_item",
    )
]


@pytest.mark.slow
@SHARED
@pytest.mark.parametrize(
    ("names", "revenue", "kinds"),
    [
        (CDNOW, "payments in cdnow_orders", set()),
        (PLAYBOOK, "subscription periods in subscription_periods", set()),
        (
            SAAS,
            "subscription periods in subscriptions",
            {
                *("zero_amounts", "overlaps", "events_outside"),
                *("flagged_and_paying", "gone_and_unflagged"),
            },
        ),
        (
            SAAS[2:4],
            "subscription periods in subscriptions",
            {"zero_amounts", "overlaps", "events_outside"},
        ),
        (STRIPE, "subscription periods in subscription_data", {"events_outside", "strangers"}),
        (
            STRIPE[5:6] + STRIPE[9:10] + STRIPE[12:],
            "subscription periods in subscription_data",
            set(),
        ),
        # No item of these is of a price of theirs.
        (
            STRIPE[6:7] + STRIPE[9:10] + STRIPE[12:],
            "subscription periods in subscription_data",
            {"unknown_amounts", "currencies", "bad_months"},
        ),
        (STRIPE[1:2] + STRIPE[3:4], "payments in invoice_data", set()),
    ],
)
def test_a_draft_runs_or_stops_at_what_a_person_has_to_rule_on(
    tmp_path: Path, names: list[str], revenue: str, kinds: set[str]
) -> None:
    found = draft([str(HISTORY / name) for name in names])
    assert found.revenue == revenue
    assert {each.kind for each in found.conflicts} == kinds
    recipe = parse(found.text)
    assert recipe == found.recipe
    if not kinds:
        built = build(recipe, tmp_path)
        assert sum(each.outcomes for each in built.tables) == found.known
        # The two subscriptions of that plan were on trial until they ended.
        on_trial = STRIPE[5] in names
        assert all((each.accounts == 0) == on_trial for each in built.tables)
        return
    with pytest.raises(AccountDataError) as caught:
        build(recipe, tmp_path)
    stopped: Any = caught.value.facts["conflicts"]
    assert [(each["kind"], each["count"]) for each in stopped] == [
        (each.kind, each.count) for each in found.conflicts
    ]
    assert list(tmp_path.iterdir()) == []
    # What has a rule is settled once the rule is taken in; of the rest nothing is guessed.
    left = kinds & {"strangers", "unknown_amounts", "currencies", "bad_months"}
    settled = parse(ruled(found.text))
    if left:
        with pytest.raises(AccountDataError) as caught:
            build(settled, tmp_path)
        assert ("strangers" in kinds) == ("are ids written alike" in str(caught.value))
    else:
        assert sum(each.outcomes for each in build(settled, tmp_path).tables) == found.known > 0


@SHARED
@pytest.mark.parametrize("names", [STRIPE[:1], STRIPE[9:10], STRIPE[4:5], SAAS[:1]])
def test_tables_without_revenue_are_named_with_what_they_are(names: list[str]) -> None:
    with pytest.raises(AccountDataError, match="none of the sources has revenue") as caught:
        draft([str(HISTORY / name) for name in names])
    assert f"  - {Path(names[0]).stem}: " in str(caught.value)


@SHARED
def test_a_crm_of_today_is_called_a_risk_and_what_changes_in_it_is_left_out() -> None:
    found = draft([str(HISTORY / name) for name in SAAS])
    says(found, "as it is today: what it says of an account may have come after the date")
    assert found.recipe.sources["accounts"].as_of == "today"
    taken = {f.column for f in found.recipe.features.values() if f.source == "accounts"}
    assert taken == {"industry", "country", "referral_source"}
    assert "# accounts_plan_tier: {latest: accounts.plan_tier}" in found.text
    assert "satisfaction_score" not in {f.column for f in found.recipe.features.values()}
    assert [flag.source for flag in found.recipe.flags] == ["accounts", "churn_events"]


# ---- Stripe -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mrr_of_a_stripe_export_is_what_its_customers_pay(tmp_path: Path) -> None:
    made = make_export(200)
    made.write(tmp_path)
    found = draft(sorted(map(str, tmp_path.iterdir())))
    assert {each.kind for each in found.conflicts} == {"overlaps", "events_outside"}
    says(
        found,
        "money is in minor units (cents) in price.unit_amount, and divided",
        "a subscription begins at trial_end, if it has one",
        "ended_at is taken for the end; canceled_at is only when somebody asked for it",
        "1 of ",
        "rows are of test mode; left out",
        "incomplete subscriptions were never paid for, and are left out",
        "subscription_item.quantity is today's",
    )
    recipe = parse(ruled(found.text))
    assert len(recipe.days) > 8
    for day in recipe.days[::3]:
        table = snapshot_table(recipe, day)
        paid = {key: float(value) for key, value in made.mrr(day).items()}
        assert dict(table.select("customer_id", "mrr").iter_rows()) == pytest.approx(paid, abs=2e-4)
    end = recipe.window.after(day := recipe.days[0])
    table = snapshot_table(recipe, day)
    after = {key: float(value) for key, value in made.mrr(end).items()}
    ends = dict(table.select("customer_id", "mrr_end").iter_rows())
    assert ends == pytest.approx({key: after.get(key, 0) for key in ends}, abs=2e-4)


def stripe_tables(folder: Path, currency: str = "usd") -> list[str]:
    """Write a subscription of one item, as little as there can be."""
    subs = "id,customer_id,status,start_date,ended_at,current_period_end,livemode,_fivetran_deleted"
    return [
        write(
            folder,
            "subscription",
            subs,
            "s1,cus_1,active,2023-01-01,,2024-12-01,true,false",
            "s2,cus_2,unpaid,2023-01-01,2024-03-05,2024-12-01,true,false",
            "s3,cus_3,active,2023-01-01,,2024-12-01,false,false",
            "s4,cus_4,active,2024-12-01,,2024-12-01,true,true",
        ),
        write(
            folder,
            "subscription_item",
            "id,subscription_id,price_id,quantity",
            *(f"i{n},s{n},p{1 + n % 2},2" for n in range(1, 5)),
        ),
        write(
            folder,
            "price",
            "id,unit_amount,billing_scheme,recurring_interval,recurring_interval_count,currency",
            f"p1,1200,per_unit,month,1,{currency}",
            f"p2,99000,per_unit,year,1,{currency}",
        ),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("currency", "monthly"), [("usd", 24.0), ("JPY", 2400.0), ("kwd", 2.4)])
def test_minor_units_are_those_of_the_currency(
    tmp_path: Path, currency: str, monthly: float
) -> None:
    found = draft(stripe_tables(tmp_path, currency))
    [made] = [snapshot_table(found.recipe, day) for day in [found.recipe.days[0]]]
    paid = dict(made.select("customer_id", "mrr").iter_rows())
    # Test mode and deleted rows are out; the year's price counts by the month.
    year = 2 * 99_000 / 1_200 * monthly / 2 / 12
    assert paid == pytest.approx({"cus_2": monthly, "cus_1": year})
    says(
        found,
        "1 of 4 rows are of test mode",
        "1 of 4 rows are deleted by _fivetran_deleted",
        "unpaid subscriptions count as running",
        "no table of discounts is given",
    )


@pytest.mark.slow
def test_several_currencies_wait_for_a_rate(tmp_path: Path) -> None:
    places = stripe_tables(tmp_path)
    prices = Path(places[2]).read_text()
    Path(places[2]).write_text(prices.replace("year,1,usd", "year,1,eur"))
    found = draft(places)
    assert [each.kind for each in found.conflicts] == ["currencies"]
    # Of two currencies as frequent as each other, the first in the alphabet counts 1.
    [line] = [line for line in found.text.splitlines() if "RATE" in line]
    assert line.strip() == "# usd: RATE"
    rated = found.text.replace(line, line.replace("# ", "").replace("RATE", "2"))
    made = snapshot_table(parse(rated), found.recipe.days[0])
    paid = dict(made.select("customer_id", "mrr").iter_rows())
    assert paid == pytest.approx({"cus_1": 165.0, "cus_2": 2 * 24.0})


@pytest.mark.slow
def test_invoices_alone_give_payments_less_what_was_given_back(tmp_path: Path) -> None:
    invoices = [f"in_{n},cus_{n % 3},paid,{d},3000,3000,usd,true" for n, d in enumerate(days(60))]
    places = [
        write(
            tmp_path,
            "invoice",
            "id,customer_id,status,created,amount_due,amount_paid,currency,livemode",
            *invoices,
            "in_x,cus_1,open,2024-01-01,9900,0,usd,true",
        ),
        write(
            tmp_path,
            "charge",
            "id,customer_id,amount,amount_refunded,livemode,created",
            "ch_1,cus_0,3000,1000,true,2023-06-01",
        ),
        write(
            tmp_path,
            "refund",
            "id,charge_id,amount,status,created",
            "re_1,ch_1,1000,succeeded,2024-05-20",
            "re_2,ch_1,9000,failed,2024-05-20",
        ),
        write(
            tmp_path,
            "credit_note",
            "id,invoice_id,amount,status,type,refund_id,created",
            "cn_1,in_1,500,issued,post_payment,,2024-05-21",
            "cn_2,in_0,1000,issued,post_payment,re_1,2024-05-21",
            "cn_3,in_2,700,void,post_payment,,2024-05-21",
        ),
    ]
    found = draft(places)
    assert [each.kind for each in found.conflicts] == ["negative_amounts"]
    assert "# negative: subtract" in found.text
    recipe = parse(ruled(found.text))
    day, months = date(2024, 6, 1), recipe.revenue.shape.model_dump()["months"]
    asked = re.sub("^dates:.*", f"dates: [{day}]", ruled(found.text), flags=re.MULTILINE)
    table = snapshot_table(parse(asked), day)
    paid = dict.fromkeys(("cus_0", "cus_1", "cus_2"), 0.0)
    first = date(2024, 6 - months, 1)
    for number, at in enumerate(days(60)):
        if first <= at < day:
            paid[f"cus_{number % 3}"] += 30
    paid["cus_0"] -= 10
    paid["cus_1"] -= 5
    got = dict(table.select("customer_id", "mrr").iter_rows())
    assert got == pytest.approx({k: v / months for k, v in paid.items()}, abs=1e-4)


# ---- the usual shapes ---------------------------------------------------------------------------


def subscriptions(folder: Path, head: str = "account_id,start_date,end_date,mrr") -> str:
    rows = [f"a{n},{d},{d + timedelta(200)},{10 + n}" for n, d in enumerate(days(40))]
    return write(folder, "subs", head, *rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head", "row", "revenue", "says_"),
    [
        ("mrr", "date_month,customer_id,mrr,is_active", "{month},a{n},{n}5,true",
         "MRR by month", ()),
        ("mrr", "month,account_id,mrr", "{ym},a{n},{n}5", "MRR by month", ()),
        ("report", "customer_id,subscription_item_id,subscription_month,previous_month_mrr,"
         "current_month_mrr", "a{n},i,{month},1,{n}5", "MRR by month", ("are added up",)),
        ("orders", "OrderID,CustomerID,OrderDate,ShipDate,UnitPrice,Quantity",
         "o,a{n},{day},{day},2.5,{n}", "payments",
         ("the date could be ShipDate too; it is OrderDate",
          "an amount is UnitPrice times Quantity")),
        ("orders", "account_id,order_date,amount,net_amount,currency", "a{n},{day},{n}5,{n}4,EUR",
         "payments", ("amount could be net_amount too; it is amount",)),
        ("payments", "account_id,paid_at,amount_cents", "a{n},{day},{n}500", "payments",
         ("money is in minor units (cents) in amount_cents, and divided",)),
        ("payments", "account_id,paid_at,amount", "a{n},{day},{n}500", "payments",
         ("amount holds whole numbers: they are taken for units, not for cents",)),
        ("charges", "account_id,created,amount,livemode,status", "a{n},{seconds},{n}500,true,paid",
         "payments", ("money is in minor units (cents) in amount, and divided",)),
        ("contracts", "account_id,customer_id,start_date,end_date,arr",
         "a{n},c{n},{day},{later},1200.5", "subscription periods",
         ("the account could be customer_id too; it is account_id",
          "arr is taken for what is paid a year, by its name")),
        ("subscriptions", "Customer ID,Plan,Quantity,Currency,Interval,Amount,Status,"
         "Created (UTC),Start Date (UTC),Ended At (UTC),Canceled At (UTC)",
         "a{n},p,1,usd,year,{n}99.5,active,{day},{day},{later},{later}", "subscription periods",
         ("the end could be Canceled At (UTC) too; it is Ended At (UTC)",
          "Amount is taken for the price of one, and multiplied by Quantity")),
        ("subs", "account_id,start_date,ended_at,amount,_fivetran_synced,is_deleted",
         "a{n},{day},{later},{n}5.5,{later},false", "subscription periods",
         ("_fivetran_synced says when a row was loaded", "amount is taken for a month's")),
    ],
)  # fmt: skip
def test_a_usual_shape_is_recognised_and_runs(
    tmp_path: Path, name: str, head: str, row: str, revenue: str, says_: tuple[str, ...]
) -> None:
    rows: list[str] = []
    for at in days(60):
        for number in range(1, 4):
            rows.append(
                row.format(
                    n=number,
                    day=at,
                    later=at + timedelta(14),
                    month=at.replace(day=1),
                    ym=f"{at:%Y-%m}",
                    seconds=1_700_000_000 + 86_400 * len(rows) // 3,
                )
            )
    found = draft([write(tmp_path, name, head, *dict.fromkeys(rows))])
    assert found.revenue == f"{revenue} in {name}"
    assert found.known > 0
    says(found, *says_)
    tables = build(parse(ruled(found.text)), tmp_path / "out").tables
    assert sum(each.outcomes for each in tables) == found.known
    assert {each.accounts for each in tables} == {3}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Currency", "Currency ISO Code", "deal_currency_code"])
@pytest.mark.parametrize("money", ["Amount", "Price,Quantity"])
def test_a_currency_by_any_name_waits_for_a_rate(tmp_path: Path, name: str, money: str) -> None:
    head, one = f"Account ID,Order Date,{name},{money}", "5" + ",2" * money.count(",")
    rows = [
        f"{who},{at},{coin},{one}" for at in days(9) for who, coin in (("a", "USD"), ("b", "EUR"))
    ]
    found = draft([write(tmp_path, "orders", head, *rows)])
    assert [each.kind for each in found.conflicts] == ["currencies"]
    assert "# USD: RATE" in found.text


@pytest.mark.slow
def test_a_draft_names_the_column_that_may_hold_the_months_of_an_amount(tmp_path: Path) -> None:
    head = "account_id,start_date,end_date,amount,contract_term_months"
    rows = [f"a{number},{at},,1200,{12}" for number, at in enumerate(days(9))]
    says(draft([write(tmp_path, "subs", head, *rows)]), "say months: contract_term_months")


@pytest.mark.slow
def test_amounts_of_a_draft_are_units_a_month(tmp_path: Path) -> None:
    """A year's price counts by the month, cents by the hundred, a price by its quantity."""
    for head, row, monthly in (
        ("account_id,start_date,end_date,arr", "a,{},,1200", 100),
        ("account_id,start_date,end_date,amount,interval", "a,{},,1200,year", 100),
        (
            "account_id,start_date,end_date,amount,interval,interval_count",
            "a,{},,1200,month,3",
            400,
        ),
        ("account_id,start_date,end_date,price_cents,interval", "a,{},,1250,monthly", 12.5),
        ("account_id,start_date,end_date,price,quantity", "a,{},,1.5,3", 4.5),
        ("account_id,start_date,end_date,mrr,billing_frequency", "a,{},,80,annual", 80),
    ):
        late = row.replace("a,", "b,", 1).format("2024-06-01")
        found = draft([write(tmp_path, "subs", head, row.format("2023-01-01"), late)])
        made = snapshot_table(found.recipe, found.recipe.days[0])
        assert made["mrr"].to_list() == [monthly], head


def test_ends_are_read_as_last_days_where_the_next_begin_a_day_later(tmp_path: Path) -> None:
    rows: list[str] = []
    for number, at in enumerate(days(30)):
        rows += [
            f"a{number},{at},{at + timedelta(99)},5.5",
            f"a{number},{at + timedelta(100)},,5.5",
        ]
    found = draft([write(tmp_path, "subs", "account_id,start_date,end_date,mrr", *rows)])
    assert found.recipe.revenue.shape.model_dump()["until"] == "last day"
    says(found, "30 periods begin the day after one ended, 0 on that day")


@pytest.mark.slow
def test_events_states_and_tickets_become_features(tmp_path: Path) -> None:
    at = days(60)
    places = [
        subscriptions(tmp_path),
        write(tmp_path, "events", "account_id,event,occurred_at,duration",
              *(f"a{n % 40},{('invite', 'login', 'login')[n % 3]},{d} 10:00:00,{n}"
                for n, d in enumerate(at))),
        write(tmp_path, "tickets", "ticket_id,account_id,opened_at,closed_at,priority,satisfaction",
              *(f"t{n},a{n % 40},{d},{d},{('low', 'high', 'high')[n % 3]},3"
                for n, d in enumerate(at))),
        write(tmp_path, "plans", "account_id,plan,dbt_valid_from,dbt_valid_to",
              *(f"a{n % 40},{('free', 'pro')[n % 2]},{d}," for n, d in enumerate(at))),
    ]  # fmt: skip
    found = draft(places)
    kinds = {name: source.kind for name, source in found.recipe.sources.items()}
    assert kinds == {"subs": "periods", "events": "events", "tickets": "events", "plans": "states"}
    features = found.recipe.features
    assert features["events_login_90"].where == "event = 'login'"
    assert features["tickets_high_90"].where == "priority = 'high'"
    assert features["plan"].latest == "plans.plan"
    assert features["duration_90"].sum == "events.duration"
    assert "satisfaction" not in {each.column for each in features.values()}
    build(parse(ruled(found.text)), tmp_path / "out")


def test_too_short_a_history_has_a_table_without_outcomes(tmp_path: Path) -> None:
    found = draft(
        [
            write(
                tmp_path,
                "pays",
                "account_id,paid_at,amount",
                "a,2024-03-01,5.5",
                "b,2024-03-09,7.5",
            )
        ]
    )
    assert found.known == 0
    says(found, "from 2024-03-01 to 2024-03-09 is too short a time for outcomes")
    [made] = build(found.recipe, tmp_path / "out").tables
    assert (made.day, made.accounts) == (date(2024, 3, 10), 2)


def test_rows_of_days_to_come_say_until_when_the_history_is_complete(tmp_path: Path) -> None:
    ahead = date.today() + timedelta(30)
    rows = [f"a{n},{d},,5.5" for n, d in enumerate(days(40))]
    place = write(tmp_path, "subs", "account_id,start_date,end_date,mrr", *rows, f"z,{ahead},,5.5")
    found = draft([place])
    assert found.recipe.data_until == days(40)[-1]
    says(found, "1 row is of days to come")
    assert found.known > 0


def test_places_are_told_from_the_recipes_folder_and_names_may_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "recipes").mkdir()
    subscriptions(tmp_path / "raw")
    found = draft(["paid=raw/subs.csv"], base=Path("recipes"))
    assert found.recipe.sources["paid"].data == "../raw/subs.csv"
    build(found.recipe, tmp_path / "out", base=Path("recipes"))
    with pytest.raises(UsageError, match='two sources are called "subs"'):
        draft(["raw/subs.csv", "./raw/subs.csv"])


@pytest.mark.slow
def test_a_parquet_table_of_a_database_is_drafted_as_a_file_is(tmp_path: Path) -> None:
    import duckdb

    frame = pl.read_csv(subscriptions(tmp_path), try_parse_dates=True)
    frame.write_parquet(tmp_path / "subs.parquet")
    with duckdb.connect(tmp_path / "a.db") as connection:
        connection.sql("create table subs as from frame")
    texts = {
        draft([place]).text.replace(place, "HERE")
        for place in (
            str(tmp_path / "subs.csv"),
            str(tmp_path / "subs.parquet"),
            f"duckdb:///{tmp_path}/a.db?table=subs",
        )
    }
    assert len({text.replace('"HERE"', "HERE") for text in texts}) == 1
