-- purpose: How concentrated start MRR is in few tiers (Herfindahl-Hirschman index).
-- parameters:
--   tiers (varchar[]): names of the spec's tiers, best first
-- columns:
--   revenue_concentration_hhi (double): 10000 = one tier has all; null without start MRR
--   hhi_normalised (double): 0 = even, 1 = one tier has all; null without start MRR or for one tier
--   accounts (bigint): paying accounts in all tiers
-- grain: one row
-- order: the single row

-- Paying accounts are current ones with start MRR above zero and a known end. Where the table has
-- no end MRR (basis `binary`), the author of `scored` supplies mrr_end as mrr * retained_6mo, which
-- only decides who counts here.
-- Squares of sums are HUGEINT: exact, and an overflow is an error, never a wrong number.

with tier_list as (
    select
        named.tier as tier,
        named.place as place
    from unnest(cast(getvariable('tiers') as varchar[])) with ordinality as named (tier, place)
),
paying_account as (
    select
        tier as tier,
        cast(floor(mrr * 100 + 0.5) as bigint) as start_cents
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
        tier_list.tier as tier,
        count(paying_account.start_cents) as accounts,
        coalesce(sum(paying_account.start_cents), 0) as start_cents
    from tier_list
    left join paying_account on paying_account.tier = tier_list.tier
    group by tier_list.tier
),
table_sum as (
    select
        count(*) as tiers,
        coalesce(sum(accounts), 0) as accounts,
        sum(start_cents) * sum(start_cents) as squared_sum,
        sum(start_cents * start_cents) as sum_of_squares
    from tier_sum
)
select
    10000 * cast(sum_of_squares as double) / nullif(squared_sum, 0) as revenue_concentration_hhi,
    cast(tiers * sum_of_squares - squared_sum as double) / nullif((tiers - 1) * squared_sum, 0)
        as hhi_normalised,
    cast(accounts as bigint) as accounts
from table_sum
order by revenue_concentration_hhi;
