-- purpose: An outcome is what the values, the breaches and the number say.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   outcome (varchar): its outcome
--   problem (varchar): what speaks against it
-- grain: one row per experiment with another outcome; none in a sound journal
-- order: run_id, experiment_id

-- Better is more by over 1e-12, or less where less is better; no value is never better. What an
-- import calls a win was decided elsewhere.

with judged as (
    select
        experiments.run_id as run_id,
        experiments.experiment_id as experiment_id,
        experiments.number as number,
        experiments.outcome as outcome,
        experiments.repeats as repeats,
        len(experiments.breaches) as breaches,
        coalesce(
            if(runs.higher_is_better, 1, -1)
                * (experiments.value_after - experiments.value_before) > 1e-12,
            experiments.value_after is not null
        ) as is_better
    from experiments
    join runs on runs.run_id = experiments.run_id
    where runs.kind <> 'import'
),
faulty as (
    select
        *,
        case
            when (outcome = 'baseline') <> (number = 0) then 'a baseline is number 0'
            when outcome = 'win' and not is_better then 'not better than the incumbent'
            when outcome = 'win' and breaches > 0 then 'it broke a guardrail'
            when outcome = 'blocked' and not is_better then 'not better than the incumbent'
            when outcome = 'blocked' and coalesce(breaches, 0) = 0 then 'no guardrail is named'
            when outcome = 'lose' and is_better then 'better than the incumbent'
            when outcome = 'known' and is_better then 'better, and not evaluated'
            when outcome = 'known' and repeats is null then 'nothing says where it is known from'
            when outcome not in ('baseline', 'win', 'lose', 'blocked', 'known') then 'no outcome'
        end as problem
    from judged
)
select
    run_id,
    experiment_id,
    outcome,
    problem
from faulty
where problem is not null
order by run_id, number;
