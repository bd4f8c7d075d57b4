-- purpose: Which weights are worth moving which way: how often a change won, and what it gained.
-- parameters:
--   run (varchar): one run; all where not set
-- columns:
--   objective (varchar): the metric that decided
--   feature (varchar): name of the weight
--   direction (varchar): up or down
--   tried (bigint): experiments that moved it this way, results taken over left out
--   won (bigint): those of them that were kept
--   win_rate (double): won / tried
--   mean_gain (double): how much better the objective was after a win, 0 or more whichever
--     direction is good, mean over the wins; null without one
--   mean_step (double): points that the weight moved by, mean over the wins; null without one
-- grain: one row per objective, feature and direction; an experiment that moves two weights counts
--     for both
-- order: objective, win_rate with the highest first, feature, direction

with tried_change as (
    select
        runs.objective as objective,
        changes.feature as feature,
        if(changes.after > changes.before, 'up', 'down') as direction,
        changes.outcome = 'win' as is_win,
        if(runs.higher_is_better, 1, -1) * (changes.value_after - changes.value_before) as gain,
        changes.after - changes.before as step
    from changes
    join runs on runs.run_id = changes.run_id
    where changes.outcome in ('win', 'lose', 'blocked')
        and changes.run_id = coalesce(getvariable('run'), changes.run_id)
)
select
    objective,
    feature,
    direction,
    count(*) as tried,
    count(*) filter (where is_win) as won,
    won / tried as win_rate,
    avg(gain) filter (where is_win) as mean_gain,
    avg(step) filter (where is_win) as mean_step
from tried_change
group by objective, feature, direction
order by objective, win_rate desc, feature, direction;
