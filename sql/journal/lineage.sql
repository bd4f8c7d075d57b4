-- purpose: How an experiment came about: the chain of what was kept, back to the first spec.
-- parameters:
--   run (varchar): the run's id
--   experiment (varchar): the experiment within it
-- columns:
--   depth (integer): steps back, 0 for the experiment asked for
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   kind (varchar): the run's kind; null where this journal doesn't have the experiment
--   proposer (varchar): who proposed it
--   author (varchar): who asked for it, or for its run
--   note (varchar): why
--   changes (varchar): what it changed, such as nps: 5 -> 12; of a baseline what differs from the
--     experiment that its run started from
--   objective (varchar): the metric that decided
--   value_before (double): objective before
--   value_after (double): objective after
--   outcome (varchar): what became of it
--   at (timestamp with time zone): when it was evaluated
--   verdict (varchar): of the last decision on it; null where there is none
--   decided_at (timestamp with time zone): when that was
--   compared (varchar): what it decided on: what against what, on which accounts
-- grain: one row per step; an experiment that this journal doesn't have is the last
-- order: depth

with recursive run_link as materialized (
    select
        run_id,
        parent_run,
        parent_experiment,
        kind,
        author,
        note
    from runs
),
run_chain as (
    select
        cast(getvariable('run') as varchar) as run_id,
        cast(getvariable('experiment') as varchar) as experiment_id,
        [cast(getvariable('run') as varchar)] as passed
    union all
    select
        run_link.parent_run as run_id,
        run_link.parent_experiment as experiment_id,
        list_append(run_chain.passed, run_link.parent_run) as passed
    from run_chain
    join run_link on run_link.run_id = run_chain.run_id
    where run_link.parent_run is not null
        and not list_contains(run_chain.passed, run_link.parent_run)
),
-- By way of a list, since DuckDB then passes over the files of other runs.
chain_run as (
    select
        unnest(list({'run_id': run_id, 'experiment_id': experiment_id}), recursive := true)
    from run_chain
),
step as materialized (
    select
        experiments.run_id as run_id,
        experiments.experiment_id as experiment_id,
        experiments.parent as parent,
        experiments.proposer as proposer,
        experiments.author as author,
        experiments.note as note,
        experiments.changes as changes,
        experiments.weights as weights,
        experiments.objective as objective,
        experiments.value_before as value_before,
        experiments.value_after as value_after,
        experiments.outcome as outcome,
        experiments.evaluated_at as evaluated_at
    from experiments
    join chain_run on chain_run.run_id = experiments.run_id
    where experiments.outcome in ('baseline', 'win')
        or experiments.experiment_id = chain_run.experiment_id
),
chain as (
    select
        0 as depth,
        cast(getvariable('run') as varchar) as run_id,
        cast(getvariable('experiment') as varchar) as experiment_id,
        [cast(getvariable('run') || '/' || getvariable('experiment') as varchar)] as passed
    union all
    select
        depth + 1 as depth,
        before_run as run_id,
        before_experiment as experiment_id,
        list_append(passed, before_run || '/' || before_experiment) as passed
    from (
        select
            chain.depth as depth,
            chain.passed as passed,
            if(step.parent is null, run_link.parent_run, step.run_id) as before_run,
            coalesce(step.parent, run_link.parent_experiment) as before_experiment
        from chain
        join step on step.run_id = chain.run_id and step.experiment_id = chain.experiment_id
        join run_link on run_link.run_id = chain.run_id
    )
    where before_run is not null
        and not list_contains(passed, before_run || '/' || before_experiment)
),
told as (
    select
        chain.depth as depth,
        chain.run_id as run_id,
        chain.experiment_id as experiment_id,
        if(step.run_id is null, null, run_link.kind) as kind,
        if(step.run_id is null, null, coalesce(step.author, run_link.author)) as author,
        if(step.run_id is null, null, coalesce(step.note, run_link.note)) as note,
        step.* exclude (run_id, experiment_id, author, note),
        latest_decisions.verdict as verdict,
        latest_decisions."at" as decided_at,
        latest_decisions.compared as compared
    from chain
    left join step on step.run_id = chain.run_id and step.experiment_id = chain.experiment_id
    left join run_link on run_link.run_id = chain.run_id
    left join latest_decisions
        on latest_decisions.run_id = chain.run_id
        and latest_decisions.experiment_id = chain.experiment_id
)
select
    depth,
    run_id,
    experiment_id,
    kind,
    proposer,
    author,
    note,
    worded_changes(
        case
            when outcome <> 'baseline' then changes
            when lead(weights) over steps_back is not null
                then changed_weights(lead(weights) over steps_back, weights)
        end
    ) as changes,
    objective,
    value_before,
    value_after,
    outcome,
    evaluated_at as "at",
    verdict,
    decided_at,
    compared
from told
window steps_back as (order by depth)
order by depth;
