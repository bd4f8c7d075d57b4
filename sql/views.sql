-- The journal's views. Set-up in the plain DuckDB shell, two lines:
--   set variable journal = 'journal';
--   .read sql/views.sql
-- Read it again after the journal's first event, or once another version of gtmar has written to it.
-- gtmar itself hands over the rows of the first three views, from files whose hashes it has seen to;
-- a shell reads whatever ends in .parquet.

-- Files of one format have the same columns. Only where formats mix must each be looked at first.
set variable formats_mix = (
    select
        count(distinct value) > 1
    from parquet_kv_metadata(
        [
            getvariable('journal') || '/runs/*/*.parquet',
            getvariable('journal') || '/experiments/*/*.parquet'
        ]
    )
    where key = 'gtmar_format'
);

-- A journal need not have events, and a pattern without a file is an error.
set variable event_source = case
    when (select count(*) from glob(getvariable('journal') || '/events/*.parquet')) > 0
        then 'from read_parquet(getvariable(''journal'') || ''/events/*.parquet'', '
            || 'hive_partitioning = false, union_by_name = true)'
    else 'select
        null::varchar as event_id,
        null::varchar as kind,
        null::timestamptz as "at",
        null::varchar as author,
        null::varchar as note,
        null::varchar as expect,
        null::timestamptz as since,
        null::varchar as model,
        null::varchar as spec_id,
        null::varchar as score_id,
        null::varchar as spec,
        null::varchar as run_id,
        null::varchar as experiment_id,
        null::varchar as source,
        null::varchar as details
    where false'
end;

create or replace view run_records as
select
    *
from read_parquet(
    getvariable('journal') || '/runs/*/*.parquet',
    hive_partitioning = true,
    hive_types = {'run_id': varchar},
    union_by_name = coalesce(getvariable('formats_mix'), true)
);

-- One row per experiment, baseline first.
create or replace view experiments as
select
    *
from read_parquet(
    getvariable('journal') || '/experiments/*/*.parquet',
    hive_partitioning = true,
    hive_types = {'run_id': varchar},
    union_by_name = coalesce(getvariable('formats_mix'), true)
);

-- One row per event: what came later than a run, or from a person.
create or replace view events as
from query(getvariable('event_source'));

-- What follows reads those three and no file.

-- What differs between two maps of weights, as a map like the column changes.
create or replace macro changed_weights(before, after) as
    map_from_entries(
        list_filter(
            list_transform(
                list_concat(
                    map_keys(after),
                    list_filter(map_keys(before), lambda name: not list_contains(map_keys(after), name))
                ),
                lambda name: {
                    'key': name,
                    'value': {'before': before[name], 'after': after[name]}
                }
            ),
            lambda entry: entry.value.before is distinct from entry.value.after
        )
    );

-- Changes as text, such as nps: 5 -> 12, logins: 3 -> none; whole numbers without a fraction.
create or replace macro worded_changes(changes) as
    array_to_string(
        list_transform(
            map_entries(changes),
            lambda entry: entry.key
                || ': '
                || coalesce(regexp_replace(cast(entry.value.before as varchar), '\.0$', ''), 'none')
                || ' -> '
                || coalesce(regexp_replace(cast(entry.value.after as varchar), '\.0$', ''), 'none')
        ),
        ', '
    );

-- The three largest changes, as entries of a map.
create or replace macro largest_entries(changes) as
    list_transform(
        list_sort(
            list_transform(
                map_entries(changes),
                lambda entry: {
                    'size': -abs(coalesce(entry.value.after, 0) - coalesce(entry.value.before, 0)),
                    'key': entry.key,
                    'value': entry.value
                }
            )
        )[1:3],
        lambda entry: {'key': entry.key, 'value': entry.value}
    );

-- The three largest changes as text, and how many more there are.
create or replace macro largest_changes(changes) as
    worded_changes(map_from_entries(largest_entries(changes)))
    || if(cardinality(changes) > 3, ' and ' || (cardinality(changes) - 3) || ' more', '');

-- The weights in a spec's JSON text, by name; each bin of a binned feature has one.
create or replace macro spec_weights(spec) as
    map_from_entries(
        flatten(
            list_transform(
                map_entries(cast(json_extract(spec, '$.features') as map(varchar, json))),
                lambda feature: case
                    when json_extract(feature.value, '$.encode.bins') is null
                        then [
                            {
                                'key': feature.key,
                                'value': cast(json_extract(feature.value, '$.weight') as bigint)
                            }
                        ]
                    else list_transform(
                        map_entries(
                            cast(
                                json_extract(feature.value, '$.encode.bins') as map(varchar, json)
                            )
                        ),
                        lambda bin: {
                            'key': feature.key || if(
                                regexp_matches(bin.key, '^[\[(].*,'), bin.key, '[' || bin.key || ']'
                            ),
                            'value': cast(json_extract(bin.value, '$.weight') as bigint)
                        }
                    )
                end
            )
        )
    );

