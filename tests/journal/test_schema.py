"""What a row is: a column a metric, one schema for all records, ids that sort."""

import pyarrow as pa
import pytest

from gtmar.journal.columns import EXPERIMENTS, RECORDS, experiment_id
from gtmar.journal.schema import schema_of
from gtmar.metrics import all_metrics

SCHEMA = schema_of(EXPERIMENTS)


def test_every_metric_is_a_column_of_its_kind() -> None:
    for key, metric in all_metrics().items():
        kind = SCHEMA.field(key).type
        if metric.by_tier:
            assert pa.types.is_map(kind)
            kind = kind.item_type
        assert kind == (pa.int64() if metric.count else pa.float64())
    assert len(set(SCHEMA.names)) == len(SCHEMA.names)


def test_records_of_all_kinds_share_one_schema() -> None:
    names = schema_of(RECORDS).names
    assert len(set(names)) == len(names)
    assert {"run_id", "record", "seed", "spec", "outcomes_fingerprint", "state"} <= set(names)


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "exp_00000"), (99_999, "exp_99999"), (100_000, "exp_100000")]
)
def test_ids_sort_by_number_up_to_five_digits(number: int, expected: str) -> None:
    assert experiment_id(number) == expected
