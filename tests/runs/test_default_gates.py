"""What a decision asks though nobody stated it, and that its first lines say why."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from asked_once import asked_once
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.errors import UsageError
from gtmar.journal.catalog import Journal
from gtmar.stats.interval import Interval, unknown
from gtmar.validation import gates as module
from gtmar.validation.gates import Gate, Gates, Grounds, Verdict, judged, reason_of
from gtmar.validation.intervals import uncertainty

if TYPE_CHECKING:
    from pathlib import Path

    from gtmar.validation.paired_scores import Panel

CAPTURE = "revenue_capture_at_20"


def table(n: int, seed: int, *, pulls: dict[str, float], **more: Any) -> pl.DataFrame:
    """Accounts that stay by what `pulls` say."""
    draw = np.random.default_rng([seed, n])
    features = {f"x{i}": draw.random(n) for i in range(4)}
    logit = sum((features[name] - 0.5) * pull for name, pull in pulls.items())
    plan = np.where(draw.random(n) < 0.4, "pro", "basic")
    if "pro" in more:
        logit = logit + np.where(plan == "pro", (features["x0"] - 0.5) * more["pro"], 0.0)
    return pl.DataFrame(
        {
            "account_id": [f"d{seed}-{i}" for i in range(n)],
            **features,
            "plan": plan,
            "tickets": draw.integers(0, 40, n),
            "mrr": (50 + 400 * draw.random(n) ** 3).round(2),
            "retained_6mo": (draw.random(n) < 1 / (1 + np.exp(-logit))).astype(int),
        }
    )


def plain(**more: Any) -> specs.ScoringSpec:
    weights = more.pop("weights", (10, 10, 10, 10))
    ends = more.pop("ends", (-25, 25))
    data: dict[str, Any] = {
        "model": "plain",
        "id": "account_id",
        "base": 30,
        "split": {"holdout": 0.4},
        "features": {
            f"x{i}": {"weight": w, "min": ends[0], "max": ends[1]} for i, w in enumerate(weights)
        },
        "tiers": {tier: {"share": 0.25} for tier in "ABCD"},
    }
    return specs.ScoringSpec.model_validate({**data, **more})


def decided(
    accounts: pl.DataFrame, spec: specs.ScoringSpec, journal: Path, **options: Any
) -> runs.Decided:
    found = runs.run(accounts, spec, limits=runs.Limits(120), journal=journal, cold=True)
    return runs.decide(found.run_id, data=accounts, journal=journal, **options)


def outcome_of(done: runs.Decided, name: str) -> str:
    [gate] = [gate for gate in done.gates if gate.name == name]
    return gate.outcome


def first_lines(done: runs.Decided, accounts: pl.DataFrame, folder: Path) -> list[str]:
    """What terminal, report and JSON begin with, as one text each."""
    path, journal = folder / "again.parquet", folder / "journal"
    accounts.write_parquet(path)
    words = ["decide", done.run_id, "--journal", str(journal), "--data", str(path)]
    with asked_once("decide_on"):
        shown = CliRunner().invoke(app, [*words, "-o", str(folder / "made")]).output
        given = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    report = (folder / "made" / "report.md").read_text("utf-8")
    return [
        "\n".join(shown.splitlines()[:3]),
        "\n".join(report.splitlines()[:3]),
        "\n".join([given["sentence"], *given["headline"][:2]]),
        done._repr_html_().partition("<table")[0],
    ]


# ---- level -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_candidate_that_is_upside_down_fails_and_is_said_first(tmp_path: Path) -> None:
    """Bounds keep the search from turning the score: it gains, and still ranks the wrong way."""
    accounts = table(3_000, 1, pulls={"x0": 5, "x1": 1})
    spec = plain(weights=(-20, -10, 5, 5), ends=(-25, 25)).model_dump(by_alias=True)
    spec["features"]["x0"] |= {"max": -18}
    journal = tmp_path / "journal"
    done = decided(accounts, specs.ScoringSpec.model_validate(spec), journal)
    assert outcome_of(done, "gain") == "passed", "better, from worse"
    assert outcome_of(done, "level") == "failed"
    assert done.verdict is Verdict.KEEP
    auc = done.intervals.after["auc_roc_retain"]
    assert auc.high is not None
    assert auc.high < 0.5
    for text in first_lines(done, accounts, tmp_path):
        assert "the candidate is upside down: of 100 pairs of a kept and a lost account" in text
        assert "so is the incumbent" in text


@pytest.mark.slow
def test_an_incumbent_that_is_upside_down_is_said_and_its_repair_is_ready(tmp_path: Path) -> None:
    accounts = table(3_000, 2, pulls={"x0": 4})
    done = decided(accounts, plain(weights=(-25, 0, 0, 0)), tmp_path)
    assert done.headline[0].startswith("The incumbent is upside down: of 100 pairs")
    # Turning the order round moves nearly everybody.
    assert done.moved / done.accounts > module.LEAST_MAX_MOVED
    [gate] = [gate for gate in done.gates if gate.name == "movement"]
    assert gate.limit == "at most 100.0% of accounts change tier, the incumbent being upside down"
    assert done.verdict is Verdict.READY
    gates = Gates(max_moved=0.5)
    stated = runs.decide(done.run_id, data=accounts, journal=tmp_path, gates=gates)
    assert outcome_of(stated, "movement") == "failed", "what somebody states holds"


@pytest.mark.slow
def test_nothing_found_from_an_upside_down_start_says_so_first(tmp_path: Path) -> None:
    accounts = table(2_000, 3, pulls={"x0": 4})
    found = runs.run(
        accounts, plain(weights=(-10, 5, 5, 5)), limits=runs.Limits(0), journal=tmp_path
    )
    done = runs.decide(found.run_id, data=accounts, journal=tmp_path)
    assert done.sentence.startswith("KEEP_INCUMBENT: the incumbent is upside down: of 100 pairs")
    assert done.sentence.endswith("; nothing better than the incumbent was found.")


@pytest.mark.slow
def test_a_level_far_below_the_promised_one_is_said(tmp_path: Path) -> None:
    train, later = (table(2_500, s, pulls={"x0": p}) for s, p in ((4, 6), (5, 1.5)))
    whole = plain(split={"holdout": 0}, weights=(2, 10, 10, 10))
    done = runs.refresh(train, later, whole, limits=runs.Limits(120), journal=tmp_path)
    [said] = [text for text in done.headline if text.startswith("Far from what the search")]
    assert f"{done.promised:.4g} on the accounts searched" in said
    assert done.verdict is Verdict.READY, "the gain is proven all the same"
    same = runs.refresh(
        train, table(2_500, 6, pulls={"x0": 6}), whole, limits=runs.Limits(120), journal=tmp_path
    )
    assert not [text for text in same.headline if text.startswith("Far from")]


# ---- movement --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_candidate_that_moves_nearly_everybody_fails_by_default(tmp_path: Path) -> None:
    accounts = table(3_000, 7, pulls={"x0": 6})
    journal = tmp_path / "journal"
    # By fixed edges: all are in the lowest tier, and whatever ranks better lifts them out of it.
    edges = {"A": {"min": 40, "max": 101}, "B": {"min": 0, "max": 40}}
    spec = plain(weights=(5, 5, 5, 5), tiers=edges).model_dump(by_alias=True)
    for name in ("x1", "x2", "x3"):
        spec["features"][name] |= {"weight": 1, "min": 1, "max": 1}
    spec["features"]["x0"] |= {"weight": 0, "min": 0, "max": 500}
    done = decided(accounts, specs.ScoringSpec.model_validate(spec), journal)
    assert done.moved / done.accounts > module.LEAST_MAX_MOVED
    assert done.moved_mrr is not None
    assert [g.name for g in done.gates if g.passed is False] == ["movement", "movement of MRR"]
    for text in first_lines(done, accounts, tmp_path):
        assert "of the accounts would change tier, 80.0% at most may" in text
    gates = Gates(max_moved=1.0)
    anyway = runs.decide(done.run_id, data=accounts, journal=journal, gates=gates)
    assert anyway.verdict is Verdict.READY
    assert anyway.as_json()["stated"]["max_moved"] == 1.0
    assert done.as_json()["stated"]["max_moved"] is None


@pytest.mark.slow
def test_the_share_of_mrr_that_moves_is_that_of_the_accounts_that_do(tmp_path: Path) -> None:
    accounts = table(2_000, 8, pulls={"x0": 4})
    done = decided(accounts, plain(), tmp_path)
    before, after = (runs.score(accounts, spec) for spec in (done.incumbent, done.candidate))
    session = import_module("gtmar.runs.session").ended_run(done.run_id, tmp_path, accounts)
    held = session.accounts.holdout
    assert held is not None
    # Which accounts are held out: those whose features and MRR the holdout has.
    cents = {
        (int(m), *(int(c[i]) for c in held.columns))
        for i, m in enumerate(held.start.tolist())
    }  # fmt: skip
    columns = [f"x{i}" for i in range(4)]
    keys = [
        (round(row["mrr"] * 100), *(int(np.floor(row[c] * 10_000 + 0.5)) for c in columns))
        for row in accounts.to_dicts()
    ]
    mine = pl.Series([key in cents for key in keys])
    assert mine.sum() == done.accounts
    moved = mine & (before["tier"] != after["tier"])
    assert moved.sum() == done.moved
    sums = [float(accounts["mrr"].filter(rows).sum()) for rows in (moved, mine)]
    share = sums[0] / sums[1]
    assert done.moved_mrr == pytest.approx(share, abs=1e-9)
    assert f" accounts, with {share:.0%} of the MRR, change tier; " in done.movement


# ---- segments --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_large_segment_that_nobody_asked_for_is_proven_lost_and_said(tmp_path: Path) -> None:
    accounts = table(5_000, 9, pulls={"x0": 5, "x1": 1}, pro=-9.0)
    done = decided(accounts, plain(), tmp_path / "journal")
    [failed] = [gate for gate in done.gates if gate.passed is False]
    assert failed.name == "segment plan=pro"
    assert done.segment_safety.startswith("failed in plan=pro (")
    for text in first_lines(done, accounts, tmp_path):
        assert "in plan=pro, 4" in text
        assert "of the accounts, auc_roc_retain gets worse (-0." in text
    # As an oracle would: the area in the segment, before and after.
    pro = accounts.filter(plan="pro")
    areas = [
        roc_auc_score(pro["retained_6mo"], runs.score(pro, spec)["score"])
        for spec in (done.incumbent, done.candidate)
    ]
    assert areas[1] < areas[0]


@pytest.mark.slow
def test_segments_that_nobody_asked_for_never_make_it_unverified(tmp_path: Path) -> None:
    accounts = table(2_500, 10, pulls={"x0": 4}).with_columns(
        # All stay in one of them, so that no order there is better: nothing can be measured, and
        # it is none of those that aren't proven worse, whose number sets the level.
        loyal=pl.col("retained_6mo") * (pl.int_range(pl.len()) % 2),
        size=pl.int_range(pl.len()) % 3,
        code=pl.int_range(pl.len()) % 13,
        day=pl.date(2026, 1, 1),
    )
    done = decided(accounts, plain(), tmp_path)
    assert done.verdict is Verdict.READY
    [gate] = [gate for gate in done.gates if gate.name == "large segments"]
    assert gate.outcome == "passed"
    # plan 2, loyal 2, size 3; thirteen codes and forty numbers of tickets are too many.
    told, silent = gate.found.split("; ")
    assert told == "none of the 6 large ones, by plan, loyal, size, is proven worse"
    assert silent.startswith("no interval in loyal=1 (one class only, ")
    assert "at 99.167%, 6 of them" in gate.limit
    assert done.segment_safety == f"not asked; {gate.found}"


@pytest.mark.slow
def test_an_asked_segment_is_not_asked_twice(tmp_path: Path) -> None:
    accounts = table(2_500, 11, pulls={"x0": 4})
    done = decided(accounts, plain(), tmp_path, gates=Gates(segments=("plan",)))
    names = [gate.name for gate in done.gates if "segment" in gate.name]
    assert names == ["segment plan=basic", "segment plan=pro"]


def test_outcomes_ids_and_dates_are_no_segments_and_features_may_be(tmp_path: Path) -> None:
    accounts = table(900, 12, pulls={"x0": 4}).with_columns(
        x3=(pl.col("x3") > 0.5).cast(pl.Int64), churned=1 - pl.col("retained_6mo")
    )
    found = runs.run(accounts, plain(), limits=runs.Limits(20), journal=tmp_path)
    session = import_module("gtmar.runs.session").ended_run(
        found.run_id, tmp_path, accounts, numbered=True
    )
    few = import_module("gtmar.runs.segments").columns_of_few_values(session.accounts, session.spec)
    assert few == ["x3", "plan"]


def test_large_is_by_accounts_or_by_mrr(tmp_path: Path) -> None:
    n = 2_000
    where = pl.int_range(pl.len())
    accounts = table(n, 18, pulls={"x0": 4}).with_columns(
        # A twelfth of the accounts each; those of "rich" pay ten times as much.
        group=pl.when(where % 12 == 0)
        .then(pl.lit("rich"))
        .when(where % 12 == 1)
        .then(pl.lit("poor"))
        .otherwise(pl.lit("many")),
    )
    accounts = accounts.with_columns(
        mrr=pl.col("mrr") * pl.when(group="rich").then(10).otherwise(1)
    )
    found = runs.run(accounts, plain(), limits=runs.Limits(20), journal=tmp_path)
    session = import_module("gtmar.runs.session").ended_run(
        found.run_id, tmp_path, accounts, numbered=True
    )
    segments = import_module("gtmar.runs.segments")
    parts = segments.with_segments(session.accounts, session.spec, ["group"], as_of=None)
    large = segments.large_segment_panels(parts.holdout, session.spec, [10] * 4, [5, 10, 10, 10])
    assert set(large) == {"group=rich", "group=many"}


# ---- no worse --------------------------------------------------------------------------------


def traded(n: int = 4_000, seed: int = 5) -> pl.DataFrame:
    accounts = table(n, seed, pulls={"x0": 5})
    return accounts.with_columns(mrr=(100 * (1.2 - pl.col("x0")) + 100 * pl.col("x1")).round(2))


@pytest.mark.slow
def test_a_metric_that_may_not_get_worse_is_a_gate_too(tmp_path: Path) -> None:
    accounts, journal = traded(), tmp_path / "journal"
    spec = plain(weights=(0, 20, 10, 10))
    free = decided(accounts, spec, journal)
    assert free.verdict is Verdict.READY
    assert free.sentence.endswith(", at a cost.")
    assert "the MRR that the best-scored fifth holds" in free.headline[0]
    gates = Gates(no_worse=(CAPTURE,))
    done = runs.decide(free.run_id, data=accounts, journal=journal, gates=gates)
    assert done.verdict is Verdict.KEEP
    assert outcome_of(done, f"no_worse {CAPTURE}") == "failed"
    assert done.sentence.startswith(f"KEEP_INCUMBENT: {CAPTURE} gets worse beyond chance (-0.")
    held = decided(accounts, plain(weights=(0, 20, 10, 10), no_worse=[CAPTURE]), tmp_path / "held")
    assert outcome_of(held, f"no_worse {CAPTURE}") == "passed"
    assert held.as_json()["stated"]["no_worse"] == (CAPTURE,)
    words = ["decide", free.run_id, "--journal", str(journal), "--no-worse", CAPTURE, "--json"]
    accounts.write_parquet(tmp_path / "a.parquet")
    shown = CliRunner().invoke(app, [*words, "--data", str(tmp_path / "a.parquet")])
    assert shown.exit_code == 10
    assert json.loads(shown.stdout)["sentence"] == done.sentence
    wrong = Gates(no_worse=("revenue_capture_at_2",))
    with pytest.raises(UsageError) as caught:
        runs.decide(free.run_id, data=accounts, journal=journal, gates=wrong)
    assert caught.value.hint == f'did you mean "{CAPTURE}"?'


@pytest.mark.slow
def test_refresh_searches_and_decides_with_it(tmp_path: Path) -> None:
    spec = plain(split={"holdout": 0}, weights=(0, 20, 10, 10))
    done = runs.refresh(
        traded(1_500, 1),
        traded(1_500, 2),
        spec,
        limits=runs.Limits(60),
        journal=tmp_path,
        gates=Gates(no_worse=(CAPTURE,)),
    )
    assert done.incumbent.no_worse == (CAPTURE,)
    assert f"no_worse {CAPTURE}" in [gate.name for gate in done.gates]
    with Journal(tmp_path) as opened:
        blocked = opened.query("select count(*) as n from experiments where outcome = 'blocked'")
    assert blocked["n"].item() > 0


# ---- in words --------------------------------------------------------------------------------


@pytest.mark.slow
def test_leaks_and_copies_are_in_the_first_three_lines(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    accounts = table(2_000, 13, pulls={"x0": 4})
    told = pl.col("retained_6mo") * 0.9 + pl.Series(draw.random(2_000) * 0.5)
    leaky = accounts.with_columns(exit_survey=told)
    feature = {"weight": 5, "min": -25, "max": 25}
    data = plain().model_dump(by_alias=True)
    data["features"]["exit_survey"] = feature
    done = decided(leaky, specs.ScoringSpec.model_validate(data), tmp_path / "journal")
    assert done.verdict is Verdict.UNVERIFIED
    for text in first_lines(done, leaky, tmp_path):
        assert "exit_survey seems to know the outcome" in text.replace("&quot;", '"')
    folder = tmp_path / "copied"
    folder.mkdir()
    copied = pl.concat([accounts.head(400)] * 4).with_columns(
        account_id=pl.format("c{}", pl.int_range(pl.len()))
    )
    done = decided(copied, plain(), folder / "journal")
    for text in first_lines(done, copied, folder):
        assert "repeat another one" in text


@pytest.mark.slow
def test_all_blocked_is_said_as_that(tmp_path: Path) -> None:
    spec = plain(guardrails=[{"metric": "gain", "min": 0.9}])
    accounts = table(900, 14, pulls={"x0": 4})
    done = decided(accounts, spec, tmp_path)
    assert done.verdict is Verdict.KEEP
    assert done.sentence.startswith("KEEP_INCUMBENT: no experiment of 120 was kept: ")
    assert "were better than the baseline's auc_roc_retain" in done.sentence
    assert "broke a guardrail: gain min 0.9 (" in done.sentence
    assert done.sentence.endswith(").")


@pytest.mark.slow
def test_the_decision_s_event_has_the_sentence_and_the_causes(tmp_path: Path) -> None:
    accounts = table(1_500, 15, pulls={"x0": 4})
    done = decided(accounts, plain(), tmp_path)
    with Journal(tmp_path) as opened:
        [text] = opened.query("select details from events where kind = 'decision'")["details"]
    details = json.loads(text)
    assert details["sentence"] == done.sentence
    assert details["headline"] == done.headline
    assert all(gate["cause"] == "" for gate in details["gates"] if gate["outcome"] == "passed")


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Grounds:
    """What one decision rested on."""
    caught: list[Grounds] = []
    decide = import_module("gtmar.runs.decide")
    folder = tmp_path_factory.mktemp("grounds")

    def keep(of: Grounds) -> tuple[Gate, ...]:
        caught.append(of)
        return judged(of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide, "judged", keep)
        decided(table(1_500, 16, pulls={"x0": 4}), plain(), folder)
    return caught[0]


def named(gates: tuple[Gate, ...]) -> dict[str, bool | None]:
    return {gate.name: gate.passed for gate in gates}


def test_no_worse_is_unknown_without_an_interval_and_knows_what_less_is(
    grounds: Grounds,
) -> None:
    lower = "contraction_rate_by_tier.A"
    held = replace(grounds, gates=Gates(no_worse=(CAPTURE, lower)))
    none = unknown(0.1, level=0.95, accounts=9, reason="too few: 9 accounts")

    def asked(capture: Interval, less: Interval) -> tuple[Gate, ...]:
        gain = {**grounds.intervals.gain, CAPTURE: capture, lower: less}
        return judged(replace(held, intervals=replace(grounds.intervals, gain=gain)))

    up, down = Interval(0.2, 0.1, 0.3, 0.95, 99), Interval(-0.2, -0.3, -0.1, 0.95, 99)
    found = named(asked(none, up))
    assert found[f"no_worse {CAPTURE}"] is None
    assert found[f"no_worse {lower}"] is False
    found = named(asked(up, down))
    assert (found[f"no_worse {CAPTURE}"], found[f"no_worse {lower}"]) == (True, True)
    reason = reason_of([gate for gate in asked(none, down) if gate.passed is not True])
    assert reason == f"whether {CAPTURE} got worse is unknown"


def test_movement_stands_at_its_limit_and_falls_beyond(grounds: Grounds) -> None:
    sizes = np.bincount(grounds.panel.before.tiers) / grounds.panel.accounts
    most = 1 - float((sizes**2).sum()) / 2
    assert most == pytest.approx(0.875, abs=0.01)
    for accounts, mrr, passed in (
        (most - 1e-9, most - 1e-9, {"movement": True, "movement of MRR": True}),
        (most + 1e-9, 0.1, {"movement": False, "movement of MRR": True}),
        (0.1, most + 1e-9, {"movement": True, "movement of MRR": False}),
        (0.1, None, {"movement": True}),
    ):
        found = named(judged(replace(grounds, moved=accounts, moved_mrr=mrr)))
        assert {k: v for k, v in found.items() if k.startswith("movement")} == passed


def test_a_first_line_gives_three_reasons_and_counts_the_others() -> None:
    gates = [Gate(f"g{i}", "", "", passed=False, cause=f"cause {i}") for i in range(5)]
    assert reason_of(gates) == "cause 0; cause 1; cause 2; and 2 more"
    assert reason_of([Gate("g", "", "", passed=True)]) is None


def test_many_large_segments_share_one_level(grounds: Grounds) -> None:
    """A loss that is proven alone is not where it is one of forty, unless it is beyond chance."""
    panel = grounds.panel
    worse = replace(panel, before=panel.after, after=panel.before)
    order = np.random.default_rng(0).permutation(panel.accounts)

    def proven(part: Panel, level: float) -> bool:
        found = uncertainty(part, level=level, metrics={"auc_roc_retain"})
        return found.gain["auc_roc_retain"].below_zero

    parts = (worse.part(np.isin(np.arange(panel.accounts), order[:k])) for k in range(60, 500, 5))
    near = next(p for p in parts if proven(p, 0.95) and not proven(p, 1 - 0.05 / 40))
    alone = judged(replace(grounds, large={"c=0": near}))
    assert named(alone)["segment c=0"] is False
    others = {f"c={i}": panel for i in range(1, 40)}
    assert named(judged(replace(grounds, large={"c=0": near, **others})))["large segments"] is True
    lost = named(judged(replace(grounds, large={"c=0": worse, **others})))
    assert lost["segment c=0"] is False
    assert "large segments" not in lost


def test_a_loss_that_drawing_proves_is_proven_without_drawing(grounds: Grounds) -> None:
    """So that most segments need no draws: the drawn interval holds the other one."""
    checked = 0
    order = np.random.default_rng(1).permutation(grounds.panel.accounts)
    for first in range(0, 480, 60):
        rows = np.isin(np.arange(len(order)), order[first : first + 60 + first])
        part = grounds.panel.part(rows)
        plain_ends, drawn = (
            uncertainty(part, level=0.9, replicates=draws, metrics={CAPTURE}).gain[CAPTURE]
            for draws in (0, 300)
        )
        if plain_ends.low is None or drawn.low is None:
            continue
        checked += 1
        assert plain_ends.high is not None
        assert drawn.high is not None
        assert drawn.low <= plain_ends.low + 1e-12
        assert drawn.high >= plain_ends.high - 1e-12
    assert checked >= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "tiers", [None, {"A": {"min": 45, "max": 101}, "B": {"min": 0, "max": 45}}]
)
def test_an_objective_of_a_tier_is_compared_with_what_was_promised_as_it_was_measured(
    tiers: dict[str, Any] | None, tmp_path: Path
) -> None:
    more: dict[str, Any] = {} if tiers is None else {"tiers": tiers}
    spec = plain(objective="logo_retention_by_tier.A", weights=(2, 10, 10, 10), **more)
    done = decided(table(2_500, 17, pulls={"x0": 6}), spec, tmp_path)
    assert done.promised is not None
    assert done.level_sentence == []
    assert done.sentence.startswith(str(done.verdict))
    vain = replace(done, promised=done.promised + 0.5)
    [said] = vain.level_sentence
    assert said.startswith("Far from what the search promised: logo_retention_by_tier.A ")
