"""A run in MLflow's own store: every number is the journal's, and a run is there once."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from factories import make_accounts, make_spec, weighted

from gtmar import runs
from gtmar.errors import JournalError, ResourceError, UsageError
from gtmar.integrations.mlflow_tracking import log_run
from gtmar.journal.catalog import Journal
from gtmar.metrics import all_metrics

#: MLflow's own use of SQLAlchemy and of pydantic, of newer versions than it was written with.
pytestmark = [
    # Looked for and not imported: that takes seconds, of each worker.
    pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow isn't installed"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracking") / "journal"
    limits = runs.Limits(30)
    runs.run(make_accounts(400), make_spec(), limits=limits, journal=folder, note='"; drop <b>')
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/runs.db"


def client_of(store: str) -> Any:
    import mlflow

    return mlflow.MlflowClient(tracking_uri=store)


@pytest.mark.slow
def test_every_number_is_the_journals(journal: Path, store: str) -> None:
    with Journal(journal) as opened:
        logged = log_run(opened, None, store, texts={"best.yaml": "model: test\n"})
        [record] = opened.query("select * from runs").to_dicts()
        rows = opened.query("select * from experiments order by number").to_dicts()
    client = client_of(store)
    found = client.get_run(logged.mlflow_run_id)
    assert logged.new
    assert found.info.status == "FINISHED"
    assert found.info.run_name == record["run_id"] == logged.run_id
    assert found.data.tags["gtmar.digest"] == record["digest"]
    assert found.data.tags["gtmar.note"] == '"; drop <b>'
    assert found.data.params["seed"] == str(record["seed"])
    best = next(row for row in rows if row["experiment_id"] == record["best_experiment"])
    for name, weight in dict(best["weights"]).items():
        assert found.data.params[f"best_weight/{name}"] == str(weight)
    objective = client.get_metric_history(logged.mlflow_run_id, "objective")
    assert {m.step: m.value for m in objective} == {r["number"]: r["value_after"] for r in rows}
    so_far = client.get_metric_history(logged.mlflow_run_id, "best_so_far")
    assert max(so_far, key=lambda m: m.step).value == record["best_value"]
    checked = 0
    for place, row in (("start", rows[0]), ("best", best)):
        for key, metric in all_metrics().items():
            values = dict(row[key] or {}) if metric.by_tier else {"": row[key]}
            for tier, value in values.items():
                name = f"{place}/{key}.{tier}" if tier else f"{place}/{key}"
                assert found.data.metrics.get(name) == value
                checked += value is not None
    assert checked > 60
    auc = found.data.metrics["holdout_best/auc_roc_retain"]
    assert auc == record["holdout_best_value"]
    path = Path(client.download_artifacts(logged.mlflow_run_id, "best.yaml"))
    assert path.read_text("utf-8") == "model: test\n"


@pytest.mark.slow
def test_names_that_become_one_are_told_apart(tmp_path: Path) -> None:
    """Bins such as "<50" and ">50" were a fault of gtmar, and two such tiers one value."""
    names = ("size[<50]", "size[>50]", "a/../b", "..", "a/", "l" * 300)
    columns = {name: pl.col("depth") * n for n, name in enumerate(names, start=1)}
    table = make_accounts(300).with_columns(**columns).drop_nulls("depth")
    features = {n: weighted(w, encode="identity") for w, n in enumerate(names, start=1)}
    tiers = {"<A>": {"min": 40, "max": 101}, "(A)": {"min": 0, "max": 40}}
    journal = tmp_path / "journal"
    spec = make_spec(features=features, tiers=tiers)
    runs.run(table, spec, limits=runs.Limits(3), journal=journal)
    store = f"sqlite:///{tmp_path}/runs.db"
    with Journal(journal) as opened:
        logged = log_run(opened, None, store)
        [start] = opened.query("select * from experiments where number = 0").to_dicts()
    found = client_of(store).get_run(logged.mlflow_run_id).data
    weights = {k.partition("/")[2]: v for k, v in found.params.items() if "start_weight/" in k}
    assert weights == {
        "size__50_": "1",
        "size__50__2": "2",
        "a____b": "3",
        "__": "4",
        "a_": "5",
        "l" * 220: "6",
    }
    retained = dict(start["logo_retention_by_tier"])
    said = [found.metrics.get(f"start/logo_retention_by_tier.{n}") for n in ("_A_", "_A__2")]
    assert [retained["<A>"], retained["(A)"]] == said
    assert len({*said}) == 2


@pytest.mark.slow
def test_a_run_is_logged_once(journal: Path, store: str) -> None:
    with Journal(journal) as opened:
        first = log_run(opened, None, store)
        again = log_run(opened, None, store)
    assert not again.new
    assert again.mlflow_run_id == first.mlflow_run_id
    assert len(client_of(store).search_runs([e.experiment_id for e in experiments(store)])) == 1


def experiments(store: str) -> list[Any]:
    return list(client_of(store).search_experiments())


@pytest.mark.slow
def test_one_that_was_cut_off_is_no_run_and_is_logged_again(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    store = f"sqlite:///{tmp_path}/cut.db"
    with Journal(journal) as opened, monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, "log_text", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            log_run(opened, None, store, texts={"best.yaml": ""})
        broken.undo()
        assert log_run(opened, None, store).new


def test_a_run_that_has_not_ended_is_refused(journal: Path, tmp_path: Path) -> None:
    for end in (journal / "runs").rglob("end.parquet"):
        # A run that ended has a seal, too: without its end record alone it would be damaged.
        gone = [end, end.with_name("seal")]
        kept = [(file, file.read_bytes()) for file in gone]
        for file in gone:
            file.unlink()
        with Journal(journal) as opened, pytest.raises(JournalError, match="has not ended"):
            log_run(opened, None, f"sqlite:///{tmp_path}/x.db")
        for file, content in kept:
            file.write_bytes(content)
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize("store", ["mlruns", "sqlite:///", "http://127.0.0.1:5000"])
def test_a_store_of_another_kind_is_refused(journal: Path, store: str) -> None:
    with Journal(journal) as opened, pytest.raises(UsageError, match="a store of SQLite"):
        log_run(opened, None, store)


def test_a_store_that_is_no_database_is_an_error_of_ours(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database", "utf-8")
    with Journal(journal) as opened:
        with pytest.raises(ResourceError, match=r"x\.db"):
            log_run(opened, None, f"sqlite:///{tmp_path}/x.db")
        with pytest.raises(ResourceError, match="there is no folder"):
            log_run(opened, None, f"sqlite:///{tmp_path}/none/x.db")
