-- purpose: One run in one row: start and best, wins, when the last win came, the holdout.
-- parameters:
--   run (varchar): the run's id; the latest search where not set
-- columns:
--   run_id (varchar): the run
--   kind (varchar): search, human, record or import
--   model (varchar): the spec's model
--   source (varchar): the account table
--   author (varchar): who asked for the run
--   note (varchar): why
--   orientation (varchar): health, where a high score is good, or risk
--   objective (varchar): the metric that decided
--   higher_is_better (boolean): false where less of it is better
--   state (varchar): how the run ended
--   accounts (bigint): accounts searched
--   holdout_accounts (bigint): accounts that the search never saw
--   basis (varchar): observed or binary revenue retention; null without MRR
--   revenue_weighted_retention (double): binary NRR of all accounts at the best, from an import
--   seed (bigint): the run's seed
--   experiments (bigint): experiments really evaluated, the baseline aside
--   wins (bigint): experiments kept
--   blocked (bigint): experiments that beat the incumbent and broke a guardrail
--   known (bigint): results taken over from earlier runs, not evaluated
--   win_rate (double): wins / experiments; null without experiments
--   baseline_value (double): objective of the starting weights
--   best_experiment (varchar): the last one kept; the baseline where none was
--   best_value (double): objective of the best weights
--   gain (double): best_value - baseline_value
--   last_win (bigint): number of the last win; null where none was
--   longest_gap (bigint): most experiments in a row without a win
--   holdout_baseline_value (double): objective of the start on the holdout
--   holdout_best_value (double): objective of the best on the holdout
--   baseline_hhi (double): revenue_concentration_hhi of the start
--   best_hhi (double): revenue_concentration_hhi of the best
--   best_hhi_normalised (double): the same from 0, an even split over tiers, to 1
--   tier_count (bigint): tiers in the spec
--   digest (varchar): the run's digest; null while it runs
-- grain: one row, or none where there is no such run
-- order: none needed
-- reads: the runs named

with run_experiment as (
    select
        number,
        outcome,
        count(*) filter (where outcome not in ('baseline', 'known')) over (order by number) as tried
    from experiments
    where run_id = (select run_id from chosen_run)
),
gap as (
    select
        tried - coalesce(lag(tried) over (order by number), 0) as experiments
    from run_experiment
    where outcome = 'win'
    union all
    select
        max(tried) - coalesce(max(tried) filter (where outcome = 'win'), 0) as experiments
    from run_experiment
),
total as (
    select
        count(*) filter (where outcome not in ('baseline', 'known')) as experiments,
        count(*) filter (where outcome = 'win') as wins,
        count(*) filter (where outcome = 'blocked') as blocked,
        count(*) filter (where outcome = 'known') as known,
        max(number) filter (where outcome = 'win') as last_win
    from run_experiment
)
select
    chosen_run.run_id as run_id,
    chosen_run.kind as kind,
    chosen_run.model as model,
    chosen_run.source as source,
    chosen_run.author as author,
    chosen_run.note as note,
    chosen_run.orientation as orientation,
    chosen_run.objective as objective,
    chosen_run.higher_is_better as higher_is_better,
    chosen_run.state as state,
    chosen_run.search_accounts as accounts,
    chosen_run.holdout_accounts as holdout_accounts,
    chosen_run.basis as basis,
    try_cast(
        regexp_extract(
            chosen_best.null_reasons['revenue_weighted_retention'], 'the file says (.*)', 1
        ) as double
    ) as revenue_weighted_retention,
    chosen_run.seed as seed,
    total.experiments as experiments,
    total.wins as wins,
    total.blocked as blocked,
    total.known as known,
    total.wins / nullif(total.experiments, 0) as win_rate,
    chosen_baseline.value_after as baseline_value,
    chosen_best.experiment_id as best_experiment,
    chosen_best.value_after as best_value,
    chosen_best.value_after - chosen_baseline.value_after as gain,
    total.last_win as last_win,
    (select max(experiments) from gap) as longest_gap,
    chosen_run.holdout_baseline_value as holdout_baseline_value,
    chosen_run.holdout_best_value as holdout_best_value,
    chosen_baseline.revenue_concentration_hhi as baseline_hhi,
    chosen_best.revenue_concentration_hhi as best_hhi,
    chosen_best.hhi_normalised as best_hhi_normalised,
    cast(len(chosen_run.tiers) as bigint) as tier_count,
    chosen_run.digest as digest
from chosen_run
cross join total
cross join chosen_baseline
cross join chosen_best;
