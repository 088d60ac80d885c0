"""Prefect flows: training and monitoring. Thin: orchestration only."""
