-- purpose: Metrics that follow from each other agree.
-- parameters: none
-- columns:
--   run_id (varchar): the run
--   experiment_id (varchar): the experiment
--   identity (varchar): what should be equal
--   one (double): its one side
--   two (double): its other side
-- grain: one row per experiment and identity that fails; none in a sound journal
-- order: run_id, experiment_id, identity

-- To within 1e-9, relative above 1. Results taken over have no metrics, and an import has those that
-- its file had. What a tier has no value for stays out.

with compared as (
    select
        experiments.run_id as run_id,
        experiments.experiment_id as experiment_id,
        experiments.number as number,
        unnest(
            list_concat(
                [
                    {
                        'identity': 'auc_roc_retain = auc_roc_churn',
                        'one': auc_roc_retain,
                        'two': auc_roc_churn
                    },
                    {
                        'identity': 'shares of tiers add up to 1',
                        'one': list_sum(map_values(share_by_tier)),
                        'two': if(scored > 0, 1.0, null)
                    },
                    {
                        'identity': 'accounts of tiers add up to scored',
                        'one': cast(list_sum(map_values(accounts_by_tier)) as double),
                        'two': cast(scored as double)
                    },
                    {
                        'identity': 'revenue_capture_at_20 = 0.2 * revenue_capture_lift',
                        'one': revenue_capture_at_20,
                        'two': 0.2 * revenue_capture_lift
                    },
                    {
                        'identity': 'revenue_capture_at_20 <= revenue_capture_ceiling',
                        'one': greatest(revenue_capture_at_20, revenue_capture_ceiling),
                        'two': revenue_capture_ceiling
                    },
                    {
                        'identity': 'concentration from even to 1',
                        'one': revenue_concentration_hhi,
                        'two': 10000
                            * (1 + hhi_normalised * (len(runs.tiers) - 1))
                            / len(runs.tiers)
                    }
                ],
                flatten(
                    list_transform(
                        map_keys(share_by_tier),
                        lambda tier: [
                            {
                                'identity': 'share = accounts / scored in tier ' || tier,
                                'one': share_by_tier[tier],
                                'two': accounts_by_tier[tier] / nullif(scored, 0)
                            },
                            {
                                'identity': 'nrr - grr = expansion in tier ' || tier,
                                'one': nrr_by_tier[tier] - grr_by_tier[tier],
                                'two': expansion_rate_by_tier[tier]
                            }
                        ]
                    )
                )
            ),
            recursive := true
        )
    from experiments
    join runs on runs.run_id = experiments.run_id
    where experiments.outcome <> 'known'
        and runs.kind <> 'import'
)
select
    run_id,
    experiment_id,
    identity,
    one,
    two
from compared
where abs(one - two) > 1e-9 * greatest(1, abs(one))
    or (isnan(one) or isnan(two) or isinf(one) or isinf(two))
order by run_id, number, identity;
