"""Prometheus metrics, all in one place, named `gixi_<noun>_<verb>_<unit>`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["FRAME_LATENCY", "AnalysisCollector", "Served", "serve_metrics"]

Status = Callable[[], Mapping[str, Any]]

# The target is a second a frame; the buckets are finest there.
_LATENCY_BUCKETS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 120.0)

FRAME_LATENCY = Histogram(
    "gixi_frame_delayed_seconds",
    "From the arrival of a frame's document to its result",
    buckets=_LATENCY_BUCKETS,
)

_COUNTERS = {
    "frames_received": ("gixi_frames_received", "Frames announced by documents"),
    "frames_skipped": ("gixi_frames_skipped", "Frames that were stored already"),
    "documents_refused": ("gixi_documents_refused", "Documents that broke their schema"),
    "worker_restarts": ("gixi_worker_restarted", "Restarts of the analysis process after it ended"),
    "maps_built": ("gixi_maps_built", "Maps made for a new geometry of a frame"),
    "maps_seconds": ("gixi_maps_built_seconds", "Time it took to make them"),
    "runs_closed": ("gixi_runs_closed", "Raw runs whose derived run is finished"),
}
_GAUGES = {
    "frames_queued": ("gixi_queue_held_frames", "Frames that wait for their result"),
    "queue_bytes": ("gixi_queue_held_bytes", "Memory held by frames that wait"),
    "documents_queued": ("gixi_inbox_held_documents", "Documents not processed yet"),
    "worker_alive": ("gixi_worker_running_bool", "1 while an analysis process is there"),
    "runs_open": ("gixi_runs_growing_count", "Raw runs that have not stopped"),
}
# Of a Kafka consumer only.
_CONSUMER_COUNTERS = {
    "messages_read": ("gixi_messages_read", "Messages taken from Kafka, repeated ones too"),
    "dead_letters": ("gixi_messages_refused", "Messages that became dead letters"),
    "undelivered": ("gixi_messages_undelivered", "Own messages that the broker never accepted"),
}
_PARTITION_GAUGES = {
    "lag": ("gixi_partition_unread_messages", "Consumer lag: messages not read yet"),
    "uncommitted": ("gixi_partition_uncommitted_messages", "Messages that a successor reads again"),
}
_ENDS = {"frames_done": "ok", "frames_dropped": "dropped", "frames_failed": "failed"}


class AnalysisCollector(Collector):
    """Exports the values of `Analysis.status()` to Prometheus at each scrape."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its present value."""
        status = self._status()
        ended = CounterMetricFamily(
            "gixi_frames_finished", "Frames that have their row, by status", labels=["status"]
        )
        for key, end in _ENDS.items():
            ended.add_metric([end], status[key])
        yield ended
        for key, (name, meaning) in _COUNTERS.items():
            yield CounterMetricFamily(name, meaning, value=status[key])
        for key, (name, meaning) in _GAUGES.items():
            yield GaugeMetricFamily(name, meaning, value=float(status[key]))
        if "threads" in status:
            yield _threads(status["threads"])
        if (gpu_bytes := status.get("gpu_bytes")) is not None:
            meaning = "Memory that the analysis holds on its GPU"
            yield GaugeMetricFamily("gixi_gpu_held_bytes", meaning, value=float(gpu_bytes))
        for key, (name, meaning) in _CONSUMER_COUNTERS.items():
            if key in status:
                yield CounterMetricFamily(name, meaning, value=status[key])
        for key, (name, meaning) in _PARTITION_GAUGES.items():
            if "partitions" in status:
                yield _by_partition(name, meaning, key, status["partitions"])


def _threads(threads: Mapping[str, str]) -> GaugeMetricFamily:
    """Return 1 for each thread that runs, 0 for one that ended or is stuck."""
    meaning = "1 while the thread runs, 0 when it ended or is stuck"
    gauge = GaugeMetricFamily("gixi_thread_running_bool", meaning, labels=["thread"])
    for name, state in threads.items():
        gauge.add_metric([name], float(state == "running"))
    return gauge


def _by_partition(
    name: str, meaning: str, key: str, partitions: Mapping[str, Mapping[str, int]]
) -> GaugeMetricFamily:
    """Return one number of each partition, given as topic:number."""
    gauge = GaugeMetricFamily(name, meaning, labels=["topic", "partition"])
    for place, numbers in partitions.items():
        topic, _, number = place.rpartition(":")
        gauge.add_metric([topic, number], float(numbers[key]))
    return gauge


@dataclass(frozen=True, slots=True)
class Served:
    """A running metrics server; call it to stop the server."""

    port: int
    end: Callable[[], None]

    def __call__(self) -> None:
        """Stop serving."""
        self.end()


def serve_metrics(
    status: Status,
    port: int,
    address: str = "127.0.0.1",
    registry: CollectorRegistry = REGISTRY,
) -> Served:
    """Serve the metrics at http://address:port/metrics, at a free port for 0.

    Raises OSError when the port is taken.
    """
    collector = AnalysisCollector(status)
    registry.register(collector)
    server, thread = start_http_server(port, address, registry)

    def end() -> None:
        registry.unregister(collector)
        server.shutdown()
        server.server_close()
        thread.join()

    return Served(server.server_port, end)
