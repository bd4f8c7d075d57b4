"""Commands that test or explain a score: null, stability, segments, decide, backtest, explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gtmar.cli import option_values, progress
from gtmar.cli import options as a
from gtmar.cli.next_step import WHY, free_path, print_next
from gtmar.cli.options import app
from gtmar.cli.output import HEADS, Answer, announce, number, say, say_all, say_newest, some, table
from gtmar.plain_data import digits, percent

if TYPE_CHECKING:
    from collections.abc import Callable

    from gtmar.runs import Backtest, Decided, Explanation, FoundStability, NullSearch
    from gtmar.runs.segments import BySegment, SegmentPart
    from gtmar.stats.interval import Interval
    from gtmar.validation.gates import Gates

__all__ = ["backtest", "decide", "explain", "null", "refresh", "segments", "stability"]

T = TypeVar("T")
NewFolder = Annotated[Path | None, typer.Option("-o", "--output", help="New folder for it all.")]
Note = Annotated[str | None, typer.Option(help="Why.")]
#: Exit codes of the decisions that put nothing forward, which are no errors.
_CODES = {"KEEP_INCUMBENT": 10, "UNVERIFIED": 11}
#: Exit code of a score that ranks worse than chance.
_TURNED = 10


class _ScoredOptions(a.OutcomeTableOptions):
    """How a table is read that has a column with today's score."""

    drop_unscored: Annotated[
        bool, typer.Option("--drop-unscored", help="Leave accounts without a score today out.")
    ]


@a.command(app, "null --runs 50")
def null(options: a.RepeatOptions) -> Answer:
    """Test whether a score predicts anything, and beats its start.

    It repeats a run's search on shuffled outcomes.
    """
    from gtmar import runs

    result = _repeated(runs.null_search, options)
    return Answer(result.as_json, lambda: _print_null(result, journal=options["journal"]))


@a.command(app, "stability --runs 50")
def stability(options: a.RepeatOptions) -> Answer:
    """Say which weights hold and which are noise.

    It repeats a run's search on random halves of its accounts.
    """
    from gtmar import runs

    result = _repeated(runs.stability, options)
    return Answer(result.as_json, lambda: _print_stability(result, journal=options["journal"]))


def _repeated(search: Callable[..., T], options: a.RepeatOptions) -> T:
    """Call `null_search` or `stability` with a command's options."""
    given: dict[str, Any] = dict(options)
    run_id = option_values.full_id(options["journal"], given.pop("run_id"))
    engine = option_values.engine(engine=given.pop("engine"), address=given.pop("address"))
    watch = progress.counting(quiet=given.pop("quiet"))
    return search(run_id, watch=watch, engine=engine, **given)


@a.command(app, "segments RUN --segment plan")
def segments(
    run_id: a.OptionalRun = None,
    data: a.MovedData = None,
    columns: Annotated[
        list[str] | None, typer.Option("--segment", help="Column whose values are looked at apart.")
    ] = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Compare a run's start and best on each segment."""
    from gtmar import runs

    run_id = option_values.full_id(journal, run_id)
    by_segment = runs.by_segment(run_id, journal=journal, data=data, columns=tuple(columns or ()))
    return Answer(by_segment.as_json, lambda: _print_segments(by_segment))


@a.command(app, "decide RUN -o decision")
def decide(
    candidate: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|EXP|SPEC]",
            help="None: the last search; a run, RUN/EXP of it, a try, or a spec's file.",
            autocompletion=a.complete_runs,
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Spec to hold it against, or RUN/EXP; none: the run's start.")
    ] = None,
    data: a.MovedData = None,
    holdout_file: a.MovedHoldout = None,
    *,
    gates: a.GateOptions,
    output_path: NewFolder = None,
    tables: a.TwoTablesOptions,
    author: a.Author = None,
    note: Note = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Decide on a run's best, a change by hand, or a spec."""
    from gtmar import runs

    decided = runs.decide_on(
        candidate,
        against=against,
        data=data,
        holdout_file=holdout_file,
        journal=journal,
        tables=tables,
        announce=announce,
        gates=_gates(gates),
        folder=output_path,
        author=author,
        note=note,
    )
    return _decided(decided, journal)


def _gates(options: a.GateOptions) -> Gates:
    from gtmar.validation.gates import Gates

    segments, keep = (tuple(names or ()) for names in (options["segments"], options["keep"]))
    drop = options["max_segment_drop"]
    held = tuple(options["no_worse"] or ())
    error = options["max_calibration_error"]
    return Gates(options["min_gain"], options["max_moved"], segments, drop, keep, held, error)


