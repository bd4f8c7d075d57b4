-- purpose: Every look at a holdout: the more of them, the less it is unseen.
-- parameters: none
-- columns:
--   at (timestamp with time zone): when somebody looked: when a run ended, or a decision was made
--   run_id (varchar): the run
--   kind (varchar): search, human or record, of a run that looked as it ended; look, of a decision
--   author (varchar): who asked for it
--   model (varchar): the spec's model
--   source (varchar): the account table with the holdout
--   objective (varchar): the metric that decided
--   baseline_value (double): objective of the start on the holdout
--   best_value (double): objective of the best on the holdout
--   held (boolean): whether the best was better there too; null where it has no value
--   outcomes_fingerprint (varchar): ids, outcomes and split of the table
--   comparison (varchar): what was compared with its start, as RUN/EXP
--   look (bigint): comparisons on this holdout so far, this one included; the same again is none
-- grain: one row per run that ended and had a holdout, and per decision
-- order: at

with looks as (
    select
        ended_at as "at",
        run_id,
        kind,
        author,
        model,
        coalesce(parameters['holdout_source'], source) as source,
        objective,
        holdout_baseline_value as baseline_value,
        holdout_best_value as best_value,
        higher_is_better,
        coalesce(
            parameters['holdout_outcomes_fingerprint'], outcomes_fingerprint
        ) as outcomes_fingerprint,
        run_id || '/' || best_experiment as comparison
    from runs
    where holdout_baseline_metrics is not null
    union all
    select
        "at",
        run_id,
        kind,
        author,
        model,
        source,
        details ->> '$.objective' as objective,
        cast(details ->> '$.baseline_value' as double) as baseline_value,
        cast(details ->> '$.best_value' as double) as best_value,
        cast(details ->> '$.higher_is_better' as boolean) as higher_is_better,
        details ->> '$.outcomes_fingerprint' as outcomes_fingerprint,
        details ->> '$.comparison' as comparison
    from events
    where kind = 'look'
),
-- A person's change that was put on record after a look at it: the look names the changed spec.
recorded as (
    select
        parameters['changed_spec_id'] as spec_id,
        coalesce(
            parameters['holdout_outcomes_fingerprint'], outcomes_fingerprint
        ) as outcomes_fingerprint,
        min_by(run_id || '/' || best_experiment, started_at) as comparison
    from runs
    where holdout_baseline_metrics is not null
        and parameters['changed_spec_id'] is not null
    group by all
),
named as (
    select
        looks.* replace (coalesce(recorded.comparison, looks.comparison) as comparison)
    from looks
    left join recorded
        on recorded.spec_id = looks.comparison
        and recorded.outcomes_fingerprint = looks.outcomes_fingerprint
),
marked as (
    select
        *,
        row_number() over (
            partition by outcomes_fingerprint, comparison order by "at", run_id, kind
        ) = 1 as first_time
    from named
)
select
    "at",
    run_id,
    kind,
    author,
    model,
    source,
    objective,
    baseline_value,
    best_value,
    if(higher_is_better, 1, -1) * (best_value - baseline_value) > 1e-12 as held,
    outcomes_fingerprint,
    comparison,
    cast(
        count(*) filter (first_time) over (
            partition by outcomes_fingerprint
            order by "at", run_id, kind
            rows between unbounded preceding and current row
        ) as bigint
    ) as look
from marked
order by "at", run_id, kind;
