"""Images inside events."""

from __future__ import annotations

from typing import Any

import numpy as np

from gixi_bluesky.callbacks.documents.inbox import LeftOutImage
from gixi_bluesky.callbacks.images.locations import (
    FrameRef,
    InlineImage,
    Unreadable,
    check_image,
)
from gixi_bluesky.errors import FrameError
from gixi_bluesky.plurals import counted

__all__ = ["inline_image"]


def inline_image(value: Any, image: int, n: int, size: tuple[int, int] | None) -> FrameRef:
    """Return image number `image` of the `n` that an event holds, or why it cannot be used.

    size: (rows, columns) that the descriptor declares; None = not declared
    """
    if isinstance(value, LeftOutImage):
        return Unreadable("dropped", value.reason)
    try:
        array = np.asarray(value)
        if array.ndim > 2:
            stack = array.reshape(-1, *array.shape[-2:])
            if len(stack) != n:
                message = (
                    f"the event holds {counted(len(stack), 'image')}; its descriptor announced {n}"
                )
                raise FrameError(message)
            array = stack[image]
        if size is not None and array.shape != size:
            message = f"got an image of {array.shape}; its descriptor announced {size}"
            raise FrameError(message)
        return InlineImage(check_image(array))
    except (TypeError, ValueError) as error:
        return Unreadable("failed", str(error))
