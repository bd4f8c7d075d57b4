"""Draft recipe sources from Stripe's tables as connectors deliver them.

Stripe's model: a subscription has items, each with a quantity of a price (formerly plan). The
price's amount is in the currency's minor unit, for an interval. A subscription ends at `ended_at`;
`canceled_at` is when the cancellation was requested, and is cleared if it is withdrawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gtmar.data.locations import literal
from gtmar.snapshots.raw_columns import DraftedSource, RawColumns, column

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["minor_units", "months_of", "stripe_role", "stripe_sources"]

#: Stripe's currencies without a minor unit, and those whose minor unit is a thousandth.
_WHOLE = frozenset(
    (
        *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
        *("pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"),
    )
)
_THOUSANDTHS = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])


def minor_units(amount: str, currency: str | None, currencies: Iterable[str]) -> str:
    """Write SQL that converts an amount from minor units of its currency to whole units."""
    known = {each.lower() for each in currencies}
    odd = [(known & _WHOLE, "1"), (known & _THOUSANDTHS, "1000")]
    whens = " ".join(
        f"when {each!r} then {units}" for group, units in odd for each in sorted(group)
    )
    if not whens or currency is None:
        return f"{amount} / 100.0"
    return f"{amount} / (case lower({currency}) {whens} else 100 end * 1.0)"


#: SQL number of months of an interval, by common spellings.
_MONTHS = {
    **dict.fromkeys(("month", "monthly", "months", "m"), "1"),
    **dict.fromkeys(("quarter", "quarterly"), "3"),
    **dict.fromkeys(("half-year", "semiannual", "semi-annual", "biannual"), "6"),
    **dict.fromkeys(("year", "yearly", "annual", "annually", "years"), "12"),
    **dict.fromkeys(("week", "weekly"), "12 / 52.0"),
    **dict.fromkeys(("day", "daily"), "12 / 365.0"),
}


def months_of(interval: str, values: list[str]) -> str | None:
    """Write SQL for the months of an interval column; None if it has an unknown value or none."""
    cases = {value: _MONTHS.get(value.strip().lower()) for value in values}
    if not cases or None in cases.values():
        return None
    whens = " ".join(
        f"when {literal(value)} then {months}" for value, months in sorted(cases.items())
    )
    return f"case {interval} {whens} end"


def stripe_role(table: RawColumns) -> str | None:
    """Recognise one of Stripe's tables by its columns; None if it is none of them."""
    has, names = table.has, table.columns.keys()
    refers = bool(names & {"subscription_id", "subscription"})
    of_customer = bool(names & {"customer_id", "customer"})
    if of_customer and "status" in names and names & {"current_period_end", "cancel_at_period_end"}:
        priced = has("amount", "interval")
        past = names & {"_fivetran_active", "_fivetran_start"}
        return None if priced else "history" if past else "subscriptions"
    if has("percent_off", "duration"):
        return "coupons"
    if has("coupon_id") and refers:
        return "discounts"
    if has("unit_amount", "billing_scheme"):
        return "prices"
    if has("id", "amount", "interval", "interval_count", "currency") and not of_customer:
        return "plans"
    if refers and has("quantity") and names & {"plan_id", "price_id", "plan", "price"}:
        return "lines" if "invoice_id" in names else "items"
    if of_customer and has("amount_paid", "status"):
        return "invoices"
    if has("charge_id", "amount", "status") and not of_customer:
        return "refunds"
    if has("invoice_id", "amount", "refund_id"):
        return "credit_notes"
    if of_customer and has("amount", "livemode") and names & {"amount_refunded", "captured"}:
        return "charges"
    return "products" if has("statement_descriptor", "shippable") else None


def _span(source: DraftedSource, subs: RawColumns, own: dict[str, str]) -> list[str]:
    """Return the columns `started` and `ended`, between which a subscription is paid for."""
    started, trial = subs.moment(own["begin"], "s"), subs.columns.get("trial_end")
    if trial is not None and subs.fact("nulls", trial) < subs.rows:
        started = f"greatest({started}, coalesce({subs.moment(trial, 's')}, {started}))"
        source.doubts.append(
            "a trial doesn't pay: a subscription begins at trial_end, if it has one"
        )
    source.doubts.append(
        f"{own['end']} is taken for the end; canceled_at is only when somebody asked for it"
    )
    return [
        f"cast({started} as timestamp) as started",
        f"cast({subs.moment(own['end'], 's')} as timestamp) as ended",
    ]


