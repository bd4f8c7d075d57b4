-- purpose: Share of each tier's former accounts that came back.
-- parameters:
--   tiers (varchar[]): names of the spec's tiers, best first
-- columns:
--   tier (varchar): tier name
--   winback_rate_by_former_tier (double): share in [0, 1]; null when the tier has no former account
--   accounts (bigint): former accounts in the tier
-- grain: one row per tier
-- order: the tier's place in `tiers`

-- Former accounts churned before the window and have a value in won_back. Their score is that of
-- their last active day, so their tier is the former tier.

with tier_list as (
    select
        named.tier as tier,
        named.place as place
    from unnest(cast(getvariable('tiers') as varchar[])) with ordinality as named (tier, place)
),
former_account as (
    select
        tier as tier,
        won_back as won_back
    from scored
    where won_back is not null
),
tier_sum as (
    select
        tier as tier,
        count(*) as accounts,
        count(*) filter (where won_back = 1) as won_back_accounts
    from former_account
    group by tier
)
select
    tier_list.tier as tier,
    cast(tier_sum.won_back_accounts as double) / tier_sum.accounts as winback_rate_by_former_tier,
    coalesce(tier_sum.accounts, 0) as accounts
from tier_list
left join tier_sum on tier_sum.tier = tier_list.tier
order by tier_list.place;
