"""How many experiments a proposer needs: learned against random, cold and with a warm journal.

Run it from the checkout: ``python tests/benchmarks/proposers.py [FOLDER]``. The tables are the
three examples with the spec of each, and every Parquet file of the folder with the spec that
`init` writes. Each proposer searches each table cold, once a seed, with equal budgets. The
*ceiling* is the best value that any of all these runs found, which no guardrail blocked. Counted
are the experiments that were evaluated until the incumbent is within 0.001 of it. For *warm* each
seed starts from a journal with one finished run: `learned`, with a seed of its own and an eighth
of the budget.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gtmar import runs
from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.data import synthetic
from gtmar.data.scan import scan
from gtmar.journal.catalog import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gtmar.spec.model import ScoringSpec

EXAMPLES = Path(__file__).parents[2] / "examples"
#: How near the ceiling a run must come.
NEAR = 0.001
#: Seed of the run that a warm journal holds, and its experiments: as many as `gtmar run` does.
EARLIER, USUAL = 1_000, 2_000


@dataclass(frozen=True)
class Trace:
    """The wins of one run: experiments evaluated until then, and the objective."""

    counts: tuple[int, ...]
    values: tuple[float, ...]

    def reached(self, value: float) -> float:
        """Return after how many experiments the incumbent was this good; infinite if never."""
        pairs = zip(self.counts, self.values, strict=True)
        return next((count for count, got in pairs if got >= value), float("inf"))


def trace(journal: Path, run_id: str) -> Trace:
    """Read off the journal how a run's incumbent rose; `known` rows were not evaluated."""
    with Journal(journal) as opened:
        rows = opened.query(
            """
            select count, value_after
            from (
                select
                    number,
                    outcome,
                    value_after,
                    count(*) filter (outcome not in ('baseline', 'known'))
                        over (order by number) as count
                from experiments
                where run_id = getvariable('run')
            )
            where outcome in ('baseline', 'win')
            order by number
            """,
            run=run_id,
        )
    return Trace(tuple(rows["count"].to_list()), tuple(rows["value_after"].to_list()))


def tables(folder: Path | None) -> Iterator[tuple[str, Path, ScoringSpec]]:
    """Give each table's name, file and spec."""
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("health_score", "churn_risk", "icp_fit"):
            path = Path(scratch) / f"{kind}.parquet"
            synthetic.generate(kind).write_parquet(path)
            yield kind, path, specs.load(EXAMPLES / kind / "spec.yaml")
    for path in sorted(folder.glob("*.parquet")) if folder else ():
        yield path.stem, path, first_spec(scan(path)).spec


def searched(
    path: Path, spec: ScoringSpec, journal: Path, *, proposer: str, seed: int, n: int, cold: bool
) -> Trace:
    """Run once, and return how it went."""
    found = runs.run(
        path,
        spec,
        limits=runs.Limits(n),
        seed=seed,
        journal=journal,
        proposer=proposer,
        cold=cold,
    )
    return trace(journal, found.run_id)


def compared(path: Path, spec: ScoringSpec, *, seeds: int, n: int) -> dict[str, list[Trace]]:
    """Search a table by each proposer, cold and warm."""
    found: dict[str, list[Trace]] = {"random": [], "learned": [], "warm": []}
    with tempfile.TemporaryDirectory() as scratch:
        for proposer in ("random", "learned"):
            for seed in range(seeds):
                journal = Path(scratch) / f"{proposer}-{seed}"
                found[proposer].append(
                    searched(path, spec, journal, proposer=proposer, seed=seed, n=n, cold=True)
                )
        earlier = Path(scratch) / "earlier"
        searched(path, spec, earlier, proposer="learned", seed=EARLIER, n=USUAL, cold=True)
        for seed in range(seeds):
            journal = Path(scratch) / f"warm-{seed}"
            shutil.copytree(earlier, journal)
            found["warm"].append(
                searched(path, spec, journal, proposer="learned", seed=seed, n=n // 8, cold=False)
            )
    return found


def main() -> None:
    """Print a Markdown table: medians of experiments, and how many seeds came near the ceiling."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--n", type=int, default=4_000, help="budget of experiments")
    arguments = parser.parse_args()
    print(f"gtmar {version('gtmar')}, numpy {version('numpy')}, polars {version('polars')}\n")
    print("| table | ceiling | random | learned | ratio | warm | random: near | learned | warm |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, path, spec in tables(arguments.folder):
        found = compared(path, spec, seeds=arguments.seeds, n=arguments.n)
        ceiling = max(t.values[-1] for traces in found.values() for t in traces)
        counts = {k: [t.reached(ceiling - NEAR) for t in traces] for k, traces in found.items()}
        medians = {k: float(np.median(each)) for k, each in counts.items()}
        near = {k: int(np.isfinite(each).sum()) for k, each in counts.items()}
        shown = {k: f"{m:,.0f}" if np.isfinite(m) else "never" for k, m in medians.items()}
        ratio = medians["learned"] / medians["random"] if np.isfinite(medians["learned"]) else 1.0
        print(
            f"| {name} | {ceiling:.4f} | {shown['random']} | {shown['learned']} | {ratio:.2f} "
            f"| {shown['warm']} | {near['random']} | {near['learned']} | {near['warm']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
