"""The right to operate from the page, what can be edited, and what is recorded of it."""

from __future__ import annotations

import json

import pytest
import yaml
from asgi_browser import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from gixi_bluesky.config import load_config
from gixi_bluesky.processing.structures.cif_files import shipped_cifs
from gixi_bluesky.tiled_adapters.server.rights import RIGHTS_PATH
from gixi_bluesky.web import LiveView, viewing_key
from gixi_bluesky.web.operate import Operation

KEY = "abcdefgh12345678"
READING = "reads0nly12345678"
OWN = {
    "geometry": {
        "wavelength_angstrom": 0.6888,
        "distance_mm": 300.0,
        "pixel_size_mm": [0.5, 0.5],
        "beam_center_px": [20.0, 40.0],
        "incidence_angle_deg": {"from": "th"},
    },
    "detector": {"weights": "classical", "device": "cpu"},
    "matching": {"cif": [str(shipped_cifs()["MAPbBr3"])]},
    "output": {"directory": "results"},
    "slurm": {"prologue": ["module load gixi"]},
}


def _rights(request: Request) -> JSONResponse:
    assert request.query_params["path"] == "gixi"
    key = request.headers.get("authorization", "").removeprefix("Apikey ")
    known = {KEY: ("operator", True), READING: ("viewer", False)}
    if key not in known:
        return JSONResponse({}, 401)
    who, writes = known[key]
    return JSONResponse({"who": who, "writes": writes, "could_write": writes})


@pytest.fixture
def operation(tmp_path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(OWN))
    one = Operation(tmp_path / "own.yaml", tmp_path / "operations")
    yield one
    one.close()


@pytest.fixture
def page(operation):
    tiled = Starlette(routes=[Route(RIGHTS_PATH, _rights)])
    return Browser(LiveView(tiled, KEY, operation=operation))


def ask(page, action, key=KEY, **body):
    headers = {"Authorization": f"Apikey {key}"}
    return page.request("POST", f"/gixi/operate/{action}", json=body, headers=headers)


def edited(operation, **sections):
    return {**operation.configurations.editable(), **sections}


@pytest.mark.parametrize("key", [READING, viewing_key(KEY), ""])
@pytest.mark.parametrize(
    ("method", "action"), [("GET", "state"), ("GET", "jobs"), ("POST", "save"), ("POST", "submit")]
)
def test_who_may_not_write_cannot_operate(page, operation, method, action, key):
    headers = {"Authorization": f"Apikey {key}"}
    answer = page.request(method, f"/gixi/operate/{action}", headers=headers)
    assert answer.status_code == 403
    assert operation.configurations.versions() == []


def test_a_refused_request_is_logged_with_who_asked(page):
    with capture_logs() as logged:
        assert ask(page, "save", key=READING).status_code == 403
        assert ask(page, "cancel", key="unknown12345").status_code == 403
    assert [(one["event"], one["who"], one["action"]) for one in logged] == [
        ("operation_refused", "viewer", "save"),
        ("operation_refused", "unknown", "cancel"),
    ]


@pytest.mark.parametrize(("key", "offered"), [(KEY, True), (READING, False), ("", False)])
def test_the_page_offers_operating_to_those_who_could_write(page, key, offered):
    answer = page.get("/gixi/health.json", headers={"Authorization": f"Apikey {key}"})
    assert answer.json()["operated"] is offered


def test_the_cookie_of_a_session_does_not_operate(page):
    headers = {"Authorization": f"Apikey {KEY}", "sec-fetch-site": "same-origin"}
    assert page.request("POST", "/gixi/session", headers=headers).status_code == 204
    assert page.get("/gixi/operate/state").status_code == 403
    assert page.request("POST", "/gixi/operate/cancel", json={}).status_code == 403


def test_a_server_that_is_not_operated_has_no_such_page(page):
    tiled = Starlette(routes=[Route(RIGHTS_PATH, _rights)])
    view = Browser(LiveView(tiled, KEY))
    assert ask(view, "check").status_code in {404, 405}
    assert view.get("/gixi/health.json").json()["operated"] is False


def test_the_form_holds_what_decides_results_only(page):
    known = page.get("/gixi/operate/state", headers={"Authorization": f"Apikey {KEY}"}).json()
    assert set(known["schema"]["properties"]) == {
        "geometry", "grid", "corrections", "detector", "matching", "cuts", "textures", "tracks",
    }  # fmt: skip
    assert "device" not in known["schema"]["$defs"]["DetectorSettings"]["properties"]
    assert known["configuration"]["detector"] == {"weights": "classical"}
    assert known["who"] == "operator"


