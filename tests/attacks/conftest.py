"""One process for all attacks, from which their commands are forked: it imports everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attacks.nursery import Nursery

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def nursery() -> Iterator[Nursery]:
    with Nursery() as opened:
        yield opened
