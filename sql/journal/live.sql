-- purpose: What is live, since when, by whom and why.
-- parameters: none
-- columns:
--   model (varchar): the spec's model
--   since (timestamp with time zone): since when it is live
--   author (varchar): by whom
--   note (varchar): why
--   expect (varchar): what should happen; null where nobody said
--   kind (varchar): promotion, or record for a change made elsewhere
--   experiment (varchar): where it came from or was measured, as RUN/EXP; null where it was not
--   weights (map(varchar, bigint)): its weights
--   spec_id (varchar): hash of the spec
--   score_id (varchar): hash of what decides a score or a tier
--   recorded_at (timestamp with time zone): when it was put on record
--   event_id (varchar): the event that says so
-- grain: one row per model
-- order: model

select
    model,
    since,
    author,
    note,
    expect,
    kind,
    run_id || '/' || experiment_id as experiment,
    weights,
    spec_id,
    score_id,
    recorded_at,
    event_id
from live_specs
where until is null
order by model;
