"""Every source of an account table gives the same frame, or an error that names the source."""

import gzip
import re
import subprocess
from datetime import date
from glob import escape
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import make_accounts
from polars.testing import assert_frame_equal

from gtmar.data.scan import AccountTable, Source, collect, scan
from gtmar.errors import AccountDataError

ACCOUNTS = make_accounts(40)
ENDINGS = ["parquet", "pq", "csv", "tsv", "arrow", "ipc", "feather"]


def write(frame: pl.DataFrame, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower()
    if ending in (".parquet", ".pq"):
        frame.write_parquet(path)
    elif ending in (".csv", ".tsv"):
        frame.write_csv(path, separator="," if ending == ".csv" else "\t")
    else:
        frame.write_ipc(path)
    return path


def read(data: Any) -> pl.DataFrame:
    table = scan(data)
    frame = collect(table, table.frame)
    assert dict(table.schema) == dict(frame.schema)
    return frame.sort("account_id")


def refusal(data: Any) -> AccountDataError:
    with pytest.raises(AccountDataError) as caught:
        read(data)
    return caught.value


def csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# One file


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("shout", [False, True], ids=["lower", "upper"])
def test_a_file_by_its_ending(tmp_path: Path, ending: str, shout: bool) -> None:
    path = write(ACCOUNTS, tmp_path / f"accounts.{ending.upper() if shout else ending}")
    assert_frame_equal(read(path), ACCOUNTS)
    assert_frame_equal(read(str(path)), ACCOUNTS)


def test_source_is_the_path_as_given(tmp_path: Path) -> None:
    path = write(ACCOUNTS, tmp_path / "accounts.parquet")
    table = scan(path)
    assert table.source == str(path)
    assert table.columns == ACCOUNTS.columns
    assert isinstance(table.frame, pl.LazyFrame)


@pytest.mark.parametrize("frame", [ACCOUNTS, ACCOUNTS.lazy()], ids=["eager", "lazy"])
def test_a_frame(frame: pl.DataFrame | pl.LazyFrame) -> None:
    assert_frame_equal(read(frame), ACCOUNTS)
    assert scan(frame).source == "frame"


# Many files


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "arrow"])
def test_glob_and_folder_take_all_files(tmp_path: Path, ending: str) -> None:
    for i, part in enumerate(ACCOUNTS.iter_slices(15)):
        write(part, tmp_path / "table" / f"part-{i}.{ending}")
    assert_frame_equal(read(tmp_path / "table" / f"part-*.{ending}"), ACCOUNTS)
    assert_frame_equal(read(tmp_path / "table" / f"part-?.{ending}"), ACCOUNTS)
    assert_frame_equal(read(tmp_path / "table"), ACCOUNTS)
    assert read(tmp_path / "table" / f"part-[01].{ending}").height == 30


def test_glob_is_taken_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ACCOUNTS, tmp_path / "a" / "one.parquet")
    monkeypatch.chdir(tmp_path)
    assert read("a/*.parquet").height == 40
    assert read("*/one.parquet").height == 40


def test_glob_through_folders(tmp_path: Path) -> None:
    for i, part in enumerate(ACCOUNTS.iter_slices(20)):
        write(part, tmp_path / f"year-{i}" / "deep" / "part.parquet")
    assert_frame_equal(read(tmp_path / "**" / "*.parquet"), ACCOUNTS)


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "arrow"])
@pytest.mark.parametrize("pattern", ["", "*/*", "plan=*/part-0.*"])
def test_hive_folders_become_columns(tmp_path: Path, pattern: str, ending: str) -> None:
    # The folder above names nothing of the table, unless a pattern goes through it.
    hive = tmp_path / "hive[1]" / "accounts"
    for plan, part in ACCOUNTS.partition_by("plan", as_dict=True).items():
        write(part.drop("plan"), hive / f"plan={plan[0]}" / f"part-0.{ending}")
    found = read(f"{escape(str(hive))}/{pattern}" if pattern else hive)
    expected = ACCOUNTS.cast({"retained_6mo": found.schema["retained_6mo"]})
    assert_frame_equal(found.select(ACCOUNTS.columns), expected, check_dtypes=ending == "parquet")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["parquet", "csv", "arrow"])
def test_values_in_folders_have_the_same_types_in_every_format(tmp_path: Path, ending: str) -> None:
    above = tmp_path / "year=1999"
    for i, part in enumerate(ACCOUNTS.iter_slices(20)):
        region = ("__HIVE_DEFAULT_PARTITION__", "a b%2Fc")[i]
        folder = f"region={region}/code=0{i}/day=2026-01-0{i + 1}"
        write(part, above / folder / f"part-0.{ending}")
    found = read(above).select("region", "code", "day").unique().sort("code")
    assert found.to_dict(as_series=False) == {
        "region": [None, "a b/c"],
        "code": ["00", "01"],
        "day": [date(2026, 1, 1), date(2026, 1, 2)],
    }
    assert "year" not in scan(above).columns


