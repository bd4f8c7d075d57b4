-- purpose: What else moved while the objective rose: every other metric at the start and at the best.
-- parameters:
--   run (varchar): the run's id; the latest where not set
-- columns:
--   metric (varchar): metric, with its tier where it has one
--   start (double): value of the starting weights; null where it has none
--   best (double): value of the best weights; null where it has none
--   change (double): best - start
--   reading (varchar): better, worse, moved (where neither direction is good) or same (by less
--     than 0.0005, or that share of the start where it is above 1)
-- grain: one row per metric, or metric and tier
-- order: worse first, then by metric

with value as (
    select 'start' as stage, * from chosen_baseline
    union all
    select 'best' as stage, * from chosen_best
),
scalar as (
    select stage, metric, amount
    from (
        select
            stage,
            auc_roc_retain,
            revenue_capture_at_20,
            nrr_at_20,
            tier_separation,
            hhi_normalised,
            score_mean,
            share_clipped_low,
            share_clipped_high
        from value
    )
    unpivot include nulls (
        amount for metric in (
            auc_roc_retain,
            revenue_capture_at_20,
            nrr_at_20,
            tier_separation,
            hhi_normalised,
            score_mean,
            share_clipped_low,
            share_clipped_high
        )
    )
),
tiered as (
    select stage, metric, unnest(map_entries(amounts)) as entry
    from (
        select
            stage,
            nrr_by_tier,
            grr_by_tier,
            logo_retention_by_tier,
            expansion_rate_by_tier,
            contraction_rate_by_tier,
            quick_ratio_by_tier,
            winback_rate_by_former_tier,
            activation_rate_by_tier,
            arpa_by_tier,
            share_by_tier
        from value
    )
    unpivot include nulls (
        amounts for metric in (
            nrr_by_tier,
            grr_by_tier,
            logo_retention_by_tier,
            expansion_rate_by_tier,
            contraction_rate_by_tier,
            quick_ratio_by_tier,
            winback_rate_by_former_tier,
            activation_rate_by_tier,
            arpa_by_tier,
            share_by_tier
        )
    )
),
long as (
    select stage, metric, amount from scalar
    union all
    select stage, metric || '.' || entry.key as metric, entry.value as amount from tiered
),
paired as (
    select
        metric,
        max(amount) filter (where stage = 'start') as start,
        max(amount) filter (where stage = 'best') as best
    from long
    where metric <> (select objective from chosen_run)
    group by metric
),
best_tier as (
    select tiers[if(orientation = 'risk', -1, 1)] as tier
    from chosen_run
),
-- Direction: 1 where more is better, -1 where less is, 0 where neither is.
directed as (
    select
        *,
        case
            when regexp_matches(metric, '^(hhi|share_by_tier|score_mean)') then 0
            -- A worse tier that loses what the best one gains is what a better score does.
            when metric like '%_tier.%'
                and metric not like '%.' || (select tier from best_tier) then 0
            when regexp_matches(metric, '^(contraction_rate|share_clipped)') then -1
            else 1
        end as direction
    from paired
    where start is not null or best is not null
)
select
    metric,
    start,
    best,
    best - start as change,
    case
        when start is null or best is null then 'moved'
        when abs(best - start) <= 0.0005 * greatest(1, abs(start)) then 'same'
        when direction = 0 then 'moved'
        when (best - start) * direction > 0 then 'better'
        else 'worse'
    end as reading
from directed
order by
    case reading when 'worse' then 1 when 'better' then 2 when 'moved' then 3 else 4 end,
    metric;
