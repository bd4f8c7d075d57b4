-- purpose: An experiment's parent is the last one before it that was kept; a baseline has none.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   parent (varchar): its parent
--   expected (varchar): the incumbent at that point
-- grain: one row per experiment with another parent; none in a sound journal
-- order: run_id, experiment_id

with placed as (
    select
        run_id,
        experiment_id,
        number,
        parent,
        last_value(if(outcome in ('baseline', 'win'), experiment_id, null) ignore nulls) over (
            partition by run_id
            order by number
            rows between unbounded preceding and 1 preceding
        ) as expected
    from experiments
)
select
    run_id,
    experiment_id,
    parent,
    expected
from placed
where parent is distinct from expected
order by run_id, number;
