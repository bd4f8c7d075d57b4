-- purpose: Share of start MRR that the top fifth of paying accounts by score holds.
-- parameters:
--   orientation (varchar): 'health' (when unset) or 'risk', where a high score is bad
-- columns:
--   revenue_capture_at_20 (double): share in [0, 1]; null without a paying account
--   revenue_capture_ceiling (double): the share if the largest came first; null like the capture
--   revenue_capture_random (double): the expected share of a random order, 0.2
--   revenue_capture_lift (double): capture / 0.2, 1 = no better than random; null like the capture
--   accounts (bigint): paying accounts
-- grain: one row
-- order: the single row

-- Paying accounts are current ones with start MRR above zero and a known end. Where the table has
-- no end MRR (basis `binary`), the author of `scored` supplies mrr_end as mrr * retained_6mo, which
-- only decides who counts here.
-- The top fifth is exactly n / 5 accounts: the tied group on its boundary counts with the share of
-- it that fits, which is the mean over all orders of the tied accounts.

with paying_account as (
    select
        cast(floor(score * 100 + 0.5) as bigint)
            * case coalesce(getvariable('orientation'), 'health')
                when 'health' then 1
                when 'risk' then -1
                else error('orientation must be health or risk')
            end as standing,
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
score_sum as (
    select
        standing as standing,
        count(*) as accounts,
        sum(start_cents) as start_cents
    from paying_account
    group by standing
),
score_place as (
    select
        accounts as accounts,
        start_cents as start_cents,
        sum(accounts) over (order by standing desc) as accounts_through,
        sum(accounts) over () as all_accounts
    from score_sum
),
score_part as (
    select
        accounts as accounts,
        start_cents as start_cents,
        5 * accounts_through < all_accounts as is_above,
        5 * accounts_through >= all_accounts
            and 5 * (accounts_through - accounts) < all_accounts as is_boundary,
        all_accounts - 5 * (accounts_through - accounts) as fitting_fifths
    from score_place
),
top_sum as (
    select
        coalesce(sum(start_cents) filter (where is_above), 0) as above_cents,
        max(start_cents) filter (where is_boundary) as tied_cents,
        max(accounts) filter (where is_boundary) as tied_accounts,
        max(fitting_fifths) filter (where is_boundary) as fitting_fifths
    from score_part
),
account_by_size as (
    select
        start_cents as start_cents,
        row_number() over (order by start_cents desc) as place,
        count(*) over () as all_accounts
    from paying_account
),
size_sum as (
    select
        count(*) as accounts,
        sum(start_cents) as start_cents,
        sum(start_cents * least(5, greatest(0, all_accounts - 5 * (place - 1)))) as largest_fifths
    from account_by_size
),
table_sum as (
    select
        size_sum.accounts as accounts,
        5 * top_sum.above_cents * top_sum.tied_accounts
            + top_sum.tied_cents * top_sum.fitting_fifths as captured,
        size_sum.largest_fifths as largest_fifths,
        size_sum.start_cents as start_cents,
        top_sum.tied_accounts * size_sum.start_cents as tied_start
    from top_sum
    cross join size_sum
)
select
    cast(captured as double) / (5 * tied_start) as revenue_capture_at_20,
    cast(largest_fifths as double) / (5 * start_cents) as revenue_capture_ceiling,
    cast(0.2 as double) as revenue_capture_random,
    cast(captured as double) / tied_start as revenue_capture_lift,
    accounts as accounts
from table_sum
order by revenue_capture_at_20;
