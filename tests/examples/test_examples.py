"""The examples: every walk-through runs as it is written, and what it quotes is what comes out.

Wording may change, numbers may not: the numbers and names of a quoted line must stand side by side
in the real output, and the lines in their order. Run ids, seconds and rates are left out.

When numbers or wording have moved for a good reason,

    python tests/examples/test_examples.py --overwrite

runs the walk-throughs anew and refreshes their quotes and each `best.yaml`. Prose and tables are
then for a person to read again; the tests here say where they no longer agree.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
import yaml

# As a script this file finds its helpers itself.
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from commands import printed

from gtmar import runs, spec
from gtmar.data.synthetic import KINDS, generate
from gtmar.errors import ViolationsError

if TYPE_CHECKING:
    from gtmar.spec.model import ScoringSpec

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
RUN_ID = re.compile(r"\br\d{8}-\d{6}-[0-9a-f]{6}\b")
#: What depends on the machine and the hour.
PASSING = re.compile(rf"{RUN_ID.pattern}|[\d.]+ s, [\d,]+ experiments a second")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
SKIPPED = "..."
#: AUC at the start and at the best where `orientation: risk` was forgotten, and percent of
#: "critical" that stayed.
WRONG_WAY_ROUND = ("0.3256", "0.7617", "92.9")


def readme(kind: str) -> str:
    """Read a walk-through."""
    return (EXAMPLES / kind / "README.md").read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Find the fenced blocks of a walk-through: language and content."""
    return [(found[1], found[2]) for found in FENCED.finditer(text)]


def marks(text: str) -> list[str]:
    """Split a text into its numbers and names, without words that may be reworded."""
    words = (word.strip("()[]{}.,:;'\"`#") for word in PASSING.sub("", text).split())
    return [word for word in words if re.search(r"\d|_", word)]


def missing(quoted: str, output: str) -> list[str]:
    """List the quoted lines that the output lacks, or has in another order."""
    stream, at, lacking = marks(output), 0, []
    for line in quoted.splitlines():
        wanted = marks(line)
        places = range(at, len(stream) - len(wanted) + 1)
        place = next((i for i in places if stream[i : i + len(wanted)] == wanted), None)
        if place is None:
            lacking.append(line)
        else:
            at = place + len(wanted)
    return lacking


@dataclass(frozen=True)
class Walk:
    """A walk-through that was followed: what it quotes and what came out, a pair a block."""

    kind: str
    folder: Path
    quotes: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def best(self) -> ScoringSpec:
        """The spec that its run wrote."""
        return spec.load(self.folder / "best.yaml")


def follow(kind: str, folder: Path) -> Walk:
    """Run a walk-through's commands in a folder that holds the spec and nothing else."""
    shutil.copy(EXAMPLES / kind / "spec.yaml", folder)
    found = blocks(readme(kind))
    outputs = tuple(
        "".join(printed(line, folder) for line in content.splitlines())
        for language, content in found
        if language == "sh"
    )
    quotes = tuple(content for language, content in found if language == "text")
    return Walk(kind, folder, quotes, outputs)


@pytest.fixture(scope="module", params=list(KINDS))
def walk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    kind: str = request.param
    return follow(kind, tmp_path_factory.mktemp(kind))


# What the folder holds


def test_examples_hold_specs_walk_throughs_and_best_specs_and_nothing_else() -> None:
    held = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.is_file()}
    each = {f"{kind}/{name}" for kind in KINDS for name in ("README.md", "spec.yaml", "best.yaml")}
    history = {"README.md", "generate.py", "snapshots.yaml", "spec.yaml"}
    each |= {f"from_history/{name}" for name in history}
    assert held == each | {"README.md", "notebook.py"}


