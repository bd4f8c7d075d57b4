"""Tiers that hold their size: what a search does to them on real tables, and what the rule costs.

Run it from the checkout with the tables' folder: ``python tests/benchmarks/tiers.py FOLDER``. Every
Parquet file in it is profiled, searched for 2,000 experiments with seed 0, once with the shares
that ``gtmar init`` writes and once with the same edges and no rule, and measured on its holdout.
``--only throughput`` times searches over a generated table, rounds of both kinds of tiers
alternating in one process.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gtmar import runs
from gtmar import spec as specs
from gtmar.autospec.first_spec import first_spec
from gtmar.data import synthetic
from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.engine.cohorts import cohorts_of
from gtmar.engine.equal_sizes import SizedTiers, tier_sizes
from gtmar.engine.local import LocalEvaluator
from gtmar.runs.bench import Track
from gtmar.stats.interval import from_normal, from_proportion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gtmar.data.matrix import AccountMatrix

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "examples" / "health_score" / "spec.yaml"
SHARES = (0.25, 0.25, 0.25, 0.25)
#: Accounts, and experiments of a round.
SIZES = ((5_000, 2_000), (1_000_000, 100))
#: Least share of the experiments a second that tiers by a rule may leave.
BAR = 0.85


def caught(
    matrix: AccountMatrix, spec: specs.ScoringSpec, weights: Sequence[int], sizes: Sequence[int]
) -> np.ndarray:
    """Say of each account that left how much of it the lowest tier takes, at given sizes."""
    cut = SizedTiers.of(LocalEvaluator(matrix, spec).scores(weights), sizes)
    lowest = (cut.overlap[:, -1] / cut.counts)[cut.rows]
    return np.asarray(lowest[cohorts_of(matrix).negatives])


def line(path: Path, spec: specs.ScoringSpec, experiments: int, kind: str) -> str:
    """Search one table, and return its row."""
    with tempfile.TemporaryDirectory() as journal:
        found = runs.run(path, spec, limits=runs.Limits(experiments), journal=journal)
    held = load_accounts(scan(path), spec).holdout
    if held is None or found.holdout is None:
        raise SystemExit(f"{path}: no holdout")
    sides = [[s.weights[term.name] for term in spec.terms] for s in (spec, found.spec)]
    shown, frozen = [], (spec, found.spec)
    for own, weights in zip(frozen, sides, strict=True):
        shown.append("/".join(f"{size:,}" for size in tier_sizes(held, own, weights)))
    # At the sizes of the start by either score.
    sizes = tier_sizes(held, spec, sides[0])
    before, after = (caught(held, spec, weights, sizes) for weights in sides)
    left = len(before)
    shares = [from_proportion(float(side.sum()), left, level=0.95) for side in (before, after)]
    change = after - before
    spread = float(change.std(ddof=1)) / left**0.5
    gain = from_normal(float(change.mean()), spread, level=0.95, accounts=left)
    worded = [f"{x.value:.1%} ({x.low:.1%} to {x.high:.1%})" for x in shares]
    auc = [found.holdout[f"{side}metrics"]["auc_roc_retain"] for side in ("baseline_", "")]
    return (
        f"| {path.stem} | {kind} | {held.accounts:,} | {shown[0]} | {shown[1]} "
        f"| {worded[0]} | {worded[1]} | {gain.value:+.1%} ({gain.low:+.1%} to {gain.high:+.1%}) "
        f"| {auc[0]:.4f} | {auc[1]:.4f} |"
    )


def real_tables(folder: Path, experiments: int) -> None:
    """Print a Markdown table of what a search does to tiers."""
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        print(f"skipped: no Parquet file in {folder}")
        return
    print(
        "| table | tiers | held out | sizes A/B/C/D: start | best "
        "| leavers in D, equal size: start | best | gain | AUC: start | best |"
    )
    print("| --- | --- | ---: | ---: | ---: | --- | --- | --- | ---: | ---: |")
    for path in paths:
        spec = first_spec(scan(path)).spec
        print(line(path, spec, experiments, "shares"), flush=True)
        print(line(path, without_rule(spec), experiments, "edges"), flush=True)


def without_rule(spec: specs.ScoringSpec) -> specs.ScoringSpec:
    """Return a spec whose tiers have their edges alone."""
    bare = {name: tier.model_copy(update={"share": None}) for name, tier in spec.tiers.items()}
    return spec.model_copy(update={"tiers": bare})


def throughput(rounds: int) -> None:
    """Print experiments a second by either kind of tiers, and the ratio of processor time."""
    print("| accounts | experiments/s by edges | by shares | by processor time | bar |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for accounts, experiments in SIZES:
        table = synthetic.generate("health_score", accounts=accounts)
        spec = specs.load(SPEC)
        edges = without_rule(spec)
        pairs = zip(spec.tier_names, SHARES, strict=True)
        tiers = {n: edges.tiers[n].model_copy(update={"share": s}) for n, s in pairs}
        tracks = [Track(table, edges.model_copy(update={"tiers": t})) for t in (edges.tiers, tiers)]
        del table
        rates, cpu = np.zeros(2), np.full(2, np.inf)
        for number in range(rounds + 1):
            for side, track in enumerate(tracks):
                rate = track.round(experiments)
                # The first round loads machine code.
                if number:
                    rates[side] = max(rates[side], rate)
                    cpu[side] = min(cpu[side], track.cpu_seconds)
        print(
            f"| {accounts:,} | {rates[0]:,.0f} | {rates[1]:,.0f} | {cpu[0] / cpu[1]:.2f} "
            f"| {BAR:.2f} |",
            flush=True,
        )


def main() -> None:
    """Print one or both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", choices=("tables", "throughput"))
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.only != "throughput":
        real_tables(arguments.folder, arguments.n)
    if arguments.only != "tables":
        throughput(arguments.rounds)


if __name__ == "__main__":
    main()
