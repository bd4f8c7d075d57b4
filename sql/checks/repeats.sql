-- purpose: A result taken over from an earlier run is one that this journal has: same weights, value.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   repeats (varchar): where it is known from, as RUN/EXP
--   problem (varchar): what is wrong with that
-- grain: one row per result without its source; none in a sound journal
-- order: run_id, experiment_id

with repeated as (
    select
        *
    from experiments
    where repeats is not null
),
source as (
    select
        experiments.run_id as run_id,
        experiments.experiment_id as experiment_id,
        experiments.outcome as outcome,
        experiments.value_after as value_after,
        experiments.weights as weights
    from experiments
    where experiments.run_id || '/' || experiments.experiment_id in (select repeats from repeated)
),
faulty as (
    select
        repeated.run_id as run_id,
        repeated.experiment_id as experiment_id,
        repeated.number as number,
        repeated.repeats as repeats,
        case
            when source.run_id is null then 'not in this journal'
            when source.outcome = 'known' then 'not evaluated there either'
            when list_sort(map_entries(source.weights))
                <> list_sort(map_entries(repeated.weights)) then 'other weights there'
            when source.value_after is distinct from repeated.value_after then 'another value there'
            when one.outcomes_fingerprint is distinct from two.outcomes_fingerprint
                or one.features_fingerprint is distinct from two.features_fingerprint
                then 'another table there'
            when one.objective is distinct from two.objective then 'another objective there'
            when one.tiers_id is distinct from two.tiers_id then 'other tiers there'
            when one.evaluator_version is distinct from two.evaluator_version
                then 'another evaluator there'
            when one.started_at > two.started_at then 'it began later'
        end as problem
    from repeated
    left join source on source.run_id || '/' || source.experiment_id = repeated.repeats
    left join runs as one on one.run_id = source.run_id
    left join runs as two on two.run_id = repeated.run_id
)
select
    run_id,
    experiment_id,
    repeats,
    problem
from faulty
where problem is not null
order by run_id, number;
