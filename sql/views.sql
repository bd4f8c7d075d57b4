-- The journal's views. Set-up in the plain DuckDB shell, two lines:
--   set variable journal = 'journal';
--   .read sql/views.sql
-- gtmar itself lists the files that are whole (record_files, experiment_files), so that a part cut
-- off by a crash is passed over.

create or replace view run_records as
select
    *
from read_parquet(
    coalesce(
        cast(getvariable('record_files') as varchar[]),
        [getvariable('journal') || '/runs/*/*.parquet']
    ),
    hive_partitioning = true,
    hive_types = {'run_id': varchar},
    union_by_name = true
);

-- One row per run: what was asked, and how it ended where it did.
create or replace view runs as
select
    start_record.* exclude (
        record,
        ended_at,
        state,
        experiments,
        wins,
        proposals,
        seconds,
        baseline_value,
        best_value,
        best_experiment,
        holdout_baseline_value,
        holdout_best_value,
        holdout_baseline_metrics,
        holdout_best_metrics,
        digest
    ),
    end_record.ended_at,
    coalesce(end_record.state, 'running or cut off') as state,
    end_record.experiments,
    end_record.wins,
    end_record.proposals,
    end_record.seconds,
    end_record.baseline_value,
    end_record.best_value,
    end_record.best_experiment,
    end_record.holdout_baseline_value,
    end_record.holdout_best_value,
    end_record.holdout_baseline_metrics,
    end_record.holdout_best_metrics,
    end_record.digest
from run_records as start_record
left join run_records as end_record
    on end_record.run_id = start_record.run_id
    and end_record.record = 'end'
where start_record.record = 'start';

-- One row per experiment, baseline first.
create or replace view experiments as
select
    *
from read_parquet(
    coalesce(
        cast(getvariable('experiment_files') as varchar[]),
        [getvariable('journal') || '/experiments/*/*.parquet']
    ),
    hive_partitioning = true,
    hive_types = {'run_id': varchar},
    union_by_name = true
);

-- The run that a query is about: the variable `run`, else the latest.
create or replace view chosen_run as
select
    *
from runs
where run_id = coalesce(
    getvariable('run'),
    (select max_by(run_id, (started_at, run_id)) from runs)
);

-- The chosen run's best experiment so far: the last win, else the baseline.
create or replace view chosen_best as
select
    experiments.*
from experiments
where experiments.run_id = (select run_id from chosen_run)
    and experiments.outcome in ('baseline', 'win')
qualify row_number() over (order by experiments.number desc) = 1;

-- The chosen run's baseline.
create or replace view chosen_baseline as
select
    *
from experiments
where run_id = (select run_id from chosen_run)
    and number = 0;
