"""One PostgreSQL server and one Spark for all tests of this folder: each takes seconds to start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import engines
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


#: Modules whose tests ask for either by its name.
_ON_ENGINES = ("test_parity.py", "test_snapshot_dialects.py", "test_sql.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these modules at the front, where one worker has them all and starts each engine once."""
    items.sort(key=lambda item: item.path.name not in _ON_ENGINES)


@pytest.fixture(scope="package")
def postgres() -> Iterator[engines.Postgres]:
    with engines.postgres() as started:
        if started is None:
            pytest.skip("PostgreSQL is not installed here: no SQL can be run on it")
        yield started


@pytest.fixture(scope="package")
def spark() -> Iterator[engines.Spark]:
    with engines.spark() as started:
        if started is None:
            pytest.skip("Spark is not installed here: no SQL can be run on it")
        yield started
