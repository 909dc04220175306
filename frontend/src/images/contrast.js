/** Counts become levels 0…255; 256 stands for no data. */

/** @typedef {'linear' | 'log' | 'equalised'} Contrast */
/** @typedef {ArrayLike<number>} Values */

/** @type {Contrast[]} */
export const CONTRASTS = ['linear', 'log', 'equalised'];

export const NO_DATA = 256;

const SAMPLES = 20_000;
const STEPS = 16_384;
const LOW = 0.005;
const HIGH = 0.998;

/** Values from `least` up to below `most` are data. @typedef {{least: number, most: number}} Valid */

/** @type {Valid} all but NaN and infinities */
export const FINITE = { least: -Number.MAX_VALUE, most: Infinity };

/**
 * @param {Values} values NaN = no data
 * @param {Contrast} contrast
 * @param {Valid} valid
 * @returns {Uint16Array}
 */
export function levels(values, contrast, valid = FINITE) {
  const sorted = sample(values, valid);
  const result = new Uint16Array(values.length).fill(NO_DATA);
  if (!sorted.length) return result;
  // The curve is looked up: 30 images a second leave no time for a logarithm a pixel.
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  const scale = high > low ? (STEPS - 1) / (high - low) : 0;
  const level = curve(sorted, contrast);
  const table = Uint8Array.from({ length: STEPS }, (_, step) => level(low + step / (scale || 1)));
  const { least, most } = valid;
  for (let index = 0; index < values.length; index++) {
    const value = values[index];
    if (!(value >= least && value < most)) continue;
    const step = ((value - low) * scale + 0.5) | 0;
    result[index] = table[step < 0 ? 0 : step < STEPS ? step : STEPS - 1];
  }
  return result;
}

/**
 * Detector images mark what is no data by negative counts or the largest integer of their type.
 * @param {string} dtype as numpy writes it
 * @returns {Valid}
 */
export function validCounts(dtype) {
  if (dtype[1] === 'f') return FINITE;
  const bits = Number(dtype.slice(2)) * 8;
  return { least: 0, most: dtype[1] === 'u' ? 2 ** bits - 1 : 2 ** (bits - 1) - 1 };
}

/**
 * @param {Float64Array} sorted
 * @param {Contrast} contrast
 * @returns {(value: number) => number}
 */
function curve(sorted, contrast) {
  const at = (/** @type {number} */ share) => sorted[Math.round(share * (sorted.length - 1))];
  if (contrast === 'equalised') return equalised(sorted);
  const low = at(LOW);
  const high = Math.max(at(HIGH), low + 1e-9);
  if (contrast === 'linear') return (value) => clamp(((value - low) / (high - low)) * 255);
  // Counts near zero must not take half of the colours.
  const unit = Math.max((at(0.5) - low) / 4, (high - low) / 2000);
  const scale = 255 / Math.log1p((high - low) / unit);
  return (value) => clamp(Math.log1p(Math.max(value - low, 0) / unit) * scale);
}

/**
 * @param {Float64Array} sorted
 * @returns {(value: number) => number}
 */
function equalised(sorted) {
  const edges = Float64Array.from({ length: 255 }, (_, level) =>
    sorted[Math.min(Math.floor(((level + 1) / 256) * sorted.length), sorted.length - 1)],
  );
  return (value) => {
    let [low, high] = [0, 255];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (edges[middle] <= value) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/**
 * @param {Values} values
 * @param {Valid} valid
 */
function sample(values, { least, most }) {
  const step = Math.max(1, Math.floor(values.length / SAMPLES));
  const found = [];
  for (let index = 0; index < values.length; index += step) {
    if (values[index] >= least && values[index] < most) found.push(values[index]);
  }
  return Float64Array.from(found).sort();
}

/** @param {number} level */
function clamp(level) {
  return level < 0 ? 0 : level > 255 ? 255 : Math.round(level);
}
