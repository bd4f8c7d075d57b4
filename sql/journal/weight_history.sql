-- purpose: One weight over time: who changed it from what to what, why, and what that did.
-- parameters:
--   feature (varchar): name of the weight
--   model (varchar): one model; all where not set
-- columns:
--   at (timestamp with time zone): when a run began; since when a spec is live
--   kind (varchar): search, human, record, import or promotion
--   author (varchar): who
--   note (varchar): why
--   model (varchar): the spec's model
--   before (bigint): the weight before; null where it had none
--   after (bigint): the weight after; null where it has none any more
--   outcome (varchar): how a search ended; of the others win, lose, blocked, known or baseline
--   objective (varchar): the metric that decided; null where it was not measured
--   value_before (double): objective before all that changed with it; null where something else
--     was live than what it was measured against
--   value_after (double): objective after
--   reference (varchar): the experiment as RUN/EXP; the event where it was not measured
-- grain: one row per run or spec that went live and changed the weight; a run from start to best
-- order: at

select
    happened_at as "at",
    kind,
    author,
    note,
    model,
    weights_before[getvariable('feature')] as before,
    weights_after[getvariable('feature')] as after,
    outcome,
    objective,
    value_before,
    value_after,
    coalesce(run_id || '/' || experiment_id, event_id) as reference
from history
where weights_before[getvariable('feature')] is distinct from weights_after[getvariable('feature')]
    and (getvariable('model') is null or model = getvariable('model'))
order by happened_at, reference;
