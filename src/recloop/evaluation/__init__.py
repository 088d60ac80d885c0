"""Ranking metrics over the whole catalogue, intervals and comparisons."""
