"""The pages say what is so: their blocks run, their lists are complete, their links lead somewhere.

How a page's blocks are run: those marked ``sh``, ``sql`` and ``python`` in order, in one folder a
page, with one DuckDB connection and one Python namespace; ``yaml`` is read as a spec, or as a part
of one; ``text`` is not run. In ``sh`` each line is a `gtmar` command, in ``sql`` a line may be the
shell's ``.read FILE``. Run ids written in a page stand for the folder's runs, in the order in which
they first appear. A run is cut off before a line that resumes it. Searches stop early, and charts
are left blank: no block depends on either.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import re
import shlex
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pytest
import typer
import yaml
from sql_files import files_of

# As a script, which writes the generated pages, this file finds its helpers itself.
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import forks
from blank_charts import blank_charts
from commands import printed
from desks import RunningDesk
from short_searches import short_searches
from stripe_export import make_export
from typer.testing import CliRunner

from gtmar import api, errors
from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.cli.json_schemas import json_schemas
from gtmar.data import synthetic
from gtmar.engine.evaluator import EVALUATOR_VERSION
from gtmar.journal.columns import EXPERIMENTS, FORMAT_VERSION, RECORDS
from gtmar.journal.schema import schema_of
from gtmar.journal.sql_library import library
from gtmar.metrics import all_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from gtmar.journal.sql_library import Column, SqlFile
    from gtmar.metrics import Metric

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GUIDES = [
    ROOT / "docs" / f"{name}.md"
    for name in (
        "methodology",
        "metrics",
        "spec",
        "journal-format",
        "history",
        "report",
        "leakage",
        "lakehouse",
        "program",
        "snapshots",
        "stripe",
        "sql",
        "time",
        "python",
        "json",
        "desk",
        "cli",
        "changelog",
        "architecture",
    )
]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
LANGUAGES = {"sh", "sql", "python", "yaml", "text"}
RUN_ID = re.compile(r"r\d{8}-\d{6}-[0-9a-f]{6}")
#: Options in the pages that belong to other programs.
FOREIGN = {"-m", "-q", "-n", "-e", "--dist"}


def named(path: Path) -> str:
    return path.name


# ---- reading pages ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return a page's blocks; a fence without a language has an empty one."""
    found: list[Block] = []
    inside: list[str] | None = None
    language, start = "", 0
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        if not line.startswith("```"):
            if inside is not None:
                inside.append(line)
        elif inside is None:
            inside, language, start = [], line[3:].strip(), number
        else:
            found.append(Block(language, "\n".join(inside), start))
            inside = None
    assert inside is None, f"{page.name}:{start}: the block doesn't end"
    return found


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def sections(page: Path, level: int) -> dict[str, str]:
    """Return what stands below each heading of a level, up to the next of it or above."""
    found: dict[str, str] = {}
    current = None
    fenced = False
    for line in page.read_text("utf-8").splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"^(#+) (.+)$", line)
        if heading and len(heading[1]) <= level:
            current = heading[2].strip("`") if len(heading[1]) == level else None
            if current is not None:
                assert current not in found, f'{page.name}: heading "{current}" stands twice'
                found[current] = ""
        elif current is not None:
            found[current] += line + "\n"
    return found


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables in a text, without heads and rules, backticks taken off."""
    found: list[list[str]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        after = lines[number + 1] if number + 1 < len(lines) else ""
        if not line.startswith("|") or line.startswith("|---") or after.startswith("|---"):
            continue
        cells = line.strip("|").replace("`", "").split("|")
        found.append([cell.strip() for cell in cells])
    return found


def code(page: Path) -> list[str]:
    """Return all that a page sets as code and that isn't Python or YAML."""
    spans = re.findall(r"`([^`\n]+)`", prose(page))
    return spans + [b.text for b in blocks(page) if b.language not in ("python", "yaml")]


# ---- running blocks --------------------------------------------------------------------------


