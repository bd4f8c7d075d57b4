"""Draft a first recipe from raw tables: recognise each table by its columns and values.

A person reviews the draft. Every ambiguous guess is marked, in the recipe and in the terminal.
Decisions that a person has to take are commented-out lines, ready to be enabled.
"""

from __future__ import annotations

import json
import os
import re
import textwrap
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from gtmar.data.locations import is_path, quoted
from gtmar.data.scan import likely_id
from gtmar.errors import AccountDataError, UsageError
from gtmar.plain_data import some
from gtmar.snapshots.conflicts import Conflict, conflicts
from gtmar.snapshots.raw_columns import DraftedSource, RawColumns, column, plain, table_name
from gtmar.snapshots.raw_history import RawHistory, history
from gtmar.snapshots.raw_shapes import generic_source, joined_source
from gtmar.snapshots.recipe import RESERVED, SnapshotRecipe, Span, parse
from gtmar.snapshots.statement import source_rows
from gtmar.snapshots.stripe import stripe_sources

__all__ = ["DraftedRecipe", "draft", "located"]

#: Largest number of features in a draft, so that a person can still read it through.
_MOST_FEATURES = 16
_SHAPES = {
    "monthly": "MRR by month",
    "subscriptions": "subscription periods",
    "transactions": "payments",
}
#: Contradictions for which the draft suggests a `where` against null amounts.
_WITHOUT_AMOUNT = ("unknown_amounts", "bad_months", "bad_quantities")
#: By kind of contradiction, the line of the recipe's `rules` that settles it.
_RULES = {
    "zero_amounts": "zero_amounts: not paying",
    "overlaps": "overlaps: add",
    "ends_before_start": "ends_before_start: leave out",
    "unknown_accounts": "unknown_accounts: keep",
    "events_outside": "events_outside: keep",
    "flagged_and_paying": "flags: believe revenue",
    "gone_and_unflagged": "flags: believe revenue",
}


@dataclass(frozen=True)
class DraftedRecipe:
    """A first recipe, and the remarks on it."""

    text: str
    recipe: SnapshotRecipe
    #: Shape and source of the revenue, in words.
    revenue: str
    #: By name of a table, its recognised kind.
    recognised: dict[str, str]
    #: Guesses that a person should check.
    unsure: tuple[str, ...]
    #: Contradictions that need a rule before a table can be built.
    conflicts: tuple[Conflict, ...]
    #: Number of the recipe's dates whose outcomes are known.
    known: int


def draft(
    sources: list[str], *, base: Path | None = None, memory: int | None = None
) -> DraftedRecipe:
    """Write a first recipe from raw tables.

    Parameters
    ----------
    sources
        Locations in any form that ``--data`` accepts; ``NAME=PLACE`` also names the source.
    base
        Folder of the recipe, which its relative paths start from; None for the current one.
    memory
        Bytes that DuckDB may use; None for half of the machine's.

    Returns
    -------
    DraftedRecipe
        The recipe as text and parsed, with the guesses to check and the contradictions found.

    Raises
    ------
    UsageError
        If two sources have the same name.
    AccountDataError
        If a source can't be read, or none of them has revenue.

    Notes
    -----
    Cost: about three passes over each table: for its columns, its values, and contradictions.
    """
    tables = _opened(sources, base)
    drafted, recognised = _recognised(tables)
    revenue = _revenue(drafted)
    if revenue is None:
        listed = [f"  - {name}: {what}" for name, what in recognised.items()]
        raise AccountDataError(
            "none of the sources has revenue: an account, a date or two, and an amount",
            listing=listed,
            hint="give the table of subscriptions, of payments, or of MRR by month too",
        )
    for each in drafted:
        if each is not revenue:
            each.shape = None
    return _Writing(drafted, revenue, recognised).draft(base, memory)


def located(given: str) -> tuple[str, str]:
    """Return name and location of a source given as ``NAME=PLACE`` or as a location alone."""
    named = re.fullmatch(r"([A-Za-z_]\w*)=(.+)", given, re.DOTALL)
    if named is not None and not Path(given).exists():
        return named[1], named[2]
    return table_name(given), given


