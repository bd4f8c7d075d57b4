"""One id, however a source writes it: one canonical text, one holdout, one fingerprint."""

import hashlib
import io
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from factories import make_spec, weighted
from hypothesis import given, settings
from hypothesis import strategies as st

from gtmar.autospec.first_spec import first_spec
from gtmar.data.matrix import load_accounts, part
from gtmar.data.scan import Source, scan
from gtmar.data.split import canonical_id, look_alikes
from gtmar.errors import UsageError, ViolationsError
from gtmar.runs import changed_since, check, explain, score
from gtmar.runs.holdout import load_with_holdout, without_holdout
from gtmar.spec import Split

N = 300
FIRST = 1_000
SHARE = 0.3


def held(key: str) -> bool:
    """Draw the holdout as the docs state it."""
    return int(hashlib.md5(f"gtmar:{key}".encode()).hexdigest()[:8], 16) / 16**8 < SHARE


def texts(ids: pl.Series) -> list[str | None]:
    return ids.to_frame("id").select(canonical_id("id", ids.dtype)).to_series().to_list()


# The canonical text


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pl.Series([1001, -3, 0]), ["1001", "-3", "0"]),
        (pl.Series([2**63], dtype=pl.UInt64), ["9223372036854775808"]),
        (pl.Series([1001.0, -0.0, 2.0**53 - 1]), ["1001", "0", "9007199254740991"]),
        (pl.Series([1001.0], dtype=pl.Float32), ["1001"]),
        (pl.Series([Decimal("1001.00"), Decimal("-7")]), ["1001", "-7"]),
        (pl.Series([Decimal("90071992547409931234")]), ["90071992547409931234"]),
        (pl.Series(["00012", "12", "1001.0", "1.00", "0.0"]), ["00012", "12", "1001", "1", "0"]),
        (
            pl.Series([" A-1", "A-1\t", "a-1", "1.10", "01.0"]),
            ["A-1", "A-1", "a-1", "1.10", "01.0"],
        ),
        (pl.Series(["", "  ", None]), [None, None, None]),
        (pl.Series(["x ", "y"], dtype=pl.Categorical), ["x", "y"]),
        (pl.Series(["b"], dtype=pl.Enum(["a", "b"])), ["b"]),
        (pl.Series([b"A001", "é".encode()]), ["A001", "é"]),
        (pl.Series([b"ACCOUNT-00000001"]), ["ACCOUNT-00000001"]),
    ],
    ids=str,
)
def test_canonical_text(ids: pl.Series, expected: list[str | None]) -> None:
    assert texts(ids) == expected


def test_uuid_is_the_same_as_bytes_and_as_text() -> None:
    ids = [uuid.UUID(int=i * 7919 + (4 << 76) + (2 << 62)) for i in range(50)]
    assert texts(pl.Series([i.bytes for i in ids])) == [str(i) for i in ids]


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_whole_numbers_have_one_text_in_every_type(number: int) -> None:
    written = [
        pl.Series([number]),
        pl.Series([number], dtype=pl.Int128),
        pl.Series([float(number)]),
        pl.Series([Decimal(number)]),
        pl.Series([f"{number}.00"]).str.replace(r"\.00$", ".0"),
        pl.Series([f" {number}"]),
        pl.Series([str(number).encode()]),
    ]
    assert {text for ids in written for text in texts(ids)} == {str(number)}


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=12))
def test_canonical_text_is_its_own_canonical_text(text: str) -> None:
    once = texts(pl.Series([text], dtype=pl.String))
    assert texts(pl.Series(once, dtype=pl.String)) == once


# Every way in

SPEC = make_spec(id="acct_no", features={"row": weighted()})


def accounts(ids: Any = None) -> pl.DataFrame:
    """Return accounts; those of the holdout alone have deeds beyond 100."""
    keys = [str(FIRST + i) for i in range(N)]
    source = np.random.default_rng(3)
    deeds = source.integers(0, 100, N)
    kept = (source.random(N) < 0.2 + deeds / 160).astype(int)
    return pl.DataFrame(
        {
            "acct_no": ids if ids is not None else range(FIRST, FIRST + N),
            "row": range(N),
            "deeds": [10_000 + i if held(k) else int(deeds[i]) for i, k in enumerate(keys)],
            "retained_6mo": kept,
        }
    )


