"""The demo: a generated table, a spec that a team might have guessed, a run, its review."""

from __future__ import annotations

from pathlib import Path

__all__ = ["example_spec", "show"]


def _examples() -> Path:
    """Return the examples' folder: in the package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "_examples"
    return inside if inside.is_dir() else package.parent / "examples"


def example_spec(kind: str) -> Path:
    """Return the spec of an example: `health_score`, `churn_risk`, `icp_fit`."""
    return _examples() / kind / "spec.yaml"


def show(folder: Path, *, as_json: bool, quiet: bool) -> None:
    """Run the demo in a folder of its own."""
    from gtmar import runs, synthetic
    from gtmar.cli import files, output, pages
    from gtmar.cli.progress import announce, watching
    from gtmar.journal import reading
    from gtmar.journal.catalog import Journal

    table, guess, best = folder / "accounts.parquet", folder / "spec.yaml", folder / "best.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_table(synthetic.generate("health_score"), table)
    if not guess.exists():
        files.write_text(guess, example_spec("health_score").read_text("utf-8"))
    files.refuse_to_replace(best)
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
    files.write_best(best, result)
    with Journal(folder / "journal") as journal:
        found = reading.review(journal, result.run_id)
    pages.review(found, journal=str(folder / "journal"), as_json=as_json, best=str(best))
    if not as_json:
        output.say()
        output.say("With your own table: gtmar init --data YOUR_TABLE -o spec.yaml")
