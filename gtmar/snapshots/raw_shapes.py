"""Recognise the usual raw tables: MRR by month, periods, payments, order lines, events, a CRM."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl

from gtmar.data.locations import literal
from gtmar.data.scan import likely_id
from gtmar.snapshots.raw_columns import LOADED, DraftedSource, RawColumns, column, plain
from gtmar.snapshots.stripe import minor_units, months_of

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["generic_source", "joined_source"]

_MRR = (
    *("mrr", "mrr_amount", "current_month_mrr", "contract_mrr", "monthly_recurring_revenue"),
    *("mrr_usd", "mrr_eur", "billed_mrr", "monthly_amount", "monthly_price", "monthly_revenue"),
)
_YEARLY = ("arr", "arr_amount", "annual_amount", "annual_price", "acv", "annual_contract_value")
_PAID = (
    *("amount", "amount_paid", "paid_amount", "total_amount", "order_total", "total_price"),
    *("total", "net_amount", "payment_amount", "revenue", "sales", "price", "unit_amount"),
    "plan_amount",
    *("gross_amount", "grand_total", "invoice_total", "amount_usd", "amount_eur", "subtotal"),
    *("amount_cents", "amount_in_cents", "price_cents", "total_cents", "fee", "contract_value"),
)
_STARTS = (
    *("start_date", "started_at", "start_date_at", "start", "starts_at", "start_at", "begin_date"),
    *("subscription_start", "subscription_start_date", "contract_start", "contract_start_date"),
    *("valid_from", "from_date", "period_start", "activated_at", "begins_at"),
)
_ENDS = (
    *("end_date", "ended_at", "end", "ends_at", "end_at", "until", "subscription_end"),
    *("subscription_end_date", "contract_end", "contract_end_date", "valid_to", "to_date"),
    *("period_end", "expires_at", "expiration_date", "expiry_date", "terminated_at"),
    *("canceled_at", "cancelled_at", "cancellation_date", "churned_at"),
)
_STATES = ("dbt_valid_from", "_fivetran_start", "valid_from", "effective_from", "effective_date")
_MOMENTS = (
    *("at", "occurred_at", "happened_at", "event_at", "event_time", "event_timestamp", "timestamp"),
    *("event_date", "usage_date", "date", "day", "order_date", "invoice_date", "paid_at"),
    *("payment_date", "transaction_date", "submitted_at", "opened_at", "churn_date"),
    *("created_at", "created", "created_date", "createdate", "time", "started_at"),
)
_INTERVAL = ("interval", "plan_interval", "billing_interval", "billing_period", "billing_frequency")
#: Columns with the number of months that an amount or a contract is for.
_TERM = re.compile(r"months|(.*_)?term(_.*)?|(billing|contract|interval|period)_months")
_NAMES = ("event", "event_name", "event_type", "name", "type", "kind", "action", "feature_name")
_TICKETS = re.compile(r"ticket|case|support|conversation|incident")
_ACCOUNTS = re.compile(r"account|customer|compan|client|crm|organi|tenant|workspace|subscriber")
#: Columns filled in or changed after their row was created: their value on a past date is unknown.
_LATER = re.compile(
    r"status|state|stage|.*(churn|cancel|lost|clos|resol|satisf|response|escalat|updat|renew|"
    r"modif|refund|end|expir|outcome|feedback|current|upgrade|downgrade|reactivat|last_).*"
)
_LEFT = re.compile(r"(is_|has_)?(churn(ed)?|cancell?ed|lost|inactive)(_flag)?")
#: Attributes of an account that hardly ever change.
_STEADY = re.compile(
    r".*(industry|country|region|sector|segment|vertical|referral|source|channel).*"
)

#: Most features of a table of periods, attributes included.
_MOST_ATTRIBUTES = 6
#: Columns that identify an account, by id or by name.
_KEYS = re.compile(
    r"(account|customer|company|client|user|tenant|workspace|organi[sz]ation|org)(_(id|key|no))?"
)


def _ids(table: RawColumns) -> list[str]:
    """Return the columns that may hold the account's id, most likely first."""
    named = {name: own for name, own in table.columns.items() if name != "id"}
    candidates = [likely_id(list(named.values()))]
    keys = sorted((n for n in named if _KEYS.fullmatch(n)), key=lambda name: "_" not in name)
    candidates += [named[name] for name in keys]
    own_id = table.columns.get("id")
    if own_id is not None and _ACCOUNTS.search(table.name):
        candidates.insert(0, own_id)
    elif not any(candidates):
        candidates.append(own_id)
    return [
        each
        for each in dict.fromkeys(candidates)
        if each is not None and (table.kind(each).is_integer() or table.kind(each) == pl.String)
    ]


