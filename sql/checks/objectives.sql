-- purpose: An experiment's value is that of its objective's own metric, which its run names.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   objective (varchar): what it says that it was judged by
--   value_after (double): its value
--   expected (double): the metric's value
-- grain: one row per experiment with another value; none in a sound journal
-- order: run_id, experiment_id

-- Results taken over have no metrics, and an import has those that its file had.

with measured as (
    select
        measures.run_id as run_id,
        measures.number as number,
        measures.amount as amount
    from measures
    join runs on runs.run_id = measures.run_id
    where measures.name = runs.objective
        and measures.outcome <> 'known'
        and runs.kind <> 'import'
)
select
    experiments.run_id as run_id,
    experiments.experiment_id as experiment_id,
    experiments.objective as objective,
    experiments.value_after as value_after,
    measured.amount as expected
from experiments
join runs on runs.run_id = experiments.run_id
left join measured
    on measured.run_id = experiments.run_id
    and measured.number = experiments.number
where experiments.objective is distinct from runs.objective
    or (
        experiments.outcome <> 'known'
        and runs.kind <> 'import'
        and experiments.value_after is distinct from measured.amount
    )
order by experiments.run_id, experiments.number;