def _decided(decided: Decided, journal: Path) -> Answer:
    code = _CODES.get(decided.verdict, 0)
    return Answer(decided.as_json, lambda: _print_decision(decided, journal=journal), code)


@a.command(app, "refresh --train q1.parquet --holdout q2.parquet --spec s.yaml")
def refresh(
    train: a.TrainTable,
    holdout: a.LaterTable,
    spec: a.SpecPath,
    metric: a.Metric = None,
    n: Annotated[int, typer.Option("--n", help="Experiments to evaluate.")] = 2000,
    seed: a.Seed = 0,
    *,
    gates: a.GateOptions,
    output_path: NewFolder = None,
    tables: a.TwoTablesOptions,
    author: a.Author = None,
    note: Note = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
    quiet: a.Quiet = False,
) -> Answer:
    """Search one table and decide on a later one, in one go."""
    from gtmar import runs

    stated = _gates(gates)
    with progress.watching(quiet=quiet) as watch:
        decided = runs.refresh(
            train,
            holdout,
            spec,
            metric=metric,
            limits=runs.Limits(n),
            seed=seed,
            gates=stated,
            folder=output_path,
            **tables,
            author=author,
            note=note,
            journal=journal,
            announce=None if quiet else progress.announce,
            watch=watch,
        )
    return _decided(decided, journal)


@a.command(app, "explain acct-00042 --data accounts.parquet --spec best.yaml")
def explain(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its id, or its row from 1.")],
    data: a.Data,
    spec: a.SpecPath,
    versus: Annotated[
        str | None, typer.Option("--vs", help="Another spec, or an experiment: RUN/EXP.")
    ] = None,
    as_of: a.AsOf = None,
    date_format: a.DateFormat = None,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Explain one account's score: points that add up to it."""
    from gtmar import runs
    from gtmar import spec as specs

    other = None if versus is None else runs.spec_of(versus, journal)
    loaded = specs.load(spec)
    explanation = runs.explain(
        account, data, loaded, other=other, as_of=as_of, date_format=date_format
    )
    run = None if loaded.lineage is None else loaded.lineage.run
    known = run is not None and (journal / "runs" / f"run_id={run}" / "start.parquet").is_file()
    start = f"{run}/start" if known else None
    return Answer(
        explanation.as_json,
        lambda: _print_explanation(explanation, spec=spec, versus=versus, start=start),
    )


@a.command(app, "backtest --data accounts.parquet --score-column current_health")
def backtest(
    data: a.Data,
    score_column: Annotated[str | None, typer.Option(help="Column with today's score.")] = None,
    tiers: Annotated[
        str | None, typer.Option(help="Lower edges of today's tiers: A=80,B=60,C=0")
    ] = None,
    orientation: Annotated[str | None, typer.Option(help="health or risk, of the column.")] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", help="Spec to judge, or beside the column.")
    ] = None,
    *,
    table_options: _ScoredOptions,
    journal: a.JournalPath = a.DEFAULT_JOURNAL,
) -> Answer:
    """Judge today's score by the known outcomes of its accounts."""
    from gtmar import runs
    from gtmar import spec as specs

    result = runs.backtest(
        data,
        score_column=score_column,
        spec=None if spec is None else specs.load(spec),
        tiers=None if tiers is None else option_values.edges(tiers),
        orientation=orientation,
        journal=journal,
        **table_options,
    )
    code = 0 if result.upside_down is None else _TURNED
    return Answer(result.as_json, lambda: _print_backtest(result, spec=spec), code)


#: How many features that could lead to the tier above are shown, and surprising accounts.
_STEPS_SHOWN = 5
#: Segments without an answer that a sentence names.
_SILENT_SHOWN = 5
_SURPRISES_SHOWN = 5


