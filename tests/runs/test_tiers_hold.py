"""A search doesn't win by moving accounts between tiers, and nothing that is said claims so.

A tier that shrinks keeps a better mean; where accounts move down, every tier's mean rises, though
not one account more is retained.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pages
import polars as pl
import pyarrow.parquet as pq
import pytest
import sized
from asked_once import asked_once
from blank_charts import blank_charts
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.scan import scan
from gtmar.engine.cohorts import cohorts_of
from gtmar.engine.local import LocalEvaluator
from gtmar.journal.files import RunFiles
from gtmar.journal.writer import RunWriter
from gtmar.objective.objective import Judge
from gtmar.optimize.hill_climb import Given
from gtmar.optimize.search_loop import Limits
from gtmar.runs.inputs import load
from gtmar.runs.journaled_search import Search, new_run_id, start_record
from gtmar.runs.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gtmar.data.matrix import AccountMatrix

TIERS = ("A", "B", "C", "D")


def telecom(n: int = 3_000, seed: int = 3) -> pl.DataFrame:
    """Accounts of a telecom company, who stay or leave; most columns are a word or two."""
    draw = np.random.default_rng(seed)
    contract = draw.choice(["monthly", "one year", "two years"], n, p=[0.55, 0.21, 0.24])
    months = np.where(
        contract == "monthly", draw.geometric(0.05, n).clip(1, 72), draw.integers(1, 73, n)
    )
    internet = draw.choice(["fiber", "dsl", "no"], n, p=[0.44, 0.34, 0.22])
    payment = draw.choice(["check", "mail", "transfer", "card"], n, p=[0.34, 0.23, 0.22, 0.21])
    shares = {"partner": 0.48, "security": 0.29, "support": 0.29, "paperless": 0.59, "senior": 0.16}
    flags = {name: draw.random(n) < share for name, share in shares.items()}
    charge = 20 + 50 * (internet == "fiber") + 28 * (internet == "dsl") + 25 * draw.random(n)
    pull = (
        -1.1
        + 1.5 * (contract == "monthly")
        - 1.3 * (contract == "two years")
        - 0.03 * months
        + 0.9 * (internet == "fiber")
        - 0.9 * (internet == "no")
        + 0.5 * (payment == "check")
        - 0.5 * flags["security"]
        - 0.4 * flags["support"]
        + 0.3 * flags["paperless"]
    )
    left = draw.random(n) < 1 / (1 + np.exp(-pull))
    return pl.DataFrame(
        {
            "account_id": [f"c{i:05d}" for i in range(n)],
            "contract": contract,
            "contract_months": months,
            "internet": internet,
            "payment": payment,
            **{name: np.where(flag, "Yes", "No") for name, flag in flags.items()},
            "mrr": charge.round(2),
            "retained_6mo": (~left).astype(int),
        }
    )


#: How `decide` ends where the incumbent is kept.
KEPT = 10


def ask(*words: str) -> str:
    answer = CliRunner().invoke(app, list(words))
    assert answer.exit_code in (0, KEPT) if words[0] == "decide" else not answer.exit_code, (
        answer.output
    )
    return answer.stdout


def facts(*words: str) -> Any:
    return json.loads(ask(*words, "--json"))


def readings(value: Any) -> Iterator[tuple[str, str]]:
    """Give what is called better or worse anywhere in an answer for programs."""
    if isinstance(value, dict):
        if value.get("reading") in ("better", "worse"):
            yield str(value.get("metric", value.get("name"))), value["reading"]
        for each in value.values():
            yield from readings(each)
    elif isinstance(value, list):
        for each in value:
            yield from readings(each)


def by_tier(found: Any) -> set[tuple[str, str]]:
    """Return metric and reading of a tier's metrics among what is called better or worse."""
    return {(name, word) for name, word in readings(found) if "_tier." in name}


