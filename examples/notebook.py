"""A search from a notebook: `marimo edit examples/notebook.py` opens it, python runs it."""

import marimo

app = marimo.App(app_title="gtmar in a notebook")


@app.cell
def libraries():
    import tempfile
    from pathlib import Path

    import polars as pl

    import gtmar
    from gtmar.data import synthetic

    folder = Path(tempfile.mkdtemp(prefix="gtmar-notebook-"))
    return folder, gtmar, pl, synthetic


@app.cell
def table(synthetic):
    # Yours comes in as a Polars, pandas or Arrow frame, a DuckDB relation, a path or a URL.
    accounts = synthetic.generate("health_score", accounts=2_000)
    accounts.head()
    return (accounts,)


@app.cell
def search(accounts, folder, gtmar):
    found = gtmar.run(accounts, n=200, journal=folder / "journal", note="from a notebook")
    found
    return (found,)


@app.cell
def wins(found, pl):
    kept = found.experiments().filter(pl.col("outcome") == "win")
    kept.select("experiment_id", "changes", "value_before", "value_after")
    return (kept,)


@app.cell
def spec(found):
    found.best


@app.cell
def hypothesis(accounts, folder, found, gtmar):
    # A change of your own is measured under the same rules and stands in the same journal.
    name = next(iter(found.best.weights))
    term = next(term for term in found.best.terms if term.name == name)
    other = term.min if term.weight != term.min else term.max
    tried = gtmar.try_weights(
        accounts,
        found.best,
        {name: other},
        note=f"is {name} worth anything?",
        journal=folder / "journal",
    )
    gtmar.diff(f"{tried.id}/0", f"{tried.id}/1", journal=folder / "journal")
    return (tried,)


@app.cell
def scores(accounts, found, gtmar, pl):
    scored = gtmar.score(accounts, found.best)
    tiers = scored.group_by("tier").agg(accounts=pl.len(), mean=pl.col("score").mean())
    tiers.sort("tier")
    return (tiers,)


if __name__ == "__main__":
    app.run()