def _print_explanation(
    explanation: Explanation, *, spec: Path, versus: str | None, start: str | None
) -> None:
    """Print a score line by line; `start` is the experiment that the spec's run began with."""
    say(
        f"{explanation.account}: {explanation.model} {explanation.score:.2f}, "
        f"tier {explanation.tier}."
    )
    say_newest(explanation.newest)
    say_all(explanation.probability_reading)
    if explanation.other_score is None:
        heads = ["", "value", "weight", "points", "earned by"]
        rows: list[tuple[str, ...]] = [
            (x.name, x.value or "", weight, f"{x.points:+.4f}", x.earned_by or "")
            for x in explanation.lines
            for weight in ["" if x.weight is None else str(x.weight)]
        ]
        total = f"Sum of the points: {explanation.score:.2f}."
    else:
        say(
            f"By {versus}: {explanation.other_score:.2f}, tier {explanation.other_tier}. "
            "What moved it:"
        )
        heads = ["", "value", "by the other", "points", "change", "earned by"]
        rows = [
            (x.name, x.value or "", *(f"{p:+.4f}" for p in points), x.earned_by or "")
            for x in explanation.lines
            for then in [x.other_points or 0]
            for points in [(then, x.points, x.points - then)]
        ]
        total = f"Sum of the changes: {explanation.score - explanation.other_score:+.2f}."
    table(heads, rows, spare=True)
    say(total)
    if explanation.above is not None:
        say(f"{explanation.points_to_above:.2f} points to tier {explanation.above}.")
        steps = [
            (s.feature, f"{s.points:+.2f}", f"{s.possible:+.2f}", "yes" if s.reaches else "no")
            for s in explanation.up[:_STEPS_SHOWN]
        ]
        if steps:
            head = ["feature", "now", "best of any account", "enough by itself"]
            table(head, steps, title=f"What tier {explanation.above} would take")
    if explanation.below is not None:
        say(
            f"{explanation.points_to_below:.2f} points down, and it is in tier {explanation.below}."
        )
    say("Points say what goes with the outcome, not what causes it.")
    say()
    if versus is not None:
        print_next("diff", versus, spec)
    elif start is not None:
        print_next("explain", explanation.account, versus=start)
    else:
        print_next("score", output_path=free_path("scored.parquet"))


def _print_backtest(backtest: Backtest, *, spec: Path | None) -> None:
    from gtmar.journal.sentences import on_dates
    from gtmar.metrics.metric import marked

    counted = "rows" if backtest.by_date else "accounts"
    say_all(backtest.upside_down, tone="bad")
    size = some(backtest.accounts, "account")
    if backtest.by_date:
        size = on_dates(backtest.accounts, len(backtest.by_date), backtest.rows)
    on = f"{backtest.name} on {size} of {backtest.source}."
    say_all(_pairs_sentence(backtest), on, backtest.dates_sentence)
    first = [n for n in backtest.notes if n.startswith(("In-sample", "Leak", "The candidate may"))]
    say_all(*first, tone="warning")
    if backtest.reliability is not None:
        say(backtest.reliability.sentence, "warning" if backtest.reliability.off else None)
    mark = " (binary)" if backtest.basis == "binary" else ""
    by_tier = backtest.metrics
    columns = {
        counted: "accounts_by_tier",
        "logos kept": "logo_retention_by_tier",
        f"NRR{mark}": "nrr_by_tier",
        f"GRR{mark}": "grr_by_tier",
        "ARPA": "arpa_by_tier",
    }
    shown = {head: key for head, key in columns.items() if any(by_tier[key].values())}
    lines = [
        (tier, digits(edge), *(by_tier[key][tier] for key in shown.values()))
        for tier, edge in zip(backtest.tiers, backtest.edges, strict=True)
    ]
    table(["tier", "from", *shown], lines, title="Tier and outcome")
    sides, heads = [backtest.intervals.before], ["metric", backtest.name]
    if backtest.candidate is not None:
        sides += [backtest.intervals.after, backtest.intervals.gain]
        heads += [backtest.candidate, "gain"]
    rows = [
        [marked(name, backtest.basis), *(_worded(side[name]) for side in sides)]
        for name in backtest.intervals.before
        if ("." not in name or name.endswith(".*")) and name in sides[-1]
    ]
    drawn = ", whole accounts drawn" if backtest.by_date else ""
    table(heads, rows, title=f"Metrics with {100 * backtest.level:.5g}% intervals{drawn}")
    if backtest.by_date:
        _print_backtest_dates(backtest)
    heads = [f"share of {counted}", "MRR held by the best", "lost among the worst"]
    table(
        heads,
        ([percent(share), *map(_percent, v)] for share, *v in backtest.curve),
        title="Capture",
    )
    _print_surprises(backtest)
    for note in backtest.notes:
        if note not in first:
            say(f"Note: {note}")
    say()
    if spec is None:
        print_next("init", output_path=free_path("spec.yaml"))
    else:
        print_next("run", output_path=free_path("best.yaml"))


def _print_surprises(backtest: Backtest) -> None:
    """Print the first accounts that left the best tier, or stayed in the worst."""
    on = "" if backtest.listed is None else f", {backtest.listed}"
    for frame, title in (
        (backtest.green_and_churned, "In the best tier, and left"),
        (backtest.red_and_renewed, "In the worst tier, and stayed"),
    ):
        if not frame.is_empty():
            first = frame.head(_SURPRISES_SHOWN).rows()
            table(frame.columns, first, title=f"{title}{on}: {frame.height:,}")


