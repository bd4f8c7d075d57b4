"""The error tree, its codes, and how culprits and likely names are worded."""

import ast
import importlib
import pickle
import pkgutil
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gtmar
from gtmar import errors
from gtmar.errors import (
    AccountDataError,
    FaultError,
    GtmarError,
    JournalError,
    JournalVersionError,
    NotComparableError,
    NotResumableError,
    OutputError,
    QueryError,
    RecipeError,
    ResourceError,
    RunNotFoundError,
    ShapeError,
    SpecError,
    UsageError,
    Violation,
    ViolationsError,
    culprits,
    nearest,
)

TREE: dict[type[GtmarError], tuple[type[GtmarError], str, int]] = {
    UsageError: (GtmarError, "usage", 2),
    SpecError: (GtmarError, "spec", 3),
    RecipeError: (GtmarError, "recipe", 3),
    AccountDataError: (GtmarError, "account_data", 3),
    ViolationsError: (AccountDataError, "contract", 3),
    ShapeError: (GtmarError, "shape", 1),
    ResourceError: (GtmarError, "resource", 4),
    JournalError: (GtmarError, "journal", 5),
    RunNotFoundError: (JournalError, "run_not_found", 5),
    NotComparableError: (JournalError, "not_comparable", 5),
    NotResumableError: (JournalError, "not_resumable", 5),
    JournalVersionError: (JournalError, "journal_version", 5),
    QueryError: (GtmarError, "query", 6),
    FaultError: (GtmarError, "fault", 70),
    OutputError: (GtmarError, "output", 74),
}


ALL: list[type[GtmarError]] = [GtmarError, *TREE]


def below(root: type[GtmarError]) -> set[type[GtmarError]]:
    found: set[type[GtmarError]] = set()
    for error in root.__subclasses__():
        found |= {error} | below(error)
    return found


# The tree


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_place_code_and_exit_code(error: type[GtmarError]) -> None:
    parent, code, exit_code = TREE[error]
    assert error.__base__ is parent or parent in error.__bases__
    assert (error.code, error.exit_code) == (code, exit_code)


def test_root() -> None:
    assert GtmarError.__bases__ == (Exception,)
    assert (GtmarError.code, GtmarError.exit_code) == ("error", 1)


def test_tree_is_complete_and_all_of_it_is_in_one_module() -> None:
    for module in pkgutil.walk_packages(gtmar.__path__, "gtmar."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    ours = {error for error in below(GtmarError) if error.__module__.startswith("gtmar.")}
    assert ours == set(TREE)
    assert {error.__module__ for error in ours} == {"gtmar.errors"}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_of_another_process_says_the_same(kind: type[GtmarError]) -> None:
    odd = Violation("n", "3 values are odd", hint="mend them", rows=3)
    error = (
        ViolationsError("t", [odd], set_aside=(3, 9))
        if kind is ViolationsError
        else kind("wrong\x07", hint="do it", listing=["  - one"], rows=3)
    )
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.args, again.facts) == (str(error), error.args, error.facts)
    if isinstance(again, ViolationsError):
        assert (again.source, again.set_aside) == ("t", (3, 9))
        assert [vars(each) for each in again.violations] == [vars(odd)]


def test_codes_are_told_apart() -> None:
    codes = [error.code for error in ALL]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("error", [UsageError, SpecError, AccountDataError, ShapeError])
def test_wrong_values_are_value_errors_too(error: type[GtmarError]) -> None:
    assert issubclass(error, ValueError)


def test_drawn_tree_names_every_error() -> None:
    drawing = str(errors.__doc__)
    for error in ALL:
        assert error.__name__ in drawing


def test_all_is_complete_and_sorted() -> None:
    tree = ast.parse(Path(str(errors.__file__)).read_text(encoding="utf-8"))
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    }
    assert set(errors.__all__) == defined
    assert errors.__all__ == sorted(errors.__all__)


# Messages


