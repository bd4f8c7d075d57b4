-- purpose: A run's tiers at the start and at the best: accounts, NRR, GRR, logo retention, ARPA.
-- parameters:
--   run (varchar): the run's id; the latest search where not set
-- columns:
--   stage (varchar): start or best
--   tier (varchar): tier name
--   accounts (bigint): accounts in the tier
--   share (double): share of all accounts
--   paying (bigint): paying accounts in the tier
--   nrr (double): net revenue retention; null without start MRR
--   grr (double): gross revenue retention; null without start MRR
--   logo_retention (double): retained / labelled accounts; null without a labelled account
--   arpa (double): start MRR a paying account; null without one
--   basis (varchar): observed or binary revenue retention; null without MRR
-- grain: one row per stage and tier
-- order: start before best, tiers from the highest scores down
-- reads: the runs named

with stage as (
    select 1 as place, 'start' as stage, * from chosen_baseline
    union all
    select 2 as place, 'best' as stage, * from chosen_best
),
tier as (
    select
        named.tier as tier,
        named.place as place
    from chosen_run
    cross join unnest(chosen_run.tiers) with ordinality as named (tier, place)
)
select
    stage.stage as stage,
    tier.tier as tier,
    stage.accounts_by_tier[tier.tier] as accounts,
    stage.share_by_tier[tier.tier] as share,
    stage.paying_by_tier[tier.tier] as paying,
    stage.nrr_by_tier[tier.tier] as nrr,
    stage.grr_by_tier[tier.tier] as grr,
    stage.logo_retention_by_tier[tier.tier] as logo_retention,
    stage.arpa_by_tier[tier.tier] as arpa,
    stage.basis as basis
from stage
cross join tier
order by stage.place, tier.place;
