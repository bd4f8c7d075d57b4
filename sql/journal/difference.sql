-- purpose: Two experiments side by side: the metrics that differ.
-- parameters:
--   run (varchar): the first experiment's run
--   experiment (varchar): the first experiment
--   other (varchar): the second experiment's run
--   other_experiment (varchar): the second experiment
-- columns:
--   metric (varchar): metric, with its tier where it has one
--   one (double): its value in the first; null where it has none
--   two (double): its value in the second; null where it has none
--   change (double): two - one
--   reading (varchar): better, worse, moved (where neither direction is good, or a tier is of
--     another size) or same (by less than 0.0005, or that share of the first where it is above 1)
--   basis (varchar): of revenue retention, observed or binary; null of other metrics
-- grain: one row per metric, or metric and tier, that differs
-- order: worse first, then better, moved, same, each by metric
-- reads: the runs named

with paired as (
    select
        metric,
        tier,
        name,
        max(amount) filter (
            where run_id = getvariable('run') and experiment_id = getvariable('experiment')
        ) as one,
        max(amount) filter (
            where run_id = getvariable('other') and experiment_id = getvariable('other_experiment')
        ) as two
    from measures
    where run_id in (getvariable('run'), getvariable('other'))
        and experiment_id in (getvariable('experiment'), getvariable('other_experiment'))
    group by metric, tier, name
),
-- A metric of a tier is better or worse only where as many accounts are in it.
tier_size as (
    select
        tier,
        one = two as is_kept
    from paired
    where metric = 'accounts_by_tier'
),
best_tier as (
    select
        tiers[if(orientation = 'risk', -1, 1)] as tier,
        basis
    from runs
    where run_id = getvariable('run')
)
select
    paired.name as metric,
    paired.one as one,
    paired.two as two,
    paired.two - paired.one as change,
    metric_reading(
        paired.metric,
        if(tier_size.is_kept, paired.tier, paired.tier || ' of another size'),
        best_tier.tier,
        paired.one,
        paired.two
    ) as reading,
    case when paired.metric in ('nrr_by_tier', 'grr_by_tier', 'nrr_at_20') then best_tier.basis end as basis
from paired
left join best_tier on true
left join tier_size on tier_size.tier = paired.tier
where paired.one is distinct from paired.two
order by
    case reading when 'worse' then 1 when 'better' then 2 when 'moved' then 3 else 4 end,
    paired.name;
