import assert from 'node:assert/strict';
import test from 'node:test';

import { peakProfile } from '../src/data/peak_profile.js';

const GRID = { qMax: 2, nPhi: 31, nQ: 201 };
const PEAK = { q: 1, fwhm_q: 0.0471, x0: 97, y0: 10, x1: 103, y1: 20 };

/** @param {(q: number, row: number) => number} counts */
function image(counts) {
  const values = Float32Array.from({ length: 31 * 201 }, (_, place) =>
    counts((place % 201) / 100, Math.floor(place / 201)),
  );
  return { rows: 31, columns: 201, values };
}

test('the profile of a Gaussian peak is its fit', () => {
  const bell = (/** @type {number} */ q) => 5 + 40 * Math.exp(-0.5 * ((q - 1) / 0.02) ** 2);
  const shown = peakProfile(image((q, row) => (row === 12 ? NaN : bell(q))), GRID, PEAK);
  assert.ok(shown);
  assert.ok(shown.q[0] < 0.92 && shown.q[shown.q.length - 1] > 1.08);
  for (const [place, q] of shown.q.entries()) {
    assert.ok(Math.abs(shown.mean[place] - bell(q)) < 1e-4);
    assert.ok(Math.abs(shown.fit[place] - bell(q)) < 0.1, `${q}: ${shown.fit[place]}`);
  }
});

test('a box without data has no profile, a flat one has a flat fit', () => {
  assert.equal(peakProfile(image(() => NaN), GRID, PEAK), null);
  const flat = peakProfile(image(() => 3), GRID, PEAK);
  assert.ok(flat?.fit.every((value) => Math.abs(value - 3) < 1e-6));
});
