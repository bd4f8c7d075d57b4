-- purpose: Share of each tier's new accounts that activated, and how long it took them.
-- parameters:
--   tiers (varchar[]): names of the spec's tiers, best first
-- columns:
--   tier (varchar): tier name
--   activation_rate_by_tier (double): share in [0, 1]; null when activation applies to no account
--   median_days_to_activate_by_tier (double): days; null when no activated account has them
--   accounts (bigint): accounts in the tier for which activation applies
-- grain: one row per tier
-- order: the tier's place in `tiers`

-- Activation applies where activated is known, whether the account is current, former or neither.

with tier_list as (
    select
        named.tier as tier,
        named.place as place
    from unnest(cast(getvariable('tiers') as varchar[])) with ordinality as named (tier, place)
),
new_account as (
    select
        tier as tier,
        activated as activated,
        days_to_activate as days_to_activate
    from scored
    where activated is not null
),
tier_sum as (
    select
        tier as tier,
        count(*) as accounts,
        count(*) filter (where activated = 1) as activated_accounts,
        median(days_to_activate) filter (where activated = 1) as median_days
    from new_account
    group by tier
)
select
    tier_list.tier as tier,
    cast(tier_sum.activated_accounts as double) / tier_sum.accounts as activation_rate_by_tier,
    tier_sum.median_days as median_days_to_activate_by_tier,
    coalesce(tier_sum.accounts, 0) as accounts
from tier_list
left join tier_sum on tier_sum.tier = tier_list.tier
order by tier_list.place;
