"""The SQL library: every file's header says what the file does."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from sql_files import files_of

from gtmar.data.synthetic import generate
from gtmar.errors import QueryError
from gtmar.journal.catalog import Journal
from gtmar.journal.sql_library import SqlFile, find_file, library, read_file, sql_folder
from gtmar.runs import Limits, run
from gtmar.spec import load

ROOT = Path(__file__).parents[2]
FILES = files_of("journal") | files_of("checks")

#: The views by name with their text.
VIEWS: dict[str, str] = dict(
    re.findall(
        r"create or replace view (\w+) as\n(.*?);", (ROOT / "sql" / "views.sql").read_text(), re.S
    )
)
#: Set when a journal is opened, by nobody else.
OWN = {
    "journal",
    "record_files",
    "experiment_files",
    "event_files",
    "event_source",
    "formats_mix",
}

every_file = pytest.mark.parametrize("file", FILES.values(), ids=lambda file: file.name)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    folder = tmp_path_factory.mktemp("library") / "journal"
    spec = load(ROOT / "examples" / "health_score" / "spec.yaml")
    run(generate("health_score", accounts=250, seed=4), spec, limits=Limits(10), journal=folder)
    with Journal(folder) as opened:
        yield opened


def code(text: str) -> str:
    """Drop comments."""
    return re.sub(r"--.*", "", text)


def variables(text: str) -> set[str]:
    """Names that a query reads, itself and through the views that it uses."""
    found = set(re.findall(r"getvariable\('(\w+)'\)", code(text)))
    for view, body in VIEWS.items():
        if re.search(rf"\b(?:from|join) {view}\b", code(text)):
            found |= variables(body)
    return found


def test_there_are_views_and_files() -> None:
    assert {"runs", "experiments", "events", "history", "chosen_run", "chosen_best"} <= set(VIEWS)
    assert {"journal/review", "journal/compare", "journal/runs", "checks/ends"} <= set(FILES)
    assert set(library()) >= set(FILES) | set(files_of("metrics"))


@every_file
def test_headers_are_complete(file: SqlFile) -> None:
    assert file.purpose.endswith(".")
    assert file.columns
    assert file.grain
    assert file.order
    for column in (*file.parameters, *file.columns):
        assert column.meaning.strip() == column.meaning != ""
        assert column.type == column.type.lower()
    names = [column.name for column in file.columns]
    assert len(set(names)) == len(names)
    assert file.name == f"{file.path.parent.name}/{file.path.stem}"


@every_file
def test_parameters_are_the_variables_that_are_read(file: SqlFile) -> None:
    assert {parameter.name for parameter in file.parameters} == variables(file.text) - OWN


@every_file
def test_columns_are_those_of_the_result(file: SqlFile, journal: Journal) -> None:
    described = journal.query(f"describe {file.text}")
    found = list(
        described.select("column_name", pl.col("column_type").str.to_lowercase()).iter_rows()
    )
    assert found == [(column.name, column.type) for column in file.columns]


@every_file
def test_a_file_is_one_select_that_runs(file: SqlFile, journal: Journal) -> None:
    [statement] = duckdb.extract_statements(file.text)
    assert statement.type == duckdb.StatementType.SELECT
    assert file.text.endswith(";\n")
    assert max(map(len, file.text.splitlines())) <= 110
    # As the command line gives them: all values are text.
    given = {p.name: "1" if p.type == "bigint" else "none" for p in file.parameters}
    frame = journal.sql(file.name, **given)
    assert frame.columns == [column.name for column in file.columns]


@every_file
def test_the_order_is_a_part_of_the_query(file: SqlFile) -> None:
    last = code(file.text).strip().splitlines()[-3:]
    stated = any(line.strip().startswith("order by") for line in code(file.text).splitlines())
    assert stated != file.order.startswith("none"), last


def test_variables_that_views_need_are_told_of_too() -> None:
    assert variables("from chosen_best") - OWN == {"run"}
    assert variables("from runs where seed = getvariable('s') -- getvariable('t')") - OWN == {"s"}


# ---- the reader -----------------------------------------------------------------------------

HEADER = """\
-- purpose: Counts
--     all there is.
-- parameters:
--   run (varchar): the run
-- columns:
--   n (bigint): how many,
--     of all
--   w (map(varchar, bigint)): weights
-- grain: one row
-- order: none needed

select 1 as n
-- purpose: not a header any more
"""


def parsed(tmp_path: Path, text: str) -> SqlFile:
    path = tmp_path / "some.sql"
    path.write_text(text, encoding="utf-8")
    return read_file(path, "journal/some")


def test_a_header_is_read_with_its_continued_lines(tmp_path: Path) -> None:
    file = parsed(tmp_path, HEADER)
    assert file.purpose == "Counts all there is."
    assert [(p.name, p.type, p.meaning) for p in file.parameters] == [("run", "varchar", "the run")]
    assert [(c.name, c.type, c.meaning) for c in file.columns] == [
        ("n", "bigint", "how many, of all"),
        ("w", "map(varchar, bigint)", "weights"),
    ]
    assert (file.grain, file.order, file.text) == ("one row", "none needed", HEADER)


def test_no_parameters_are_stated_as_none(tmp_path: Path) -> None:
    text = HEADER.replace("-- parameters:\n--   run (varchar): the run", "-- parameters: none")
    assert parsed(tmp_path, text).parameters == ()


@pytest.mark.parametrize("section", ["purpose", "parameters", "columns", "grain", "order"])
def test_a_section_that_lacks_is_named(tmp_path: Path, section: str) -> None:
    lines = HEADER.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith(f"-- {section}:"))
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("--  "))
    with pytest.raises(QueryError, match=f"the header lacks {section}$"):
        parsed(tmp_path, "".join(lines[:start] + lines[end:]))


@pytest.mark.parametrize("line", ["-- nothing known: x", "--  n (bigint): two blanks", "--x"])
def test_a_line_of_another_form_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    text = HEADER.replace("-- grain", f"{line}\n-- grain")
    with pytest.raises(
        QueryError, match=rf'some.sql":9: not a line of a header: {re.escape(line)}'
    ):
        parsed(tmp_path, text)


def test_files_are_found_by_short_and_by_full_name() -> None:
    assert find_file("compare") == find_file("journal/compare") == FILES["journal/compare"]
    assert find_file("nrr_at_20").name == "metrics/nrr_at_20"


def test_an_installed_package_brings_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gtmar.journal import sql_library as room

    package = tmp_path / "gtmar"
    (package / "journal").mkdir(parents=True)
    monkeypatch.setattr(room, "__file__", str(package / "journal" / "library.py"))
    assert sql_folder() == tmp_path / "sql"
    shutil.copytree(ROOT / "sql", package / "_sql")
    assert sql_folder() == package / "_sql"
    assert {**files_of("journal"), **files_of("checks")}.keys() == FILES.keys()
