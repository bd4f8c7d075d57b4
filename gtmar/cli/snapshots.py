"""Commands over raw history: snapshot, bridge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtmar.cli import options as a
from gtmar.cli import output
from gtmar.cli.next_step import follow, unused
from gtmar.cli.options import app
from gtmar.cli.output import Answer, complain, say, some, table
from gtmar.errors import UsageError

if TYPE_CHECKING:
    from datetime import date

    from gtmar.snapshots.bridge import Bridge
    from gtmar.snapshots.build import Built
    from gtmar.snapshots.conflicts import Conflict

__all__ = ["bridge", "snapshot"]

_Recipe = Annotated[Path, typer.Argument(help="Recipe, a YAML file.")]
_Memory = Annotated[
    str | None, typer.Option(help="Memory to use, as 4GB; the rest goes to temporary files.")
]
#: What doesn't add up, or contradicts itself, as for a table that breaks the contract.
_UNSOUND = 3


def _options(recipe: Path, memory: str | None) -> dict[str, Any]:
    from gtmar.data.memory import parse_size

    return {"base": recipe.parent, "memory": None if memory is None else parse_size(memory)}


def _dates(texts: list[str]) -> list[date]:
    from datetime import date

    try:
        return [date.fromisoformat(text) for text in texts]
    except ValueError as err:
        raise UsageError(f"--date expects YYYY-MM-DD, got {' '.join(texts)}") from err


@a.command(app, "snapshot snapshots.yaml -o accounts")
def snapshot(
    recipe: _Recipe,
    output_path: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for a table a date.")
    ] = None,
    dates: Annotated[
        list[str] | None,
        typer.Option("--date", help="This date in place of the recipe's; may be repeated."),
    ] = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print DuckDB's SELECT of the newest date; write nothing.")
    ] = False,
    memory: _Memory = None,
) -> Answer | None:
    """Make account tables of any date from raw history, by a recipe."""
    from gtmar.snapshots import build as building
    from gtmar.snapshots import recipe as recipes

    loaded = recipes.load(recipe)
    days = _dates(dates or []) or loaded.days
    if sql:
        if output_path is not None:
            raise UsageError("--sql prints, and -o writes", hint="leave one of the two out")
        text = building.snapshot_sql(loaded, max(days), **_options(recipe, memory))
        output.text(f"{text};\n")
        return None
    if output_path is None:
        raise UsageError("snapshot needs a folder to write to", hint="-o accounts")
    built = building.build(loaded, output_path, days=days, **_options(recipe, memory))
    return Answer(lambda: _facts(built), lambda: _print(built))


def _facts(built: Built) -> dict[str, Any]:
    return {
        "recipe": built.recipe_id,
        "tables": [
            {
                "date": each.day.isoformat(),
                "accounts": each.accounts,
                "outcomes": each.outcomes,
                "path": str(each.path),
                "change": each.change,
            }
            for each in built.tables
        ],
        "conflicts": [_conflict(each) for each in built.conflicts],
        "notes": list(built.notes),
    }


def _conflict(each: Conflict) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "count": each.count,
        "text": each.text,
        "accounts": list(each.accounts),
        "rule": each.rule,
    }


_CHANGES = {
    "new": "new",
    "same": "there already, the same",
    "outcomes": "its outcomes have come; features are as they were",
}


def _print(built: Built) -> None:
    known = sum(each.outcomes for each in built.tables)
    total = sum(each.accounts for each in built.tables)
    first, last = built.tables[0], built.tables[-1]
    if first is last:
        which = "for it." if known else "for none yet: its window isn't over."
        say(f"{some(total, 'account')} of {first.day}; outcomes are known {which}")
    else:
        say(
            f"{len(built.tables)} tables, {some(total, 'row')} in all; outcomes are known for "
            f"{known} of {len(built.tables)} dates."
        )
    table(
        ["date", "accounts", "outcomes", "table"],
        [
            [
                each.day.isoformat(),
                f"{each.accounts:,}",
                "known" if each.outcomes else "not yet",
                _CHANGES[each.change],
            ]
            for each in built.tables
        ],
    )
    for each in built.conflicts:
        complain("note", f"{each}; settled by {each.rule}.")
    for note in built.notes:
        complain("note", note)
    with_outcomes = [each for each in built.tables if each.outcomes]
    if with_outcomes:
        newest = with_outcomes[-1]
        if len(built.tables) > 1:
            together = (
                f"--data {newest.path.parent.parent} --at {built.tables[0].day}..{newest.day}"
            )
            say(
                f"Each account is in several of them: {together} searches them together. The "
                f"newest with outcomes is {newest.day}."
            )
        follow("init", data=newest.path.parent, output_path=unused("spec.yaml"))
    else:
        say("Without outcomes nothing can be searched; a spec of an earlier date can score it.")


@a.command(app, "bridge snapshots.yaml")
def bridge(
    recipe: _Recipe,
    account: Annotated[
        list[str] | None, typer.Option(help="Movements of this account alone; may be repeated.")
    ] = None,
    memory: _Memory = None,
) -> Answer:
    """Follow MRR from month to month, and hold it against the books."""
    from gtmar.snapshots import recipe as recipes
    from gtmar.snapshots.bridge import bridge as bridged

    found = bridged(recipes.load(recipe), **_options(recipe, memory))
    rows = found.months
    if account:
        rows = (
            found.accounts.filter(account=account[0])
            if len(account) == 1
            else (found.accounts.filter(found.accounts["account"].is_in(account)))
        )
        if rows.is_empty():
            raise UsageError(f"no MRR of {', '.join(account)}", hint="accounts are by their id")

    def facts() -> dict[str, Any]:
        return {
            "months": [{**row, "month": f"{row['month']:%Y-%m}"} for row in rows.to_dicts()],
            "unit": "cents",
            "differences": [
                {
                    "month": f"{each.month:%Y-%m}",
                    "against": each.against,
                    "bridge": each.bridge_cents,
                    "other": each.other_cents,
                }
                for each in found.differences
            ],
            "conflicts": [_conflict(each) for each in found.conflicts],
            "notes": list(found.notes),
        }

    return Answer(
        facts, lambda: _print_bridge(found, rows.to_dicts()), 0 if found.sound else _UNSOUND
    )


def _money(cents: int) -> str:
    sign, whole = "-" if cents < 0 else "", abs(cents)
    return f"{sign}{whole // 100:,}.{whole % 100:02}"


#: Heads of the bridge's table.
_SHORT = {"reactivation": "back", "contraction": "less", "expansion": "more"}
_AGAINST = {"own": "the source added up another way", "books": "the totals of the recipe"}


def _print_bridge(found: Bridge, rows: list[dict[str, Any]]) -> None:
    from gtmar.snapshots.bridge import MOVEMENTS

    months = found.months
    if found.differences:
        say(f"The bridge doesn't close: {some(len(found.differences), 'difference')}.")
    else:
        say(
            f"The bridge closes to the cent over {some(months.height, 'month')}: "
            f"{_money(months['end'][-1])} MRR at the end of {months['month'][-1]:%Y-%m}."
        )
    for each in found.differences:
        say(
            f"{each.month:%Y-%m}: {_money(each.bridge_cents)} here, {_money(each.other_cents)} by "
            f"{_AGAINST[each.against]}: {_money(abs(each.cents))} "
            f"{'more' if each.cents > 0 else 'less'}."
        )
    # A month starts with what the one before it ended with; in whole units a row fits the screen.
    names = [name for name in ("account", *MOVEMENTS, "end") if name in rows[0]]
    table(
        ["month", *(_SHORT.get(name, name) for name in names)],
        [
            [
                f"{row['month']:%Y-%m}",
                *(f"{row[n] / 100:,.0f}" if n != "account" else row[n] for n in names),
            ]
            for row in rows
        ],
        title="MRR in whole units; cents are in --json",
    )
    for conflict in found.conflicts:
        ruled = f"settled by {conflict.rule}" if conflict.rule else f"no rule: {conflict.remedy}"
        complain("note" if conflict.rule else "warning", f"{conflict}; {ruled}.")
    for note in found.notes:
        complain("note", note)
