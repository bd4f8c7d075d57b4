"""Intervals where accounts have several rows: oracles from the formulas, and drawn accounts."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from benchmarks import panel as panels
from scipy import stats

from gtmar.data.matrix import load_accounts
from gtmar.data.scan import scan
from gtmar.stats.interval import effective_size, wilson
from gtmar.validation.intervals import panel_of, uncertainty
from gtmar.validation.ranking import BOUNDARIES, auc_gain, auc_interval, drawn_shares
from gtmar.validation.ratios import RATIOS, TierMoney, concentration, gathered_by_account
from gtmar.validation.reliability import calibrated, reliability

if TYPE_CHECKING:
    from gtmar.validation.paired_scores import Panel


def small(n: int = 60, seed: int = 1) -> Panel:
    return panels.paired(n, seed)


def wins(kept: int, lost: int) -> float:
    return 1.0 if kept > lost else 0.5 if kept == lost else 0.0


def obuchowski(panel: Panel, side: str) -> tuple[float, float]:
    """AUC and variance as Obuchowski 1997 writes them: every pair, then sums over each account."""
    places, whose = getattr(panel, side).places.tolist(), panel.account_of
    assert whose is not None
    kept = [i for i in range(panel.rows) if 2 <= panel.movement[i] <= 6]
    lost = [i for i in range(panel.rows) if panel.movement[i] <= 1]
    m, n = len(kept), len(lost)
    up = {i: sum(wins(places[i], places[j]) for j in lost) / n for i in kept}
    down = {j: sum(wins(places[i], places[j]) for i in kept) / m for j in lost}
    theta = sum(up.values()) / m
    accounts = range(int(whose.max()) + 1)
    v10 = np.array([sum(up[i] - theta for i in kept if whose[i] == a) for a in accounts])
    v01 = np.array([sum(down[j] - theta for j in lost if whose[j] == a) for a in accounts])
    i10 = len({whose[i] for i in kept})
    i01 = len({whose[j] for j in lost})
    s10 = i10 / ((i10 - 1) * m) * (v10 @ v10)
    s01 = i01 / ((i01 - 1) * n) * (v01 @ v01)
    s11 = len(accounts) / (len(accounts) - 1) * (v10 @ v01)
    return theta, s10 / m + s01 / n + 2 * s11 / (m * n)


def test_the_variance_of_an_auc_is_obuchowskis() -> None:
    panel = small()
    value, variance = obuchowski(panel, "before")
    found = auc_interval(panel, panel.before, level=0.95)
    assert found.value == pytest.approx(value, abs=1e-12)
    reach = stats.norm.ppf(0.975) * np.sqrt(variance) / (value * (1 - value))
    logit = np.log(value / (1 - value))
    assert found.low == pytest.approx(1 / (1 + np.exp(reach - logit)), abs=1e-12)
    assert found.accounts == 60


def test_a_row_an_account_is_delongs() -> None:
    panel = small()
    apart = replace(panel, account_of=np.arange(panel.rows))
    alone = replace(panel, account_of=None)
    for one, two in (
        (
            auc_interval(apart, apart.before, level=0.9),
            auc_interval(alone, alone.before, level=0.9),
        ),
        (auc_gain(apart, level=0.9), auc_gain(alone, level=0.9)),
    ):
        assert (one.value, one.low, one.high) == pytest.approx((two.value, two.low, two.high))


@pytest.mark.slow
def test_a_row_an_account_gives_the_ratios_of_rows() -> None:
    panel = small()
    apart = replace(panel, account_of=np.arange(panel.rows))
    one, two = (
        uncertainty(each, replicates=200, seed=3)
        for each in (apart, replace(panel, account_of=None))
    )
    for part in ("before", "after", "gain"):
        for name, interval in getattr(one, part).items():
            other = getattr(two, part)[name]
            ends = (interval.value, interval.low, interval.high)
            # The degrees of freedom of a share narrow it a little, where accounts are few.
            wide = 2e-2 if "share" in name or "logo" in name or "activation" in name else 1e-6
            assert (ends[0] is None) == (other.value is None)
            if other.low is not None and interval.low is not None:
                assert ends == pytest.approx((other.value, other.low, other.high), abs=wide), name


@pytest.mark.slow
def test_standard_errors_are_those_of_accounts_drawn_by_brute_force() -> None:
    """The formulas against accounts drawn with replacement, all their rows with them."""
    panel = small(200, 2)
    draw = np.random.default_rng(7)
    weights = draw.multinomial(200, np.full(200, 1 / 200), size=3_000).astype(float)
    assert panel.account_of is not None
    rows = weights[:, panel.account_of]
    kept = np.isin(panel.movement, range(2, 7))
    lost = panel.movement <= 1

    def auc(scored: np.ndarray) -> np.ndarray:
        order = np.argsort(scored, kind="stable")
        up, down = rows[:, order] * kept[order], rows[:, order] * lost[order]
        below = np.cumsum(down, axis=1) - down / 2
        # Ties are few among 10,001 values; each counts as if it were in order by half.
        shares = (up * below).sum(axis=1) / up.sum(axis=1) / down.sum(axis=1)
        return np.asarray(shares)

    gain = auc(panel.after.places) - auc(panel.before.places)
    found = auc_gain(panel, level=0.95)
    assert found.low is not None
    assert found.high is not None
    spread = (found.high - found.low) / 2 / stats.norm.ppf(0.975)
    assert spread == pytest.approx(gain.std(), rel=0.06)
    chosen = [r for r in RATIOS if r.key in ("nrr_by_tier", "logo_retention_by_tier")]
    for ratio in chosen:
        cells = gathered_by_account(panel, [ratio], [])[ratio.key]
        y, x = ratio.parts(panel)
        inside = panel.before.inside(0)
        drawn = (rows @ (y * inside)) / (rows @ (x * inside))
        pulls = cells.y[1] - cells.y[1].sum() / cells.x[1].sum() * cells.x[1]
        deviation = float(np.linalg.norm(pulls)) / cells.x[1].sum()
        assert deviation == pytest.approx(drawn.std(), rel=0.06), ratio.key


def test_pulls_of_the_top_share_are_those_of_whole_accounts() -> None:
    panel = small(200, 2)
    drawn = list(panel.weights(1_500, seed=5))
    for metric in BOUNDARIES[:2]:
        shares = drawn_shares(metric, panel, drawn)
        assert shares.accounts == 200
        for which in range(3):
            spread = shares.drawn[which].std()
            assert shares.deviations[which] == pytest.approx(spread, rel=0.12), (metric.key, which)


def test_hhi_is_a_quadratic_form_of_what_accounts_have_in_tiers() -> None:
    """The interval's ends against the form's moments, with matrices written out by hand."""
    panel = small()
    y, whose = panel.start, panel.account_of
    assert y is not None
    assert whose is not None
    every = []
    for side in (panel.before, panel.after):
        rows = np.stack([y * side.inside(tier) for tier in range(4)])
        every.append(np.stack([np.bincount(whose, row) for row in rows]))
    own, paid = np.concatenate(every), every[0].sum(axis=0)
    drawn = np.concatenate([panel.of_accounts(each) for each in panel.weights(200, seed=0)])

    def moments(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares = own @ weights / (paid @ weights)
        pulls = (own - np.outer(shares, paid)) * np.sqrt(weights) / (paid @ weights)
        return shares - 0.25, pulls

    d, pulls = moments(np.ones(60))
    cov = pulls @ pulls.T

    def student(pull: np.ndarray) -> float:
        squares = pull**2
        own = (squares**2).sum() / squares.sum() ** 2 - 1 / len(pull)
        return float(stats.t.ppf(0.975, 2 / own))

    none, some = (
        uncertainty(panel, replicates=count, metrics=["revenue_concentration_hhi"])
        for count in (0, 200)
    )
    for part, at in (("before", slice(0, 4)), ("after", slice(4, 8))):
        value, excess, s = d[at] @ d[at], np.trace(cov[at, at]), cov[at, at]
        z = student(d[at] @ pulls[at])
        errors = []
        for weights in drawn:
            e, p = (each[at] for each in moments(weights))
            c = p @ p.T
            variance = 2 * np.trace(c @ c) + 4 * value * (e @ c @ e) / (e @ e)
            errors.append((e @ e - np.trace(c) - value) / np.sqrt(variance))
        down, up = np.quantile(errors, [0.025, 0.975]) * z / stats.norm.ppf(0.975)
        for found, reaches in ((none, (z, z)), (some, (max(z, up), max(z, -down)))):
            one = getattr(found, part)["revenue_concentration_hhi"]
            assert one.value == pytest.approx(10_000 * (0.25 + value))
            for end, reach in zip((one.low, one.high), reaches, strict=True):
                true = end / 10_000 - 0.25
                variance = 2 * np.trace(s @ s) + 4 * true * (d[at] @ s @ d[at]) / value
                if true > 1e-12:
                    assert (value - excess - true) ** 2 == pytest.approx(
                        reach**2 * variance, rel=2e-3
                    )
    signs = np.diag(np.repeat([-1.0, 1.0], 4))
    spread = np.trace(signs @ cov @ signs @ cov)
    variance = max(4 * d @ signs @ cov @ signs @ d - 2 * spread, 2 * spread)
    centre = d @ signs @ d - np.trace(signs @ cov)
    half = student(d @ signs @ pulls) * np.sqrt(variance)
    gain = none.gain["revenue_concentration_hhi"]
    assert gain.low == pytest.approx(10_000 * (centre - half), rel=2e-3)
    assert gain.high == pytest.approx(10_000 * (centre + half), rel=2e-3)


def test_a_change_of_hhi_by_one_account_is_no_rounding_in_replicates_that_lack_it() -> None:
    draw = np.random.default_rng(2)
    before = np.exp(draw.normal(size=200)) * (draw.integers(0, 3, 200) == np.arange(3)[:, None])
    after = before.copy()
    after[:, 0] = np.roll(before[:, 0], 1)
    own, weights = np.concatenate([before, after]), draw.poisson(1, (300, 200))
    weights = np.concatenate([np.ones((1, 200)), weights])
    products = (own[:, None] * own[None]).reshape(36, 200)
    made = TierMoney(
        sums=weights @ own.T,
        squares=(weights @ products.T).reshape(-1, 6, 6),
        moved=own.T.dot,
        tiers=(3, 3),
        accounts=200,
    )
    gain = concentration(made, level=0.95)[2]
    # A third of the replicates don't have the account: too many to judge by the others.
    assert gain.value != 0
    assert (gain.low, gain.high, gain.reason) == (None, None, "too few accounts")


def test_hhi_is_covered_near_an_even_split_and_far_from_one() -> None:
    """Simulated shares, of which the truth is known; the plug-in value is always too high."""
    draw = np.random.default_rng(4)
    rounds = 400
    for even, count in ((np.full(4, 0.25), 300), (np.array([0.1, 0.2, 0.3, 0.4]), 200)):
        truth, inside = 10_000 * float(even @ even), 0
        for _ in range(rounds):
            money = np.exp(0.8 * draw.normal(size=count))
            own = money * (draw.choice(4, size=count, p=even) == np.arange(4)[:, None])
            own = np.concatenate([own, own])
            made = TierMoney(
                sums=own.sum(axis=1)[None],
                squares=(own @ own.T)[None],
                moved=own.T.dot,
                tiers=(4, 4),
                accounts=count,
            )
            before, after, gain = concentration(made, level=0.95)
            assert before == after
            assert (gain.low, gain.high) == (0, 0)
            assert before.low is not None
            assert before.high is not None
            inside += before.low <= truth <= before.high
        # At 95 % fewer than 367 of 400 come once in 200 times, and so do more than 391.
        assert 367 <= inside <= 391, inside


def test_a_share_counts_as_many_accounts_as_say_as_much() -> None:
    # Eight rows of an account that all say the same are one.
    own = np.array([1.0] * 30 + [0.0] * 70)
    pulls = (own - own.mean()) * 8 / 800
    size = effective_size(pulls, 0.3, 800.0, level=0.95)
    assert size == pytest.approx(100, rel=0.05)
    assert wilson(0.3 * size, size) is not None
    # Where no account differs, no more can be said than so many accounts say.
    assert effective_size(np.zeros(40), 1.0, 320.0, level=0.95) == 40


def test_intervals_hang_on_no_order_of_rows() -> None:
    # Coarse values, so that rows of many accounts are equal; amounts whose sums are rounded.
    coarse = (pl.col("x0", "x1", "x2", "x3") * 2).round() / 2
    table = panels.accounts(200, 1).with_columns(coarse, mrr=pl.lit(33.33), mrr_end=pl.lit(11.11))
    table = table.with_columns(mrr_end=pl.col("mrr_end") * pl.col("retained_6mo"))
    spec = panels.spec()

    def found(rows: object) -> object:
        matrix = load_accounts(scan(rows, at=panels.AT), spec).search
        panel = panel_of(matrix, spec, panels.START, panels.OTHER)
        return uncertainty(panel, replicates=50).as_json()

    assert found(table) == found(table.sample(fraction=1, shuffle=True, seed=4))


def test_probabilities_are_held_against_whole_accounts() -> None:
    spec = panels.spec()
    one, two = (
        load_accounts(scan(panels.accounts(300, seed), at=panels.AT), spec).search
        for seed in (1, 2)
    )
    fitted = calibrated(one, spec, date(2026, 1, 1))
    known = spec.model_copy(update={"calibration": fitted})
    clustered = reliability(two, known)
    alone = reliability(replace(two, account_of=None, date_of=None, dates=()), known)
    assert clustered is not None
    assert alone is not None
    assert clustered.observed == alone.observed
    widths = [
        (each.high or 0.0) - (each.low or 0.0) for each in (clustered.difference, alone.difference)
    ]
    # An account has some of its leaving in common over eight dates.
    assert 1.2 < widths[0] / widths[1] < 3
    assert "2,400 rows left" in clustered.sentence


@pytest.mark.slow
def test_clustered_intervals_cover_as_often_as_they_say_and_those_of_rows_do_not() -> None:
    count = 60
    true = panels.truth(20_000)
    covered = np.zeros((2, len(true)))
    for seed, panel in enumerate(panels.paired_at_once(150, range(count))):
        for way, ends in enumerate(panels.both_ways(panel, seed, replicates=200)):
            for place, each in enumerate(ends):
                # What has no interval covers whatever is true.
                covered[way, place] += each is None or each[0] <= true[place] <= each[1]
    # At 95 % fewer than 52 of 60 come three times in 1,000 each; at 85 % they are the rule.
    assert (covered[0] >= 52).all(), dict(zip(panels.ASKED, covered[0], strict=True))
    assert 0.925 <= covered[0].mean() / count <= 0.98
    assert covered[1].mean() / count < 0.88


@pytest.mark.slow
def test_a_null_finds_nothing_where_nothing_is_and_one_of_rows_would() -> None:
    def found(count: int, *, by_rows: bool) -> np.ndarray[Any, Any]:
        # The least p of nine searches is a tenth: the level that is asked for, exactly.
        how: dict[str, Any] = {"n": 100, "by_rows": by_rows, "searches": 9, "experiments": 15}
        return np.array([panels.null_p(seed, **how) for seed in range(count)])

    whole, rows = found(20, by_rows=False), found(10, by_rows=True)
    # At 10 % more than 6 of 20 come once in 400 times.
    assert ((whole <= 0.1).sum(axis=0) <= 6).all()
    # Where rows change hands one by one, chance looks smaller than it is.
    assert (rows <= 0.1).mean() > 1.5 * (whole <= 0.1).mean()
