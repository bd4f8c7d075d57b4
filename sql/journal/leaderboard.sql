-- purpose: The best experiments ever kept on a table, by the objective or by any metric.
-- parameters:
--   metric (varchar): any metric, by tier as nrr_by_tier.A; each run's own objective where not set
--   objective (varchar): only runs that searched for this; all where not set
--   outcomes_fingerprint (varchar): only this table; all where not set
--   tiers_id (varchar): only these tiers; all where not set
--   evaluator_version (bigint): only this version of the evaluator; all where not set
--   most (bigint): rows for each table and metric at most; 10 where not set
-- columns:
--   rank (bigint): place among the experiments of this table and metric
--   metric (varchar): what they are ranked by
--   value (double): its value, search part
--   holdout_value (double): its value on the holdout, where the experiment is its run's best
--   model (varchar): the spec's model
--   objective (varchar): what the run searched for
--   run_id (varchar): the run that was first to evaluate these weights
--   experiment_id (varchar): the experiment
--   kind (varchar): the run's kind
--   author (varchar): who asked for it, or for its run
--   note (varchar): why
--   at (timestamp with time zone): when it was evaluated
--   source (varchar): the account table
--   outcomes_fingerprint (varchar): ids, outcomes and split of the table
--   tiers_id (varchar): the tiers' edges
--   evaluator_version (bigint): version of the evaluator
--   basis (varchar): of revenue retention, observed or binary; null where the metric is none
-- grain: one row per distinct weights; experiments that were kept alone, so no guardrail is broken
-- order: outcomes_fingerprint, tiers_id, evaluator_version, metric, rank

with kept as (
    select
        run_id,
        number,
        case split_part(coalesce(getvariable('metric'), 'value_after'), '.', 1)
            when 'value_after' then value_after
            when 'auc_roc_retain' then auc_roc_retain
            when 'auc_roc_churn' then auc_roc_churn
            when 'revenue_capture_at_20' then revenue_capture_at_20
            when 'revenue_capture_ceiling' then revenue_capture_ceiling
            when 'revenue_capture_lift' then revenue_capture_lift
            when 'nrr_at_20' then nrr_at_20
            when 'tier_separation' then tier_separation
            when 'revenue_concentration_hhi' then revenue_concentration_hhi
            when 'hhi_normalised' then hhi_normalised
            when 'scored' then scored
            when 'score_mean' then score_mean
            when 'score_deviation' then score_deviation
            when 'share_clipped_low' then share_clipped_low
            when 'share_clipped_high' then share_clipped_high
            when 'ltv_accounts' then ltv_accounts
            when 'nrr_by_tier' then nrr_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'grr_by_tier' then grr_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'logo_retention_by_tier'
                then logo_retention_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'expansion_rate_by_tier'
                then expansion_rate_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'expanded_share_by_tier'
                then expanded_share_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'contraction_rate_by_tier'
                then contraction_rate_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'contracted_share_by_tier'
                then contracted_share_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'quick_ratio_by_tier'
                then quick_ratio_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'winback_rate_by_former_tier'
                then winback_rate_by_former_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'activation_rate_by_tier'
                then activation_rate_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'median_days_to_activate_by_tier'
                then median_days_to_activate_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'arpa_by_tier'
                then arpa_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'share_by_tier'
                then share_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'accounts_by_tier'
                then accounts_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'labelled_by_tier'
                then labelled_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'paying_by_tier'
                then paying_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'former_by_tier'
                then former_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
            when 'activation_applies_by_tier'
                then activation_applies_by_tier[regexp_extract(getvariable('metric'), '[.](.*)', 1)]
        end as value
    from experiments
    where outcome in ('baseline', 'win')
),
ground as materialized (
    select
        run_id,
        started_at,
        model,
        kind,
        author,
        note,
        source,
        objective,
        outcomes_fingerprint,
        features_fingerprint,
        tiers_id,
        evaluator_version,
        best_experiment,
        holdout_best_value,
        holdout_best_metrics,
        coalesce(getvariable('metric'), objective) as metric,
        case
            when getvariable('metric') is null or getvariable('metric') = objective
                then if(higher_is_better, 1, -1)
            when better_direction(getvariable('metric')) < 0 then -1
            else 1
        end as sign
    from runs
    where (getvariable('objective') is null or objective = getvariable('objective'))
        and (
            getvariable('outcomes_fingerprint') is null
            or outcomes_fingerprint = getvariable('outcomes_fingerprint')
        )
        and (getvariable('tiers_id') is null or tiers_id = getvariable('tiers_id'))
        and (
            getvariable('evaluator_version') is null
            or evaluator_version = cast(getvariable('evaluator_version') as bigint)
        )
),
valued as (
    select
        kept.run_id as run_id,
        kept.number as number,
        kept.value as value,
        ground.started_at as started_at,
        ground.sign as sign,
        ground.features_fingerprint as features_fingerprint,
        -- What is ranked together.
        {
            'outcomes_fingerprint': ground.outcomes_fingerprint,
            'tiers_id': ground.tiers_id,
            'evaluator_version': ground.evaluator_version,
            'metric': ground.metric
        } as field
    from kept
    join ground on ground.run_id = kept.run_id
    where kept.value is not null
),
-- Equal weights have equal values, so that none is lost by ranking values first: weights are many.
foremost as (
    select
        *
    from valued
    qualify dense_rank() over (partition by field order by sign * value desc)
        <= coalesce(cast(getvariable('most') as bigint), 10)
),
distinct_weights as (
    select
        foremost.*
    from foremost
    join experiments
        on experiments.run_id = foremost.run_id
        and experiments.number = foremost.number
    qualify row_number() over (
        partition by foremost.field, foremost.features_fingerprint, hash(experiments.weights)
        order by foremost.started_at, foremost.run_id, foremost.number
    ) = 1
),
ranked as (
    select
        *,
        row_number() over (
            partition by field order by sign * value desc, started_at, run_id, number
        ) as rank
    from distinct_weights
    qualify rank <= coalesce(cast(getvariable('most') as bigint), 10)
)
select
    ranked.rank as rank,
    ground.metric as metric,
    ranked.value as value,
    case
        when experiments.experiment_id is distinct from ground.best_experiment then null
        when ground.metric = ground.objective then ground.holdout_best_value
        when contains(ground.metric, '.') then cast(
            json_extract(
                ground.holdout_best_metrics, '$.' || split_part(ground.metric, '.', 1)
            ) as map(varchar, double)
        )[regexp_extract(ground.metric, '[.](.*)', 1)]
        else cast(json_extract(ground.holdout_best_metrics, '$.' || ground.metric) as double)
    end as holdout_value,
    ground.model as model,
    ground.objective as objective,
    ground.run_id as run_id,
    experiments.experiment_id as experiment_id,
    ground.kind as kind,
    coalesce(experiments.author, ground.author) as author,
    coalesce(experiments.note, ground.note) as note,
    experiments.evaluated_at as "at",
    ground.source as source,
    ground.outcomes_fingerprint as outcomes_fingerprint,
    ground.tiers_id as tiers_id,
    ground.evaluator_version as evaluator_version,
    case
        when split_part(ground.metric, '.', 1) in ('nrr_by_tier', 'grr_by_tier', 'nrr_at_20')
            then experiments.basis
    end as basis
from ranked
join ground on ground.run_id = ranked.run_id
join experiments
    on experiments.run_id = ranked.run_id
    and experiments.number = ranked.number
order by
    ground.outcomes_fingerprint,
    ground.tiers_id,
    ground.evaluator_version,
    ground.metric,
    ranked.rank;
