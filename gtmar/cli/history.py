"""Commands about changes of a score: try, tiers, promote, record, log, show, diff, lineage, ..."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gtmar.cli import option_values
from gtmar.cli import options as a
from gtmar.cli.next_step import WHY, free_path, print_next, table_options_of
from gtmar.cli.options import app
from gtmar.cli.output import Answer, announce, number, say, say_all, say_newest, some, table
from gtmar.errors import UsageError
from gtmar.plain_data import percent

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

    from gtmar.cli.output import Tone
    from gtmar.journal.files import Row
    from gtmar.journal.front import Front
    from gtmar.journal.lookup import Experiment, Reference, RunFacts
    from gtmar.runs import Difference, RunResult, TierLine, Tiers, WentLive
    from gtmar.spec import ScoringSpec

__all__ = [
    "best",
    "checkout",
    "diff",
    "front",
    "lineage",
    "live_lines",
    "log",
    "promote",
    "record",
    "show",
    "tiers",
    "try_change",
]


@a.command(app, 'try --data accounts.parquet --set nps=12 --note "why"')
def try_change(
    data: a.Data,
    spec: a.SpecPath,
    settings: Annotated[list[str], typer.Option("--set", help="A weight: nps=12")],
    note: Annotated[str, typer.Option(help="Why.")],
    author: a.Author = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the changed spec, to -o.")] = False,
    output_path: a.OutputSpec = None,
    force: a.Force = False,
    metric: a.Metric = None,
    holdout_file: a.HoldoutTable = None,
    *,
    table_options: a.TwoTablesOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Measure a change of weights and journal it, kept or not."""
    from gtmar import runs
    from gtmar.journal import lookup

    if keep != (output_path is not None):
        raise UsageError("--keep and -o go together", hint="--keep -o new.yaml")
    read = (data, spec, holdout_file, journal)
    new = option_values.output(output_path, *read, force=force)
    result = runs.try_weights(
        data,
        spec,
        option_values.weights(settings),
        note=note,
        author=author,
        metric=metric,
        announce=announce,
        journal=journal,
        holdout_file=holdout_file,
        **table_options,
    )
    with option_values.open_journal(journal) as opened:
        experiment = lookup.experiment(opened, f"{result.run_id}/1")
        if new is not None:
            option_values.write_found(
                new,
                lookup.checkout(opened, str(experiment.reference)),
                heading=f"try, experiment {experiment.reference}.",
                experiment=str(experiment.reference),
                journal=journal,
            )
    return Answer(
        lambda: {**experiment.as_json(), "run": result.as_json(), "output": output_path},
        lambda: _print_tried(experiment, result, written=output_path),
    )


