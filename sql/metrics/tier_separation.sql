-- purpose: Mean LTV of the top quarter of accounts by score over that of the bottom quarter.
-- parameters:
--   orientation (varchar): 'health' (when unset) or 'risk', where a high score is bad
-- columns:
--   tier_separation (double): ratio > 0, 1 = no separation; null with fewer than 4 accounts
--   accounts (bigint): current accounts with LTV above zero
--   accounts_left_out (bigint): current accounts whose LTV is zero or unknown
-- grain: one row
-- order: the single row

-- A quarter is exactly n / 4 accounts: the tied group on its boundary counts with the share of it
-- that fits. Both quarters have the same size, so the ratio of means is the ratio of sums.

with current_account as (
    select
        cast(floor(score * 100 + 0.5) as bigint)
            * case coalesce(getvariable('orientation'), 'health')
                when 'health' then 1
                when 'risk' then -1
                else error('orientation must be health or risk')
            end as standing,
        coalesce(cast(floor(actual_ltv * 100 + 0.5) as bigint), 0) as ltv_cents
    from scored
    where won_back is null
),
score_sum as (
    select
        standing as standing,
        count(*) as accounts,
        sum(ltv_cents) as ltv_cents
    from current_account
    where ltv_cents > 0
    group by standing
),
score_place as (
    select
        accounts as accounts,
        ltv_cents as ltv_cents,
        sum(accounts) over (order by standing desc) - accounts as accounts_above,
        sum(accounts) over (order by standing asc) - accounts as accounts_below,
        sum(accounts) over () as all_accounts
    from score_sum
),
score_part as (
    select
        accounts as accounts,
        ltv_cents as ltv_cents,
        4 * (accounts_above + accounts) < all_accounts as is_inside_top,
        4 * (accounts_below + accounts) < all_accounts as is_inside_bottom,
        4 * (accounts_above + accounts) >= all_accounts
            and 4 * accounts_above < all_accounts as is_edge_of_top,
        4 * (accounts_below + accounts) >= all_accounts
            and 4 * accounts_below < all_accounts as is_edge_of_bottom,
        all_accounts - 4 * accounts_above as top_quarters,
        all_accounts - 4 * accounts_below as bottom_quarters
    from score_place
),
quarter_sum as (
    select
        coalesce(sum(accounts), 0) as accounts,
        coalesce(sum(ltv_cents) filter (where is_inside_top), 0) as top_cents,
        max(ltv_cents) filter (where is_edge_of_top) as top_tied_cents,
        max(accounts) filter (where is_edge_of_top) as top_tied_accounts,
        max(top_quarters) filter (where is_edge_of_top) as top_quarters,
        coalesce(sum(ltv_cents) filter (where is_inside_bottom), 0) as bottom_cents,
        max(ltv_cents) filter (where is_edge_of_bottom) as bottom_tied_cents,
        max(accounts) filter (where is_edge_of_bottom) as bottom_tied_accounts,
        max(bottom_quarters) filter (where is_edge_of_bottom) as bottom_quarters
    from score_part
),
table_sum as (
    select
        accounts as accounts,
        (4 * top_cents * top_tied_accounts + top_tied_cents * top_quarters)
            * bottom_tied_accounts as top_product,
        (4 * bottom_cents * bottom_tied_accounts + bottom_tied_cents * bottom_quarters)
            * top_tied_accounts as bottom_product
    from quarter_sum
),
left_out as (
    select count(*) as accounts
    from current_account
    where ltv_cents <= 0
)
select
    case when table_sum.accounts >= 4
        then cast(table_sum.top_product as double) / table_sum.bottom_product
    end as tier_separation,
    cast(table_sum.accounts as bigint) as accounts,
    left_out.accounts as accounts_left_out
from table_sum
cross join left_out
order by tier_separation;