def _number(table: RawColumns, names: tuple[str, ...]) -> list[str]:
    """Return the original names of those of the columns that exist and are numeric."""
    there = (table.columns[name] for name in names if name in table.columns)
    return [own for own in there if table.is_number(own)]


def _times(table: RawColumns, names: tuple[str, ...]) -> list[str]:
    """Return the original names of those of the columns that hold times or are empty."""
    there = (table.columns[name] for name in names if name in table.columns)
    return [own for own in there if table.is_time(own) or _empty(table, own)]


def _empty(table: RawColumns, own: str) -> bool:
    return bool(table.fact("nulls", own) == table.rows)


class _Shape:
    """The source that a table is drafted into, while its shape is recognised."""

    def __init__(self, table: RawColumns, account: str, *others: str) -> None:
        self.table, self.account = table, account
        self.source = DraftedSource(table.name, {}, "", (table.name,), account)
        if others:
            self.doubt(f"the account could be {' or '.join(others)} too; it is {account}")
        self.where, doubts = table.kept()
        self.source.doubts += doubts
        #: SQL expressions of columns that the source's query replaces or adds, by column name.
        self.made: dict[str, str] = {}
        for name, own in table.columns.items():
            if LOADED.fullmatch(name):
                self.doubt(
                    f"{own} says when a row was loaded; if that is the first time and not the "
                    f"last, known_at: {own} keeps late rows unseen"
                )

    def doubt(self, text: str) -> None:
        self.source.doubts.append(text)

    def time(self, own: str) -> str:
        """Use a column as a time; one that isn't a date or timestamp is cast in the query."""
        if not self.table.kind(own).is_temporal():
            self.made[own] = f"cast({self.table.moment(own)} as timestamp)"
        return own

    def currency(self) -> str | None:
        """Use the table's column of currencies, if any, for the amounts of the revenue."""
        coin = self.table.currency
        if coin is not None:
            self.source.currency, self.source.currencies = coin, self.table.values(coin)
        return coin

    def money(self, amounts: list[str], shape: str) -> None:
        """Use the first of the amounts as revenue, converted from minor units if necessary."""
        table, amount = self.table, amounts[0]
        if len(amounts) > 1:
            self.doubt(f"amount could be {' or '.join(amounts[1:4])} too; it is {amount}")
        coin = self.currency()
        cents = re.search(r"cents?$|minor", plain(amount))
        if cents or (table.is_of_stripe() and table.kind(amount).is_integer()):
            self.made[amount] = minor_units(
                column(amount), coin and column(coin), self.source.currencies
            )
            self.doubt(f"money is in minor units (cents) in {amount}, and divided")
        elif table.kind(amount).is_integer() and (table.fact("max", amount) or 0) >= 1000:
            self.doubt(f"{amount} holds whole numbers: they are taken for units, not for cents")
        self.source.shape = shape
        self.source.money = {"amount": amount}

    def finish(self, what: str, **keys: str) -> DraftedSource:
        """Return the completed source; `keys` are its time columns in the recipe."""
        source, table = self.source, self.table
        source.what, source.keys = what, {"data": table.written_as}
        if self.made:
            replaced = {n: text for n, text in self.made.items() if n in table.table.columns}
            added = {n: text for n, text in self.made.items() if n not in replaced}
            listed = ",\n  ".join(f"{text} as {column(name)}" for name, text in replaced.items())
            star = f"* replace (\n  {listed}\n)" if replaced else "*"
            more = "".join(f",\n  {text} as {column(name)}" for name, text in added.items())
            where = f"\nwhere {' and '.join(self.where)}" if self.where else ""
            source.keys["query"] = f"select {star}{more}\nfrom accounts{where}"
        source.keys |= {"account": self.account, **keys}
        if self.where and not self.made:
            source.keys["where"] = " and ".join(self.where)
        return source


def generic_source(table: RawColumns) -> DraftedSource | None:
    """Return the source that a table is recognised as; None without an account or a known shape."""
    ids = _ids(table)
    if not ids:
        return None
    shape = _Shape(table, *ids[:3])
    looks = (_monthly, _periods, _states, _today, _payments, _events)
    return next((source for look in looks if (source := look(table, shape)) is not None), None)


