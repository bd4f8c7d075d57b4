-- purpose: What has been live, from when to when, by whom and why.
-- parameters:
--   model (varchar): one model; all where not set
-- columns:
--   model (varchar): the spec's model
--   since (timestamp with time zone): since when it was live
--   until (timestamp with time zone): until when; null where it still is
--   author (varchar): by whom
--   note (varchar): why
--   expect (varchar): what should happen; null where nobody said
--   kind (varchar): promotion, or record for a change made elsewhere
--   change (varchar): weights that differ from what was live before, such as nps: 5 -> 12; null
--     for the first, empty where the same went live again; then the tiers' lower edges that differ
--   experiment (varchar): where it came from or was measured, as RUN/EXP; null where it was not
--   event_id (varchar): the event that says so
-- grain: one row per spec that went live
-- order: model, newest first

select
    model,
    since,
    until,
    author,
    note,
    expect,
    kind,
    if(
        weights_before is null,
        null,
        concat_ws(
            '; ',
            nullif(worded_changes(changed_weights(weights_before, weights)), ''),
            'tiers from ' || nullif(worded_changes(changed_weights(tiers_before, tiers)), '')
        )
    ) as change,
    run_id || '/' || experiment_id as experiment,
    event_id
from live_specs
where getvariable('model') is null
    or model = getvariable('model')
order by model, position desc;
