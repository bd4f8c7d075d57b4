"""Exchange with other systems: SQL, dbt, MLflow, lakehouse tables, and JSONL experiments."""
