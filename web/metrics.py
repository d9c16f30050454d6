"""Figures for Prometheus."""

from contextlib import closing

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from .config import WebConfig
from .store import database, jobs, videos


class Metrics:
    """Counts requests, and counts videos and jobs when asked."""

    def __init__(self, config: WebConfig):
        self._config, self._registry = config, CollectorRegistry()
        self._registry.register(self)
        self._requests = Counter(
            "captioner_requests",
            "Requests answered",
            ["endpoint", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "captioner_request_seconds",
            "Time to the first byte of an answer",
            ["endpoint"],
            registry=self._registry,
        )

    def observe(self, endpoint: str | None, status: int, seconds: float) -> None:
        """Counts a request."""
        self._requests.labels(endpoint or "none", status).inc()
        self._seconds.labels(endpoint or "none").observe(seconds)

    def collect(self):
        """Called by prometheus_client: what the database says at this moment."""
        by_state = GaugeMetricFamily(
            "captioner_jobs", "Jobs by task and state", labels=["task", "state"]
        )
        with closing(database.connect(self._config.data)) as db:
            for row in jobs.counts(db):
                by_state.add_metric([row["task"], row["state"]], row["count"])
            kept, stored = videos.count(db), videos.stored_bytes(db)
        yield by_state
        yield GaugeMetricFamily("captioner_videos", "Videos kept", value=kept)
        yield GaugeMetricFamily("captioner_stored_bytes", "Bytes of videos kept", value=stored)

    def describe(self):
        """Called by prometheus_client on registering, when there may be no table yet."""
        return ()

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)