@dataclass(frozen=True)
class Searched:
    """A run, its table, and the accounts that it searched and held out."""

    folder: Path
    run_id: str
    start: specs.ScoringSpec
    best: specs.ScoringSpec

    @property
    def journal(self) -> list[str]:
        return ["--journal", str(self.folder / "journal")]

    @property
    def parts(self) -> dict[str, AccountMatrix]:
        accounts, _ = load(scan(self.folder / "t.parquet"), self.start)
        assert accounts.holdout is not None
        return {"searched": accounts.search, "held_out": accounts.holdout}

    @property
    def rows(self) -> list[dict[str, Any]]:
        parts = RunFiles(self.folder / "journal", self.run_id).parts
        return [row for part in parts for row in pq.ParquetFile(part).read().to_pylist()]

    @property
    def end(self) -> dict[str, Any]:
        return pages.record_of(self.folder / "journal", self.run_id, "end")

    @property
    def equal_sizes(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.end["equal_sizes"])
        return found

    def page(self) -> str:
        path = self.folder / "page.html"
        with blank_charts():
            ask("report", self.run_id, "-o", str(path), "--force", *self.journal)
        return path.read_text("utf-8")


def search(folder: Path, spec: Path, *more: str, n: int) -> Searched:
    words = [
        "run",
        "--data",
        str(folder / "t.parquet"),
        "--spec",
        str(spec),
        "--n",
        str(n),
        "--folds",
        "0",
    ]
    best = folder / "best.yaml"
    words += ["-o", str(best), "--journal", str(folder / "journal"), *more]
    found = facts(*words)
    return Searched(folder, found["run_id"], specs.load(spec), specs.load(best))


