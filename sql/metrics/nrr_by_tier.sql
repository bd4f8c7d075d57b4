-- purpose: Net revenue retention of each tier.
-- parameters:
--   tiers (varchar[]): names of the spec's tiers, best first
-- columns:
--   tier (varchar): tier name
--   nrr_by_tier (double): ratio, 1 = flat; null when the tier has no start MRR
--   accounts (bigint): paying accounts in the tier
-- grain: one row per tier
-- order: the tier's place in `tiers`

-- Paying accounts are current ones with start MRR above zero and a known end. Where the table has
-- no end MRR (basis `binary`), the author of `scored` supplies mrr_end as mrr * retained_6mo.

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
        sum(start_cents) as start_cents,
        sum(end_cents) as end_cents
    from paying_account
    group by tier
)
select
    tier_list.tier as tier,
    cast(tier_sum.end_cents as double) / tier_sum.start_cents as nrr_by_tier,
    coalesce(tier_sum.accounts, 0) as accounts
from tier_list
left join tier_sum on tier_sum.tier = tier_list.tier
order by tier_list.place;
