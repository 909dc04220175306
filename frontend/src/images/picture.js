/** An image made ready to be drawn: its colours, and what lies under the cursor. */

import { palette } from './colour_maps.js';
import { FINITE, levels, NO_DATA, validCounts } from './contrast.js';
import { polarIndex } from './projection.js';

/**
 * @typedef {import('../data/image_cache.js').Image} Image
 * @typedef {import('./contrast.js').Contrast} Contrast
 * @typedef {import('./projection.js').Projection} Projection
 * @typedef {object} Picture
 * @property {number} width
 * @property {number} height
 * @property {HTMLCanvasElement} canvas one pixel for each of the picture
 * @property {(x: number, y: number) => number} value counts at a pixel, NaN = no data
 */

/** @type {WeakMap<Image, Map<Contrast, Uint16Array>>} */
const knownLevels = new WeakMap();

/** @type {{key: string, index: Int32Array}[]} */
const knownIndices = [];

/**
 * Polar or cartesian picture of a polar image.
 * @param {Image} image row 0 = phi 0
 * @param {import('../data/open_run.js').Grid} grid
 * @param {Projection} projection
 * @param {Contrast} contrast
 * @param {string} colours
 * @returns {Picture}
 */
export function projectedPicture(image, grid, projection, contrast, colours) {
  const index = indexOf(grid, projection);
  const shown = levelsOf(image, contrast, FINITE);
  const { width, height } = projection;
  return {
    width,
    height,
    canvas: paint(width, height, colours, shown, index),
    value: (x, y) => {
      const place = index[Math.floor(y) * width + Math.floor(x)];
      return place >= 0 ? image.values[place] : NaN;
    },
  };
}

/**
 * A stored image whose first row is shown at the bottom; null if it holds no data.
 * @param {Image} image
 * @param {Contrast} contrast
 * @param {string} colours
 * @returns {Picture | null}
 */
export function storedPicture(image, contrast, colours) {
  const { columns: width, rows: height, values } = image;
  if (!values.some(Number.isFinite)) return null;
  const index = Int32Array.from(values, (_, place) => {
    const row = Math.floor(place / width);
    return (height - 1 - row) * width + (place - row * width);
  });
  return {
    width,
    height,
    canvas: paint(width, height, colours, levelsOf(image, contrast, FINITE), index),
    value: (x, y) => values[(height - 1 - Math.floor(y)) * width + Math.floor(x)] ?? NaN,
  };
}

/**
 * The detector's image, its first row on top.
 * @param {Image} image
 * @param {string} dtype
 * @param {Contrast} contrast
 * @param {string} colours
 * @returns {Picture}
 */
export function detectorPicture(image, dtype, contrast, colours) {
  const { columns: width, rows: height, values } = image;
  const shown = levelsOf(image, contrast, validCounts(dtype));
  return {
    width,
    height,
    canvas: paint(width, height, colours, shown, null),
    value: (x, y) => values[Math.floor(y) * width + Math.floor(x)] ?? NaN,
  };
}

/**
 * @param {Image} image
 * @param {Contrast} contrast
 * @param {import('./contrast.js').Valid} valid
 */
function levelsOf(image, contrast, valid) {
  const known = knownLevels.get(image) ?? new Map();
  knownLevels.set(image, known);
  const there = known.get(contrast);
  if (there) return there;
  const made = levels(image.values, contrast, valid);
  known.clear(); // one contrast at a time: the images themselves fill the memory
  known.set(contrast, made);
  return made;
}

/**
 * @param {import('../data/open_run.js').Grid} grid
 * @param {Projection} projection
 */
function indexOf(grid, projection) {
  const { width, height } = projection;
  const key = `${grid.qMax} ${grid.nPhi} ${grid.nQ} ${width} ${height}`;
  const known = knownIndices.find((one) => one.key === key);
  if (known) return known.index;
  const index = polarIndex(grid, projection);
  knownIndices.push({ key, index });
  if (knownIndices.length > 6) knownIndices.shift();
  return index;
}

/**
 * @param {number} width
 * @param {number} height
 * @param {string} colours
 * @param {Uint16Array} shown levels of the image
 * @param {Int32Array | null} index of each pixel in the image, null = the same
 */
function paint(width, height, colours, shown, index) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const data = context.createImageData(width, height);
  const pixels = new Uint32Array(data.data.buffer);
  const colour = palette(colours);
  if (index) {
    for (let pixel = 0; pixel < pixels.length; pixel++) {
      const place = index[pixel];
      pixels[pixel] = colour[place < 0 ? NO_DATA : shown[place]];
    }
  } else {
    for (let pixel = 0; pixel < pixels.length; pixel++) pixels[pixel] = colour[shown[pixel]];
  }
  context.putImageData(data, 0, 0);
  return canvas;
}
