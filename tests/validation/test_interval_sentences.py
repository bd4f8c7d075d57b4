"""What a change costs beside its objective, as sentences."""

from __future__ import annotations

from gtmar.stats.interval import Interval
from gtmar.validation.intervals import Uncertainty, costs_of, upside_down


def interval(value: float, reach: float = 0.01) -> Interval:
    return Interval(value, value - reach, value + reach, 0.95, 500)


def moved(**ends: tuple[float, float]) -> Uncertainty:
    return Uncertainty(
        {key: interval(before) for key, (before, _) in ends.items()},
        {key: interval(after) for key, (_, after) in ends.items()},
        {key: interval(after - before) for key, (before, after) in ends.items()},
    )


EVERY = {
    "auc_roc_retain": (0.8, 0.7),
    "revenue_capture_at_20": (0.5, 0.4),
    "nrr_at_20": (1.1, 1.0),
    "tier_separation": (3.0, 2.0),
    "hhi_normalised": (0.1, 0.2),
}


def test_every_headline_metric_that_got_worse_is_named_with_its_ends() -> None:
    said = costs_of(moved(**EVERY))
    assert list(said) == list(EVERY)
    assert said["nrr_at_20"] == (
        "Worse beyond chance: the NRR of the best-scored fifth, 110.0% -> 100.0%."
    )
    assert said["hhi_normalised"].startswith("More concentrated beyond chance: ")
    assert not any(len(sentence) > 110 for sentence in said.values())


def test_what_got_better_or_did_not_move_beyond_chance_is_no_cost() -> None:
    back = {key: (after, before) for key, (before, after) in EVERY.items()}
    assert costs_of(moved(**back)) == {}
    assert costs_of(moved(nrr_at_20=(1.0, 0.995), hhi_normalised=(0.1, 0.105))) == {}


def test_the_objective_and_what_says_the_same_are_no_costs() -> None:
    worse = moved(**EVERY)
    assert "nrr_at_20" not in costs_of(worse, "nrr_at_20")
    for objective, twin in (
        ("auc_roc_churn", "auc_roc_retain"),
        ("revenue_capture_lift", "revenue_capture_at_20"),
        ("revenue_concentration_hhi", "hhi_normalised"),
    ):
        assert twin not in costs_of(worse, objective)
        assert len(costs_of(worse, objective)) == len(EVERY) - 1


def test_whoever_is_upside_down_is_named() -> None:
    def said(before: float, after: float) -> str | None:
        return upside_down(moved(auc_roc_retain=(before, after)))

    assert said(0.6, 0.495) is None, "its interval reaches .505"
    candidate = said(0.6, 0.325)
    assert candidate is not None
    assert candidate.startswith("The candidate is upside down: of 100 pairs")
    assert " 32 right" in candidate
    assert "incumbent" not in candidate
    both, incumbent = said(0.3, 0.4), said(0.3, 0.6)
    assert both is not None
    assert "so is the incumbent with 30" in both
    assert incumbent is not None
    assert incumbent.startswith("The incumbent is upside down: ")
    assert upside_down(Uncertainty({}, {}, {})) is None
