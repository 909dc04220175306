"""Keys become cookies, cookies open Tiled for reading only."""

from __future__ import annotations

import httpx
import pytest
from asgi_browser import BASE, Browser
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gixi_bluesky.web import LiveView, page_address, viewing_key
from gixi_bluesky.web.page import HEADERS
from gixi_bluesky.web.sessions import Sessions

KEY = "abcdefgh12345678"


def _echo(request: Request) -> Response:
    return PlainTextResponse(request.headers.get("authorization", "none"))


@pytest.fixture
def browser() -> Browser:
    tiled = Starlette(
        routes=[Route("/api/v1/echo", _echo, methods=["GET", "POST", "PATCH", "DELETE"])]
    )
    return Browser(LiveView(tiled, KEY))


def _sign_in(browser: Browser, key: str) -> httpx.Response:
    return browser.request("POST", "/gixi/session", headers={"Authorization": f"Apikey {key}"})


def test_the_viewing_key_opens_tiled_without_giving_the_api_key_away(browser):
    answer = _sign_in(browser, viewing_key(KEY))
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert KEY not in cookie
    assert browser.get("/api/v1/echo").text == f"Apikey {KEY}"


def test_an_api_key_of_a_user_is_passed_on_as_it_is(browser):
    _sign_in(browser, "0123abcd" * 8)
    assert browser.get("/api/v1/echo").text == f"Apikey {'0123abcd' * 8}"


@pytest.mark.parametrize(
    ("path", "session", "asked"),
    [
        ("array/full/a", True, "identity"),
        ("array/full/a", False, "zstd"),
        ("search/a", True, "zstd"),
    ],
)
def test_images_of_the_page_are_not_compressed(path, session, asked):
    def encoding(request: Request) -> Response:
        return PlainTextResponse(request.headers["accept-encoding"])

    browser = Browser(LiveView(Starlette(routes=[Route(f"/api/v1/{path}", encoding)]), KEY))
    if session:
        _sign_in(browser, viewing_key(KEY))
    answer = browser.get(f"/api/v1/{path}", headers={"Accept-Encoding": "zstd"})
    assert answer.text == asked


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_the_cookie_opens_nothing_but_reading(browser, method):
    _sign_in(browser, viewing_key(KEY))
    assert browser.request(method, "/api/v1/echo").text == "none"


def test_an_authorization_header_wins_over_the_cookie(browser):
    _sign_in(browser, viewing_key(KEY))
    answer = browser.get("/api/v1/echo", headers={"Authorization": "Bearer other"})
    assert answer.text == "Bearer other"


def test_leaving_removes_the_cookie(browser):
    _sign_in(browser, viewing_key(KEY))
    assert browser.request("DELETE", "/gixi/session").status_code == 204
    assert browser.get("/api/v1/echo").text == "none"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer abcdefgh12345678"},
        {"Authorization": "Apikey short"},
        {"Authorization": "Apikey a;b=c\r\nX: y"},
    ],
)
def test_what_is_no_key_makes_no_session(browser, headers):
    answer = browser.request("POST", "/gixi/session", headers=headers)
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers


def test_another_site_cannot_make_a_session(browser):
    headers = {"Authorization": f"Apikey {viewing_key(KEY)}", "Sec-Fetch-Site": "cross-site"}
    assert browser.request("POST", "/gixi/session", headers=headers).status_code == 403


def _websocket(**headers: str) -> dict[str, object]:
    return {
        "type": "websocket",
        "path": "/api/v1/stream/single/gixi",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


@pytest.mark.parametrize(
    ("origin", "opened"),
    [("http://h:8000", True), ("http://h:9000", False), ("http://evil", False), (None, False)],
)
def test_websockets_of_other_origins_get_no_key(origin, opened):
    headers = {"host": "h:8000", "cookie": f"gixi_session_8000={viewing_key(KEY)}"}
    if origin:
        headers["origin"] = origin
    scope = Sessions(KEY).authorized(_websocket(**headers))
    assert ((b"authorization", f"Apikey {KEY}".encode()) in scope["headers"]) is opened


def test_servers_on_other_ports_have_sessions_of_their_own():
    cookie = f"gixi_session_8000={viewing_key(KEY)}"
    scope = _websocket(host="h:8001", origin="http://h:8001", cookie=cookie)
    assert Sessions(KEY).authorized(scope) is scope


@given(st.text(max_size=200), st.text(alphabet="h[]:8000x", max_size=20))
def test_no_header_breaks_a_request(cookie, host):
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [
            (b"cookie", cookie.encode("latin-1", "replace")),
            (b"host", host.encode()),
        ],
    }
    assert Sessions(KEY).authorized(scope) is scope


def test_the_page_is_shipped_and_keeps_to_itself(browser):
    answer = browser.get("/gixi/")
    assert answer.status_code == 200
    assert '<script type="module" src="live.js">' in answer.text
    for name in ("/gixi/", "/gixi/live.js", "/gixi/style.css", "/gixi/absent.js"):
        headers = browser.get(name).headers
        for header, value in HEADERS.items():
            assert headers[header] == value, name
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "//" not in policy  # no other host


def test_the_page_answers_without_the_last_slash(browser):
    answer = browser.get("/gixi")
    assert answer.headers["location"] == "gixi/"


def test_no_file_outside_the_page_is_served(browser):
    for path in ("/gixi/../sessions.py", "/gixi/%2e%2e/sessions.py", "/gixi/..%2fpage.py"):
        assert browser.get(path).status_code == 404


def test_the_address_holds_the_viewing_key_in_its_fragment():
    address = page_address(BASE, KEY, "beamline/runs")
    assert address == f"{BASE}/gixi/?in=beamline/runs#key={viewing_key(KEY)}"
    assert KEY not in address
    assert page_address(BASE) == f"{BASE}/gixi/"