@pytest.fixture(scope="module", params=["shares", "fixed edges"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The telecom case: from `init` to a run of so many experiments; and tiers of edges alone."""
    folder = tmp_path_factory.mktemp("telecom")
    telecom().write_parquet(folder / "t.parquet")
    spec = folder / "spec.yaml"
    ask("init", "--data", str(folder / "t.parquet"), "-o", str(spec))
    start = specs.load(spec)
    assert len({term.weight for term in start.terms}) == 1, "equal starting weights"
    assert [tier.share for tier in start.tiers.values()] == [0.25] * 4
    assert not start.guardrails
    if request.param == "fixed edges":
        bare = {n: t.model_copy(update={"share": None}) for n, t in start.tiers.items()}
        spec.write_text(specs.to_yaml(start.model_copy(update={"tiers": bare})), "utf-8")
    found = search(folder, spec, n=250)
    assert found.end["wins"] > 5
    return found


def sizes(row: dict[str, Any]) -> list[int]:
    return [dict(row["accounts_by_tier"])[tier] for tier in TIERS]


def reachable(matrix: AccountMatrix, spec: specs.ScoringSpec, weights: list[int]) -> list[int]:
    """Return how many accounts can lie above an edge, least first."""
    _, counts = np.unique(
        -LocalEvaluator(matrix, spec, threads=1).scores(weights), return_counts=True
    )
    return [0, *np.cumsum(counts).tolist()]


def test_sizes_hold_in_every_experiment_as_far_as_ties_allow(found: Searched) -> None:
    if not found.start.has_rule:
        moved = [sizes(row) for row in found.rows if row["outcome"] in ("baseline", "win")]
        quarter = sum(moved[0]) / 4
        assert max(abs(size - quarter) for size in moved[-1]) > quarter / 4, "the fault is there"
        return
    matrix = found.parts["searched"]
    names = [term.name for term in found.start.terms]
    kept = [row for row in found.rows if row["outcome"] in ("baseline", "win")]
    assert len(kept) > 6
    for row in kept:
        weights = dict(row["weights"])
        above = reachable(matrix, found.start, [weights[name] for name in names])
        steps = np.diff(above)
        reached = np.cumsum(sizes(row))[:-1].tolist()
        for number, count in enumerate(reached, 1):
            goal = matrix.accounts * number / 4
            off = abs(count - goal)
            assert off == min(abs(each - goal) for each in above)
            # Within an account, or within those who tie on the edge.
            at = above.index(count)
            assert off <= max(1, *steps[max(0, at - 1) : at + 1] / 2)
    # On the holdout edges are frozen: sizes are those of another draw of accounts.
    end = json.loads(found.end["holdout_best_metrics"])["share_by_tier"]
    assert max(abs(share - 0.25) for share in end.values()) < 0.05


@pytest.mark.slow
def test_metrics_of_tiers_that_are_called_better_or_worse_are_of_tiers_of_one_size(
    found: Searched,
) -> None:
    review = facts("review", found.run_id, *found.journal)
    start = [term.weight for term in found.start.terms]
    best = [found.best.weights[term.name] for term in found.start.terms]
    for part, matrix in found.parts.items():
        # The oracle: seats in the order of scores, as many a tier as at the start.
        measured = found.equal_sizes[part]
        evaluator = LocalEvaluator(matrix, found.start, threads=1)
        assert measured["tiers"] == list(TIERS)
        assert sum(measured["sizes"]) == matrix.accounts
        for side, weights in (("start", start), ("best", best)):
            shares = sized.memberships(evaluator.scores(weights).tolist(), measured["sizes"])
            kept = _retained(matrix)
            for tier, name in enumerate(TIERS):
                expected = sized.ratio(shares, tier, kept, [1] * matrix.accounts)
                value = measured[side][f"logo_retention_by_tier.{name}"]
                assert value == pytest.approx(expected, rel=1e-12)
        # What all keep is kept by any score: the mean over tiers is the same.
        means = [
            sum(
                size * measured[side][f"logo_retention_by_tier.{tier}"]
                for tier, size in zip(TIERS, measured["sizes"], strict=True)
            )
            for side in ("start", "best")
        ]
        assert means[0] == pytest.approx(means[1], rel=1e-12)
    searched = found.equal_sizes["searched"]
    for row in review["proxy_drift"]:
        name = row["metric"]
        if "_tier." in name and not name.startswith("share_by_tier."):
            assert row["start"] == searched["start"][name]
            assert row["best"] == searched["best"][name]
    called = by_tier(review)
    assert len({name.rpartition(".")[2] for name, _ in called}) <= 1, called


def _retained(matrix: AccountMatrix) -> list[int]:
    positives = cohorts_of(matrix).positives
    rows = range(matrix.accounts)
    return [int(positives.start <= row < positives.stop) for row in rows]


@pytest.mark.slow
def test_a_difference_calls_no_metric_of_a_tier_of_another_size_better(found: Searched) -> None:
    first, last = f"{found.run_id}/0", found.run_id
    for one, two in ((first, last), (last, first)):
        answer = facts("diff", one, two, *found.journal)
        kept = {row["experiment_id"]: sizes(row) for row in found.rows}
        before, after = kept["exp_00000"], kept[found.end["best_experiment"]]
        alike = {tier for tier, a, b in zip(TIERS, before, after, strict=True) if a == b}
        assert {name.rpartition(".")[2] for name, _ in by_tier(answer)} <= alike & {"A"}
        text = ask("diff", one, two, *found.journal)
        for line in text.splitlines():
            if "_by_tier" in line and ("better" in line or "worse" in line):
                assert line.split()[0].rpartition(".")[2] in alike


@pytest.mark.slow
def test_a_decision_compares_tiers_at_the_sizes_of_the_incumbent(
    found: Searched, tmp_path: Path
) -> None:
    answer = facts("decide", found.run_id, "-o", str(tmp_path / "decision"), *found.journal)
    held_out = found.equal_sizes["held_out"]
    for side, name in (("before", "start"), ("after", "best")):
        for metric, interval in answer["intervals"][side].items():
            if "_tier." in metric and not metric.endswith(".*"):
                assert interval["value"] == pytest.approx(held_out[name][metric], rel=1e-9)
    gains = answer["intervals"]["gain"]
    for tier in TIERS:
        assert gains[f"share_by_tier.{tier}"]["value"] == pytest.approx(0, abs=1e-9)
    # At equal sizes they can't all get better: what all keep is the same.
    for key in ("logo_retention_by_tier", "nrr_by_tier"):
        better = [t for t in TIERS if (gains[f"{key}.{t}"]["low"] or 0) > 0]
        assert len(better) < len(TIERS)
    assert set(answer["own_edges"]) == {"sizes", "before", "after"}, "no gain where sizes differ"
    moved = sum(answer["own_edges"]["sizes"]["before"])
    assert moved == sum(answer["own_edges"]["sizes"]["after"]) == answer["accounts"]
    report = (tmp_path / "decision" / "report.md").read_text("utf-8")
    of_these = r"\d+% of these accounts(, with \d+% of the MRR,)? change tier; "
    assert re.search(f"{of_these}tiers by their own edges: A ", report)
    own = report.partition("## Tiers by each score's own edges")[2].partition("\n## ")[0]
    assert "gain" not in own
    assert "better" not in own
    assert "worse" not in own


@pytest.mark.slow
def test_a_page_reads_metrics_of_tiers_at_one_size(found: Searched) -> None:
    html = found.page()
    values = pages.values_in(html)
    seen = 0
    for key, shown in values.items():
        group, _, name = key.partition(".")
        metric, _, side = name.rpartition(".")
        if group not in ("drift", "revenue") or "_tier." not in metric or side == "change":
            continue
        if side not in ("start", "best") or metric.startswith("share_by_tier."):
            continue
        part = "searched" if group == "drift" else "held_out"
        expected = found.equal_sizes[part][side][metric]
        assert all(pages.agrees(each, expected) for each in shown), key
        seen += 1
    assert seen > 30
    text = re.sub(r"<[^>]+>", " ", html)
    for said in re.findall(r"better beyond chance in: (.*?)\.", text):
        for kind in ("Logos kept", "NRR", "GRR"):
            assert not all(f"{kind}, tier {tier}" in said for tier in TIERS), said
    own = html.partition("By each score's own edges")[2].partition("</table>")[0]
    assert own
    assert not re.search(r"better|worse", own)


# ---- a tier's metric as the objective ---------------------------------------------------------


def noise(n: int = 2_000, seed: int = 1) -> pl.DataFrame:
    """Accounts that stay, and grow, whatever their features are."""
    draw = np.random.default_rng(seed)
    stayed = draw.random(n) < 0.75
    mrr = draw.lognormal(4, 1, n).round(2)
    return pl.DataFrame(
        {
            "account_id": [f"n{i:05d}" for i in range(n)],
            **{f"x{i}": draw.random(n).round(2) for i in range(5)},
            "mrr": mrr,
            "mrr_end": np.where(stayed, (mrr * draw.choice([0.8, 1, 1.3], n)).round(2), 0.0),
            "retained_6mo": stayed.astype(int),
        }
    )


def wholesaler(n: int = 2_000, seed: int = 2) -> pl.DataFrame:
    """Buyers of a wholesaler: few large ones, most small; orders tell who comes back."""
    draw = np.random.default_rng(seed)
    orders = draw.geometric(0.25, n).clip(1, 40)
    recency = draw.integers(0, 180, n)
    stayed = draw.random(n) < 1 / (1 + np.exp(-(0.5 + 0.12 * orders - 0.014 * recency)))
    mrr = (orders * draw.lognormal(3, 1, n)).round(2)
    return pl.DataFrame(
        {
            "account_id": [f"w{i:05d}" for i in range(n)],
            "orders": orders,
            "recency": recency,
            "lines": draw.integers(1, 9, n),
            "discount": draw.random(n).round(2),
            "mrr": mrr,
            "mrr_end": np.where(stayed, (mrr * draw.lognormal(0, 0.5, n)).round(2), 0.0),
            "retained_6mo": stayed.astype(int),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rule", "objective"),
    # Any two of a table, a rule and an objective meet.
    [
        ("noise", "shares", "nrr_by_tier.A"),
        ("noise", "fixed edges", "logo_retention_by_tier.A"),
        ("wholesaler", "shares", "logo_retention_by_tier.A"),
        ("wholesaler", "fixed edges", "nrr_by_tier.A"),
    ],
)
def test_a_tier_gains_nothing_by_shrinking(
    kind: str, rule: str, objective: str, tmp_path: Path
) -> None:
    {"noise": noise, "wholesaler": wholesaler}[kind]().write_parquet(tmp_path / "t.parquet")
    spec = tmp_path / "spec.yaml"
    ask("init", "--data", str(tmp_path / "t.parquet"), "--tiers", "20,30,30,20", "-o", str(spec))
    start = specs.load(spec)
    if rule == "fixed edges":
        bare = {n: t.model_copy(update={"share": None}) for n, t in start.tiers.items()}
        start = start.model_copy(update={"tiers": bare})
        spec.write_text(specs.to_yaml(start), "utf-8")
    found = search(tmp_path, spec, "--metric", objective, n=100)
    end, measured = found.end, found.equal_sizes
    # The gain on the holdout is that at the start's sizes.
    for side, name in (("baseline", "start"), ("best", "best")):
        assert end[f"holdout_{side}_value"] == measured["held_out"][name][objective]
    gain = end["holdout_best_value"] - end["holdout_baseline_value"]
    kept = [row for row in found.rows if row["outcome"] in ("baseline", "win")]
    if rule == "shares":
        # As searched too: the tier keeps its size, so nothing else can be gained.
        sized_ = measured["searched"]["best"][objective] - measured["searched"]["start"][objective]
        whole_gain = end["best_value"] - end["baseline_value"]
        ties = sizes(kept[-1])[0] - sizes(kept[0])[0]
        tolerance = 1e-12 if not ties else 0.02
        assert whole_gain == pytest.approx(sized_, abs=tolerance)
        assert abs(ties) < 0.01 * sum(sizes(kept[0]))
    else:
        review = facts("review", found.run_id, *found.journal)
        shrunk = sizes(kept[-1])[0] != sizes(kept[0])[0]
        said = [line for line in review["verdict"] if line.startswith("Tier A went from")]
        assert len(said) == shrunk
        if shrunk:
            one, two = (measured["searched"][side][objective] for side in ("start", "best"))
            assert said[0].endswith(f"by either score: {one:.4f} -> {two:.4f} ({two - one:+.4f}).")
    decision = facts("decide", found.run_id, *found.journal)
    before, after = (decision["intervals"][side][objective] for side in ("before", "after"))
    assert after["value"] - before["value"] == pytest.approx(gain, abs=1e-9)
    if kind != "noise":
        return
    assert decision["verdict"] == "KEEP_INCUMBENT"
    # The page has the same: where the search never looked, the tier has its size.
    for key, shown in pages.values_in(found.page()).items():
        for side, name in (("holdout_start", "start"), ("holdout_best", "best")):
            if key == f"unseen.{objective}.{side}":
                expected = measured["held_out"][name][objective]
                assert all(pages.agrees(each, expected) for each in shown), key


# ---- the same score on another scale ----------------------------------------------------------


def scaled_table(n: int = 1_500) -> pl.DataFrame:
    """Values of two digits, so that a score of whole weights is the same order at any scale."""
    draw = np.random.default_rng(8)
    features = {f"x{i}": draw.integers(0, 101, n) / 100 for i in range(3)}
    pull = 3 * features["x0"] + features["x1"] - 1
    stayed = draw.random(n) < 1 / (1 + np.exp(-pull))
    mrr = draw.integers(1, 200, n).astype(float)
    return pl.DataFrame(
        {
            "account_id": [f"s{i:05d}" for i in range(n)],
            **features,
            "mrr": mrr,
            "mrr_end": np.where(stayed, mrr * draw.choice([0.5, 1, 2], n), 0),
            "retained_6mo": stayed.astype(int),
        }
    )


def scaled_spec(weights: tuple[int, ...], tiers: dict[str, Any], **more: Any) -> specs.ScoringSpec:
    return specs.ScoringSpec.model_validate(
        {
            "model": "scaled",
            "id": "account_id",
            "features": {
                f"x{i}": {"weight": weight, "min": 0, "max": 90} for i, weight in enumerate(weights)
            },
            "tiers": tiers,
            **more,
        }
    )


EDGES = {
    name: {"min": low, "max": high}
    for name, low, high in (("A", 26, 101), ("B", 20, 26), ("C", 14, 20), ("D", 0, 14))
}
SHARES = {name: {"share": 0.25} for name in TIERS}
WEIGHTS = (20, 12, 8)
UP, DOWN = (25, 15, 10), (15, 9, 6)


def searched_once(folder: Path, spec: specs.ScoringSpec, other: tuple[int, ...]) -> str:
    """Journal a search that tries one vector, the same score on another scale; return its id."""
    accounts, _ = load(scan(folder / "t.parquet"), spec)
    plan = Plan(limits=Limits(1), given=Given("human", (other,)))
    once = Search(accounts, spec, Judge.of(spec), plan)
    with RunWriter(folder / "journal", new_run_id()) as writer:
        return once.run(writer, start=start_record(once)).run_id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tiers", "other", "objective"),
    [
        # What no edge enters into doesn't know in which direction a scale goes.
        (EDGES, UP, "auc_roc_retain"),
        *product([EDGES], [UP, DOWN], ["nrr_by_tier.A", "nrr_by_tier.D"]),
        # Where tiers keep their sizes nothing moves, so that a scale of each tier is enough.
        (SHARES, DOWN, "nrr_by_tier.A"),
        (SHARES, UP, "nrr_by_tier.D"),
    ],
)
def test_a_score_times_a_constant_changes_no_verdict(
    tiers: dict[str, Any], other: tuple[int, ...], objective: str, tmp_path: Path
) -> None:
    scaled_table().write_parquet(tmp_path / "t.parquet")
    spec = scaled_spec(WEIGHTS, tiers, objective=objective)
    (tmp_path / "spec.yaml").write_text(specs.to_yaml(spec), "utf-8")
    journal = ["--journal", str(tmp_path / "journal")]
    run_id = searched_once(tmp_path, spec, other)
    searched = Searched(tmp_path, run_id, spec, spec)
    first, second = searched.rows
    moved = sizes(first) != sizes(second)
    assert moved == (tiers is EDGES)

    difference = facts("diff", f"{run_id}/0", f"{run_id}/1", *journal)
    review = facts("review", run_id, *journal)
    assert by_tier(difference) == set()
    assert by_tier(review) == set()
    if not moved:
        assert second["outcome"] == "lose"
        assert first["value_before"] is None
        changed = {row["metric"] for row in difference["metrics"]}
        assert not {name for name in changed if "_tier." in name}, "not one by-tier metric moves"
        return

    # Whatever its own edges did, at the start's sizes nothing came of it.
    text = ask("review", run_id, *journal)
    if review["improved"]:
        [sentence] = [line for line in review["verdict"] if line.startswith("Tier ")]
        assert sentence.endswith("(+0.0000).")
        assert review["held_on_holdout"] is False
        assert "The gain did not hold on the " in text
        assert "accounts that the search never saw: keep the spec." in text
        with asked_once("decide_on"):
            decision = facts("decide", run_id, *journal)
            said = ask("decide", run_id, *journal)
        assert decision["verdict"] == "KEEP_INCUMBENT"
        for metric, gain in decision["intervals"]["gain"].items():
            assert gain["value"] in (None, 0), metric
        assert " change tier; tiers by their own edges: A " in said
        page = searched.page()
        lines = [row for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if "tier" in row]
        assert not [row for row in lines if re.search(r'class="(better|worse)"', row)]
        assert "better beyond chance in" not in page
    else:
        assert second["outcome"] in ("lose", "blocked")


@pytest.mark.slow
def test_an_existing_score_on_another_scale_is_no_better(tmp_path: Path) -> None:
    table = scaled_table()
    spec = scaled_spec(WEIGHTS, EDGES, split={"holdout": 0})
    today = sum(
        (table[f"x{i}"] * weight for i, weight in enumerate(UP)), pl.Series([0.0] * table.height)
    )
    table.with_columns(today=today.round(2)).write_parquet(tmp_path / "t.parquet")
    found = runs.backtest(
        tmp_path / "t.parquet",
        score_column="today",
        spec=spec,
        tiers={name: tier["min"] for name, tier in EDGES.items()},
        journal=tmp_path / "journal",
    )
    for metric, gain in found.intervals.gain.items():
        assert gain.value is None or gain.value == pytest.approx(0, abs=1e-9), metric
