"""The key of the analysed stream that holds the images, and the layout of one event."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gixi_bluesky.callbacks.documents.document_types import Descriptor, StreamResource
from gixi_bluesky.callbacks.images.stream_resources import MAX_IMAGES_PER_EVENT, stream_stack
from gixi_bluesky.callbacks.runs.left_alone import RunsLeftAlone
from gixi_bluesky.callbacks.settings import InputSettings

__all__ = ["ImageKeyChoice"]


class ImageKeyChoice:
    """The key of a run's images, chosen at the first descriptor of the analysed stream.

    left_alone: where a run without images for the analysis is recorded
    name: the key; None before the descriptor, and in a run that is left alone
    """

    def __init__(
        self, run_uid: str, settings: InputSettings, left_alone: RunsLeftAlone | None
    ) -> None:
        self.name: str | None = None
        self._run_uid = run_uid
        self._settings = settings
        self._left_alone = left_alone
        self._refused = False

    def describe(self, descriptor: Descriptor) -> None:
        """Choose the key, if the descriptor is of the analysed stream and none was chosen."""
        if descriptor.stream != self._settings.stream or self.name or self._refused:
            return
        self.name = self._chosen(descriptor)
        self._refused = self.name is None

    def leave_without_stream(self, descriptors: Iterable[Descriptor]) -> None:
        """Record a run that has images, but not in the stream that is analysed."""
        offered = {one.stream for one in descriptors if one.image_keys}
        if self._refused or not offered:
            return
        reason = f"it has no stream {self._settings.stream!r}, which is input.stream"
        streams = ", ".join(map(repr, sorted(offered)))
        self._leave(f"{reason}; there are images in {streams}")

    def layout(self, descriptor: Descriptor) -> tuple[tuple[int, ...], tuple[int, int] | None]:
        """Return (leading axes of one event's data, size of one image) as declared."""
        shape = descriptor.shapes.get(self.name or "", ())
        if len(shape) < 2 or math.prod(shape[:-2]) > MAX_IMAGES_PER_EVENT:
            return (), None
        if self.name in descriptor.unordered:
            return (), None
        return shape[:-2], (shape[-2], shape[-1])

    def stack(self, resource: StreamResource, descriptor: Descriptor) -> tuple[int, ...]:
        """Return the leading axes of what one event has in a stream resource."""
        declared, size = self.layout(descriptor)
        return stream_stack(resource, (*declared, *(size or (0, 0))))

    def _chosen(self, descriptor: Descriptor) -> str | None:
        wanted, found = self._settings.data_key, descriptor.image_keys
        stream = descriptor.stream
        if wanted is not None:
            if wanted in descriptor.keys:
                return wanted
            reason = f"stream {stream!r} has no key {wanted!r}, which is input.data_key"
        elif len(found) == 1:
            return found[0]
        elif found:
            reason = f"stream {stream!r} has {len(found)} image keys; name one as input.data_key"
        else:
            reason = f"stream {stream!r} has no 2-D image"
        self._leave(reason, found)
        return None

    def _leave(self, reason: str, found: tuple[str, ...] = ()) -> None:
        if self._left_alone is not None:
            self._left_alone.add(self._run_uid, reason, found)