@pytest.mark.parametrize("kind", KINDS)
def test_walk_through_gives_every_command_its_output(kind: str) -> None:
    found = blocks(readme(kind))
    commands = [content.split()[1] for language, content in found if language == "sh"]
    tiers = ["tiers"] if kind == "churn_risk" else []
    assert commands == ["generate", "spec", "check", "run", "review", "review", *tiers, "score"]
    assert [language for language, _ in found] == ["sh", "text"] * len(commands)
    assert all("--seed" in content for _, content in found if content.startswith("gtmar run"))
    assert all(marks(content) for language, content in found if language == "text")


# What the commands print


def test_quoted_numbers_are_in_the_output(walk: Walk) -> None:
    pairs = zip(walk.quotes, walk.outputs, strict=True)
    assert [missing(quoted, output) for quoted, output in pairs] == [[]] * len(walk.quotes)


def test_numbers_in_the_prose_come_from_somewhere(walk: Walk) -> None:
    planted = KINDS[walk.kind].planted.values()
    sources = [
        *walk.outputs,
        *((walk.folder / name).read_text(encoding="utf-8") for name in ("spec.yaml", "best.yaml")),
        " ".join(str(strength) for logit in planted for strength in logit.strengths.values()),
        *(WRONG_WAY_ROUND if walk.kind == "churn_risk" else ()),
    ]
    known = set(NUMBER.findall(" ".join(sources)))
    text = FENCED.sub("", readme(walk.kind))
    prose = [line for line in text.splitlines() if not line.startswith("|")]
    assert [line for line in prose if not known.issuperset(NUMBER.findall(line))] == []


def test_overview_has_the_numbers_of_the_run(walk: Walk) -> None:
    overview = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    row = next(line for line in overview.splitlines() if line.startswith(f"| [`{walk.kind}`]"))
    _, _, accounts, _, searched, held_out = row.strip("| ").split(" | ")
    generated, _, _, ran, *_ = walk.outputs
    assert missing(accounts, generated) == []
    assert missing(f"{searched}\n{held_out}", ran.replace(" to ", " -> ")) == []


def test_every_row_of_the_journal_states_its_basis(walk: Walk) -> None:
    rows = pl.read_parquet(walk.folder / "journal" / "experiments" / "*" / "*.parquet")
    basis = "binary" if walk.kind == "icp_fit" else "observed"
    assert rows["basis"].unique().to_list() == [basis]


def test_points_of_the_scored_table_add_up(walk: Walk) -> None:
    scored = pl.read_parquet(walk.folder / "scored.parquet")
    made_of = pl.col("^points\\..*$", "base", "rounding", "clipping")
    parts = scored.select(pl.sum_horizontal(made_of))
    assert scored.height == KINDS[walk.kind].accounts
    assert parts.to_series().to_list() == pytest.approx(scored["score"].to_list(), abs=1e-9)


# The best specs


def test_best_spec_is_what_the_run_finds_again(walk: Walk) -> None:
    kept, found = spec.load(EXAMPLES / walk.kind / "best.yaml"), walk.best
    assert {term.name: term.weight for term in kept.terms} == {
        term.name: term.weight for term in found.terms
    }
    assert kept.lineage is not None
    assert found.lineage is not None
    assert kept.calibration is not None
    assert found.calibration is not None
    # A run id and a day are the run's own; all else is the same each time.
    lineage = found.lineage.model_copy(update={"run": kept.lineage.run})
    calibration = found.calibration.model_copy(update={"fitted": kept.calibration.fitted})
    assert kept == found.model_copy(update={"lineage": lineage, "calibration": calibration})


@pytest.mark.parametrize("kind", KINDS)
def test_best_spec_says_where_it_came_from(kind: str) -> None:
    path = EXAMPLES / kind / "best.yaml"
    lineage = spec.load(path).lineage
    assert lineage is not None
    heading = path.read_text(encoding="utf-8").splitlines()[0]
    assert heading == f"# Written by gtmar run {lineage.run}, experiment {lineage.experiment}."
    assert lineage.parent_spec_id == spec.spec_id(spec.load(path.with_name("spec.yaml")))
    assert set(RUN_ID.findall(readme(kind))) == {lineage.run}


