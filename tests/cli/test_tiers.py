"""``gtmar tiers``: edges set by hand, every number of the answer recomputed from the scores."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from gtmar import runs
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.synthetic import generate
from gtmar.runs import score
from gtmar.stats.interval import from_proportion

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTE = "two managers, 60 accounts each"


@dataclass(frozen=True)
class Desk:
    """A table and a spec in a folder of their own."""

    folder: Path

    @property
    def table(self) -> str:
        return str(self.folder / "t.parquet")

    @property
    def spec(self) -> str:
        return str(self.folder / "spec.yaml")

    @property
    def journal(self) -> list[str]:
        return ["--journal", str(self.folder / "journal")]

    def ask(self, *words: str, code: int = 0) -> str:
        answer = CliRunner().invoke(app, [*words, *self.journal])
        assert answer.exit_code == code, answer.output
        return answer.output

    def tiers(self, *words: str, code: int = 0, spec: str | None = None) -> str:
        return self.ask("tiers", spec or self.spec, "--data", self.table, *words, code=code)

    def facts(self, *words: str, spec: str | None = None) -> Any:
        return json.loads(self.tiers(*words, "--json", spec=spec))

    def scored(self, spec: specs.ScoringSpec) -> pl.DataFrame:
        """Accounts with the score and tier that `gtmar score` gives them, and their outcomes."""
        found = score(self.table, spec).select("account_id", "score", "tier")
        return found.join(pl.read_parquet(self.table), on="account_id")


def desk(folder: Path, kind: str, **more: Any) -> Desk:
    generate(kind, accounts=600, seed=6).write_parquet(folder / "t.parquet")
    spec = specs.load(EXAMPLES / kind / "spec.yaml").model_copy(update=more)
    (folder / "spec.yaml").write_text(specs.to_yaml(spec), "utf-8")
    return Desk(folder)


@pytest.fixture
def health(tmp_path: Path) -> Desk:
    return desk(tmp_path, "health_score")


@pytest.fixture
def risk(tmp_path: Path) -> Desk:
    return desk(tmp_path, "churn_risk")


def expected_lines(frame: pl.DataFrame, edges: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Compute each tier's line from scores and outcomes, in SQL and by the definition."""
    names = sorted(edges, key=lambda name: -edges[name])
    bands = " ".join(f"when score >= {edges[name]!r} then '{name}'" for name in names)
    query = f"""
        with placed as (
            select *, case {bands} end as band,
                won_back is null and retained is not null as is_current,
                won_back is null and mrr > 0
                    and (mrr_end is not null or retained = 0) as is_paying,
                case when retained = 0 then 0 else mrr_end end as at_end
            from frame
        )
        select band, count(*) as accounts,
            sum(retained) filter (where is_current) as kept,
            count(*) filter (where is_current) as labelled,
            sum(mrr) filter (where is_paying) as mrr,
            sum(at_end) filter (where is_paying) as at_end,
            sum(least(mrr, at_end)) filter (where is_paying) as held
        from placed group by band
    """
    with duckdb.connect() as connection:
        rows = connection.register("frame", frame).sql(query).pl()
    return {row["band"]: row for row in rows.to_dicts()}


def as_outcomes(frame: pl.DataFrame) -> pl.DataFrame:
    """Show a table's outcomes by the names that the SQL above reads."""
    if "retained_6mo" in frame.columns:
        frame = frame.with_columns(retained=pl.col("retained_6mo"))
    else:
        frame = frame.with_columns(retained=1 - pl.col("churned"))
    if "won_back" not in frame.columns:
        frame = frame.with_columns(won_back=pl.lit(None, dtype=pl.Int8))
    return frame


def assert_true(found: Any, written: specs.ScoringSpec, on: Desk) -> pl.DataFrame:
    """Hold an answer against the scores; return these."""
    frame = on.scored(written)
    edges = {line["tier"]: line["low"] for line in found["tiers"]}
    assert edges == {name: written.tiers[name].min for name in written.tier_names}
    assert list(edges.values()) == sorted(edges.values(), reverse=True)
    expected = expected_lines(as_outcomes(frame), edges)
    assert found["accounts"] == frame.height == sum(line["accounts"] for line in found["tiers"])
    for line in found["tiers"]:
        row = expected[line["tier"]]
        assert line["accounts"] == row["accounts"]
        assert line["accounts"] == frame.filter(pl.col("tier") == line["tier"]).height
        assert line["share"] == pytest.approx(row["accounts"] / frame.height)
        kept = line["logo_retention"]
        stayed, labelled = int(row["kept"]), int(row["labelled"])
        interval = from_proportion(stayed, labelled, level=0.95)
        assert (kept["value"], kept["low"], kept["high"]) == pytest.approx(
            (stayed / labelled, interval.low, interval.high)
        )
        assert line["mrr"] == pytest.approx(row["mrr"])
        assert line["nrr"] == pytest.approx(row["at_end"] / row["mrr"])
        assert line["grr"] == pytest.approx(row["held"] / row["mrr"])
    return frame


