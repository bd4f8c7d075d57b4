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
--   measured (bigint): dates on which its scores were held against what became of accounts
--   measured_on (date): the newest of them; null where there is none, as all that follows
--   objective (varchar): the metric that decides
--   value (double): its value on that date
--   low (double): lower end of its interval
--   high (double): upper end
--   verdict (varchar): holds, worse or unknown
--   promise_kept (boolean): whether what was expected came; null where it can't be checked
--   event_id (varchar): the event that says so
-- grain: one row per spec that went live
-- order: model, newest first

select
    live_specs.model as model,
    live_specs.since as since,
    live_specs.until as until,
    live_specs.author as author,
    live_specs.note as note,
    live_specs.expect as expect,
    live_specs.kind as kind,
    if(
        weights_before is null,
        null,
        concat_ws(
            '; ',
            nullif(worded_changes(changed_weights(weights_before, weights)), ''),
            'tiers from ' || nullif(worded_changes(changed_weights(tiers_before, tiers)), '')
        )
    ) as change,
    live_specs.run_id || '/' || live_specs.experiment_id as experiment,
    coalesce(latest_measurements.dates, 0) as measured,
    latest_measurements.day as measured_on,
    latest_measurements.objective as objective,
    latest_measurements.value as value,
    latest_measurements.low as low,
    latest_measurements.high as high,
    latest_measurements.verdict as verdict,
    latest_measurements.promise_kept as promise_kept,
    live_specs.event_id as event_id
from live_specs
left join latest_measurements
    on latest_measurements.model = live_specs.model
    and latest_measurements.score_id = live_specs.score_id
where getvariable('model') is null
    or live_specs.model = getvariable('model')
order by live_specs.model, position desc;
