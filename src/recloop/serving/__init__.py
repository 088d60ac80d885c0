"""The engine (no web), sessions, events and the BentoML service."""
