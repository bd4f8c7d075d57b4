-- purpose: Two experiments side by side: the weights that differ.
-- parameters:
--   run (varchar): the first experiment's run
--   experiment (varchar): the first experiment
--   other (varchar): the second experiment's run
--   other_experiment (varchar): the second experiment
-- columns:
--   feature (varchar): name of the weight
--   one (bigint): in the first; null where it has none
--   two (bigint): in the second; null where it has none
--   change (bigint): two - one
-- grain: one row per weight that differs
-- order: feature
-- reads: the runs named

with paired as (
    select
        max(weights) filter (
            where run_id = getvariable('run') and experiment_id = getvariable('experiment')
        ) as one,
        max(weights) filter (
            where run_id = getvariable('other') and experiment_id = getvariable('other_experiment')
        ) as two
    from experiments
    where run_id in (getvariable('run'), getvariable('other'))
        and experiment_id in (getvariable('experiment'), getvariable('other_experiment'))
),
entry as (
    select
        unnest(map_entries(changed_weights(one, two))) as weight
    from paired
)
select
    weight.key as feature,
    weight.value.before as one,
    weight.value.after as two,
    weight.value.after - weight.value.before as change
from entry
order by feature;
