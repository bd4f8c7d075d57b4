-- purpose: Share of each tier's current accounts that were retained, by count.
-- parameters:
--   tiers (varchar[]): names of the spec's tiers, best first
-- columns:
--   tier (varchar): tier name
--   logo_retention_by_tier (double): share in [0, 1]; null when the tier has no current account
--   accounts (bigint): current accounts in the tier
-- grain: one row per tier
-- order: the tier's place in `tiers`

-- Current accounts have no value in won_back and a known retained_6mo. An account that stayed but
-- pays nothing at the end keeps its logo.

with tier_list as (
    select
        named.tier as tier,
        named.place as place
    from unnest(cast(getvariable('tiers') as varchar[])) with ordinality as named (tier, place)
),
current_account as (
    select
        tier as tier,
        retained_6mo as retained_6mo
    from scored
    where won_back is null
        and retained_6mo is not null
),
tier_sum as (
    select
        tier as tier,
        count(*) as accounts,
        count(*) filter (where retained_6mo = 1) as retained_accounts
    from current_account
    group by tier
)
select
    tier_list.tier as tier,
    cast(tier_sum.retained_accounts as double) / tier_sum.accounts as logo_retention_by_tier,
    coalesce(tier_sum.accounts, 0) as accounts
from tier_list
left join tier_sum on tier_sum.tier = tier_list.tier
order by tier_list.place;