def as_csv(ids: Callable[[pl.DataFrame], pl.DataFrame], ending: str = "csv") -> Any:
    def write(folder: Path) -> str:
        path = folder / f"a.{ending}"
        ids(accounts()).write_csv(path, separator="\t" if ending == "tsv" else ",")
        return str(path)

    return write


def as_duckdb(kind: str) -> Any:
    def write(folder: Path) -> str:
        frame = accounts()
        with duckdb.connect(folder / "a.db") as con:
            con.register("given", frame)
            cast = f"cast(acct_no as {kind}) as acct_no"
            con.execute(f"create table a as select * replace ({cast}) from given")
        return f"duckdb:///{folder / 'a.db'}?table=a"

    return write


def as_query(folder: Path) -> Source:
    accounts().write_csv(folder / "q.csv")
    return Source(str(folder / "q.csv"), query="select * from accounts order by deeds")


def typed(dtype: Any) -> Any:
    return lambda _: accounts().with_columns(pl.col("acct_no").cast(dtype))


def as_parquet(folder: Path) -> str:
    accounts().with_columns(pl.col("acct_no").cast(pl.Float64)).write_parquet(folder / "a.parquet")
    return str(folder / "a.parquet")


def as_pandas(folder: Path) -> Any:
    return accounts().with_columns(pl.col("acct_no").cast(pl.Float64)).to_pandas()


WRITTEN: dict[str, Any] = {
    "int64": typed(pl.Int64),
    "int32": typed(pl.Int32),
    "uint64": typed(pl.UInt64),
    "double": typed(pl.Float64),
    "float": typed(pl.Float32),
    "decimal": typed(pl.Decimal(12, 2)),
    "text": typed(pl.String),
    "bytes": lambda _: accounts([str(FIRST + i).encode() for i in range(N)]),
    "category": lambda _: accounts().with_columns(
        pl.col("acct_no").cast(pl.String).cast(pl.Categorical)
    ),
    "padded": lambda _: accounts([f"{FIRST + i}   " for i in range(N)]),
    "text of doubles": lambda _: accounts([f"{FIRST + i}.0" for i in range(N)]),
    "csv": as_csv(lambda frame: frame),
    "csv of doubles": as_csv(lambda frame: frame.with_columns(pl.col("acct_no").cast(pl.Float64))),
    "tsv": as_csv(lambda frame: frame, "tsv"),
    "query": as_query,
    "parquet of doubles": as_parquet,
    "pandas": as_pandas,
    "duckdb integer": as_duckdb("integer"),
    "duckdb hugeint": as_duckdb("hugeint"),
    "duckdb double": as_duckdb("double"),
    "duckdb varchar": as_duckdb("varchar"),
    "duckdb decimal": as_duckdb("decimal(18, 3)"),
}


#: One way of each type of id and of each kind of source; all ways have one fingerprint and holdout.
EACH_TYPE = [
    *("int64", "uint64", "double", "decimal", "text", "bytes", "category", "padded"),
    *("text of doubles", "csv", "csv of doubles", "query", "pandas", "duckdb hugeint"),
]


@pytest.fixture(scope="module")
def golden() -> tuple[str, str, set[int]]:
    loaded = load_accounts(scan(accounts()), SPEC)
    assert loaded.holdout is not None
    expected = {i for i in range(N) if held(str(FIRST + i))}
    return loaded.outcomes_fingerprint, loaded.features_fingerprint, expected


