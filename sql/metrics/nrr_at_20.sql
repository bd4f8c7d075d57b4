-- purpose: Net revenue retention of the top fifth of paying accounts by score.
-- parameters:
--   orientation (varchar): 'health' (when unset) or 'risk', where a high score is bad
-- columns:
--   nrr_at_20 (double): ratio, 1 = flat; null without a paying account
--   accounts (bigint): paying accounts, of which the top fifth is taken
-- grain: one row
-- order: the single row

-- Paying accounts are current ones with start MRR above zero and a known end. Where the table has
-- no end MRR (basis `binary`), the author of `scored` supplies mrr_end as mrr * retained_6mo.
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
score_sum as (
    select
        standing as standing,
        count(*) as accounts,
        sum(start_cents) as start_cents,
        sum(end_cents) as end_cents
    from paying_account
    group by standing
),
score_place as (
    select
        accounts as accounts,
        start_cents as start_cents,
        end_cents as end_cents,
        sum(accounts) over (order by standing desc) as accounts_through,
        sum(accounts) over () as all_accounts
    from score_sum
),
score_part as (
    select
        accounts as accounts,
        start_cents as start_cents,
        end_cents as end_cents,
        5 * accounts_through < all_accounts as is_above,
        5 * accounts_through >= all_accounts
            and 5 * (accounts_through - accounts) < all_accounts as is_boundary,
        all_accounts - 5 * (accounts_through - accounts) as fitting_fifths
    from score_place
),
top_sum as (
    select
        coalesce(sum(accounts), 0) as accounts,
        coalesce(sum(start_cents) filter (where is_above), 0) as above_start_cents,
        coalesce(sum(end_cents) filter (where is_above), 0) as above_end_cents,
        max(start_cents) filter (where is_boundary) as tied_start_cents,
        max(end_cents) filter (where is_boundary) as tied_end_cents,
        max(accounts) filter (where is_boundary) as tied_accounts,
        max(fitting_fifths) filter (where is_boundary) as fitting_fifths
    from score_part
)
select
    cast(5 * above_end_cents * tied_accounts + tied_end_cents * fitting_fifths as double)
        / (5 * above_start_cents * tied_accounts + tied_start_cents * fitting_fifths)
        as nrr_at_20,
    cast(accounts as bigint) as accounts
from top_sum
order by nrr_at_20;
