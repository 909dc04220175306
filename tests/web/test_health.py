"""Consumers and disks that the live view watches."""

from __future__ import annotations

import time

from asgi_browser import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat, write_heartbeat
from gixi_bluesky.web import LiveView, Watched

KEY = "abcdefgh12345678"


def _root(request: Request) -> Response:
    return Response(status_code=200 if request.headers.get("authorization") else 401)


def _view(watched: Watched | None) -> Browser:
    tiled = Starlette(routes=[Route("/api/v1/metadata/", _root)])
    return Browser(LiveView(tiled, KEY, watched))


def test_heartbeats_have_an_age_and_foreign_files_are_left_out(tmp_path):
    heartbeat = Heartbeat(
        pid=1, host="node7", time=time.time() - 100, state="running", group="g", topics=("t",)
    )
    write_heartbeat(tmp_path / "consumer-1.json", heartbeat)
    (tmp_path / "other.json").write_text("[]")
    view = _view(Watched(heartbeats=tmp_path, storage=tmp_path))
    report = view.get("/gixi/health.json", headers={"Authorization": f"Apikey {KEY}"}).json()
    (consumer,) = report["consumers"]
    assert consumer["name"] == "consumer-1 on node7"
    assert 100 <= consumer["age_s"] < 130
    assert 0 < report["disk_free"] < 1


def test_who_may_not_read_the_server_sees_no_consumer(tmp_path):
    answer = _view(Watched(heartbeats=tmp_path)).get("/gixi/health.json")
    assert answer.status_code == 401
    assert "consumers" not in answer.json()


def test_a_server_that_watches_nothing_says_so():
    assert _view(None).get("/gixi/health.json").json()["watching"] is False


def test_a_disk_that_is_gone_is_unknown(tmp_path):
    view = _view(Watched(storage=tmp_path / "absent"))
    report = view.get("/gixi/health.json", headers={"Authorization": f"Apikey {KEY}"}).json()
    assert report["disk_free"] is None
