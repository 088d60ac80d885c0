"""What Prometheus is told, beside BentoML's own figures, at `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The endpoint's counters.

    Made only when the worker runs: prometheus_client decides on its import whether it counts in the files
    that BentoML's `/metrics` reads, and BentoML says where those are just before.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()

        def count(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"recloop_{name}", what, labels, registry=registry)

        self.requests = Histogram(
            "recloop_request_seconds",
            "Answers by path and status, and how long they took",
            ["path", "status"],
            buckets=BUCKETS,
            registry=registry,
        )
        self.recommendations = count("recommendations", "Lists served", "strategy", "variant")
        self.remembered = count("recommendations_remembered", "Lists served that had been made before")
        self.events = count("events_stored", "Events stored")
        self.duplicates = count("events_duplicate", "Events that were stored before")
        self.impressions = count("impressions_stored", "Served lists written to the database")
        self.dropped = count("impressions_dropped", "Served lists lost because the database stalled")
        self.shed = count("requests_shed", "Requests refused because more came than can be answered")
        self.swaps = count("swaps", "Versions that went live as champion")
        self.refused = count("versions_refused", "Versions that did not load")
        self.unfollowed = count("follow_failures", "Times the database could not be asked what other processes took")
        self.version = Gauge(
            "recloop_live_version",
            "The version that answers",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