def _monthly(table: RawColumns, shape: _Shape) -> DraftedSource | None:
    """Recognise MRR by month: an amount and a month."""
    amounts = _number(table, _MRR) or _number(table, _PAID)
    months = [own for name, own in table.columns.items() if re.search(r"month", name)]
    for own in months:
        text = table.kind(own) == pl.String
        if not amounts or not (table.kind(own).is_temporal() or text):
            continue
        if text:
            values = table.values(own, most=600)
            if not values or not all(re.fullmatch(r"\d{4}-\d{2}", value) for value in values):
                continue
            shape.made[own] = f"cast({column(own)} || '-01' as date)"
        elif not _number(table, _MRR) and plain(own) not in ("month", "date_month", "month_start"):
            continue
        shape.money(amounts, "monthly")
        if table.is_unique(shape.account):
            shape.doubt("each account stands there once: is it one month alone?")
        name = table.name
        shape.source.features = {
            "months_paying": {"count": name, "where": f"{column(amounts[0])} > 0"},
            "tenure": {"tenure": name},
            "average_mrr": {"mean": f"{name}.{amounts[0]}"},
            "mrr_trend": {"trend": f"{name}.{amounts[0]}"},
            "highest_mrr": {"max": f"{name}.{amounts[0]}"},
        }
        shape.doubt("several rows of an account and month, such as one an item, are added up")
        return shape.finish(f"MRR by month, {amounts[0]} of {own}", at=own)
    return None


def _periods(table: RawColumns, shape: _Shape) -> DraftedSource | None:
    begins, ends = _times(table, _STARTS), _times(table, _ENDS)
    if not begins:
        begins = _times(table, ("created_at", "created", "created_date")) if ends else []
    monthly, yearly = _number(table, _MRR), _number(table, _YEARLY)
    amounts = monthly or yearly or _number(table, _PAID)
    if not (begins and ends and amounts):
        return None
    begin, end = shape.time(begins[0]), shape.time(ends[0])
    for what, columns in (("start", begins), ("end", ends)):
        if len(columns) > 1:
            shape.doubt(f"the {what} could be {' or '.join(columns[1:4])} too; it is {columns[0]}")
    shape.money(amounts, "subscriptions")
    money = shape.source.money
    interval = table.first(*_INTERVAL)
    counted = table.first("interval_count")
    if yearly and not monthly:
        money["months"] = 12
        shape.doubt(f"{amounts[0]} is taken for what is paid a year, by its name")
    elif interval is not None and not monthly:
        months = months_of(column(interval), table.values(interval))
        if months is None:
            shape.doubt(
                f"{interval} may say how many months an amount is for, and isn't understood: each "
                "amount is taken for a month's"
            )
        else:
            times = "" if counted is None else f"coalesce({column(counted)}, 1) * "
            shape.made["months"] = times + months
            money["months"] = "months"
    elif interval is not None:
        shape.doubt(f"{amounts[0]} is taken for a month's, whatever {interval} says")
    elif not monthly:
        terms = (own for n, own in table.columns.items() if _TERM.fullmatch(n))
        term = next(filter(table.is_number, terms), None)
        shape.doubt(
            f"{amounts[0]} is taken for a month's: of a year's it would be 12 times too much"
            + (f"; if it is for as many months as {term} says, say months: {term}" if term else "")
        )
    quantity = _number(table, ("quantity", "qty"))
    if quantity and not monthly and not yearly:
        money["quantity"] = quantity[0]
        shape.doubt(f"{amounts[0]} is taken for the price of one, and multiplied by {quantity[0]}")
    name, features = table.name, shape.source.features
    features |= {
        "tenure": {"tenure": name},
        "open_subscriptions": {"count": name, "where": f"{column(end)} is null"},
        "past_subscriptions": {"count": name, "where": f"{column(end)} is not null"},
    }
    taken = {begin, end, shape.account, *amounts, *(quantity or ())}
    _attributes(table, shape, taken)
    free = [own for own in amounts[:1] if table.fact("min", own) == 0]
    if free:
        shape.doubt("some amounts are 0: who has those alone isn't paying, and in no table")
    return shape.finish(
        f"subscription periods, {amounts[0]} from {begin} to {end}", **{"from": begin, "until": end}
    )


def _attributes(table: RawColumns, shape: _Shape, taken: set[str]) -> None:
    """Add `latest` features of numbers and categories; postpone columns that change later."""
    features, put_off = shape.source.features, shape.source.put_off
    for name, own in table.columns.items():
        if own in taken or LOADED.fullmatch(name) or name.startswith("_"):
            continue
        if re.search(r"(^|_)(id|key|uuid|email|metadata)$|livemode|is_deleted", name):
            continue
        number = table.is_number(own) and not table.in_seconds(own)
        few = not number and not table.kind(own).is_temporal() and table.has_few(own)
        if not (number or few) or _empty(table, own):
            continue
        rule = {"latest": f"{table.name}.{own}"}
        label = name if name.isidentifier() else plain(own)
        if _LATER.fullmatch(name):
            put_off[label] = (rule, "May have been filled in after the date")
        elif len(features) < _MOST_ATTRIBUTES:
            features[label] = rule