def _costs(source: DraftedSource, priced: RawColumns) -> tuple[list[str], str | None]:
    """Return columns for amount, months and currency, and a condition against one-off prices.

    Returns no columns if an interval is unknown; the condition is None without one-off prices.
    """
    interval = str(priced.first("recurring_interval", "interval"))
    each = priced.first("recurring_interval_count", "interval_count")
    amount = str(priced.first("unit_amount", "amount"))
    months = months_of(column(interval, "p"), priced.values(interval))
    if months is None:
        return [], None
    if each is not None:
        months = f"coalesce({column(each, 'p')}, 1) * {months}"
    coin = priced.columns.get("currency")
    source.currencies = priced.values(coin) if coin else []
    money = minor_units(column(amount, "p"), coin and column(coin, "p"), source.currencies)
    source.doubts.append(f"money is in minor units (cents) in {priced.name}.{amount}, and divided")
    source.money |= {"amount": "amount", "months": "months"}
    one_off = None
    if priced.fact("nulls", interval):
        one_off = f"not (p.id is not null and {column(interval, 'p')} is null)"
        source.doubts.append("prices without an interval are one-off; their items are left out")
    columns = [f"{money} as amount", f"{months} as months"]
    return columns + ([f"{column(coin, 'p')} as currency"] if coin else []), one_off


def _minor(
    amount: str, of: str, tables: list[tuple[RawColumns, str]], currencies: list[str]
) -> tuple[str, str]:
    """Return SQL for an amount in whole units of its currency, and for that currency."""
    known = [column(each.columns["currency"], to) for each, to in tables if each.has("currency")]
    coin = known[0] if known else None
    return minor_units(column(amount, of), coin, currencies), coin or "null"


def _by_status(source: DraftedSource, subs: RawColumns) -> list[str]:
    """Return conditions against subscriptions that never began; note how other statuses count."""
    own = subs.columns["status"]
    states = subs.values(own)
    late = [state for state in ("past_due", "unpaid", "paused") if state in states]
    if late:
        source.doubts.append(
            f"{' and '.join(late)} subscriptions count as running: since when they are is not in "
            "this table, and today's status may not decide about a day in the past"
        )
    if not {"incomplete", "incomplete_expired"} & set(states):
        return []
    source.doubts.append("incomplete subscriptions were never paid for, and are left out")
    return [f"coalesce({column(own, 's')}, '') not in ('incomplete', 'incomplete_expired')"]


