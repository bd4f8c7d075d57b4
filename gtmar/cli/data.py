"""Commands over a table and a spec: generate, init, check, drift, score, list, grid, spec, ..."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gtmar.cli import option_values, output
from gtmar.cli import options as a
from gtmar.cli.next_step import free_path, next_command, print_next
from gtmar.cli.options import app, spec_app
from gtmar.cli.output import Answer, announce, say, say_all, say_newest, some, table
from gtmar.cli.through_time import print_leaving
from gtmar.errors import UsageError, ViolationsError
from gtmar.plain_data import percent, whole

if TYPE_CHECKING:
    from gtmar.cli.output import Tone
    from gtmar.runs import AccountList, Checkup, Drift, Grid
    from gtmar.spec.calibration import Calibration
    from gtmar.validation.psi import Shift

__all__ = [
    "calibrate",
    "check",
    "drift",
    "generate",
    "grid",
    "init",
    "list_accounts",
    "score",
    "spec_schema",
    "spec_show",
]

Keep = Annotated[
    list[str] | None,
    typer.Option(help="Column to take as a feature though it seems to leak the outcome."),
]
#: Exit code of `check` where a feature leaks the outcome; the same as for a broken data contract.
_LEAKS = 3
#: Exit code of `drift` where values are distributed otherwise than before. That is no error.
_MOVED = 10


@a.command(app, "generate health_score -o accounts.parquet")
def generate(
    kind: Annotated[
        str,
        typer.Argument(help="health_score, churn_risk or icp_fit", autocompletion=a.complete_kinds),
    ],
    output_path: a.NewTable,
    accounts: Annotated[int | None, typer.Option(help="Number of accounts.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another table.")] = None,
    spreadsheet_safe: a.SpreadsheetSafe = True,
    force: a.Force = False,
) -> Answer:
    """Generate an account table with planted signals."""
    from gtmar import runs
    from gtmar.data import synthetic

    new = runs.NewTable(output_path, force=force, spreadsheet_safe=spreadsheet_safe)
    table = synthetic.generate(kind, accounts=accounts, seed=seed)
    path = new.write(table)

    def text() -> None:
        say(f"{some(table.height, 'account')} in {path}.")
        print_next("check", data=path)

    columns = table.columns
    return Answer(lambda: {"output": str(path), "accounts": table.height, "columns": columns}, text)


@a.command(app, "init --data accounts.parquet -o spec.yaml")
def init(
    data: a.Data,
    output_path: Annotated[
        Path, typer.Option("-o", "--output", help="New file; - for stdout.")
    ] = Path("spec.yaml"),
    outcome: Annotated[
        list[str] | None, typer.Option(help="Your name of an outcome: retained=renewed")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="What a word of a label counts: churned:Lapsed=1")
    ] = None,
    identifier: Annotated[str | None, typer.Option("--id", help="Column of account ids.")] = None,
    date_format: a.DateFormat = None,
    set_aside: a.SetAside = None,
    set_aside_to: a.SetAsideTo = a.DEFAULT_ASIDE,
    keep: Keep = None,
    holdout: Annotated[str | None, typer.Option(help="Share held out, or none.")] = None,
    bins: Annotated[
        bool, typer.Option("--bins", help="A scorecard: a weight for each bin of a feature.")
    ] = False,
    monotone: Annotated[
        bool, typer.Option("--monotone", help="Points in order, where the data don't contradict.")
    ] = False,
    cuts: Annotated[
        list[str] | None, typer.Option(help="Bins by your own cut points: tenure=3,12,36")
    ] = None,
    rules: Annotated[
        int,
        typer.Option(min=0, max=20, help="Rules of two or three conditions to look for, at most."),
    ] = 0,
    tiers: Annotated[
        str | None, typer.Option(help="Percent of accounts by tier: 10,25,40,25; none: quarters.")
    ] = None,
    *,
    reading: a.ReadingOptions,
    force: a.Force = False,
) -> Answer | None:
    """Detect features and write a first spec, commented, to edit."""
    from gtmar import runs
    from gtmar.autospec.first_spec import first_spec
    from gtmar.data.scan import scan

    new = option_values.output_or_print(output_path, data, force=force)
    draft = first_spec(
        scan(data),
        holdout=option_values.share(holdout),
        outcomes=option_values.outcomes(outcome or []),
        identifier=identifier,
        labels=option_values.labels(label or []),
        date_format=date_format,
        set_aside=set_aside,
        keep=keep or (),
        bins=bins,
        monotone=monotone,
        cuts=option_values.cuts(cuts or []),
        rules=rules,
        reading=option_values.reading(**reading),
        tiers=None if tiers is None else option_values.sizes("share", tiers, option="--tiers"),
    )
    aside = runs.write_rows_aside([draft.set_aside], set_aside_to)
    if new is None:
        output.text(draft.text)
        return None
    new.write(draft.text)
    facts = {
        "output": str(output_path),
        "features": list(draft.spec.features),
        "rules": {name: f.rule for name, f in draft.spec.features.items() if f.rule is not None},
        "left_out": draft.left_out,
        "id": draft.spec.id,
        "outcomes": draft.outcomes,
        "labels": draft.spec.labels,
        "objective": draft.spec.objective,
        "notes": list(draft.notes),
    }

    def text() -> None:
        output.say(
            f"{some(len(draft.spec.features), 'feature')} in {output_path}, "
            f"{some(len(draft.left_out), 'column')} left out; the file says why. Read it and "
            "edit it: it is yours."
        )
        output.say_all(*draft.taken, *aside[1:])
        for note in draft.notes:
            output.complain("note", note)
        # The spec itself says now how cells are read.
        print_next("check", spec=output_path, parse=None, nulls=None, no_null_markers=None)

    return Answer(lambda: facts, text)


@a.command(app, "check --data accounts.parquet --spec spec.yaml")
def check(
    data: a.Data,
    spec: a.OptionalSpec = None,
    metric: a.Metric = None,
    *,
    table_options: a.OutcomeTableOptions,
    keep: Keep = None,
    reading: a.ReadingOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Check a table and a spec: every violation, leak and note."""
    from gtmar import runs
    from gtmar import spec as specs

    try:
        checkup = runs.check(
            data,
            spec,
            metric=metric,
            keep=keep or (),
            reading=option_values.reading(**reading),
            journal=journal,
            **table_options,
        )
    except ViolationsError as err:
        err.hint = _aside_hint(err)
        raise
    loaded = None if spec is None else specs.load(spec)
    scorecard = loaded is not None and any(term.bin is not None for term in loaded.terms)
    code = _LEAKS if checkup.leaking else 0
    # `run` detects features too, but has no options that say how.
    stated = spec is None and (keep is not None or any(reading.values()))

    def text() -> None:
        _print_check(checkup)
        if checkup.objective_value is None:
            return
        if stated:
            print_next("init", output_path=free_path("spec.yaml"))
            return
        # A scorecard is best searched from fitted weights.
        fitted = scorecard and checkup.cohorts["retained"] and checkup.cohorts["lost"]
        start = "logistic" if fitted else None
        print_next("run", start=start, output_path=free_path("best.yaml"))

    return Answer(checkup.as_json, text, code)


