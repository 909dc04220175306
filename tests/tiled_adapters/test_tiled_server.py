from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.tiled_adapters.server import EmbeddedServer, embedded_server
from gixi_bluesky.tiled_adapters.server_config import KEY_VARIABLE, server_config


def test_nobody_enters_without_the_key(tiled_server: EmbeddedServer) -> None:
    assert httpx.get(f"{tiled_server.uri}/metadata/gixi").status_code == 401
    wrong = {"Authorization": "Apikey 0123456789abcdef"}
    assert httpx.get(f"{tiled_server.uri}/metadata/gixi", headers=wrong).status_code == 401


def test_the_key_is_not_told_by_the_object(tiled_server: EmbeddedServer) -> None:
    assert tiled_server.api_key not in repr(tiled_server)


def test_servers_of_one_process_keep_their_own_keys_and_runs(
    tiled_server: EmbeddedServer, tmp_path: Path
) -> None:
    with embedded_server(tmp_path) as other:
        assert list(other.client()) == ["raw", "gixi"]
        assert "gixi" in tiled_server.client()
        assert other.api_key != tiled_server.api_key
    with embedded_server(tmp_path, api_key="a" * 20) as again:
        assert again.api_key == "a" * 20
        assert list(again.client()) == ["raw", "gixi"]


def test_a_port_in_use_is_a_clear_error(tiled_server: EmbeddedServer, tmp_path: Path) -> None:
    port = int(tiled_server.uri.rsplit(":", 1)[1].split("/")[0])
    with (
        pytest.raises(StoreError, match=f"127.0.0.1:{port}.*choose another port"),
        embedded_server(tmp_path, port=port),
    ):
        pass


def test_the_key_comes_from_the_argument_the_environment_or_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(given: str | None) -> str:
        return str(server_config(tmp_path, api_key=given)["authentication"]["single_user_api_key"])

    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert len(key(None)) == 64
    assert key(None) != key(None)
    monkeypatch.setenv(KEY_VARIABLE, "fromenvironment")
    assert key(None) == "fromenvironment"
    assert key("fromargument") == "fromargument"
    with pytest.raises(ConfigError, match="4 characters"):
        key("abc-")


def test_only_the_folder_and_what_is_named_are_served(tmp_path: Path) -> None:
    config = server_config(tmp_path / "home", readable=["/data"])
    assert config["catalog"]["readable_storage"] == [
        (tmp_path / "home").as_uri(),
        "file:///data",
    ]
    assert config["authentication"]["allow_anonymous_access"] is False
