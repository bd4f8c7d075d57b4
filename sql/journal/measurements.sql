-- purpose: What became of the accounts that a live spec had scored, date by date.
-- parameters:
--   model (varchar): one model; all where not set
-- columns:
--   model (varchar): the spec's model
--   day (date): the day that the scores were of
--   outcome_end (date): last day of the outcomes; null where nobody says
--   score_id (varchar): hash of the spec that was live on the day
--   verdict (varchar): holds, worse, or unknown where it can't be judged
--   sentence (varchar): why
--   objective (varchar): the metric that decides
--   value (double): its value; null where it has none
--   low (double): lower end of its interval
--   high (double): upper end
--   gain (double): how much more than the spec before it; null where there was none
--   gain_low (double): lower end of its interval
--   gain_high (double): upper end
--   expect (varchar): what was expected, as it was written
--   promise_kept (boolean): whether it came so; null where it can't be checked, or by chance may
--   accounts (bigint): accounts with a score and outcomes
--   predicted (double): mean probability of leaving; null where the spec has none
--   observed (double): share that left; null as predicted
--   in_time (boolean): whether the scores were kept before the outcomes were over
--   measured_at (timestamp with time zone): when
--   event_id (varchar): the event that says so
-- grain: one row per date that was measured
-- order: model, day

select
    model,
    day,
    outcome_end,
    score_id,
    verdict,
    sentence,
    objective,
    value,
    low,
    high,
    gain,
    gain_low,
    gain_high,
    expect,
    promise_kept,
    accounts,
    predicted,
    observed,
    in_time,
    measured_at,
    event_id
from measurements
where getvariable('model') is null
    or model = getvariable('model')
order by model, day;
