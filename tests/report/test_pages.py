"""Pages read as HTML: every number the journal's, every text a text, what can't be shown named."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from typing import TYPE_CHECKING, Any

import altair as alt
import pages
import polars as pl
import pytest
import vl_convert
from blank_charts import blank_charts
from factories import binned, make_accounts, make_spec, weighted
from markupsafe import escape
from report.conftest import HOSTILE, Searched, search
from scipy.stats import binomtest
from typer.testing import CliRunner

from gtmar import errors, report, runs
from gtmar.cli.app import app
from gtmar.errors import NotComparableError, RunNotFoundError, UsageError
from gtmar.journal.catalog import Journal
from gtmar.journal.events import EventKind, write_event
from gtmar.journal.lookup import checkout, resolve
from gtmar.journal.review import review
from gtmar.plain_data import arrows

if TYPE_CHECKING:
    from pathlib import Path


def numbers(html: str) -> dict[str, list[pages.Shown]]:
    found = pages.values_in(html)
    assert found
    return found


@pytest.mark.slow
def test_every_number_of_a_report_is_the_journals(searched: Searched) -> None:
    expected = pages.report_numbers(searched.journal, searched.run_id)
    assert {"summary.blocked", "summary.last_win"} <= set(expected)
    found = numbers(searched.report.html)
    told = {key for key in found if key.split(".")[0] in ("summary", "wins", "weights", "tiers")}
    intervals = {key for key in told if key.endswith((".low", ".high"))}
    assert told - intervals == set(expected)
    wrong = [
        (key, shown, value)
        for key, value in expected.items()
        for shown in found[key]
        if not pages.agrees(shown, value)
    ]
    assert not wrong


@pytest.mark.slow
def test_it_opens_with_what_a_lead_reads_and_ends_with_the_optimisers_path(
    searched: Searched,
) -> None:
    html = unescape(searched.report.html)
    with Journal(searched.journal) as journal:
        found = review(journal, searched.run_id)
    head, _, rest = html.partition("</header>")
    evidence = searched.evidence
    assert [s for s in evidence.sentences if s not in found.sentences] == [evidence.sentences[1]]
    places = [head.index(arrows(sentence)) for sentence in found.sentences_on(costs=False)]
    assert len(places) >= 2
    assert f"<h1>{arrows(found.sentences[0])}</h1>" in head
    # Then what got worse and the tiers, before any metric by its name.
    places += [head.index('class="costs"'), head.index("<svg"), head.index('class="numbers"')]
    assert places == sorted(places)
    assert re.findall(r'<section id="(\w+)"', rest) == [
        "tiers",
        "weights",
        "values",
        "revenue",
        "likely",
        "unseen",
        "moves",
        "capture",
        "drift",
        "front",
        "progress",
        "again",
    ]


@pytest.mark.slow
def test_what_got_worse_is_beyond_chance_where_the_table_tells_and_as_measured_without(
    searched: Searched, settled: tuple[Searched, runs.Decided]
) -> None:
    def costs(page: report.Page) -> list[str]:
        listed = page.html.partition('class="costs"')[2].partition("</ul>")[0]
        return [unescape(text) for text in re.findall(r"<li[^>]*>▼ (.*)</li>", listed)]

    with Journal(searched.journal) as journal:
        measured = review(journal, searched.run_id).costs
    decided, done = settled[0], settled[1].costs
    beyond = [arrows(text) for text in done]
    assert measured
    found = costs(searched.report)
    assert [text for text in found if "beyond chance" in text] == beyond
    within = [text for text in found if "beyond chance" not in text]
    assert all(text.startswith("Worse as measured, within chance: ") for text in within)
    assert len(found) >= len(measured)
    # Without the table there are no intervals, and nothing is claimed by them.
    alone = replace(searched.evidence, table=None).costs
    # But by those of a decision, where there is one.
    told = replace(decided.evidence, table=None).costs
    assert [cost.text for cost in told] == done
    expected = [f"Worse as measured, chance not excluded: {text}." for text in measured.values()]
    assert [cost.text for cost in alone] == expected
    assert not any(cost.beyond for cost in alone)


@pytest.mark.slow
def test_whether_a_gain_is_beyond_chance_is_what_a_decision_finds(
    searched: Searched, settled: tuple[Searched, runs.Decided], tmp_path: Path
) -> None:
    [chance] = [s for s in searched.evidence.sentences if "chance (" in s]
    done = settled[1].intervals
    gain = done.gain["auc_roc_retain"]
    word = "beyond" if gain.above_zero else "within"
    assert chance == (
        f"The gain there, {gain.value:+.4f}, is {word} chance (95% interval {gain.low:+.4f} to "
        f"{gain.high:+.4f})."
    )
    current = make_accounts(300, 5).filter(pl.col("retained_6mo").is_not_null())
    shuffled = current["retained_6mo"].shuffle(seed=1)
    noise = current.with_columns(shuffled).drop("churned", "mrr_end", "won_back")
    for seed in range(6):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        evidence = search(folder, noise, make_spec(), seed=seed, n=40).evidence
        if evidence.review.improved and evidence.review.held:
            break
    [chance] = [s for s in evidence.sentences if "chance (" in s]
    assert " is within chance (" in chance


@pytest.mark.slow
def test_bins_stand_under_their_feature_and_a_weight_at_its_bound_says_so(tmp_path: Path) -> None:
    features = {
        "depth": weighted(3, low=0, high=4),
        "logins": binned("[0,20)", "[20,61)", low=-1, high=40),
    }
    tiers = {"A": {"min": 9, "max": 101}, "B": {"min": 0, "max": 9}}
    made = search(tmp_path, make_accounts(300, 5), make_spec(features=features, tiers=tiers))
    section = made.report.html.partition('id="weights"')[2].partition("</section>")[0]
    rows = re.findall(r'<th scope="(\w+)"[^>]*>([^<]*)</th>', section.partition("</thead>")[2])
    # A plain feature's row is its own; bins have one above them.
    assert {("rowgroup", "logins"), ("row", "depth")} <= {*rows}
    place = rows.index(("rowgroup", "logins"))
    assert {name for _, name in rows[place + 1 : place + 3]} == {"[0,20)", "[20,61)"}
    with Journal(made.journal) as journal:
        weights = review(journal, made.run_id).weights
    at = [row for row in weights if row["at_bound"]]
    assert at
    for row in at:
        cell = section.partition(f'"weights.{row["feature"]}.best"')[2].partition("</td>")[0]
        assert f"at its {row['at_bound']}" in cell
    assert section.count("<small>at its ") == len(at)


@pytest.mark.slow
def test_charts_are_valid_by_vega_lites_schema(
    proven: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All kinds of a report and a history; pages themselves take them as valid."""
    drawn: list[dict[str, Any]] = []

    def noted(chart: dict[str, Any]) -> str:
        drawn.append(chart)
        return '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'

    monkeypatch.setattr(vl_convert, "vegalite_to_svg", noted)
    proven.page(drawn=True)
    proven.history()
    assert len(drawn) > 10
    for chart in drawn:
        # Reading one checks it.
        alt.Chart.from_dict(_of_few_rows(chart))


