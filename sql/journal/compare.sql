-- purpose: Two runs side by side: what they share, what they found.
-- parameters:
--   run (varchar): the first run's id
--   other (varchar): the second run's id
-- columns:
--   run_id (varchar): the run
--   model (varchar): the spec's model
--   objective (varchar): the metric that decided
--   higher_is_better (boolean): false where less of it is better
--   outcomes_fingerprint (varchar): ids, outcomes and split of the table
--   features_fingerprint (varchar): encoded features of the table
--   tiers_id (varchar): the tiers' edges
--   evaluator_version (bigint): version of the evaluator
--   basis (varchar): observed or binary revenue retention
--   seed (bigint): the run's seed
--   state (varchar): how it ended
--   experiments (bigint): experiments really evaluated, the baseline aside
--   wins (bigint): experiments kept
--   baseline_value (double): objective of the starting weights
--   best_value (double): objective of the best weights
--   best_experiment (varchar): the last experiment kept
--   holdout_best_value (double): objective of the best on the holdout
--   revenue_capture_at_20 (double): of the best
--   tier_separation (double): of the best
--   nrr_at_20 (double): of the best
--   hhi_normalised (double): of the best
--   weights (map(varchar, bigint)): of the best
-- grain: one row per run
-- order: the first run, then the second
-- reads: the runs named

with best as (
    select
        *
    from experiments
    where outcome in ('baseline', 'win')
        and run_id in (getvariable('run'), getvariable('other'))
    qualify row_number() over (partition by run_id order by number desc) = 1
),
total as (
    select
        run_id,
        count(*) filter (where outcome not in ('baseline', 'known')) as experiments,
        count(*) filter (where outcome = 'win') as wins,
        max(value_after) filter (where number = 0) as baseline_value
    from experiments
    where run_id in (getvariable('run'), getvariable('other'))
    group by run_id
)
select
    runs.run_id as run_id,
    runs.model as model,
    runs.objective as objective,
    runs.higher_is_better as higher_is_better,
    runs.outcomes_fingerprint as outcomes_fingerprint,
    runs.features_fingerprint as features_fingerprint,
    runs.tiers_id as tiers_id,
    runs.evaluator_version as evaluator_version,
    runs.basis as basis,
    runs.seed as seed,
    runs.state as state,
    total.experiments as experiments,
    total.wins as wins,
    total.baseline_value as baseline_value,
    best.value_after as best_value,
    best.experiment_id as best_experiment,
    runs.holdout_best_value as holdout_best_value,
    best.revenue_capture_at_20 as revenue_capture_at_20,
    best.tier_separation as tier_separation,
    best.nrr_at_20 as nrr_at_20,
    best.hhi_normalised as hhi_normalised,
    best.weights as weights
from runs
join best on best.run_id = runs.run_id
join total on total.run_id = runs.run_id
where runs.run_id in (getvariable('run'), getvariable('other'))
order by runs.run_id <> getvariable('run');
