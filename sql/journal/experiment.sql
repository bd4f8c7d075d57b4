-- purpose: One experiment in full: who, why, what it changed, its weights and metrics.
-- parameters:
--   run (varchar): the run's id; the latest search where not set
--   experiment (varchar): the experiment within it; the run's best where not set
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   number (bigint): its number
--   proposal (bigint): number of the proposal it came from
--   kind (varchar): the run's kind
--   model (varchar): the spec's model
--   source (varchar): the account table
--   at (timestamp with time zone): when it was evaluated
--   proposer (varchar): who proposed it
--   author (varchar): who asked for it, or for its run
--   note (varchar): why
--   parent (varchar): the incumbent that it changed; null for a baseline
--   changes (varchar): what it changed, such as nps: 5 -> 12
--   objective (varchar): the metric that decided
--   higher_is_better (boolean): false where less of it is better
--   value_before (double): objective of the incumbent
--   value_after (double): objective of this experiment
--   gain (double): value_after - value_before
--   outcome (varchar): baseline, win, lose, blocked or known
--   breaches (varchar[]): guardrails that it broke
--   repeats (varchar): the experiment of an earlier run with the same weights, as RUN/EXP
--   weights (map(varchar, bigint)): all weights
--   metrics (map(varchar, double)): all metrics, by tier as nrr_by_tier.A; null where they have no
--     value
--   basis (varchar): observed or binary revenue retention; null without MRR
--   null_reasons (map(varchar, varchar)): why a metric is null
--   spec_id (varchar): hash of the spec that its run started from
--   outcomes_fingerprint (varchar): ids, outcomes and split of the table
--   tiers_id (varchar): the tiers' edges
--   evaluator_version (bigint): version of the evaluator
--   duration_us (bigint): microseconds that it took
--   verdict (varchar): of the last decision on it; null where there is none
--   decided_at (timestamp with time zone): when that was
--   compared (varchar): what it decided on: what against what, on which accounts
--   reason (varchar): the first gate that failed there, else was unknown, else the gain
-- grain: one row, or none where there is no such experiment
-- order: none needed
-- reads: the runs named

-- Once, since whoever plans the query takes longer for each mention of a view than for its rows.
with chosen as materialized (
    select
        run_id,
        kind,
        model,
        source,
        author,
        note,
        higher_is_better,
        spec_id,
        outcomes_fingerprint,
        tiers_id,
        evaluator_version
    from chosen_run
),
asked as (
    select
        *
    from experiments
    where run_id = (select run_id from chosen)
        and experiment_id
            = coalesce(getvariable('experiment'), (select experiment_id from chosen_best))
),
measured as (
    select
        map_from_entries(list({'key': name, 'value': amount})) as metrics
    from measures
    where run_id = (select run_id from chosen)
        and number = (select number from asked)
)
select
    asked.run_id as run_id,
    asked.experiment_id as experiment_id,
    asked.number as number,
    asked.proposal as proposal,
    chosen.kind as kind,
    chosen.model as model,
    chosen.source as source,
    asked.evaluated_at as "at",
    asked.proposer as proposer,
    coalesce(asked.author, chosen.author) as author,
    coalesce(asked.note, chosen.note) as note,
    asked.parent as parent,
    worded_changes(asked.changes) as changes,
    asked.objective as objective,
    chosen.higher_is_better as higher_is_better,
    asked.value_before as value_before,
    asked.value_after as value_after,
    asked.value_after - asked.value_before as gain,
    asked.outcome as outcome,
    asked.breaches as breaches,
    asked.repeats as repeats,
    asked.weights as weights,
    measured.metrics as metrics,
    asked.basis as basis,
    asked.null_reasons as null_reasons,
    chosen.spec_id as spec_id,
    chosen.outcomes_fingerprint as outcomes_fingerprint,
    chosen.tiers_id as tiers_id,
    chosen.evaluator_version as evaluator_version,
    asked.duration_us as duration_us,
    latest_decisions.verdict as verdict,
    latest_decisions."at" as decided_at,
    latest_decisions.compared as compared,
    latest_decisions.reason as reason
from asked
cross join chosen
cross join measured
left join latest_decisions
    on latest_decisions.run_id = asked.run_id
    and latest_decisions.experiment_id = asked.experiment_id;
