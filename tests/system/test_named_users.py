"""Users of a Tiled server with an authenticator and access tags: who may watch, who may operate."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from live_pages import LivePage, chromium
from scan_publisher import GEOMETRY
from served import Server
from tiled.access_control.access_tags import AccessTagsCompiler
from tiled.access_control.scopes import ALL_SCOPES
from tiled.client import from_uri
from tiled.server.settings import DatabaseSettings
from tiled.structures.core import Spec
from tiled_servers import start_document

pytestmark = [pytest.mark.system, pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(900)]

PASSWORDS = {"admin": "admins-own", "operator": "writes-film", "viewer": "reads-film"}
READS = ["read:metadata", "read:data"]
WRITES = [*READS, "write:metadata", "write:data", "create:node"]
TAGS = {
    "tags": {
        "film": {
            "users": [{"name": "operator", "scopes": WRITES}, {"name": "viewer", "scopes": READS}]
        },
        "private": {"users": [{"name": "operator", "scopes": WRITES}]},
    }
}
CATALOGUE = Spec("CatalogOfBlueskyRuns", version="3.0")
ACTIONS = ("check", "try", "save", "submit", "cancel", "reprocess", "stop")


class NamedServer(Server):
    """A server whose users have names; admin is its administrator."""

    def __init__(self, folder: Path) -> None:
        self.catalogue = f"sqlite:///{folder / 'catalog.db'}"
        config = {
            "authentication": {
                "providers": [
                    {
                        "provider": "site",
                        "authenticator": "tiled.authenticators:DictionaryAuthenticator",
                        "args": {"users_to_passwords": PASSWORDS},
                    }
                ],
                "tiled_admins": [{"provider": "site", "id": "admin"}],
                "secret_keys": ["signs-the-tokens-of-all-the-users-in-this-test"],
            },
            "database": {"uri": f"sqlite:///{folder / 'users.db'}", "init_if_not_exists": True},
            "access_control": {
                "access_policy": "tiled.access_control.access_policies:TagBasedAccessPolicy",
                "args": {
                    "provider": "site",
                    "access_tags_parser": "tiled.access_control.access_tags:AccessTagsParser",
                },
            },
            "catalog": {
                "uri": self.catalogue,
                "init_if_not_exists": True,
                "writable_storage": [(folder / "data").as_uri()],
                "top_level_access_tags": ["public"],
            },
            "streaming_cache": {"uri": "memory"},
        }
        own = {"geometry": GEOMETRY, "detector": {"weights": "classical"}}
        (folder / "tiled.yml").write_text(yaml.safe_dump(config))
        (folder / "own.yaml").write_text(yaml.safe_dump(own))
        self.operations = folder / "operations"
        options = {
            "--config": folder / "tiled.yml",
            "--operate": folder / "own.yaml",
            "--operations": self.operations,
        }
        super().__init__(folder, *(str(word) for pair in options.items() for word in pair))

    def await_answer(self) -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.uri}/").is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        pytest.fail("the server did not start")

    def key(self, user: str, scopes: list[str]) -> str:
        """Return an API key of a user, as the page makes one."""
        form = {"grant_type": "password", "username": user, "password": PASSWORDS[user]}
        token = httpx.post(
            f"{self.uri}/auth/provider/site/token", data=form, timeout=180
        ).raise_for_status()
        made = httpx.post(
            f"{self.uri}/auth/apikey",
            headers={"Authorization": f"Bearer {token.json()['access_token']}"},
            json={"scopes": scopes, "expires_in": 600},
            timeout=180,
        )
        return str(made.raise_for_status().json()["secret"])


async def define_tags(catalogue: str) -> None:
    """Write TAGS into the database of the catalogue."""
    compiler = AccessTagsCompiler(ALL_SCOPES, TAGS, DatabaseSettings(uri=catalogue), None)
    compiler.load_tag_config()
    await compiler.compile()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamedServer]:
    """A server with one run for both users and one for operator alone."""
    one = NamedServer(tmp_path_factory.mktemp("named"))
    one.start()
    try:
        with ThreadPoolExecutor(1) as beside:  # playwright's loop runs in this thread
            beside.submit(asyncio.run, define_tags(one.catalogue)).result()
        root = from_uri(one.uri, api_key=one.key("admin", ["inherit"]), timeout=httpx.Timeout(180))
        one.contexts.append(root.context)
        for name in ("raw", "gixi"):
            root.create_container(name, specs=[CATALOGUE], access_tags=["film"])
        for sample, tag in (("shared", "film"), ("secret", "private")):
            start = start_document(sample_name=sample)
            root["gixi"].create_container(
                start["uid"], metadata={"start": start}, specs=["GIXIRun"], access_tags=[tag]
            )
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


def signed_in(browser: Any, server: NamedServer, user: str) -> LivePage:
    """Return a page on which a user has signed in by name and password."""
    tab = LivePage(browser.new_context(viewport={"width": 1280, "height": 900}).new_page())
    tab.open(f"{server.uri.removesuffix('/api/v1')}/gixi/")
    tab.until(lambda: tab.all("sign-in").count() == 1)
    give_name(tab, user, "Sign in")
    tab.until(lambda: tab.all("run").count() > 0)
    assert all("401" in error for error in tab.errors)  # before the user had signed in
    tab.errors.clear()
    return tab


def give_name(tab: LivePage, user: str, button: str) -> None:
    tab.page.get_by_label("Name").fill(user)
    tab.page.get_by_label("Password").fill(PASSWORDS[user])
    tab.page.get_by_role("button", name=button, exact=True).click()


def only_missing(tab: LivePage) -> bool:
    """Return True if nothing went wrong but that the runs hold no tables and images."""
    return all("404" in error for error in tab.errors)


def samples(tab: LivePage) -> str:
    return " ".join(tab.all("run").all_inner_texts())


def test_who_may_only_read_sees_no_panel_and_gets_403_on_every_action(
    browser: Any, server: NamedServer
) -> None:
    with_answer = []
    tab = signed_in(browser, server, "viewer")
    tab.page.on("response", lambda one: with_answer.append(one.url))
    tab.page.reload()
    tab.until(lambda: tab.all("run").count() == 1)
    tab.until(lambda: any(url.endswith("/gixi/health.json") for url in with_answer))
    assert "shared" in samples(tab)
    assert tab.page.get_by_role("button", name="Operate").count() == 0
    assert only_missing(tab)
    tab.page.context.close()

    for scopes in (READS, ["inherit"]):
        headers = {"Authorization": f"Apikey {server.key('viewer', scopes)}"}
        base = server.uri.removesuffix("api/v1")
        with httpx.Client(base_url=base, headers=headers, timeout=180) as viewer:
            assert viewer.get("gixi/health.json").json()["operated"] is False
            answers = [viewer.get(f"gixi/operate/{name}") for name in ("state", "jobs")]
            answers += [viewer.post(f"gixi/operate/{name}", json={}) for name in ACTIONS]
            assert {answer.status_code for answer in answers} == {403}
    assert not (server.operations / "operations.jsonl").exists()


def test_who_may_write_operates_by_name_and_the_record_says_who_and_when(
    browser: Any, server: NamedServer
) -> None:
    tab = signed_in(browser, server, "operator")
    tab.until(lambda: tab.all("run").count() == 2)
    assert "secret" in samples(tab)
    tab.page.get_by_role("button", name="Operate").click()
    give_name(tab, "operator", "Start")
    tab.until(lambda: tab.all("config-form").count() == 1)
    tab.until(lambda: "as operator (site)" in tab.all("operate").inner_text())
    tab.page.locator("[id='detector.score_threshold']").fill("0.8")
    tab.page.get_by_label("Note").fill("by operator")
    tab.page.get_by_role("button", name="Save as a new version").click()
    tab.until(lambda: "operator (site): save done" in tab.all("record").inner_text())
    assert only_missing(tab)
    tab.page.context.close()

    (line,) = (server.operations / "operations.jsonl").read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert (entry["who"], entry["action"]) == ("operator (site)", "save")
    assert entry["when"].endswith("+00:00")
    version = yaml.safe_load((server.operations / "configurations" / "0001.yaml").read_text())
    assert version["detector"]["score_threshold"] == 0.8
