"""Simulated frames of Gaussian peaks whose position, widths and intensity are known exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings
from gixi_bluesky.processing.simulation.panel import Panel, record
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA
from gixi_bluesky.processing.types import Detections, PolarImage

__all__ = ["CLASSES", "KnownFrame", "KnownPeak", "known_frames"]

Float64 = NDArray[np.float64]

CLASSES = {"weak": (5.0, 15.0), "medium": (15.0, 50.0), "strong": (50.0, 200.0)}
_SHAPE, _PIXEL_M = (1043, 981), 0.172e-3
_GRID = GridSettings(q_max_inv_angstrom=3.2)
_SLOTS = np.linspace(0.5, 2.7, 9)  # of |q|, 1/angstrom; wide apart against the widths
_SECTORS = {"spot": (15.0, 35.0, 55.0, 75.0), "segment": (25.0, 63.0)}  # centres, deg
_FRAMES_PER_SCENE = 2
# Errors of the boxes that the default network finds, in units of the widths and of log(width).
_JITTER_CENTRE, _JITTER_LOG_WIDTH = 0.12, 0.25


@dataclass(frozen=True, slots=True)
class KnownPeak:
    """One Gaussian in |q| and phi; rings are even in phi, with fwhm_phi NaN.

    q, fwhm_q: 1/angstrom; phi, fwhm_phi: deg; height: mean counts per pixel on top
    strength: key of CLASSES by its signal-to-noise ratio; paired: another one is one FWHM away
    """

    q: float
    fwhm_q: float
    phi: float
    fwhm_phi: float
    height: float
    strength: str
    paired: bool

    @property
    def ring(self) -> bool:
        """True if it is even in phi."""
        return math.isnan(self.fwhm_phi)

    def shape(self, q: NDArray[np.floating], phi: NDArray[np.floating]) -> Float64:
        """Return the profile at |q| (1/angstrom) and phi (deg), 1 on top."""
        radial = np.exp(-4 * math.log(2) * ((q - self.q) / self.fwhm_q) ** 2)
        return np.asarray(radial * self.course(phi))

    def course(self, phi: NDArray[np.floating]) -> Float64:
        """Return the profile along phi (deg), 1 on top."""
        if self.ring:
            return np.ones(np.shape(phi))
        return np.asarray(np.exp(-4 * math.log(2) * ((phi - self.phi) / self.fwhm_phi) ** 2))


@dataclass(frozen=True, slots=True)
class KnownFrame:
    """A remapped exposure, plausible boxes of a detector, and the peaks in the same order."""

    polar: PolarImage
    boxes: Detections
    peaks: tuple[KnownPeak, ...]

    def intensity(self, index: int) -> float:
        """Return the integral of a peak over |q| and the visible rows of its box."""
        peak, (_, first, _, last) = self.peaks[index], self.boxes.boxes[index]
        core = abs(self.polar.q - peak.q) <= max(peak.fwhm_q / 2, self.polar.q[1])
        seen = np.flatnonzero(np.isfinite(self.polar.intensity[:, core]).any(axis=1))
        rows = np.arange(max(round(first), seen[0]), min(round(last), seen[-1]) + 1)
        along = peak.course(self.polar.phi[rows]).sum() * (self.polar.phi[1] - self.polar.phi[0])
        return float(along * peak.height * peak.fwhm_q * math.sqrt(2 * math.pi) / FWHM_PER_SIGMA)


def known_frames(seed: int, frames: int) -> Iterator[KnownFrame]:
    """Yield frames of rings, segments and spots, alone and in pairs one FWHM apart in |q|.

    A counting detector of one megapixel at 0.25 m; Poisson noise on a background that falls with
    |q|. Each scene is exposed twice.
    """
    rng = np.random.default_rng(seed)
    geometry = Geometry(0.976, 0.25, (_PIXEL_M, _PIXEL_M), (0.02, 0.03))
    pixels = _Pixels.of(Renderer(geometry, _SHAPE))
    remapper = Remapper(geometry, _GRID, CorrectionSettings(), _SHAPE)
    for number in range(frames):
        if number % _FRAMES_PER_SCENE == 0:
            background = rng.uniform(0.5, 20.0) * (1 + 2 * np.exp(-pixels.q))
            peaks = tuple(_peaks(rng, pixels, background))
            expected = pixels.image(background, peaks)
        polar = remapper(record(expected, Panel(), rng))
        boxes = np.array([_box(rng, peak, polar) for peak in peaks], np.float32)
        yield KnownFrame(polar, Detections(boxes, np.ones(len(peaks), np.float32)), peaks)


@dataclass(frozen=True, slots=True)
class _Pixels:
    """The pixels of the detector (n,) in the order of |q|, so that a peak reaches a slice.

    place: flat position on the detector; efficiency: 0 below the horizon
    """

    q: Float64
    phi: Float64
    place: NDArray[np.intp]
    efficiency: Float64

    @classmethod
    def of(cls, renderer: Renderer) -> _Pixels:
        q = np.hypot(renderer.q_xy, renderer.q_z).ravel()
        order = np.argsort(q, kind="stable")
        phi = np.degrees(np.arctan2(renderer.q_z, np.abs(renderer.q_xy))).ravel()
        efficiency = np.where(renderer.above_horizon, renderer.efficiency, 0).ravel()
        sorted_q, sorted_phi = q[order].astype(np.float64), phi[order].astype(np.float64)
        return cls(sorted_q, sorted_phi, order, efficiency[order])

    def near(self, peak: KnownPeak, reach: float) -> slice:
        """Return the pixels within some FWHM of a peak in |q|."""
        off = reach * peak.fwhm_q
        first, last = np.searchsorted(self.q, (peak.q - off, peak.q + off))
        return slice(int(first), int(last))

    def image(self, background: Float64, peaks: tuple[KnownPeak, ...]) -> NDArray[np.float32]:
        """Return the mean counts of every pixel, (rows, columns)."""
        total = background.copy()
        for peak in peaks:
            near = self.near(peak, 3.0)
            total[near] += peak.height * peak.shape(self.q[near], self.phi[near])
        image = np.empty(_SHAPE, np.float32)
        image.ravel()[self.place] = total * self.efficiency
        return image


def _peaks(rng: np.random.Generator, pixels: _Pixels, background: Float64) -> Iterator[KnownPeak]:
    for slot in _SLOTS:
        fwhm_q = rng.uniform(0.012, 0.03)
        kind = str(rng.choice(["ring", "segment", "spot"]))
        for centre in _SECTORS.get(kind, (math.nan,)):
            place = slot + rng.uniform(-0.01, 0.01)
            width = {"ring": math.nan, "segment": rng.uniform(8, 18), "spot": rng.uniform(1.5, 4)}
            paired = rng.random() < 0.5
            for offset in (0.0, fwhm_q) if paired else (0.0,):
                strength = str(rng.choice(list(CLASSES)))
                low, high = CLASSES[strength]
                snr = math.exp(rng.uniform(math.log(low), math.log(high)))
                unit = KnownPeak(place + offset, fwhm_q, centre, width[kind], 1.0, strength, paired)
                yield _scaled(unit, snr, pixels, background)


def _scaled(peak: KnownPeak, snr: float, pixels: _Pixels, background: Float64) -> KnownPeak:
    """Return the peak scaled to the wanted signal / sqrt(signal + background)."""
    near = pixels.near(peak, 1.0)
    q, phi, weight = pixels.q[near], pixels.phi[near], pixels.efficiency[near]
    if not peak.ring:
        weight = np.where(abs(phi - peak.phi) < peak.fwhm_phi, weight, 0)
    signal = float((peak.shape(q, phi) * weight).sum())
    noise = float((background[near] * weight).sum())
    counts = snr**2 / 2 * (1 + math.sqrt(1 + 4 * noise / snr**2))
    return replace(peak, height=counts / signal)


def _box(rng: np.random.Generator, peak: KnownPeak, polar: PolarImage) -> list[float]:
    dq, dphi = polar.q[1] - polar.q[0], polar.phi[1] - polar.phi[0]
    x0, x1 = _about(rng, peak.q / dq, peak.fwhm_q / dq)
    if peak.ring:
        return [x0, 0.0, x1, len(polar.phi) - 1.0]
    # 13.5 % of the maximum: four standard deviations wide
    y0, y1 = _about(rng, peak.phi / dphi, 4 * peak.fwhm_phi / FWHM_PER_SIGMA / dphi)
    return [x0, y0, x1, y1]


def _about(rng: np.random.Generator, centre: float, width: float) -> tuple[float, float]:
    middle = centre + rng.normal(0, _JITTER_CENTRE) * width
    half = width * math.exp(rng.normal(0, _JITTER_LOG_WIDTH)) / 2
    return middle - half, middle + half