def _of_few_rows(part: Any) -> Any:
    """Return a chart of the first rows of its data: a schema learns no more from the others."""
    if isinstance(part, dict):
        return {
            name: [*below[:3]] if name == "values" else _of_few_rows(below)
            for name, below in part.items()
        }
    return [_of_few_rows(each) for each in part] if isinstance(part, list | tuple) else part


@pytest.mark.slow
def test_metrics_that_moved_are_the_journals(searched: Searched) -> None:
    kept = [
        row
        for row in pages.experiments_of(searched.journal, searched.run_id)
        if row["outcome"] in ("baseline", "win")
    ]

    # Metrics of tiers are taken at the start's sizes, as the end record has them.
    end = pages.record_of(searched.journal, searched.run_id, "end")
    sized = json.loads(str(end["equal_sizes"]))["searched"]

    def value(row: dict[str, object], metric: str) -> float | None:
        side = "start" if row is kept[0] else "best"
        if metric in sized[side] and not metric.startswith("share_by_tier."):
            known: float | None = sized[side][metric]
            return known
        key, _, tier = metric.partition(".")
        found = row[key]
        return found[tier] if tier else found  # type: ignore[index,return-value] # a MAP as a dict

    found = {k: v for k, v in numbers(searched.report.html).items() if k.startswith("drift.")}
    assert len(found) > 60
    for key, shown in found.items():
        metric, _, side = key.removeprefix("drift.").rpartition(".")
        start, best = value(kept[0], metric), value(kept[-1], metric)
        change = None if start is None or best is None else best - start
        expected = {"start": start, "best": best, "change": change}[side]
        assert all(pages.agrees(s, expected) for s in shown), (key, shown, expected)


