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
--   verdict (varchar): of the last decision on that experiment; null where there is none
--   decided_at (timestamp with time zone): when that was
--   measured_on (date): the newest date on which its scores were held against what became of
--     accounts; null where there is none, as the three that follow
--   measurement (varchar): what that gave
--   held (varchar): holds, worse or unknown
--   promise_kept (boolean): whether what was expected came; null where it can't be checked
-- grain: one row per model
-- order: model

select
    live_specs.model as model,
    live_specs.since as since,
    live_specs.author as author,
    live_specs.note as note,
    live_specs.expect as expect,
    live_specs.kind as kind,
    live_specs.run_id || '/' || live_specs.experiment_id as experiment,
    live_specs.weights as weights,
    live_specs.spec_id as spec_id,
    live_specs.score_id as score_id,
    live_specs.recorded_at as recorded_at,
    live_specs.event_id as event_id,
    latest_decisions.verdict as verdict,
    latest_decisions."at" as decided_at,
    promises.measured_on as measured_on,
    promises.measurement as measurement,
    promises.held as held,
    promises.promise_kept as promise_kept
from live_specs
left join latest_decisions
    on latest_decisions.run_id = live_specs.run_id
    and latest_decisions.experiment_id = live_specs.experiment_id
left join promises on promises.promised_by = live_specs.event_id
where live_specs.until is null
order by live_specs.model;
