"""The dashboard and the scrape example ask for what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry
from test_metrics import STATUS

from gixi_bluesky.metrics import FRAME_LATENCY, AnalysisCollector

# What a Kafka consumer with a GPU reports besides.
CONSUMER = {
    "gpu_bytes": 1,
    "messages_read": 1,
    "dead_letters": 1,
    "undelivered": 0,
    "partitions": {"raw:0": {"lag": 1, "uncommitted": 1}},
}
FOLDER = Path(__file__).resolve().parents[1] / "examples" / "grafana"


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((FOLDER / "dashboard.json").read_text())


def expressions(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def metric_names():
    registry = CollectorRegistry()
    registry.register(AnalysisCollector(lambda: {**STATUS, **CONSUMER}))
    registry.register(FRAME_LATENCY)
    return {sample.name for family in registry.collect() for sample in family.samples}


def test_every_metric_that_a_panel_asks_for_exists(dashboard):
    asked = {name for expr in expressions(dashboard) for name in re.findall(r"gixi_\w+", expr)}
    assert len(asked) > 10
    assert asked <= metric_names()


def test_the_panels_do_not_overlap_and_have_titles(dashboard):
    taken = set()
    for panel in dashboard["panels"]:
        assert panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_brackets_close_in_every_expression(dashboard):
    for expr in expressions(dashboard):
        for opening, closing in ("()", "{}", "[]"):
            assert expr.count(opening) == expr.count(closing), expr


def test_prometheus_reads_the_file_that_status_writes():
    tree = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (job,) = tree["scrape_configs"]
    assert job["job_name"] == "gixi"
    assert job["file_sd_configs"][0]["files"] == ["gixi-targets.json"]
