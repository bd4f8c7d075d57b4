-- purpose: What a run's end says agrees with its experiments.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   field (varchar): what disagrees
--   stated (varchar): what the end says
--   found (varchar): what the experiments say
-- grain: one row per run and field that disagree; none in a sound journal
-- order: run_id, field

with total as (
    select
        run_id,
        count(*) filter (where outcome not in ('baseline', 'known')) as experiments,
        count(*) filter (where outcome = 'win') as wins,
        max(proposal) as proposals,
        max(value_after) filter (where number = 0) as baseline_value,
        max_by({'amount': value_after}, number) filter (where outcome in ('baseline', 'win')).amount
            as best_value,
        max_by(experiment_id, number) filter (where outcome in ('baseline', 'win'))
            as best_experiment
    from experiments
    group by run_id
),
compared as (
    select
        runs.run_id as run_id,
        unnest(
            [
                {
                    'field': 'experiments',
                    'stated': cast(runs.experiments as varchar),
                    'found': cast(coalesce(total.experiments, 0) as varchar)
                },
                {
                    'field': 'wins',
                    'stated': cast(runs.wins as varchar),
                    'found': cast(coalesce(total.wins, 0) as varchar)
                },
                {
                    -- Repeated proposals at the end of a run have no experiment.
                    'field': 'proposals',
                    'stated': cast(runs.proposals as varchar),
                    'found': cast(greatest(runs.proposals, total.proposals) as varchar)
                },
                {
                    'field': 'baseline_value',
                    'stated': cast(runs.baseline_value as varchar),
                    'found': cast(total.baseline_value as varchar)
                },
                {
                    'field': 'best_value',
                    'stated': cast(runs.best_value as varchar),
                    'found': cast(total.best_value as varchar)
                },
                {
                    'field': 'best_experiment',
                    'stated': runs.best_experiment,
                    'found': total.best_experiment
                }
            ],
            recursive := true
        )
    from runs
    left join total on total.run_id = runs.run_id
    where runs.ended_at is not null
)
select
    run_id,
    field,
    stated,
    found
from compared
where stated is distinct from found
order by run_id, field;
