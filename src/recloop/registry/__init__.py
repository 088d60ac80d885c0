"""MLflow: runs, lineage, promotion, rollback."""
