from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import yaml

from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.tiled_adapters.server.configuration import (
    KEY_VARIABLE,
    read_server_config,
    server_config,
)
from gixi_bluesky.tiled_adapters.server.embedded import (
    EmbeddedServer,
    configured_server,
    embedded_server,
)


def test_no_one_enters_without_the_key(tiled_server: EmbeddedServer) -> None:
    assert httpx.get(f"{tiled_server.uri}/metadata/gixi").status_code == 401
    wrong = {"Authorization": "Apikey 0123456789abcdef"}
    assert httpx.get(f"{tiled_server.uri}/metadata/gixi", headers=wrong).status_code == 401


def test_the_key_is_not_reported_by_the_object(tiled_server: EmbeddedServer) -> None:
    assert tiled_server.api_key not in repr(tiled_server)


@pytest.mark.server
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


@pytest.mark.server
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


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEY_VARIABLE, "fromenvironment")
    return tmp_path / "server.yml"


def test_a_configuration_of_tiled_gets_what_our_runs_need(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIXI_TEST_DATABASE", "sqlite:///here.db")
    config_file.write_text("catalog: {uri: $GIXI_TEST_DATABASE}\nuvicorn: {port: 9000}\n")
    config = read_server_config(config_file)
    assert config["catalog"]["uri"] == "sqlite:///here.db"
    assert list(config["catalog"]["adapters_by_mimetype"]) == ["application/x-gixi-hdf5"]
    assert "application/json-seq" in config["media_types"]["BlueskyRun"]
    assert config["authentication"] == {
        "allow_anonymous_access": False,
        "single_user_api_key": "fromenvironment",
    }
    assert config["uvicorn"] == {"port": 9000}


def test_what_a_configuration_says_itself_stays(config_file: Path) -> None:
    reported = {
        "catalog": {"uri": "sqlite://", "adapters_by_mimetype": {"image/x": "a:B"}},
        "media_types": {"BlueskyRun": {"text/x": "a:b"}, "array": {"text/y": "a:c"}},
        "authentication": {"providers": [{"provider": "site"}], "allow_anonymous_access": True},
    }
    config_file.write_text(yaml.safe_dump(reported))
    config = read_server_config(config_file)
    assert config["authentication"] == reported["authentication"]
    assert config["catalog"]["adapters_by_mimetype"]["image/x"] == "a:B"
    assert config["media_types"]["BlueskyRun"]["text/x"] == "a:b"
    assert config["media_types"]["array"] == {"text/y": "a:c"}


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (None, "cannot read the server configuration"),
        ("catalog: [", "is no YAML"),
        ("trees: []", "has no section `catalog`"),
        ("catalog: {uri: 'sqlite://', init_if_not_exists: perhaps}", "init_if_not_exists"),
    ],
)
def test_a_wrong_configuration_is_reported_without_the_key(
    config_file: Path, text: str | None, reported: str
) -> None:
    if text is not None:
        config_file.write_text(text)
    with pytest.raises(ConfigError, match=reported) as refused, configured_server(config_file):
        pass
    assert "fromenvironment" not in str(refused.value)
