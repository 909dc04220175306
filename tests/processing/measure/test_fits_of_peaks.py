"""Fits of peaks: scipy as the independent reference, true errors, and no warning on any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import curve_fit

from gixi_bluesky.processing.evaluation.known_peaks import known_frames
from gixi_bluesky.processing.evaluation.pulls import measured_pulls, summarise
from gixi_bluesky.processing.measure.gaussian_fit import (
    CENTRE,
    HEIGHT,
    LOG_SIGMA,
    PARAMETERS,
    PER_PEAK,
    Profiles,
    fit_gaussians,
)
from gixi_bluesky.processing.measure.peaks import measure
from gixi_bluesky.processing.tables import FIT_FAILED
from gixi_bluesky.processing.types import Detections, PolarImage

X = np.linspace(-4, 4, 57)
FREE = 1e3


def two_gaussians(x, h, c, s, level, slope, curvature, h2, c2, s2):
    first = h * np.exp(-0.5 * ((x - c) / np.exp(s)) ** 2)
    second = h2 * np.exp(-0.5 * ((x - c2) / np.exp(s2)) ** 2)
    return first + second + level + slope * x + curvature * x**2


def test_a_pair_one_fwhm_apart_is_fitted_as_scipy_fits_it():
    """Values and errors, with the same data, weights and start and without priors."""
    rng = np.random.default_rng(4)
    truth = (1.0, 0.05, np.log(0.42), 0.3, 0.02, 0.001, 0.5, 1.03, np.log(0.45))
    start = np.array([0.8, 0.0, np.log(0.4), 0.2, 0.0, 0.0, 0.6, 1.0, np.log(0.4)])
    errors = 0.01 + 0.02 * rng.random(len(X))
    y = two_gaussians(X, *truth) + errors * rng.normal(size=len(X))
    reference, covariance = curve_fit(
        two_gaussians, X, y, p0=start, sigma=errors, absolute_sigma=True
    )
    row = lambda values: values[None]  # noqa: E731 - one profile
    fit = fit_gaussians(
        Profiles(row(X), row(y), np.ones((1, 57)), row(errors**-2), row(errors**2)),
        row(start),
        np.full((1, PARAMETERS + PER_PEAK), FREE),
    )
    stated = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(abs(fit.parameters[0] - reference), 0.1 * stated)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance[0])), stated, rtol=0.05)


def test_errors_come_from_the_variance_and_not_from_the_weights():
    """Even weights on uneven noise: the scatter of many fits is what each of them states."""
    rng = np.random.default_rng(5)
    truth = np.array([1.0, 0.1, np.log(0.5), 0.2, 0.0, 0.0])
    model = np.exp(-0.5 * ((X - 0.1) / 0.5) ** 2) + 0.2
    n, variance = 400, 0.01 * model
    y = model + np.sqrt(variance) * rng.normal(size=(n, len(X)))
    x = np.tile(X, (n, 1))
    profiles = Profiles(x, y, np.ones_like(x), np.full_like(x, 50.0), np.tile(variance, (n, 1)))
    start = np.tile([0.8, 0.0, np.log(0.4), 0.2, 0.0, 0.0], (n, 1))
    fit = fit_gaussians(profiles, start, np.full_like(start, FREE))
    for parameter in (HEIGHT, CENTRE, LOG_SIGMA):
        pulls = (fit.parameters[:, parameter] - truth[parameter]) / fit.error(parameter)
        assert pulls.std() == pytest.approx(1, abs=0.12)


@pytest.mark.slow
def test_errors_are_true_alone_and_in_pairs():
    """As `gixi-bluesky evaluate --measuring`, on fewer frames: chance moves the widths by 0.15."""
    report = summarise(measured_pulls(known_frames(2, 16), measure))
    assert report.dq_bins < 0.1
    assert report.untrusted < 0.1
    for pull in report.pulls:
        assert 0.5 < pull.width < 1.6, pull
        assert abs(pull.median) < 0.8, pull
    assert np.median([p.width for p in report.pulls]) == pytest.approx(1, abs=0.15)


@st.composite
def images(draw):
    shape = (draw(st.integers(33, 70)), draw(st.integers(33, 80)))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    steep = draw(st.sampled_from([0.0, 1.0, 30.0]))
    size = 10.0 ** draw(st.integers(-6, 12))
    image = rng.poisson(5 + 100 * np.exp(-steep * np.arange(shape[1]) / 10), shape) * size
    image = image.astype(np.float32)
    for _ in range(draw(st.integers(0, 3))):
        row, column = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        image[row : row + 5, column : column + 3] = draw(
            st.sampled_from([0.0, -1e3, 1e6, 1e15, float("nan")])
        )
    lacking = np.isnan(image)
    variance = draw(st.sampled_from([abs(image) * size, 0 * image, image.astype(float) ** 2]))
    pixels = np.where(lacking, 0, rng.uniform(0.01, 3, shape)).astype(np.float32)
    variance = np.where(lacking, np.nan, variance).astype(np.float32)
    q, phi = np.linspace(0, 3, shape[1]), np.linspace(0, 90, shape[0])
    return PolarImage(image, variance, pixels, q, phi)


BOXES = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 8), st.just(4)), elements=st.floats(-20, 120, width=32)
)


@settings(max_examples=60, deadline=None)
@given(images(), BOXES)
def test_no_input_overflows_or_gives_numbers_that_are_none(polar, boxes):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        table = measure(polar, Detections(boxes, np.ones(len(boxes), np.float32))).frame()
    known = ["q", "q_error", "phi", "phi_error", "fwhm_q", "fwhm_q_error", "fwhm_phi"]
    assert np.isfinite(table[[*known, "snr", "intensity"]].to_numpy()).all()
    assert (table[["q_error", "fwhm_q", "fwhm_phi"]].to_numpy() > 0).all()
    without = table.intensity_error.isna()
    assert (table.fit_flags[without] & FIT_FAILED).all()
