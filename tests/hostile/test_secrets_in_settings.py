"""Keys and passwords in the configuration are refused, and no message repeats them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import GEOMETRY
from pydantic import ValidationError

from gixi_bluesky.callbacks.kafka.settings import KafkaSettings
from gixi_bluesky.config import load_config
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.tiled_adapters.connection import connect
from gixi_bluesky.tiled_adapters.settings import TiledSettings

KEY = "topsecret123"
ADDRESSES = [
    f"http://host:8000/?api_key={KEY}",
    f"http://host:8000/api/v1?API_KEY={KEY}",
    f"http://host:8000/api/v1?x={KEY}",
    f"http://user:{KEY}@host:8000",
    f"http://{KEY}@host:8000",
    f"http://host:8000/#{KEY}",
    f"http://host:8000/%3Fapi_key={KEY}",
    f"http://host:8000/%253Fapi%255Fkey={KEY}",
    f"http://user%3A{KEY}%40host:8000",
    f"http://host:8000/api_key={KEY}",
    f"http://host:8000/;apikey={KEY}",
    f"http://host:8000/a\tb{KEY}",
]


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_key_in_the_address_of_tiled_is_refused(tmp_path: Path, address: str) -> None:
    path = write(tmp_path, yaml.safe_dump({"geometry": GEOMETRY, "tiled": {"uri": address}}))
    for refuse in (
        lambda: load_config(path),
        lambda: TiledSettings(uri=address),
        # As the command line gives it, past the validation.
        lambda: connect(TiledSettings().model_copy(update={"uri": address})),
    ):
        with pytest.raises((ConfigError, ValidationError), match="api_key_file") as refused:
            refuse()
        assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["http://localhost:8000", "https://tiled.site.example/api/v1/metadata/raw", "h:1"]
)
def test_an_address_without_a_key_is_taken(address: str) -> None:
    assert TiledSettings(uri=address).uri == address


SECRETS: list[dict[str, Any]] = [
    {"tiled": {"api_key": KEY}},
    {"tiled": {"uri": {"x": KEY}}},
    {"tiled": f"http://host?api_key={KEY}"},
    {"kafka": KEY},
    {"kafka": {"sasl_password": KEY}},
    {"kafka": {"options": {"SASL.PASSWORD": KEY}}},
    {"kafka": {"options": {"sasl.oauthbearer.config": KEY}}},
    {"kafka": {"options": [KEY, KEY]}},
    {"kafka": {"protocol": KEY}},
]


@pytest.mark.parametrize("section", SECRETS, ids=str)
def test_no_message_repeats_a_secret(tmp_path: Path, section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(write(tmp_path, yaml.safe_dump({"geometry": GEOMETRY, **section})))
    assert KEY not in str(refused.value)


def test_a_syntax_error_does_not_repeat_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2") as refused:
        load_config(write(tmp_path, f"geometry: {{}}\ntiled: {{uri: {KEY}: [\n"))
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "option",
    [
        "ssl.engine.location",
        "SSL.Engine.Location",
        "plugin.library.paths",
        "SASL.PASSWORD",
        "ssl.key.passphrase",
        "ssl.keystore.password",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.assertion.private.key.file",
        "sasl.kerberos.kinit.cmd",
        "sasl.kerberos.keytab",
        "ssl.ca.location",
        "ssl.crl.location",
        "ssl.providers",
        "bootstrap.servers",
        "Metadata.Broker.List",
        "enable.auto.commit",
        "acks",
        "request.required.acks",
        "message.timeout.ms",
        "opaque",
        "no.such.option",
    ],
)
def test_an_option_of_librdkafka_that_is_not_listed_is_refused(option: str) -> None:
    with pytest.raises(ValidationError, match="cannot be set here"):
        KafkaSettings(options={option: "x"})


def test_listed_options_are_taken_in_any_case() -> None:
    assert KafkaSettings(options={"Linger.MS": 5}).options == {"linger.ms": 5}
