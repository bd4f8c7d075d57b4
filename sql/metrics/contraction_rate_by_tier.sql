-- purpose: MRR that each tier's accounts shed while they stayed, as a share of its start MRR.
-- parameters:
--   tiers (varchar[]): names of the spec's tiers, best first
-- columns:
--   tier (varchar): tier name
--   contraction_rate_by_tier (double): share of start MRR; null when the tier has no start MRR
--   contracted_share_by_tier (double): share of the retained that shrank; null when none were
--   accounts (bigint): paying accounts in the tier
--   retained_accounts (bigint): those of them that were retained
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
        retained_6mo as retained_6mo,
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
        count(*) filter (where retained_6mo = 1) as retained_accounts,
        count(*) filter (where end_cents > 0 and end_cents < start_cents) as contracted_accounts,
        sum(start_cents) as start_cents,
        coalesce(sum(greatest(start_cents - end_cents, 0)) filter (where end_cents > 0), 0)
            as contraction_cents
    from paying_account
    group by tier
)
select
    tier_list.tier as tier,
    cast(tier_sum.contraction_cents as double) / tier_sum.start_cents as contraction_rate_by_tier,
    cast(tier_sum.contracted_accounts as double) / nullif(tier_sum.retained_accounts, 0)
        as contracted_share_by_tier,
    coalesce(tier_sum.accounts, 0) as accounts,
    coalesce(tier_sum.retained_accounts, 0) as retained_accounts
from tier_list
left join tier_sum on tier_sum.tier = tier_list.tier
order by tier_list.place;