class _Stripe:
    """The given Stripe tables by role, and the sources that can be drafted from them."""

    def __init__(self, tables: list[RawColumns]) -> None:
        self.by_role: dict[str, RawColumns] = {}
        self.all = tables
        for table in tables:
            role = stripe_role(table)
            known = self.by_role.get(role or "")
            # Of two tables of discounts, the one of subscriptions is preferred.
            if role is not None and (known is None or "subscription" in table.name):
                self.by_role[role] = table

    def get(self, role: str) -> RawColumns | None:
        return self.by_role.get(role)

    def subscriptions(self) -> DraftedSource | None:
        """Return subscriptions with the prices of their items; None if a table is missing."""
        subs, items = self.get("subscriptions"), self.get("items")
        lines = items or subs
        if subs is None or lines is None:
            return None
        reference = lines.first("price_id", "plan_id", "price", "plan")
        priced = None if reference is None else self._prices(lines, reference)
        needed = {
            "id": subs.first("id", "subscription_id"),
            "customer": subs.first("customer_id", "customer"),
            "begin": subs.first("start_date", "start_date_at", "created", "created_at"),
            "end": subs.first("ended_at"),
        }
        if priced is None or reference is None or None in needed.values():
            return None
        source = DraftedSource(subs.name, {}, "Stripe subscriptions", (), "customer_id")
        source.shape, source.ends_are_known = "subscriptions", True
        own = {key: str(value) for key, value in needed.items()}
        chosen = [
            f"{column(own['customer'], 's')} as customer_id",
            f"{column(own['id'], 's')} as subscription_id",
            *_span(source, subs, own),
        ]
        tables = {"subscriptions": subs, "prices": priced}
        conditions, left_out = subs.kept("s")
        joins = [f"left join prices p on {column('id', 'p')} = {column(reference, 'i')}"]
        begins = "from items i"
        if items is None:
            joins = [joins[0].replace(column(reference, "i"), column(reference, "s"))]
            begins = "from subscriptions s"
        else:
            tables["items"] = items
            link = column(str(items.first("subscription_id", "subscription")), "i")
            joins.insert(0, f"left join subscriptions s on {column(own['id'], 's')} = {link}")
            more, doubts = items.kept("i")
            conditions, left_out = conditions + more, left_out + doubts
        costs, one_off = _costs(source, priced)
        if not costs:
            return None
        chosen += costs
        if one_off is not None:
            conditions.append(one_off)
        quantity = lines.first("quantity")
        if quantity is not None:
            chosen.append(f"{column(quantity, 's' if items is None else 'i')} as quantity")
            source.money["quantity"] = "quantity"
            source.doubts.append(
                f"{lines.name}.{quantity} is today's: an upgrade counts from the start on, unless "
                "each change made a new subscription"
            )
        conditions += _by_status(source, subs)
        discount = self._discounts(source, own["id"], tables)
        if discount is not None:
            chosen.append("coalesce(d.discount, 0) as discount")
            joins.append(discount)
            source.money["discount"] = "discount"
        source.doubts += left_out
        source.reads = tuple(table.name for table in tables.values())
        where = f"\nwhere {' and '.join(conditions)}" if conditions else ""
        listed = ",\n  ".join(chosen)
        source.keys = {
            "tables": {name: table.written_as for name, table in tables.items()},
            "query": "\n".join([f"select {listed}", begins, *joins]) + where,
            "account": "customer_id",
            "from": "started",
            "until": "ended",
        }
        name = source.name
        source.features = {
            "tenure": {"tenure": name},
            "open_subscriptions": {"count": name, "where": "ended is null"},
            "past_subscriptions": {"count": name, "where": "ended is not null"},
            "longest_interval": {"max": f"{name}.months"},
        }
        return source

    def _prices(self, lines: RawColumns, reference: str) -> RawColumns | None:
        """Return the one of `prices` and `plans` with most of the items' prices; None if absent."""
        used = set(lines.values(reference, most=1_000_000))
        best, most = None, -1
        for role in ("prices", "plans"):
            table = self.get(role)
            if table is not None and "id" in table.columns:
                known = len(used & set(table.values(table.columns["id"], most=1_000_000)))
                if known > most:
                    best, most = table, known
        return best

    def _discounts(
        self, source: DraftedSource, own_id: str, tables: dict[str, RawColumns]
    ) -> str | None:
        """Return a join of permanent percentage discounts; note which others are ignored."""
        given, coupons = self.get("discounts"), self.get("coupons")
        if given is None:
            source.doubts.append("no table of discounts is given: amounts are list prices")
            return None
        link = given.first("subscription_id", "subscription")
        if coupons is None or link is None:
            source.doubts.append(f"{given.name} needs the table of coupons; nothing is taken off")
            return None
        source.doubts.append(
            "discounts: percentages off forever are taken off from the start on; coupons for once "
            "or some months, amounts off, and discounts of customers are not"
        )
        tables |= {"discounts": given, "coupons": coupons}
        ends = given.columns.get("end")
        running = "" if ends is None else f" and {column(ends, 'g')} is null"
        return (
            f"left join (\n  select {column(link, 'g')} as id, "
            f"1 - product(1 - c.percent_off / 100.0) as discount\n"
            f"  from discounts g join coupons c on c.id = g.coupon_id\n"
            f"  where c.duration = 'forever' and c.percent_off is not null{running}\n"
            f"  group by 1\n) d on d.id = {column(own_id, 's')}"
        )

    def invoices(self, *, revenue: bool) -> DraftedSource | None:
        """Return payments by invoices; as source of revenue, refunds and credits are subtracted."""
        table = self.get("invoices")
        if table is None:
            return None
        customer = str(table.first("customer_id", "customer"))
        at = table.first(
            "status_transitions_paid_at", "paid_at", "created", "created_at", "date", "period_start"
        )
        if at is None:
            return None
        coin = table.columns.get("currency")
        currencies = table.values(coin) if coin else []

        conditions, more_doubts = table.kept("i")
        conditions.insert(0, f"{column(table.columns['status'], 'i')} = 'paid'")
        paid = _minor(table.columns["amount_paid"], "i", [(table, "i")], currencies)
        parts = [
            f"select {column(customer, 'i')} as customer_id,\n"
            f"  cast({table.moment(at, 'i')} as timestamp) as paid_at,\n"
            f"  {paid[0]} as paid, {paid[1]} as currency\n"
            f"from invoices i\nwhere {' and '.join(conditions)}"
        ]
        doubts = [
            f"money is in minor units (cents) in {table.name}.amount_paid, and divided",
            f"a payment is of {at}{'' if 'paid' in at else ', for want of the day it was paid'}",
            *more_doubts,
        ]
        tables = {"invoices": table}
        if revenue:
            doubts.append("an invoice for a year counts once: MRR of annual contracts needs months")
            self._credits(parts, tables, doubts, currencies)
        source = DraftedSource(
            table.name, {}, "Stripe invoices", (), "customer_id", doubts, currencies=currencies
        )
        source.reads = tuple(each.name for each in tables.values())
        source.keys = {
            "tables": {name: each.written_as for name, each in tables.items()},
            "query": "\nunion all\n".join(parts),
            "account": "customer_id",
            "at": "paid_at",
        }
        if revenue:
            source.shape, source.money = "transactions", {"amount": "paid"}
        source.features = {
            "payments_90": {"count": source.name, "last": "90 days"},
            "paid_90": {"sum": f"{source.name}.paid", "last": "90 days"},
            "paid_change": {"change": f"{source.name}.paid", "last": "90 days"},
            "days_since_payment": {"days_since": source.name},
        }
        return source

    def _credits(
        self,
        parts: list[str],
        tables: dict[str, RawColumns],
        doubts: list[str],
        currencies: list[str],
    ) -> None:
        """Add SELECTs of refunds (through their charges) and credit notes (through invoices)."""
        refunds, charges, notes = map(self.get, ("refunds", "charges", "credit_notes"))
        given = []
        if refunds is not None and charges is not None:
            tables |= {"refunds": refunds, "charges": charges}
            given.append((refunds, "charges", charges, "charge_id", "g.status = 'succeeded'"))
        elif refunds is not None:
            doubts.append(
                f"{refunds.name} names charges and no customer: without the table of charges "
                "refunds are not taken off"
            )
        if notes is not None:
            tables["credit_notes"] = notes
            issued = "g.status = 'issued' and g.type = 'post_payment'"
            if "refunds" in tables:
                # A credit note with a refund would otherwise be subtracted twice.
                issued += " and g.refund_id is null"
            given.append((notes, "invoices", tables["invoices"], "invoice_id", issued))
        names = {id(table): name for name, table in tables.items()}
        for back, to, paid, key, where in given:
            amount, coin = _minor("amount", "g", [(back, "g"), (paid, "p")], currencies)
            payer = column(str(paid.first("customer_id", "customer")), "p")
            at = back.moment(str(back.first("created", "created_at")), "g")
            parts.append(
                f"select {payer}, cast({at} as timestamp), -({amount}), {coin}\n"
                f"from {names[id(back)]} g left join {to} p on p.id = g.{key}\nwhere {where}"
            )

    def history(self) -> DraftedSource | None:
        """Return the versions of subscriptions with the time since when each was known."""
        table = self.get("history")
        if table is None:
            return None
        since = table.first("_fivetran_start", "valid_from", "_fivetran_synced")
        if since is None:
            return None
        conditions, doubts = table.kept()
        customer = str(table.first("customer_id", "customer"))
        source = DraftedSource(
            table.name,
            {"data": table.written_as, "account": customer, "valid_from": since},
            "Stripe subscriptions as they were known at each time",
            (table.name,),
            customer,
            [
                "of several subscriptions of a customer, latest takes the last version",
                *(
                    [f"{since} is when a version was synced, not when it began"]
                    if "synced" in since
                    else []
                ),
                *doubts,
            ],
        )
        if conditions:
            source.keys["where"] = " and ".join(conditions)
        for name in ("status", "cancel_at_period_end"):
            if name in table.columns:
                source.features[f"known_{name}"] = {"latest": f"{table.name}.{table.columns[name]}"}
        return source


def stripe_sources(tables: list[RawColumns]) -> tuple[list[DraftedSource], dict[str, str]]:
    """Return the sources drafted from Stripe's tables, and a remark on each unused one by name."""
    stripe = _Stripe(tables)
    subs = stripe.subscriptions()
    made = [subs, stripe.invoices(revenue=subs is None), stripe.history()]
    sources = [each for each in made if each is not None]
    used = {name for each in sources for name in each.reads}
    left = {
        table.name: f"Stripe's {str(stripe_role(table)).replace('_', ' ')}"
        for table in tables
        if stripe_role(table) is not None and table.name not in used
    }
    if stripe.get("subscriptions") is not None and subs is None:
        left[stripe.by_role["subscriptions"].name] = (
            "Stripe's subscriptions: their MRR needs the items and prices (or plans) too"
        )
    return sources, left