#: What pages call the recipe of one's own.
RECIPE = """\
name: docs
sources:
  subs: {data: subs.csv, account: account, from: start, until: end}
dates: [2024-07-01, 2025-01-01]
window: 6 months
data_until: 2025-07-01
revenue:
  subscriptions: {source: subs, amount: mrr}
features:
  tenure: {tenure: subs}
"""


class Bench:
    """A folder in which a page's blocks are run, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {}
        self.ids: list[str] = []
        self.duckdb = duckdb.connect(config={"threads": 1})
        (folder / "sql").symlink_to(ROOT / "sql")
        (folder / "snapshots.yaml").write_text(RECIPE, "utf-8")
        ends = [*(f"2024-{month}-01" for month in ("09", 10, 11, 12)), "2025-03-01", "2025-09-01"]
        periods = [f"{i:05},2024-0{1 + i % 5}-10,{ends[i % 7 % 6]},{10 + i}" for i in range(180)]
        (folder / "subs.csv").write_text("\n".join(["account,start,end,mrr", *periods]), "utf-8")

    def run(self, block: Block) -> None:
        text = RUN_ID.sub(self._real_id, block.text)
        if block.language == "sh":
            for line in text.splitlines():
                self.command(line)
        elif block.language == "sql":
            self.sql(text)
        else:
            exec(compile(text, f"line {block.line}", "exec"), self.names)

    def command(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        into = words.pop() if len(words) > 2 and words[-2] == ">" else None
        if into:
            words.pop()
        assert words[0] == "gtmar", line
        if words[1] == "resume":
            for name in ("end.parquet", "seal"):
                (self.folder / "journal" / "runs" / f"run_id={words[2]}" / name).unlink()
        if words[1] == "desk":
            # It answers until it is stopped, and ends as it should.
            assert RunningDesk(self.folder, *words[2:]).stop()[0] == 0, line
            return
        result = CliRunner().invoke(app, words[1:])
        # A decision may go either way, of few accounts nothing may be told: neither is an error.
        fine = {"decide": (0, 10), "refresh": (0, 10), "watch": (0, 11)}
        assert result.exit_code in fine.get(words[1], (0,)), f"{line}\n{result.output}"
        if into:
            (self.folder / into).write_text(result.stdout, encoding="utf-8")

    def sql(self, text: str) -> None:
        waiting: list[str] = []
        for line in [*text.splitlines(), ".read"]:
            if not line.startswith(".read"):
                waiting.append(line)
                continue
            self.duckdb.execute("\n".join(waiting))
            waiting = []
            if path := line.partition(" ")[2]:
                self.duckdb.execute((self.folder / path).read_text("utf-8"))

    def _real_id(self, match: re.Match[str]) -> str:
        if match[0] not in self.ids:
            self.ids.append(match[0])
        starts = (self.folder / "journal" / "runs").glob("*/start.parquet")
        columns = ["started_at", "run_id"]
        runs = pl.concat(pl.read_parquet(path, columns=columns) for path in starts)
        return str(runs.sort("started_at")["run_id"][self.ids.index(match[0])])


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GTMAR_JOURNAL", raising=False)
    made = Bench(tmp_path)
    yield made
    made.duckdb.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_blocks_of_a_guide_run(page: Path, bench: Bench) -> None:
    if page.stem == "stripe":
        make_export().write(bench.folder / "stripe")
        (bench.folder / "snapshots.yaml").unlink()
    with short_searches(), blank_charts():
        for block in blocks(page):
            if block.language in ("sh", "sql", "python"):
                bench.run(block)


@pytest.mark.parametrize("page", [README, *GUIDES], ids=named)
def test_every_block_says_what_it_is(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


def test_yaml_blocks_are_specs_or_parts_of_one() -> None:
    page = ROOT / "docs" / "spec.md"
    parts = [yaml.safe_load(block.text) for block in blocks(page) if block.language == "yaml"]
    assert len(parts) > len(specs.json_schema()["$defs"]["Feature"]["properties"])
    smallest = parts[0]
    for part in parts:
        specs.parse(yaml.safe_dump({**smallest, **part}))


# ---- README ----------------------------------------------------------------------------------


def test_readme_has_the_two_set_up_commands_on_a_line_each() -> None:
    parts = sections(README, 2)
    shells = {
        name: re.findall(r"^```sh\n(.*?)^```$", parts[name], re.DOTALL | re.MULTILINE)
        for name in ("Demo", "Tests")
    }
    start = "python3 -m venv .venv && .venv/bin/pip install -q "
    assert shells["Demo"] == [f"{start}. && .venv/bin/gtmar demo\n"]
    tests = ".venv/bin/pytest -q -n 2 --dist worksteal -m 'not slow'"
    assert shells["Tests"] == [f"{start}-e '.[dev]' && {tests}\n"]
    assert len(README.read_text("utf-8").splitlines()) < 150


@pytest.mark.slow
def test_readme_quickstart_runs_on_a_table_of_ones_own(bench: Bench) -> None:
    synthetic.generate("health_score", accounts=600).write_parquet("accounts.parquet")
    shells = [block.text for block in blocks(README) if block.language == "sh"]
    lines = [line for text in shells[:2] for line in text.splitlines()]
    assert [shlex.split(line)[:2] for line in lines] == [
        ["gtmar", name]
        for name in (
            *("init", "check", "run", "review", "decide", "list", "score"),
            *("try", "promote", "log", "best", "checkout"),
        )
    ]
    with short_searches():
        for line in lines:
            bench.command(line)
    assert {"spec.yaml", "best.yaml", "scored.parquet", "journal", "before.yaml"} <= {
        path.name for path in bench.folder.iterdir()
    }


@pytest.mark.slow
def test_readme_shows_what_the_demo_prints(tmp_path: Path) -> None:
    full = "gtmar review --full --journal gtmar-demo/journal"
    assert f"`{full}`" in README.read_text("utf-8")
    for command, known in (("gtmar demo", "of them kept"), (full, "noise_feature_2")):
        told = printed(command, tmp_path, columns=100)
        said = [" ".join(line.split()) for line in told.splitlines()]
        shown = next(b.text for b in blocks(README) if known in b.text)
        place = 0
        for line in (" ".join(line.split()) for line in shown.splitlines()):
            if line != "...":
                assert line in said[place:], f"{command} doesn't print, or not here: {line}"
                place = said.index(line, place) + 1


# ---- lists that must be complete -------------------------------------------------------------


def bullets(metric: Metric) -> list[str]:
    return [
        f"- Answers: {metric.answers}",
        f"- Formula: {metric.formula}",
        f"- Unit: {metric.unit}",
        f"- Range: {metric.range}",
        f"- Better: {metric.better}",
        f"- By tier: {'yes' if metric.by_tier else 'no'}",
        f"- Needs: {', '.join(metric.needs) or 'nothing'}",
        f"- Null when: {metric.null_when or 'never'}",
        f"- Source: {metric.source}",
    ]


def test_every_metric_has_a_section_that_says_what_the_code_says() -> None:
    metrics = all_metrics()
    page = sections(ROOT / "docs" / "metrics.md", 2)
    written = {
        name: [line for line in text.splitlines() if line.startswith("- ")]
        for name, text in page.items()
        if "\n- Answers: " in text
    }
    assert written == {key: bullets(metric) for key, metric in metrics.items()}


def test_the_table_of_the_13_names_13_metrics_and_no_other() -> None:
    table = (ROOT / "docs" / "metrics.md").read_text("utf-8").partition("## ")[0]
    listed = rows(table)
    assert [row[0] for row in listed] == [str(n) for n in range(1, 14)]
    keys = re.findall(r"\[(\w+)\]", " ".join(" ".join(row) for row in listed))
    assert len(keys) == len(set(keys))
    assert set(keys) < set(all_metrics())


def arrow_type(kind: pa.DataType) -> str:
    return str(kind).replace("item: ", "").replace("element: ", "").replace("tz=", "")


@pytest.mark.parametrize(
    ("heading", "schema"),
    [("Run records", schema_of(RECORDS)), ("Experiments", schema_of(EXPERIMENTS))],
    ids=["runs", "experiments"],
)
def test_every_journal_column_is_described_with_its_type(heading: str, schema: pa.Schema) -> None:
    listed = rows(sections(ROOT / "docs" / "journal-format.md", 2)[heading])
    assert [(name, kind) for name, kind, _ in listed] == [
        (field.name, arrow_type(field.type)) for field in schema
    ]
    assert all(meaning for _, _, meaning in listed)


def described(file: SqlFile) -> str:
    """Return the section of docs/sql.md that a file's header calls for."""

    def table(head: str, items: tuple[Column, ...]) -> list[str]:
        lines = [f"| `{c.name}` | `{c.type}` | {c.meaning} |" for c in items]
        return [f"| {head} | type | meaning |", "|---|---|---|", *lines, ""] if items else []

    parts = [
        "",
        file.purpose,
        "",
        *table("parameter", file.parameters),
        *table("column", file.columns),
        f"Grain: {file.grain}. Order: {file.order}.",
    ]
    return "\n".join(parts).strip()