@pytest.mark.parametrize("ending", ["csv", "arrow"])
def test_folders_that_name_different_columns(tmp_path: Path, ending: str) -> None:
    for folder in ("plan=a", "tariff=b", "."):
        write(ACCOUNTS, tmp_path / "hive" / folder / f"part-0.{ending}")
    expected = "expected folders that name the same columns, got none and plan and tariff"
    with pytest.raises(AccountDataError, match=expected):
        scan(tmp_path / "hive")


@pytest.mark.parametrize(
    ("stray", "content"),
    [
        ("_SUCCESS", ""),
        (".part-0.parquet.crc", "crc"),
        ("README.md", "About this table"),
    ],
)
def test_folder_with_a_file_that_is_no_data(tmp_path: Path, stray: str, content: str) -> None:
    write(ACCOUNTS, tmp_path / "table" / "part-0.parquet")
    (tmp_path / "table" / stray).write_text(content, encoding="utf-8")
    assert_frame_equal(read(tmp_path / "table"), ACCOUNTS)


def test_folder_with_two_endings_of_one_format(tmp_path: Path) -> None:
    write(ACCOUNTS.head(20), tmp_path / "table" / "a.parquet")
    write(ACCOUNTS.tail(20), tmp_path / "table" / "b.pq")
    assert_frame_equal(read(tmp_path / "table"), ACCOUNTS)


def test_folder_of_csv_files_in_capitals(tmp_path: Path) -> None:
    write(ACCOUNTS, tmp_path / "table" / "ACCOUNTS.CSV")
    assert_frame_equal(read(tmp_path / "table"), ACCOUNTS)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_file_with_brackets_in_its_name(tmp_path: Path, ending: str) -> None:
    path = write(ACCOUNTS, tmp_path / f"accounts[1].{ending}")
    assert_frame_equal(read(path), ACCOUNTS)


# CSV: what the first rows don't tell


@pytest.mark.parametrize(
    "name", ["account_id", "customer_id", "company_id", "AccountId", "customerid", "ID"]
)
def test_id_that_looks_like_a_number_stays_text(tmp_path: Path, name: str) -> None:
    path = csv(tmp_path / "a.csv", f"x,{name}", "1,00012", "2,12")
    assert scan(path).frame.collect().to_dict(as_series=False) == {
        "x": [1, 2],
        name: ["00012", "12"],
    }