def _states(table: RawColumns, shape: _Shape) -> DraftedSource | None:
    """Recognise versions of accounts: several rows each, with a day since when they hold."""
    since = _times(table, _STATES)
    if not since or table.is_unique(shape.account):
        return None
    taken = {shape.account, *since, *_times(table, _ENDS)}
    for name, own in table.columns.items():
        if (
            own not in taken
            and not name.startswith(("_", "dbt_"))
            and (table.has_few(own) or table.is_number(own))
        ):
            shape.source.features.setdefault(name, {"latest": f"{table.name}.{own}"})
    return shape.finish(
        f"values with the day since when they hold, {since[0]}", valid_from=shape.time(since[0])
    )


def _today(table: RawColumns, shape: _Shape) -> DraftedSource | None:
    """Recognise a table of accounts as they are today, such as a CRM's: one row each."""
    if not table.is_unique(shape.account) or not (
        _ACCOUNTS.search(table.name) or not _number(table, (*_MRR, *_PAID))
    ):
        return None
    source = shape.source
    source.all_accounts = True
    shape.doubt(
        "as it is today: what it says of an account may have come after the date, so that a "
        "feature of it may know the outcome"
    )
    for name, own in table.columns.items():
        if _LEFT.fullmatch(name) and table.kind(own) == pl.Boolean:
            source.flag = column(own)
            continue
        telling = table.has_few(own) or table.is_number(own)
        if own == shape.account or name.startswith("_") or not telling:
            continue
        if table.kind(own).is_temporal() or re.search(r"(^|_)(id|livemode)$", name):
            continue
        rule = {"latest": f"{table.name}.{own}"}
        if _STEADY.fullmatch(name):
            source.features[name] = rule
        else:
            source.put_off[name] = (rule, "As of today; take one in if it never changes")
    return shape.finish("accounts as they are today", as_of="today")


def _payments(table: RawColumns, shape: _Shape) -> DraftedSource | None:
    """Recognise payments, orders or order lines: a time and an amount, or price and quantity."""
    times = _times(table, _MOMENTS)
    amounts = [] if _TICKETS.search(table.name) else _number(table, _PAID)
    unit = _number(table, ("unit_price", "item_price", "price"))
    quantity = _number(table, ("quantity", "qty"))
    lines = bool(unit and quantity) and not (amounts and plain(amounts[0]) != "price")
    if not times or not (amounts or lines) or _NAMED_EVENT.search(table.name):
        return None
    at = shape.time(times[0])
    _other_times(table, shape, at)
    if lines:
        shape.made["amount"] = f"{column(unit[0])} * {column(quantity[0])}"
        shape.source.shape, shape.source.money = "transactions", {"amount": "amount"}
        shape.currency()
        shape.doubt(
            f"an amount is {unit[0]} times {quantity[0]}; is {unit[0]} in units, not cents?"
        )
        amount = "amount"
    else:
        shape.money(amounts, "transactions")
        amount = amounts[0]
    state = table.columns.get("status")
    if state is not None and len(table.values(state)) > 1:
        listed = ", ".join(table.values(state)[:5])
        shape.doubt(f"{state} has {listed}: rows of all of them are counted as paid")
    name = table.name
    shape.source.features = {
        "payments": {"count": name},
        "payments_90": {"count": name, "last": "90 days"},
        "days_since_payment": {"days_since": name},
        "tenure": {"tenure": name},
        "paid_90": {"sum": f"{name}.{amount}", "last": "90 days"},
        "paid_change": {"change": f"{name}.{amount}", "last": "90 days"},
        "average_payment": {"mean": f"{name}.{amount}"},
        "largest_payment": {"max": f"{name}.{amount}"},
    }
    for number, own in enumerate(_others(table, {shape.account, at, amount, *amounts, *quantity})):
        if number < 2:
            shape.source.features[f"{plain(own)}_90"] = {"sum": f"{name}.{own}", "last": "90 days"}
    return shape.finish(
        f"{'order lines' if lines else 'payments or orders'}, {amount} of {at}", at=at
    )


