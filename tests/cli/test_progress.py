"""What a search says while it runs."""

import pytest

from gtmar.cli import progress
from gtmar.runs import Progress


def at(experiments: int, seconds: float, budget: float | None = None) -> Progress:
    return Progress(
        run_id="r",
        experiments=experiments,
        limit=2_000,
        wins=1,
        baseline=0.6,
        best=0.7,
        seconds=seconds,
        budget=budget,
    )


@pytest.mark.parametrize(
    ("progressed", "said"),
    [
        # The first experiment may have waited half a minute for machine code.
        (at(1, 19.0), "best 0.7000, 1 win"),
        (at(100, 0.1), "best 0.7000, 1 win, 1,000/s"),
        (at(500, 5.0), "best 0.7000, 1 win, 100/s, 15 s left"),
        (at(10, 10.0), "best 0.7000, 1 win, 1/s, 33 min 10 s left"),
        (at(10, 10.0, budget=30.0), "best 0.7000, 1 win, 1/s, 20 s left"),
        (at(10, 100.0), "best 0.7000, 1 win, 0/s, 5 h 31 min left"),
    ],
)
def test_rate_and_time_left_are_said_once_they_say_something(
    progressed: Progress, said: str
) -> None:
    assert progress._words(progressed) == said
