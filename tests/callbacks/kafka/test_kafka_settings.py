"""Settings of the consumer: safe by default, and no secret in anything stored or reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import fake_config
from manual_clock import ManualClock
from pydantic import ValidationError

from gixi_bluesky.callbacks.kafka.clients import new_producer
from gixi_bluesky.callbacks.kafka.membership import Membership
from gixi_bluesky.callbacks.kafka.offsets import StartAt
from gixi_bluesky.callbacks.kafka.settings import KafkaSettings
from gixi_bluesky.cli.consume import with_kafka
from gixi_bluesky.config import parse_config
from gixi_bluesky.errors import ConfigError


def test_each_topic_has_its_own_outputs() -> None:
    settings = KafkaSettings(topics=("a", "b", "a"), derived_topic=None)
    assert settings.inputs == {"a": (None, "a.dead-letters"), "b": (None, "b.dead-letters")}
    settings = KafkaSettings(topics=("a",), dead_letter_topic="letters")
    assert settings.inputs == {"a": ("a.gixi", "letters")}


@pytest.mark.parametrize(
    ("wrong", "reported"),
    [
        ({"topics": ["a", "a.gixi"]}, "read and written"),
        ({"topics": ["a b"]}, "expected letters"),
        ({"derived_topic": "{topic}"}, "name of a topic"),
        ({"derived_topic": "{other}.x"}, "name of a topic"),
        ({"group": ""}, "at least 1"),
        ({"options": {"sasl.password": "x"}}, "secrets belong"),
        ({"options": {"ssl.key.pem": "x"}}, "secrets belong"),
        ({"options": {"plugin.library.paths": "/tmp/x.so"}}, "cannot be set"),
        ({"options": {"enable.auto.commit": True}}, "cannot be set"),
        ({"options": {"group.id": "x"}}, "cannot be set"),
        ({"sasl_password": "x"}, "Extra inputs"),
    ],
)
def test_what_is_unsafe_or_wrong_is_refused(wrong: dict[str, Any], reported: str) -> None:
    with pytest.raises(ValidationError, match=reported):
        KafkaSettings.model_validate(wrong)


def test_the_command_line_wins(tmp_path: Path) -> None:
    config = fake_config(tmp_path, kafka={"topics": ["a"], "group": "g", "abandoned_s": 5})
    changed = with_kafka(config, topics=["b"], tiled="http://there")
    assert (changed.kafka.topics, changed.kafka.group) == (("b",), "g")
    assert (changed.kafka.abandoned_s, changed.tiled.uri) == (5, "http://there")
    with pytest.raises(ConfigError, match="expected letters"):
        with_kafka(config, topics=["no topic"])


def test_options_with_dots_survive_storing(tmp_path: Path) -> None:
    """A stored configuration has pairs, since documents cannot hold such keys."""
    pairs = [["linger.ms", 5]]
    config = fake_config(tmp_path, kafka={"options": pairs}, input={"root_map": [["/a", "/b"]]})
    assert config.kafka.options == {"linger.ms": 5}
    assert config.input.root_map == {"/a": "/b"}


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = fake_config(tmp_path, kafka={"shared_spool": "spool", "sasl_password_file": "p.txt"})
    assert config.kafka.shared_spool == tmp_path / "spool"
    assert config.kafka.sasl_password_file == tmp_path / "p.txt"


def test_secrets_come_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = KafkaSettings(
        bootstrap="127.0.0.1:1",
        protocol="sasl_plaintext",
        sasl_mechanism="PLAIN",
        sasl_username="gixi",
        sasl_password_file=tmp_path / "absent.txt",
    )
    with pytest.raises(ConfigError, match="cannot read the password file"):
        new_producer(settings)
    (tmp_path / "absent.txt").write_text("hush\n")
    assert new_producer(settings) is not None
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hush")
    settings = settings.model_copy(update={"sasl_password_file": None})
    assert new_producer(settings) is not None
    assert "hush" not in settings.model_dump_json()
    wrong = settings.model_copy(update={"options": {"no.such.option": "1"}})
    with pytest.raises(ConfigError, match=r"no\.such\.option") as refused:
        new_producer(wrong)
    assert "hush" not in str(refused.value)


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['confluent_kafka'] = None\n"
        "from gixi_bluesky.callbacks.kafka.clients import new_producer\n"
        "from gixi_bluesky.callbacks.kafka.settings import KafkaSettings\n"
        "try: new_producer(KafkaSettings(bootstrap='x:1'))\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'gixi_bluesky[kafka]'" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_service_loads_no_torch() -> None:
    program = (
        "import gixi_bluesky.callbacks.kafka.service, gixi_bluesky.cli.consume, sys\n"
        "sys.exit('torch' in sys.modules or 'confluent_kafka' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("latest", "latest"),
        ("earliest", "earliest"),
        ("1970-01-01T00:01:00+00:00", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
    ],
)
def test_where_a_group_begins(text: str, where: str | float) -> None:
    assert StartAt.parse(text).where == where


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected latest, earliest or a time"):
        StartAt.parse("yesterday")


def test_a_sleeper_is_unsure_until_it_is_counted_in() -> None:
    time = ManualClock()
    may_write = Membership(6, time.clock)
    time.advance(5)
    assert may_write()
    assert may_write.poll()
    time.advance(7)
    assert not may_write()  # asked by a thread that wakes before the main loop
    assert not may_write.poll()
    assert not may_write()
    may_write.confirm()
    assert may_write()
    assert may_write.poll()


def test_a_consumer_needs_roots_topics_and_a_server(tmp_path: Path) -> None:
    from gixi_bluesky.callbacks.kafka.service import Service

    tree: dict[str, Any] = {"geometry": {"poni": "x"}}
    for section, reported in (
        ({"kafka": {"topics": ["a"]}}, "no topic is configured"),
        ({"input": {"roots": ["."]}}, "give input.roots"),
        ({"tiled": {"uri": "http://x"}}, "no Tiled server"),
    ):
        with pytest.raises(ConfigError, match=reported):
            Service(parse_config(tree, folder=tmp_path), StartAt("latest"))
        tree |= section
    Service(parse_config(tree, folder=tmp_path), StartAt("latest"))