def _print_backtest_dates(backtest: Backtest) -> None:
    """Print how well the score did on each date, and the candidate if there is one."""
    auc, kept = "auc_roc_retain", "logo_retention_by_tier.*"
    heads, sides = ["date", "accounts", "logos kept", backtest.name], ["before"]
    if backtest.candidate is not None:
        heads, sides = [*heads, backtest.candidate, "gain"], ["before", "after", "gain"]
    rows = []
    for each in backtest.by_date:
        share = each.intervals.before.get(kept)
        row: list[object] = [each.day.isoformat(), f"{each.accounts:,}"]
        row.append(_percent(None if share is None else share.value))
        for side in sides:
            interval = getattr(each.intervals, side).get(auc)
            plain = interval is not None and side != sides[-1]
            row.append(number(interval.value) if plain else interval and _worded(interval))
        rows.append(row)
    table(heads, rows, title=f"{auc} by date, with {100 * backtest.level:.5g}% intervals")


def _pairs_sentence(backtest: Backtest) -> str | None:
    """Say how many of 100 pairs a score ranks right, and a candidate; None without labels.

    What a search chose on these accounts is marked, as it is the first number that is read.
    """
    sides = [(backtest.name, backtest.intervals.before)]
    if backtest.candidate is not None:
        sides.append((backtest.candidate, backtest.intervals.after))
    ranked = []
    for name, side in sides:
        auc = side.get("auc_roc_retain")
        if auc is None or auc.value is None:
            return None
        beside = []
        if auc.low is not None and auc.high is not None:
            beside.append(f"{percent(auc.low, unit='')} to {percent(auc.high, unit='')}")
        elif auc.reason is not None:
            beside.append(auc.reason)
        # A candidate is what a search may have chosen, else the score itself.
        if backtest.in_sample and side is sides[-1][1]:
            beside.append("in-sample, so too good")
        marks = f" ({', '.join(beside)})" if beside else ""
        ranked.append(f"{name} ranks {percent(auc.value, unit='')} right{marks}")
    one = "row" if backtest.by_date else "account"
    return f"Of 100 pairs of a kept and a lost {one} {' and '.join(ranked)}."


