"""Metrics in which nothing kept is worse than the start, wherever a candidate is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gtmar import runs
from gtmar import spec as specs
from gtmar.errors import AccountDataError, SpecError, UsageError
from gtmar.journal.files import RunFiles
from gtmar.journal.verify import verify
from gtmar.objective.objective import Judge, fallen, guardrail_of, missed_by
from gtmar.runs.session import ended_run, open_run, repeated_search

CAPTURE = "revenue_capture_at_20"


def trade(n: int = 900, seed: int = 1) -> pl.DataFrame:
    """Accounts of which those that stay pay less: AUC and captured MRR pull apart."""
    draw = np.random.default_rng(seed)
    features = {f"x{i}": draw.random(n) for i in range(4)}
    stays = draw.random(n) < 1 / (1 + np.exp(-5 * (features["x0"] - 0.5)))
    mrr = 100 * (1.2 - features["x0"]) + 100 * features["x1"]
    return pl.DataFrame(
        {
            "account_id": [f"t{seed}-{i}" for i in range(n)],
            **features,
            "retained_6mo": stays.astype(int),
            "mrr": mrr.round(2),
        }
    )


TABLE = trade()


def plain(**more: Any) -> specs.ScoringSpec:
    shares = {"A": {"share": 0.3}, "B": {"share": 0.3}, "C": {"share": 0.4}}
    weights = (5, 20, 10, 10)
    data: dict[str, Any] = {
        "model": "trade",
        "id": "account_id",
        "base": 30,
        "split": {"holdout": 0.3},
        "features": {f"x{i}": {"weight": w, "min": -25, "max": 25} for i, w in enumerate(weights)},
        "tiers": shares,
    }
    return specs.ScoringSpec.model_validate({**data, **more})


def search(journal: Path, spec: specs.ScoringSpec | None = None, **more: Any) -> runs.RunResult:
    options: dict[str, Any] = {"limits": runs.Limits(80), "cold": True, **more}
    return runs.run(TABLE, spec or plain(), journal=journal, **options)


def captured(result: runs.RunResult, weights: dict[str, int]) -> float:
    """The share of MRR that the best-scored fifth holds, by numpy alone."""
    searched = open_run(result.run_id, result.journal, TABLE).accounts.search
    columns = [column.astype(np.int64) for column in searched.columns]
    score = sum(w * c for w, c in zip(weights.values(), columns, strict=True))
    score = np.clip(np.floor((score + 30 * 10_000) / 100 + 0.5), 0, 10_000)
    assert searched.start is not None
    order, n = np.argsort(-score, kind="stable"), len(score)
    money = searched.start[order].astype(float)
    # Ties on the boundary count in part.
    edge = score[order][int(np.ceil(n / 5)) - 1]
    above, on = score[order] > edge, score[order] == edge
    part = (n / 5 - above.sum()) / on.sum()
    return float((money[above].sum() + part * money[on].sum()) / money.sum())


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.RunResult, runs.RunResult]:
    """The same search without a limit, and with one."""
    folder = tmp_path_factory.mktemp("both")
    return search(folder / "free"), search(folder / "held", no_worse=[CAPTURE])


def test_the_search_keeps_nothing_that_is_worse_and_says_what_it_left(
    both: tuple[runs.RunResult, runs.RunResult],
) -> None:
    free, held = both
    start = captured(free, plain().weights)
    assert captured(free, free.weights) < start - 0.01, "the trade is planted"
    assert captured(held, held.weights) >= start - 1e-12
    assert held.wins
    assert held.blocked
    assert held.broken == {f"{CAPTURE} no worse than the start": held.blocked}
    rows = RunFiles(Path(held.journal), held.run_id).rows().to_pylist()
    blocked = [row for row in rows if row["outcome"] == "blocked"]
    for row in blocked:
        [text] = row["breaches"]
        worded = float(text.partition("start's ")[2].partition(",")[0])
        assert worded == pytest.approx(start, abs=5e-5)
        assert text.startswith(f"{CAPTURE} no worse than the start's 0.")
        assert row[CAPTURE] < start
    assert all(row[CAPTURE] >= start - 1e-12 for row in rows if row["outcome"] == "win")
    assert not verify(Path(held.journal)).findings
    assert held.spec.no_worse == (CAPTURE,)


def test_a_limit_that_nothing_breaks_changes_no_experiment(tmp_path: Path) -> None:
    one, two = search(tmp_path / "one"), search(tmp_path / "two", no_worse=["auc_roc_retain"])
    assert one.digest == two.digest
    assert two.blocked == 0


def test_resume_and_replay_hold_it_too(
    both: tuple[runs.RunResult, runs.RunResult], tmp_path: Path
) -> None:
    held = both[1]
    assert runs.replay(held.run_id, journal=held.journal, data=TABLE).identical
    journal = tmp_path / "journal"
    seen = 0

    def stop(_: runs.Progress) -> None:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(journal, no_worse=[CAPTURE], watch=stop)
    [run_id] = [path.name.partition("=")[2] for path in (journal / "runs").iterdir()]
    resumed = runs.resume(run_id, journal=journal, data=TABLE)
    assert resumed.digest == held.digest
    assert resumed.broken == held.broken


def test_what_a_run_without_it_knew_does_not_slip_past(tmp_path: Path) -> None:
    free = search(tmp_path)
    warm = search(tmp_path, no_worse=[CAPTURE], cold=False)
    rows = RunFiles(tmp_path, warm.run_id).rows().to_pylist()
    assert rows[1]["repeats"] == f"{free.run_id}/{free.best_experiment}"
    assert rows[1]["outcome"] == "blocked", "measured anew, and held against the start"
    start = rows[0][CAPTURE]
    assert all(row[CAPTURE] >= start - 1e-12 for row in rows if row["outcome"] == "win")


def test_searches_on_other_accounts_hold_it_against_their_own_start(
    both: tuple[runs.RunResult, runs.RunResult],
) -> None:
    held = both[1]
    session = ended_run(held.run_id, held.journal, TABLE)
    matrix = session.accounts.search
    again = repeated_search(session).over(matrix)
    assert captured(held, dict(zip(held.weights, again.weights, strict=True))) >= captured(
        held, plain().weights
    )
    drawn = runs.stability(held.run_id, journal=held.journal, data=TABLE, searches=1)
    assert drawn.searches == 1


def test_a_person_s_change_is_held_against_it(tmp_path: Path) -> None:
    spec = plain(no_worse=[CAPTURE])
    done = runs.try_weights(TABLE, spec, {"x0": 25}, note="more use", journal=tmp_path)
    assert done.wins == 0
    assert done.broken == {f"{CAPTURE} no worse than the start": 1}
    assert runs.try_weights(TABLE, plain(), {"x0": 25}, note="x", journal=tmp_path).wins == 1


def test_with_constraints_and_a_metric_of_a_tier_that_holds_its_size(tmp_path: Path) -> None:
    spec = plain(constraints={"total": 45}, no_worse=["arpa_by_tier.A", CAPTURE])
    held = search(tmp_path, spec)
    rows = RunFiles(tmp_path, held.run_id).rows().to_pylist()
    assert held.blocked
    for row in rows:
        if row["outcome"] == "win":
            for name in ("arpa_by_tier", CAPTURE):
                now, then = (
                    dict(side[name])["A"] if name != CAPTURE else side[name]
                    for side in (row, rows[0])
                )
                assert now >= then - 1e-9


def test_what_can_not_be_held_is_refused_with_a_likely_name(tmp_path: Path) -> None:
    def refused(names: list[str], **more: Any) -> UsageError:
        with pytest.raises(UsageError) as caught:
            search(tmp_path, plain(**more), no_worse=names)
        return caught.value

    assert refused(["revenue_capture_at_2"]).hint == f'did you mean "{CAPTURE}"?'
    assert "neither more nor less" in str(refused(["hhi_normalised"]))
    edges = {"A": {"min": 50, "max": 101}, "B": {"min": 0, "max": 50}}
    fixed = refused(["nrr_by_tier.A"], tiers=edges)
    assert "fixed edges" in str(fixed)
    assert "gtmar tiers" in str(fixed.hint)
    assert "no tier" in str(refused(["arpa_by_tier.Z"]))
    with pytest.raises(AccountDataError, match=f'guardrail can.t be computed: "{CAPTURE}": .*mrr'):
        runs.run(TABLE.drop("mrr"), plain(), no_worse=[CAPTURE], journal=tmp_path)
    assert not tmp_path.joinpath("runs").exists()
    with pytest.raises(SpecError, match="stands twice"):
        specs.parse(specs.to_yaml(plain()) + "no_worse: [nrr_at_20, nrr_at_20]\n")


def test_it_is_part_of_the_spec_s_id_only_where_it_is_given() -> None:
    with_it, other = plain(no_worse=["a", "b"]), plain(no_worse=["b", "a"])
    assert specs.spec_id(with_it) == specs.spec_id(other) != specs.spec_id(plain())
    assert specs.score_id(with_it) == specs.score_id(plain())
    assert "no_worse" not in specs.to_yaml(plain())
    text = specs.to_yaml(with_it)
    assert "# In which a kept change must not be worse than the start\nno_worse:" in text
    assert specs.parse(text) == with_it


@pytest.mark.parametrize(
    ("value", "start", "sign", "text"),
    [
        (0.5, 0.5, 1, None),
        (0.5 - 1e-13, 0.5, 1, None),
        (0.6, 0.5, 1, None),
        (0.6, 0.5, -1, "m no worse than the start's 0.5000, got 0.6000"),
        (0.49999, 0.5, 1, "m no worse than the start's 0.5000000, got 0.4999900"),
        (None, 0.5, 1, "m no worse than the start's 0.5000, got null"),
        (0.1, None, 1, None),
        (None, None, 1, None),
    ],
)
def test_how_a_fall_is_worded(
    value: float | None, start: float | None, sign: int, text: str | None
) -> None:
    said = fallen("m", value, start, sign=sign)
    assert said == text
    if said is not None:
        assert guardrail_of(said) == "m no worse than the start"
        assert missed_by(said) is None


def test_a_judge_reads_the_sums_that_it_needs() -> None:
    held, free = (Judge.of(spec) for spec in (plain(no_worse=[CAPTURE]), plain()))
    assert held.limited > free.limited
