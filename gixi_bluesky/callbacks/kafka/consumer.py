"""A consumer of the group: polls, passes documents on, and commits safe offsets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gixi_bluesky.callbacks.derived.keeping import Ended
from gixi_bluesky.callbacks.documents.budget import payload_bytes
from gixi_bluesky.callbacks.documents.document_types import RunStart, RunStop
from gixi_bluesky.callbacks.documents.parsing import parse
from gixi_bluesky.callbacks.kafka.commits import Commits
from gixi_bluesky.callbacks.kafka.letters import DeadLetters, Letter
from gixi_bluesky.callbacks.kafka.marks import Marks, OpenRun, Partition, Place
from gixi_bluesky.callbacks.kafka.membership import Membership
from gixi_bluesky.callbacks.kafka.offsets import StartAt, end_of, start_offsets
from gixi_bluesky.callbacks.kafka.run_analysis import ConsumedRuns
from gixi_bluesky.callbacks.kafka.wire import decode, encode
from gixi_bluesky.errors import BrokerError, DocumentError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.processes.retries import retrying

__all__ = ["Consumer"]

_POLL_S = 0.05
_COMMIT_S = 1.0
_SILENCE_S = 1.0
_LOST_PAUSE_S = 2.0
_REVOKE_S = 5.0
_ASK_S = 5.0
_QUIET_S = 10.0  # interval of log messages while the broker is away
_log = get_logger()


class Consumer:
    """Reads the topics and feeds the analysis. For one thread, that of `step`.

    A partition's offset moves past a run when that run is stored, and past a dead letter when the
    broker has acknowledged it. Partitions that are lost commit nothing, and their runs are
    released.

    membership: notified of each poll; checked before each write
    lags: by partition, how many messages are not read and how many not committed, each second
    client: builds the confluent_kafka.Consumer; given its callbacks
    abandoned_s: a run that is silent for so long is closed
    """

    def __init__(
        self,
        client: Callable[..., Any],
        topics: tuple[str, ...],
        analysis: ConsumedRuns,
        letters: DeadLetters,
        membership: Membership,
        *,
        start_at: StartAt,
        abandoned_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self.marks = Marks(clock)
        self.last_error = ""
        self.messages = 0
        self._analysis = analysis
        self._letters = letters
        self._membership = membership
        self._noted_at = 0.0
        self._start_at = start_at
        self._abandoned_s = abandoned_s
        self._commits = Commits(self.marks, membership, self._note)
        self._client = client(on_commit=self._commits.done, error_cb=self._note)
        self._paused = False
        self._leaving = False
        self.lags: dict[Place, tuple[int, int]] = {}
        self._commit_at = self._silence_at = 0.0
        self._again: dict[str, float] = {}  # runs lost to another writer → when to read them again
        membership.poll()
        membership.confirm()
        self._client.subscribe(
            list(topics), on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose
        )

    def step(self) -> None:
        """Process the next message, if there is one, and all that is due. Raises BrokerError."""
        if not self._membership.poll():
            self._commits.confirm(self._client)
        message = self._client.poll(_POLL_S)
        if message is not None:
            self._take(message)
        self._analysis.tick()
        self._join()
        self._settle()
        self._hold_back()
        now = self._clock.monotonic()
        if now >= self._silence_at:
            self._silence_at = now + _SILENCE_S
            self._close_silent()
            self._read_again(now)
        if now >= self._commit_at:
            self._commit_at = now + _COMMIT_S
            self._commit(asynchronous=True)
            self.lags = self._commits.lags(self._client)

    def drain(self, timeout: float, meanwhile: Callable[[], None]) -> None:
        """Finish and store frames in work, commit, and leave queued frames to other consumers.

        meanwhile: called repeatedly while waiting
        """

        def wait() -> None:
            self._come_round()
            meanwhile()

        deadline = self._clock.monotonic() + timeout
        self._leaving = True
        self._client.pause(self._assignment())
        self._paused = True
        self._analysis.drop_waiting()
        while self._analysis.busy and self._clock.monotonic() < deadline:
            self._client.poll(_POLL_S)
            wait()
        left = max(deadline - self._clock.monotonic(), 1.0)
        self._analysis.release(tuple(self.marks.runs), left, meanwhile=wait)
        self._settle()
        self._commit(asynchronous=False)

    def close(self) -> None:
        """Leave the group."""
        self._leaving = True
        self._client.close()

    def topic_of(self, run_uid: str) -> str | None:
        """Return the topic in which a run began."""
        run = self.marks.runs.get(run_uid)
        return None if run is None else run.topic

    def _take(self, message: Any) -> None:
        error = message.error()
        partition = self.marks.partitions.get(Place(message.topic(), message.partition()))
        if error is not None:
            self._take_error(error, partition)
            return
        if partition is None:
            return  # fetched before the partition was revoked
        self.messages += 1
        offset = message.offset()
        partition.passed(offset, message.timestamp()[1] / 1000, self._clock.wall())
        try:
            self._feed(*decode(message.value()), partition, offset)
        except DocumentError as refused:
            partition.held.add(offset)
            key, value = message.key() or b"", message.value()
            origin = (partition.place.topic, partition.place.number, offset)
            self._letters.send(Letter(*origin, key, value, str(refused)))

    def _feed(self, name: str, doc: Mapping[str, Any], partition: Partition, offset: int) -> None:
        documents = parse(name, doc)
        for document in documents:
            # First: the publisher of the derived run needs the topic at once.
            self.marks.saw(document, partition, offset)
        try:
            self._analysis.route(documents, payload_bytes(doc))
        finally:
            for document in documents:
                if isinstance(document, RunStop):
                    self._end_unwanted(document.run_uid)

    def _come_round(self) -> None:
        self._membership.poll()

    def _end_unwanted(self, run_uid: str) -> None:
        """Release the marks of a run that has stopped and has no derived run."""
        if run_uid in self._again or self._analysis.has(run_uid):
            return
        if run_uid in self.marks.runs:
            self.marks.end(run_uid)

    def _take_error(self, error: Any, partition: Partition | None) -> None:
        from confluent_kafka import KafkaError

        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name has it
            if partition is not None:
                partition.reached_end()
        elif error.fatal():
            message = f"Kafka ended this consumer: {error.str()}"
            raise BrokerError(message)
        else:
            self._note(error)

    def _join(self) -> None:
        """Feed the fetched documents of runs that began before this consumer."""
        for found in self._analysis.joined():
            documents = [document for document, _ in found]
            topic = self.marks.topic_awaiting(documents)
            if topic is None:
                continue  # its partition has another owner now, which fetches it itself
            starts = [document for document in documents if isinstance(document, RunStart)]
            for start in starts:
                self.marks.open(start, topic)
            for document in documents:
                self.marks.learn(document)
            try:
                self._analysis.join(found)
            except DocumentError as error:
                _log.warning("document_refused", reason=str(error))
            for start in starts:
                if not self._analysis.follows(start.uid):
                    self._end_unwanted(start.uid)

    def _settle(self) -> None:
        """Record runs and dead letters that became safe."""
        for ended in self._analysis.ended():
            run = self.marks.runs.get(ended.run_uid)
            if run is None:
                continue
            if ended.how == "lost":
                _log.warning("run_read_again", raw_uid=run.uid, reason=ended.reason)
                self._again[run.uid] = self._clock.monotonic() + _LOST_PAUSE_S
            elif ended.how == "failed":
                self._bury(run, ended)
            else:
                self.marks.settle(run.uid)
        for topic, number, offset in self._letters.safe():
            if (partition := self.marks.partitions.get(Place(topic, number))) is not None:
                partition.held.discard(offset)

    def _bury(self, run: OpenRun, ended: Ended) -> None:
        """Turn the start of a run that cannot be stored into a dead letter."""
        reason = f"the run cannot be stored: {ended.reason}"
        for place, offset in run.first.items():
            if (partition := self.marks.partitions.get(place)) is not None:
                partition.held.add(offset)
                value, key = encode("start", run.start), run.uid.encode()
                self._letters.send(Letter(place.topic, place.number, offset, key, value, reason))
        self._analysis.leave_alone(run.uid)
        self.marks.settle(run.uid)

    def _read_again(self, now: float) -> None:
        for uid in [uid for uid, when in self._again.items() if when <= now]:
            del self._again[uid]
            if (run := self.marks.runs.get(uid)) is not None:
                self._rewind(run)

    def _rewind(self, run: OpenRun) -> None:
        """Read a run again from its start."""
        from confluent_kafka import TopicPartition

        self._analysis.release([run.uid], 0.0, flush=False)
        self.marks.forget(run.uid)
        for place, first in run.first.items():
            if (partition := self.marks.partitions.get(place)) is not None:
                partition.position = min(first, partition.position)
                self._seek(TopicPartition(place.topic, place.number, partition.position))

    def _seek(self, target: Any) -> None:
        """Seek in a partition; a new assignment may refuse this for a moment."""
        from confluent_kafka import KafkaException

        again = retrying(KafkaException, patience_s=_ASK_S, first_s=_POLL_S, longest_s=1.0)
        try:
            again(self._client.seek, target)
        except KafkaException as error:
            # Nothing was committed, so that the next consumer reads it all.
            message = f"cannot read {target.topic} again: {error.args[0].str()}"
            raise BrokerError(message) from error

    def _close_silent(self) -> None:
        for run in self.marks.silent(self._abandoned_s):
            if not self._read_to_end(run):
                self.marks.heard(run)
                continue
            _log.warning("run_abandoned", raw_uid=run.uid)
            self._analysis.abandon(run.uid, self._abandoned_s)
            self._end_unwanted(run.uid)

    def _read_to_end(self, run: OpenRun) -> bool:
        """Ask the broker whether the partition has no more messages; unknown while it is away."""
        for place in run.last.keys() & self.marks.partitions.keys():
            partition, end = self.marks.partitions[place], end_of(self._client, place)
            if end is None or (partition.at_end and end > partition.position):
                return False
        return True

    def _hold_back(self) -> None:
        if not self._paused and self._analysis.full:
            self._client.pause(self._assignment())
            self._paused = True
            for partition in self.marks.partitions.values():
                partition.at_end = False  # no longer checked
        elif self._paused and self._analysis.roomy:
            self._client.resume(self._assignment())
            self._paused = False

    def _assignment(self) -> list[Any]:
        from confluent_kafka import TopicPartition

        return [TopicPartition(place.topic, place.number) for place in self.marks.partitions]

    def _assign(self, client: Any, assigned: list[Any]) -> None:
        if self._leaving:
            client.incremental_assign(
                assigned
            )  # one more poll for the group protocol; its message is not used
            return
        found = start_offsets(client, assigned, self._start_at)
        client.incremental_assign(found)
        for one in found:
            self.marks.assign(Place(one.topic, one.partition), one.offset)
        self._letters.look_again()
        self._commits.begin(client, found)
        if self._paused:
            client.pause(assigned)
        _log.info("assigned", partitions=[f"{one.topic}:{one.partition}" for one in found])

    def _revoke(self, _: Any, revoked: list[Any]) -> None:
        places = [Place(one.topic, one.partition) for one in revoked]
        runs = [run for run in self.marks.runs.values() if run.first.keys() & set(places)]
        uids = [run.uid for run in runs]
        self._analysis.release(uids, _REVOKE_S, meanwhile=self._come_round)
        self._settle()
        self._commit(asynchronous=False)
        self._leave(places)
        _log.info("revoked", partitions=[str(place) for place in places])

    def _lose(self, _: Any, lost: list[Any]) -> None:
        """Stop storing and committing for partitions that other consumers already have."""
        places = [Place(one.topic, one.partition) for one in lost]
        runs = [run for run in self.marks.runs.values() if run.first.keys() & set(places)]
        self._analysis.release([run.uid for run in runs], _REVOKE_S, flush=False)
        self._leave(places)
        _log.warning("lost", partitions=[str(place) for place in places])

    def _leave(self, places: list[Place]) -> None:
        for place in places:
            self._analysis.forget_waiting(self.marks.awaited_in(place))
            for run in self.marks.revoke(place):
                self._again.pop(run.uid, None)
                # Its messages in partitions that stay assigned are read again.
                self._rewind(run)

    def _commit(self, *, asynchronous: bool) -> None:
        self.marks.await_only(self._analysis.awaited())
        self._commits.commit(self._client, asynchronous=asynchronous)

    def _note(self, error: Any) -> None:
        self.last_error = error.str()
        if self._clock.monotonic() - self._noted_at > _QUIET_S:
            self._noted_at = self._clock.monotonic()
            _log.warning("kafka_error", error=self.last_error)
