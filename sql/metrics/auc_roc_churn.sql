-- purpose: Chance that a churned account ranks below a retained one by score, ties as one half.
-- parameters:
--   orientation (varchar): 'health' (when unset) or 'risk', where a high score is bad
-- columns:
--   auc_roc_churn (double): [0, 1], 0.5 = no better than chance; null when one class is missing
--   churned_accounts (bigint): current accounts that were churned, the positives
--   retained_accounts (bigint): current accounts that were retained, the negatives
-- grain: one row
-- order: the single row

-- The rank formula with average ranks for ties, in whole numbers: twice the rank sum is exact.
-- Positives are the churned accounts and the order is turned, so a low score ranks high.

with current_account as (
    select
        cast(floor(score * 100 + 0.5) as bigint)
            * case coalesce(getvariable('orientation'), 'health')
                when 'health' then 1
                when 'risk' then -1
                else error('orientation must be health or risk')
            end as standing,
        retained_6mo = 0 as is_positive
    from scored
    where won_back is null
        and retained_6mo is not null
),
score_sum as (
    select
        standing as standing,
        count(*) as accounts,
        count(*) filter (where is_positive) as positives
    from current_account
    group by standing
),
score_rank as (
    select
        accounts as accounts,
        positives as positives,
        2 * sum(accounts) over (order by standing desc) - accounts + 1 as doubled_rank
    from score_sum
),
table_sum as (
    select
        coalesce(sum(positives), 0) as positives,
        coalesce(sum(accounts), 0) - coalesce(sum(positives), 0) as negatives,
        sum(positives * doubled_rank) as doubled_rank_sum
    from score_rank
)
select
    cast(doubled_rank_sum - positives * (positives + 1) as double)
        / nullif(2 * positives * negatives, 0) as auc_roc_churn,
    cast(positives as bigint) as churned_accounts,
    cast(negatives as bigint) as retained_accounts
from table_sum
order by auc_roc_churn;
