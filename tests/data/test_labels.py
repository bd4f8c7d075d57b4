"""Labels as words, and outcome and id columns under names of their own."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from factories import make_spec, weighted
from typer.testing import CliRunner

from gtmar.autospec.first_spec import FirstSpec, first_spec
from gtmar.cli.app import app
from gtmar.data.matrix import load_accounts
from gtmar.data.outcomes import Movement, with_labels
from gtmar.data.scan import likely_id, scan
from gtmar.data.text_columns import HEADER_AGAIN
from gtmar.errors import AccountDataError, ViolationsError
from gtmar.runs import check, score
from gtmar.spec import Outcomes, load, parse, to_yaml

N = 200
SOURCE = np.random.default_rng(0)
LOGINS = SOURCE.integers(0, 60, N)
LEFT = (SOURCE.random(N) > 1 / (1 + np.exp(1.5 - 0.06 * LOGINS))).astype(int)


def accounts(identifier: str = "account_id", /, **columns: Any) -> pl.DataFrame:
    """Return accounts; a pair of words stands for a label, of who stayed and who left."""
    written = {
        name: [value[gone] for gone in LEFT] if isinstance(value, tuple) else value
        for name, value in columns.items()
    }
    ids = {identifier: [f"{i:05}" for i in range(N)]}
    return pl.DataFrame({**ids, "logins": LOGINS, **written})


def first(frame: pl.DataFrame, **options: Any) -> FirstSpec:
    return first_spec(scan(frame), **options)


def left(frame: pl.DataFrame, found: FirstSpec) -> int:
    """Return how many accounts left, as a run would count them."""
    loaded = load_accounts(scan(frame), found.spec)
    sides = [side for side in (loaded.search, loaded.holdout) if side is not None]
    lost = (side.rows(Movement.LOST_NONPAYING, Movement.LOST_PAYING) for side in sides)
    return sum(rows.stop - rows.start for rows in lost)


WORDS = [
    ("No", "Yes"),
    ("n", "Y"),
    ("False", "True"),
    ("FALSE", "TRUE"),
    ("0", "1"),
    ("0.0", "1.0"),
    ("Active", "Churned"),
    ("active ", "Inactive"),
    ("Existing Customer", "Attrited Customer"),
    ("retained", "lost"),
    (0.0, 1.0),
    (0, 1),
    (False, True),
]
#: Words that say of themselves who left; the others say whether the column's name is so.
SELF_EVIDENT = WORDS[6:10]
WHO_LEFT = ("churned", "Churn Flag", "Is Churned", "Exited", "Attrition")
WHO_STAYED = ("retained_6mo", "Retained", "is_renewed")
#: All words under one name or another, and under each name words, numbers and what is evident.
EACH_WORD = [(WHO_LEFT[n % len(WHO_LEFT)], words) for n, words in enumerate(WORDS)]
EACH_NAME = [(name, words) for name in WHO_LEFT for words in (("No", "Yes"), (0, 1))]


@pytest.mark.slow
@pytest.mark.parametrize(("column", "words"), sorted({*EACH_WORD, *EACH_NAME}, key=str), ids=str)
def test_label_of_who_left(column: str, words: tuple[Any, Any]) -> None:
    frame = accounts(**{column: words}, actual_ltv=SOURCE.random(N) * 900)
    found = first(frame)
    assert found.outcomes["churned"] == column
    assert found.spec.objective == "auc_roc_retain"
    assert left(frame, found) == LEFT.sum()
    assert column not in found.spec.features


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "words"),
    [(WHO_STAYED[n % len(WHO_STAYED)], words) for n, words in enumerate(SELF_EVIDENT)],
    ids=str,
)
def test_label_of_who_stayed(column: str, words: tuple[str, str]) -> None:
    frame = accounts(**{column: words})
    found = first(frame)
    assert found.outcomes["retained"] == column
    assert left(frame, found) == LEFT.sum()


@pytest.mark.slow
def test_yes_means_what_the_column_says() -> None:
    frame = accounts(Renewed=("Yes", "No"))
    assert left(frame, first(frame)) == LEFT.sum()
    named = accounts(status=("yes", "no"))
    for role, lost in (("retained", LEFT.sum()), ("churned", N - LEFT.sum())):
        assert left(named, first(named, outcomes=Outcomes(**{role: "status"}))) == lost


def said_by_init(frame: pl.DataFrame, folder: Path, *more: str) -> str:
    """Return what `init` says of a table; it writes ``s.yaml`` into the folder."""
    frame.write_csv(folder / "a.csv")
    options = ["--data", str(folder / "a.csv"), "-o", str(folder / "s.yaml")]
    said = CliRunner().invoke(app, ["init", *options, *more])
    assert said.exit_code == 0, said.output
    return said.output


def test_own_fields_of_salesforce_are_known_by_their_names(tmp_path: Path) -> None:
    frame = accounts("Account_ID__c", Churned__c=("FALSE", "TRUE"), MRR__c=SOURCE.random(N))
    said = said_by_init(frame, tmp_path)
    assert "Outcomes: Churned__c (churned), MRR__c (mrr)." in said
    assert "Id: Account_ID__c." in said


def test_what_words_count_is_said_and_written_down(tmp_path: Path) -> None:
    frame = accounts("Customer ID", **{"Churn Flag": ("No", "Yes")}, MRR=SOURCE.random(N))
    said = said_by_init(frame, tmp_path)
    assert "Outcomes: Churn Flag (churned), MRR (mrr)." in said
    assert 'column Churn Flag: "No" counts 0, "Yes" counts 1.' in said
    assert "Id: Customer ID." in said
    assert "objective: auc_roc_retain" in said
    spec = load(tmp_path / "s.yaml")
    assert spec.labels == {"churned": {"No": 0, "Yes": 1}}
    assert spec.id == "Customer ID"
    assert parse(to_yaml(spec)) == spec
    (tmp_path / "s.yaml").unlink()
    facts = json.loads(said_by_init(frame, tmp_path, "--json"))
    assert facts["id"] == "Customer ID"
    assert facts["outcomes"] == {"churned": "Churn Flag", "mrr": "MRR"}
    assert facts["labels"] == {"churned": {"No": 0, "Yes": 1}}
    assert facts["objective"] == "auc_roc_retain"
    scored = score(tmp_path / "a.csv", spec)
    assert scored["Customer ID"].to_list() == frame["Customer ID"].to_list()


def test_words_that_nobody_knows_are_asked_for() -> None:
    frame = accounts(Churn=("Live", "Lapsed"))
    with pytest.raises(AccountDataError, match='holds "Lapsed", "Live"') as caught:
        first(frame)
    assert '--label "churned:Lapsed=1"' in str(caught.value.hint)
    found = first(frame, labels={"churned": {"lapsed": 1, "live": 0}})
    assert left(frame, found) == LEFT.sum()
    with pytest.raises(AccountDataError, match="expects numbers") as caught:
        first(accounts(churned=("Live", "Lapsed")))
    assert '--label "churned:' in str(caught.value.hint)


@pytest.mark.parametrize("words", [("Live", "Lapsed"), ("no", "Lapsed"), ("no", "yes", "Lapsed")])
def test_the_options_that_are_proposed_settle_every_word(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    accounts(churned=words[:2]).with_columns(
        churned=pl.when(pl.int_range(N) == 0).then(pl.lit(words[-1])).otherwise(pl.col("churned"))
    ).write_csv(tmp_path / "a.csv")
    asked = ["init", "--data", str(tmp_path / "a.csv"), "-o", str(tmp_path / "s.yaml")]
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code == 3, refused.output
    proposed = re.findall(r'--label "([^"]+)"', refused.output)
    assert {each.partition(":")[2].partition("=")[0] for each in proposed} == set(words)
    found = CliRunner().invoke(app, [*asked, *(w for each in proposed for w in ("--label", each))])
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize("words", [("Ja", "Nein"), ("oui", "non"), ("WAHR", "FALSCH")])
def test_yes_and_no_of_other_languages_are_said(words: tuple[str, str]) -> None:
    frame = accounts(retained_6mo=words)
    _, [read] = with_labels(scan(frame), Outcomes(), {})
    assert read.words == {words[0]: 1, words[1]: 0}
    assert f'"{words[0]}" counts 1' in read.sentence


def test_a_header_among_the_rows_is_no_label() -> None:
    frame = accounts(retained_6mo=("yes", "no")).with_columns(
        retained_6mo=pl.when(pl.int_range(N) == 7)
        .then(pl.lit("retained_6mo"))
        .otherwise(pl.col("retained_6mo"))
    )
    with pytest.raises(AccountDataError) as caught:
        first(frame)
    assert caught.value.hint == HEADER_AGAIN


def test_spec_says_what_its_words_count_and_nothing_else_counts() -> None:
    spec = make_spec(
        features={"logins": weighted()},
        outcomes={"churned": "state"},
        labels={"churned": {"Gone": 1, "Here": 0}},
        split={"holdout": 0},
    )
    frame = accounts(state=("HERE", " gone"))
    assert check(frame, spec).cohorts["lost"] == LEFT.sum()
    other = accounts(state=("Here", "Churned"))
    with pytest.raises(ViolationsError, match="expects 0 and 1, got String") as caught:
        load_accounts(scan(other), spec)
    assert "labels: {churned: {Churned: 1" in caught.value.message


def test_unknown_labels_among_words_are_unknown() -> None:
    frame = pl.DataFrame({"churned": ["Yes", None, "", "no"]})
    table, _ = with_labels(scan(frame), Outcomes(), {})
    assert table.frame.collect()["churned"].to_list() == [1, None, None, 0]


def test_two_columns_that_could_be_the_label_are_asked_about() -> None:
    frame = accounts(**{"Churn Value": (0, 1), "Churn Label": ("No", "Yes")})
    with pytest.raises(AccountDataError, match='"Churn Value", "Churn Label" could each be') as err:
        first(frame)
    assert '--outcome "churned=Churn Value"' in str(err.value.hint)


@pytest.mark.slow
def test_column_that_divides_into_stayed_and_left_is_asked_about() -> None:
    frame = accounts(Status=("Active", "Churned"), actual_ltv=SOURCE.random(N))
    with pytest.raises(AccountDataError, match='column "Status" holds "Active", "Churned"'):
        first(frame)
    assert left(frame, first(frame, outcomes=Outcomes(churned="Status"))) == LEFT.sum()


def test_first_spec_without_a_label_says_so() -> None:
    found = first(accounts(actual_ltv=SOURCE.random(N) * 900 + 1))
    assert any("oriented by LTV" in each and "No label was found" in each for each in found.taken)


def test_number_that_is_no_label_is_none() -> None:
    found = first(accounts(attrition=SOURCE.random(N), retained_6mo=(1, 0)))
    assert found.outcomes == {"retained": "retained_6mo"}
    found = first(accounts(churn=LOGINS + 2, actual_ltv=SOURCE.random(N) + 1))
    assert "churned" not in found.outcomes


@pytest.mark.parametrize(
    "name",
    [
        *("Customer ID", "CustomerId", "Account Id", "user_id", "Account-Number", "tenant_uuid"),
        "Record ID",
    ],
)
def test_id_under_another_name(name: str) -> None:
    found = first(accounts(name, retained_6mo=(1, 0)))
    assert found.spec.id == name
    assert any(f"Id: {name}." in each for each in found.taken)


@pytest.mark.parametrize(
    ("start", "end"),
    [("MRR (start)", "MRR (end)"), ("starting_mrr", "Ending MRR"), ("mrr", "end_mrr")],
)
def test_revenue_at_either_end_under_another_name(start: str, end: str) -> None:
    """Taken for a feature, it would leave every revenue metric null."""
    money = SOURCE.integers(1, 90, N) * 10.0
    found = first(accounts(retained_6mo=(1, 0), **{start: money, end: money}))
    assert (found.spec.outcomes.mrr, found.spec.outcomes.mrr_end) == (start, end)
    assert not {start, end} & {f.column or n for n, f in found.spec.features.items()}
    assert any(f"{start} (mrr)" in each for each in found.taken)


def test_id_of_another_name_that_stands_twice_is_none() -> None:
    frame = accounts(retained_6mo=(1, 0)).rename({"account_id": "user_id"})
    assert first(frame.with_columns(user_id=pl.lit("u1"))).spec.id is None


def test_ids_that_a_spec_does_not_name() -> None:
    """They draw no holdout, as before, and are said; scores carry them."""
    frame = accounts("Customer ID", retained_6mo=(1, 0), **{"Actual LTV": SOURCE.random(N)})
    spec = make_spec(id=None, features={"logins": weighted()})
    found = check(frame, spec)
    assert any('"Customer ID" is named like the account id' in note for note in found.notes)
    assert any('"Actual LTV" is named like outcome ltv' in note for note in found.notes)
    assert score(frame, spec).columns[0] == "Customer ID"
    assert likely_id(["user_id", "account_id"]) == "account_id"
