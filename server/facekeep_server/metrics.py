"""Figures for Prometheus: counts, times and sizes. No label names a device, a person, a token or an address."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The figures of one server process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("facekeep_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry)
        self.seconds = Histogram("facekeep_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=self.registry)
        self.refusals = Counter("facekeep_refusals", "Requests refused, by code.", ["code"], registry=self.registry)
        self.appended = Counter("facekeep_log_lines_appended", "Lines appended to the log.", registry=self.registry)
        self.found = Counter("facekeep_log_lines_repeated", "Lines submitted again and found.", registry=self.registry)
        self.pending = Gauge("facekeep_log_lines_pending", "Lines that wait for the next commit.", registry=self.registry)
        self.size = Gauge("facekeep_log_size", "Lines in the log at the last reading.", registry=self.registry)
        self.published = Gauge(
            "facekeep_log_size_published",
            "Lines in the newest checkpoint that the quorum of witnesses saw.",
            registry=self.registry,
        )
        # Witnesses are named by the operator's policy file; none is a person.
        self.witnesses = Counter(
            "facekeep_witness_answers", "Answers of witnesses, by outcome.", ["witness", "outcome"], registry=self.registry
        )

    def to_text(self) -> bytes:
        """Return the figures in Prometheus' text format."""
        return generate_latest(self.registry)
