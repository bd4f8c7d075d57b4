"""A memory survives its own text, and its digest covers all of it."""

from dataclasses import replace

import pytest

from gtmar.optimize.hill_climb import Known, Memory

MEMORY = Memory(
    runs=("r1", "r2"),
    names=("nps", "logins"),
    known={
        (5, 7): Known(0.1 + 0.2, "r2/exp_00003"),
        (5, 6): Known(0.25, "r1/exp_00001"),
        (0, 0): Known(None, "r1/exp_00002"),
    },
    best=((5, 7),),
)


def test_a_memory_is_read_back_as_it_was() -> None:
    again = Memory.from_json(MEMORY.to_json())
    assert again == MEMORY
    assert list(again.known) == list(MEMORY.known)
    assert again.digest == MEMORY.digest


@pytest.mark.parametrize(
    "other",
    [
        replace(MEMORY, best=()),
        replace(MEMORY, names=("nps", "log_ins")),
        replace(MEMORY, known={**MEMORY.known, (5, 6): Known(0.26, "r1/exp_00001")}),
        replace(MEMORY, known={**MEMORY.known, (5, 6): Known(0.25, "r1/exp_00004")}),
    ],
)
def test_anything_else_is_another_memory(other: Memory) -> None:
    assert other.digest != MEMORY.digest


def test_what_it_gives_and_what_it_remembers() -> None:
    assert (MEMORY.given.by, MEMORY.given.vectors) == ("memory", ((5, 7),))
    assert MEMORY.remembered == (((5, 7), 0.1 + 0.2), ((5, 6), 0.25))