# What the walk-throughs claim beside


def strength_of(kind: str, term: str) -> float:
    """Look up what was planted for a weight, turned round where its encoder does so."""
    logit = KINDS[kind].planted["churned" if kind == "churn_risk" else "retained_6mo"]
    feature, _, category = term.removesuffix("]").partition("[")
    name = f"{feature}={category}" if category else feature
    text = (EXAMPLES / kind / "spec.yaml").read_text(encoding="utf-8")
    encoder = yaml.safe_load(text)["features"][feature].get("encode", {})
    return -logit.strengths[name] if encoder.get("invert") else logit.strengths[name]


@pytest.mark.parametrize("kind", KINDS)
def test_closing_table_is_what_was_planted_guessed_and_found(kind: str) -> None:
    guessed, found = (
        {term.name: term.weight for term in spec.load(EXAMPLES / kind / name).terms}
        for name in ("spec.yaml", "best.yaml")
    )
    rows = re.findall(r"^\| `(.+)` \| (\S+) \| (\S+) \| (\S+) \|$", readme(kind), re.MULTILINE)
    assert len(rows) >= 8
    for name, *cells in rows:
        assert [float(cell) for cell in cells] == [
            strength_of(kind, name),
            guessed[name],
            found[name],
        ], name


def test_without_orientation_a_run_seems_to_succeed_and_is_worth_nothing(tmp_path: Path) -> None:
    table, guess = generate("churn_risk"), spec.load(EXAMPLES / "churn_risk" / "spec.yaml")
    found = runs.run(table, guess.model_copy(update={"orientation": "health"}), journal=tmp_path)
    kept = found.metrics["logo_retention_by_tier"]
    assert isinstance(kept, dict)
    assert (
        f"{found.baseline_value:.4f}",
        f"{found.best_value:.4f}",
        f"{100 * kept['critical']:.1f}",
    ) == WRONG_WAY_ROUND
    assert kept["low"] == min(kept.values())


def test_tiers_hold_their_size(walk: Walk) -> None:
    ends = pl.read_parquet(walk.folder / "journal" / "experiments" / "*" / "*.parquet")
    tiers = walk.best.tiers
    for counts in ends.filter(pl.col("outcome").is_in(["baseline", "win"]))["accounts_by_tier"]:
        sizes = dict(counts)
        accounts = sum(sizes.values())
        for name, size in sizes.items():
            # Half the accounts that tie across an edge; on these tables hardly any do.
            assert size == pytest.approx((tiers[name].share or 0) * accounts, abs=4)


def test_own_edges_give_the_sizes_that_the_run_found(walk: Walk) -> None:
    scored = runs.score(generate(walk.kind), walk.best)
    shares = scored["tier"].value_counts(normalize=True)
    for name, share in shares.rows():
        # Of all accounts, those held out included: an edge was found on the others.
        assert share == pytest.approx(walk.best.tiers[name].share, abs=0.02)


def test_companies_without_outcomes_are_scored() -> None:
    companies = generate("icp_fit").drop("retained_6mo", "mrr", "actual_ltv")
    scored = runs.score(companies, spec.load(EXAMPLES / "icp_fit" / "best.yaml"))
    assert scored.height == companies.height
    assert scored["score"].null_count() == 0


def test_missing_value_that_the_spec_has_no_word_for_is_an_error() -> None:
    table = generate("icp_fit").with_columns(
        pl.lit(None, dtype=pl.Int16).alias("company_age_years")
    )
    with pytest.raises(ViolationsError, match="company_age_years"):
        runs.check(table, EXAMPLES / "icp_fit" / "spec.yaml")


# The comparison itself


OUTPUT = (
    "auc rose from 0.63 to\n0.76 (+0.13).\nnoise_feature_1  2  0  -2\nRun r20260101-120000-abc123"
)


