"""Credentials are taken out of whatever is printed or recorded."""

import pytest

from gtmar.errors import UsageError
from gtmar.safe_text import is_remote, redacted, without_credentials

FORMS = [
    "http://h/a.parquet?table=x&sig=hunter2",
    "postgresql://u:hunter2@h:5432/db",
    "postgresql://u:p/hunter2@h/db",
    "postgresql+psycopg://u:hunter2@h/db",
    "postgresql://u:hunter2@h/db?table=a.b&sslpassword=hunter2",
    "postgres://h/db?user=hunter2&password=hunter2&table=t",
    "postgresql://u@h/db?table=t#hunter2",
    "snowflake://hunter2@account/db?table=t",
    "s3://bucket/a.parquet?token=hunter2",
    "iceberg://u:hunter2@catalog/a.b",
    "delta:s3://key:hunter2@bucket/t",
    "abfss://container:hunter2@acc.dfs.core.windows.net/t",
    "az://c/a?sv=1&se=2&sig=hunter2",
    "http://u:hunter2@[::1/",
    "http:/u:hunter2@h/a.yaml",
    "duckdb:///a.db?table=t&password=hunter2",
    "https://h/a;key=hunter2/b",
    "https://h/a#access_token=hunter2",
]


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_url_keeps_its_secret(form: str) -> None:
    assert "hunter2" not in without_credentials(form)
    assert "hunter2" not in redacted(f'"{form}": failed', form)
    assert "hunter2" not in redacted("request with hunter2 failed", form)
    assert "hunter2" not in str(UsageError(f'"{form}": no'))
    assert without_credentials(without_credentials(form)) == without_credentials(form)


def test_of_postgresql_the_user_and_the_server_stay() -> None:
    form = "postgresql://me:hunter2@h:5432/db?host=/run&table=a.b&sslmode=require&options=x"
    shown = "postgresql://me@h:5432/db?host=/run&table=a.b&sslmode=require"
    assert without_credentials(form) == shown
    assert redacted(f"{form}: role me isn't there", form) == f"{shown}: role me isn't there"
    assert redacted("role somebody isn't there", "postgresql://somebody@h/db") == (
        "role somebody isn't there"
    )


@pytest.mark.parametrize(
    "text", ["a@b.parquet", "a?b.parquet", "C:/a?b", "column: x@y", "abfss://box@acc.dfs/t"]
)
def test_what_holds_none_stays(text: str) -> None:
    assert without_credentials(text) == text
    assert redacted(text) == text


def test_options_that_a_library_quotes() -> None:
    text = (
        "{'aws_secret_access_key': 'hunter2', 'region': 'eu'} Authorization: Bearer hunter2hunter2"
    )
    assert "hunter2" not in redacted(text, foreign=True)
    assert "eu" in redacted(text, foreign=True)


@pytest.mark.parametrize(
    "location", ["s3://b/a", "HTTP://h/a", "//h/a", "\\\\h\\a", "delta:gs://b"]
)
def test_what_is_elsewhere(location: str) -> None:
    assert is_remote(location)
    assert not is_remote("duckdb:////data/a.db?table=t")
