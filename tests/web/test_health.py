"""Consumers and disks that the live view watches."""

from __future__ import annotations

import os
import socket
import time

from asgi_browser import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat, write_heartbeat
from gixi_bluesky.callbacks.slurm.job_arrays import Submission
from gixi_bluesky.tiled_adapters.server.listening import serving_app
from gixi_bluesky.web import LiveView, Watched, health

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


SLURM = """#!/bin/sh
echo 'JobId=7 ArrayJobId=7 ArrayTaskId=0 JobName=gixi UserId=u JobState=RUNNING Reason=None \
 Restarts=0 NodeList=node7 Command=x' | tr -d '\\\n'
"""


def _report(folder):
    view = _view(Watched(heartbeats=folder))
    return view.get("/gixi/health.json", headers={"Authorization": f"Apikey {KEY}"}).json()


def test_the_job_of_the_folder_is_shown_with_its_tasks(tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    scontrol = programs / "scontrol"
    scontrol.write_text(SLURM)
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    assert _report(tmp_path)["slurm"] is None
    Submission(tmp_path, 7, 2).write()
    job = _report(tmp_path)["slurm"]
    assert job["job_id"] == 7
    assert [task["state"] for task in job["tasks"]] == ["RUNNING", "UNKNOWN"]
    assert job["tasks"][0]["node"] == "node7"
    scontrol.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    assert "contact" in _report(tmp_path)["slurm"]["problem"]


def test_logs_end_with_their_last_lines_those_that_grew_last_first(tmp_path):
    for number, name in enumerate(("old", "new")):
        path = tmp_path / f"{name}.log"
        path.write_text("".join(f"{name} {line}\n" for line in range(5000)))
        os.utime(path, (number, number))
    new, old = _report(tmp_path)["logs"]
    assert (new["name"], new["lines"][-1], old["lines"][-1]) == ("new", "new 4999", "old 4999")
    assert len(new["lines"]) == 20


def test_the_queue_comes_from_the_metrics_of_a_consumer(tmp_path):
    exposition = (
        'gixi_queue_held_frames 12.0\ngixi_worker_running_bool{worker="0"} 1.0\n'
        'gixi_worker_running_bool{worker="1"} 0.0\ngixi_queue_held_framesX 5\n'
    )
    metrics = Starlette(routes=[Route("/metrics", lambda _: Response(exposition))])
    with serving_app(metrics, "127.0.0.1", 0) as port:
        beat = Heartbeat(1, socket.gethostname(), time.time(), "running", "g", ("t",), port)
        write_heartbeat(tmp_path / "consumer-0.json", beat)
        (consumer,) = _report(tmp_path)["consumers"]
    assert (consumer["queue_frames"], consumer["workers"]) == (12, 1)


def test_viewers_share_one_report(tmp_path, monkeypatch):
    view = _view(Watched(heartbeats=tmp_path))
    made = []
    monkeypatch.setattr(health, "slurm_job", made.append)
    for _ in range(10):
        view.get("/gixi/health.json", headers={"Authorization": f"Apikey {KEY}"})
    assert len(made) == 1