-- The lower edges of the tiers in a spec's JSON text, by name; null where a rule has not set them.
create or replace macro spec_tiers(spec) as
    map_from_entries(
        list_transform(
            map_entries(cast(json_extract(spec, '$.tiers') as map(varchar, json))),
            lambda tier: {
                'key': tier.key,
                'value': cast(json_extract(tier.value, '$.min') as double)
            }
        )
    );

-- 1 where more of a metric is better, -1 where less is, 0 where neither is.
create or replace macro better_direction(metric) as
    case
        when regexp_matches(metric, '^(contraction_rate|contracted_share|median_days)') then -1
        when regexp_matches(
            metric,
            '^(revenue_capture_ceiling|revenue_concentration|hhi|scored|score_|share_|ltv_accounts'
                || '|accounts_|labelled_|paying_|former_|activation_applies_)'
        ) then 0
        else 1
    end;

-- What a metric's move from one value to another amounts to. Of the tiers only the best one's is
-- good or bad: what it gains, another loses.
create or replace macro metric_reading(metric, tier, best_tier, one, two) as
    case
        when one is null or two is null then 'moved'
        when abs(two - one) <= 0.0005 * greatest(1, abs(one)) then 'same'
        when metric in ('share_clipped_low', 'share_clipped_high')
            then if(two < one, 'better', 'worse')
        when tier is distinct from null and tier <> best_tier then 'moved'
        when better_direction(metric) = 0 then 'moved'
        when (two - one) * better_direction(metric) > 0 then 'better'
        else 'worse'
    end;

-- One row per run: what was asked, and how it ended where it did. Columns of another record are
-- null, so that any value is the one there is.
create or replace view runs as
select
    * exclude (record) replace (coalesce(state, 'running or cut off') as state)
from (
    select
        run_id,
        bool_or(record = 'start') as record,
        any_value(columns(* exclude (run_id, record))) as '\0'
    from run_records
    where record in ('start', 'end')
    group by run_id
)
where record;

-- One row per change of one weight.
create or replace view changes as
select
    run_id,
    experiment_id,
    number,
    outcome,
    proposer,
    value_before,
    value_after,
    entry.key as feature,
    entry.value.before as before,
    entry.value.after as after
from (
    select
        run_id,
        experiment_id,
        number,
        outcome,
        proposer,
        value_before,
        value_after,
        unnest(map_entries(changes)) as entry
    from experiments
);

-- One row per experiment and metric, or metric and tier.
create or replace view measures as
select
    run_id,
    experiment_id,
    number,
    outcome,
    measure.metric as metric,
    measure.tier as tier,
    measure.metric || coalesce('.' || measure.tier, '') as name,
    measure.amount as amount
