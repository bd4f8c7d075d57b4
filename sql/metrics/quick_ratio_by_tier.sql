-- purpose: MRR that each tier's accounts added per unit of MRR lost to contraction and churn.
-- parameters:
--   tiers (varchar[]): names of the spec's tiers, best first
-- columns:
--   tier (varchar): tier name
--   quick_ratio_by_tier (double): ratio >= 0, 1 = gains equal losses; null when nothing was lost
--   accounts (bigint): paying accounts in the tier
-- grain: one row per tier
-- order: the tier's place in `tiers`

-- Paying accounts are current ones with start MRR above zero and a known end. Where the author of
-- `scored` supplied mrr_end as mrr * retained_6mo (basis `binary`), nothing grows or shrinks by
-- construction, so this result says nothing about the accounts.

with tier_list as (
    select
        named.tier as tier,
        named.place as place
    from unnest(cast(getvariable('tiers') as varchar[])) with ordinality as named (tier, place)
),
paying_account as (
    select
        tier as tier,
        cast(floor(mrr * 100 + 0.5) as bigint) as start_cents,
        cast(floor(mrr_end * 100 + 0.5) as bigint) as end_cents
    from (
        select
            * replace (
                -- Who left pays nothing at the end, whether or not the table says so.
                case when retained_6mo = 0 then coalesce(mrr_end, 0) else mrr_end end as mrr_end
            )
        from scored
    ) as scored
    where won_back is null
        and retained_6mo is not null
        and mrr_end is not null
        and cast(floor(mrr * 100 + 0.5) as bigint) > 0
),
tier_sum as (
    select
        tier as tier,
        count(*) as accounts,
        sum(greatest(end_cents - start_cents, 0)) as gained_cents,
        sum(greatest(start_cents - end_cents, 0)) as lost_cents
    from paying_account
    group by tier
)
select
    tier_list.tier as tier,
    cast(tier_sum.gained_cents as double) / nullif(tier_sum.lost_cents, 0) as quick_ratio_by_tier,
    coalesce(tier_sum.accounts, 0) as accounts
from tier_list
left join tier_sum on tier_sum.tier = tier_list.tier
order by tier_list.place;
