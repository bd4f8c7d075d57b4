-- purpose: What else moved while the objective rose: every other metric at the start and at the best.
-- parameters:
--   run (varchar): the run's id; the latest search where not set
-- columns:
--   metric (varchar): metric, with its tier where it has one
--   start (double): value of the starting weights; null where it has none
--   best (double): value of the best weights; null where it has none
--   change (double): best - start
--   reading (varchar): better, worse, moved (where neither direction is good, or a tier is of
--     another size) or same (by less than 0.0005, or that share of the start where it is above 1)
--   basis (varchar): of revenue retention, observed or binary; null of other metrics
-- grain: one row per metric, or metric and tier
-- order: worse first, then better, moved, same, each by metric
-- reads: the runs named

-- Read once: to plan the view of all measures takes longer than to read it.
with measured as materialized (
    select
        metric,
        tier,
        name,
        number,
        amount
    from measures
    where run_id = (select run_id from chosen_run)
        and number in (0, (select number from chosen_best))
),
paired as (
    select
        metric,
        tier,
        name,
        max(amount) filter (where number = 0) as start,
        max(amount) filter (where number = (select number from chosen_best)) as best
    from measured
    where name <> (select objective from chosen_run)
        -- What says the same twice, or follows from the table alone, is left out.
        and metric in (
            'auc_roc_retain',
            'revenue_capture_at_20',
            'nrr_at_20',
            'tier_separation',
            'hhi_normalised',
            'score_mean',
            'share_clipped_low',
            'share_clipped_high',
            'nrr_by_tier',
            'grr_by_tier',
            'logo_retention_by_tier',
            'expansion_rate_by_tier',
            'contraction_rate_by_tier',
            'quick_ratio_by_tier',
            'winback_rate_by_former_tier',
            'activation_rate_by_tier',
            'arpa_by_tier',
            'share_by_tier'
        )
    group by metric, tier, name
),
-- A metric of a tier is better or worse only where as many accounts are in it as before.
tier_size as (
    select
        tier,
        count(distinct amount) = 1 as is_kept
    from measured
    where metric = 'accounts_by_tier'
    group by tier
)
select
    paired.name as metric,
    paired.start as start,
    paired.best as best,
    paired.best - paired.start as change,
    metric_reading(
        paired.metric,
        if(tier_size.is_kept, paired.tier, paired.tier || ' of another size'),
        chosen_run.tiers[if(chosen_run.orientation = 'risk', -1, 1)],
        paired.start,
        paired.best
    ) as reading,
    case when paired.metric in ('nrr_by_tier', 'grr_by_tier', 'nrr_at_20') then chosen_run.basis end as basis
from paired
cross join chosen_run
left join tier_size on tier_size.tier = paired.tier
where paired.start is not null
    or paired.best is not null
order by
    case reading when 'worse' then 1 when 'better' then 2 when 'moved' then 3 else 4 end,
    paired.name;
