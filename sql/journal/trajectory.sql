-- purpose: How each weight moved over the wins of a run.
-- parameters:
--   run (varchar): the run's id; the latest search where not set
-- columns:
--   feature (varchar): name of the weight
--   number (bigint): the experiment's number, 0 for the start
--   experiment (varchar): the experiment
--   weight (bigint): the weight in it
--   change (bigint): since the row before; null in the first
-- grain: one row per weight and kept experiment, the baseline among them
-- order: feature, number
-- reads: the runs named

select
    entry.key as feature,
    number,
    experiment_id as experiment,
    entry.value as weight,
    entry.value - lag(entry.value) over (partition by entry.key order by number) as change
from (
    select
        number,
        experiment_id,
        unnest(map_entries(weights)) as entry
    from experiments
    where run_id = (select run_id from chosen_run)
        and outcome in ('baseline', 'win')
)
order by feature, number;
