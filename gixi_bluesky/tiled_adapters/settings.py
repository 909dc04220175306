"""Settings of the output: what is stored and where."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import Field, field_validator

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.settings import FilePath, PositiveFloat, Settings

__all__ = ["OutputSettings", "TiledSettings", "holds_secret", "public_address"]

_MAX_DECODINGS = 8
# Parts of a server's address that may hold a key: user, query, fragment, or the key's name.
_SECRET = re.compile(r"[@?#\\\s\x00-\x1f]|api[-_.]?key|(key|token|password|secret)=", re.IGNORECASE)


class OutputSettings(Settings):
    """Output of results: arrays, their number, and the interval of flushes."""

    directory: Path = Path("results")
    images: str = Field("all", description="all | none | every_N, N a number")
    q_images: str = Field(
        "none", description="images on (q_xy, q_z): all | none | every_N, N a number"
    )
    arrays: Literal["external", "tiled", "none"] = Field(
        "external",
        description="external: files below `directory`, which the server must see; "
        "tiled: uploaded to the server; none: tables only",
    )
    repack: bool = Field(
        True,
        description="at the end of a run its images go into `<uid>.nxs`, which then needs no other "
        "file; false: they stay in the parts beside it",
    )
    storage_timeout_s: PositiveFloat = Field(
        20.0,
        description="how long a flush waits for the disk; then its images are left out, with the "
        "reason in `frames`, and the run goes on",
    )
    flush_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    dois: dict[Literal["raw", "processed", "software", "article"], str] = Field(
        default_factory=dict, description="what the results belong to, such as raw: 10.1234/abc"
    )
    live_s: PositiveFloat = Field(3.0, description="how often `gixi_live` is refreshed")

    @field_validator("images", "q_images")
    @classmethod
    def _known(cls, value: str) -> str:
        if not re.fullmatch(r"all|none|every_[1-9][0-9]*", value):
            message = f"got {value!r}; expected all, none or every_N such as every_10"
            raise ValueError(message)
        return value

    @field_validator("dois")
    @classmethod
    def _bare(cls, values: dict[str, str]) -> dict[str, str]:
        bare = {
            key: re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", values[key]) for key in values
        }
        for value in bare.values():
            if not re.fullmatch(r"10\.\d{4,9}/\S+", value):
                message = f"got {value!r}; expected a DOI such as 10.5281/zenodo.1234"
                raise ValueError(message)
        return bare

    @property
    def image_step(self) -> int:
        """Every how many frames a polar image is kept; 0 = none."""
        return _step_of(self.images)

    @property
    def q_image_step(self) -> int:
        """Every how many frames an image on (q_xy, q_z) is kept; 0 = none."""
        return _step_of(self.q_images)

    @property
    def row_step(self) -> int:
        """Row k of both kinds of images is frame k · row_step; 0 = there are no images."""
        return math.gcd(self.image_step, self.q_image_step)

    def for_sums_of(self, n: int) -> OutputSettings:
        """Return the settings for frames that are numbered in steps of `n`."""
        steps = {"images": self.image_step, "q_images": self.q_image_step}
        values = {name: f"every_{n * step}" for name, step in steps.items() if step and n > 1}
        return self.model_copy(update=values) if values else self


def _step_of(images: str) -> int:
    if images == "none":
        return 0
    return 1 if images == "all" else int(images.removeprefix("every_"))


class TiledSettings(Settings):
    """The Tiled server; the key comes from a file or from TILED_API_KEY, never from here."""

    uri: str | None = Field(None, description="http(s)://HOST[:PORT][/PATH], without a key")
    raw: str = Field("raw", description="path of the raw catalogue on the server")
    derived: str = Field("gixi", description="path of the derived catalogue on the server")
    api_key_file: FilePath | None = None
    access_tags: Literal["from_raw"] | tuple[str, ...] | None = None

    @field_validator("uri")
    @classmethod
    def _public(cls, value: str | None) -> str | None:
        return None if value is None else public_address(value)


def public_address(uri: str) -> str:
    """Return the address of a server if it holds no key.

    Raises ConfigError, without repeating the address, for one with a user, a query or a fragment,
    percent-encoded or not.
    """
    if holds_secret(uri):
        message = (
            "the address of the Tiled server has a user, a query, a fragment or a key in it; give "
            "http(s)://HOST[:PORT][/PATH] only, and the key in tiled.api_key_file or TILED_API_KEY"
        )
        raise ConfigError(message)
    return uri


def holds_secret(uri: str) -> bool:
    """Return whether an address may carry a key or a password."""
    decoded = uri
    for _ in range(_MAX_DECODINGS):
        encoded, decoded = decoded, unquote(decoded)
        if decoded == encoded:
            return _SECRET.search(decoded) is not None
    return True
