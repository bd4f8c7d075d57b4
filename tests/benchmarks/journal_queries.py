"""Queries over a journal of 1,000 runs and 2,000,000 experiments, on the clock.

Run it from the checkout: ``python tests/benchmarks/journal_queries.py``. One real run of 2,000
experiments is made; the others are copies of it, written by the same writer, each with an id,
times, weights and values of its own, over four tables in turn. Every round opens the journal anew,
as a command does, and asks one question. ``--journal DIR`` keeps the journal, and takes it as it is
where it is there.

``--commands`` times whole processes in place of questions, in turn: commands that read, a cold and
a warm run, ``verify``, and last ``compact``; those that write do so on a copy. With ``--before``,
those that read are held against another checkout's, in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gtmar import runs, spec
from gtmar.data import synthetic
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.files import RunFiles
from gtmar.journal.front import front
from gtmar.journal.writer import RunWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKOUT = Path(__file__).parents[2]
SPEC = CHECKOUT / "examples" / "health_score" / "spec.yaml"
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
TABLES = 4
AUTHORS = ("RevOps", "CS operations", "Analytics")
#: Seconds that a question may take, the opening of the journal included.
BARS = {"review": 1.0, "leaderboard": 3.0}
#: Seconds that a command may take, Python's start and all imports included.
COMMAND_BAR = 0.5


def copied(rows: pa.Table, run_id: str, place: int) -> pa.Table:
    """Return a run's rows as those of another run: other id, times, weights and values."""
    weights = rows["weights"].combine_chunks()
    items = weights.items.to_numpy().reshape(len(weights), -1).copy()
    items[:, -1] += place
    moved = pa.MapArray.from_arrays(weights.offsets, weights.keys, pa.array(items.reshape(-1)))
    values = {
        name: pc.add(rows[name], place * 1e-7)
        for name in ("value_before", "value_after", "auc_roc_retain", "auc_roc_churn")
    }
    columns = {
        "run_id": pa.array([run_id] * len(rows)),
        "weights": moved,
        "evaluated_at": pc.add(rows["evaluated_at"], pa.scalar(timedelta(hours=place))),
        **values,
    }
    for name, column in columns.items():
        field = rows.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, column)
    return rows


def write_journal(folder: Path, *, count: int, experiments: int) -> None:
    """Write `count` runs, and an event for every fifth of them."""
    table = synthetic.generate("health_score", accounts=1_000)
    with tempfile.TemporaryDirectory() as scratch:
        found = runs.run(table, SPEC, limits=runs.Limits(experiments), journal=scratch)
        files = RunFiles(Path(scratch), found.run_id)
        start, end = files.record("start"), files.record("end")
        parts = [pq.read_table(part, partitioning=None) for part in files.parts]
    parts = [part.replace_schema_metadata(None) for part in parts]
    for place in range(count):
        at = BEGUN + timedelta(hours=place)
        run_id = f"r{at:%Y%m%d-%H%M%S}-{place:06x}"
        table_mark = ("", "1", "2", "3")[place % TABLES]
        own: dict[str, Any] = {
            "started_at": at,
            "author": AUTHORS[place % len(AUTHORS)],
            "outcomes_fingerprint": start["outcomes_fingerprint"] + table_mark,
            "features_fingerprint": start["features_fingerprint"] + table_mark,
        }
        with RunWriter(folder, run_id) as writer:
            for number, part in enumerate(parts):
                writer.append(copied(part, run_id, place))
                writer.flush()
                if number == 0:
                    writer.record("start", {**start, **own, "run_id": run_id})
            ended = {
                "ended_at": at + timedelta(seconds=end["seconds"]),
                "digest": writer.digest.hexdigest(),
            }
            for name in ("baseline_value", "best_value"):
                ended[name] = end[name] + place * 1e-7
            writer.record("end", {**end, **ended, "run_id": run_id})
        if place % 5 == 0:
            write_event(
                folder,
                EventKind.PROMOTION,
                author=own["author"],
                note="best so far",
                since=at,
                model=start["model"],
                spec_id=start["spec_id"],
                score_id=start["score_id"],
                spec=spec.to_json(found.spec),
                run_id=run_id,
                experiment_id=end["best_experiment"],
            )


@contextlib.contextmanager
def journal_at(asked: Path | None, *, count: int, experiments: int) -> Iterator[Path]:
    """Give the journal: the one asked for, made where it isn't there, else one for the moment."""
    folder = asked.resolve() if asked else Path(tempfile.mkdtemp()) / "journal"
    if not folder.is_dir():
        began = time.perf_counter()
        write_journal(folder, count=count, experiments=experiments)
        print(f"Written in {time.perf_counter() - began:.0f} s.")
    try:
        yield folder
    finally:
        if asked is None:
            shutil.rmtree(folder.parent)


