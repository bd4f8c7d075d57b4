"""One Ray cluster for all tests of this folder, and actors that they hand on: they start slowly."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from shards import KeptActors


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
