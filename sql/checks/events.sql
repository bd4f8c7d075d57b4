-- purpose: Events say what events of their kind say, and point to experiments that there are.
-- parameters: none
-- columns:
--   event_id (varchar): the event
--   kind (varchar): its kind
--   problem (varchar): what is wrong
-- grain: one row per event and problem; none in a sound journal
-- order: event_id, problem

with pointed_at as (
    select
        events.event_id as event_id,
        count(experiments.run_id) as experiments
    from events
    left join experiments
        on experiments.run_id = events.run_id
        and experiments.experiment_id = events.experiment_id
    group by events.event_id
),
taken_back as (
    select
        json_extract_string(details, '$.event') as event_id
    from events
    where kind = 'undo'
),
faulty as (
    select
        events.event_id as event_id,
        events.kind as kind,
        unnest(
            [
                if(
                    events.kind not in (
                        'promotion', 'record', 'import', 'undo', 'compaction', 'look', 'null',
                        'stability', 'decision', 'measurement', 'walk'
                    ),
                    'no such kind',
                    null
                ),
                if(
                    events.kind in ('promotion', 'record')
                        and (events.spec is null or events.since is null or events.model is null),
                    'what is live, or since when, is not said',
                    null
                ),
                if(
                    events.kind in ('look', 'null', 'stability', 'decision', 'measurement', 'walk')
                        and events.details is null,
                    'what was found is not said',
                    null
                ),
                if(events.since > events."at", 'live before it was so', null),
                if(
                    events.run_id is not null
                        and events.run_id not in (select run_id from runs)
                        and events.event_id not in (select event_id from taken_back),
                    'its run is not in this journal',
                    null
                ),
                if(
                    events.experiment_id is not null and pointed_at.experiments = 0,
                    'its experiment is not in this journal',
                    null
                )
            ]
        ) as problem
    from events
    join pointed_at on pointed_at.event_id = events.event_id
),
twice as (
    select
        event_id,
        any_value(kind) as kind,
        'its id stands twice' as problem
    from events
    group by event_id
    having count(*) > 1
)
select
    event_id,
    kind,
    problem
from faulty
where problem is not null
union all
select
    event_id,
    kind,
    problem
from twice
order by event_id, problem;
