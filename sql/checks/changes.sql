-- purpose: An experiment's weights are its parent's with its changes made, and nothing else.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   changes (varchar): what it says that it changed
--   expected (varchar): what differs from its parent
-- grain: one row per experiment with other weights; none in a sound journal
-- order: run_id, experiment_id

with incumbent as (
    select
        run_id,
        experiment_id,
        weights
    from experiments
    where outcome in ('baseline', 'win')
),
paired as (
    select
        experiments.run_id as run_id,
        experiments.experiment_id as experiment_id,
        experiments.number as number,
        list_sort(map_entries(experiments.changes)) as stated,
        list_sort(
            map_entries(
                changed_weights(
                    coalesce(incumbent.weights, experiments.weights),
                    experiments.weights
                )
            )
        ) as found
    from experiments
    left join incumbent
        on incumbent.run_id = experiments.run_id
        and incumbent.experiment_id = experiments.parent
)
select
    run_id,
    experiment_id,
    worded_changes(map_from_entries(stated)) as changes,
    worded_changes(map_from_entries(found)) as expected
from paired
where stated is distinct from found
order by run_id, number;
