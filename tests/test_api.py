import re
import runpy
from datetime import date, timedelta
from html import escape
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import make_accounts, make_spec

import gtmar
from gtmar import spec as specs
from gtmar.errors import AccountDataError, SpecError, UsageError
from gtmar.runs import promote

ACCOUNTS = make_accounts(150)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(specs.to_yaml(make_spec()), "utf-8")
    return tmp_path


def test_every_name_of_the_package_is_there_and_no_other() -> None:
    for name in gtmar.__all__:
        assert getattr(gtmar, name) is not None
    assert set(gtmar.__all__) <= set(dir(gtmar))
    with pytest.raises(AttributeError, match="module 'gtmar' has no attribute 'rnu'"):
        gtmar.rnu  # noqa: B018 - that it raises is the point


@pytest.mark.slow
def test_a_run_from_a_frame_and_a_file_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    found = gtmar.run(ACCOUNTS, "spec.yaml", metric="revenue_capture_at_20", n=40, seed=3)
    again = gtmar.run(ACCOUNTS, gtmar.load_spec("spec.yaml"), n=1, cold=True)
    assert found.result.metric == "revenue_capture_at_20"
    assert again.result.metric == "auc_roc_retain"
    experiments = found.experiments()
    assert experiments["number"].to_list() == list(range(41))
    assert set(experiments["run_id"]) == {found.id}
    wins = experiments.filter(pl.col("outcome") == "win")
    last = wins.row(-1, named=True) if wins.height else experiments.row(0, named=True)
    assert found.best.weights == dict(last["weights"])
    assert found.best.lineage is not None
    gtmar.score(ACCOUNTS, found.best)
    assert capfd.readouterr() == ("", "")


def test_an_argument_that_there_is_not_is_refused_before_anything_is_written() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'hold_out'"):
        gtmar.run(ACCOUNTS, "spec.yaml", n=1, hold_out=0.3)  # type: ignore[call-arg] # that is the point
    with pytest.raises(TypeError, match="unexpected keyword argument 'asof'"):
        gtmar.try_weights(ACCOUNTS, "spec.yaml", {"depth": 40}, note="why", asof="2026-01-01")  # type: ignore[call-arg] # the same
    assert not Path("journal").exists()


@pytest.mark.slow
def test_score_and_try_and_diff() -> None:
    scores = gtmar.score(ACCOUNTS, "spec.yaml")
    assert scores.columns[:3] == ["account_id", "score", "tier"]
    tried = gtmar.try_weights(ACCOUNTS, "spec.yaml", {"depth": 40}, note="more depth")
    assert tried.result.experiments == 1
    found = gtmar.diff(f"{tried.id}/0", f"{tried.id}/1")
    assert found.weights == (("depth", 25, 40),)
    with gtmar.Journal("journal") as journal:
        assert journal.sql("runs").height == 1
    with pytest.raises(SpecError):
        gtmar.load_spec("none.yaml")


def test_the_list_of_accounts_is_that_of_the_command() -> None:
    made = gtmar.run(make_accounts(400), make_spec(), n=5)
    found = gtmar.account_list(make_accounts(400), made.best, most=7)
    assert found.rows.height == 7
    assert found.rows["at_stake"].is_sorted(descending=True)
    assert "MRR at stake" in found._repr_html_()


@pytest.mark.slow
def test_a_runs_compromises_are_those_of_its_journal() -> None:
    found = gtmar.run(ACCOUNTS, "spec.yaml", n=60)
    front = found.front("tier_separation")
    assert front.rows.equals(gtmar.front(found.id, by="tier_separation").rows)
    rows = found.experiments().filter(pl.col("outcome") != "known")
    pairs = rows.select("auc_roc_retain", "tier_separation").drop_nulls().rows()
    best = {
        pair
        for pair in pairs
        if not any(a >= pair[0] and b >= pair[1] and (a, b) != pair for a, b in pairs)
    }
    assert {(p["value"], p["metric_value"]) for p in front.points} == best
    html = front._repr_html_()
    assert all(f"<td>{point['experiment']}</td>" in html for point in front.shown())
    with pytest.raises(TypeError):
        gtmar.front(found.id, metric="nrr_at_20")  # type: ignore[call-arg] # the same


def dated(model: str = "health") -> tuple[pl.DataFrame, specs.ScoringSpec]:
    """Return 150 accounts on three dates, with days for a window, and a spec of them."""
    days = [date(2024, 1, 1), date(2024, 4, 1), date(2024, 7, 1)]
    parts = [
        make_accounts(150, seed=number).with_columns(
            account_id=pl.format("a{}", pl.int_range(150)),
            features_asof=pl.lit(day),
            outcome_end=pl.lit(day + timedelta(days=80)),
        )
        for number, day in enumerate(days)
    ]
    window = {"features_asof": "features_asof", "outcome_end": "outcome_end"}
    return pl.concat(parts), make_spec(model=model, window=window)


