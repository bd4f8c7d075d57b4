-- purpose: What ended runs know of weights on one table: the best results first, each once.
-- parameters:
--   outcomes_fingerprint (varchar): ids, outcomes and split of the table
--   features_fingerprint (varchar): encoded features of the table
--   objective (varchar): the metric that decided
--   tiers_id (varchar): the tiers' edges
--   evaluator_version (bigint): version of the evaluator
--   most (bigint): rows at most; all where not set
-- columns:
--   weights (map(varchar, bigint)): all weights
--   value_after (double): their objective; null where it has none
--   outcome (varchar): what became of them there: baseline, win, lose or blocked
--   feasible (boolean): false where they broke a guardrail there; null where nobody asked, as of
--     those that lost
--   run_id (varchar): the run that was first to evaluate them
--   experiment_id (varchar): the experiment
--   number (bigint): its number
--   spec_id (varchar): hash of the spec that the run started from
-- grain: one row per distinct weights; results taken over and imported runs left out
-- order: value_after, the best first, then run_id and number

with ended as (
    select
        run_id,
        started_at,
        spec_id,
        if(higher_is_better, 1, -1) as sign
    from runs
    where outcomes_fingerprint = getvariable('outcomes_fingerprint')
        and features_fingerprint = getvariable('features_fingerprint')
        and objective = getvariable('objective')
        and tiers_id = getvariable('tiers_id')
        and evaluator_version = cast(getvariable('evaluator_version') as bigint)
        and ended_at is not null
        and kind <> 'import'
),
-- Equal weights have equal values, so that none is lost by ranking values first: weights are many.
foremost as (
    select
        experiments.run_id as run_id,
        experiments.experiment_id as experiment_id,
        experiments.number as number,
        experiments.value_after as value_after,
        experiments.outcome as outcome,
        ended.started_at as started_at,
        ended.spec_id as spec_id,
        ended.sign as sign
    from experiments
    join ended on ended.run_id = experiments.run_id
    where experiments.outcome <> 'known'
    qualify getvariable('most') is null
        or dense_rank() over (order by ended.sign * experiments.value_after desc nulls last)
            <= cast(getvariable('most') as bigint)
)
select
    experiments.weights as weights,
    foremost.value_after as value_after,
    foremost.outcome as outcome,
    case
        when foremost.outcome in ('baseline', 'win') then true
        when foremost.outcome = 'blocked' then false
    end as feasible,
    foremost.run_id as run_id,
    foremost.experiment_id as experiment_id,
    foremost.number as number,
    foremost.spec_id as spec_id
from experiments
join foremost
    on foremost.run_id = experiments.run_id
    and foremost.number = experiments.number
qualify row_number() over (
    partition by experiments.weights
    order by foremost.started_at, foremost.run_id, foremost.number
) = 1
order by foremost.sign * foremost.value_after desc nulls last, foremost.run_id, foremost.number
limit cast(getvariable('most') as bigint);
