"""What holds for all tests: answers of commands keep their JSON Schemas, files lie in memory."""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.main import get_command

from gtmar.cli import next_step, output
from gtmar.linear_algebra import use_one_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A folder of Linux that is in memory, and the room that tests want there at least.
MEMORY, ROOM = Path("/dev/shm"), 2 << 30


def pytest_configure() -> None:
    """Have tests cost what they test: no disk that syncs, no threads that wait for each other.

    Tests sync thousands of small files, so their folders are in memory, where there is room, unless
    somebody said where. Polars and linear algebra get a thread each, unless the environment says
    otherwise: tables of tests are small, and the workers share the cores already. Tests that are
    about threads say themselves how many. The command line is put together once, as a process does;
    typer's runner would do so at each call, which takes several times as long as a short command.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    use_one_thread()
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    pytest.MonkeyPatch().setattr("typer.testing._get_command", cache(get_command))


@cache
def _schemas() -> dict[str, Any]:
    from gtmar.cli.json_schemas import json_schemas

    return json_schemas()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest tests first, whole pages of commands: begun last they'd be waited for."""
    items.sort(key=lambda item: "docs" not in item.path.parts[-2:])


#: By module, its generators of random numbers and their states once it was imported.
_DRAWS: dict[str, list[tuple[Any, Any]]] = {}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note how each module's generators of random numbers stand before any test."""
    for item in session.items:
        module = getattr(item, "module", None)
        if module is not None and module.__name__ not in _DRAWS:
            own = [each for each in vars(module).values() if isinstance(each, np.random.Generator)]
            _DRAWS[module.__name__] = [(each, deepcopy(each.bit_generator.state)) for each in own]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have a test draw the same numbers whichever tests ran before it in its process."""
    module = getattr(item, "module", None)
    for generator, state in _DRAWS.get(getattr(module, "__name__", ""), ()):
        generator.bit_generator.state = deepcopy(state)


@cache
def _validator(command: str) -> Any:
    return Draft202012Validator(_schemas()[command])


def _command() -> str:
    """Name the command that is running, as ``journal export``."""
    context: Any = next_step._running.get()
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return " ".join(names)


@pytest.fixture(scope="session", autouse=True)
def _searches_are_as_in_a_warm_checkout() -> Iterator[None]:
    """Have searches say nothing of machine code, before fixtures of modules search."""
    from machine_code import say_nothing

    with pytest.MonkeyPatch.context() as patch:
        say_nothing(patch)
        yield


@pytest.fixture(autouse=True)
def _answers_keep_their_schema(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold what is answered against the schema, printed for people or for programs."""
    printed = output.Answer.print
    wrong: list[str] = []

    def checked(answer: output.Answer) -> None:
        data = answer.data()
        plain = json.loads(json.dumps(output._plain(data, redact=False), default=str))
        name = _command()
        wrong.extend(
            f"gtmar {name} --json, {error.json_path}: {error.message[:300]}"
            for error in _validator(name).iter_errors(plain)
        )
        printed(replace(answer, data=lambda: data))

    monkeypatch.setattr(output.Answer, "print", checked)
    yield
    assert not wrong, "\n".join(wrong)