def _worded(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{number(interval.value)} ({interval.reason})"
    return f"{number(interval.value)} ({number(interval.low)} to {number(interval.high)})"


def _percent(value: float | None) -> str:
    return "-" if value is None else percent(value, 1)


def _print_null(null: NullSearch, *, journal: Path) -> None:
    say(f"Run {null.run_id}, {null.objective}, on the accounts searched:")
    say_all(*null.sentences)
    say(
        f"Each try is the run's search of {null.experiments:,} experiments, on outcomes shuffled "
        "among all accounts; for the second answer among accounts of like score at the start."
    )
    say()
    if null.reading == "few":
        print_next("null", null.run_id, searches=50, journal=journal)
    elif null.held_out:
        print_next("decide", null.run_id, journal=journal)
    else:
        print_next("stability", null.run_id, journal=journal)


def _print_stability(stability: FoundStability, *, journal: Path) -> None:
    """Print for each weight how it varies over searches on halves of the accounts."""
    say(
        f"Run {stability.run_id}: its search of {stability.experiments:,} experiments, on "
        f"{stability.searches:,} halves of the accounts searched."
    )
    rows = [
        [w.name, w.start, w.found, *ends, percent(w.sign_held), w.reading]
        for w in stability.weights
        for ends in [(f"{w.low:.0f}", f"{w.middle:.0f}", f"{w.high:.0f}")]
    ]
    heads = ["weight", "start", "found", "2.5%", "median", "97.5%", "sign held", ""]
    if stability.signs is not None:
        heads.append("on dates")
        for row in rows:
            known = [held for held in stability.signs.get(str(row[0]), ()) if held is not None]
            row.append(f"{sum(known)} of {len(known)}" if known else "")
    table(heads, rows)
    noise = [w.name for w in stability.weights if w.reading == "noise"]
    if noise:
        say(
            f"Noise, for all that these accounts can say: {', '.join(noise)}. Whether such a "
            "weight is for or against an account changes with the accounts drawn."
        )
    if stability.note is not None:
        say(stability.note)
    say()
    print_next("review", stability.run_id, journal=journal)


def _print_decision(decided: Decided, *, journal: Path) -> None:
    from gtmar.cli.journal import sized_table
    from gtmar.journal.review import sized_rows

    say(decided.sentence)
    for sentence in decided.headline:
        say(sentence, "warning" if sentence != decided.headline[-1] else None)
    say(decided.compared)
    if decided.looks > 1:
        say(
            f"Comparison number {decided.looks} on them: intervals at {100 * decided.level:.5g}%. "
            "Each look makes them less unseen."
        )
    rows = [(gate.name, gate.limit, gate.found, gate.outcome) for gate in decided.gates]
    table(["gate", "stated beforehand", "measured", ""], rows)
    title = "Tiers at the incumbent's sizes, incumbent -> candidate"
    sized_table(sized_rows(decided.equal_sizes), title=title, counted=decided.counted)
    if decided.moved:
        say(decided.movement)
    say_all(*(f"Note: {note}" for note in decided.notes))
    if decided.folder:
        say(f"All of it: {decided.folder}. The folder holds customer data.")
    say()
    if decided.verdict == "READY_FOR_REVIEW":
        # For two specs, the experiment is of their joined form; the candidate's file goes live.
        live = decided.experiment if decided.names is None else decided.names[0]
        print_next("promote", live, note=WHY, journal=journal)
    else:
        print_next("review", decided.run_id, journal=journal)


def _print_segments(by_segment: BySegment) -> None:
    from gtmar.metrics.metric import basis_note

    say(f"{by_segment.experiment} against its start, by {', '.join(by_segment.columns)}.")
    say_all(basis_note(by_segment.basis))
    for part in by_segment.parts:
        _print_segment_part(part, by_segment)
    if len(by_segment.parts) == 1:
        say("In-sample: the weights were chosen on these very accounts.")
    say()
    if len(by_segment.parts) > 1:
        print_next("decide", by_segment.run_id, segments=by_segment.columns)
    else:
        print_next("review", by_segment.run_id)


def _print_segment_part(part: SegmentPart, by_segment: BySegment) -> None:
    from gtmar.metrics.metric import BINARY

    lines = part.lines
    total = sum(line.accounts for line in lines) // len(by_segment.columns)
    say()
    seen = " (in-sample, so too good)" if part.part == "searched" else ""
    say(f"On the {some(total, 'account')} {part.part}{seen}: {_segments_sentence(part)}")
    known = [line for line in lines if line.start.value is not None]
    rows = [
        (line.name, line.accounts, stage, *_ends(getattr(line, stage), signed=stage == "change"))
        for line in known
        for stage in ("start", "best", "change")
    ]
    heads = ["segment", "accounts", "", by_segment.objective, "from", "to"]
    table(heads, rows, title=f"The objective, with {100 * part.level:.5g}% intervals")
    gaps = (part.gap_start, part.gap_best)
    if None not in gaps:
        say(f"Gap between the best and the worst segment: {number(gaps[0])} -> {number(gaps[1])}.")
    binary = " (binary)" if by_segment.basis == BINARY else ""
    mark = {"logo_retention": "", "nrr": binary, "grr": binary}
    tiers = ("all", f"{by_segment.tier}, start", f"{by_segment.tier}, best")
    for key in ("logo_retention", "nrr", "grr"):
        head = HEADS[key]
        if all(line.retention[key].value is None for line in known):
            continue
        rows = [
            (line.name, tier, side[key].accounts, *map(_percent, _triple(side[key])))
            for line in known
            for tier, side in zip(tiers, (line.retention, line.at_start, line.at_best), strict=True)
        ]
        title = f"{head[0].upper()}{head[1:]}{mark[key]}, of all and of tier {by_segment.tier}"
        table(["segment", "tier", "accounts", head, "from", "to"], rows, title=title)


def _segments_sentence(part: SegmentPart) -> str:
    """Name all segments in a sentence, those that got worse first."""
    words = []
    for reading in ("worse", "better", "no proven change"):
        names = [line.name for line in part.lines if line.reading == reading]
        if names:
            words.append(f"{reading} in {', '.join(names)}")
    silent = [f"{x.name} ({x.change.reason})" for x in part.lines if x.reading == "unknown"]
    if silent:
        more = len(silent) - _SILENT_SHOWN
        rest = f" and {more:,} more, with --json" if more > 0 else ""
        words.append(f"unknown in {', '.join(silent[:_SILENT_SHOWN])}{rest}")
    return f"{'; '.join(words)}."


def _triple(interval: Interval) -> tuple[float | None, float | None, float | None]:
    return interval.value, interval.low, interval.high


def _ends(interval: Interval, *, signed: bool) -> list[str]:
    values = _triple(interval)
    return [f"{v:+.4f}" if signed and v is not None else number(v) for v in values]
