"""The page on verdicts: its commands give what it quotes, and DuckDB alone gives each number."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from gtmar import spec as specs
from gtmar.cli.app import app
from gtmar.data.scan import scan
from gtmar.integrations.sql import column_kinds, select
from gtmar.journal.catalog import Journal
from gtmar.journal.lookup import checkout
from gtmar.plain_data import percent

ROOT = Path(__file__).parents[2]
TABLES = Path(os.environ.get("GTMAR_REAL_TABLES", ROOT.parent / "shared" / "data"))
PAGE = (ROOT / "docs" / "verdicts.md").read_text("utf-8")


def section(name: str) -> str:
    [found] = [part for part in PAGE.split("\n## ") if f"{name}.parquet" in part]
    return found


def blocks(kind: str, text: str) -> list[str]:
    return [found[1] for found in re.finditer(rf"^```{kind}\n(.*?)^```", text, re.M | re.S)]


class There:
    """A table's accounts in DuckDB, scored by the exported SQL of start and best."""

    def __init__(self, table: Path, journal: Path) -> None:
        self.connection = duckdb.connect()
        self.connection.execute(f"create table accounts as select * from '{table}'")
        kinds = column_kinds(scan(table).schema)
        with Journal(journal) as opened:
            run_id = opened.run_id()
            for side in ("start", "best"):
                spec = checkout(opened, f"{run_id}/{side}")
                text = select(spec, "accounts", dialect="duckdb", kinds=kinds)
                self.connection.execute(f"create table {side} as {text}")
        self.connection.execute(
            """
            create table held as select account_id from accounts
            where ('0x' || substr(md5('gtmar:' || account_id), 1, 8))::bigint
                < 0.3 * 2::bigint ** 32
            """
        )

    def ask(self, text: str) -> Any:
        [row] = self.connection.execute(text).fetchall()
        return row[0] if len(row) == 1 else row

    def auc(self, side: str) -> float:
        """Pairs ranked right on the holdout, ties half, counted pair by pair."""
        return float(
            self.ask(
                f"""
                with known as (
                    select score, retained_6mo as kept, count(*) as n
                    from {side} join accounts using (account_id) semi join held using (account_id)
                    where retained_6mo is not null group by all
                )
                select sum(k.n * l.n * if(k.score > l.score, 1, if(k.score = l.score, 0.5, 0)))
                    / sum(k.n * l.n)
                from known k, known l where k.kept = 1 and l.kept = 0
                """
            )
        )

    def tier(self, side: str, *, top: bool, what: str) -> float:
        """Sum something over the lowest or highest accounts, as many as the start's tier has.

        Accounts that tie across the cut count in part.
        """
        name, order = ("A", "desc") if top else ("D", "asc")
        return float(
            self.ask(
                f"""
                with held_out as (
                    select score, accounts.* from {side} join accounts using (account_id)
                    semi join held using (account_id)
                ),
                by_score as (
                    select score, count(*) as n, sum({what}) as total from held_out group by score
                ),
                placed as (
                    select n, total, sum(n) over (order by score {order}) as reached from by_score
                ),
                size as (
                    select count(*) as tier from start semi join held using (account_id)
                    where tier = '{name}'
                )
                select sum(coalesce(total, 0) * greatest(0, least(n, tier - (reached - n))) / n)
                from placed, size
                """
            )
        )

    def over_all(self, what: str) -> float:
        return float(
            self.ask(f"select sum({what}) from accounts semi join held using (account_id)")
        )


@pytest.fixture(params=["cdnow", "saas_churn"])
def walked(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str, There]:
    name: str = request.param
    table = TABLES / f"{name}.parquet"
    if not table.is_file():
        pytest.skip(f"no {table}: the real tables are not part of this project")
    shutil.copy(table, tmp_path)
    monkeypatch.chdir(tmp_path)
    output = ""
    for block in blocks("sh", section(name)):
        for line in block.splitlines():
            done = CliRunner().invoke(app, line.split()[1:])
            assert done.exit_code == 0, (line, done.output)
            output += done.stdout
    return name, output, There(Path(f"{name}.parquet"), Path("journal"))


