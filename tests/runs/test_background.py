"""Work beside the loop: in order, one piece at a time, its errors told, no thread left."""

import threading
from collections.abc import Callable

import pytest

from gtmar.runs.background import Background

WAIT = 30


def own_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("gtmar-background")]


def failing() -> None:
    raise OSError("the disk is full")


@pytest.mark.parametrize("threaded", [True, False])
def test_pieces_are_done_in_the_order_given(threaded: bool) -> None:
    done: list[tuple[int, bool]] = []

    def piece(number: int) -> Callable[[], None]:
        return lambda: done.append((number, threading.current_thread() is threading.main_thread()))

    with Background(threaded=threaded) as background:
        for number in range(200):
            background.do(piece(number))
        background.finish()
        assert done == [(number, not threaded) for number in range(200)]
        assert len(own_threads()) == threaded
    assert own_threads() == []


def test_no_thread_begins_where_there_is_nothing_to_do() -> None:
    with Background(threaded=True) as background:
        background.finish()
        assert own_threads() == []


def test_one_piece_waits_and_whoever_brings_another_waits_too() -> None:
    go_on, brought, done = threading.Event(), threading.Event(), []
    with Background(threaded=True) as background:
        background.do(lambda: done.append(go_on.wait(WAIT)))
        background.do(lambda: done.append(True))

        def bring() -> None:
            background.do(lambda: done.append(True))
            brought.set()

        bringer = threading.Thread(target=bring)
        bringer.start()
        assert not brought.wait(0.05)
        go_on.set()
        assert brought.wait(WAIT)
        bringer.join()
        background.finish()
    assert done == [True, True, True]


def test_an_error_is_raised_by_the_next_call_and_nothing_after_it_is_done() -> None:
    done: list[str] = []
    with Background(threaded=True) as background:
        background.do(lambda: done.append("before"))
        background.do(failing)

        def go_on() -> None:
            for _ in range(3):
                background.do(lambda: done.append("after"))

        with pytest.raises(OSError, match="the disk is full"):
            go_on()
        background.finish()
    assert done == ["before"]
    assert own_threads() == []


def test_an_error_is_raised_at_the_end() -> None:
    with Background(threaded=True) as background:
        background.do(failing)
        with pytest.raises(OSError, match="the disk is full"):
            background.finish()


def test_what_is_under_way_ends_before_an_error_of_the_owner_goes_on() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), []

    def slow() -> None:
        begun.set()
        done.append(go_on.wait(WAIT))

    def own() -> None:
        with Background(threaded=True) as background:
            background.do(slow)
            background.do(lambda: done.append(False))
            assert begun.wait(WAIT)
            threading.Timer(0.05, go_on.set).start()
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        own()
    # The piece under way is whole, the one that waited was never begun.
    assert done == [True]
    assert own_threads() == []
