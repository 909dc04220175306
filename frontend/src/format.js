/** Numbers as people read them. */

/**
 * @param {number} value
 * @param {number} digits after the point
 */
export function fixed(value, digits) {
  return Number.isFinite(value) ? value.toFixed(digits) : '–';
}

/**
 * A number with about three significant digits: 1234 is 1.23e3, 12.3 is 12.3.
 * @param {number} value
 */
export function short(value) {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

/**
 * Value and error with as many digits as the error deserves: 1.05902 ± 0.00012.
 * @param {number} value
 * @param {number} error
 * @param {number} most digits after the point
 */
export function withError(value, error, most = 5) {
  if (!Number.isFinite(value)) return '–';
  if (!(error > 0) || !Number.isFinite(error)) return value.toFixed(Math.min(most, 4));
  const digits = Math.min(Math.max(1 - Math.floor(Math.log10(error)), 0), most);
  return `${value.toFixed(digits)} ± ${error.toFixed(digits)}`;
}

/** @param {number} value 0…1 */
export function percent(value) {
  if (!Number.isFinite(value)) return '–';
  if (value > 0.999) return '>99.9 %';
  if (value > 0 && value < 0.001) return '<0.1 %';
  return `${(value * 100).toFixed(value >= 0.1 ? 0 : 1)} %`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** @param {number[]} hkl */
export function millerIndices(hkl) {
  return hkl.map((index) => (index < 0 ? `${-index}\u0305` : String(index))).join('');
}

/**
 * A number with its noun: 1 peak, 2 peaks.
 * @param {number} number
 * @param {string} noun in the singular
 * @param {string} plural
 */
export function count(number, noun, plural = `${noun}s`) {
  return `${number} ${number === 1 ? noun : plural}`;
}