@pytest.mark.slow
def test_a_walk_takes_whatever_frame_is_at_hand(capfd: pytest.CaptureFixture[str]) -> None:
    table, spec = dated()
    found = gtmar.walk(table, spec, n=10, seed=1)
    assert found.verdict in ("pays", "costs", "alone")
    assert [step.day for step in found.steps] == [date(2024, 4, 1), date(2024, 7, 1)]
    again = gtmar.walk(table.to_pandas(), spec, n=10, seed=1)
    assert (again.walk_id, again.reused) == (found.walk_id, 2)
    some = gtmar.walk(table.to_arrow(), spec, n=10, seed=1, at="2024-01-01..2024-04-01")
    assert some.steps[0].values == found.steps[0].values
    assert len(some.steps) == 1
    html = found._repr_html_()
    assert f"<p>{escape(found.sentence)}</p>" in html
    assert f"<td>{found.wins('alone')} of 2</td>" in html
    assert capfd.readouterr() == ("", "")
    with pytest.raises(UsageError, match="expects dates"):
        gtmar.walk(table, spec, at="last year")
    with pytest.raises(AccountDataError, match='no column "features_asof"'):
        gtmar.walk(table.drop("features_asof"), spec)
    with pytest.raises(TypeError, match="limit"):
        gtmar.walk(table, spec, limit=5)  # type: ignore[call-arg] # that is the point


@pytest.mark.slow
def test_a_live_score_is_watched_from_a_notebook() -> None:
    table, spec = dated(HOSTILE)
    promote(spec, note="agreed")
    shadow = specs.reweighed(spec, {"depth": 40})
    Path("shadow.yaml").write_text(specs.to_yaml(shadow), "utf-8")
    with pytest.raises(UsageError, match='today expects YYYY-MM-DD, got "soon"'):
        gtmar.watch(table, today="soon")
    assert not Path("scores").exists()
    found = gtmar.watch(
        table.to_pandas(), shadows=["shadow.yaml"], at="2024-01-01..2024-04-01", today="2024-08-01"
    )
    assert [role for _, role, _ in found.kept] == ["live", "shadow"]
    assert [each.day for each in found.measurements] == [date(2024, 4, 1)]
    assert gtmar.watch(table, shadows=[shadow], today=date(2024, 8, 1)).new == ()
    later = gtmar.watch(table, today="2025-01-01", forget_before="2024-07-01")
    assert (later.new, later.forgotten) == ((date(2024, 7, 1),), 1)
    html = later._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<tr><td>2024-0") == 2


@pytest.mark.slow
def test_what_is_shown_in_a_notebook_says_what_is_and_is_escaped() -> None:
    features = make_spec().model_dump(by_alias=True)["features"]
    features[HOSTILE] = {**features["depth"], "column": "depth"}
    spec = make_spec(features=features)
    found = gtmar.run(ACCOUNTS, spec, n=30, note=HOSTILE)
    Path("a.yaml").write_text(specs.to_yaml(spec), "utf-8")
    Path("b.yaml").write_text(specs.to_yaml(specs.reweighed(spec, {HOSTILE: 2})), "utf-8")
    compared = gtmar.diff("a.yaml", "b.yaml", data=ACCOUNTS)
    for shown in (found._repr_html_(), spec._repr_html_(), compared._repr_html_()):
        assert "<script" not in shown
        assert "&lt;script&gt;" in shown
        assert len(re.findall("<table>", shown)) == len(re.findall("</table>", shown)) >= 1
    html = found._repr_html_()
    for name, weight in found.result.weights.items():
        if name != HOSTILE:
            change = weight - spec.weights[name]
            cells = (name, spec.weights[name], weight, change)
            assert "".join(f"<td>{cell}</td>" for cell in cells) in html
    assert f"{found.result.best_value:.4f}" in html
    assert found.id in repr(found)


@pytest.mark.slow
def test_the_example_notebook_runs_and_finds_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from marimo import App

    path = Path(__file__).parents[1] / "examples" / "notebook.py"
    run, ended = App.run, []

    def kept(app: App) -> Any:
        ended.append(run(app))
        return ended[0]

    # As a script, whose own last line runs the cells.
    monkeypatch.setattr(App, "run", kept)
    runpy.run_path(str(path), run_name="__main__")
    [(outputs, names)] = ended
    assert names["found"].result.best_value > names["found"].result.baseline_value
    assert names["tiers"]["accounts"].sum() == 2_000
    assert any(output is not None for output in outputs)


@pytest.mark.slow
def test_a_run_makes_its_report() -> None:
    found = gtmar.run(ACCOUNTS, "spec.yaml", n=20)
    page = found.report(data=ACCOUNTS)
    assert page.html.startswith("<!doctype html>")
    assert found.id in page.html
    assert page.left_out == ()
    # The table was a frame: without it the page says what it lacks.
    assert found.report().left_out