@a.command(app, "tiers best.yaml --data accounts.parquet --shares 10,25,40,25 -o new.yaml")
def tiers(
    spec: a.SpecFile,
    data: a.Data,
    shares: Annotated[
        str | None, typer.Option(help="Percent by tier: 10,25,40,25 or A=10,B=90.")
    ] = None,
    capacity: Annotated[
        str | None,
        typer.Option(
            "--accounts", help="Accounts by tier: A=200,B=500; a tier left out takes the rest."
        ),
    ] = None,
    lift: Annotated[
        str | None,
        typer.Option(help="Risk scores: least times the average rate of leaving, hot=3,warm=1.5."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Another spec: tiers get the sizes that it has here.")
    ] = None,
    output_path: a.OutputSpec = None,
    force: a.Force = False,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
    author: a.Author = None,
    *,
    table_options: a.OutcomeTableOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Set tier edges anew: by shares, capacity, lift or another spec."""
    from gtmar import runs
    from gtmar import spec as specs

    named = {"share": shares, "accounts": capacity, "lift": lift}
    stated = [rule for rule, text in named.items() if text is not None]
    if len(stated) + (like is not None) > 1:
        raise UsageError(
            "one way to set the edges at a time: --shares, --accounts, --lift or --like",
            hint="--shares 10,25,40,25",
        )
    read = (data, spec, journal, *([like] if like else []))
    new = option_values.output(output_path, *read, force=force)
    given = specs.load(spec)
    rule = stated[0] if stated else None
    result = runs.tiers_of(
        data,
        given,
        rule=rule,  # type: ignore[arg-type] # one of the three above
        sizes=None if rule is None else option_values.sizes(rule, named[rule] or "", given),
        like=None if like is None else specs.load(like),
        journal=None if new is None else journal,
        author=author,
        note=note,
        **table_options,
    )
    if new is not None:
        option_values.write_found(
            new,
            result.spec,
            heading=f"tiers, {result.experiment}: the edges are set on {result.source}.",
            experiment=str(result.experiment),
            journal=journal,
        )
    return Answer(
        lambda: {**result.as_json(), "output": output_path},
        lambda: _print_tiers(
            result,
            spec=spec,
            written=output_path,
            searched=runs.searched_note(data, [given], journal, table_options.get("as_of")),
        ),
    )


def _print_tiers(tiers: Tiers, *, spec: Path, written: Path | None, searched: str | None) -> None:
    """Print size and retention of each tier, and how many accounts change tier."""
    if tiers.newest is not None:
        say(f"Edges by the accounts of {tiers.newest}, the newest date whose outcomes are over.")
    if tiers.moved is None:
        say(f"Tiers of {spec} on {some(tiers.accounts, 'account')} of {tiers.source}.")
    elif tiers.moved:
        share = tiers.moved / max(1, tiers.accounts)
        change = "changes" if tiers.moved == 1 else "change"
        say(f"{tiers.moved:,} of {tiers.accounts:,} accounts {change} tier ({percent(share, 1)}).")
    else:
        say(f"Tiers of {spec} on {some(tiers.accounts, 'account')}: nobody changes tier.")
    shown = [name for name in ("nrr", "grr") if any(getattr(x, name) for x in tiers.lines)]
    money = any(line.mrr is not None for line in tiers.lines)
    kept = any(line.logo_retention is not None for line in tiers.lines)
    heads = ["tier", "from", *(["was"] if tiers.before else []), "accounts", "share"]
    heads += ["logos kept"] * kept + [name.upper() for name in shown] + ["MRR"] * money
    rows = []
    for line in tiers.lines:
        row: list[object] = [line.tier, f"{line.low:g}"]
        if tiers.before:
            row.append(f"{tiers.before[line.tier]:g}" if line.tier in tiers.before else "")
        row += [line.accounts, percent(line.share, 1)]
        if kept:
            row.append(_kept(line))
        row += [None if (v := getattr(line, name)) is None else percent(v, 1) for name in shown]
        row += [None if line.mrr is None else f"{line.mrr:,.0f}"] * money
        rows.append(row)
    table(heads, rows, title="Tiers; logos kept with 95% intervals" if kept else "Tiers")
    if tiers.ties is not None:
        say(tiers.ties, "warning")
    if tiers.former:
        left = some(tiers.former, "account")
        say(f"{left} left before the window: counted in a tier's size, in no other column.")
    if kept and searched is not None:
        say(searched)
    say()
    if written is None:
        print_next("tiers", str(spec), data=tiers.source, output_path=free_path("tiers.yaml"))
        return
    say(f"On record as {tiers.experiment}. Written: {written}")
    print_next("run", data=tiers.source, spec=written, output_path=free_path("best.yaml"))


def _kept(line: TierLine) -> str:
    kept = line.logo_retention
    if kept is None or kept.value is None:
        return "-"
    return f"{percent(kept.value)} ({100 * (kept.low or 0):.0f}-{100 * (kept.high or 0):.0f})"


@a.command(app, "checkout RUN/EXP -o spec.yaml")
def checkout(
    experiment: a.Experiment,
    output_path: a.NewSpec,
    force: a.Force = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Write the spec of any experiment, with its lineage."""
    from gtmar.journal import lookup
    from gtmar.outputs import Output

    new = Output(output_path, (journal,), force=force)
    with option_values.open_journal(journal) as opened:
        reference = lookup.resolve(opened, experiment)
        spec = lookup.checkout(opened, str(reference))
    option_values.write_spec(new, spec, heading=f"checkout, experiment {reference}.")
    return Answer(
        lambda: {"experiment": str(reference), "output": output_path, "weights": spec.weights},
        lambda: _print_checked_out(reference, spec, written=output_path, journal=journal),
    )


@a.command(app, 'promote RUN/EXP --note "approved by the CS team"')
def promote(
    experiment: a.ExperimentOrSpec,
    note: Annotated[str, typer.Option(help="Why.")],
    author: a.Author = None,
    expect: Annotated[str | None, typer.Option(help="What should happen.")] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Record that a spec is live from now on. It changes nothing outside the journal."""
    from gtmar import runs

    spec = runs.spec_of(experiment, journal)
    went_live = runs.promote(spec, note=note, author=author, expect=expect, journal=journal)
    return Answer(went_live.as_json, lambda: _print_went_live(went_live))


@a.command(app, "record --spec tool.yaml --since 2026-03-31 --note N --author A")
def record(
    spec: a.SpecPath,
    since: Annotated[str, typer.Option(help="Date since when it is live.")],
    note: Annotated[str, typer.Option(help="Why.")],
    author: Annotated[str, typer.Option(help="Who made the change.")],
    data: a.OptionalTable = None,
    metric: a.Metric = None,
    *,
    table_options: a.OutcomeTableOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Record a change made elsewhere. If a table is given, it is measured."""
    from gtmar import runs
    from gtmar import spec as specs

    went_live = runs.record(
        specs.load(spec),
        since=since,
        note=note,
        author=author,
        data=data,
        metric=metric,
        announce=announce,
        journal=journal,
        **table_options,
    )
    return Answer(went_live.as_json, lambda: _print_went_live(went_live))


@a.command(app, "log")
def log(
    model: Annotated[str | None, typer.Option(help="One model; none: all.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Entries shown.")] = 20,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Say what is live, then runs and changes, newest first. With each: who, why, its effect."""
    from gtmar.journal import lookup

    with option_values.open_journal(journal) as opened:
        if model is not None:
            option_values.refuse_unknown("model", model, lookup.models(opened))
        live, shown = lookup.log(opened, model=model, most=most)
        shown_runs = {row["reference"].partition("/")[0] for row in shown if row["reference"]}
        facts = lookup.run_facts(opened, shown_runs)
    return Answer(
        lambda: {"live": live, "log": shown},
        lambda: _print_log(live, shown, facts, journal=journal),
    )


@a.command(app, "show RUN/EXP")
def show(experiment: a.Experiment, journal: a.JournalPath = a.DEFAULT_JOURNAL) -> Answer:
    """Show one experiment: who, why, its change, its effect."""
    from gtmar.journal import lookup

    with option_values.open_journal(journal) as opened:
        shown = lookup.experiment(opened, experiment)
    return Answer(shown.as_json, lambda: _print_experiment(shown, journal=journal))


@a.command(app, "diff RUN/EXP spec.yaml --data accounts.parquet")
def diff(
    one: a.ExperimentOrSpec,
    two: a.ExperimentOrSpec,
    data: a.OptionalTable = None,
    as_of: a.AsOf = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Compare two experiments, runs or specs."""
    from gtmar import runs

    difference = runs.difference(one, two, journal=journal, data=data, as_of=as_of)
    return Answer(difference.as_json, lambda: _print_difference(difference))


@a.command(app, "lineage best.yaml")
def lineage(
    experiment: a.ExperimentOrSpec,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Follow an experiment or a spec back to the first spec."""
    from gtmar.journal import lookup

    with option_values.open_journal(journal) as opened:
        reference = lookup.resolve(opened, option_values.experiment_of(experiment))
        rows = lookup.lineage(opened, reference)
        facts = lookup.run_facts(opened, {row["run_id"] for row in rows})
    return Answer(lambda: rows, lambda: _print_lineage(rows, facts, journal=journal))


@a.command(app, "best --metric revenue_capture_at_20")
def best(
    metric: Annotated[
        str | None,
        typer.Option(
            help="Any metric; none: the run's objective.", autocompletion=a.complete_metrics
        ),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="A run on the table meant; none: the latest.",
            autocompletion=a.complete_runs,
        ),
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Experiments shown.")] = 5,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Name the best experiments kept on a table, by any metric."""
    from gtmar.journal import lookup

    with option_values.open_journal(journal) as opened:
        name, rows = lookup.best(opened, metric, run=run_id, most=most)
    return Answer(lambda: rows, lambda: _print_best(rows, name, journal=journal))


@a.command(app, "front --by revenue_capture_at_20")
def front(
    run_id: a.OptionalRun = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="The other metric; none: revenue capture, or tier separation.",
            autocompletion=a.complete_metrics,
        ),
    ] = None,
    whole_table: Annotated[
        bool, typer.Option("--all", help="All runs of the run's table and objective.")
    ] = False,
    blocked: Annotated[
        bool, typer.Option("--blocked", help="Those that broke a guardrail, too.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="All rows, not 20 of them.")] = False,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Name the best compromises of objective and another metric."""
    from gtmar.journal.front import front as compromises

    with option_values.open_journal(journal) as opened:
        result = compromises(opened, run_id, by=by, whole_table=whole_table, blocked=blocked)
    return Answer(result.as_json, lambda: _print_front(result, full=full, journal=journal))


#: How many accounts that change tier, and how many metrics, are shown; --json has all.
_MOVED_SHOWN = 10
_IMPORT = "import"
_METRICS_SHOWN = 20


def _print_tried(experiment: Experiment, result: RunResult, *, written: Path | None) -> None:
    row = experiment.row
    say(_who_and_why(row["author"], row["note"]))
    say(f"Change: {row['changes']}")
    say_all(*result.dates_held)
    say(_effect(row), _EFFECTS.get(row["outcome"]))
    if result.holdout is not None:
        before, after = (result.holdout[f"{x}_value"] for x in ("baseline", "best"))
        if None not in (before, after):
            word = "holds" if result.holdout["improved"] else "does not hold"
            accounts = f"{some(result.holdout['accounts'], 'account')} held out"
            say(f"On the {accounts} it {word}: {_change(before, after)}.")
    say_all(*(each["sentence"] for each in result.customers))
    say_all(result.time_order, tone="warning")
    _print_metrics(experiment.effect, "before", "after")
    say()
    say(f"In the journal as {experiment.reference}, with its reason, kept or not.")
    if written:
        kept = "" if row["outcome"] == "win" else " You keep it against that verdict."
        say(f"Changed spec: {written}.{kept}")
        print_next("promote", written, note=WHY, journal=result.journal)
    else:
        _follow_checkout(experiment.reference, "new.yaml", result.journal)


def _follow_checkout(reference: Reference | str, name: str, journal: str | Path) -> None:
    print_next("checkout", reference, output_path=free_path(name), journal=journal)


def _who_and_why(author: str | None, note: str | None) -> str:
    return f"{note or 'No reason given'} ({author or 'nobody named'})"


#: The accounts that a run and a person's change are measured on.
_SEARCHED = " on the accounts searched"


def _on_whom(row: dict[str, Any], *, whole_table: bool = False) -> str:
    """Say on which accounts a value was measured; nothing of an import, of which it isn't known."""
    if row["kind"] == _IMPORT:
        return ""
    return " on all accounts of the table" if whole_table else _SEARCHED


_EFFECTS: dict[str, Tone] = {"win": "good", "lose": "bad", "blocked": "warning"}


def _effect(row: dict[str, Any], *, whole_table: bool = False) -> str:
    """Word what a change did to the objective, and whether it was kept."""
    from gtmar.metrics.metric import marked

    before, after = row["value_before"], row["value_after"]
    name = marked(row["objective"], row.get("basis"))
    on = _on_whom(row, whole_table=whole_table)
    if row["outcome"] == "baseline" and whole_table:
        return f"{name} {number(after)}{on}: edges of tiers were set, nothing was searched."
    if row["outcome"] == "baseline":
        return f"{name} {number(after)}{on}: where its run started."
    if row["outcome"] == "known":
        return f"{name} {number(after)}{on}: known from {row['repeats']}, not evaluated again."
    if before is None or after is None:
        moved = f"{name} {number(before)} -> {number(after)}{on}"
    else:
        moved = f"{name} {_change(before, after)}{on}"
    if row["outcome"] == "win":
        return f"{moved}: better, kept."
    if row["outcome"] == "blocked":
        return f"{moved}: better, but blocked: {'; '.join(row['breaches'] or [])}."
    return f"{moved}: {'no better' if before == after else 'worse'}, not kept."


def _print_metrics(
    compared: list[Row] | None, one: str, two: str, *, title: str = "Metrics"
) -> None:
    """Print metrics that differ, the worse ones first."""
    if compared is None:
        return
    from gtmar.metrics import all_metrics
    from gtmar.metrics.metric import basis_note, marked

    counts = {key for key, metric in all_metrics().items() if metric.count}
    moved = [row for row in compared if row["reading"] != "same"]
    shown = [row for row in moved if row["metric"].partition(".")[0] not in counts]
    shown = shown[: max(_METRICS_SHOWN, sum(row["reading"] != "moved" for row in shown))]
    if not shown:
        say("No metric differs by more than rounding.")
        return
    rows = [
        (marked(r["metric"], r["basis"]), r["one"], r["two"], _signed(r["change"]), r["reading"])
        for r in shown
    ]
    table(["metric", one, two, "change", ""], rows, title=title)
    say_all(basis_note(next((r["basis"] for r in shown if r["basis"]), None)))
    sizes = [row for row in moved if row["metric"].startswith("accounts_by_tier.")]
    if sizes:
        ends = (
            f"{r['metric'].partition('.')[2]} {r['one']:,.0f} -> {r['two']:,.0f}" for r in sizes
        )
        say(f"Tiers have other sizes: {', '.join(ends)}. What moved in them may be that alone.")
    if len(moved) > len(shown):
        say(f"{len(moved) - len(shown)} more that moved, neither better nor worse, with --json.")


def _change(before: float, after: float) -> str:
    return f"{before:.4f} -> {after:.4f} ({after - before:+.4f})"


def _signed(change: float | None) -> str:
    if change is None:
        return "-"
    return f"{change:+,.2f}" if abs(change) >= 100 else f"{change:+.4f}"


def _print_checked_out(
    reference: Reference, spec: ScoringSpec, *, written: Path, journal: Path
) -> None:
    """Print where a spec was written."""
    say(f"{spec.model} as of {reference}: {written}. Its lineage is in it.")
    table = table_options_of(journal, reference.run_id)
    if table is None:
        print_next("spec show", written)
    else:
        options = {"spec": written, "output_path": free_path("best.yaml"), **table}
        print_next("run", journal=journal, **options)


def _print_went_live(went_live: WentLive) -> None:
    """Print what is live now, and what it took the place of."""
    by = f" by {went_live.author}" if went_live.author else ""
    say(f"{went_live.model} is live since {_moment(went_live.since)}{by}: {went_live.note}")
    for note in went_live.notes:
        say(f"Note: {note}. What is recorded now counts as the later.", "warning")
    if went_live.expect:
        say(f"Expected: {went_live.expect}")
    if went_live.replaced_since is None:
        say("Nothing was on record as live before it.")
    elif went_live.changes is None:
        say(
            f"It takes the place of the one live since {_moment(went_live.replaced_since)}; they "
            "differ in more than weights."
        )
    else:
        pairs = (f"{n}: {a} -> {b}" for n, (a, b) in went_live.changes.items())
        edges = ", ".join(f"{n}: {a:g} -> {b:g}" for n, (a, b) in (went_live.tiers or {}).items())
        changes = ", ".join(pairs) or "the same weights"
        changes += f"; tiers from {edges}" if edges else ""
        say(f"Against the one live since {_moment(went_live.replaced_since)}: {changes}")
    if went_live.verdict is not None:
        against = went_live.verdict != _READY
        word = " It goes live against that." if against else ""
        say(f"{_decided(vars(went_live))}{word}", "warning" if against else "good")
    elif went_live.experiment and went_live.measured is None:
        say(
            "No decision on it is on record: gtmar decide says whether it holds where no search "
            "looked.",
            "warning",
        )
    as_what = f"Measured as {went_live.experiment}"
    if went_live.measured is not None and went_live.measured.experiments:
        verb = "better" if went_live.measured.improved else "not better"
        say(f"{as_what}: {verb} than what was live before, by its objective.")
        print_next("show", went_live.experiment, journal=went_live.measured.journal)
    else:
        say(f"{as_what}." if went_live.experiment else "Not measured in this journal.")
        print_next("log")


#: The verdict after which a promotion is proposed.
_READY = "READY_FOR_REVIEW"
#: In `Decided.compared`: the candidate was compared with the start of its own run.
_START = " against its start, "


def _decided(row: dict[str, Any]) -> str:
    """Word the decision on an experiment, and when it was made."""
    sentence = f"Decided {_moment(row['decided_at'])}: {row['verdict']}."
    compared = row.get("compared")
    # For the best of a run, the entry says already what was compared with what.
    return f"{sentence} {compared}" if compared and _START not in compared else sentence


def _name(row: dict[str, Any]) -> str:
    return f"{row['run_id']}/{row['experiment_id']}"


def _moment(at: datetime) -> str:
    midnight = (at.hour, at.minute, at.second) == (0, 0, 0)
    return f"{at:%Y-%m-%d}" if midnight else f"{at:%Y-%m-%d %H:%M}"


def _print_experiment(experiment: Experiment, *, journal: Path) -> None:
    """Print one experiment: who, why, what it changed, what that did."""
    row = experiment.row
    say(f"{experiment.reference}, {row['model']}, {_moment(row['at'])}, by {row['proposer']}")
    if row["author"] or row["note"]:
        say(_who_and_why(row["author"], row["note"]))
    if row["changes"]:
        say(f"Change: {row['changes']}")
    say(_effect(row, whole_table=experiment.whole_table), _EFFECTS.get(row["outcome"]))
    if row["verdict"]:
        say(f"{_decided(row)} {row['reason'] or ''}".rstrip())
    weights = sorted(row["weights"].items(), key=lambda item: (-item[1], item[0]))
    lines = [(name, weight, experiment.points.get(name, "")) for name, weight in weights]
    table(["weight", "value", "points for"], lines, title="Weights", spare=True)
    title = f"What it did to the metrics{_on_whom(row).replace(' on', ', on', 1)}"
    _print_metrics(experiment.effect, "before", "after", title=title)
    say()
    if row["kind"] == _IMPORT:
        # An import has weights and no spec, so there is nothing to check out.
        print_next("log", journal=journal)
    else:
        _follow_checkout(experiment.reference, "spec.yaml", journal)


def _print_difference(difference: Difference) -> None:
    one, two = difference.one.name, difference.two.name
    say(f"one: {one}")
    say(f"two: {two}")
    say_newest(difference.newest)
    if difference.weights:
        earned = difference.earned_by
        rows = [
            (name, before, after, change, earned.get(name, ""))
            for name, before, after in difference.weights
            for change in ["" if before is None or after is None else f"{after - before:+d}"]
        ]
        heads = ["weight", "one", "two", "change", "earned by"]
        table(heads, rows, title="Weights that differ", spare=True)
    else:
        say("The weights are the same.")
    if difference.parts:
        say(f"Also different: {', '.join(difference.parts)}.")
    if edges := _edge_changes(difference.one.spec, difference.two.spec):
        say(f"Tiers from: {edges}.")
    if difference.equal_sizes is not None:
        from gtmar.cli.journal import sized_table
        from gtmar.journal.review import sized_rows

        title = "Tiers at the sizes of the first, one -> two"
        sized_table(sized_rows(difference.equal_sizes), title=title)
        say_all(difference.searched)
    if difference.metrics is not None:
        title = "Metrics that differ, on the accounts searched"
        _print_metrics(difference.metrics.to_dicts(), "one", "two", title=title)
    else:
        say(f"Metrics don't compare: {difference.unmeasured}.")
    if difference.moves is not None and difference.moved is not None:
        _print_moves(difference.moves, difference.moved)


def _edge_changes(one: ScoringSpec, two: ScoringSpec) -> str:
    """Word the lower edges of tiers that differ; empty if the tiers have other names."""
    if not (one.has_edges and two.has_edges) or {*one.tiers} != {*two.tiers}:
        return ""
    ends = ((n, one.tiers[n].low / 100, two.tiers[n].low / 100) for n in two.tier_names)
    return ", ".join(f"{name}: {a:g} -> {b:g}" for name, a, b in ends if a != b)


def _print_moves(moves: pl.DataFrame, moved: pl.DataFrame) -> None:
    if moved.is_empty():
        say("No account changes tier.")
        return
    title = f"{some(moved.height, 'account')} would change tier"
    table(["from", "to", "accounts"], moves.rows(), title=title)
    rows = [
        (str(account), f"{before:.2f}", tier, f"{after:.2f}", new_tier)
        for account, before, tier, after, new_tier in moved.head(_MOVED_SHOWN).rows()
    ]
    table(["account", "score", "tier", "score", "tier"], rows, title="Those whose score moves most")
    if moved.height > _MOVED_SHOWN:
        say(f"{moved.height - _MOVED_SHOWN:,} more with --json.")


def _print_log(
    live: list[Row],
    entries: list[Row],
    facts: dict[str, RunFacts],
    *,
    journal: Path,
) -> None:
    """Print what is live, then runs and changes, newest first; `facts` are by run."""
    from gtmar.earning import earned_in
    from gtmar.journal.lookup import RunFacts
    from gtmar.metrics.metric import marked

    live_lines(live)
    for row in entries:
        say()
        say(f"{_moment(row['at'])}  {_KINDS.get(row['kind'], row['kind'])}  {row['reference']}")
        say(f"  {_who_and_why(row['author'], row['note'])}")
        if row["change"]:
            say(f"  {row['largest']}")
        of_run = facts.get(row["reference"].partition("/")[0], RunFacts())
        if points := earned_in(row["largest"] or "", of_run.earned):
            say(f"  Earned by: {points}")
        if row["value_after"] is not None:
            named = {**row, "objective": marked(row["objective"], of_run.basis)}
            say(f"  {_value_change(named, whole_table=of_run.whole_table)}")
        if row["verdict"]:
            say(f"  {_decided(row)}")
        if row["expect"]:
            say(f"  Expected: {row['expect']}")
        if row["measured_on"]:
            say(f"  Measured: {row['measurement']}")
    say()
    newest = entries[0]["reference"] if entries else None
    if newest and "/" in newest:
        print_next("show", newest, journal=journal)


def live_lines(live: list[Row]) -> None:
    """Print what is live, a line a model."""
    for row in live:
        why = _who_and_why(row["author"], row["note"])
        decided = f". {_decided(row)}" if row["verdict"] else ""
        say(f"Live: {row['model']} since {_moment(row['since'])}: {why}{decided}")
        if row["measured_on"]:
            say(f"Measured: {row['measurement']}", "bad" if row["held"] == "worse" else None)
    if not live:
        say("Live: nothing on record; gtmar promote or gtmar record says what is.")


_KINDS = {
    "search": "search",
    "human": "change by a person",
    "record": "change made elsewhere",
    "import": "imported",
    "promotion": "went live",
}


def _value_change(row: dict[str, Any], *, whole_table: bool = False) -> str:
    before, after = row["value_before"], row["value_after"]
    on = _on_whom(row, whole_table=whole_table)
    if before is None:
        return f"{row['objective']} {after:.4f}{on}"
    return f"{row['objective']} {_change(before, after)}{on}: {row['outcome']}"


def _print_lineage(rows: list[Row], facts: dict[str, RunFacts], *, journal: Path) -> None:
    """Print the lineage of an experiment back to the first spec, one block for each run."""
    for run_id, steps in groupby(rows, key=lambda row: row["run_id"]):
        whole_table = run_id in facts and facts[run_id].whole_table
        _print_lineage_run(list(steps), whole_table=whole_table)
    say()
    ends = [_name(row) for row in rows if row["kind"] is not None]
    if len(ends) > 1:
        print_next("diff", ends[-1], ends[0], journal=journal)


def _print_lineage_run(steps: list[dict[str, Any]], *, whole_table: bool) -> None:
    """Print the part of a lineage that is one run; `steps` are newest first."""
    newest, oldest = steps[0], steps[-1]
    name = _name(newest)
    if newest["kind"] is None:
        say(f"{name}: not in this journal; the chain ends here.")
        return
    say(f"{name}  {_KINDS.get(newest['kind'], newest['kind'])}, {_moment(newest['at'])}")
    say(f"  {_who_and_why(newest['author'], newest['note'])}")
    kept = [step for step in steps if step["outcome"] != "baseline"]
    if len(kept) > 1:
        say(f"  {len(kept):,} changes kept, the last {newest['changes']}")
    elif kept:
        say(f"  {newest['changes']}")
    if oldest["changes"] and oldest["outcome"] == "baseline":
        say(f"  before the run: {oldest['changes']}")
    whole = {**newest, "value_before": oldest["value_after"] if kept else None}
    if newest["value_after"] is not None:
        say(f"  {_value_change(whole, whole_table=whole_table)}")
    if newest["verdict"]:
        say(f"  {_decided(newest)}")


def _print_best(rows: list[Row], metric: str, *, journal: Path) -> None:
    if not rows:
        say(f"No kept experiment has a value of {metric}.")
        return
    from gtmar.metrics.metric import basis_note, marked

    top = rows[0]
    metric = marked(metric, top["basis"])
    name = _name(top)
    value = f"{number(top['value'])}{_SEARCHED}"
    say(f"Best {metric} ever kept on this table: {value}, {name}.")
    say_all(basis_note(top["basis"]))
    if top["note"]:
        say(_who_and_why(top["author"], top["note"]))
    shown = [(_name(row), row["value"], _moment(row["at"])) for row in rows]
    table(["experiment", metric, "at"], shown)
    _follow_checkout(name, "best.yaml", journal)


def _print_front(front: Front, *, full: bool, journal: Path) -> None:
    say_all(*front.sentences)
    total = len(front.found)
    shown = front.shown(total) if full else front.shown()
    if shown:
        table(*front.cells(shown))
    if len(shown) < total:
        say(f"{len(shown)} of {total:,}, evenly spread; --full shows all.")
    say()
    choice = front.bend or front.best
    if choice is None or not front.has_spec:
        print_next("review", front.run_id, journal=journal)
    else:
        _follow_checkout(choice["experiment"], "compromise.yaml", journal)
