-- purpose: The best compromises of the objective and another metric, that no experiment beats in both.
-- parameters:
--   metric (varchar): the other metric, by tier as nrr_by_tier.A; revenue_capture_at_20 where not set
--   run (varchar): the run whose objective and table are meant; the latest search where not set
--   whole_table (boolean): all runs of that table, objective, tiers and evaluator; else that run's
--   blocked (boolean): those that broke a guardrail are looked at, too; not where not set
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   value (double): its objective, search part
--   metric_value (double): its value of the other metric, search part
--   on_front (boolean): whether no experiment is better in one of them and as good in the other;
--     false of the named run's start and best alone, which are there in any case
--   mark (varchar): start or best of the named run; null of others
--   outcome (varchar): baseline, win, lose or blocked; guardrails were not asked of those that lost
--   accounts (bigint): accounts in the metric's tier; null of a metric that isn't by tier
--   alike (bigint): experiments with these very values, this one included
--   looked_at (bigint): experiments with both values, starts among them
--   broke (bigint): how many of all that have both values broke a guardrail
--   runs (bigint): runs with an experiment that was looked at
-- grain: one row per pair of values: the named run's best or start, else whoever came first
-- order: value, the best first, then metric_value, the best first

with ground as (
    select
        runs.run_id as run_id,
        runs.started_at as started_at,
        runs.run_id = chosen_run.run_id as named,
        if(chosen_run.higher_is_better, 1, -1) as sign
    from runs
    cross join chosen_run
    where runs.run_id = chosen_run.run_id
        or (
            coalesce(getvariable('whole_table'), false)
            and runs.outcomes_fingerprint = chosen_run.outcomes_fingerprint
            and runs.objective = chosen_run.objective
            and runs.tiers_id = chosen_run.tiers_id
            and runs.evaluator_version = chosen_run.evaluator_version
        )
),
-- Only the metric's column is read, and tiers' sizes where it is by tier.
measured as (
    select
        run_id,
        experiment_id,
        number,
        outcome,
        value_after as value,
        columns(
            -- Of a name that is no such metric there is no row.
            lambda name: name = if(
                regexp_matches(
                    coalesce(getvariable('metric'), 'revenue_capture_at_20'),
                    '^(auc|revenue|nrr|grr|logo|expan|contrac|quick|winback|activ|median|arpa|tier_)'
                ),
                split_part(coalesce(getvariable('metric'), 'revenue_capture_at_20'), '.', 1),
                'number'
            )
        ) as amount,
        columns(
            lambda name: name = if(
                contains(coalesce(getvariable('metric'), 'revenue_capture_at_20'), '.'),
                'accounts_by_tier',
                'number'
            )
        ) as size
    from experiments
    where outcome <> 'known'
),
valued as (
    select
        measured.run_id as run_id,
        measured.experiment_id as experiment_id,
        measured.number as number,
        measured.outcome as outcome,
        measured.value as value,
        if(
            contains(coalesce(getvariable('metric'), 'revenue_capture_at_20'), '.'),
            try_cast(to_json(measured.amount) as map(varchar, double))[
                regexp_extract(coalesce(getvariable('metric'), 'revenue_capture_at_20'), '[.](.*)', 1)
            ],
            try_cast(to_json(measured.amount) as double)
        ) as metric_value,
        if(
            contains(coalesce(getvariable('metric'), 'revenue_capture_at_20'), '.'),
            try_cast(to_json(measured.size) as map(varchar, bigint))[
                regexp_extract(coalesce(getvariable('metric'), 'revenue_capture_at_20'), '[.](.*)', 1)
            ],
            null
        ) as accounts,
        ground.started_at as started_at,
        ground.named as named,
        ground.sign as sign,
        better_direction(coalesce(getvariable('metric'), 'revenue_capture_at_20')) as metric_sign,
        case
            when not ground.named then null
            when
                measured.number = max(measured.number)
                    filter (measured.outcome in ('baseline', 'win'))
                    over (partition by measured.run_id)
                and measured.number > 0
                then 'best'
            when measured.number = 0 then 'start'
        end as mark
    from measured
    join ground on ground.run_id = measured.run_id
),
paired as materialized (
    select
        *,
        outcome <> 'blocked' or coalesce(getvariable('blocked'), false) as asked
    from valued
    where value is not null
        and metric_value is not null
        and metric_sign <> 0
),
counted as (
    select
        count(*) filter (asked) as looked_at,
        count(*) filter (outcome = 'blocked') as broke,
        count(distinct run_id) filter (asked) as runs
    from paired
),
-- Of equal pairs the marked one stands for all, else the first that was evaluated.
distinct_pairs as (
    select
        *,
        count(*) over (partition by value, metric_value) as alike
    from paired
    where asked
    qualify row_number() over (
        partition by value, metric_value
        order by mark nulls last, started_at, run_id, number
    ) = 1
),
-- Whoever is better in the objective, or as good and better in the metric, comes before.
placed as (
    select
        *,
        metric_sign * metric_value > coalesce(
            max(metric_sign * metric_value) over (
                order by sign * value desc, metric_sign * metric_value desc
                rows between unbounded preceding and 1 preceding
            ),
            '-infinity'
        ) as on_front
    from distinct_pairs
)
select
    placed.run_id as run_id,
    placed.experiment_id as experiment_id,
    placed.value as value,
    placed.metric_value as metric_value,
    placed.on_front as on_front,
    placed.mark as mark,
    placed.outcome as outcome,
    placed.accounts as accounts,
    placed.alike as alike,
    counted.looked_at as looked_at,
    counted.broke as broke,
    counted.runs as runs
from placed
cross join counted
where placed.on_front
    or placed.mark is not null
order by
    placed.sign * placed.value desc,
    placed.metric_sign * placed.metric_value desc,
    placed.run_id,
    placed.experiment_id;
