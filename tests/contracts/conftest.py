"""One Ray cluster for all tests of this folder, and actors that they hand on: they start slowly."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from shards import KeptActors


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put modules that ask for the cluster at the front, where one worker has them all.

    Workers take tests from each other's end; each that took one of these would start a cluster.
    """
    clustered = {item.path for item in items if "ray" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in clustered)


@pytest.fixture(scope="package")
def ray() -> Iterator[ModuleType]:
    """Ray, connected to a cluster whose actors start and end as they do for everybody."""
    if find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")
    from shards import small_cluster

    with small_cluster() as found:
        yield found


@pytest.fixture(scope="package")
def _kept_actors(ray: ModuleType) -> Iterator[KeptActors]:
    from shards import KeptActors

    actors = KeptActors(ray)
    yield actors
    actors.end()


@pytest.fixture
def warm_ray(ray: ModuleType, _kept_actors: KeptActors) -> Iterator[ModuleType]:
    """Ray with actors that other tests had before, for claims that aren't about their start."""
    with _kept_actors.lent():
        yield ray
