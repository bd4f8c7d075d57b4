"""Commands over time: snapshot and bridge from raw history; walk and watch of scores."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtmar.cli import option_values, output, progress
from gtmar.cli import options as a
from gtmar.cli.next_step import free_path, next_command, print_next
from gtmar.cli.options import app
from gtmar.cli.output import Answer, complain, say, say_all, some, table
from gtmar.errors import UsageError
from gtmar.outputs import Output, write_together
from gtmar.plain_data import percent
from gtmar.safe_text import without_credentials

if TYPE_CHECKING:
    from datetime import date

    from gtmar.runs import TimeToLeaving, Walked, Watched
    from gtmar.snapshots.bridge import Bridge
    from gtmar.snapshots.build import Built
    from gtmar.snapshots.conflicts import Conflict
    from gtmar.snapshots.draft import DraftedRecipe
    from gtmar.snapshots.recipe import SnapshotRecipe

__all__ = ["bridge", "print_leaving", "snapshot", "walk", "watch"]

_Recipe = Annotated[Path, typer.Argument(help="Recipe, a YAML file.")]
_Memory = Annotated[
    str | None, typer.Option(help="Memory to use, as 4GB; the rest goes to temporary files.")
]
#: Exit code of `bridge` where its sums differ from the books, or a contradiction has no rule.
_UNSOUND = 3


def _options(recipe: Path, memory: str | None) -> dict[str, Any]:
    from gtmar.memory import parse_size

    return {"base": recipe.parent, "memory": None if memory is None else parse_size(memory)}


def _dates(texts: list[str]) -> list[date]:
    from datetime import date

    try:
        return [date.fromisoformat(text) for text in texts]
    except ValueError as err:
        raise UsageError(f"--date expects YYYY-MM-DD, got {' '.join(texts)}") from err


@a.command(app, "snapshot snapshots.yaml -o accounts")
def snapshot(
    recipe: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE", help="Recipe, a YAML file; with --draft the sources."),
    ],
    output_path: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for a table a date; delta:FOLDER; duckdb:///file.db?table=NAME; a draft.",
        ),
    ] = None,
    draft: Annotated[
        bool,
        typer.Option("--draft", help="Write a first recipe from raw sources: NAME=PLACE or PLACE."),
    ] = False,
    dates: Annotated[
        list[str] | None,
        typer.Option("--date", help="This date in place of the recipe's; may be repeated."),
    ] = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SELECT of the newest date; write nothing.")
    ] = False,
    dialect: Annotated[
        str | None,
        typer.Option(help="SQL of duckdb, postgres, snowflake, bigquery or databricks."),
    ] = None,
    dbt: Annotated[
        Path | None, typer.Option("--dbt", help="Folder of models: a dbt model a date, with tests.")
    ] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", help="SOURCE=TABLE of the warehouse; may be repeated."),
    ] = None,
    force: a.Force = False,
    memory: _Memory = None,
) -> Answer | None:
    """Make account tables of any date from raw history, by a recipe."""
    from gtmar.integrations.lakehouse import is_target
    from gtmar.snapshots import build as building
    from gtmar.snapshots import recipe as recipes

    if draft:
        if sql or dates or dbt is not None or dialect or tables or force:
            raise UsageError(
                "--draft chooses dates itself and writes a recipe alone",
                hint="leave all but -o and --memory out",
            )
        return _draft(recipe, Path(output_path or free_path("snapshots.yaml")), memory)
    if len(recipe) > 1:
        raise UsageError(
            f"expected one recipe, got {len(recipe)} arguments",
            hint="--draft writes a first recipe from raw sources",
        )
    path = Path(recipe[0])
    loaded = recipes.load(path)
    days = _dates(dates or []) or loaded.days
    if sum((sql, dbt is not None, output_path is not None)) > 1:
        raise UsageError(
            "--sql prints a SELECT, --dbt writes models, -o tables", hint="leave all but one out"
        )
    if not sql and dbt is None and (dialect or tables):
        raise UsageError("--dialect and --table are of a SELECT", hint="--sql, or --dbt models")
    if force and dbt is None:
        raise UsageError("--force replaces models, no tables", hint="-o another folder")
    if dbt is not None:
        return _dbt(loaded, days, tables or [], dialect or "duckdb", dbt, path, memory, force)
    if sql:
        if dialect is None and not tables:
            text = building.snapshot_sql(loaded, max(days), **_options(path, memory))
        else:
            text = _warehouse_sql(loaded, max(days), tables or [], dialect, path, memory)
        output.text(f"{text};\n")
        return None
    if output_path is None:
        raise UsageError("snapshot needs a folder to write to", hint="-o accounts")
    target: Any = output_path
    if is_target(output_path):
        from gtmar.integrations.tables_by_date import snapshots_into

        target = snapshots_into(output_path, _local_sources(loaded, path.parent))
    with progress.stepping() as watch:
        built = building.build(loaded, target, days=days, watch=watch, **_options(path, memory))
    return Answer(lambda: _built_facts(built), lambda: _print_built(built))


def _warehouse_sql(
    loaded: SnapshotRecipe,
    day: date,
    tables: list[str],
    dialect: str | None,
    recipe: Path,
    memory: str | None,
) -> str:
    from gtmar.integrations.snapshot_sql import source_tables, warehouse_selects

    sources = source_tables(loaded, tables)
    options = {"dialect": dialect or "duckdb", **_options(recipe, memory)}
    return warehouse_selects(loaded, [day], sources, **options)[day].sql


def _dbt(
    loaded: SnapshotRecipe,
    days: list[date],
    tables: list[str],
    dialect: str,
    folder: Path,
    recipe: Path,
    memory: str | None,
    force: bool,
) -> Answer:
    from gtmar.integrations.dbt import snapshot_models
    from gtmar.integrations.snapshot_sql import source_tables

    sources = source_tables(loaded, tables)
    models = snapshot_models(loaded, days, sources, dialect=dialect, **_options(recipe, memory))
    inputs = (recipe, *_local_sources(loaded, recipe.parent))
    written = write_together(
        {
            Output(folder / f"{model.name}.{kind}", inputs, force=force, parents=True): text
            for model in models
            for kind, text in (("sql", model.sql), ("yml", model.yml))
        }
    )
    names = [model.name for model in models]

    def text() -> None:
        say(f"{some(len(names), 'model')} in {folder}, each with its tests: one a date.")
        output.print_command(shlex.join(["dbt", "build", "--select", *names]))

    return Answer(lambda: {"models": names, "output": [str(path) for path in written]}, text)


def _local_sources(recipe: SnapshotRecipe, base: Path) -> list[Path]:
    """Return the files of this machine that a recipe reads."""
    from gtmar.data.locations import local_path

    named = (each for raw in recipe.sources.values() for each in raw.places.values())
    return [base / path for path in map(local_path, named) if path]


def _draft(sources: list[str], path: Path, memory: str | None) -> Answer | None:
    from gtmar.snapshots.draft import draft, located

    if path.exists():
        raise UsageError(
            f'"{path}" is there already and may have been edited; it is not replaced',
            hint="give -o another name",
        )
    locations = [location for _, location in map(located, sources)]
    new = option_values.output_or_print(path, *locations, force=False)
    drafted = draft(sources, **_options(path, memory))
    if new is None:
        output.text(drafted.text)
        return None
    new.write(drafted.text)
    return Answer(lambda: _draft_facts(drafted, path), lambda: _print_draft(drafted, path))


def _draft_facts(draft: DraftedRecipe, path: Path) -> dict[str, Any]:
    return {
        "output": str(path),
        "revenue": draft.revenue,
        "recognised": draft.recognised,
        "features": list(draft.recipe.features),
        "dates": [day.isoformat() for day in draft.recipe.days],
        "dates_with_outcomes": draft.known,
        "unsure": list(draft.unsure),
        "conflicts": [_conflict(each) for each in draft.conflicts],
    }


def _print_draft(drafted: DraftedRecipe, path: Path) -> None:
    recipe = drafted.recipe
    ruling = some(len(drafted.conflicts), "contradiction")
    say(
        f"A first recipe is in {path}: {drafted.revenue}, "
        + (
            f"{ruling} for you to rule on."
            if drafted.conflicts
            else "ready to run once you read it."
        )
    )
    say(
        f"{some(len(recipe.features), 'feature')} on {some(len(recipe.days), 'date')} from "
        f"{recipe.days[0]} on; outcomes of {recipe.window} are known for {drafted.known} of them."
    )
    table(["source", "taken for"], [list(each) for each in drafted.recognised.items()])
    for each in drafted.unsure:
        complain("check", f"{each}.")
    for conflict in drafted.conflicts:
        complain("rule", f"{conflict}; {conflict.remedy}.")
    if not drafted.conflicts:
        print_next("snapshot", path, output_path=free_path("accounts"), draft=None)
        return
    command = next_command("snapshot", path, output_path=free_path("accounts"), draft=None)
    say(f"Rule on each in {path}, where it stands as a comment; then: {command}")


def _built_facts(built: Built) -> dict[str, Any]:
    return {
        "recipe": built.recipe_id,
        "sources": built.sources,
        "tables": [
            {
                "date": each.day.isoformat(),
                "accounts": each.accounts,
                "outcomes": each.outcomes,
                "data": without_credentials(each.data),
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


def _print_built(built: Built) -> None:
    known = sum(each.outcomes for each in built.tables)
    total = sum(each.accounts for each in built.tables)
    first, last = built.tables[0], built.tables[-1]
    if first is last:
        which = "for it." if known else "for none yet: its window isn't over."
        say(f"{some(total, 'account')} of {first.day}; outcomes are known {which}")
    else:
        say(
            f"{some(len(built.tables), 'table')}, {some(total, 'row')} in all; outcomes are "
            "known for "
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
            folder = shlex.quote(newest.data.rpartition("/")[0])
            together = f"--data {folder} --at {built.tables[0].day}..{newest.day}"
            say(
                f"An account may be in several of them: {together} searches them together. The "
                f"newest with outcomes is {newest.day}."
            )
        print_next("init", data=newest.data, output_path=free_path("spec.yaml"))
    else:
        say("Without outcomes nothing can be searched; a spec of an earlier date can score it.")


@a.command(app, "bridge snapshots.yaml -o bridge.html")
def bridge(
    recipe: _Recipe,
    output_path: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write it as one HTML page, with charts.")
    ] = None,
    account: Annotated[
        list[str] | None, typer.Option(help="Movements of this account alone; may be repeated.")
    ] = None,
    memory: _Memory = None,
    force: a.Force = False,
) -> Answer:
    """Follow MRR from month to month, and compare it with the books."""
    from gtmar.snapshots import recipe as recipes
    from gtmar.snapshots.bridge import bridge as bridged

    loaded = recipes.load(recipe)
    inputs = (recipe, *_local_sources(loaded, recipe.parent))
    new = None if output_path is None else Output(output_path, inputs, force=force)
    result = bridged(loaded, **_options(recipe, memory))
    rows = result.months
    if account:
        rows = result.accounts.filter(result.accounts["account"].is_in(account))
        if rows.is_empty():
            raise UsageError(f"no MRR of {', '.join(account)}", hint="accounts are by their id")
    if new is not None:
        from gtmar.report import bridge_page

        page = bridge_page(
            result,
            loaded.name,
            rows=rows if account else None,
            accounts=tuple(account or ()),
        )
        new.write(page.html)

    def facts() -> dict[str, Any]:
        return {
            "headline": result.headline,
            "months": [{**row, "month": f"{row['month']:%Y-%m}"} for row in rows.to_dicts()],
            "unit": "cents",
            "conventions": result.conventions,
            "differences": [
                {
                    "month": f"{each.month:%Y-%m}",
                    "against": each.against,
                    "bridge": each.bridge_cents,
                    "other": each.other_cents,
                }
                for each in result.differences
            ],
            "conflicts": [_conflict(each) for each in result.conflicts],
            "notes": list(result.notes),
            "output": None if output_path is None else str(output_path),
        }

    return Answer(
        facts,
        lambda: _print_bridge(result, rows.to_dicts(), recipe, output_path),
        0 if result.sound else _UNSOUND,
    )


#: Heads of the bridge's table.
_SHORT = {
    "reactivation": "back",
    "contraction": "less",
    "expansion": "more",
    "resumption": "resumed",
    "pause": "paused",
    "one_off": "one-off",
}


def _print_bridge(
    bridge: Bridge, rows: list[dict[str, Any]], recipe: Path, page: Path | None
) -> None:
    say(bridge.headline)
    say_all(*(str(each) for each in bridge.differences))
    _print_months(rows)
    say("Conventions: " + "; ".join(f"{k}: {_worded(v)}" for k, v in bridge.conventions.items()))
    for conflict in bridge.conflicts:
        ruled = f"settled by {conflict.rule}" if conflict.rule else f"no rule: {conflict.remedy}"
        complain("note" if conflict.rule else "warning", f"{conflict}; {ruled}.")
    for note in bridge.notes:
        complain("note", note)
    if page is not None:
        say(f"{page}: open it in any browser; it needs nothing else.")
    if bridge.sound and page is None:
        print_next("bridge", recipe, output_path=free_path("bridge.html"))
    elif bridge.sound:
        print_next("snapshot", recipe, output_path=free_path("accounts"))


def _worded(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items()) or "none"
    return str(value)


def _print_months(rows: list[dict[str, Any]]) -> None:
    """Print a table of one line for each month, of 80 characters at most.

    Rare movements get a column only if they occur. If the lines are too long, the column `start` is
    dropped, since it is the end of the month before; then amounts are written in thousands.
    """
    from gtmar.snapshots.bridge import MOVEMENTS

    usual = ("new", "expansion", "contraction", "churn", "reactivation")
    kinds = [kind for kind in MOVEMENTS if kind in usual or any(row[kind] for row in rows)]
    after = ["end", *(["one_off"] if any(row["one_off"] for row in rows) else [])]
    for unit, start in ((100, True), (100, False), (100_000, True), (100_000, False)):
        names = [*(["start"] if start else []), *kinds, *after]
        heads = ["month", *(_SHORT.get(name, name) for name in names)]
        lines = [
            [f"{row['month']:%Y-%m}", *(f"{row[n] / unit:,.0f}" for n in names)] for row in rows
        ]
        if "account" in rows[0]:
            heads.insert(1, "account")
            lines = [[x[0], row["account"], *x[1:]] for x, row in zip(lines, rows, strict=True)]
        # An account's name may lose its middle.
        widest = [max(map(len, each)) for each in zip(heads, *lines, strict=True)]
        if "account" in rows[0]:
            widest[1] = min(widest[1], 12)
        if sum(widest) + len(widest) - 1 <= 80:
            break
    words = "whole units" if unit == 100 else "thousands"
    table(heads, lines, title=f"MRR in {words}; cents are in --json")


# ---- scores through time -------------------------------------------------------------------------

#: Exit codes by verdict, for the script of a timer.
_EXITS = {"holds": 0, "worse": 10, "unknown": 11}
#: Measured dates that are shown; --json has all.
_SHOWN = 12
_NewPage = Annotated[
    Path | None, typer.Option("-o", "--output", help="Where to write it as an HTML page.")
]


@a.command(app, "walk --data accounts --spec spec.yaml")
def walk(
    data: a.Data,
    spec: a.SpecPath,
    score_column: Annotated[
        str | None, typer.Option(help="A column with the score that you have today.")
    ] = None,
    metric: a.Metric = None,
    n: Annotated[int, typer.Option("--n", help="Experiments on each date.")] = 2000,
    seed: Annotated[int, typer.Option(help="Same seed, same experiments.")] = 0,
    author: a.Author = None,
    *,
    table_options: a.OutcomeTableOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    output_path: _NewPage = None,
    force: a.Force = False,
    quiet: a.Quiet = False,
) -> Answer:
    """Say whether re-tuning on each date would have paid on the next."""
    from gtmar import runs
    from gtmar.report import walk_page

    new = _new_page(output_path, data, spec, journal, force=force)
    with progress.watching(quiet=quiet) as watching:
        walked = runs.walk(
            data,
            spec,
            score_column=score_column,
            metric=metric,
            limits=runs.Limits(n),
            seed=seed,
            author=author,
            journal=journal,
            announce=None if quiet else progress.announce,
            watch=watching,
            **table_options,
        )
    written = None if new is None else new.write(walk_page(walked, _again()).html)
    return Answer(
        lambda: walked.as_json() | {"output": written and str(written)},
        lambda: _print_walked(walked, journal=journal, written=written),
    )


def _new_page(path: Path | None, *inputs: object, force: bool) -> Output | None:
    """Check, before any work, that a page can be written, and that its extra is installed."""
    from gtmar.report import require_extra

    new = option_values.output(path, *inputs, force=force)
    if new is not None:
        require_extra()
    return new


def _again() -> str:
    """Return the running command as a line for a shell, with --force, to make the page anew."""
    words = ["gtmar", *sys.argv[1:]]
    return shlex.join(words if "--force" in words else [*words, "--force"])


#: Table heads for what re-tuning is compared with, see `runs.walk.OTHERS`.
_OTHERS = {"alone": "alone", "once": "tuned once", "logistic": "logistic", "column": "your score"}


def _print_walked(walked: Walked, *, journal: Path, written: Path | None) -> None:
    say(walked.sentence, {"pays": "good", "costs": "bad"}.get(walked.verdict))  # type: ignore[arg-type] # of the two
    say(
        f"{some(walked.accounts, 'account')} on {some(len(walked.steps), 'date')}; each is judged "
        "by weights that were searched on outcomes which were over before it."
    )
    others = [name for name in _OTHERS if name in walked.gains]
    rows = [
        [
            step.day.isoformat(),
            step.known[1].isoformat(),
            f"{step.accounts:,}",
            *(step.values.get(name) for name in ("retuned", *others)),
        ]
        for step in walked.steps
    ]
    heads = ["judged", "known to", "accounts", "re-tuned", *(_OTHERS[name] for name in others)]
    table(heads, rows, title=walked.objective)
    rows = []
    for name in others:
        gain = walked.gains[name]
        ends = ("" if end is None else f"{end:+.4f}" for end in (gain.value, gain.low, gain.high))
        caught = (walked.caught.get(side) for side in ("retuned", name))
        rows.append(
            [
                _OTHERS[name],
                *ends,
                f"{walked.wins(name)} of {len(walked.steps)}",
                *("" if share is None else percent(share) for share in caught),
            ]
        )
    heads = ["against", "gain", "from", "to", "better on", "caught", "by it"]
    table(heads, rows, title="Re-tuned less each, mean over dates, 95%; leavers in worst tier")
    for day, why in walked.left_out:
        say(f"Not judged: {day}, {why}.")
    if written is not None:
        say(f"Written: {written}. Open it in any browser; it needs nothing else.")
    print_next("review", walked.steps[-1].run_id, journal=journal)


@a.command(app, "watch --data accounts")
def watch(
    data: a.Data,
    model: Annotated[str | None, typer.Option(help="Which model, where several are live.")] = None,
    shadow: Annotated[
        list[Path] | None,
        typer.Option(help="A spec to measure beside what is live; up to three."),
    ] = None,
    grace: Annotated[
        int, typer.Option(min=0, help="Days after a window's end until outcomes count as known.")
    ] = 0,
    forget_before: Annotated[
        str | None, typer.Option(help="Remove kept scores of dates before this one.")
    ] = None,
    scores: Annotated[
        str, typer.Option(help="What keeps scores by date: a folder, a Delta or DuckDB table.")
    ] = "scores",
    *,
    table_options: a.OutcomeTableOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    output_path: _NewPage = None,
    force: a.Force = False,
) -> Answer:
    """Keep the live score of each date, and say how well it did so far."""
    from datetime import date

    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.report import live_page

    try:
        before = None if forget_before is None else date.fromisoformat(forget_before)
    except ValueError as err:
        raise UsageError(f"--forget-before expects YYYY-MM-DD, got {forget_before}") from err
    new = _new_page(output_path, data, scores, journal, *(shadow or ()), force=force)
    watched = runs.watch(
        data,
        model=model,
        shadows=[specs.load(path) for path in shadow or ()],
        grace=grace,
        forget_before=before,
        scores=scores,
        journal=journal,
        **table_options,
    )
    written = None if new is None else new.write(live_page(watched, _again()).html)
    return Answer(
        lambda: watched.as_json() | {"output": written and str(written)},
        lambda: _print_watched(watched, written=written),
        _EXITS[watched.verdict],
    )


def _print_watched(watched: Watched, *, written: Path | None) -> None:
    tone = {"holds": "good", "worse": "bad"}.get(watched.verdict)
    say(watched.sentence, tone)  # type: ignore[arg-type] # of the two above
    for day, role, accounts in watched.kept:
        say(f"Kept: scores of {some(accounts, 'account')} of {day}, {role}.")
    if not watched.kept:
        say("Nothing new to keep: the newest date is scored already.")
    shown = watched.measurements[-_SHOWN:]
    if shown:
        rows = []
        for each in shown:
            own = each.metrics.get(each.objective)
            ends = ["", ""] if own is None or own.low is None else [own.low, own.high]
            gain = each.gains.get("predecessor")
            rows.append(
                [
                    each.day.isoformat(),
                    f"{each.accounts:,}",
                    None if own is None else own.value,
                    *ends,
                    None if gain is None or gain.value is None else f"{gain.value:+.4f}",
                    each.verdict,
                ]
            )
        title = f"{shown[-1].objective} on the outcomes, 95% intervals"
        table(
            ["date", "accounts", "value", "from", "to", "vs before", "verdict"], rows, title=title
        )
    rows = [
        [row["days"], row["leavers"], percent(row["lowest"]), percent(row["others"]), row["median"]]
        for row in watched.before_leaving.to_dicts()
        if row["leavers"] and row["others"] is not None
    ]
    if rows:
        heads = ["days before", "leavers", "in the worst tier", "others in it", "median score"]
        table(heads, rows, title="Of those who left, what the score said before")
    for day, why in watched.waiting:
        say(f"Not yet: {day}, {why}.")
    if watched.forgotten:
        say(f"Forgotten: the scores of {some(watched.forgotten, 'date')}; what was measured stays.")
    for note in watched.notes:
        complain("note", note)
    if written is not None:
        say(f"Written: {written}. Open it in any browser; it needs nothing else.")
    if watched.verdict == "worse" and watched.live.experiment is not None:
        print_next("checkout", "live", output_path=free_path("live.yaml"))
    else:
        print_next("log")


def print_leaving(times: TimeToLeaving) -> None:
    """Print the share of each tier that is gone after some days, or why it isn't known."""
    rows = []
    for tier, each in times.of("tier").items():
        for days, leaving in each.items():
            gone = leaving.gone
            if gone.value is not None and gone.low is not None and gone.high is not None:
                ends = f"{percent(gone.low, 1)} to {percent(gone.high, 1)}"
                rows.append([tier, days, percent(gone.value, 1), ends, f"{leaving.accounts:,}"])
    first, last = times.dates
    if rows:
        title = f"gone after days, 95% intervals; followed from {first} to {last}"
        table(["tier", "days", "gone", "interval", "accounts"], rows, title=title)
    for days, reason in times.unknown.items():
        say(f"Not known: who is gone after {days} days, {reason}.")
