"""What Prometheus is reported of an analysis."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gixi_bluesky.metrics import serve_metrics

STATUS = {
    "frames_received": 9,
    "frames_done": 5,
    "frames_dropped": 1,
    "frames_failed": 2,
    "frames_skipped": 0,
    "frames_queued": 1,
    "queue_bytes": 4096,
    "documents_queued": 0,
    "documents_refused": 3,
    "worker_alive": True,
    "maps_built": 2,
    "maps_seconds": 1.5,
    "worker_restarts": 1,
    "runs_open": 1,
    "runs_closed": 4,
    "threads": {"gixi-worker": "running", "gixi-store": "stuck for 75 s"},
}


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def samples(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_status_is_reported_at_the_moment_of_asking(port):
    status = dict(STATUS)
    end = serve_metrics(lambda: status, port, registry=CollectorRegistry())
    try:
        reported = samples(port)
        assert reported["gixi_frames_finished_total", "ok"] == 5
        assert reported["gixi_frames_finished_total", "failed"] == 2
        assert reported["gixi_queue_held_bytes",] == 4096
        assert reported["gixi_worker_running_bool",] == 1
        assert reported["gixi_thread_running_bool", "gixi-worker"] == 1
        assert reported["gixi_thread_running_bool", "gixi-store"] == 0
        status["frames_done"] = 6
        assert samples(port)["gixi_frames_finished_total", "ok"] == 6
    finally:
        end()


def test_serving_can_end_and_begin_again(port):
    registry = CollectorRegistry()
    for _ in range(2):
        serve_metrics(lambda: STATUS, port, registry=registry)()


def test_a_consumer_reports_its_partitions_letters_and_gpu_at_a_free_port():
    status = {
        **STATUS,
        "gpu_bytes": 1 << 30,
        "messages_read": 40,
        "dead_letters": 2,
        "undelivered": 1,
        "partitions": {"raw:documents:3": {"lag": 7, "uncommitted": 9}},
    }
    served = serve_metrics(lambda: status, 0, registry=CollectorRegistry())
    try:
        reported = samples(served.port)
    finally:
        served()
    assert reported["gixi_gpu_held_bytes",] == 1 << 30
    assert reported["gixi_messages_read_total",] == 40
    assert reported["gixi_messages_refused_total",] == 2
    assert reported["gixi_messages_undelivered_total",] == 1
    assert reported["gixi_partition_unread_messages", "3", "raw:documents"] == 7
    assert reported["gixi_partition_uncommitted_messages", "3", "raw:documents"] == 9


def test_an_analysis_beside_a_scan_reports_nothing_of_kafka(port):
    served = serve_metrics(lambda: STATUS, port, registry=CollectorRegistry())
    try:
        names = {name for name, *_ in samples(port)}
    finally:
        served()
    assert "gixi_messages_read_total" not in names
    assert "gixi_gpu_held_bytes" not in names