@pytest.mark.slow
@pytest.mark.parametrize("written", list(WRITTEN))
def test_same_accounts_have_one_fingerprint_and_one_holdout(
    written: str, golden: tuple[str, str, set[int]], tmp_path: Path
) -> None:
    loaded = load_accounts(scan(WRITTEN[written](tmp_path)), SPEC)
    assert loaded.holdout is not None
    assert set((loaded.holdout.columns[0] // 10_000).tolist()) == golden[2]
    assert (loaded.outcomes_fingerprint, loaded.features_fingerprint) == golden[:2]


@pytest.mark.slow
@pytest.mark.parametrize("written", EACH_TYPE)
def test_encoders_are_fitted_to_no_account_that_is_held_out(written: str, tmp_path: Path) -> None:
    table = scan(WRITTEN[written](tmp_path))
    found = first_spec(table, identifier="acct_no")
    encoder = found.spec.features["deeds"].encode.model_dump()
    ends = encoder.get("to") or max(x for x, _ in encoder["points"])
    assert ends <= 100
    loaded = load_accounts(table, found.spec)
    drawn = part(loaded.table, "acct_no", found.spec.split, held=True)
    assert (drawn.frame.select("deeds").collect()["deeds"] >= 10_000).all()
    assert loaded.holdout is not None
    assert loaded.holdout.accounts == sum(held(str(FIRST + i)) for i in range(N))


@pytest.mark.parametrize("named", ["acct_no", "Account Nr."])
def test_init_reads_ids_of_a_text_file_as_the_run_does(named: str, tmp_path: Path) -> None:
    """Zeros before an id stay, also where no name says that the column holds ids."""
    ids = [f"{i:05}" for i in range(N)]
    frame = accounts(ids).with_columns(
        deeds=pl.Series([10_000 + i if held(k) else i % 90 for i, k in enumerate(ids)])
    )
    path = tmp_path / "a.csv"
    frame.rename({"acct_no": named}).write_csv(path)
    spec = first_spec(scan(path), identifier=named).spec
    encoder = spec.features["deeds"].encode.model_dump()
    assert (encoder.get("to") or max(x for x, _ in encoder["points"])) <= 100
    scored = score(path, spec)
    assert scored[named].to_list() == ids


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(
    ids=st.lists(
        st.integers(0, 10**6) | st.text(st.sampled_from("aB01.-é "), min_size=1, max_size=6),
        min_size=1,
        max_size=30,
        unique_by=lambda i: str(i).strip(),
    )
)
def test_text_file_and_frame_draw_one_holdout(ids: list[int | str]) -> None:
    frame = pl.DataFrame({"account_id": [str(i) for i in ids], "row": range(len(ids))})
    frame = frame.filter(canonical_id("account_id", pl.String()).is_not_null())
    file = io.BytesIO()
    frame.write_csv(file, quote_style="always")
    read = pl.read_csv(file.getvalue(), schema_overrides={"account_id": pl.String})
    split = Split(holdout=0.5)
    one, two = (
        set(part(scan(each), "account_id", split, held=True).frame.collect()["row"])
        for each in (frame, read)
    )
    assert one == two


# What no type can say, or two ids that are one


def refused(ids: Any, **options: Any) -> str:
    frame = pl.DataFrame({"acct_no": ids}).with_columns(row=1, retained_6mo=1)
    with pytest.raises(ViolationsError) as caught:
        load_accounts(scan(frame), SPEC, **options)
    return caught.value.message.replace('"', "")


@pytest.mark.parametrize(
    ("ids", "count"),
    [
        (pl.Series([2.0**53, 5.0, 1e300]), 2),
        (pl.Series([1.5, 5.0]), 1),
        (pl.Series([float("inf"), 5.0]), 1),
        (pl.Series([2.0**24, 5.0], dtype=pl.Float32), 1),
        (pl.Series([Decimal("1.50"), Decimal("2.00")]), 1),
    ],
    ids=str,
)
def test_ids_that_a_column_cannot_say_exactly_are_refused(ids: pl.Series, count: int) -> None:
    message = refused(ids)
    verb = "is" if count == 1 else "are"
    assert f"{count} of {len(ids)} account ids {verb} not whole, or larger than" in message
    assert "store ids as text or as integers" in message


def test_bytes_that_are_no_text_are_refused() -> None:
    assert "1 of 2 account ids is no text: row 1" in refused([b"\xff\xfe", b"ok"])


def test_unknown_and_blank_ids_are_refused() -> None:
    assert "1 of 3 account ids is null: row 2" in refused([1.0, None, 3.0])
    assert "1 of 3 account ids is null: row 2" in refused([1.0, float("nan"), 3.0])
    message = refused(["a", " ", None, ""])
    assert "1 of 4 account ids is null: row 3" in message
    assert "2 of 4 account ids are blank: row 2, row 4" in message


def test_ids_that_are_one_but_for_blanks_are_refused_as_one() -> None:
    assert "2 of 3 rows share their account id with another" in refused(["a", "a ", "b"])
    assert "2 of 2 rows share their account id with another" in refused(["7", "7.0"])


def test_nested_ids_are_refused() -> None:
    assert "expected account ids, got List" in refused([[1], [2]])


def test_ids_that_differ_by_case_or_zeros_alone_are_said() -> None:
    frame = pl.DataFrame({"acct_no": ["a1", "A1", "b", "007", "7"]})
    case, zeros = look_alikes(scan(frame), "acct_no")
    assert case.startswith('2 ids in "acct_no" differ from another by case alone, "a1", "A1"')
    assert zeros.startswith('2 ids in "acct_no" differ from another by zeros before them alone')
    assert look_alikes(scan(accounts()), "acct_no") == []
    told = check(frame.with_columns(row=pl.int_range(5), retained_6mo=1), SPEC)
    assert case in told.notes


# Two tables


@pytest.mark.parametrize("old", ["int64", "double", "text", "decimal", "padded"])
@pytest.mark.parametrize("new", ["int64", "double", "text"])
@pytest.mark.parametrize("written", ["parquet", "csv"])
def test_nothing_has_changed_however_ids_are_written(
    old: str, new: str, written: str, tmp_path: Path
) -> None:
    before = score(WRITTEN[old](tmp_path), SPEC)
    path = tmp_path / f"before.{written}"
    getattr(before, f"write_{written}")(path)
    now = score(WRITTEN[new](tmp_path), SPEC)
    assert changed_since(path, now, SPEC).is_empty()


def test_changes_name_the_ids_as_the_table_has_them(tmp_path: Path) -> None:
    before = score(WRITTEN["double"](tmp_path), SPEC)
    frame = accounts().with_columns(row=pl.col("row") + (pl.col("row") == 9).cast(pl.Int64) * 50)
    changed = changed_since(before, score(frame, SPEC), SPEC)
    assert changed.select("acct_no").rows() == [(FIRST + 9,)]
    assert "new account" not in changed["reason"].to_list()


def test_scores_of_other_ids_altogether_are_refused() -> None:
    now = score(accounts(), SPEC)
    before = score(accounts([f"X{i}" for i in range(N)]), SPEC)
    with pytest.raises(UsageError, match='none of its 300 ids in "acct_no", "X0"'):
        changed_since(before, now, SPEC)


@pytest.mark.slow
@pytest.mark.parametrize("written", EACH_TYPE)
def test_accounts_in_both_tables_are_seen_however_ids_are_written(
    written: str, tmp_path: Path
) -> None:
    later = accounts().with_columns(retained_6mo=1)
    loaded = load_with_holdout(scan(WRITTEN[written](tmp_path)), scan(later), without_holdout(SPEC))
    assert "300 accounts stand in both tables" in loaded.checked.notes[0]


def test_accounts_that_are_in_both_but_for_zeros_are_said() -> None:
    later = accounts([f"0{FIRST + i}" for i in range(N)]).with_columns(retained_6mo=1)
    loaded = load_with_holdout(scan(accounts()), scan(later), without_holdout(SPEC))
    assert "300 do but for case or zeros before it" in loaded.checked.notes[0]


@pytest.mark.parametrize("written", ["int64", "double", "decimal", "text", "padded", "csv"])
@pytest.mark.parametrize("asked", ["1007", "1007.0"])
def test_account_is_explained_however_its_id_is_written(
    written: str, asked: str, tmp_path: Path
) -> None:
    spec = SPEC.model_copy(update={"max_score": 100})
    assert explain(asked, WRITTEN[written](tmp_path), spec).lines