def _opened(sources: list[str], base: Path | None) -> list[RawColumns]:
    tables: dict[str, RawColumns] = {}
    for given in sources:
        name, location = located(given)
        if name in tables:
            raise UsageError(
                f'two sources are called "{name}": {tables[name].written_as} and {location}',
                hint=f"{name}_2={location}",
            )
        tables[name] = RawColumns.of(name, location, _placed(location, base))
    return list(tables.values())


def _placed(location: str, base: Path | None) -> str:
    """Return a location relative to the recipe's folder; URLs and absolute paths are unchanged."""
    if not is_path(location) or base is None or Path(location).is_absolute():
        return location
    return os.path.relpath(location, base)


def _recognised(tables: list[RawColumns]) -> tuple[list[DraftedSource], dict[str, str]]:
    """Return the drafted sources, and a description of every table by its name."""
    drafted, recognised = stripe_sources(tables)
    used = {name for each in drafted for name in each.reads} | recognised.keys()
    alone = [table for table in tables if table.name not in used]
    waiting = []
    for table in alone:
        source = generic_source(table)
        if source is None:
            waiting.append(table)
        else:
            drafted.append(source)
    owners = {each.name: each for each in drafted}
    for table in waiting:
        source = joined_source(table, [t for t in tables if t.name in owners], owners)
        if source is None:
            recognised[table.name] = "not used: no column of it is an account's id with a date"
        else:
            drafted.append(source)
    order = [table.name for table in tables]
    drafted.sort(key=lambda each: order.index(each.name))
    uses = {each.name: each.what for each in drafted}
    for each in drafted:
        for name in each.reads:
            uses.setdefault(name, f"read by {each.name}")
    return drafted, {name: uses.get(name, recognised.get(name, "not used")) for name in order}


def _revenue(drafted: list[DraftedSource]) -> DraftedSource | None:
    """Return the source of revenue: MRR by month is preferred to periods, these to payments."""
    for shape in _SHAPES:
        for each in drafted:
            if each.shape == shape:
                others = [o.name for o in drafted if o.shape is not None and o is not each]
                if others:
                    each.doubts.insert(
                        0, f"revenue could be of {' or '.join(others)} too; it is of {each.name}"
                    )
                return each
    return None


# ---- writing it ----------------------------------------------------------------------------------