def rewrite_sql_page() -> None:
    """Write all headers anew into docs/sql.md, where `python tests/docs/test_docs.py` is run."""
    page = ROOT / "docs" / "sql.md"
    text = page.read_text("utf-8")
    for kind in {name.partition("/")[0] for name in library()}:
        head, body = re.split(rf"(?<=\n## {kind.title()}\n)", text, maxsplit=1)
        own, after = re.split(r"(?=\n## )|\Z", body, maxsplit=1)
        opening = own.partition("\n### ")[0].strip("\n")
        files = [f"\n### {name}\n\n{described(f)}\n" for name, f in files_of(kind).items()]
        text = head + (f"\n{opening}\n" if opening else "") + "".join(files) + after
    page.write_text(text, encoding="utf-8")


def test_every_sql_file_is_described_as_its_header_says() -> None:
    page = sections(ROOT / "docs" / "sql.md", 3)
    written = {name: text.strip() for name, text in page.items() if "Grain: " in text}
    assert written == {name: described(file) for name, file in library().items()}


def test_every_view_and_macro_is_described() -> None:
    text = (ROOT / "sql" / "views.sql").read_text("utf-8")
    views = re.findall(r"^create or replace view (\w+)", text, re.MULTILINE)
    macros = re.findall(r"^create or replace macro (\w+\([^)]*\))", text, re.MULTILINE)
    assert views
    assert macros
    listed = rows(sections(ROOT / "docs" / "sql.md", 2)["Views"])
    assert sorted(row[0] for row in listed) == sorted([*views, *macros])


