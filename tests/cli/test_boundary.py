"""What ends a command, however hostile its input: a worded line, an exit code, no traceback."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gtmar import runs
from gtmar.cli.app import app
from gtmar.data import synthetic
from gtmar.runs import Limits

EXAMPLE = Path(__file__).parents[2] / "examples" / "health_score" / "spec.yaml"
NOTE = "why\n\x1b[31m2026-01-01  went live  forged\u202e"
PANIC = type("PanicException", (BaseException,), {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("boundary")
    synthetic.generate("health_score", accounts=300).write_parquet(path / "a.parquet")
    runs.run(
        path / "a.parquet",
        EXAMPLE,
        limits=Limits(10),
        journal=path / "journal",
        note=NOTE,
        author="\x9b1m",
    )
    return path


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("GTMAR_JOURNAL", raising=False)
    monkeypatch.delenv("GTMAR_DEBUG", raising=False)


def gtmar(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def process(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gtmar", *words], check=False, text=True, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["log", "review", "lineage RUN", "show RUN", "best", "sql runs", "sql -c SELECT"]
)
def test_nothing_in_a_journal_moves_the_cursor_or_forges_a_line(line: str, folder: Path) -> None:
    [run] = [p.name.partition("=")[2] for p in (folder / "journal" / "runs").iterdir()]
    words = ["select note, author from runs" if w == "SELECT" else w for w in line.split()]
    result = gtmar(*(run if w == "RUN" else w for w in words))
    assert result.exit_code == 0, result.output
    assert not set("\x1b\x9b\u202e") & set(result.output)
    assert not [row for row in result.output.splitlines() if row.startswith("2026-01-01")]


@pytest.mark.slow
def test_what_somebody_wrote_is_read_as_it_was_written() -> None:
    read = json.loads(gtmar("sql", "-c", "select note from runs", "--json").stdout)
    assert read == [{"note": NOTE}]


def test_only_one_module_writes_to_the_terminal() -> None:
    strays = [
        f"{path.name}: {line.strip()}"
        for path in (Path(runs.__file__).parents[1]).rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if path.name != "output.py"
        and ">>>" not in line
        and any(s in line for s in ("typer.echo(", " print(", "stdout.write", "stderr.write"))
    ]
    assert not strays


@pytest.mark.parametrize("error", [TypeError("odd\nthing"), KeyError("x"), PANIC("index out")])
def test_what_nobody_foresaw_is_one_line(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(synthetic, "generate", fails)
    words = ("generate", "health_score", "-o", "none.parquet")
    plain, debugged, as_json = gtmar(*words), gtmar(*words, "--debug"), gtmar(*words, "--json")
    assert plain.exit_code == debugged.exit_code == as_json.exit_code == 70
    assert len(plain.stderr.splitlines()) == 1
    assert plain.stderr.startswith("a fault of gtmar: ")
    assert "--debug" in plain.stderr
    assert "Traceback" in debugged.stderr
    assert json.loads(as_json.stderr)["error"]["code"] == "fault"


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), PermissionError(13, "no", "f")])
def test_a_machine_s_troubles_are_worded(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "generate", lambda *_, **__: (_ for _ in ()).throw(error))
    result = gtmar("generate", "health_score", "-o", "none.parquet")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: ")


@pytest.mark.slow
def test_stdout_that_is_full_or_closed(folder: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        for words in (["log"], ["log", "--json"], ["--help"]):
            done = process(*words, stdout=full, stderr=subprocess.PIPE)
            assert (done.returncode, "Traceback" in done.stderr) == (74, False), done.stderr
    closed = ["sh", "-c", '"$0" -m gtmar log >&-', sys.executable]
    done = subprocess.run(closed, check=False, text=True, capture_output=True)
    assert done.returncode == 74
    done = process("log", capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code"), [(["verify"], 5), (["log"], 5), (["--help"], 0)])
def test_a_reader_that_goes_changes_no_exit_code(
    folder: Path, tmp_path: Path, words: list[str], code: int
) -> None:
    journal = shutil.copytree(folder / "journal", tmp_path / "journal")
    part = next(journal.glob("experiments/*/part-000001.parquet"))
    part.write_bytes(part.read_bytes()[:-100])
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = process(
            *words,
            stdout=writing,
            stderr=subprocess.PIPE,
            env={**os.environ, "GTMAR_JOURNAL": str(journal)},
        )
    finally:
        os.close(writing)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr


@pytest.mark.slow
def test_ctrl_c_ends_a_query() -> None:
    query = "select count(*) from range(100000000) a, range(100000) b"
    # A busy machine may take long to come to the query, so its thread says when it begins.
    code = """if True:
        import signal, sys, threading
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from gtmar.cli import main
        run = threading.Thread.run
        def told(thread):
            print("begun", file=sys.stderr, flush=True)
            run(thread)
        threading.Thread.run = told
        main()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, "sql", "-c", query], stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "begun\n"
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in stderr


def test_a_next_step_has_no_credentials_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from gtmar.cli import output

    output.hide_credentials_of(["s3://k:hunter2@b/a?token=hunter2"])
    output.print_command("gtmar run --data s3://k:hunter2@b/a?token=hunter2 --spec s.yaml")
    output.hide_credentials_of([])
    shown = capsys.readouterr().out
    assert "hunter2" not in shown
    assert "your own URL" in shown


HOSTILE = [
    *("", " ", "-5", "0", "nan", "inf", "1e400", "9" * 400, "²", "٣", "\0", "\udcff", "\u202e"),
    *("a\nb", "\x1b[2J", "/dev/null", ".", "no/such/file", "*", "[", "http:/x:hunter2@h/a"),
    *("duckdb://[x", "delta:", "=1", "--", "'", '"', "{", "%s"),
]
#: They search, or listen to a network: too slow for values drawn by chance.
SLOW = ("bench", "demo", "null", "stability", "refresh", "run", "export mlflow")


def fuzzed(draws: int, seed: int) -> None:
    """Draw commands with hostile values; none may end in a fault or a traceback."""
    commands: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined] # a group has them
        below = getattr(command, "commands", None)
        commands |= {f"{name} {n}": c for n, c in below.items()} if below else {name: command}
    names = [name for name in commands if name not in SLOW]
    generator = random.Random(seed)
    known = {"--data": "a.parquet", "--spec": str(EXAMPLE), "--output": "out.x", "--note": "n"}
    for _ in range(draws):
        name = generator.choice(names)
        words = name.split()
        parameters = commands[name].params
        victim = generator.choice(parameters) if parameters else None
        for parameter in parameters:
            label = max(parameter.opts, key=len)
            is_flag = getattr(parameter, "is_flag", False)
            if is_flag or not (parameter is victim or parameter.required):
                continue
            hostile = generator.choice(HOSTILE)
            value = hostile if parameter is victim else known.get(label, "x")
            words += (
                [f"{label}={value}"]
                if label.startswith("--")
                else ["--", value]
                if value.startswith("-")
                else [value]
            )
        result = gtmar(*words)
        assert result.exit_code in (0, 2, 3, 4, 5, 6, 10), (words, result.stderr)
        assert "Traceback" not in result.stderr, words
        assert "hunter2" not in result.output, words
        assert not set("\x1b\u202e") & set(result.output), words


@pytest.mark.slow
def test_hostile_values_end_in_a_worded_line() -> None:
    """`GTMAR_DRAWS=1000` tries as many commands."""
    fuzzed(int(os.environ.get("GTMAR_DRAWS", "80")), seed=1)
