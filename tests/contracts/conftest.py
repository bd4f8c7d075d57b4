"""One Ray cluster for all tests of this folder: it takes seconds to start."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@pytest.fixture(scope="package")
def ray() -> Iterator[ModuleType]:
    # Looked for and not imported: what its cluster is like is read when it is.
    if find_spec("ray") is None:
        pytest.skip("the extra ray is not installed")
    from gtmar.engine.ray_cluster import connected

    with connected() as found:
        yield found
