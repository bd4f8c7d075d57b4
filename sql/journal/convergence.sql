-- purpose: Every win of a run: when it came, what it changed, what it gained.
-- parameters:
--   run (varchar): the run's id; the latest where not set
-- columns:
--   number (bigint): the experiment's number
--   experiment_id (varchar): the experiment
--   gap (bigint): experiments since the win before
--   value_before (double): objective before
--   value_after (double): objective after
--   gain (double): value_after - value_before
--   changes (varchar): what it changed, such as nps: 5 -> 12
-- grain: one row per win
-- order: number

select
    number,
    experiment_id,
    number - coalesce(lag(number) over (order by number), 0) as gap,
    value_before,
    value_after,
    value_after - value_before as gain,
    array_to_string(
        list_transform(
            map_entries(changes),
            lambda c: c.key || ': ' || c.value.before || ' -> ' || c.value.after
        ),
        ', '
    ) as changes
from experiments
where run_id = (select run_id from chosen_run)
    and outcome = 'win'
order by number;