#: If more than this share of rows breaks the contract, leaving them out isn't proposed: they are
#: seldom like the others. Labels of -1 for 0, for one, are of all who left.
_MOST_ASIDE = 0.1


def _aside_hint(err: ViolationsError) -> str | None:
    """Return a hint: the command that checks the table without the rows that break the contract."""
    if err.set_aside is None:
        return err.hint
    broken, rows = err.set_aside
    if broken > _MOST_ASIDE * rows:
        # If so many rows are wrong, the table is, or what the spec says of it.
        return err.hint
    # Rounded up to a thousandth, so that the share holds the rows.
    share = max(0.01, -(-broken * 1_000 // rows) / 1_000)
    return (
        f"{next_command('check', set_aside=f'{share:g}')} leaves {broken:,} of {rows:,} rows "
        f"({broken / rows:.2%}) out, and writes them to a file; gtmar init, run, try and score "
        "take the option too"
    )


@a.command(app, "drift --data july.parquet --spec best.yaml")
def drift(
    data: a.Data,
    spec: a.SpecPath,
    against: a.Against = None,
    as_of: a.AsOf = None,
    date_format: a.DateFormat = None,
    against_as_of: Annotated[str | None, typer.Option(help="The same for --against.")] = None,
    set_aside: a.SetAside = None,
    set_aside_to: a.SetAsideTo = a.DEFAULT_ASIDE,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Say whether features and score are distributed as they were."""
    from gtmar import runs

    result = runs.drift(
        data,
        spec,
        against=against,
        journal=journal,
        as_of=as_of,
        against_as_of=against_as_of,
        date_format=date_format,
        set_aside=set_aside,
        set_aside_to=set_aside_to,
        announce=announce,
    )
    code = _MOVED if result.moved or result.upside_down else 0
    return Answer(result.as_json, lambda: _print_drift(result), code)


@a.command(app, "score --data accounts.parquet --spec best.yaml -o scored.parquet")
def score(
    data: a.Data,
    spec: a.SpecPath,
    output_path: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="Parquet, CSV or Arrow file; delta:FOLDER; duckdb:///file.db?table=NAME.",
            show_default=False,
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option("--changed-since", help="Earlier scores; writes only what changed, and why."),
    ] = None,
    least: Annotated[
        float, typer.Option("--by", help="With --changed-since: points that a score must move.")
    ] = 0.0,
    tier_only: Annotated[
        bool, typer.Option("--tier-only", help="With --changed-since: only changes of tier.")
    ] = False,
    history: Annotated[
        str | None,
        typer.Option(help="Tables of several dates: adds how many of each tier leave, and when."),
    ] = None,
    as_of: a.AsOf = None,
    date_format: a.DateFormat = None,
    set_aside: a.SetAside = None,
    set_aside_to: a.SetAsideTo = a.DEFAULT_ASIDE,
    spreadsheet_safe: a.SpreadsheetSafe = True,
    force: a.Force = False,
) -> Answer:
    """Score a table: id, score, tier, and the points behind it."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.runs.inputs import local_inputs

    if since is None and (tier_only or least):
        raise UsageError(
            "--by and --tier-only choose among changes: they go with --changed-since",
            hint="--changed-since scored.parquet --tier-only",
        )
    if not least >= 0:
        raise UsageError(f"--by must be 0 points or more, got {least}")
    if since is not None and history is not None:
        raise UsageError("--history and --changed-since each add columns of their own: one of them")
    how = {"force": force, "spreadsheet_safe": spreadsheet_safe}
    inputs = local_inputs(data, spec, since, history)
    new = runs.NewTable(output_path, inputs=inputs, **how)
    loaded = specs.reading_dates(specs.load(spec), date_format)
    scored_table = runs.score_table(data, loaded, as_of=as_of, set_aside=set_aside)
    scored, notes = scored_table.frame, scored_table.notes
    leaving = None
    if history is not None:
        leaving = runs.time_to_leaving(history, loaded, set_aside=set_aside)
        scored = leaving.with_columns(scored)
    if since is not None:
        scored = runs.changed_since(since, scored, loaded, least=least, tier_only=tier_only)
    else:
        scored = runs.with_spec_stamp(scored, loaded)
    aside = runs.write_rows_aside([scored_table.set_aside], set_aside_to)
    path = new.write(scored)
    tiers = {t: int((scored["tier"] == t).sum()) for t in loaded.tier_names}
    facts = {
        "output": str(path),
        "accounts": scored.height,
        "accounts_by_tier": tiers,
        "set_aside": scored_table.set_aside.counts,
        "notes": notes,
        "time_to_leaving": leaving and leaving.as_json(),
    }

    def text() -> None:
        did = "scored" if since is None else "whose score or tier moved,"
        listed = ", ".join(f"{name} {count:,}" for name, count in tiers.items())
        counted = some(scored.height, "account")
        if loaded.id in scored.columns and scored[loaded.id].n_unique() < scored.height:
            counted = f"{some(scored[loaded.id].n_unique(), 'account')}, {scored.height:,} rows"
        output.say_all(*aside)
        output.say(f"{counted} {did} into {path}. Tiers: {listed}.")
        output.say_all(*(f"Note: {note}" for note in notes))
        if leaving is not None:
            print_leaving(leaving)
        if scored.height:
            key = scored.columns[0]
            print_next("explain", 1 if key == "score" else scored[key][0])

    return Answer(lambda: facts, text)


@a.command(app, "list --data accounts.parquet --spec best.yaml --tier D")
def list_accounts(
    data: a.Data,
    spec: a.SpecPath,
    tier: Annotated[str | None, typer.Option(help="Only accounts of this tier.")] = None,
    most: Annotated[int, typer.Option(help="Accounts listed at most.")] = 50,
    output_path: Annotated[
        str | None, typer.Option("-o", "--output", help="New file for the list: CSV, Parquet, ...")
    ] = None,
    as_of: a.AsOf = None,
    date_format: a.DateFormat = None,
    set_aside: a.SetAside = None,
    set_aside_to: a.SetAsideTo = a.DEFAULT_ASIDE,
    spreadsheet_safe: a.SpreadsheetSafe = True,
    force: a.Force = False,
) -> Answer:
    """List the accounts to act on, the most at stake first, and why."""
    from gtmar import runs
    from gtmar import spec as specs

    how = {"force": force, "spreadsheet_safe": spreadsheet_safe}
    new = option_values.new_table(output_path, data, spec, **how)
    loaded = specs.reading_dates(specs.load(spec), date_format)
    notes: list[str] = []
    account_list = runs.account_list(
        data,
        loaded,
        tier=tier,
        most=most,
        as_of=as_of,
        announce=notes.append,
        set_aside=set_aside,
    )
    aside = runs.write_rows_aside([account_list.set_aside], set_aside_to)
    path = None if new is None else new.write(account_list.rows)
    probabilities = specs.calibration_of(loaded)
    assert probabilities is not None  # Else there is no list.

    def text() -> None:
        _print_list(account_list, probabilities, [*aside, *notes], written=path)

    return Answer(
        lambda: {**account_list.as_json(), "output": path and str(path), "notes": notes}, text
    )


#: Accounts of a list that the terminal shows.
_LISTED = 10


def _print_list(
    account_list: AccountList,
    probabilities: Calibration,
    notes: list[str],
    *,
    written: str | Path | None,
) -> None:
    say(account_list.sentence)
    say_newest(account_list.newest)
    if account_list.mrr_unknown:
        say(f"MRR isn't known of {some(account_list.mrr_unknown, 'account')}; these come last.")
    say_all(*(f"Note: {note}" for note in notes))
    key = account_list.rows.columns[0]
    for number, row in enumerate(account_list.rows.head(_LISTED).iter_rows(named=True), start=1):
        money = ""
        if "mrr" in row:
            known = row["mrr"] is not None
            money = (
                f", {whole(row['at_stake'])} of {whole(row['mrr'])} MRR at stake"
                if known
                else ", no MRR"
            )
        say(
            f"{number:>3}. {row[key]}: tier {row['tier']}, "
            f"{probabilities.step_of(row['score']).sentence}{money}"
        )
        say(f"     {row['reasons']}")
    more = account_list.rows.height - _LISTED
    if more > 0:
        say(f"     and {more:,} more{'' if written is None else f', in {written}'}")
    elif written is not None:
        say(f"The list is in {written}.")
    average = "average account that pays" if account_list.at_stake else "average account"
    say(
        f"In brackets: points against the {average}. They go with leaving, which doesn't make "
        "them its cause."
    )
    if account_list.rows.is_empty():
        return
    if written is None:
        print_next("list", output_path=free_path("list.csv"), tier=account_list.tier)
    else:
        print_next("explain", account_list.rows[key][0])


@a.command(app, "grid fit.yaml engagement.yaml --data accounts.parquet -o grid.parquet")
def grid(
    fit: Annotated[Path, typer.Argument(metavar="SPEC", help="Score of the grid's rows.")],
    engagement: Annotated[Path, typer.Argument(metavar="SPEC", help="Score of its columns.")],
    data: a.Data,
    output_path: Annotated[
        str | None, typer.Option("-o", "--output", help="New file of accounts with their cells.")
    ] = None,
    as_of: a.AsOf = None,
    date_format: a.DateFormat = None,
    spreadsheet_safe: a.SpreadsheetSafe = True,
    force: a.Force = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Cross the tiers of two scores: sizes and retention of each pair."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.runs.tiers import named_apart

    how = {"force": force, "spreadsheet_safe": spreadsheet_safe}
    new = option_values.new_table(output_path, data, fit, engagement, **how)
    both = [specs.reading_dates(specs.load(path), date_format) for path in (fit, engagement)]
    one, two = named_apart(both[0], both[1], (fit, engagement))
    result = runs.grid(data, one, two, as_of=as_of, journal=journal)
    path = None if new is None else new.write(result.rows)
    return Answer(
        lambda: {**result.as_json(), "output": path and str(path)},
        lambda: _print_grid(result, path, (fit, engagement)),
    )


def _print_grid(grid: Grid, written: str | Path | None, files: tuple[Path, Path]) -> None:
    shown = [n for n in ("logo_retention", "nrr", "mrr") if n in grid.cells.columns]

    def worded(name: str, value: float | None) -> str:
        if value is None:
            return ""
        return f"{value:,.0f}" if name == "mrr" else percent(value, 1)

    lines = [
        (
            *(row[f"{model}_tier"] for model in grid.models),
            row["cell"],
            f"{row['accounts']:,}",
            percent(row["share"], 1),
            *(worded(name, row[name]) for name in shown),
        )
        for row in grid.cells.to_dicts()
    ]
    head = [*grid.models, "cell", "accounts", "share", *(output.HEADS[name] for name in shown)]
    table(head, lines, title=f"{some(grid.accounts, 'account')} of {grid.source}")
    say_newest(grid.newest)
    if grid.unmeasured is not None:
        say(f"What became of them isn't known: {grid.unmeasured}")
    say_all(grid.searched)
    if written is None:
        print_next("grid", *files, output_path=free_path("grid.parquet"))
    else:
        say(f"Each account's cell is in {written}.")


@a.command(app, "calibrate spec.yaml --data accounts.parquet -o calibrated.yaml")
def calibrate(
    spec: a.SpecFile,
    data: a.Data,
    output_path: Annotated[
        Path, typer.Option("-o", "--output", help="New spec.", show_default=False)
    ],
    force: a.Force = False,
    *,
    table_options: a.OutcomeTableOptions,
) -> Answer:
    """Fit a score's probabilities of leaving anew on a table."""
    from gtmar import runs
    from gtmar import spec as specs
    from gtmar.outputs import Output
    from gtmar.runs.inputs import local_inputs

    new = Output(output_path, local_inputs(data, spec), force=force)
    result = runs.calibrate(data, specs.load(spec), **table_options)
    fitted = result.calibration
    on = f"{fitted.accounts:,} {result.counted}"
    heading = f"calibrate: probabilities fitted on {on} of {result.source}."
    option_values.write_spec(new, result.spec, heading=heading)

    def text() -> None:
        rate = f"{fitted.left:,} of {on} left, {percent(fitted.base_rate, 1)}"
        say(f"{rate}: probabilities in {some(len(fitted.steps), 'step')}, in {output_path}.")
        if result.held_out is None:
            say("In-sample: nothing was held out to check them on.", "warning")
        else:
            say(f"On accounts held out. {result.held_out.sentence}")
        print_next("list", spec=output_path)

    return Answer(lambda: {**result.as_json(), "output": str(output_path)}, text)


@a.command(spec_app, "spec schema > gtmar.schema.json", as_json=False)
def spec_schema(
    recipe: Annotated[
        bool, typer.Option("--recipe", help="That of snapshot recipes, in place of the spec's.")
    ] = False,
    answer: Annotated[
        str | None, typer.Option(help="That of what a command prints with --json: run, spec show.")
    ] = None,
) -> None:
    """Print the JSON Schema of specs, of recipes, or of what a command prints."""
    from gtmar import spec as specs
    from gtmar.snapshots import recipe as recipes

    if answer is None:
        output.data(recipes.json_schema() if recipe else specs.json_schema())
        return
    from gtmar.cli.json_schemas import json_schemas

    answers = json_schemas()
    option_values.refuse_unknown("command", answer, answers)
    output.data({"$schema": specs.json_schema()["$schema"], **answers[answer]})


@a.command(spec_app, "spec show spec.yaml")
def spec_show(path: Annotated[Path, typer.Argument(help="The spec's file.")]) -> Answer:
    """Print what a spec says, defaults left out, and its ids."""
    import json

    from gtmar import spec as specs

    spec = specs.load(path)
    ids = {"spec_id": specs.spec_id(spec), "score_id": specs.score_id(spec)}

    def text() -> None:
        heading = "\n".join(f"{key} {value}" for key, value in ids.items())
        output.text(specs.to_yaml(spec, heading=heading))

    return Answer(lambda: {**ids, "spec": json.loads(specs.to_json(spec))}, text)


def _print_check(checkup: Checkup) -> None:
    from gtmar.journal.sentences import on_dates

    by = "features detected" if checkup.detected else f"spec {checkup.model}"
    say(f"{checkup.source} keeps the data contract ({by}, {some(checkup.features, 'feature')}).")
    left_out = f", {checkup.dropped:,} without an outcome left out" if checkup.dropped else ""
    rows = checkup.rows
    total = some(checkup.accounts, "account")
    if rows is not None:
        total = on_dates(checkup.accounts, len(checkup.dates), rows)
    say(
        f"{total}{left_out}: {checkup.search_accounts:,} {'accounts ' * bool(rows)}to search, "
        f"{checkup.holdout_accounts:,} held out."
    )
    cohorts = ", ".join(f"{count:,} {name}" for name, count in checkup.cohorts.items() if count)
    say(f"Cohorts{', in rows' * bool(rows)}: {cohorts}.")
    basis = {"observed": "start and end MRR are there", "binary": "MRR is assumed flat", None: None}
    if checkup.basis:
        say(f"Revenue retention: {checkup.basis} ({basis[checkup.basis]}).")
    values = [
        (name, value, checkup.reasons.get(name, ""))
        for name, value in checkup.metrics.items()
        if not name.startswith(("share_clipped", "score_"))
    ]
    table(["metric, search part, all tiers", "value", ""], values)
    _print_leaks(checkup)
    _print_holdout_drift(checkup)
    say_all(*(f"Note: {note}" for note in checkup.notes))
    if checkup.objective_value is None:
        say(f"Objective {checkup.objective} has no value here: choose another with --metric.")
        return
    say(f"Objective {checkup.objective}: {checkup.objective_value:.4f} at the start.")
    deciding = some(checkup.holdout_accounts or checkup.search_accounts, "account")
    deciding += f" on {some(len(checkup.dates), 'date')}" if checkup.dates else ""
    if checkup.smallest_gain is None:
        say(f"{deciding} can't prove a gain of it: too few, or it has no interval.")
    elif checkup.smallest_gain == 0:
        say(f"{deciding} can't prove a gain of it: with other weights it stays the same.")
    else:
        gain = f"{checkup.smallest_gain:.2g}"
        say(f"Smallest gain that {deciding} would prove four times in five: about {gain}.")


def _print_leaks(checkup: Checkup) -> None:
    """Print what was found of leakage, each with why and what to do."""
    if not checkup.leaks:
        say("Leakage: nothing suspicious in the columns read.")
        return
    errors = sum(leak.grade == "error" for leak in checkup.leaks)
    say(f"Leakage: {some(errors, 'error')}, {some(len(checkup.leaks) - errors, 'warning')}.")
    for leak in checkup.leaks:
        bad = leak.grade == "error"
        left = " (left out)" if bad and leak.column not in checkup.leaking else ""
        tone: Tone = "bad" if bad else "warning"
        say(f'{leak.grade}: column "{leak.column}"{left}: {leak.found}.', tone)
        say(f"  Why: {leak.why}.")
        say(f"  Do: {leak.advice}.")


def _print_holdout_drift(checkup: Checkup) -> None:
    """Print which columns are distributed otherwise in the holdout than in the search part."""
    moved = [each for each in checkup.drift if each.reading in ("moderate", "large")]
    if moved:
        listed = ", ".join(f"{each.name} ({each.index:.2f}, {each.reading})" for each in moved)
        say(f"Drift between search part and holdout, by stability index: {listed}.", "warning")
    elif checkup.drift:
        say("Drift between search part and holdout: none beyond what chance gives.")


def _print_drift(drift: Drift) -> None:
    say_all(drift.upside_down, tone="bad")
    say(
        f"{drift.model}: {some(drift.accounts, 'account')}{_on_dates(drift.dates)} of "
        f"{drift.source} against {drift.accounts_before:,}{_on_dates(drift.dates_before)} of "
        f"{drift.against}."
    )
    heads = ["feature", "index", "by chance below", "reading", "most in", "then", "now"]
    rows = [
        (
            each.name,
            f"{each.index:.3f}",
            f"{each.chance:.3f}",
            str(each.reading),
            *_largest_bin(each),
        )
        for each in sorted(drift.shifts, key=lambda each: -each.index)
    ]
    table(heads, rows, title="Population stability")
    say("Stable below 0.1, moderate below 0.25, else large; unclear where chance gives as much.")
    if drift.moved:
        names = ", ".join(each.name for each in drift.moved)
        say(f"Moved: {names}. The spec was made on accounts that were spread otherwise.", "warning")
    else:
        say("Nothing moved by as much as 0.25.", None if drift.upside_down else "good")
    say_all(drift.ranking_sentence, drift.searched, drift.leaving_sentence)


def _on_dates(dates: int) -> str:
    return "" if dates == 1 else f" on {dates:,} dates"


def _largest_bin(shift: Shift) -> tuple[str, str, str]:
    """Return the bin that adds most to the stability index, and its shares then and now."""
    if not shift.index:
        return "", "", ""
    label, then, now = shift.bins[shift.most]
    _, before, after = zip(*shift.bins, strict=True)
    return label, percent(then / sum(before), 1), percent(now / sum(after), 1)