def test_message_hint_and_facts() -> None:
    error = SpecError("spec: nothing", hint="write something", line=3, names=["a"])
    assert str(error) == "spec: nothing\nhint: write something"
    assert (error.message, error.hint) == ("spec: nothing", "write something")
    assert error.facts == {"line": 3, "names": ["a"]}
    assert error.args == ("spec: nothing",)


def test_message_alone() -> None:
    error = GtmarError("nothing")
    assert str(error) == "nothing"
    assert error.hint is None
    assert error.facts == {}


def test_violations_are_listed_in_one_message() -> None:
    error = ViolationsError(
        "a.csv",
        [
            Violation("mrr", "2 of 3 values are negative: -1, -2", hint="0 or more", rows=2),
            Violation("", "no outcome column"),
        ],
    )
    assert error.message == (
        "a.csv: 2 violations of the data contract\n"
        '  - column "mrr": 2 of 3 values are negative: -1, -2\n'
        "    hint: 0 or more\n"
        "  - no outcome column"
    )
    assert error.facts == {
        "violations": [
            {
                "column": "mrr",
                "problem": "2 of 3 values are negative: -1, -2",
                "hint": "0 or more",
                "rows": 2,
            },
            {"column": "", "problem": "no outcome column", "hint": "", "rows": 0},
        ]
    }
    assert [violation.rows for violation in error.violations] == [2, 0]


def test_one_violation_is_in_the_singular() -> None:
    error = ViolationsError("frame", [Violation("x", "gone")])
    assert error.message == 'frame: 1 violation of the data contract\n  - column "x": gone'


# Culprits


@pytest.mark.parametrize(
    ("values", "limit", "worded"),
    [
        ([], 5, ""),
        (["a"], 5, '"a"'),
        (["b", "a"], 5, '"b", "a"'),
        ([1, 2.5, None, "x"], 5, '1, 2.5, None, "x"'),
        (range(5), 5, "0, 1, 2, 3, 4"),
        (range(6), 5, "0, 1, 2, 3, 4 and 1 more"),
        (range(1_239), 2, "0, 1 and 1,237 more"),
        ({"a": 1, "b": 2}.keys(), 1, '"a" and 1 more'),
    ],
    ids=str,
)
def test_culprits(values: list[object], limit: int, worded: str) -> None:
    assert culprits(values, limit=limit) == worded


@given(values=st.lists(st.integers()), limit=st.integers(1, 9))
def test_culprits_account_for_every_value(values: list[int], limit: int) -> None:
    text = culprits(values, limit=limit)
    shown, _, rest = text.partition(" and ")
    named = [int(part) for part in shown.split(", ")] if shown else []
    assert named == values[:limit]
    further = int(rest.removesuffix(" more").replace(",", "")) if rest else 0
    assert further == len(values) - len(named)


# Likely names


@pytest.mark.parametrize(
    ("name", "known", "likely"),
    [
        ("alert_creatd", ["alert_created", "mrr"], "alert_created"),
        ("MRR", ["mrr_end", "mrr"], "mrr"),
        ("alertcreated", ["Alert_Created"], "Alert_Created"),
        ("mrr", ["mrr"], "mrr"),
        ("xyzzy", ["alert_created", "mrr"], None),
        ("mrr", [], None),
        ("csat", ["is_csat_or_nps", "csat_score", "nps"], "csat_score"),
        ("sat", ["csat_score"], None),
        ("", ["mrr"], None),
    ],
)
def test_nearest(name: str, known: list[str], likely: str | None) -> None:
    assert nearest(name, known) == likely
    assert nearest(name, iter(known)) == likely


@given(name=st.text(string.ascii_lowercase, min_size=5, max_size=20), place=st.integers(0, 19))
def test_nearest_finds_a_name_that_lacks_a_letter(name: str, place: int) -> None:
    cut = place % len(name)
    assert nearest(name[:cut] + name[cut + 1 :], [name, "0123456789"]) == name