def test_metrics_on_the_holdout_are_those_of_the_end_record(searched: Searched) -> None:
    end = pages.record_of(searched.journal, searched.run_id, "end")
    found = {k: v for k, v in numbers(searched.report.html).items() if k.startswith("unseen.")}
    metrics = {key.split(".")[1] for key in found}
    assert {"auc_roc_retain", "revenue_capture_at_20", "nrr_at_20", "tier_separation"} <= metrics
    for metric in metrics:
        for side, record in (("start", "baseline"), ("best", "best")):
            value = json.loads(end[f"holdout_{record}_metrics"])[metric]
            [shown] = found[f"unseen.{metric}.holdout_{side}"]
            assert pages.agrees(shown, value), (metric, side)


def test_intervals_are_wilsons_of_the_labelled_accounts(searched: Searched) -> None:
    kept = [
        row
        for row in pages.experiments_of(searched.journal, searched.run_id)
        if row["outcome"] in ("baseline", "win")
    ]
    found = numbers(searched.report.html)
    for stage, row in (("start", kept[0]), ("best", kept[-1])):
        for tier, share in row["logo_retention_by_tier"].items():
            labelled = row["labelled_by_tier"][tier]
            if share is None:
                continue
            expected = binomtest(round(share * labelled), labelled).proportion_ci(method="wilson")
            for side in ("low", "high"):
                [shown] = found[f"tiers.{stage}.{tier}.{side}"]
                assert float(str(shown.exact)) == pytest.approx(getattr(expected, side), abs=1e-12)


def test_moves_add_up_to_the_tiers_of_start_and_best(searched: Searched) -> None:
    found = numbers(searched.report.html)
    tiers = pages.record_of(searched.journal, searched.run_id, "start")["tiers"]

    def moved(one: str, two: str) -> int:
        [shown] = found[f"moves.{one}.{two}"]
        return int(str(shown.exact))

    def accounts(stage: str, tier: str) -> int:
        [shown] = found[f"tiers.{stage}.{tier}.accounts"]
        return int(str(shown.exact))

    assert any(moved(a, b) for a in tiers for b in tiers if a != b)
    for tier in tiers:
        assert sum(moved(tier, other) for other in tiers) == accounts("start", tier)
        assert sum(moved(other, tier) for other in tiers) == accounts("best", tier)


@pytest.mark.slow
def test_accounts_named_are_those_that_diff_names(searched: Searched) -> None:
    run = searched.run_id
    found = runs.difference(f"{run}/start", run, journal=searched.journal, data=str(searched.table))
    assert found.moved is not None
    html = searched.report.html
    rows = re.findall(r'<tr><th scope="row">(acct-\d+)</th><td class="n">([\d.]+)</td>', html)
    first = found.moved.head(10)
    assert [account for account, _ in rows] == first["account"].to_list()
    assert [float(score) for _, score in rows] == first["score_one"].round(2).to_list()