def json_type(schema: dict[str, Any]) -> str:
    """Word a schema's type; what has a title is linked to its own section."""
    if "title" in schema:
        title = schema["title"]
        return f"[{title}](#{title.lower().replace(',', '').replace(' ', '-')})"
    if "anyOf" in schema:
        return " or ".join(json_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if "prefixItems" in schema:
        return f"list of {', '.join(json_type(each) for each in schema['prefixItems'])}"
    if schema.get("type") == "array":
        return f"list of {json_type(schema['items'])}"
    of = schema.get("additionalProperties")
    return f"object of {json_type(of)}" if of else str(schema.get("type", "any"))


def json_rows(schema: dict[str, Any], path: str = "") -> list[str]:
    """Return a line for each key of a schema, those of objects in it after it."""
    lines = []
    for each in schema.get("anyOf", [schema]):
        if "title" in each:
            continue
        if each.get("items"):
            lines += json_rows(each["items"], f"{path}[]")
        for name, kind in each.get("properties", {}).items():
            own = f"{path}.{name}" if path else name
            meaning = kind.get("description", "").replace("|", "\\|")
            lines += [f"| `{own}` | {json_type(kind)} | {meaning} |", *json_rows(kind, own)]
    return lines


def json_titles(schema: object) -> dict[str, dict[str, Any]]:
    """Return the schemas with a title that stand in a schema, by their titles."""
    found: dict[str, dict[str, Any]] = {}
    for each in schema.values() if isinstance(schema, dict) else schema:  # type: ignore[attr-defined] # a list else
        if isinstance(each, dict | list):
            found |= json_titles(each)
    if isinstance(schema, dict) and isinstance(title := schema.get("title"), str):
        found[title] = schema
    return found


def json_page() -> str:
    """Return docs/json.md, as the schemas have it."""
    schemas = json_schemas()
    answers = {f"gtmar {name}": schema for name, schema in sorted(schemas.items())}
    titles = dict(sorted(json_titles([{"x": s} for s in schemas.values()]).items()))
    own = {str(s.get("title")) for s in schemas.values()}
    head = (
        "# What commands print with --json",
        "",
        "One JSON value on stdout; of an error one line on stderr, see [errors](cli.md#errors).",
        "The keys listed are all there, and no others. `gtmar spec schema --answer run` prints the",
        "same as JSON Schema. Days and times are texts, ISO 8601.",
        "`python tests/docs/test_docs.py` writes this page anew.",
        "",
    )
    page = "\n".join(head)
    for name, schema in (answers | {t: s for t, s in titles.items() if t not in own}).items():
        lines = json_rows({k: v for k, v in schema.items() if k != "title"})
        table = ["| key | type | meaning |", "|---|---|---|", *lines] if lines else []
        kind = json_type({k: v for k, v in schema.items() if k != "title"})
        opening = [f"A {kind}.", ""] if not kind.startswith("object") or not lines else []
        page += "\n".join(["", f"## {name}", "", *opening, *table]).rstrip() + "\n"
    return page


@pytest.mark.slow
def test_the_page_of_json_is_what_the_schemas_say() -> None:
    assert (ROOT / "docs" / "json.md").read_text("utf-8") == json_page()
    printing = {n for n, c in commands().items() if "--json" in parameters(c)}
    assert json_schemas().keys() == printing


def test_the_page_of_python_lists_what_the_package_offers() -> None:
    listed = {row[0]: row[1] for row in rows((ROOT / "docs" / "python.md").read_text("utf-8"))}
    said = {name: inspect.getdoc(getattr(api, name)) or "" for name in api.__all__}
    assert listed == {name: text.partition("\n")[0] for name, text in said.items()}


@cache
def commands() -> dict[str, Any]:
    """Return the app's commands by what one types: `run`, `spec show`."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined] # a group has them
        below = getattr(command, "commands", None)
        found |= {f"{name} {n}": c for n, c in below.items()} if below else {name: command}
    return found


def parameters(command: Any) -> dict[str, Any]:
    """Return a command's parameters by how the page writes them: `-o, --output`, `RUN`."""
    found = {}
    for parameter in command.params:
        label = ", ".join(sorted(parameter.opts, key=len))
        if parameter.param_type_name == "argument":
            label = (parameter.metavar or parameter.name.upper()).strip("[]").replace("|", " or ")
        found[label] = parameter
    return found


def default(parameter: Any) -> str | None:
    """Return what the page must give as default; None where it is free in what it says."""
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False):
        return ""
    return None if parameter.default is None else str(parameter.default)