def reachable(frame: pl.DataFrame) -> list[int]:
    """Return how many accounts can lie above an edge."""
    counts = frame.group_by("score").len().sort("score", descending=True)["len"]
    return [0, *counts.cum_sum().to_list()]


def test_shares_are_reached_as_nearly_as_ties_allow(health: Desk) -> None:
    out = health.folder / "new.yaml"
    found = health.facts("--shares", "10,25,40,25", "-o", str(out), "--note", NOTE)
    assert set(found) == {
        "source",
        "accounts",
        "before",
        "moved",
        "experiment",
        "newest",
        "former",
        "tiers",
        "spec_id",
        "output",
    }
    written = specs.load(out)
    assert [tier.share for tier in written.tiers.values()] == [0.1, 0.25, 0.4, 0.25]
    assert found["spec_id"] == specs.spec_id(written.model_copy(update={"lineage": None}))
    assert found["output"] == str(out)
    frame = assert_true(found, written, health)
    above, total = reachable(frame), 0
    for line, goal in zip(found["tiers"], (0.1, 0.35, 0.75), strict=False):
        total += line["accounts"]
        wanted = goal * frame.height
        assert abs(total - wanted) == min(abs(each - wanted) for each in above)
    assert found["former"] == frame["won_back"].is_not_null().sum() > 0
    # Weights stay, and whose tier differs is counted.
    start = specs.load(health.spec)
    assert written.weights == start.weights
    assert found["before"] == {name: start.tiers[name].min for name in start.tier_names}
    before = health.scored(start).select("account_id", was="tier")
    both = frame.join(before, on="account_id")
    assert found["moved"] == both.filter(pl.col("tier") != pl.col("was")).height > 0


def test_what_is_printed_is_what_programs_get(health: Desk) -> None:
    found = health.facts("--shares", "10,25,40,25")
    text = health.tiers("--shares", "10,25,40,25")
    share = found["moved"] / found["accounts"]
    assert text.startswith(f"{found['moved']:,} of 600 accounts change tier ({share:.1%}).")
    assert f"{found['former']} accounts left before the window" in text
    for line in found["tiers"]:
        [row] = [row for row in text.splitlines() if row.split()[:1] == [line["tier"]]]
        cells = re.split(r"\s{2,}", row.strip())
        kept = line["logo_retention"]
        assert cells[1] == f"{line['low']:g}"
        assert cells[2] == f"{found['before'][line['tier']]:g}"
        assert cells[3:5] == [f"{line['accounts']:,}", f"{line['share']:.1%}"]
        assert cells[5].startswith(f"{kept['value']:.0%}")
        shown = [f"{line['nrr']:.1%}", f"{line['grr']:.1%}", f"{line['mrr']:,.0f}"]
        assert cells[-3:] == shown
        whole = f"({100 * kept['low']:.0f}-{100 * kept['high']:.0f})"
        assert whole in text.replace("\n", " ")
    assert found["output"] is None
    assert found["experiment"] is None
    assert not (health.folder / "journal").exists(), "a look writes nothing"
    # The command that it names does what it says.
    [following] = re.findall(r"Next: gtmar (.*)", text)
    assert "--shares 10,25,40,25" in following
    assert "-o " in following


def test_capacity_is_counted_and_one_tier_takes_the_rest(health: Desk) -> None:
    out = health.folder / "new.yaml"
    found = health.facts("--accounts", "A=60,B=60,D=100", "-o", str(out), "--note", NOTE)
    written = specs.load(out)
    assert {n: t.accounts for n, t in written.tiers.items()} == {
        "A": 60,
        "B": 60,
        "C": None,
        "D": 100,
    }
    frame = assert_true(found, written, health)
    above = reachable(frame)
    total = 0
    for line, goal in zip(found["tiers"], (60, 120, 500), strict=False):
        total += line["accounts"]
        assert abs(total - goal) == min(abs(each - goal) for each in above)


