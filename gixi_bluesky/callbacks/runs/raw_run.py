"""The state of one raw run: its image key, and each frame with its number and location."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gixi_bluesky.callbacks.documents.condition_lookup import ConditionLookup
from gixi_bluesky.callbacks.documents.document_types import (
    Datum,
    Descriptor,
    Document,
    Event,
    Resource,
    RunStart,
    RunStop,
    StreamDatum,
    StreamResource,
)
from gixi_bluesky.callbacks.documents.value_sources import DarkStream
from gixi_bluesky.callbacks.images.classic_resources import classic_image
from gixi_bluesky.callbacks.images.inline_images import inline_image
from gixi_bluesky.callbacks.images.locations import (
    EventImage,
    FrameRef,
    Unreadable,
)
from gixi_bluesky.callbacks.images.source_names import source_name
from gixi_bluesky.callbacks.images.stream_resources import stream_image
from gixi_bluesky.callbacks.runs.actions import (
    Action,
    Frame,
    FrameTimed,
    RawRun,
    RunClosed,
    RunOpened,
)
from gixi_bluesky.callbacks.runs.dark_streams import RunDarks
from gixi_bluesky.callbacks.runs.frame_numbers import FrameNumbers
from gixi_bluesky.callbacks.runs.frame_sums import FrameSums
from gixi_bluesky.callbacks.runs.image_key_choice import ImageKeyChoice
from gixi_bluesky.callbacks.runs.left_alone import RunsLeftAlone
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.errors import DocumentError, FrameError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.clock import SYSTEM_CLOCK, Clock
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.settings import CorrectionSettings

__all__ = [
    "Action",
    "Frame",
    "FrameTimed",
    "RawRun",
    "RunClosed",
    "RunOpened",
    "RunTracker",
]

_BASELINE = "baseline"
_KEPT = 100_000  # datums and event times that wait for their counterpart
_MAX_IMAGES_PER_DOCUMENT = 200_000
_MAX_IMAGES = 10_000_000  # of a run
_MISSING_LISTED = 100
_log = get_logger()


class RunTracker:
    """Follows the documents of one raw run and one of its streams.

    corrections: whether images are summed, and whether another stream holds their dark
    left_alone: where a run without images for the analysis is recorded
    """

    def __init__(
        self,
        start: RunStart,
        settings: InputSettings,
        lookup: ConditionLookup,
        corrections: CorrectionSettings | None = None,
        clock: Clock = SYSTEM_CLOCK,
        left_alone: RunsLeftAlone | None = None,
    ) -> None:
        self.start = start
        self._key = ImageKeyChoice(start.uid, settings, left_alone)
        self._clock = clock
        corrections = corrections or CorrectionSettings()
        self._sums = FrameSums(corrections)
        self._darks: RunDarks | None = None
        self._dark_tracker: RunTracker | None = None
        if isinstance(dark := corrections.dark, DarkStream):
            self._darks = RunDarks(start.uid, dark)
            update = {"stream": dark.stream, "data_key": dark.data_key or settings.data_key}
            theirs = settings.model_copy(update=update)
            self._dark_tracker = RunTracker(start, theirs, ConditionLookup({}), clock=clock)
        self._settings = settings
        self._lookup = lookup
        self._descriptors: dict[str, Descriptor] = {}
        self._baseline: dict[str, Any] = {}
        self._resources: dict[str, Resource | StreamResource] = {}
        self._datums: OrderedDict[str, Datum] = OrderedDict()
        self._events: OrderedDict[int, Event] = OrderedDict()  # for frames that come after them
        self._untimed: OrderedDict[int, None] = OrderedDict()  # frames that came before them
        self._waiting: dict[int, tuple[float, StreamDatum, int]] = {}
        self._seen = FrameNumbers()
        self._per_event = 1
        self._opened = False

    def missing(self, document: Document) -> str | None:
        """Return the datum id that an event refers to and that has not come yet."""
        if isinstance(document, Event) and self._ours(document.descriptor):
            value = document.data.get(self._key.name or "")
            if isinstance(value, str) and value not in self._datums:
                return value
        return None if self._dark_tracker is None else self._dark_tracker.missing(document)

    def by_found(self, datum: StreamDatum) -> StreamDatum | None:
        """Return a datum by the resource of Tiled that replaces one from before this process.

        Tiled gives resources new uids. None where the two may be numbered differently.
        """
        found = [
            resource
            for resource in self._resources.values()
            if isinstance(resource, StreamResource) and resource.data_key == self._key.name
        ]
        if (
            len(found) == 1
            and "template" not in found[0].parameters
            and datum.first_seq_num == datum.first_index + 1
            and self._ours(datum.descriptor)
            and self._descriptors[datum.descriptor].image_keys == (self._key.name,)
        ):
            return replace(datum, resource=found[0].uid)
        return None

    def feed(self, document: Document) -> Iterator[Action]:
        """Process a document of this run whose references are known."""
        if self._dark_tracker is not None and self._darks is not None:
            yield from self._darks.take(self._dark_tracker.feed(document))
        yield from self._made(self._feed(document))

    def _made(self, actions: Iterator[Action]) -> Iterator[Action]:
        """Return the actions with single images summed and with their dark."""
        summed = self._sums(actions)
        return summed if self._darks is None else self._darks(summed)

    def _feed(self, document: Document) -> Iterator[Action]:
        match document:
            case Descriptor():
                self._describe(document)
            case Resource() | StreamResource():
                self._resources.setdefault(document.uid, document)
            case Datum():
                _keep(self._datums, document.datum_id, document)
            case Event():
                yield from self._event(document)
            case StreamDatum() if self._ours(document.descriptor):
                yield from self._stream_datum(document)
            case RunStop():
                yield from self._stop(document)
            case _:
                pass

    @property
    def waits(self) -> bool:
        """True if frames wait for their event, so that `tick` is needed."""
        return bool(self._waiting)

    def tick(self, now: float) -> Iterator[Action]:
        """Give up waiting for events that are overdue at `now` (Clock.monotonic)."""
        overdue = [seq for seq, (deadline, _, _) in self._waiting.items() if deadline <= now]
        for seq_num in overdue:
            yield from self._made(self._release(seq_num))

    def _ours(self, descriptor: str) -> bool:
        found = self._descriptors.get(descriptor)
        return (
            found is not None
            and self._key.name is not None
            and found.stream == self._settings.stream
        )

    def _describe(self, descriptor: Descriptor) -> None:
        if descriptor.uid in self._descriptors:
            return
        self._descriptors[descriptor.uid] = descriptor
        self._key.describe(descriptor)

    def _event(self, event: Event) -> Iterator[Action]:
        descriptor = self._descriptors.get(event.descriptor)
        if descriptor is None:
            message = f"event: {event.descriptor!r:.80} is no descriptor of its run"
            raise DocumentError(message)
        if descriptor.stream == _BASELINE:
            self._baseline.update(event.data)
        if not self._ours(event.descriptor):
            return
        if self._key.name in event.data:
            yield from self._images_of(event, descriptor)
            return
        if event.seq_num in self._untimed:
            del self._untimed[event.seq_num]
            yield FrameTimed(self.start.uid, event.seq_num, event.time)
        else:
            _keep(self._events, event.seq_num, event)
        if event.seq_num in self._waiting:
            yield from self._release(event.seq_num)

    def _images_of(self, event: Event, descriptor: Descriptor) -> Iterator[Action]:
        """Yield the frames of an event that holds its images or names their datum."""
        value = event.data[self._key.name or ""]
        stack, size = self._key.layout(descriptor)
        n = math.prod(stack)
        for image in range(n):
            ref: FrameRef
            if isinstance(value, str):
                ref = self._classic(value, EventImage(image, stack, size))
            else:
                ref = inline_image(value, image, n, size)
            yield from self._frame(event.seq_num, image, n, ref, descriptor, event)

    def _classic(self, datum_id: str, wanted: EventImage) -> FrameRef:
        datum = self._datums.get(datum_id)
        resource = self._resources.get(datum.resource) if datum is not None else None
        if datum is None or not isinstance(resource, Resource):
            return Unreadable("unavailable", f"the datum {datum_id!r:.80} never came")
        spec = self._settings.specs.get(resource.spec, resource.spec)
        return classic_image(replace(resource, spec=spec), datum, wanted)

    def _stream_datum(self, datum: StreamDatum) -> Iterator[Action]:
        # Without the datum at the stop, it is unknown whether it was of the image key.
        resource = self._resources.get(datum.resource)
        if not isinstance(resource, StreamResource) or resource.data_key != self._key.name:
            return
        descriptor = self._descriptors[datum.descriptor]
        self._require_images(datum.count * math.prod(self._key.stack(resource, descriptor)))
        deadline = self._clock.monotonic() + self._settings.file_timeout_s
        awaited = self._lookup.in_events(descriptor)
        for i in range(datum.count):
            seq_num = datum.first_seq_num + i
            if awaited and seq_num not in self._events:
                self._waiting.setdefault(seq_num, (deadline, datum, i))
            else:
                yield from self._stream_frames(datum, i)

    def _stream_frames(self, datum: StreamDatum, i: int) -> Iterator[Action]:
        """Yield the frames of the i-th event of a stream datum."""
        resource, descriptor = self._resources[datum.resource], self._descriptors[datum.descriptor]
        if not isinstance(resource, StreamResource):
            return
        stack, size = self._key.stack(resource, descriptor), self._key.layout(descriptor)[1]
        seq_num, n = datum.first_seq_num + i, math.prod(stack)
        event = self._events.pop(seq_num, None)
        for image in range(n):
            ref = stream_image(resource, datum.first_index + i, EventImage(image, stack, size))
            yield from self._frame(seq_num, image, n, ref, descriptor, event)
        if event is None:
            _keep(self._untimed, seq_num, None)

    def _require_images(self, n: int) -> None:
        """Raise DocumentError when one document, or all of the run, announce too many images."""
        if n > _MAX_IMAGES_PER_DOCUMENT or n + self._seen.count > _MAX_IMAGES:
            message = (
                f"stream_datum: got {n} images after {self._seen.count}; expected at most "
                f"{_MAX_IMAGES_PER_DOCUMENT} in one document and {_MAX_IMAGES} in a run"
            )
            raise DocumentError(message)

    def _release(self, seq_num: int) -> Iterator[Action]:
        _, datum, i = self._waiting.pop(seq_num)
        yield from self._stream_frames(datum, i)

    def _frame(
        self,
        seq_num: int,
        image: int,
        per_event: int,
        ref: FrameRef,
        descriptor: Descriptor,
        event: Event | None,
    ) -> Iterator[Action]:
        number = (seq_num - 1) * per_event + image
        if not self._seen.add(number):
            return
        self._per_event = per_event
        yield from self._open()
        source = source_name(ref, self.start.uid, seq_num)
        conditions = Conditions()
        try:
            data = event.data if event is not None else {}
            conditions = self._lookup.conditions(data, descriptor, self._baseline, self.start)
        except FrameError as error:
            ref = Unreadable("failed", str(error))
        yield Frame(
            run_uid=self.start.uid,
            number=number,
            seq_num=seq_num,
            time=event.time if event is not None else math.nan,
            image=ref,
            conditions=conditions,
            received=self._clock.monotonic(),
            arrived=self._clock.wall(),
            source=source,
        )

    def _open(self) -> Iterator[Action]:
        if self._key.name is not None and not self._opened:
            self._opened = True
            yield RunOpened(RawRun(self.start, self._settings.stream, self._key.name))

    def _stop(self, stop: RunStop) -> Iterator[Action]:
        for seq_num in tuple(self._waiting):
            yield from self._release(seq_num)
        if self._key.name is None:
            self._key.leave_without_stream(self._descriptors.values())
            return
        announced = max(stop.num_events.get(self._settings.stream, 0), 0) * self._per_event
        n_missing, missing = self._seen.gaps(announced, _MISSING_LISTED)
        if n_missing:
            yield from self._open()
        if self._opened:
            yield RunClosed(self.start.uid, stop, self._seen.count, n_missing, missing)


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    kept[key] = value
    while len(kept) > _KEPT:
        kept.popitem(last=False)
