"""The live view: a page beside Tiled that shows runs while they are measured."""

from gixi_bluesky.web.health import Watched
from gixi_bluesky.web.live_view import PATH, LiveView, page_address
from gixi_bluesky.web.sessions import viewing_key

__all__ = ["PATH", "LiveView", "Watched", "page_address", "viewing_key"]