def test_a_version_keeps_the_servers_own_sections_and_is_read_back(page, operation):
    detector = {"weights": "classical", "score_threshold": 0.7}
    answer = ask(
        page, "save", configuration=edited(operation, detector=detector), note="less\nnoise"
    )
    assert answer.status_code == 200, answer.text
    version = answer.json()
    assert (version["number"], version["who"], version["note"]) == (1, "operator", "less noise")
    config = load_config(operation.configurations.file(1))
    assert config.detector.score_threshold == 0.7
    own = operation.configurations.base
    same = {"detector": config.detector}
    assert config == own.model_copy(update=same)
    assert config.detector.device == "cpu"
    again = ask(page, "save", configuration=edited(operation)).json()
    assert again["number"] == 2
    assert [one.number for one in operation.configurations.versions()] == [2, 1]
    assert operation.configurations.editable(1)["detector"] == detector


@pytest.mark.parametrize(
    ("sections", "reported"),
    [
        ({"slurm": {"prologue": ["rm -rf ~"]}}, "slurm cannot be edited"),
        ({"output": {"directory": "/elsewhere"}}, "output cannot be edited"),
        ({"steps": [{"name": "x"}]}, "steps cannot be edited"),
        ({"detector": {"device": "cuda"}}, "detector.device decides no result"),
        ({"matching": {"cif": ["/etc/passwd"]}}, "/etc/passwd is not a file of the server"),
        ({"detector": {"weights": "/x/other.onnx"}}, "/x/other.onnx is not a file"),
        ({"corrections": {"flat": "/x/flat.npy"}}, "/x/flat.npy is not a file"),
    ],
)
def test_what_is_the_servers_own_cannot_be_edited(page, operation, sections, reported):
    answer = ask(page, "save", configuration=edited(operation, **sections))
    assert answer.status_code == 422
    assert reported in answer.json()["detail"]
    assert operation.configurations.versions() == []
    (problem,) = operation.configurations.problems(edited(operation, **sections))
    assert reported in problem.message


def test_another_structure_beside_the_servers_own_may_be_chosen(operation):
    matching = {"cif": [str(shipped_cifs()["LaB6"])]}
    config = operation.configurations.validated(edited(operation, matching=matching))
    assert [path.stem for path in config.matching.cif] == ["LaB6"]


def test_wrong_values_are_reported_at_their_keys(page, operation):
    tree = edited(operation, grid={"q_max_inv_angstrom": -1, "colour": "red"})
    known = ask(page, "check", configuration=tree).json()
    assert {one["where"] for one in known["problems"]} == {"grid.q_max_inv_angstrom", "grid.colour"}
    assert known["findings"] == []


@pytest.mark.slow
def test_the_findings_of_check_are_those_of_the_parts(page, operation):
    known = ask(page, "check", configuration=edited(operation)).json()
    parts = {one["part"]: one for one in known["findings"]}
    assert set(parts) == {"geometry", "mask", "corrections", "structures", "weights"}
    assert all(one["ok"] for one in parts.values()), parts
    assert "MAPbBr3" in parts["structures"]["detail"]


def test_every_action_is_recorded_with_who_and_when(page, operation, tmp_path):
    ask(page, "save", configuration=edited(operation), note="first")
    ask(page, "submit", version=1, tasks=2)
    ask(page, "submit", version=9)
    lines = (tmp_path / "operations" / "operations.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [one["action"] for one in entries] == ["save", "submit", "submit"]
    assert {one["who"] for one in entries} == {"operator"}
    assert all(one["when"].endswith("+00:00") for one in entries)
    assert entries[0]["details"]["note"] == "first"
    assert "kafka.bootstrap" in entries[1]["outcome"]
    assert "no version 9" in entries[2]["outcome"]
    assert KEY not in "".join(lines)
    known = page.get("/gixi/operate/state", headers={"Authorization": f"Apikey {KEY}"}).json()
    assert known["record"] == entries[::-1]


def test_requests_are_bounded_and_strict(page):
    assert ask(page, "save", note="x" * 1_100_000).status_code == 413
    assert ask(page, "save", colour="red").status_code == 422
    assert ask(page, "try", run="a/b").status_code == 422
