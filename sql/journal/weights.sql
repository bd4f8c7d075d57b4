-- purpose: A run's best weights beside the ones it started from.
-- parameters:
--   run (varchar): the run's id; the latest search where not set
-- columns:
--   feature (varchar): name of the weight
--   start (bigint): weight at the start
--   best (bigint): weight in the best experiment
--   change (bigint): best - start
-- grain: one row per weight
-- order: best, largest first, then by name
-- reads: the runs named

select
    entry.key as feature,
    chosen_baseline.weights[entry.key] as start,
    entry.value as best,
    entry.value - chosen_baseline.weights[entry.key] as change
from chosen_best
cross join unnest(map_entries(chosen_best.weights)) as unnested (entry)
cross join chosen_baseline
order by best desc, feature;
