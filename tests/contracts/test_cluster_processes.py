"""Searches side by side on a cluster: the same answers, errors as raised, lost workers replaced."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gtmar import runs
from gtmar.data import synthetic
from gtmar.engine.ray_cluster import ClusterProcesses, connected
from gtmar.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from numpy.typing import NDArray

pytestmark = pytest.mark.slow
SPEC = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"


@pytest.fixture(scope="module", autouse=True)
def _tasks_by_value(ray: ModuleType) -> Iterator[None]:
    """Send the tasks below themselves, so that workers needn't import all that this file does."""
    here = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(here)
    yield
    ray.cloudpickle.unregister_pickle_by_value(here)


@dataclass(frozen=True)
class Sum:
    """Adds up an array, and says whether it could have been written to."""

    values: NDArray[np.int64]

    def __call__(self, number: int) -> tuple[int, bool]:
        return int(self.values.sum()) + number, bool(self.values.flags.writeable)


def refuse(number: int) -> int:
    if number == 3:
        raise UsageError("three is refused", hint="take four", number=3)
    return number


def end(times: int, folder: Path, number: int) -> int:
    """End the process that does number 2, so many times."""
    before = len(list(folder.iterdir()))
    if number == 2 and before < times:
        (folder / str(before)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_come_in_order_from_arrays_that_are_shared() -> None:
    values, told = np.arange(1_000_000), list[None]()
    with ClusterProcesses() as processes:
        assert processes.worth(0)
        found = processes.each(Sum(values), range(1, 8), lambda: told.append(None))
    assert found == [(values.sum() + number, False) for number in range(1, 8)]
    assert len(told) == 7


def test_an_error_arrives_as_it_was_raised() -> None:
    with ClusterProcesses(2) as processes, pytest.raises(UsageError) as caught:
        processes.each(refuse, range(1, 9))
    assert caught.value.hint == "take four"
    assert caught.value.facts == {"number": 3}


def test_null_and_stability_are_the_same_on_a_cluster(tmp_path: Path) -> None:
    data, journal = tmp_path / "accounts.parquet", tmp_path / "journal"
    synthetic.generate("health_score", accounts=300).write_parquet(data)
    done = runs.run(data, SPEC, limits=runs.Limits(20), journal=journal)
    for search in (runs.null_search, runs.stability):
        here, there = (
            search(done.run_id, journal=journal, searches=4, engine=engine).as_json()
            for engine in (runs.Engine(), runs.Engine("ray"))
        )
        assert here.pop("event_id") != there.pop("event_id")
        assert here == there


def test_a_search_whose_worker_is_killed_is_done_again(tmp_path: Path) -> None:
    with ClusterProcesses() as processes:
        assert processes.each(partial(end, 2, tmp_path), range(1, 6)) == [1, 2, 3, 4, 5]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_search_that_is_lost_again_and_again_is_an_error(tmp_path: Path) -> None:
    with ClusterProcesses() as processes, pytest.raises(ResourceError, match="was lost") as caught:
        processes.each(partial(end, 9, tmp_path), range(1, 6))
    assert "--workers" in str(caught.value.hint)


def test_shards_are_for_one_search() -> None:
    with pytest.raises(UsageError, match="shards divide the table of one search"):
        runs.stability("r1", engine=runs.Engine("ray", shards=2))


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "127.0.0.1:99999"]
)
def test_where_nothing_listens_is_an_error_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch, ray: ModuleType
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ResourceError, match="no Ray cluster at"), connected(address):
        pass


def test_a_cluster_that_can_not_be_started_is_an_error_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, ray: ModuleType
) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")  # noqa: TRY002 - Ray's own

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ResourceError) as caught, connected():
        pass
    [reason, hint] = str(caught.value).splitlines()
    assert reason == "Ray can't be started here: The current node timed out during startup."
    assert hint == "hint: without --engine ray this machine computes"