@pytest.mark.slow
def test_each_quoted_line_is_printed_and_each_number_is_duckdbs(
    walked: tuple[str, str, There],
) -> None:
    name, output, there = walked
    quoted = [line for block in blocks("text", section(name)) for line in block.splitlines()]
    for line in quoted:
        assert line in output.splitlines()
    said = "\n".join(quoted)
    held = there.ask("select count(*) from held")
    before, after = there.auc("start"), there.auc("best")
    pairs = f"ranks {100 * after:.0f} right; it was {100 * before:.0f} (on {held:,} accounts"
    assert pairs in said
    assert f"it ranks {100 * after:.0f} right, was {100 * before:.0f}, on {held:,} accounts" in said
    lost = "(retained_6mo = 0)::int"
    lowest = there.ask(
        "select count(*) from start semi join held using (account_id) where tier = 'D'"
    )
    assert f"the lowest {lowest:,} accounts" in said
    shares = [
        100 * there.tier(s, top=False, what=lost) / there.over_all(lost) for s in ("start", "best")
    ]
    digits = 0 if f"{shares[0]:.0f}" != f"{shares[1]:.0f}" else 1
    assert (
        f"{shares[1]:.{digits}f}% (was {shares[0]:.{digits}f}%) of the accounts that leave" in said
    )
    kept, labelled = "(retained_6mo = 1)::int", "(retained_6mo is not null)::int"
    tops = [
        100 * there.tier(s, top=True, what=kept) / there.tier(s, top=True, what=labelled)
        for s in ("start", "best")
    ]
    assert f"keeps {tops[1]:.0f}% (was {tops[0]:.0f}%) of its accounts" in said
    if name == "cdnow":
        money(there, said)
    listed(there, said, name)


def money(there: There, said: str) -> None:
    """Hold the sentences on MRR: what leaves by tier, what the best-scored fifth holds."""
    gone = "if(mrr > 0 and mrr_end = 0, mrr, 0)"
    shares = [
        100 * there.tier(s, top=False, what=gone) / there.over_all(gone) for s in ("start", "best")
    ]
    assert f"{shares[1]:.0f}% (was {shares[0]:.0f}%) of the MRR that leaves" in said
    captured = [
        there.ask(
            f"""
            with paying as (
                select score, count(*) as n, sum(mrr) as total
                from {side} join accounts using (account_id) semi join held using (account_id)
                where mrr > 0 group by score
            ),
            placed as (
                select *, sum(n) over (order by score desc) as reached,
                    0.2 * sum(n) over () as fifth
                from paying
            )
            select 100 * sum(total * greatest(0, least(n, fifth - (reached - n))) / n) / sum(total)
            from placed
            """
        )
        for side in ("start", "best")
    ]
    assert f"fifth {captured[0]:.1f}% -> {captured[1]:.1f}%" in said
    assert f"fifth holds, {captured[0]:.1f}% -> {captured[1]:.1f}%" in said


def listed(there: There, said: str, name: str) -> None:
    """Hold the list: order, probabilities counted anew, MRR and what is at stake."""
    steps = specs.load("best.yaml").calibration
    assert steps is not None
    values = ", ".join(f"({s.from_})" for s in steps.steps)
    there.connection.execute(
        f"""
        create table likely as
        with step as (select low::double as low from (values {values}) as steps(low)),
        searched as (
            select s.low, (retained_6mo = 0)::int as gone
            from (select best.*, retained_6mo from best join accounts using (account_id)) a
            asof join step s on a.score >= s.low
            anti join held using (account_id)
            where retained_6mo is not null
        ),
        counted as (select low, avg(gone) as p from searched group by low)
        select best.account_id, best.tier, best.score, counted.p
        from best asof join counted on best.score >= counted.low
        """
    )
    amount = "mrr" if name == "cdnow" else "1"
    rows = there.connection.execute(
        f"""
        select account_id, tier, p, round(p, 4) * {amount}, {amount}
        from likely join accounts using (account_id)
        order by round(p, 4) * {amount} desc nulls last, p desc, score limit 3
        """
    ).fetchall()
    for place, (account, tier, chance, stake, mrr) in enumerate(rows, start=1):
        line = f"  {place}. {account}: tier {tier}, {chance:.0%} likely to leave"
        if name == "cdnow":
            line += f", {stake:,.0f} of {mrr:,.0f} MRR at stake"
        assert line in said.splitlines()
    if name == "cdnow":
        total = there.ask(
            "select sum(round(p, 4) * mrr) from likely join accounts using (account_id)"
        )
        top = sum(row[3] for row in rows)
        assert f"hold {top:,.0f} of {total:,.0f} MRR at stake ({percent(top / total)})" in said
    else:
        assert f"{sum(row[2] for row in rows):.1f} of these are expected to" in said
