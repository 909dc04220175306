import assert from 'node:assert/strict';
import test from 'node:test';

import { palette } from '../src/images/colour_maps.js';
import { CONTRASTS, levels, NO_DATA, validCounts } from '../src/images/contrast.js';
import {
  cartesianProjection,
  outline,
  polarIndex,
  polarProjection,
  storedProjection,
} from '../src/images/projection.js';
import { panned, transform, whole, zoomed } from '../src/images/viewport.js';

const GRID = { qMax: 3.6, nPhi: 91, nQ: 181 };

/** @param {number} a @param {number} b */
const near = (a, b, tolerance = 1e-9) => assert.ok(Math.abs(a - b) <= tolerance, `${a} and ${b}`);

for (const contrast of CONTRASTS) {
  test(`${contrast} contrast grows with the counts and leaves out what is no data`, () => {
    const values = Float32Array.from({ length: 1000 }, (_, index) => index);
    values[10] = NaN;
    const shown = levels(values, contrast);
    assert.equal(shown[10], NO_DATA);
    const valid = [...shown].filter((level) => level !== NO_DATA);
    assert.ok(valid.every((level, place) => place === 0 || level >= valid[place - 1]));
    assert.ok(valid[0] <= 2);
    assert.ok(valid[valid.length - 1] >= 253);
  });
}

test('equalised levels are used equally often', () => {
  const values = Float64Array.from({ length: 25_600 }, (_, index) => Math.exp(index / 12_000));
  const counts = new Array(256).fill(0);
  for (const level of levels(values, 'equalised')) counts[level] += 1;
  // Looked up in steps of the counts' range: sums over neighbours are equal.
  for (let level = 0; level < 256; level += 8) {
    const sum = counts.slice(level, level + 8).reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(sum - 800) <= 80, `${level}: ${sum}`);
  }
});

test('an image without data has no level', () => {
  assert.ok(levels(new Float32Array([NaN, NaN]), 'log').every((level) => level === NO_DATA));
});

test('detector images: negative counts and the largest integer are no data', () => {
  const shown = (/** @type {number[]} */ values, /** @type {string} */ dtype) =>
    [...levels(values, 'linear', validCounts(dtype))].map((level) => level !== NO_DATA);
  assert.deepEqual(shown([-1, 0, 2 ** 31 - 2, 2 ** 31 - 1], '<i4'), [false, true, true, false]);
  assert.deepEqual(shown([0, 65534, 65535], '<u2'), [true, true, false]);
  assert.deepEqual(shown([-3, NaN, Infinity], '<f4'), [true, false, false]);
});

test('a palette begins dark, ends bright, and no data is transparent', () => {
  const colours = palette('gray');
  assert.equal(colours[0] >>> 0, 0xff000000);
  assert.equal(colours[255] >>> 0, 0xffffffff);
  assert.equal(colours[256], 0);
  assert.equal(palette('gray', true)[0] >>> 0, 0xffffffff);
});

for (const [name, projection] of [
  ['polar', polarProjection(GRID)],
  ['cartesian', cartesianProjection(GRID, 300)],
]) {
  test(`${name}: a place comes back from its pixel`, () => {
    for (const place of [{ q: 1.2, phi: 33 }, { q: 3.1, phi: 88 }, { q: 0.4, phi: 2 }]) {
      const back = projection.toPlace(...projection.toPixel(place));
      near(back.q, place.q);
      near(back.phi, place.phi);
    }
  });
}

test('the scales agree with the projections', () => {
  const polar = polarProjection(GRID);
  const [x, y] = polar.toPixel({ q: 1.3, phi: 40 });
  near(polar.scales.x.toPixel(1.3), x);
  near(polar.scales.y.toValue(y), 40);
  const flat = cartesianProjection(GRID, 300);
  near(flat.scales.x.toPixel(2), flat.toPixel({ q: 2, phi: 0 })[0]);
  near(flat.scales.y.toPixel(2), flat.toPixel({ q: 2, phi: 90 })[1]);
});

test('q_z points upwards and q_xy to the right', () => {
  const { toPixel, height } = cartesianProjection(GRID, 300);
  const [x0, y0] = toPixel({ q: 3.6, phi: 0 });
  const [x90, y90] = toPixel({ q: 3.6, phi: 90 });
  assert.deepEqual([x0, y0], [299.5, height - 0.5]);
  near(x90, 0.5, 1e-9);
  near(y90, 0.5, 1e-9);
});

test('each pixel of the polar picture shows its own bin, row 0 at the bottom', () => {
  const index = polarIndex(GRID, polarProjection(GRID));
  assert.equal(index[(GRID.nPhi - 1) * GRID.nQ], 0);
  assert.equal(index[0], (GRID.nPhi - 1) * GRID.nQ);
  assert.equal(new Set(index).size, GRID.nPhi * GRID.nQ);
});

test('corners of the cartesian picture beyond q_max are outside', () => {
  const index = polarIndex(GRID, cartesianProjection(GRID, 300));
  assert.equal(index[299], -1);
  assert.equal(index[300 * 299], 0);
});

test('the outline of a box follows its corners', () => {
  const places = outline({ x0: 50, y0: 10, x1: 60, y1: 30 }, GRID, 4);
  assert.equal(places.length, 10);
  near(places[0].q, 1);
  near(places[0].phi, 10);
  near(places[5].phi, 30);
  near(places[5].q, 1.2);
});

test('zooming keeps the point under the cursor, and panning stays inside', () => {
  const picture = { width: 200, height: 100 };
  const canvas = { width: 400, height: 400 };
  const before = transform(whole(picture), picture, canvas, true).toCanvas([120, 40]);
  const view = zoomed(whole(picture), 2, [120, 40], picture);
  const after = transform(view, picture, canvas, true).toCanvas([120, 40]);
  near(before[0], after[0]);
  near(before[1], after[1]);
  assert.deepEqual(panned(view, 1e6, 1e6, picture), { zoom: 2, x: 50, y: 25 });
  assert.deepEqual(zoomed(view, 1e-3, [0, 0], picture), whole(picture));
});

test('a stored image on (q_z, q_xy) lies where its axes say', () => {
  const { toPixel, toPlace } = storedProjection({ columns: 401, rows: 201 }, [-2, 2], [0, 2]);
  assert.deepEqual(toPixel({ q: 1, phi: 0 }).map(Math.round), [301, 201]);
  const place = toPlace(...toPixel({ q: 1.2, phi: 33 }));
  near(place.q, 1.2);
  near(place.phi, 33);
  near(toPlace(100.5, 100.5).phi, 45); // the left side is folded
});
