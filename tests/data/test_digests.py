"""MD5 of many keys at once: the standard library's values, whatever the keys."""

import hashlib

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtmar.data.split import md5_heads


def heads(keys: list[str], prefix: str) -> list[int]:
    """Do it a key at a time, by the standard library."""
    return [int(hashlib.md5((prefix + key).encode()).hexdigest()[:8], 16) for key in keys]


def found(keys: list[str], prefix: str) -> list[int]:
    got: list[int] = md5_heads(pl.Series(keys, dtype=pl.String), prefix).tolist()
    return got


@pytest.mark.slow
@given(
    keys=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), max_size=20),
    prefix=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_heads_are_those_of_the_standard_library(keys: list[str], prefix: str) -> None:
    assert found(keys, prefix) == heads(keys, prefix)


@pytest.mark.parametrize("length", range(48, 70))
def test_messages_next_to_the_end_of_a_block(length: int) -> None:
    keys = ["k" * (length - 6), "k", ""]
    assert found(keys, "gtmar:") == heads(keys, "gtmar:")


def test_published_values() -> None:
    # The test suite of RFC 1321, appendix A.5.
    keys = ["", "a", "abc", "message digest", "abcdefghijklmnopqrstuvwxyz"]
    assert [f"{head:08x}" for head in found(keys, "")] == [
        "d41d8cd9",
        "0cc175b9",
        "90015098",
        "f96b697d",
        "c3fcd3d7",
    ]


def test_more_keys_than_go_together() -> None:
    keys = [f"acct-{number}" for number in range(40_000)]
    assert found(keys, "gtmar:") == heads(keys, "gtmar:")