from (
    select
        run_id,
        experiment_id,
        number,
        outcome,
        unnest(
            list_concat(
                list_transform(
                    [
                        {'metric': 'auc_roc_retain', 'amount': auc_roc_retain},
                        {'metric': 'auc_roc_churn', 'amount': auc_roc_churn},
                        {'metric': 'revenue_capture_at_20', 'amount': revenue_capture_at_20},
                        {'metric': 'revenue_capture_ceiling', 'amount': revenue_capture_ceiling},
                        {'metric': 'revenue_capture_lift', 'amount': revenue_capture_lift},
                        {'metric': 'nrr_at_20', 'amount': nrr_at_20},
                        {'metric': 'tier_separation', 'amount': tier_separation},
                        {
                            'metric': 'revenue_concentration_hhi',
                            'amount': revenue_concentration_hhi
                        },
                        {'metric': 'hhi_normalised', 'amount': hhi_normalised},
                        {'metric': 'scored', 'amount': scored},
                        {'metric': 'score_mean', 'amount': score_mean},
                        {'metric': 'score_deviation', 'amount': score_deviation},
                        {'metric': 'share_clipped_low', 'amount': share_clipped_low},
                        {'metric': 'share_clipped_high', 'amount': share_clipped_high},
                        {'metric': 'ltv_accounts', 'amount': ltv_accounts}
                    ],
                    lambda scalar: {
                        'metric': scalar.metric,
                        'tier': cast(null as varchar),
                        'amount': cast(scalar.amount as double)
                    }
                ),
                flatten(
                    list_transform(
                        [
                            {'metric': 'nrr_by_tier', 'amounts': nrr_by_tier},
                            {'metric': 'grr_by_tier', 'amounts': grr_by_tier},
                            {'metric': 'logo_retention_by_tier', 'amounts': logo_retention_by_tier},
                            {'metric': 'expansion_rate_by_tier', 'amounts': expansion_rate_by_tier},
                            {'metric': 'expanded_share_by_tier', 'amounts': expanded_share_by_tier},
                            {
                                'metric': 'contraction_rate_by_tier',
                                'amounts': contraction_rate_by_tier
                            },
                            {
                                'metric': 'contracted_share_by_tier',
                                'amounts': contracted_share_by_tier
                            },
                            {'metric': 'quick_ratio_by_tier', 'amounts': quick_ratio_by_tier},
                            {
                                'metric': 'winback_rate_by_former_tier',
                                'amounts': winback_rate_by_former_tier
                            },
                            {
                                'metric': 'activation_rate_by_tier',
                                'amounts': activation_rate_by_tier
                            },
                            {
                                'metric': 'median_days_to_activate_by_tier',
                                'amounts': median_days_to_activate_by_tier
                            },
                            {'metric': 'arpa_by_tier', 'amounts': arpa_by_tier},
                            {'metric': 'share_by_tier', 'amounts': share_by_tier},
                            {
                                'metric': 'accounts_by_tier',
                                'amounts': cast(accounts_by_tier as map(varchar, double))
                            },
                            {
                                'metric': 'labelled_by_tier',
                                'amounts': cast(labelled_by_tier as map(varchar, double))
                            },
                            {
                                'metric': 'paying_by_tier',
                                'amounts': cast(paying_by_tier as map(varchar, double))
                            },
                            {
                                'metric': 'former_by_tier',
                                'amounts': cast(former_by_tier as map(varchar, double))
                            },
                            {
                                'metric': 'activation_applies_by_tier',
                                'amounts': cast(activation_applies_by_tier as map(varchar, double))
                            }
                        ],
                        lambda tiered: list_transform(
                            map_entries(tiered.amounts),
                            lambda entry: {
                                'metric': tiered.metric,
                                'tier': entry.key,
                                'amount': entry.value
                            }
                        )
                    )
                )
            )
        ) as measure
    from experiments
);

-- One row per spec that went live, by promotion or put on record later, in the order that holds:
-- by time, but that what was recorded later comes later, whatever the clocks of two machines say.
-- An event names those that it follows though they are dated after it: these hold until then at most.
create or replace view went_live as
with told as (
    select
        *,
        coalesce(
            cast(json_extract(details, '$.recorded_after') as varchar[]),
            cast([] as varchar[])
        ) as follows
    from events
    where kind in ('promotion', 'record')
),
followed as (
    select
        event_id,
        min(since) as since
    from (
        select
            unnest(follows) as event_id,
            since
        from told
    )
    group by event_id
)
select
    told.* exclude (follows, since),
    least(told.since, followed.since) as since,
    row_number() over (
        partition by told.model
        order by least(told.since, followed.since), len(told.follows), told."at", told.event_id
    ) as position
from told
left join followed on followed.event_id = told.event_id;

-- One row per spec that is or was live: until when, instead of what. What is dated after this
-- machine's clock isn't live yet.
create or replace view live_specs as
select
    event_id,
    kind,
    model,
    since,
    lead(since) over next_of_model as until,
    "at" as recorded_at,
    author,
    note,
    expect,
    spec_id,
    score_id,
    run_id,
    experiment_id,
    lag(weights) over next_of_model as weights_before,
    weights,
    lag(tiers) over next_of_model as tiers_before,
    tiers,
    lag(score_id) over next_of_model as score_id_before,
    position
from (
    select
        *,
        spec_weights(spec) as weights,
        spec_tiers(spec) as tiers
    from went_live
    where since <= now()
)
window next_of_model as (partition by model order by position);

