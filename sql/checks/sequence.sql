-- purpose: Experiments are numbered from 0 without a hole or a double, and named by their number.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   number (bigint): its number
--   expected (bigint): the number that was due
-- grain: one row per experiment out of sequence; none in a sound journal
-- order: run_id, number

with counted as (
    select
        run_id,
        experiment_id,
        number,
        row_number() over (partition by run_id order by number, experiment_id) - 1 as expected
    from experiments
)
select
    run_id,
    experiment_id,
    number,
    expected
from counted
where number is distinct from expected
    or experiment_id is distinct from printf('exp_%05d', number)
order by run_id, number, experiment_id;
