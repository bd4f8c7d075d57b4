-- purpose: A run's records belong together: one start, an end no earlier, experiments between.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   problem (varchar): what is wrong
-- grain: one row per run and problem; none in a sound journal
-- order: run_id, problem

-- A run that was cut off before its first part, or before its start was written, is no fault.

with record as (
    select
        run_id,
        count(*) filter (where record = 'start') as starts,
        count(*) filter (where record = 'end') as ends
    from run_records
    group by run_id
),
row_total as (
    select
        run_id,
        count(distinct objective) as objectives
    from experiments
    group by run_id
),
faulty as (
    select
        record.run_id as run_id,
        unnest(
            [
                if(record.starts > 1 or record.ends > 1, 'a record stands twice', null),
                if(record.ends > 0 and record.starts = 0, 'an end without a start', null),
                if(runs.ended_at < runs.started_at, 'it ended before it began', null),
                if(
                    runs.ended_at is not null and row_total.run_id is null,
                    'it ended without an experiment',
                    null
                ),
                if(row_total.objectives > 1, 'experiments of several objectives', null),
                if(runs.started_at is not null and runs.kind is null, 'no kind', null)
            ]
        ) as problem
    from record
    left join runs on runs.run_id = record.run_id
    left join row_total on row_total.run_id = record.run_id
)
select
    run_id,
    problem
from faulty
where problem is not null
order by run_id, problem;