def questions(folder: Path) -> dict[str, Callable[[Journal], object]]:
    """Return what is asked, by the name of its query; none of it finds nothing."""
    with Journal(folder) as journal:
        ids = journal.query("select run_id from runs order by started_at")["run_id"]
        middle = ids[len(ids) // 2]
        best = journal.query(
            "select best_experiment from runs where run_id = getvariable('run')", run=middle
        ).item()
        ground = journal.query(
            "select outcomes_fingerprint, features_fingerprint, objective, tiers_id, "
            "evaluator_version from chosen_run"
        ).row(0, named=True)
    return {
        "(open the journal)": lambda journal: journal,
        "review": lambda journal: journal.sql("review", run=middle),
        "review, latest": lambda journal: journal.sql("review"),
        "leaderboard": lambda journal: journal.sql("leaderboard"),
        "leaderboard, nrr_by_tier.A": lambda journal: journal.sql(
            "leaderboard", metric="nrr_by_tier.A"
        ),
        "front, a run": lambda journal: front(journal, middle),
        "front, all runs of a table": lambda journal: front(journal, middle, whole_table=True),
        "log": lambda journal: journal.sql("log"),
        "decisions": lambda journal: journal.query("select count(*) from decisions", columns=()),
        "live": lambda journal: journal.sql("live"),
        "runs": lambda journal: journal.sql("runs"),
        "holdout_looks": lambda journal: journal.sql("holdout_looks"),
        "lineage": lambda journal: journal.sql("lineage", run=middle, experiment=best),
        "proxy_drift": lambda journal: journal.sql("proxy_drift", run=middle),
        "acceptance": lambda journal: journal.sql("acceptance"),
        "known_vectors": lambda journal: journal.sql("known_vectors", **ground, most=20_000),
    }


def processor_seconds(command: list[str], checkout: Path, **shell: str) -> tuple[float, float]:
    """Run a command of a checkout; return seconds on the clock, and those of processor time."""
    began = time.perf_counter()
    # Python's -m looks in the folder that it is run in first.
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=checkout,
        env={**os.environ, **shell},
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {said.decode()}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def compare(commands: dict[str, list[str]], program: list[str], before: Path, rounds: int) -> None:
    """Print a Markdown table: processor seconds of two checkouts, each with a cache of its own."""
    caches = {each: tempfile.mkdtemp() for each in (before, CHECKOUT)}
    print("| command | before | now | of before |")
    print("| --- | ---: | ---: | ---: |")
    for name, words in commands.items():
        pairs = [
            [
                processor_seconds([*program, *words], each, GTMAR_CACHE=cache)[1]
                for each, cache in caches.items()
            ]
            for _ in range(rounds + 1)
        ][1:]
        was, now = np.median(pairs, axis=0)
        share = np.median([b / a for a, b in pairs])
        print(f"| `{name}` | {was:.2f} | {now:.2f} | {share:.0%} |", flush=True)
    for cache in caches.values():
        shutil.rmtree(cache)


def time_commands(folder: Path, rounds: int, before: Path | None) -> None:
    """Print a Markdown table: what commands take, as whole processes, in alternating rounds.

    With another checkout, `before`, only those that read, of both in turn.
    """
    with Journal(folder) as journal:
        ids = journal.query("select run_id from runs order by started_at")["run_id"]
    middle = ids[len(ids) // 2]
    with tempfile.TemporaryDirectory() as scratch:
        data, copy = Path(scratch) / "accounts.parquet", Path(scratch) / "journal"
        synthetic.generate("health_score", accounts=1_000).write_parquet(data)
        shutil.copytree(folder, copy)
        run = ["run", "--data", str(data), "--spec", str(SPEC), "--n", "60", "--journal", str(copy)]
        at = ["--journal", str(folder)]
        commands = {
            "--version": ["--version"],
            "--help": ["--help"],
            "log": ["log", *at],
            "best": ["best", *at],
            "review": ["review", *at],
            "review RUN": ["review", middle, *at],
            "front RUN": ["front", middle, *at],
            "front RUN --all": ["front", middle, "--all", *at],
            "show RUN/EXP": ["show", f"{middle}/1", *at],
            "lineage RUN/EXP": ["lineage", f"{middle}/1", *at],
            "run --n 60 --cold": [*run, "--cold"],
            "run --n 60": run,
            "verify": ["verify", *at],
        }
        program = [sys.executable, "-m", "gtmar"]
        if before is not None:
            reading = {n: w for n, w in commands.items() if str(copy) not in w and n != "verify"}
            compare(reading, program, before, rounds)
            return
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, words in commands.items():
                took[name].append(processor_seconds([*program, *words], CHECKOUT))
        compact = [*program, "journal", "compact", "--journal", str(copy)]
        took["journal compact"] = [processor_seconds(compact, CHECKOUT)]
    print("| command | median s | best s | best processor s | bar s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, pairs in took.items():
        seconds, processor = zip(*pairs, strict=True)
        barred = name.split()[0] in ("log", "best", "review", "show", "lineage")
        print(
            f"| {name} | {np.median(seconds):.2f} | {min(seconds):.2f} | {min(processor):.2f} | "
            f"{f'{COMMAND_BAR:g}' if barred else ''} |"
        )


def main() -> None:
    """Print a Markdown table: each question's median and best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--experiments", type=int, default=2_000, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--commands", action="store_true", help="time whole processes")
    parser.add_argument("--before", type=Path, help="another checkout, whose commands are timed")
    asked = parser.parse_args()
    with journal_at(asked.journal, count=asked.runs, experiments=asked.experiments) as folder:
        files = list(folder.rglob("*.parquet"))
        size = sum(path.stat().st_size for path in files)
        print(
            f"gtmar {version('gtmar')}, duckdb {version('duckdb')}; {len(files):,} files, "
            f"{size / 1e6:,.0f} MB\n"
        )
        if asked.commands:
            time_commands(folder, asked.rounds, asked.before)
            return
        print("| question | median s | best s | bar s |")
        print("| --- | ---: | ---: | ---: |")
        for name, ask in questions(folder).items():
            took = []
            for _ in range(asked.rounds):
                began = time.perf_counter()
                with Journal(folder) as journal:
                    ask(journal)
                took.append(time.perf_counter() - began)
            bar = BARS.get(name.partition(",")[0])
            shown = "" if bar is None else f"{bar:g}"
            print(f"| {name} | {np.median(took):.2f} | {min(took):.2f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
