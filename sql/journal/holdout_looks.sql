-- purpose: Every look at a holdout: the more of them, the less it is unseen.
-- parameters: none
-- columns:
--   at (timestamp with time zone): when the run ended, and looked
--   run_id (varchar): the run
--   kind (varchar): search, human or record
--   author (varchar): who asked for it
--   model (varchar): the spec's model
--   source (varchar): the account table
--   objective (varchar): the metric that decided
--   baseline_value (double): objective of the start on the holdout
--   best_value (double): objective of the best on the holdout
--   held (boolean): whether the best was better there too; null where it has no value
--   outcomes_fingerprint (varchar): ids, outcomes and split of the table
--   look (bigint): looks at this holdout so far, this one included
-- grain: one row per run that ended and had a holdout
-- order: at

select
    ended_at as "at",
    run_id,
    kind,
    author,
    model,
    source,
    objective,
    holdout_baseline_value as baseline_value,
    holdout_best_value as best_value,
    if(higher_is_better, 1, -1) * (holdout_best_value - holdout_baseline_value) > 1e-12 as held,
    outcomes_fingerprint,
    row_number() over (partition by outcomes_fingerprint order by ended_at, run_id) as look
from runs
where holdout_baseline_metrics is not null
order by ended_at, run_id;