class _Writing:
    """The draft while it is written: sources, chosen features, dates, and contradictions."""

    def __init__(
        self, drafted: list[DraftedSource], revenue: DraftedSource, recognised: dict[str, str]
    ) -> None:
        self.sources, self.revenue, self.recognised = drafted, revenue, recognised
        account = plain(revenue.account)
        usable = likely_id([account]) and account == revenue.account
        self.id = account if usable else "account_id"
        self.dates: dict[str, Any] | list[str] = ["2000-01-01"]
        self.window, self.until = "1 month", date.today().isoformat()
        self.features, self.put_off = self._chosen()
        self.conflicts: list[Conflict] = []

    def _chosen(self) -> tuple[dict[str, dict[str, str]], dict[str, tuple[dict[str, str], str]]]:
        """Return chosen and postponed features, taken from all sources in turn."""
        taken: dict[str, dict[str, str]] = {}
        later: dict[str, tuple[dict[str, str], str]] = {}
        reserved = {*RESERVED, self.id.lower()}
        queues = [[*each.features.items()] for each in self.sources]
        while any(queues):
            for queue, source in zip(queues, self.sources, strict=True):
                if not queue:
                    continue
                name, rule = queue.pop(0)
                if name.lower() in {*reserved, *taken}:
                    name = f"{source.name}_{name}"
                if len(taken) < _MOST_FEATURES:
                    taken[name] = rule
                else:
                    later[name] = (rule, "More of them")
        for source in self.sources:
            for name, each in source.put_off.items():
                taken_already = name.lower() in {*reserved, *taken, *later}
                later[f"{source.name}_{name}" if taken_already else name] = each
        places = {each.name: number for number, each in enumerate(self.sources)}
        # A rule's first key is its kind, its value begins with the source.
        source_of = {n: next(iter(rule.values())).partition(".")[0] for n, rule in taken.items()}
        order = sorted(taken, key=lambda name: places[source_of[name]])
        return {name: taken[name] for name in order}, later

    def draft(self, base: Path | None, memory: int | None) -> DraftedRecipe:
        """Write a provisional recipe, examine the history with it, and write the final one."""
        with history(parse(self.text()), base=base, memory=memory) as opened:
            self._look(opened)
            opened.recipe = recipe = parse(self.text(), source="the draft")
            opened.until = date.fromisoformat(self.until) if self.until else self.last
            self.conflicts = [each for each in conflicts(opened) if each.rule is None]
        for conflict in self.conflicts:
            self._doubt(conflict)
        text = self.text()
        recipe = parse(text, source="the draft")
        unsure = tuple(f"{each.name}: {doubt}" for each in self.sources for doubt in each.doubts)
        known = sum(recipe.window.after(day) <= opened.until for day in recipe.days)
        shape = f"{_SHAPES[str(self.revenue.shape)]} in {self.revenue.name}"
        return DraftedRecipe(
            text, recipe, shape, self.recognised, unsure, tuple(self.conflicts), known
        )

    def _look(self, opened: RawHistory) -> None:
        """Choose dates and outcome window by the span of the revenue's rows."""
        recipe = opened.recipe
        source = recipe.sources[self.revenue.name]
        rows, time = source_rows(recipe, self.revenue.name), quoted(str(source.time))
        today = f"date '{date.today().isoformat()}'"
        [[first, last, ahead]] = opened.ask(
            f"select cast(min({time}) as date), cast(max({time}) filter (where {time} <= {today}) "
            f"as date), count(*) filter (where {time} > {today}) from ({rows})"
        )
        if last is None:
            raise AccountDataError(
                f'source "{self.revenue.name}" has no row with an account and a date until today'
            )
        self.until, after = "", (last + timedelta(1)).isoformat()
        if self.revenue.shape == "monthly":
            last = Span(1, 0).after(last.replace(day=1))
        if self.revenue.shape == "subscriptions":
            self._ends(opened, rows)
        if self.revenue.ends_are_known:
            last = self._last_end(opened, rows, last)
        if ahead:
            self.until = last.isoformat()
            self.revenue.doubts.append(
                f"{some(ahead, 'row is', 'rows are')} of days to come; the history is taken as "
                f"complete until {last}"
            )
        self.last = last
        days = (last - first).days
        if self.revenue.shape == "transactions":
            self._months(opened, rows, days)
        months = _window_of(days)
        if self.revenue.shape == "transactions":
            months = max(months, int(self.revenue.money.get("months", 1)))
        every = 3 if months == 6 else months
        self.window = f"{months} month{'s' if months > 1 else ''}"
        newest = last.replace(day=1)
        step = Span(every, 0)
        end = Span(months, 0).after(newest, -1)
        start = end
        while (
            step.after(start, -1) >= first + timedelta(days=max(90, 30 * months))
            and (newest.year * 12 + newest.month - start.year * 12 - start.month) < 36
        ):
            start = step.after(start, -1)
        if start <= first:
            # The history is too short for a complete outcome window.
            self.dates = [after]
            self.revenue.doubts.append(
                f"from {first} to {last} is too short a time for outcomes of {self.window}; the "
                f"table of {after} has none"
            )
            return
        to = start
        while step.after(to) <= newest:
            to = step.after(to)
        self.dates = {
            "from": start.isoformat(),
            "to": to.isoformat(),
            "every": f"{every} month{'s' if every > 1 else ''}",
        }

    def _last_end(self, opened: RawHistory, rows: str, last: date) -> date:
        """Return the last past end of a subscription if it is later than `last`, else `last`."""
        until = quoted(str(opened.recipe.sources[self.revenue.name].until))
        today = f"date '{date.today().isoformat()}'"
        [[ended]] = opened.ask(
            f"select cast(max({until}) filter (where {until} <= {today}) as date) from ({rows})"
        )
        if ended is None or ended <= last:
            return last
        self.until = ended.isoformat()
        self.revenue.doubts.append(
            f"the history is taken as complete until {ended}, the last end of a subscription (the "
            f"last start is {last}); data_until moves on with each export"
        )
        return date.fromisoformat(self.until)

    def _ends(self, opened: RawHistory, rows: str) -> None:
        """Decide whether ends are inclusive, by whether next periods begin that day or later."""
        source = opened.recipe.sources[self.revenue.name]
        account, begin, until = (
            quoted(each) for each in (source.account, str(source.from_), str(source.until))
        )
        [[same, later]] = opened.ask(
            f"with p as (select {account} as a, cast({begin} as date) as b, cast({until} as date) "
            f"as e from ({rows})) select count(*) filter (where n.b = p.e), count(*) filter "
            "(where n.b = p.e + 1) from p join p n on n.a = p.a and n.b in (p.e, p.e + 1) "
            "and n.b > p.b"
        )
        if later > same:
            self.revenue.money["until"] = "last day"
            self.revenue.doubts.append(
                "an end is taken for the last day paid for: "
                f"{some(later, 'period begins', 'periods begin')} the day after "
                f"one ended, {same:,} on that day"
            )
        else:
            why = (
                f"{some(same, 'period begins', 'periods begin')} on the day of one, {later:,} "
                "a day later"
            )
            self.revenue.doubts.append(
                f"an end is taken for the first day that isn't paid for any more ({why})"
            )

    def _months(self, opened: RawHistory, rows: str, days: int) -> None:
        """Choose the number of months that a payment covers, by the distance between payments."""
        source = opened.recipe.sources[self.revenue.name]
        account, at = quoted(source.account), quoted(str(source.at))
        [[gap]] = opened.ask(
            "select quantile_cont(gap, 0.8) from (select date_diff('day', lag("
            f"{at}) over (partition by {account} order by {at}), {at}) as gap from ({rows})) "
            "where gap > 0"
        )
        most = _window_of(days)
        wanted = next((m for m, d in ((1, 35), (3, 100), (6, 190)) if (gap or 0) <= d), 12)
        months = min(wanted, most) if gap is not None else most
        apart = "no account pays twice"
        if gap is not None:
            apart = f"four of five payments come within {gap:.0f} days of the one before"
        self.revenue.money["months"] = months
        self.revenue.doubts.append(
            f"MRR is what was paid in {months} month{'s' if months > 1 else ''}, over their number "
            f"({apart})"
        )
        if months > 1:
            self.revenue.doubts.append(
                "who paid nothing in those months isn't in a table: population: paying and former "
                "takes them in"
            )

    def _doubt(self, conflict: Conflict) -> None:
        """Add a contradiction that no rule can settle to the doubts of its source."""
        if conflict.kind in {*_RULES, "negative_amounts", "currencies"}:
            return
        source = re.match(r'source "(\w+)"', conflict.text)
        name = source[1] if source else self.revenue.name
        [each] = [s for s in self.sources if s.name == name]
        each.doubts.append(f"{conflict.text.partition(': ')[2]}; {conflict.remedy.rstrip('?')}")

    # ---- text -----------------------------------------------------------------------------------

    def text(self) -> str:
        """Return the recipe as YAML."""
        lines = [
            '# A first recipe, to be read before it is used: "check" marks what could be meant in',
            "# another way. docs/snapshots.md says what each key means.",
            f"name: {self.revenue.name}",
            f"id: {_scalar(self.id)}",
            "",
            "sources:",
        ]
        for each in self.sources:
            lines += [f"  # {each.name}: {each.what}."]
            for doubt in each.doubts:
                lines += _comment(f"check: {doubt}.", "  ")
            lines += _block(each.name, each.keys, "  ")
            lines += self._where(each)
        lines += ["", *_dates(self.dates), f"window: {self.window}"]
        lines += ["# lead: 30 days  # features see nothing of the days before the window"]
        if self.until:
            lines += [f"data_until: {self.until}"]
        for part in (self._money(), self._rules(), ["features:"]):
            lines += ["", *part] if part else []
        for name, rule in self.features.items():
            lines.append(f"  {name}: {_flow(rule)}")
        for why in dict.fromkeys(why for _, why in self.put_off.values()):
            lines.append(f"  # {why}:")
            lines += [
                f"  # {name}: {_flow(rule)}"
                for name, (rule, each) in self.put_off.items()
                if each == why
            ]
        return "\n".join(lines) + "\n"

    def _where(self, each: DraftedSource) -> list[str]:
        """Return a commented-out `where` against rows of the revenue without an amount."""
        kinds = {conflict.kind for conflict in self.conflicts}
        if each is not self.revenue or kinds.isdisjoint(_WITHOUT_AMOUNT):
            return []
        terms = [each.money[key] for key in ("amount", "quantity", "months") if key in each.money]
        named = [column(term) for term in terms if isinstance(term, str)]
        known = " and ".join(f"{term} is not null" for term in named)
        if "where" in each.keys:
            return [f"    # where: ({each.keys['where']}) and {known}"]
        return [f"    # where: {_scalar(known)}"]

    def _money(self) -> list[str]:
        source, shape = self.revenue, str(self.revenue.shape)
        lines = ["revenue:", f"  {shape}:", f"    source: {source.name}"]
        lines += [f"    {key}: {_scalar(value)}" for key, value in source.money.items()]
        if len(source.currencies) > 1:
            first, *others = source.currencies
            lines.append(f"    currency: {_scalar(source.currency)}")
            lines.append("    # What one unit of each counts.")
            lines += ["    rates:", f"      {_scalar(first)}: 1"]
            lines += [f"      # {_scalar(other)}: RATE" for other in others]
        if shape == "subscriptions":
            lines.append("    # gap: 30 days  # who returns within it is no churn")
        elif any(each.kind == "negative_amounts" for each in self.conflicts):
            [given] = [each for each in self.conflicts if each.kind == "negative_amounts"]
            lines += _comment(f"{given.text.partition(': ')[2]}; or: leave out", "    ")
            lines.append("    # negative: subtract")
        lines.append("# population: paying and former  # those who paid before, for win-back")
        everybody = next((one.name for one in self.sources if one.all_accounts), None)
        if everybody is not None:
            lines.append(f"accounts: {everybody}")
        flags = [source for source in self.sources if source.flag is not None]
        if flags:
            lines.append("flags:")
        for source in flags:
            keys = {"source": source.name} | ({"where": source.flag} if source.flag else {})
            lines.append(f"  - {_flow(keys)}")
        return lines

    def _rules(self) -> list[str]:
        by_rule: dict[str, list[str]] = {}
        for each in self.conflicts:
            if each.kind in _RULES:
                by_rule.setdefault(_RULES[each.kind], []).append(each.text)
        if not by_rule:
            return []
        lines = _comment(
            'A contradiction stops the build until a rule settles it: take the # off "rules:" and '
            "off each rule that holds for you.",
            "",
        )
        lines.append("# rules:")
        for rule, texts in by_rule.items():
            lines += [line for text in texts for line in _comment(f"- {text}", "#   ")]
            lines.append(f"#   {rule}")
        return lines


