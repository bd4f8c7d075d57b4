-- purpose: The value before an experiment is the value after the incumbent that it changed.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   value_before (double): its value before
--   expected (double): the incumbent's value after
-- grain: one row per experiment with another value; none in a sound journal
-- order: run_id, experiment_id

with incumbent as (
    select
        run_id,
        experiment_id,
        value_after
    from experiments
    where outcome in ('baseline', 'win')
)
select
    experiments.run_id as run_id,
    experiments.experiment_id as experiment_id,
    experiments.value_before as value_before,
    incumbent.value_after as expected
from experiments
left join incumbent
    on incumbent.run_id = experiments.run_id
    and incumbent.experiment_id = experiments.parent
where experiments.value_before is distinct from incumbent.value_after
order by experiments.run_id, experiments.number;