def test_every_command_is_documented_with_every_option_and_an_example() -> None:
    page = sections(ROOT / "docs" / "cli.md", 2)
    written = {n.removeprefix("gtmar "): t for n, t in page.items() if n.startswith("gtmar ")}
    assert written.keys() == commands().keys()
    for name, command in commands().items():
        expected = parameters(command)
        listed = {row[0]: row[1] for row in rows(written[name])}
        assert listed.keys() == expected.keys(), name
        for label, parameter in expected.items():
            wanted = default(parameter)
            assert listed[label] == wanted or (wanted is None and listed[label]), (name, label)
        assert re.search(rf"^```sh\n(.*\n)*?gtmar {name}\b", written[name], re.MULTILINE), name


def test_the_options_of_gtmar_itself_are_documented() -> None:
    top = (ROOT / "docs" / "cli.md").read_text("utf-8").partition("\n## ")[0]
    expected = {option for p in typer.main.get_command(app).params for option in p.opts}
    assert {row[0] for row in rows(top)} == expected | {"--help"}


def error_classes(root: type[errors.GtmarError] = errors.GtmarError) -> set[tuple[str, ...]]:
    below = [error_classes(child) for child in root.__subclasses__()]
    return {(root.__name__, root.code, str(root.exit_code))}.union(*below)