-- One row per decision on a run's best: the verdict, and the gates that speak against it.
create or replace view decisions as
select
    event_id,
    "at",
    run_id,
    experiment_id,
    model,
    verdict,
    -- Of the first gate that failed, else could not be measured, else of the gain, what was asked
    -- and what was found.
    list_filter(
        list_transform(
            list_concat(
                list_filter(gates, lambda gate: gate.outcome = 'failed'),
                list_filter(gates, lambda gate: gate.outcome = 'unknown'),
                list_filter(gates, lambda gate: gate.name = 'gain')
            ),
            lambda gate: gate.name || coalesce(' (' || gate."limit" || ')', '') || ': ' || gate.found
        ),
        lambda told: told is not null
    )[1] as reason,
    list_transform(
        list_filter(gates, lambda gate: gate.outcome = 'failed'), lambda gate: gate.name
    ) as failed,
    list_transform(
        list_filter(gates, lambda gate: gate.outcome = 'unknown'), lambda gate: gate.name
    ) as unknown,
    details ->> '$.segment_safety' as segment_safety,
    details ->> '$.compared' as compared,
    cast(details ->> '$.gain.value' as double) as gain,
    cast(details ->> '$.gain.low' as double) as gain_low,
    cast(details ->> '$.gain.high' as double) as gain_high,
    cast(details ->> '$.looks' as bigint) as looks,
    cast(details ->> '$.level' as double) as level,
    author,
    note,
    source
from (
    select
        *,
        details ->> '$.verdict' as verdict,
        from_json(
            details -> '$.gates',
            '[{"name": "VARCHAR", "limit": "VARCHAR", "found": "VARCHAR", "outcome": "VARCHAR"}]'
        ) as gates
    from events
    where kind = 'decision'
);

-- One row per date on which kept scores of a live spec were held against what became of accounts.
create or replace view measurements as
select
    model,
    cast(details ->> '$.day' as date) as day,
    cast(details ->> '$.outcome_end' as date) as outcome_end,
    score_id,
    details ->> '$.verdict' as verdict,
    details ->> '$.sentence' as sentence,
    objective,
    cast(own ->> '$.value' as double) as value,
    cast(own ->> '$.low' as double) as low,
    cast(own ->> '$.high' as double) as high,
    cast(details ->> '$.gains.predecessor.value' as double) as gain,
    cast(details ->> '$.gains.predecessor.low' as double) as gain_low,
    cast(details ->> '$.gains.predecessor.high' as double) as gain_high,
    details ->> '$.expect' as expect,
    cast(details ->> '$.promise_kept' as boolean) as promise_kept,
    cast(details ->> '$.accounts' as bigint) as accounts,
    cast(details ->> '$.probability[0]' as double) as predicted,
    cast(details ->> '$.probability[1]' as double) as observed,
    cast(details ->> '$.in_time' as boolean) as in_time,
    "at" as measured_at,
    event_id
from (
    select
        *,
        details ->> '$.objective' as objective,
        -- A metric of a tier has a full stop in its name.
        cast(details -> '$.metrics' as map(varchar, json))[details ->> '$.objective'] as own
    from events
    where kind = 'measurement'
);

-- The newest measurement of each spec that is or was live, and of how many dates there are any.
create or replace view latest_measurements as
select
    *,
    count(*) over (partition by model, score_id) as dates
from measurements
qualify row_number() over (partition by model, score_id order by day desc, event_id desc) = 1;

-- What was expected of each spec that went live, and what came of it on the newest date measured.
create or replace view promises as
select
    went_live.event_id as promised_by,
    went_live.expect as expect,
    latest_measurements.day as measured_on,
    latest_measurements.sentence as measurement,
    latest_measurements.verdict as held,
    latest_measurements.promise_kept as promise_kept
from went_live
left join latest_measurements
    on latest_measurements.model = went_live.model
    and latest_measurements.score_id = went_live.score_id;

-- The last decision on each experiment.
create or replace view latest_decisions as
select
    *
from decisions
qualify row_number() over (
    partition by run_id, experiment_id order by "at" desc, event_id desc
) = 1;

