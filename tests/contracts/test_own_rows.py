"""Shards that read their own rows: arrays, fingerprints and run are those of a table read whole."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import deltalake
import numpy as np
import polars as pl
import pytest
import stores
import tables

from gtmar import spec as specs
from gtmar.data.matrix import AccountMatrix, Accounts, load_accounts
from gtmar.data.own_rows import CodeOrder
from gtmar.data.scan import Source, scan
from gtmar.data.split import holdout_mask
from gtmar.data.synthetic import generate
from gtmar.engine import ray_shards
from gtmar.engine.local import LocalEvaluator
from gtmar.engine.ray_shards import ClusterEvaluator, ClusterRows
from gtmar.errors import AccountDataError, UsageError, ViolationsError
from gtmar.runs import Engine, Limits, Progress, RunResult, resume, run

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
SPEC = specs.load(EXAMPLE)
TABLE = generate("health_score", accounts=1_200, seed=4)
LIMITS = Limits(60)
SEED = 5
OWN = Engine("ray", shards=2, own_rows=True)
CANDIDATES = [(40, 25, -10), (0, 0, 0), (-7, 90, 3)]


def hive(folder: Path, frame: pl.DataFrame = TABLE) -> str:
    """A folder a region, whose files have several row groups."""
    size = -(-frame.height // 3)
    for number in range(3):
        part = folder / "hive" / f"region=r{number}"
        part.mkdir(parents=True)
        frame.slice(number * size, size).write_parquet(part / "0.parquet", row_group_size=100)
    return str(folder / "hive")


def globbed(folder: Path) -> str:
    hive(folder)
    return str(folder / "hive" / "*" / "*.parquet")


def delta(folder: Path) -> Source:
    """A version that isn't the newest, of several files."""
    for at in (0, 500, 900):
        rows = TABLE.slice(at, {0: 500, 500: 400, 900: 300}[at])
        deltalake.write_deltalake(folder / "delta", rows.to_arrow(), mode="append")
    deltalake.write_deltalake(folder / "delta", TABLE.head(7).to_arrow(), mode="append")
    return Source(str(folder / "delta"), 2)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The run in this process, which all others have to equal."""
    journal = tmp_path_factory.mktemp("plain")
    return run(TABLE, SPEC, limits=LIMITS, seed=SEED, journal=journal)


def same_arrays(one: AccountMatrix, two: AccountMatrix, *, features: bool) -> None:
    """Two matrices have the same arrays, which nobody can write to, but perhaps the features."""
    for field in fields(AccountMatrix):
        mine, other = getattr(one, field.name), getattr(two, field.name)
        if field.name in ("columns", "flags") and not features:
            assert len(other) == 0
        elif field.name == "columns":
            assert all(map(np.array_equal, mine, other))
            assert [each.dtype for each in mine] == [each.dtype for each in other]
        elif isinstance(mine, np.ndarray):
            assert mine.dtype == other.dtype, field.name
            np.testing.assert_array_equal(mine, other, err_msg=field.name)
            assert not other.flags.writeable, field.name
        elif field.name == "segments":
            assert [(s.column, s.values) for s in mine] == [(s.column, s.values) for s in other]
            assert all(np.array_equal(a.codes, b.codes) for a, b in zip(mine, other, strict=True))
        elif field.name == "flags":
            assert list(mine) == list(other)
            assert all(np.array_equal(mine[name], other[name]) for name in mine)
        else:
            assert mine == other, field.name


def same_accounts(one: Accounts, two: Accounts) -> None:
    assert one.checked == two.checked
    for name in ("outcomes_fingerprint", "features_fingerprint", "segments_fingerprint"):
        assert getattr(one, name) == getattr(two, name), name
    assert one.repeated == two.repeated
    same_arrays(one.search, two.search, features=False)
    assert (one.holdout is None) == (two.holdout is None)
    if one.holdout is not None and two.holdout is not None:
        same_arrays(one.holdout, two.holdout, features=True)


def test_rows_of_shards_are_put_in_the_order_of_all() -> None:
    # By the definition: all rows, stably sorted by their codes.
    source = np.random.default_rng(3)
    for shards in (1, 2, 5):
        codes = [source.integers(0, 33, n).astype(np.int16) for n in source.integers(0, 40, shards)]
        stable = np.argsort(np.concatenate(codes), kind="stable")
        values = [source.integers(0, 9, len(each)) for each in codes]
        own = [np.argsort(each, kind="stable") for each in codes]
        order = CodeOrder.of([each[o] for each, o in zip(codes, own, strict=True)])
        found = order.joined([each[o] for each, o in zip(values, own, strict=True)])
        np.testing.assert_array_equal(found, np.concatenate(values)[stable])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "shards"), [("everything", 3), ("churned", 2), ("label_only", 1), ("ltv_only", 2)]
)
def test_accounts_are_those_of_a_table_read_whole(
    warm_ray: ModuleType, kind: str, shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The contract is asked of so many rows at a time.
    monkeypatch.setattr(ray_shards, "_COUNTED", 50)
    frame = tables.frame_of(tables.draw_table(random.Random(shards), 90, kind), kind)
    # All of them twice, so that copies are drawn together; in no order of ids.
    twins = frame.with_columns(pl.format("copy-{}", "account_id").alias("account_id"))
    frame = pl.concat([frame, twins]).sample(fraction=1.0, shuffle=True, seed=8)
    frame = frame.with_columns(plan=pl.Series(["a", "b", None] * 60))
    if kind in ("churned", "ltv_only"):
        outcomes = [name for name in tables.KINDS[kind] if name in frame.columns]
        known = pl.int_range(pl.len()) % 50 != 0
        frame = frame.with_columns(pl.when(known).then(name).alias(name) for name in outcomes)
    spec = tables.make_spec((40, 25, -10), base=5)
    spec = spec.model_copy(update={"segments": ("plan",)})
    source = hive(tmp_path, frame)
    whole = load_accounts(scan(source), spec, drop_unlabelled=True)
    assert whole.copies is not None, "the table shows little"
    assert (whole.checked.dropped > 0) == (kind in ("churned", "ltv_only"))
    with closing(ClusterRows(warm_ray, shards)) as rows:
        found = load_accounts(scan(source), spec, shards=rows, drop_unlabelled=True)
        same_accounts(whole, found)
        here = LocalEvaluator(whole.search, spec)
        there = ClusterEvaluator(warm_ray, found.search, spec, shards=None, rows=rows)
        with closing(there):
            assert there.frame(CANDIDATES).equals(here.frame(CANDIDATES))
            for weights in CANDIDATES:
                np.testing.assert_array_equal(there.scores(weights), here.scores(weights))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["an id twice", "a value that can't be"])
def test_what_breaks_the_contract_is_said_in_the_same_words(
    warm_ray: ModuleType, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_shards, "_COUNTED", 500)
    place = pl.int_range(pl.len())
    name = SPEC.terms[0].columns[0]
    odd = {
        # In two parts, and in two shards.
        "an id twice": pl.when(place == 1_100)
        .then(pl.col("account_id").first())
        .otherwise("account_id"),
        "a value that can't be": pl.when(place % 400 == 7).then(float("inf")).otherwise(name),
    }[what]
    column = "account_id" if what == "an id twice" else name
    source = hive(tmp_path, TABLE.with_columns(odd.alias(column)))
    with pytest.raises(ViolationsError) as here:
        load_accounts(scan(source), SPEC)
    with closing(ClusterRows(warm_ray, 2)) as rows, pytest.raises(ViolationsError) as there:
        load_accounts(scan(source), SPEC, shards=rows)
    assert str(there.value) == str(here.value)


@pytest.mark.slow
def test_a_shard_may_have_nobody_to_search(warm_ray: ModuleType, tmp_path: Path) -> None:
    frame = tables.frame_of(tables.draw_table(random.Random(4), 6, "retained"), "retained")
    # The first of two shards holds who is held out, and nobody else.
    held = holdout_mask(frame["account_id"], share=0.5, salt="gtmar")
    frame = frame.sort(pl.Series(~held), maintain_order=True)
    spec = tables.make_spec((40, 25, -10), base=5)
    split = spec.split.model_copy(update={"holdout": 0.5})
    spec, source = spec.model_copy(update={"split": split}), hive(tmp_path, frame)
    whole = load_accounts(scan(source), spec)
    with closing(ClusterRows(warm_ray, 2)) as rows:
        found = load_accounts(scan(source), spec, shards=rows)
        same_accounts(whole, found)
        assert 0 in rows.order.sizes.sum(axis=1), "each shard has one"
        with closing(
            ClusterEvaluator(warm_ray, found.search, spec, shards=None, rows=rows)
        ) as there:
            expected = LocalEvaluator(whole.search, spec).frame(CANDIDATES)
            assert there.frame(CANDIDATES).equals(expected)


SIZES = {"tiers": {"A": {"share": 0.1}, "B": {"share": 0.4}, "C": {"share": 0.5}}}
#: What has to be known of all accounts: edges by rule, tiers at equal sizes, who is left out.
SPECS: dict[str, dict[str, Any]] = {
    "tiers by rule": SIZES,
    "of a tier": {"objective": "nrr_by_tier.A"},
    "no holdout": {"split": {"holdout": 0}},
}


@pytest.mark.slow
@pytest.mark.parametrize("source", [globbed, delta])
def test_a_run_over_own_rows_is_the_same(
    warm_ray: ModuleType, plain: RunResult, source: Callable[[Path], str | Source], tmp_path: Path
) -> None:
    table, journal = source(tmp_path), tmp_path / "journal"
    found = run(table, SPEC, limits=LIMITS, seed=SEED, journal=journal, engine=OWN)
    assert found.digest == plain.digest
    assert found.holdout == plain.holdout
    assert found.weights == plain.weights
    assert found.reliability == plain.reliability
    assert plain.wins > 3, "a run in which nothing is kept shows little"


@pytest.mark.slow
@pytest.mark.parametrize("changed", SPECS.values(), ids=SPECS)
def test_whatever_a_run_asks_of_all_accounts_is_the_same(
    warm_ray: ModuleType, changed: dict[str, Any], tmp_path: Path
) -> None:
    asked = SPEC.model_dump(mode="json", by_alias=True) | changed
    spec, table = specs.ScoringSpec.model_validate(asked), hive(tmp_path)
    here, there = (
        run(
            table,
            spec,
            limits=Limits(40),
            journal=tmp_path / str(own.kind),
            engine=own,
            no_worse=(),
        )
        for own in (Engine(), OWN)
    )
    one, two = here.as_json(), there.as_json()
    own = {"run_id", "journal", "seconds", "experiments_per_second", "spec"}
    assert {k: v for k, v in one.items() if k not in own} == {
        k: v for k, v in two.items() if k not in own
    }
    ends = [
        pl.read_parquet(tmp_path / k / "runs" / "**" / "end*.parquet") for k in ("local", "ray")
    ]
    for name in ("equal_sizes", "calibration", "holdout_best_metrics"):
        assert ends[0][name].to_list() == ends[1][name].to_list(), name


@pytest.mark.slow
def test_memory_and_resume_take_either_for_the_other(
    warm_ray: ModuleType, plain: RunResult, tmp_path: Path
) -> None:
    class CutOffError(Exception):
        pass

    def cut_off(at: Progress) -> None:
        if at.experiments > 40:
            raise CutOffError

    table, journal = hive(tmp_path), tmp_path / "journal"
    how: dict[str, Any] = {"limits": LIMITS, "seed": SEED, "journal": journal}
    with pytest.raises(CutOffError):
        run(table, SPEC, **how, watch=cut_off)
    [folder] = (journal / "runs").iterdir()
    found = resume(folder.name.removeprefix("run_id="), journal=journal, engine=OWN)
    assert found.digest == plain.digest
    again = run(table, SPEC, **how, engine=OWN)
    assert again.known > 0, "the journal doesn't know the table"


@pytest.mark.slow
def test_a_lost_shard_is_read_again_or_refused(warm_ray: ModuleType, tmp_path: Path) -> None:
    table = Path(hive(tmp_path))
    weights = [tuple(term.weight for term in SPEC.terms)]
    with closing(ClusterRows(warm_ray, 2)) as rows:
        accounts = load_accounts(scan(table), SPEC, shards=rows)
        expected = LocalEvaluator(load_accounts(scan(table), SPEC).search, SPEC).frame(weights)
        evaluator = ClusterEvaluator(warm_ray, accounts.search, SPEC, shards=None, rows=rows)
        with closing(evaluator):
            evaluator.move(weights[0])
            before = evaluator.processes
            os.kill(before[0], signal.SIGKILL)
            assert evaluator.frame(weights).equals(expected)
            after = evaluator.processes
            assert after[1] == before[1]
            assert after[0] != before[0]
            # Others' values in the rows of the shard that is lost now.
            file = table / "region=r2" / "0.parquet"
            frame = pl.read_parquet(file)
            name = SPEC.terms[0].columns[0]
            frame.with_columns(pl.col(name).reverse()).write_parquet(file)
            os.kill(after[1], signal.SIGKILL)
            with pytest.raises(AccountDataError, match="not those that the run began with"):
                evaluator.frame(weights)


def unlike(folder: Path) -> str:
    """Files of which one has a column more."""
    table = Path(hive(folder))
    TABLE.head(9).with_columns(extra=1).write_parquet(table / "region=r1" / "1.parquet")
    return str(table)


def broken(folder: Path) -> str:
    """One row breaks the contract, and can be set aside."""
    first = pl.int_range(pl.len()) == 0
    name = SPEC.terms[0].columns[0]
    odd = pl.when(first).then(float("inf")).otherwise(name).alias(name)
    return hive(folder, TABLE.with_columns(odd))


REFUSED: dict[str, tuple[Any, dict[str, Any], dict[str, Any], str]] = {
    "a frame": (lambda _: TABLE, {}, {}, "only Parquet, Arrow and Delta"),
    "files of several schemas": (unlike, {}, {}, "of one schema"),
    "rows set aside": (broken, {}, {"set_aside": 0.1}, "none of them are left out"),
    "no id": (lambda to: hive(to, TABLE.drop("account_id")), {"id": None}, {}, "no account id"),
    "who moved": (
        hive,
        {"guardrails": [{"metric": "moved_share", "max": 0.5}]},
        {},
        'guardrail "moved_share" compares accounts',
    ),
    "a fitted start": (hive, {}, {"start": "logistic"}, "fitted to all features"),
    "a later table": (hive, {}, {"holdout_file": TABLE, "holdout": None}, "a later table"),
}


@pytest.mark.slow
@pytest.mark.parametrize("source", ["a query", "text", *REFUSED])
def test_what_shards_can_not_read_is_refused(
    warm_ray: ModuleType, source: str, tmp_path: Path
) -> None:
    TABLE.write_csv(tmp_path / "accounts.csv")
    csv = str(tmp_path / "accounts.csv")
    query = Source(hive(tmp_path / "q"), query="select * from accounts")
    more = {"a query": query, "text": csv}
    make, changed, options, message = REFUSED.get(
        source, (lambda _: more[source], {}, {}, "only Parquet")
    )
    asked = SPEC.model_dump(mode="json", by_alias=True) | changed
    spec = specs.ScoringSpec.model_validate(asked)
    with pytest.raises(UsageError, match=f"shards can't read their own rows .*{message}") as caught:
        run(make(tmp_path), spec, journal=tmp_path / "journal", engine=OWN, **options)
    assert "without --own-rows" in str(caught.value.hint)
    assert not (tmp_path / "journal").exists()


def test_own_rows_are_for_shards() -> None:
    with pytest.raises(UsageError, match="rows are read by shards of the engine ray alone"):
        Engine(own_rows=True)


@pytest.mark.slow
def test_the_command_line_reads_an_object_store(
    plain: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")
    with stores.server() as url:
        bucket = stores.bucket(url, monkeypatch)
        TABLE.write_parquet(f"{bucket}/accounts.parquet", row_group_size=100)
        # A cluster of its own, whose workers have this process's environment.
        command = [sys.executable, "-m", "gtmar", "run", "--data", f"{bucket}/accounts.parquet"]
        command += ["--spec", str(EXAMPLE), "--n", str(LIMITS.experiments), "--seed", str(SEED)]
        command += ["--engine", "ray", "--shards", "2", "--own-rows", "--json", "--quiet"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == plain.digest
    assert done.stderr == ""
