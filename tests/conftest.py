"""Whatever a command answers in any test of this process is held against its JSON Schema."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from gtmar.cli import next_step, output

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def _validator(command: str) -> Any:
    from gtmar.cli.json_schemas import json_schemas

    return Draft202012Validator(json_schemas()[command])


def _command() -> str:
    """Name the command that is running, as ``journal export``."""
    context: Any = next_step._running.get()
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return " ".join(names)


@pytest.fixture(autouse=True)
def _answers_keep_their_schema(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold what is answered against the schema, printed for people or for programs."""
    printed = output.Answer.print
    wrong: list[str] = []

    def checked(answer: output.Answer) -> None:
        plain = json.loads(json.dumps(output._plain(answer.data(), redact=False), default=str))
        name = _command()
        wrong.extend(
            f"gtmar {name} --json, {error.json_path}: {error.message[:300]}"
            for error in _validator(name).iter_errors(plain)
        )
        printed(answer)

    monkeypatch.setattr(output.Answer, "print", checked)
    yield
    assert not wrong, "\n".join(wrong)