@pytest.mark.parametrize(
    "quoted",
    [
        "...\n",
        "AUC went up: 0.63, then 0.76 (+0.13)\n...\nnoise_feature_1   2   0   -2\n",
        "Run r20270707-070707-fedcba: 9.9 s, 1,234 experiments a second.\n",
    ],
)
def test_other_words_and_other_runs_are_no_difference(quoted: str) -> None:
    assert missing(quoted, OUTPUT) == []


@pytest.mark.parametrize(
    "line",
    [
        "0.64 to 0.76",
        "0.63 (+0.13)",
        "noise_feature_2  2  0  -2",
        "noise_feature_1  2  0  2",
        "noise_feature_1  2  -2",
        "noise_feature_1  2  0  -2  7",
    ],
)
def test_another_number_name_or_gap_is_found(line: str) -> None:
    assert missing(f"{line}\n", OUTPUT) == [line]


def test_lines_out_of_order_are_found() -> None:
    assert missing("noise_feature_1  2  0  -2\n0.63 to 0.76\n", OUTPUT) == ["0.63 to 0.76"]


# Keeping the walk-throughs up to date


def bare(line: str) -> str:
    """Leave the digits of a line out of account, and how wide its columns are."""
    return " ".join(re.sub(r"[\d,]*\d", "0", line).split())


def refreshed(quoted: str, output: str) -> str:
    """Replace the quoted lines by those of the output that are most like them, numbers aside.

    All are matched at once and in their order. A line that follows another one in the quote does so
    in the output if it can: so a table stays whole where its rows come in another order.
    """
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    quotes = [line for line in quoted.splitlines() if line]
    wanted = [line for line in quotes if line != SKIPPED]
    follows = [b != SKIPPED for a, b in pairwise([*quotes, SKIPPED]) if a != SKIPPED]
    # best[i]: by place of quote i, how well it and all after it can match, and the next place.
    best: list[list[tuple[float, int]]] = [[(0.0, len(lines))] * (len(lines) + 1)]
    for line, joined in zip(reversed(wanted), reversed(follows), strict=True):
        found, later = [(-inf, 0)], (-inf, 0)
        for place in reversed(range(len(lines))):
            later = max(later, (best[-1][place + 1][0], place + 1))
            beside = (best[-1][place + 1][0] + joined, place + 1)
            score, following = max(later, beside)
            likeness = SequenceMatcher(None, bare(line), bare(lines[place])).ratio()
            found.append((score + likeness, following))
        best.append(found[::-1])
    best.reverse()
    place = max(range(len(lines) + 1), key=lambda at: best[0][at][0])
    new = []
    for matched in best[:-1]:
        new.append(lines[place])
        place = matched[place][1]
    replaced = iter(new)
    return "".join(
        f"{next(replaced) if line and line != SKIPPED else line}\n" for line in quoted.splitlines()
    )


def test_refreshing_keeps_tables_whole() -> None:
    output = (
        "won  gain\n----\n  7  snow: 1 -> 2, visits: 3 -> 4\n     visits: 4 -> 5\n\n"
        "weight  best\n----\nvisits    25\nsnow      -3\n\n"
        "Tiers\nstart  A  1,083\nbest   A    612\n"
    )
    quoted = "...\nweight  best\n----\nsnow  7\nvisits  5\n\nTiers\nstart  A  83\n...\n"
    whole = output[output.index("weight") : output.index("best   A")]
    assert refreshed(quoted, output) == f"...\n{whole}...\n"


def overwrite(kind: str) -> None:
    """Follow a walk-through and write down what came out."""
    with tempfile.TemporaryDirectory() as folder:
        walk = follow(kind, Path(folder))
        shutil.copy(walk.folder / "best.yaml", EXAMPLES / kind)
    text = readme(kind)
    for quoted, output in zip(walk.quotes, walk.outputs, strict=True):
        text = text.replace(f"```text\n{quoted}```", f"```text\n{refreshed(quoted, output)}```")
    (EXAMPLES / kind / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--overwrite"]:
        sys.exit(__doc__)
    for name in KINDS:
        overwrite(name)