@pytest.mark.slow
def test_it_says_how_to_do_it_again_and_that_is_true(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = re.search(r"<pre><code>(.*?)</code>", searched.report.html, re.S)
    assert block is not None
    lines = [line.split()[1:] for line in block[1].strip().splitlines()]
    assert [line[0] for line in lines] == ["replay", "checkout", "run"]
    shutil.copytree(searched.journal, tmp_path / "journal")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 0, result.output
    with Journal(tmp_path / "journal") as journal:
        digests = journal.query("select digest from runs")["digest"].to_list()
    assert len(digests) == 2
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_a_persons_change_is_told_kept_or_not(searched: Searched, tmp_path: Path) -> None:
    shutil.copytree(searched.journal, tmp_path / "journal")
    with Journal(searched.journal) as journal:
        best = checkout(journal, searched.run_id)
    tried = runs.try_weights(
        searched.table, best, {"depth": -50}, note="why not", journal=tmp_path / "journal"
    )
    html = Searched(tmp_path, searched.table, tried.run_id).report.html
    row = pages.experiments_of(tmp_path / "journal", tried.run_id)[1]
    assert row["outcome"] == "lose"
    for side in ("value_before", "value_after"):
        [shown] = numbers(html)[f"hand.1.{side}"]
        assert pages.agrees(shown, row[side])
    assert f"depth: {best.weights['depth']} \u2192 -50" in html
    assert "not better, not kept" in html


# ---- what is not there ------------------------------------------------------------------------


def test_what_was_measured_on_the_accounts_searched_says_so(searched: Searched) -> None:
    """The holdout may say the opposite, some screens further up."""
    sections = searched.report.html.split("<section ")
    for name, says in {
        "capture": "the best looks better than it is",
        "drift": "on the accounts searched",
    }.items():
        [section] = [each for each in sections if each.startswith(f'id="{name}"')]
        assert says in section


@pytest.mark.slow
def test_without_the_table_its_sections_are_left_out_and_named(
    searched: Searched, tmp_path: Path
) -> None:
    shutil.copytree(searched.journal, tmp_path / "journal")
    gone = tmp_path / "gone.parquet"
    search(tmp_path, make_accounts(200, 1), make_spec(), n=5)
    (tmp_path / "accounts.parquet").rename(gone)
    with Journal(tmp_path / "journal") as journal, blank_charts():
        page = report.run_page(journal)
        assert "accounts.parquet" in page.left_out[0]
        assert 'id="moves"' not in page.html
        assert 'id="capture"' not in page.html
        assert "Left out" in page.html
        whole = report.run_page(journal, data=gone)
        assert whole.left_out == ()
        assert 'id="moves"' in whole.html


@pytest.mark.slow
def test_another_table_is_refused_where_it_is_named(searched: Searched) -> None:
    other = make_accounts(400, 7).with_columns(pl.col("mrr_end") * 2)
    with pytest.raises(NotComparableError, match=r"not the table that run .* was made on"):
        searched.page(data=other)


@pytest.mark.slow
def test_another_table_in_the_old_place_is_not_taken_for_it(
    searched: Searched, tmp_path: Path
) -> None:
    found = search(tmp_path, make_accounts(200, 1), make_spec(), n=5)
    make_accounts(200, 2).write_parquet(found.table)
    page = found.page()
    assert "is not the table" in page.left_out[0]
    assert 'id="moves"' not in page.html


@pytest.mark.slow
@pytest.mark.parametrize(
    "kept",
    [
        ("retained_6mo",),
        ("mrr", "mrr_end"),
        ("actual_ltv",),
        ("retained_6mo", "mrr"),
    ],
    ids=" ".join,
)
def test_a_report_of_any_outcomes(kept: tuple[str, ...], tmp_path: Path) -> None:
    outcomes = {"retained_6mo", "churned", "mrr", "mrr_end", "actual_ltv", "activated"}
    table = make_accounts(200, 3, former=0).drop(
        {*outcomes, "days_to_activate", "won_back"} - {*kept}
    )
    metric = "tier_separation" if kept == ("actual_ltv",) else None
    found = search(tmp_path, table, make_spec(), n=30, metric=metric, drop_unlabelled=True)
    page = found.drawn
    expected = pages.report_numbers(found.journal, found.run_id)
    shown = numbers(page.html)
    assert all(pages.agrees(s, value) for key, value in expected.items() for s in shown[key])


@pytest.mark.slow
def test_a_run_without_win_or_holdout_says_so(tmp_path: Path) -> None:
    found = search(tmp_path, make_accounts(100, 3), make_spec(), n=0, holdout=0)
    html = found.drawn.html
    assert "No experiment yet" in html
    assert 'id="unseen"' not in html
    assert "Nothing was kept" in html


@pytest.mark.slow
def test_an_imported_run_has_a_report(searched: Searched, tmp_path: Path) -> None:
    lines, journal = tmp_path / "lines.jsonl", tmp_path / "journal"
    words = ["journal", "export", "-o", str(lines), "--journal", str(searched.journal)]
    assert CliRunner().invoke(app, words).exit_code == 0
    words = ["journal", "import", str(lines), "--journal", str(journal)]
    assert CliRunner().invoke(app, words).exit_code == 0
    with Journal(journal) as opened, blank_charts():
        page = report.run_page(opened)
        assert report.history_page(opened).html
    assert "imported" in page.left_out[0]
    assert "<pre>" not in page.html


def test_an_unknown_run_is_an_error(searched: Searched) -> None:
    with (
        Journal(searched.journal) as journal,
        pytest.raises(RunNotFoundError, match='has no run "r1999"'),
    ):
        report.run_page(journal, "r1999")


def test_without_the_extra_it_says_what_to_install(
    searched: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="altair, vl_convert, jinja2") as caught:
        searched.page()
    assert caught.value.hint == "pip install 'gtmar[report]'"


# ---- history ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_number_of_a_history_is_the_journals(hostile: Searched) -> None:
    run = hostile.run_id
    rows = {row["experiment_id"]: row for row in pages.experiments_of(hostile.journal, run)}
    found = numbers(hostile.past.html)
    told = {k: v for k, v in found.items() if k.startswith(f"experiment.{run}/")}
    listed = {key.split("/")[1].split(".")[0] for key in told}
    assert listed == {n for n, r in rows.items() if r["outcome"] in ("baseline", "win", "blocked")}
    for key, shown in told.items():
        name, _, column = key.removeprefix(f"experiment.{run}/").partition(".")
        row = rows[name]
        gain = None if row["value_before"] is None else row["value_after"] - row["value_before"]
        expected = {"value_after": row["value_after"], "gain": gain}[column]
        assert all(pages.agrees(s, expected) for s in shown), key
    best = [row for row in rows.values() if row["outcome"] == "win"][-1]
    for name, weight in best["weights"].items():
        [after] = found[f"entry.{run}.after.{name}"]
        [before] = found[f"entry.{run}.before.{name}"]
        assert pages.agrees(after, weight)
        assert pages.agrees(before, rows["exp_00000"]["weights"][name])


@pytest.mark.slow
def test_a_history_says_how_many_it_leaves_out(hostile: Searched) -> None:
    page = hostile.history(most=1)
    assert page.html.count('<li class="entry') == 1
    assert "3 older entries not shown" in page.html
    assert "1 older entry not shown" in hostile.history(most=3).html
    assert "not shown" not in hostile.past.html


def decided(made: Searched, tmp_path: Path, *verdicts: str) -> Searched:
    """A copy of a journal in which somebody decided on the run."""
    folder = tmp_path / "decided"
    shutil.copytree(made.folder, folder)
    with Journal(folder / "journal") as journal:
        best = resolve(journal, made.run_id).experiment_id
    for verdict in verdicts:
        write_event(
            folder / "journal",
            EventKind.DECISION,
            run_id=made.run_id,
            experiment_id=best,
            author="Ann",
            note="for June",
            details={
                "verdict": verdict,
                "gates": [{"name": "movement", "found": "0.61 -> 0.9", "outcome": "failed"}],
            },
        )
    return Searched(folder, made.table, made.run_id)


def heading(html: str) -> str:
    found = re.search(r"<h1>(.*?)</h1>", html)
    assert found
    return found[1]


@pytest.mark.slow
def test_a_report_says_in_its_headline_what_was_decided_and_when(
    searched: Searched, settled: tuple[Searched, runs.Decided], tmp_path: Path
) -> None:
    before = heading(searched.report.html)
    after = heading(decided(searched, tmp_path, "UNVERIFIED", "KEEP_INCUMBENT").report.html)
    # One from before decisions had a reason of their own.
    assert after == f"KEEP_INCUMBENT, decided {datetime.now(UTC):%Y-%m-%d}: {before}"
    made, done = settled
    page = made.report.html
    reason = arrows(done.sentence.partition(": ")[2])
    assert (
        unescape(heading(page)) == f"{done.verdict}, decided {datetime.now(UTC):%Y-%m-%d}: {reason}"
    )


@pytest.mark.slow
def test_decisions_are_entries_of_the_history_with_reason_and_run(
    searched: Searched, tmp_path: Path
) -> None:
    made = decided(searched, tmp_path, "UNVERIFIED", "KEEP_INCUMBENT")
    html = made.past.html
    entries = html.split('<li class="entry ')[1:]
    assert [entry.partition(" ")[0].strip('"') for entry in entries] == [
        *("decision", "decision", "search"),
    ]
    for entry, verdict in zip(entries, ("KEEP_INCUMBENT", "UNVERIFIED", None), strict=True):
        if verdict is not None:
            assert f"<strong>{verdict}</strong>. movement: 0.61 → 0.9. On " in entry
            assert f'<a href="#{made.run_id}">{made.run_id}</a>' in entry
            assert "for June" in entry
            assert "Ann" in entry
    last = re.search(r'id="(e\d+-\d+-\w+)"', entries[0])
    assert last
    assert f'Decided: <a href="#{last[1]}">KEEP_INCUMBENT</a>' in entries[2]
    assert f'id="{made.run_id}"' in entries[2]
    assert "Decided" not in searched.past.html


# ---- what else could be had ---------------------------------------------------------------------


@pytest.mark.slow
def test_compromises_are_those_of_the_command(searched: Searched) -> None:
    words = ["front", searched.run_id, "--journal", str(searched.journal), "--json"]
    told = json.loads(CliRunner().invoke(app, words).stdout)
    found = keyed(searched.report.html, "front")
    shown = {key.split(".")[1] for key in found}
    assert shown == {each["experiment_id"] for each in (*told["points"], told["best"])} | {
        "exp_00000"
    }
    for point in told["points"]:
        for name in ("value", "metric_value"):
            assert exact(found[f"front.{point['experiment_id']}.{name}"]) == point[name]
    section = searched.report.html.partition('id="front"')[2]
    for sentence in told["sentences"]:
        assert f"<p>{escape(sentence)}</p>" in section
    assert section.index("</svg>") < section.index("The compromises as a table")


@pytest.mark.slow
def test_where_nothing_can_be_traded_there_is_no_chart(tmp_path: Path) -> None:
    nothing = search(tmp_path, make_accounts(120, 7), make_spec(), n=0)
    assert 'id="front"' not in nothing.report.html
    assert "What else could be had" not in nothing.report.html


# ---- does it hold, and for whom -----------------------------------------------------------------


def keyed(html: str, *prefixes: str) -> dict[str, list[pages.Shown]]:
    return {k: v for k, v in numbers(html).items() if k.split(".")[0] in prefixes}


def exact(shown: list[pages.Shown]) -> float:
    return float(str(shown[0].exact))


@pytest.mark.slow
def test_revenue_is_the_journals_and_its_intervals_are_those_of_a_decision(
    searched: Searched, settled: tuple[Searched, runs.Decided]
) -> None:
    found = keyed(searched.report.html, "revenue")
    expected = pages.revenue_numbers(searched.journal, searched.run_id)
    ends = {key for key in found if key.endswith((".low", ".high"))}
    assert found.keys() - ends == expected.keys()
    wrong = [(k, found[k], v) for k, v in expected.items() if not pages.agrees(found[k][0], v)]
    assert not wrong
    done = settled[1].intervals
    assert len(ends) > 20
    for key in ends:
        column, side, end = key.removeprefix("revenue.").rsplit(".", 2)
        intervals = {"start": done.before, "best": done.after, "change": done.gain}[side]
        assert exact(found[key]) == getattr(intervals[column], end)


@pytest.mark.slow
def test_a_score_without_holdout_says_that_its_revenue_is_in_sample(
    searched: Searched, tmp_path: Path
) -> None:
    table = pl.read_parquet(searched.table)
    made = search(tmp_path, table, make_spec(), n=30, holdout=0)
    section = made.report.html.partition('id="revenue"')[2].partition("</section>")[0]
    assert "400 accounts searched" in section
    assert "The weights were chosen on these very accounts" in section
    held = searched.report.html.partition('id="revenue"')[2].partition("</section>")[0]
    assert "accounts held out" in held
    assert "The weights were chosen" not in held
    expected = pages.revenue_numbers(made.journal, made.run_id)
    found = keyed(made.report.html, "revenue")
    assert all(pages.agrees(found[key][0], value) for key, value in expected.items())


@pytest.mark.slow
def test_null_search_and_stability_are_the_events_and_said_first(proven: Searched) -> None:
    html = proven.report.html
    expected = pages.proof_numbers(proven.journal, proven.run_id)
    found = keyed(html, "null", "stability")
    assert found.keys() == expected.keys()
    assert not [k for k, v in expected.items() if not pages.agrees(found[k][0], v)]
    details = pages.details_of(proven.journal, proven.run_id, "stability")
    assert details is not None
    noise = [w["name"] for w in details["weights"] if w["reading"] == "noise"]
    assert noise
    assert f"for or against an account: {', '.join(noise)}." in html


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """A run whose table is gone: its page is made of the journal alone, at once."""
    made = search(tmp_path_factory.mktemp("bare"), make_accounts(200, 1), make_spec(), n=5)
    made.table.unlink()
    assert 'id="chance"' not in made.report.html
    return made


KNOWS = {"found": 0.8, "values": [0.5] * 19, "p_value": 0.05, "typical": 0.5, "high": 0.5}
KNOWS |= {"fitted": False, "unseen": None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gains", "p_value", "knows", "said", "unsaid"),
    [
        ([0.0] * 19, 0.05, KNOWS, "It is better than the start: where nothing is left", "decide"),
        ([0.0] * 18 + [0.9], 0.1, KNOWS, "That doesn't say that it is no better", "It is better"),
        ([0.0] * 5, 1 / 6, KNOWS, "in none of them (p = 0.17)", "Nothing here shows"),
        # As an earlier version had it, which asked another question.
        ([0.0] * 19, 0.05, None, "that doesn't say whether the run is better", "It is better"),
        ([0.9] * 19, 1.0, None, "as much as the run in 19 of 19 tries (p = 1)", "The score knows"),
    ],
)
def test_what_a_null_search_says_is_put_into_a_sentence(
    bare: Searched,
    tmp_path: Path,
    gains: list[float],
    p_value: float,
    knows: dict[str, Any] | None,
    said: str,
    unsaid: str,
) -> None:
    shutil.copytree(bare.journal, tmp_path / "journal")
    facts = {"found": 0.1, "gains": gains, "p_value": p_value, "typical": 0.0, "high": 0.0}
    facts |= {"objective": "auc_roc_retain"} | ({"knows": knows} if knows else {})
    for value in (0.5, 0.1):
        # The latest of two counts.
        write_event(
            tmp_path / "journal",
            EventKind.NULL,
            run_id=bare.run_id,
            details={**facts, "found": value, "experiments": 120, "seed": 0},
        )
    made = Searched(tmp_path, bare.table, bare.run_id)
    block = unescape(made.report.html.partition('id="chance"')[2].partition("</section>")[0])
    assert said in block
    assert unsaid not in block
    assert ("The score knows something" in block) == (knows is not None)
    assert "proves nothing" not in block
    assert 'class="worse"' not in block
    found = keyed(made.report.html, "null")
    assert exact(found["null.found"]) == 0.1
    assert ("null.knows.found" in found) == (knows is not None)


@pytest.mark.slow
def test_segments_are_those_of_the_command_and_small_ones_are_unknown(proven: Searched) -> None:
    found = keyed(proven.report.html, "segments")
    told = runs.by_segment(proven.run_id, journal=proven.journal)
    shown = 0
    for part in told.parts:
        for line in part.lines:
            key = f"segments.{part.part}.{line.name}"
            assert exact(found[f"{key}.accounts"]) == line.accounts
            for name in ("start", "best", "change"):
                interval = getattr(line, name)
                assert pages.agrees(found[f"{key}.{name}"][0], interval.value)
                for end in ("low", "high") if interval.low is not None else ():
                    assert exact(found[f"{key}.{name}.{end}"]) == getattr(interval, end)
                    shown += 1
            known = f"{key}.retention.nrr" in found
            assert known == (line.start.value is not None)
    assert shown > 20
    small = [line for part in told.parts for line in part.lines if line.accounts < 50]
    assert {line.reading for line in small} == {"unknown"}
    assert "Unknown for &lt;script&gt;" not in proven.report.html
    assert "Unknown for region=&lt;script&gt;" in proven.report.html
    assert "pass" not in re.sub(r"is no pass|<[^>]*>", "", proven.report.html)
    assert 'id="segments"' not in searched_without(proven)


def searched_without(proven: Searched) -> str:
    """The report where the table's segments are others by now: it is not used."""
    table = pl.read_parquet(proven.table).with_columns(region=pl.lit("emea"))
    other = proven.folder / "other.parquet"
    table.write_parquet(other)
    with pytest.raises(NotComparableError, match="other segments"):
        proven.page(data=str(other))
    hidden = proven.table.with_suffix(".hidden")
    proven.table.rename(hidden)
    try:
        page = proven.page()
    finally:
        hidden.rename(proven.table)
    assert page.left_out[0].startswith("moves between tiers, capture, revenue with intervals, seg")
    return page.html


# ---- hostile words ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["report", "history"])
def test_hostile_words_are_escaped(kind: str, hostile: Searched) -> None:
    html = hostile.drawn.html if kind == "report" else hostile.past.html
    assert "&lt;script&gt;window.pwned=1&lt;/script&gt;" in html
    assert "<img" not in html
    assert not [name for name in pages.attributes_in(html) if name.startswith("on")]
    scripts = re.findall(r"<script[^>]*>", html)
    expected = ['<script type="application/json" id="comparable">', "<script>"]
    assert scripts == (expected if kind == "history" else [])
    assert str(7919 * 7907) not in html, "a template in a template"
    assert html.count("<svg") == (16 if kind == "report" else 0)
    assert all(word not in html for word in HOSTILE[:3])


@pytest.mark.slow
def test_hostile_segments_are_escaped(proven: Searched) -> None:
    html = proven.drawn.html
    assert "region=&lt;script&gt;window.pwned=1&lt;/script&gt;" in html
    assert not [name for name in pages.attributes_in(html) if name.startswith("on")]
    assert "<script" not in html
    assert all(word not in html for word in HOSTILE[:2])


@pytest.mark.slow
def test_a_page_names_no_other_place(searched: Searched) -> None:
    for html in (searched.drawn.html, searched.past.html):
        links = re.findall(r"(?:href|src|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", html)
        assert all(link.startswith("#") for link in links)
        outside = set(re.findall(r"https?://[^\s\"'<]+", html))
        assert outside <= {"http://www.w3.org/2000/svg"}


# ---- the command ------------------------------------------------------------------------------


def invoke(*words: str) -> tuple[int, str, str]:
    with blank_charts():
        result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
def test_the_command_writes_a_page_and_says_where(searched: Searched, tmp_path: Path) -> None:
    page, journal = tmp_path / "page.html", str(searched.journal)
    code, out, _ = invoke("report", "-o", str(page), "--journal", journal)
    assert code == 0
    assert str(page) in out
    assert (
        out.splitlines()[-1] == f"Next: gtmar report --history -o history.html --journal {journal}"
    )
    assert page.read_text("utf-8").startswith("<!doctype html>")
    code, _, err = invoke("report", "-o", str(page), "--journal", journal)
    assert (code, "is not replaced" in err) == (2, True), "its own page, too"
    code, out, _ = invoke("report", "-o", str(page), "--journal", journal, "--json", "--force")
    assert code == 0
    told = json.loads(out)
    assert told["run_id"] == searched.run_id
    assert told["bytes"] == page.stat().st_size
    code, out, _ = invoke("report", "--history", "-o", str(page), "--journal", journal, "--force")
    assert code == 0
    assert "History" in out


def test_the_command_replaces_nobody_elses_file(searched: Searched, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html>\n<p>mine", "utf-8")
    code, _, err = invoke("report", "-o", str(page), "--journal", str(searched.journal))
    assert code == 2
    assert "may have been edited" in err
    assert page.read_text("utf-8") == "<!doctype html>\n<p>mine"


def test_a_history_is_of_no_run(searched: Searched) -> None:
    code, _, err = invoke("report", "r1", "--history", "--journal", str(searched.journal))
    assert code == 2
    assert "takes no RUN" in err