-- One row per run or spec that went live: who, why, from what to what, with what effect.
create or replace view history as
with kept as materialized (
    select
        run_id,
        experiment_id,
        number,
        objective,
        value_after,
        outcome,
        weights
    from experiments
    where outcome in ('baseline', 'win')
        or proposer = 'human'
),
-- Of each run its start, and the last that was kept; of a person's change that change.
shown as (
    select
        run_id,
        min_by(weights, number) as weights_before,
        min_by({'amount': value_after}, number).amount as value_before,
        max_by(weights, number) as weights_after,
        max_by({'amount': value_after}, number).amount as value_after,
        max_by(experiment_id, number) as experiment_id,
        max_by(outcome, number) as outcome
    from kept
    group by run_id
),
-- What went live though it was not kept has to be looked for elsewhere; by way of a list, since
-- DuckDB then passes over the files of other runs.
unkept as (
    select
        unnest(list({'run_id': run_id, 'experiment_id': experiment_id}), recursive := true)
    from (
        select
            run_id,
            experiment_id
        from live_specs
        where experiment_id is not null
        except
        select
            run_id,
            experiment_id
        from kept
    )
),
pointed_at as (
    select
        run_id,
        experiment_id,
        objective,
        value_after,
        outcome
    from kept
    union all
    select
        experiments.run_id as run_id,
        experiments.experiment_id as experiment_id,
        experiments.objective as objective,
        experiments.value_after as value_after,
        experiments.outcome as outcome
    from experiments
    join unkept
        on unkept.run_id = experiments.run_id
        and unkept.experiment_id = experiments.experiment_id
),
live_result as (
    select
        live_specs.*,
        pointed_at.objective as objective,
        pointed_at.value_after as value_after,
        pointed_at.outcome as outcome
    from live_specs
    left join pointed_at
        on pointed_at.run_id = live_specs.run_id
        and pointed_at.experiment_id = live_specs.experiment_id
)
select
    runs.started_at as happened_at,
    runs.kind as kind,
    runs.author as author,
    runs.note as note,
    runs.model as model,
    shown.weights_before as weights_before,
    shown.weights_after as weights_after,
    -- A run that only sets edges says what they were.
    cast(
        cast(runs.parameters['tiers_before'] as json) as map(varchar, double)
    ) as tiers_before,
    if(
        runs.parameters['tiers_before'] is null, null, spec_tiers(runs.spec)
    ) as tiers_after,
    runs.objective as objective,
    if(shown.outcome = 'baseline', null, shown.value_before) as value_before,
    shown.value_after as value_after,
    if(runs.kind in ('human', 'record'), shown.outcome, runs.state) as outcome,
    runs.run_id as run_id,
    shown.experiment_id as experiment_id,
    cast(null as varchar) as event_id,
    cast(null as bigint) as position
from runs
left join shown on shown.run_id = runs.run_id
-- A change made elsewhere is its event; where that is missing, the run that measured it.
where runs.kind <> 'record'
    or not exists (select 1 from events where events.run_id = runs.run_id and events.kind = 'record')
union all
select
    live_result.since as happened_at,
    live_result.kind as kind,
    live_result.author as author,
    live_result.note as note,
    live_result.model as model,
    live_result.weights_before as weights_before,
    live_result.weights as weights_after,
    live_result.tiers_before as tiers_before,
    live_result.tiers as tiers_after,
    live_result.objective as objective,
    -- Only where it was measured against what was live before it.
    if(
        live_result.outcome <> 'baseline' and live_result.weights_before = shown.weights_before,
        shown.value_before,
        null
    ) as value_before,
    live_result.value_after as value_after,
    live_result.outcome as outcome,
    live_result.run_id as run_id,
    live_result.experiment_id as experiment_id,
    live_result.event_id as event_id,
    live_result.position as position
from live_result
left join shown on shown.run_id = live_result.run_id
union all
select
    since as happened_at,
    kind,
    author,
    note,
    model,
    cast(null as map(varchar, bigint)) as weights_before,
    cast(null as map(varchar, bigint)) as weights_after,
    cast(null as map(varchar, double)) as tiers_before,
    cast(null as map(varchar, double)) as tiers_after,
    cast(null as varchar) as objective,
    cast(null as double) as value_before,
    cast(null as double) as value_after,
    'dated after this clock' as outcome,
    run_id,
    experiment_id,
    event_id,
    position
from went_live
where since > now();

-- The run that a query is about: the variable `run`, else the latest search, else the latest run;
-- one of a clock that was ahead only where there is no other.
create or replace view chosen_run as
select
    *
from runs
where run_id = coalesce(getvariable('run'), run_id)
order by kind = 'search' desc, started_at > now(), started_at desc, run_id desc
limit 1;

-- The chosen run's best experiment so far: the last win, else the baseline.
create or replace view chosen_best as
select
    experiments.*
from experiments
where experiments.run_id = (select run_id from chosen_run)
    and experiments.outcome in ('baseline', 'win')
order by experiments.number desc
limit 1;

-- The chosen run's baseline.
create or replace view chosen_baseline as
select
    *
from experiments
where run_id = (select run_id from chosen_run)
    and number = 0;
