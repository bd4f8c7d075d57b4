-- purpose: Changes by people beside changes by the machine: how often they won, what they gained.
-- parameters: none
-- columns:
--   model (varchar): the spec's model, in the latest run
--   source (varchar): the account table, as the latest run named it
--   outcomes_fingerprint (varchar): ids, outcomes and split of the table
--   tiers_id (varchar): the tiers' edges
--   evaluator_version (bigint): version of the evaluator
--   objective (varchar): the metric that decided
--   proposed_by (varchar): human, machine or import
--   tried (bigint): experiments evaluated, baselines and results taken over left out
--   won (bigint): experiments kept
--   win_rate (double): won / tried
--   mean_gain (double): how much better the objective was after a win, mean over the wins
--   best_gain (double): the largest of these
-- grain: one row per table, tiers, evaluator, objective and who proposed
-- order: model, source, objective, tables apart, most tried first

select
    max_by(runs.model, runs.started_at) as model,
    max_by(runs.source, runs.started_at) as source,
    runs.outcomes_fingerprint as outcomes_fingerprint,
    runs.tiers_id as tiers_id,
    runs.evaluator_version as evaluator_version,
    runs.objective as objective,
    if(experiments.proposer in ('human', 'import'), experiments.proposer, 'machine')
        as proposed_by,
    count(*) as tried,
    count(*) filter (where experiments.outcome = 'win') as won,
    won / tried as win_rate,
    avg(if(runs.higher_is_better, 1, -1) * (experiments.value_after - experiments.value_before))
        filter (where experiments.outcome = 'win') as mean_gain,
    max(if(runs.higher_is_better, 1, -1) * (experiments.value_after - experiments.value_before))
        filter (where experiments.outcome = 'win') as best_gain
from experiments
join runs on runs.run_id = experiments.run_id
where experiments.outcome in ('win', 'lose', 'blocked')
group by all
order by model, source, objective, outcomes_fingerprint, tiers_id, evaluator_version, tried desc,
    proposed_by;
