"""The demo: a generated table, a spec that a team might have guessed, a run, its review."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["example_spec", "show"]


def _examples() -> Path:
    """Return the examples' folder: in the package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "_examples"
    return inside if inside.is_dir() else package.parent / "examples"


def example_spec(kind: str) -> Path:
    """Return the spec of an example: `health_score`, `churn_risk`, `icp_fit`."""
    return _examples() / kind / "spec.yaml"


def show(folder: Path, *, force: bool, as_json: bool, quiet: bool) -> None:
    """Run the demo in a folder of its own.

    Raises
    ------
    UsageError
        If something of another is there under one of its names, or, without `force`, a demo.
    """
    from gtmar import runs
    from gtmar.cli import files, output, run_text
    from gtmar.cli.progress import announce, watching
    from gtmar.data import synthetic
    from gtmar.journal import review as reading
    from gtmar.journal.catalog import Journal
    from gtmar.outputs import Output

    table, guess, best = folder / "accounts.parquet", folder / "spec.yaml", folder / "best.yaml"
    accounts = synthetic.generate("health_score")
    example = example_spec("health_score").read_text("utf-8")
    _refuse_existing(folder, accounts, example, force=force)
    new = Output(best, (table, guess, folder / "journal"), force=force, parents=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise new.unwritable(err) from err
    if not table.exists():
        runs.write_table(accounts, table)
    if not guess.exists():
        Output(guess).write(example)
    if not as_json:
        output.say(f"A table of 5,000 accounts: {table}")
        output.say(f"A health score as a team might have guessed it: {guess}")
        output.say("Searching for better weights ...")
        output.say()
    quiet = quiet or as_json
    with watching(quiet=quiet) as watch:
        result = runs.run(
            table,
            guess,
            journal=folder / "journal",
            announce=None if quiet else announce,
            watch=watch,
        )
    files.write_best(new, result)
    with Journal(folder / "journal") as journal:
        found = reading.review(journal, result.run_id)
    run_text.review(found, journal=str(folder / "journal"), as_json=as_json, best=str(best))
    if not as_json:
        output.say()
        output.say("With your own table: gtmar init --data YOUR_TABLE -o spec.yaml")


def _refuse_existing(folder: Path, accounts: pl.DataFrame, example: str, *, force: bool) -> None:
    """Refuse a folder with files under the demo's names that the demo didn't make."""
    import polars as pl
    from polars.exceptions import PolarsError

    from gtmar.errors import UsageError, culprits

    names = ("accounts.parquet", "spec.yaml", "best.yaml", "journal")
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and not force:
        raise UsageError(
            f'"{folder}": {culprits(there)} of the demo\'s names is there already; it is kept',
            hint="gtmar demo --folder NEW, or --force to add a run to an earlier demo",
        )
    others = []
    for name in {"accounts.parquet", "spec.yaml"} & set(there):
        path = folder / name
        try:
            if name == "spec.yaml":
                own = path.read_text("utf-8") == example
            else:
                own = pl.read_parquet(path, glob=False).equals(accounts)
        except (OSError, ValueError, PolarsError):
            own = False
        if not own:
            others.append(name)
    if others:
        raise UsageError(
            f"\"{folder}\": {culprits(sorted(others))} isn't the demo's own, and is kept",
            hint="gtmar demo --folder NEW",
        )
