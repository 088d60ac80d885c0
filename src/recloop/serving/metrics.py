"""What Prometheus is told, beside BentoML's own figures, at `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """The endpoint's counters.

    Made only when the worker runs: prometheus_client decides on its import whether it counts in the files
    that BentoML's `/metrics` reads, and BentoML says where those are just before.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.recommendations = Counter("recloop_recommendations", "Lists served", ["strategy"], registry=registry)
        self.events = Counter("recloop_events_stored", "Events stored", registry=registry)
        self.duplicates = Counter("recloop_events_duplicate", "Events that were stored before", registry=registry)
        self.impressions = Counter(
            "recloop_impressions_stored", "Served lists written to the database", registry=registry
        )
        self.dropped = Counter(
            "recloop_impressions_dropped", "Served lists lost because the database stalled", registry=registry
        )
        self.swaps = Counter("recloop_swaps", "Versions that went live", registry=registry)
        self.refused = Counter("recloop_versions_refused", "Versions that did not load", registry=registry)
        self.version = Gauge(
            "recloop_live_version",
            "The version that answers",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