def test_every_error_is_documented_with_its_code_and_exit_code() -> None:
    page = sections(ROOT / "docs" / "cli.md", 2)
    listed = rows(page["Errors"])
    assert {tuple(row[:3]) for row in listed} == error_classes()
    assert all(row[3] and row[4] for row in listed)
    codes = {row[0] for row in rows(page["Exit codes"])}
    assert codes == {"0", "10", "11", "130"} | {code for _, _, code in error_classes()}


def test_every_key_of_a_spec_is_documented() -> None:
    path = ROOT / "docs" / "spec.md"
    page, text = sections(path, 2), path.read_text("utf-8")
    assert {row[0] for row in rows(page["All keys"])} == set(specs.ScoringSpec.model_fields)
    features = {key for row in rows(page["Features"]) for key in row[0].split(", ")}
    assert features == set(specs.Feature.model_fields)
    assert {row[0]: row[1] for row in rows(page["Outcomes"])} == specs.Outcomes().model_dump()
    definitions = specs.json_schema()["$defs"]
    for definition in definitions.values():
        for key in definition.get("properties", {}):
            assert re.search(rf"\b{key}\b", text), key
    kinds = {d["properties"]["kind"]["const"] for d in definitions.values() if _has_kind(d)}
    assert set(sections(path, 3)) == kinds


def _has_kind(definition: dict[str, Any]) -> bool:
    return "const" in definition.get("properties", {}).get("kind", {})


def test_the_changelog_names_versions_and_commands() -> None:
    path = ROOT / "docs" / "changelog.md"
    text = path.read_text("utf-8")
    assert f"Evaluator version {EVALUATOR_VERSION}" in text
    assert f"format version {FORMAT_VERSION}" in text
    assert all(f"`{name}`" in text for name in commands())


# ---- links and names -------------------------------------------------------------------------


def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def test_every_link_leads_somewhere() -> None:
    astray = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not target.startswith("https://") and (
                not file.exists() or (anchor and anchor not in slugs(file))
            ):
                astray.append(f"{page.name}: {target}")
    assert astray == []


@cache
def options() -> set[str]:
    """Return the options of all commands."""
    params = [p for c in (*commands().values(), typer.main.get_command(app)) for p in c.params]
    return {option for p in params for option in (*p.opts, *p.secondary_opts)}


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, *GUIDES], ids=named)
def test_commands_and_options_that_a_page_names_are_there(page: Path) -> None:
    for text in code(page):
        for name in re.findall(r"^(?:.*/)?gtmar ([a-z]\w*(?: [a-z]+)?)", text, re.MULTILINE):
            assert name in commands() or name.split()[0] in commands(), f"gtmar {name}"
        found = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z]\b)", text))
        assert found <= options() | {"--help"} | FOREIGN, found - options()