def test_a_lift_is_reached_by_the_largest_tier_that_leaves_so_often(risk: Desk) -> None:
    out = risk.folder / "new.yaml"
    found = risk.facts("--lift", "hot=2,warm=1.2", "-o", str(out), "--note", NOTE)
    written = specs.load(out)
    assert list(written.tier_names) == ["hot", "warm", *set(written.tiers) - {"hot", "warm"}]
    frame = as_outcomes(assert_true(found, written, risk)).filter(pl.col("retained").is_not_null())
    base = float((1 - frame["retained"]).sum()) / frame.height
    ceiling = 1e9
    for tier, lift in (("hot", 2), ("warm", 1.2)):
        low = written.tiers[tier].min
        assert low is not None
        inside = frame.filter(pl.col("score").is_between(low, ceiling, closed="left"))
        assert inside.height
        assert float((1 - inside["retained"]).sum()) >= lift * base * inside.height - 1e-9
        # No lower edge reaches it.
        for edge in frame.filter(pl.col("score") < low)["score"].unique().to_list():
            more = frame.filter(pl.col("score").is_between(edge, ceiling, closed="left"))
            assert float((1 - more["retained"]).sum()) < lift * base * more.height
        ceiling = low


def test_the_sizes_of_another_spec_are_taken(health: Desk) -> None:
    other = health.folder / "other.yaml"
    start = specs.load(health.spec)
    weights = {term.name: max(term.min, term.weight // 2) for term in start.terms}
    other.write_text(specs.to_yaml(specs.reweighed(start, weights)), "utf-8")
    found = health.facts("--like", health.spec, spec=str(other))
    wanted = health.scored(start).group_by("tier").len()
    sizes = dict(wanted.iter_rows())
    frame = health.scored(specs.load(other))
    above, total, goal = reachable(frame), 0, 0
    for line in found["tiers"][:-1]:
        total, goal = total + line["accounts"], goal + sizes.get(line["tier"], 0)
        assert abs(total - goal) == min(abs(each - goal) for each in above)


@pytest.mark.slow
def test_a_change_of_edges_is_on_record_as_a_persons(health: Desk) -> None:
    one, two = (health.folder / name for name in ("one.yaml", "two.yaml"))
    by = ["--note", NOTE, "--author", "Ann"]
    found = health.facts("--shares", "10,25,40,25", "-o", str(one), *by)
    log = json.loads(health.ask("log", "--json"))["log"]
    assert len(log) == 1
    [entry] = log
    assert (entry["kind"], entry["author"], entry["note"]) == ("human", "Ann", NOTE)
    assert entry["reference"] == found["experiment"]
    moved = [
        (line["tier"], found["before"][line["tier"]], line["low"])
        for line in found["tiers"]
        if found["before"][line["tier"]] != line["low"]
    ]
    assert entry["change"].startswith("the same weights, tiers from ")
    for tier, before, after in moved:
        worded = re.search(rf"\b{tier}: ([\d.]+) -> ([\d.]+)", entry["change"])
        assert worded is not None
        assert (float(worded[1]), float(worded[2])) == (before, after)
    written = specs.load(one)
    assert written.lineage is not None
    assert f"{written.lineage.run}/{written.lineage.experiment}" == found["experiment"]
    assert written.lineage.parent_spec_id == specs.spec_id(specs.load(health.spec))
    text = health.ask("log")
    assert NOTE in text
    assert "the same weights, tiers from A: " in text
    # Setting edges searches nothing and holds nothing out.
    value = rf"{specs.load(one).objective} 0\.\d{{4}} on all accounts of the table"
    assert re.search(value, text)
    assert re.search(value, health.ask("show", found["experiment"]))
    assert re.search(value, health.ask("lineage", str(one)))
    assert "accounts searched" not in text
    # What is checked out is what was written.
    health.ask("checkout", found["experiment"], "-o", str(health.folder / "again.yaml"))
    again = specs.load(health.folder / "again.yaml")
    assert specs.score_id(again) == specs.score_id(written)

    # Both go live, one after the other: the second changes edges alone, and the log says so.
    health.facts("--shares", "25,25,25,25", "-o", str(two), *by, spec=str(one))
    health.ask("promote", str(one), "--note", "first")
    said = health.ask("promote", str(two), "--note", "second")
    assert re.search(r"the same weights; tiers from A: [\d.]+ -> [\d.]+", said)
    [latest, *_] = json.loads(health.ask("log", "--json"))["log"]
    assert latest["kind"] == "promotion"
    assert latest["change"] != "the same weights"
    ends = [specs.load(path).tiers["A"].min for path in (one, two)]
    assert f"A: {ends[0]:g} -> {ends[1]:g}" in latest["change"]
    differing = health.ask("diff", str(one), str(two))
    assert "tiers" in differing


@pytest.mark.parametrize(
    ("words", "text", "code"),
    [
        (["--shares", "10,20"], "--shares must add up to 100 percent, they add up to 30", 2),
        (["--shares", "10,x,90"], '--shares expects a number above 0 by tier, got "B=x"', 2),
        (["--shares", "0,50,50"], '--shares expects a number above 0 by tier, got "A=0"', 2),
        (["--accounts", "A=1.5"], '--accounts expects a whole number above 0 by tier, got "A=1', 2),
        (["--accounts", "A=60"], "one tier has no accounts and takes the rest, got 3 such", 3),
        (["--accounts", "A=60,A=70,B=9,C=9"], "--accounts: a tier stands twice", 2),
        (["--accounts", "A=60,Z=3"], 'there is no tier "Z": A, B, C, D', 3),
        (["--lift", "A=3,B=2,C=1.5"], "lift is for risk scores", 3),
        (["--shares", "50,50", "--lift", "A=3"], "one way to set the edges at a time", 2),
        (["--shares", "50,50", "--like", "spec.yaml"], "one way to set the edges at a time", 2),
        (["--like", "nowhere.yaml"], 'spec "nowhere.yaml": No such file or directory', 3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_not_be_is_said_and_nothing_is_written(
    health: Desk, words: list[str], text: str, code: int
) -> None:
    before = sorted(health.folder.rglob("*"))
    out = health.folder / "new.yaml"
    answer = health.tiers(*words, "-o", str(out), "--note", NOTE, code=code)
    assert text in " ".join(answer.split())
    assert "hint:" in answer
    assert sorted(health.folder.rglob("*")) == before
    error = json.loads(health.tiers(*words, "-o", str(out), "--json", code=code))["error"]
    assert text in error["message"]


def test_a_hint_on_capacity_fits_the_tiers(health: Desk) -> None:
    answer = health.tiers("--accounts", "A=60", code=3)
    [hint] = re.findall(r"hint: (.*)", answer)
    found = health.facts(*hint.split())
    assert [line["tier"] for line in found["tiers"]] == ["A", "B", "C", "D"]


def test_an_output_that_is_there_stays(health: Desk) -> None:
    out = health.folder / "new.yaml"
    out.write_text("mine", "utf-8")
    health.tiers("--shares", "50,50", "-o", str(out), code=2)
    assert out.read_text("utf-8") == "mine"
    assert not (health.folder / "journal").exists()
    health.tiers("--shares", "25,25,25,25", "-o", str(out), "--force")
    assert specs.load(out).tiers["A"].share == 0.25


@pytest.mark.parametrize(
    ("rule", "sizes", "told"),
    [
        (
            "share",
            {"A": 0.15, "B": 0.85},
            "tier A has 40 accounts, not 30; tier B has 160 accounts",
        ),
        ("share", {"A": 0.2, "B": 0.8}, None),
        ("accounts", {"A": 30}, "tier A has 40 accounts, not 30."),
        # Asked for more than there is, which is no tie.
        ("accounts", {"A": 900}, None),
    ],
)
def test_a_size_that_ties_miss_is_said(
    rule: Any, sizes: dict[str, float], told: str | None
) -> None:
    """Of a tier of 10 % that took 14.8 % of the accounts, which score alike, nothing was said."""
    flag = [1] * 40 + [0] * 160
    stays = [n % 3 > 0 for n in range(200)]
    table = pl.DataFrame({"account_id": range(200), "flag": flag, "retained_6mo": stays})
    data = {
        "model": "m",
        "features": {"flag": {"weight": 10, "min": 0, "max": 20, "encode": "bool"}},
        "tiers": {"A": {"min": 5, "max": 101}, "B": {"min": 0, "max": 5}},
    }
    found = runs.tiers_of(table, specs.ScoringSpec.model_validate(data), rule=rule, sizes=sizes)
    assert (found.ties is None) is (told is None)
    assert told is None or told in (found.ties or "")


def test_more_accounts_than_there_are_leave_lower_tiers_empty(health: Desk) -> None:
    found = health.facts("--accounts", "A=99999,B=2,C=3")
    assert [line["accounts"] for line in found["tiers"]][1:3] == [0, 0]
    assert found["tiers"][1]["logo_retention"] is None
    assert sum(line["accounts"] for line in found["tiers"]) == found["accounts"]


def test_the_spec_whose_sizes_are_taken_is_not_written_onto(health: Desk) -> None:
    other = health.folder / "other.yaml"
    other.write_bytes((health.folder / "spec.yaml").read_bytes())
    before = other.read_bytes()
    words = ["tiers", str(health.folder / "spec.yaml"), "--data", str(health.folder / "t.parquet")]
    words += ["--like", str(other), "-o", str(other), "--force"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2, done.output
    assert "no output goes onto an input" in done.stderr
    assert other.read_bytes() == before
