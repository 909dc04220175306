"""Peak lists of simulated powders, as a detector and the measurement would give them."""

from __future__ import annotations

import numpy as np

from gixi_bluesky.processing.match.lines import visibility_of
from gixi_bluesky.processing.settings import MatchingSettings
from gixi_bluesky.processing.structures.cif_files import read_structures, shipped_cifs
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.types import PolarImage

Q_MAX = 3.9
FIRST_Q, LAST_Q = 0.3, 3.8  # what the simulated detector covers
FWHM = 0.02
SETTINGS = MatchingSettings()
STRUCTURES = read_structures(shipped_cifs().values(), Q_MAX)
BY_SLUG = {s.slug: s for s in STRUCTURES}


def even_frame() -> PolarImage:
    """A frame of even noise; what its counts are does not matter to the matching."""
    q, phi = np.linspace(0, Q_MAX, 512), np.linspace(0, 90, 128)
    intensity = np.full((128, 512), 20, np.float32)
    intensity[:, (q < FIRST_Q) | (q > LAST_Q)] = np.nan
    return PolarImage(intensity, np.full_like(intensity, 5), np.full_like(intensity, 4), q, phi)


FRAME = even_frame()
NOISE = float(np.median(visibility_of(FRAME, Peaks.empty()).noise[150:350]))


def peak_table(q: list[float], intensity: list[float], phi: float = 45.0) -> Peaks:
    q_values, values = np.array(q, float), np.array(intensity, float)
    constant = np.ones(len(q_values))
    return Peaks.from_columns(
        peak=np.arange(len(q_values)),
        q=q_values,
        q_error=0.0003 + FWHM / 2.35 / np.maximum(values / NOISE, 1),
        phi=phi * constant,
        q_xy=q_values,
        q_z=q_values,
        fwhm_q=FWHM * constant,
        fwhm_phi=90 * constant,
        x0=constant,
        y0=constant,
        x1=constant,
        y1=constant,
        score=constant,
        snr=values / NOISE,
        intensity=values,
        intensity_error=NOISE * constant,
        background=constant,
        kind=np.array(["ring"] * len(q_values), object),
        fit_flags=np.zeros(len(q_values), np.int64),
    )


def powder(
    amounts: dict[str, float],
    seed: int,
    *,
    snr: float = 100.0,
    lattice_scale: float = 1.0,
    missing: float = 0.05,
    false: int = 0,
) -> Peaks:
    """Peaks of a mixture: jitter, uneven intensities, lapses of the detector, false peaks."""
    rng = np.random.default_rng(seed)
    q: list[float] = []
    intensity: list[float] = []
    for slug, amount in amounts.items():
        lines = BY_SLUG[slug].reflections
        for line_q, strength in zip(lines.q, lines.intensity, strict=True):
            seen = amount * snr * NOISE * strength * np.exp(rng.normal(0, 0.4))
            at = line_q / lattice_scale * (1 + rng.normal(0, 0.001)) + rng.normal(0, 0.0004)
            visible = FIRST_Q < at < LAST_Q and seen > 8 * NOISE
            near = [i for i, other in enumerate(q) if abs(at - other) <= 0.6 * FWHM]
            if visible and near:  # one peak, at the mean of both
                whole = intensity[near[0]] + seen
                q[near[0]] += (at - q[near[0]]) * seen / whole
                intensity[near[0]] = whole
            elif visible and rng.random() > missing:
                q.append(at)
                intensity.append(seen)
    for _ in range(false):
        q.append(rng.uniform(FIRST_Q, LAST_Q))
        intensity.append(NOISE * np.exp(rng.uniform(np.log(8), np.log(snr))))
    return peak_table(q, intensity)