#: Asks each script of a folder for help, as if it ran alone, and prints the answers as JSON.
HELPED = """
import io, json, runpy, sys
from contextlib import redirect_stdout
from pathlib import Path
from traceback import format_exc

folder, tests = sys.argv[1:]
# Modules are looked for where a script of its own would: in its folder, and among packages.
found = [folder, *(place for place in sys.path if not place.startswith(tests))]
told = {}
for script in sorted(Path(folder).glob("*.py")):
    # What another script brought from here is forgotten.
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(tests):
            del sys.modules[name]
    sys.argv[:], sys.path[:] = [str(script), "--help"], found
    with redirect_stdout(io.StringIO()) as said:
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            said.write("" if not end.code else f"FAILED: {end.code}")
        except BaseException:
            said.write(f"FAILED: {format_exc()}")
    told[script.name] = said.getvalue()
print(json.dumps(told))
"""


@pytest.mark.slow
def test_benchmarks_run_as_a_page_has_them() -> None:
    """Each finds what it imports, without a word of where that is."""
    scripts = sorted((ROOT / "tests" / "benchmarks").glob("*.py"))
    done = forks.script(HELPED, str(scripts[0].parent), str(ROOT / "tests"))
    assert done.returncode == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout)
    assert [*told] == [script.name for script in scripts]
    for script in scripts:
        said = told[script.name]
        assert "FAILED: " not in said, f"{script.name}: {said}"
        # One that others import says nothing by itself.
        assert script.name in said or "__main__" not in script.read_text("utf-8")


@pytest.mark.parametrize("page", [README, *GUIDES], ids=named)
def test_files_modules_and_metrics_that_a_page_names_are_there(page: Path) -> None:
    for span in re.findall(r"`([^`\n]+)`", prose(page)):
        if re.fullmatch(r"(sql|docs|gtmar|tests|examples)/\S+", span):
            assert (ROOT / span).exists(), span
        if re.fullmatch(r"gtmar(\.\w+)+", span) and not span.endswith(".json"):
            pkgutil.resolve_name(span)  # a module, or what `import gtmar` offers
        if metric := re.fullmatch(r"(\w+_by_(?:former_)?tier)(\.\w+)?", span):
            assert metric[1] in all_metrics(), span
    for extra in re.findall(r"\.\[(\w+)\]|gtmar\[(\w+)\]", page.read_text("utf-8")):
        declared = (ROOT / "pyproject.toml").read_text("utf-8")
        assert f"\n{max(extra)} = [" in declared, extra


def test_no_page_names_a_machine() -> None:
    machine = re.compile(r"/(home|root|tmp|work|Users)/")
    assert [page.name for page in PAGES if machine.search(page.read_text("utf-8"))] == []


@pytest.mark.parametrize("page", [README, *GUIDES], ids=named)
def test_a_page_does_not_shout(page: Path) -> None:
    # What begins a picture isn't said.
    assert "!" not in re.sub(r"`[^`\n]+`|!(?=\[)", "", prose(page))


# ---- architecture and decisions --------------------------------------------------------------


def test_architecture_fits_two_screens_and_names_files_that_are_there() -> None:
    page = ROOT / "docs" / "architecture.md"
    assert len(page.read_text("utf-8").splitlines()) <= 120
    files = [file for row in rows(page.read_text("utf-8")) for file in row if "gtmar/" in file]
    assert len(files) >= 20
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_decisions_are_numbered_have_a_status_and_the_living_are_listed() -> None:
    living = []
    for number, page in enumerate(DECISIONS, 1):
        title, _, status = page.read_text("utf-8").split("\n", 3)[:3]
        assert page.name.startswith(f"{number:04d}-")
        assert title.startswith(f"# {number}. ")
        assert re.match(r"(Accepted|Superseded by \[\d+\]\(.*\)).* · \d{4}-\d\d-\d\d$", status)
        if not re.match(r"Superseded by \[\d+\]\([^)]*\) ·", status):
            living.append(page.name)
    index = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    assert sorted(re.findall(r"\]\((\d.*\.md)\)", index)) == living


if __name__ == "__main__":
    rewrite_sql_page()
    (ROOT / "docs" / "json.md").write_text(json_page(), encoding="utf-8")
