-- purpose: Who changed what, when and why, and what it did: runs and specs that went live.
-- parameters: none
-- columns:
--   at (timestamp with time zone): when a run began; since when a spec is live
--   kind (varchar): search, human, record, import or promotion
--   author (varchar): who
--   note (varchar): why
--   model (varchar): the spec's model
--   change (varchar): weights from and to, such as nps: 5 -> 12: of a run from its start to its
--     best, of a person's change that change, of a spec that went live from the one live before;
--     with the tiers' lower edges where they differ
--   largest (varchar): the same with its three largest changes alone, and how many more
--   objective (varchar): the metric that decided; null where it was not measured
--   value_before (double): objective before; null where there is nothing before, or something else
--     was live than what it was measured against
--   value_after (double): objective after
--   outcome (varchar): how a search ended; of the others win, lose, blocked, known or baseline;
--     of what isn't live yet, that it is dated after this clock
--   reference (varchar): the experiment as RUN/EXP; the event where it was not measured
--   verdict (varchar): of the last decision on that experiment; null where there is none
--   decided_at (timestamp with time zone): when that was
--   compared (varchar): what it decided on: what against what, on which accounts
--   expect (varchar): of a spec that went live, what should happen; null where nobody said
--   measured_on (date): the newest date on which its scores were held against what became of
--     accounts; null where there is none, as the two that follow
--   measurement (varchar): what that gave
--   promise_kept (boolean): whether what was expected came; null where it can't be checked
-- grain: one row per run or spec that went live; a change made elsewhere is one, measured or not
-- order: at, newest first

with scores as (
    select
        event_id,
        score_id <> score_id_before as another
    from live_specs
)
select
    history.happened_at as "at",
    history.kind as kind,
    history.author as author,
    history.note as note,
    history.model as model,
    case
        when weights_after is null then null
        when weights_before is null then 'first on record'
        when weights_before = weights_after and tiers_before is distinct from tiers_after
            then 'the same weights, tiers from ' || worded_changes(
                changed_weights(tiers_before, tiers_after)
            )
        when weights_before = weights_after
            then case
                when history.event_id is null then 'nothing kept'
                when scores.another
                    then 'the same weights, but another spec'
                else 'the same weights'
            end
        else worded_changes(changed_weights(weights_before, weights_after))
            || case
                when tiers_before is distinct from tiers_after
                    and tiers_before is not null
                    then '; tiers from '
                        || worded_changes(changed_weights(tiers_before, tiers_after))
                else ''
            end
    end as change,
    if(
        weights_before is not null and weights_before <> weights_after,
        replace(
            change,
            worded_changes(changed_weights(weights_before, weights_after)),
            largest_changes(changed_weights(weights_before, weights_after))
        ),
        change
    ) as largest,
    objective,
    value_before,
    value_after,
    outcome,
    coalesce(
        history.run_id || '/' || history.experiment_id, history.event_id, history.run_id
    ) as reference,
    latest_decisions.verdict as verdict,
    latest_decisions."at" as decided_at,
    latest_decisions.compared as compared,
    promises.expect as expect,
    promises.measured_on as measured_on,
    promises.measurement as measurement,
    promises.promise_kept as promise_kept
from history
left join latest_decisions
    on latest_decisions.run_id = history.run_id
    and latest_decisions.experiment_id = history.experiment_id
left join promises on promises.promised_by = history.event_id
left join scores on scores.event_id = history.event_id
order by happened_at desc, position desc nulls last, reference desc;
