"""The journal that the tests of the SQL library share."""

import pytest
from ledgers import Ledger, ledger_in


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return ledger_in(tmp_path_factory.mktemp("ledger") / "journal")