#: Names of event tables, which aren't payments even with an amount, such as churns with a refund.
_NAMED_EVENT = re.compile(r"event|usage|activit|log|churn")


def _others(table: RawColumns, taken: set[str]) -> list[str]:
    """Return further numeric columns whose values were known when their row was created."""
    return [
        own
        for name, own in table.columns.items()
        if own not in taken
        and table.is_number(own)
        and not table.in_seconds(own)
        and not _LATER.fullmatch(name)
        and not re.search(r"(^|_)(id|key|no|number)$|^_", name)
        and not _empty(table, own)
    ]


def _other_times(table: RawColumns, shape: _Shape, at: str) -> None:
    """Add a doubt if other columns could be the date instead of `at`."""
    others = [
        own
        for name, own in table.columns.items()
        if own != at
        and table.is_time(own)
        and not LOADED.fullmatch(name)
        and not re.search(r"clos|resol|end|due|updat|modif|cancel|redeem", name)
    ]
    if others:
        shape.doubt(f"the date could be {' or '.join(others[:3])} too; it is {at}")


def _events(table: RawColumns, shape: _Shape) -> DraftedSource | None:
    """Recognise any other table with a time as events, among them tickets and cancellations."""
    times = _times(table, _MOMENTS) or [
        own
        for name, own in table.columns.items()
        if table.is_time(own) and not LOADED.fullmatch(name) and own not in _times(table, _ENDS)
    ]
    if not times:
        return None
    at, name = shape.time(times[0]), table.name
    _other_times(table, shape, at)
    features = shape.source.features
    features |= {
        f"{name}_90": {"count": name, "last": "90 days"},
        f"{name}_change": {"change": name, "last": "30 days"},
        f"days_since_{name}": {"days_since": name},
    }
    left = re.search(r"churn|cancel", table.name)
    tickets = _TICKETS.search(table.name)
    label = table.first("priority", "severity") if tickets else table.first(*_NAMES)
    if label is not None and not left:
        values = table.values(label)
        for value in values[:3] if tickets or len(values) > 1 else []:
            slug = re.sub(r"\W+", "_", value.lower()).strip("_")
            where = f"{column(label)} = {literal(value)}"
            features[f"{name}_{slug}_90"] = {"count": name, "last": "90 days", "where": where}
        if len(values) > 3:
            features[f"{name}_kinds_90"] = {"distinct": f"{name}.{label}", "last": "90 days"}
    for own in _others(table, {shape.account, at})[:3]:
        features[f"{plain(own)}_90"] = {"sum": f"{name}.{own}", "last": "90 days"}
    for each, own in table.columns.items():
        if _LATER.fullmatch(each) and table.is_number(own) and own != at:
            rule = {"mean": f"{name}.{own}", "last": "90 days"}
            shape.source.put_off[f"{each}_90"] = (rule, "May have been filled in after the date")
    if left:
        shape.source.flag = ""
        shape.doubt("its accounts are taken to have left by it, and held against the revenue")
    what = "support tickets" if tickets else "accounts that left" if left else "events"
    return shape.finish(f"{what}, by {at}", at=at)


def joined_source(
    table: RawColumns, others: list[RawColumns], owners: Mapping[str, DraftedSource]
) -> DraftedSource | None:
    """Return events without an account column as a source, joined to a table that has accounts.

    The join is on a column such as ``subscription_id`` that both have and that is unique in the
    other table. None where there is none.
    """
    for other in others:
        owner = owners[other.name]
        account = owner.account
        keys = [n for n in table.columns if n in other.columns and re.search(r"_(id|key)$", n)]
        for name in keys:
            key, theirs = table.columns[name], other.columns[name]
            if not other.is_unique(theirs) or account not in other.table.columns:
                continue
            shape = _Shape(table, account)
            source = _events(table, shape)
            if source is None:
                return None
            at = str(source.keys["at"])
            listed = ", ".join(f"{text} as {column(n)}" for n, text in shape.made.items())
            star = f"t.* replace ({listed})" if listed else "t.*"
            conditions, _ = table.kept("t")
            where = f"\nwhere {' and '.join(conditions)}" if conditions else ""
            source.keys = {
                "tables": {table.name: table.written_as, other.name: other.written_as},
                "query": f"select {star}, {column(account, 'o')}\n"
                f"from {column(table.name)} t\n"
                f"left join {column(other.name)} o on {column(theirs, 'o')} = {column(key, 't')}"
                + where,
                "account": account,
                "at": at,
            }
            source.reads = (table.name, other.name)
            source.doubts.append(f"its account is that of its {key} in {other.name}")
            return source
    return None
