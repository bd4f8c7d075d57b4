-- purpose: Every decision: the verdict on a run's best, why, by whom, and how much was looked at.
-- parameters:
--   run (varchar): one run; all where not set
-- columns:
--   at (timestamp with time zone): when it was decided
--   run_id (varchar): the run
--   experiment_id (varchar): its best, which was decided on
--   model (varchar): the spec's model
--   verdict (varchar): READY_FOR_REVIEW, UNVERIFIED or KEEP_INCUMBENT
--   reason (varchar): the first gate that failed, else that could not be measured, else the gain
--   failed (varchar[]): gates that failed
--   unknown (varchar[]): gates that could not be measured
--   segment_safety (varchar): what is known of the segments
--   compared (varchar): what was decided on: what against what, on which accounts
--   objective (varchar): the metric that decided; null where the journal lacks the run
--   gain (double): its change from start to best on the holdout; null where not on record
--   gain_low (double): lower end of its interval
--   gain_high (double): upper end of its interval
--   looks (bigint): comparisons on these accounts, this one included
--   level (double): level of the intervals that follows from them
--   author (varchar): who asked for it
--   note (varchar): why
--   source (varchar): the table with the accounts that were decided on
--   event_id (varchar): the event that says so
-- grain: one row per decision
-- order: at, newest first

select
    decisions."at" as "at",
    decisions.run_id as run_id,
    decisions.experiment_id as experiment_id,
    decisions.model as model,
    decisions.verdict as verdict,
    decisions.reason as reason,
    decisions.failed as failed,
    decisions.unknown as unknown,
    decisions.segment_safety as segment_safety,
    decisions.compared as compared,
    runs.objective as objective,
    decisions.gain as gain,
    decisions.gain_low as gain_low,
    decisions.gain_high as gain_high,
    decisions.looks as looks,
    decisions.level as level,
    decisions.author as author,
    decisions.note as note,
    decisions.source as source,
    decisions.event_id as event_id
from decisions
left join runs on runs.run_id = decisions.run_id
where getvariable('run') is null
    or decisions.run_id = getvariable('run')
order by decisions."at" desc, decisions.event_id desc;