def test_quoted_id_stays_text(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", '"account_id","x"', '"00012","1"')
    assert read(path)["account_id"].to_list() == ["00012"]


def test_id_in_a_tsv_stays_text(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.tsv", "account_id\tx", "00012\t1")
    assert read(path)["account_id"].to_list() == ["00012"]


def test_id_behind_a_byte_order_mark_stays_text(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "\ufeffaccount_id,x", "00012,1", "12,2")
    assert read(path)["account_id"].to_list() == ["00012", "12"]


@pytest.mark.parametrize(
    ("usual", "late", "found"), [("1", "2.5", 2.5), ("1", "many", "many"), ("1.5", "odd", "odd")]
)
def test_late_value_of_another_type_widens_the_column(
    tmp_path: Path, usual: str, late: str, found: object
) -> None:
    rows = [f"a{i:05},{usual}" for i in range(12_000)]
    path = csv(tmp_path / "a.csv", "account_id,x", *rows, f"z,{late}")
    frame = read(path)
    assert frame.height == 12_001
    assert frame["x"][-1] == found
    assert frame["x"].dtype == (pl.Float64 if isinstance(found, float) else pl.String)


def test_first_rows_do_for_a_clean_file(tmp_path: Path) -> None:
    rows = [f"a{i:05},{i}" for i in range(12_000)]
    assert read(csv(tmp_path / "a.csv", "account_id,x", *rows))["x"].dtype == pl.Int64


def test_second_file_may_widen_a_column(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", "account_id,x", "a,1")
    csv(tmp_path / "b.csv", "account_id,x", "b,1.5")
    assert read(tmp_path / "*.csv")["x"].to_list() == [1.0, 1.5]


def test_dates_are_read_as_dates(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "account_id,day", "a,2026-01-31", "b,")
    assert read(path).schema["day"] == pl.Date


def test_empty_cells_are_null(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "account_id,x,y", "a,,1", "b,2,")
    assert read(path).rows() == [("a", None, 1), ("b", 2, None)]


# Text files of other lands and tools


@pytest.mark.parametrize(
    "content",
    [
        b"account_id;x;y\na;1,5;2\nb;2;3\n",
        b"account_id\tx\ty\na\t1.5\t2\nb\t2\t3\n",
        b"account_id|x|y\na|1.5|2\nb|2|3\n",
        b"sep=;\naccount_id;x;y\na;1,5;2\nb;2;3\n",
        b"\xef\xbb\xbfaccount_id,x,y\r\na,1.5,2\r\nb,2,3\r\n",
        b"account_id , x ,y\na,1.5,2\nb, 2 ,3\n",
        b'"account_id","x","y"\n"a","1.5","2"\n"b","2","3"\n',
    ],
    ids=["semicolon", "tab", "bar", "sep=", "mark and CRLF", "blanks", "quoted"],
)
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.csv.gz"])
def test_a_text_file_of_any_dialect(tmp_path: Path, content: bytes, name: str) -> None:
    packed = gzip.compress(content) if name.endswith(".gz") else content
    (tmp_path / name).write_bytes(packed)
    expected = {"account_id": ["a", "b"], "x": [1.5, 2.0], "y": [2, 3]}
    assert read(tmp_path / name).to_dict(as_series=False) == expected


@pytest.mark.parametrize("name", ["of march.csv", "of march.csv.gz"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("account_id,x\nä,1\n".encode("utf-16"), "UTF-16, and not UTF-8 text"),
        ("account_id,x\nä,1\n".encode("utf-16-le"), "UTF-16, and not UTF-8 text"),
        ("account_id,x\nä,1\n".encode("cp1252"), "so perhaps Latin-1 or Windows-1252"),
        ("account_id,x\nä\0,1\n".encode(), "a NUL byte in line 2"),
        ("account_id,x\rä,1\r".encode(), "its lines end in CR alone"),
    ],
)
def test_bytes_that_are_no_csv_are_refused_with_a_way_out_that_runs_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, told: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exports").mkdir()
    packed = gzip.compress(content) if name.endswith(".gz") else content
    path = Path("exports", name)
    path.write_bytes(packed)
    error = refusal(path)
    assert told in error.message
    assert error.hint is not None
    subprocess.run(error.hint.partition("; or")[0], shell=True, check=True)
    expected = {"account_id": ["ä"], "x": [1]}
    assert read(Path("mended.csv")).to_dict(as_series=False) == expected


def test_a_line_above_the_header_is_asked_about(tmp_path: Path) -> None:
    error = refusal(csv(tmp_path / "a.csv", "# exported by X", "account_id,x", "a,1"))
    assert "more cells than the first line has names" in error.message
    assert error.hint is not None
    assert "is the first line the header" in error.hint


@pytest.mark.parametrize("above", [("Q3 accounts,,",), ('"Q3, accounts",,', ",,", "from CRM,,")])
def test_a_title_filled_up_with_commas_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(csv(Path("a.csv"), *above, "account_id,x,plan", "a,1,pro", "b,2,"))
    line = len(above) + 1
    assert f'line {line} has 3 names: "account_id", "x", "plan"' in error.message
    asked, _, command = (error.hint or "").partition("? ")
    assert asked == "is the first line a title"
    subprocess.run(command, shell=True, check=True)
    assert read(Path("mended.csv")).columns == ["account_id", "x", "plan"]
    # A header with names left out is none: accounts follow.
    unnamed = csv(Path("b.csv"), "account_id,,", "a,1,pro", "b,2,")
    assert read(unnamed).columns == ["account_id", "column_2", "column_3"]


def test_a_name_that_stands_twice_is_refused_whatever_the_source(tmp_path: Path) -> None:
    told = 'more than one column is called "mrr"'
    assert told in refusal(csv(tmp_path / "a.csv", "account_id,mrr,mrr ", "a,1,2")).message
    twice = ACCOUNTS.to_pandas()[["account_id", "mrr", "mrr"]]
    assert told in refusal(twice).message
    arrow = ACCOUNTS.to_arrow().select(["account_id", "mrr", "mrr"])
    assert told in refusal(arrow).message
    write(ACCOUNTS, tmp_path / "a.parquet")
    query = Source(str(tmp_path / "a.parquet"), query="select *, 0 as mrr from accounts")
    assert told in refusal(query).message


def test_parts_with_integers_here_and_doubles_there(tmp_path: Path) -> None:
    for name, dtype in {"a": pl.Int64, "b": pl.Float64, "c": pl.Int32}.items():
        frame = pl.DataFrame({"account_id": [name], "x": pl.Series([3], dtype=dtype)})
        frame.write_parquet(tmp_path / f"{name}.parquet")
    assert read(tmp_path)["x"].to_list() == [3.0, 3.0, 3.0]
    pl.DataFrame({"account_id": ["d"], "x": ["many"]}).write_parquet(tmp_path / "d.parquet")
    assert 'its files differ in columns\' types: "x" is ' in refusal(tmp_path).message


# What can't be read


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "nope.parquet"
    error = refusal(path)
    assert error.message == f'"{path}": no such file or folder'
    assert error.hint == "give --data a file, a folder or a glob"
    assert error.exit_code == 3


def test_glob_that_matches_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder.parquet").mkdir()
    for pattern in ("*.csv", "*.parquet"):
        error = refusal(tmp_path / pattern)
        assert error.message == f'"{tmp_path / pattern}": no file matches'
        assert error.hint is not None
        assert "quote the pattern" in error.hint


def test_folder_without_a_table(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    error = refusal(tmp_path)
    assert error.message == f'"{tmp_path}": a folder without a data file in it'
    assert error.hint == (
        "expected files ending in .arrow, .csv, .csv.gz, .feather, .ipc, .parquet, .pq, .tsv, "
        ".tsv.gz"
    )


@pytest.mark.parametrize(("name", "got"), [("a.xlsx", ".xlsx"), ("accounts", "no ending")])
def test_ending_that_is_not_read(tmp_path: Path, name: str, got: str) -> None:
    (tmp_path / name).write_text("x", encoding="utf-8")
    error = refusal(tmp_path / name)
    assert error.message == f'"{tmp_path / name}": expected files of one format, got {got}'
    assert error.hint is not None
    assert error.hint.startswith("endings that are read: .arrow, .csv, .csv.gz, .feather, ")


def test_files_of_several_formats(tmp_path: Path) -> None:
    write(ACCOUNTS, tmp_path / "a.csv")
    write(ACCOUNTS, tmp_path / "a.parquet")
    for source in (tmp_path, tmp_path / "a.*"):
        message = f'"{source}": expected files of one format, got csv, parquet'
        assert refusal(source).message == message


def test_csv_and_tsv_are_two_formats(tmp_path: Path) -> None:
    write(ACCOUNTS, tmp_path / "a.csv")
    write(ACCOUNTS, tmp_path / "b.tsv")
    assert "expected files of one format, got csv, tsv" in refusal(tmp_path).message


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("keep", [0, 30, -20])
def test_broken_file(tmp_path: Path, ending: str, keep: int) -> None:
    path = write(ACCOUNTS, tmp_path / f"a.{ending}")
    path.write_bytes(path.read_bytes()[:keep])
    error = refusal(path)
    assert error.message.startswith(f'"{path}": can\'t be read: ')
    assert "\n" not in error.message
    assert error.hint == "is the file complete, and of the format its ending says?"


def test_damage_inside_a_file_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = write(ACCOUNTS, tmp_path / "a.parquet")
    content = bytearray(path.read_bytes())
    content[20:400] = b"\xff" * 380
    path.write_bytes(content)
    table = scan(path)
    with pytest.raises(AccountDataError, match=re.escape(f'"{path}": can\'t be read')):
        collect(table, table.frame)


def test_parquet_under_another_ending(tmp_path: Path) -> None:
    path = write(ACCOUNTS, tmp_path / "a.parquet")
    assert "can't be read" in refusal(path.rename(tmp_path / "a.arrow")).message


def test_empty_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("", encoding="utf-8")
    assert (
        refusal(tmp_path / "a.csv").message == f'"{tmp_path / "a.csv"}": can\'t be read: empty CSV'
    )


def test_csv_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"account_id,city\na,Z\xfcrich\n")
    assert "can't be read: invalid utf-8" in refusal(tmp_path / "a.csv").message


def test_csv_with_a_row_that_is_too_long(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", "account_id,x", "a,1", "b,1,2,3")
    assert "can't be read" in refusal(path).message


def test_files_of_different_columns(tmp_path: Path) -> None:
    write(ACCOUNTS, tmp_path / "a.parquet")
    write(ACCOUNTS.rename({"depth": "width"}), tmp_path / "b.parquet")
    table = scan(tmp_path / "*.parquet")
    assert collect(table, table.frame)["depth"].null_count() == 40
    assert [note.split(";")[0] for note in table.notes] == [
        'Column "depth" is in 1 of 2 files',
        'Column "width" is in 1 of 2 files',
    ]


def test_error_in_a_lazy_frame_comes_to_light_when_it_is_read() -> None:
    lazy = ACCOUNTS.lazy().with_columns(x=pl.col("plan").str.to_integer())
    table = scan(lazy)
    with pytest.raises(AccountDataError, match='"frame": can\'t be read'):
        collect(table, table.frame)


def test_table_is_a_record() -> None:
    table = scan(ACCOUNTS)
    assert table == AccountTable("frame", table.frame, ACCOUNTS.schema)