def _window_of(days: int) -> int:
    """Return the length of the outcome window, in months, for a history of `days` days."""
    return 6 if days >= 540 else 3 if days >= 270 else 1


def _scalar(value: object) -> str:
    """Write a value as YAML on one line, quoted if YAML would read it as something else."""
    text = str(value)
    word = re.fullmatch(r"[A-Za-z_][\w./ -]*(?<! )|\d+ (days|months?)|/[\w./-]+", text)
    other = re.fullmatch(r"(?i)true|false|null|yes|no|on|off|n|y", text)
    plainly = isinstance(value, int) or (word and not other)
    return text if plainly else json.dumps(text, ensure_ascii=False)


def _flow(rule: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in rule.items()) + "}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        100,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _block(name: str, keys: dict[str, Any], indent: str) -> list[str]:
    """Write a source as a YAML block: one line a key, a query of several lines verbatim."""
    lines = [f"{indent}{name}:"]
    for key, value in keys.items():
        if isinstance(value, dict):
            lines.append(f"{indent}  {key}:")
            lines += [
                f"{indent}    {each}: {_scalar(location)}" for each, location in value.items()
            ]
        elif "\n" in str(value):
            lines += [f"{indent}  {key}: |", *(f"{indent}    {row}" for row in value.split("\n"))]
        else:
            lines.append(f"{indent}  {key}: {_scalar(value)}")
    return lines


def _dates(dates: dict[str, Any] | list[str]) -> list[str]:
    if isinstance(dates, list):
        return [f"dates: [{', '.join(dates)}]"]
    return ["dates: {" + ", ".join(f"{key}: {value}" for key, value in dates.items()) + "}"]
