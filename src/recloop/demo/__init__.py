"""The whole loop once, on real data, with a table at the end."""
