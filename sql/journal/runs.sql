-- purpose: All runs, newest first: what was asked, how it ended, what was gained.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   started_at (timestamp with time zone): when it began
--   kind (varchar): search, human, record or import
--   model (varchar): the spec's model
--   objective (varchar): the metric that decided
--   state (varchar): how it ended
--   experiments (bigint): experiments really evaluated, the baseline aside
--   wins (bigint): experiments kept
--   baseline_value (double): objective of the starting weights
--   best_value (double): objective of the best weights
--   holdout_baseline_value (double): the same on the holdout; null without one
--   holdout_best_value (double): the same on the holdout; null without one
--   source (varchar): the account table
--   author (varchar): who asked for it
--   note (varchar): why
-- grain: one row per run
-- order: started_at, newest first

select
    run_id,
    started_at,
    kind,
    model,
    objective,
    state,
    experiments,
    wins,
    baseline_value,
    best_value,
    holdout_baseline_value,
    holdout_best_value,
    source,
    author,
    note
from runs
order by started_at desc, run_id desc;
