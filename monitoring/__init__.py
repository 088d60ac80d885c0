"""Evidently reports and the drift policy."""
