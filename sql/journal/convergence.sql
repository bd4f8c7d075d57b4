-- purpose: Every win of a run: when it came, what it changed, what it gained.
-- parameters:
--   run (varchar): the run's id; the latest search where not set
-- columns:
--   number (bigint): the experiment's number
--   experiment_id (varchar): the experiment
--   gap (bigint): experiments since the win before, results taken over left out
--   value_before (double): objective before
--   value_after (double): objective after
--   gain (double): value_after - value_before
--   changes (varchar): what it changed, such as nps: 5 -> 12
--   changed (bigint): how many weights it changed
--   largest (varchar): its three largest changes, and how many more
--   steps (varchar): these three by how much, such as nps +7
-- grain: one row per win
-- order: number
-- reads: the runs named

with numbered as (
    select
        *,
        count(*) filter (where outcome not in ('baseline', 'known')) over (order by number) as tried
    from experiments
    where run_id = (select run_id from chosen_run)
)
select
    number,
    experiment_id,
    tried - coalesce(lag(tried) over (order by number), 0) as gap,
    value_before,
    value_after,
    value_after - value_before as gain,
    worded_changes(changes) as changes,
    cast(cardinality(changes) as bigint) as changed,
    largest_changes(changes) as largest,
    array_to_string(
        list_transform(
            largest_entries(changes),
            lambda entry: entry.key
                || format(' {:+d}', coalesce(entry.value.after, 0) - coalesce(entry.value.before, 0))
        ),
        ', '
    ) as steps
from numbered
where outcome = 'win'
order by number;
