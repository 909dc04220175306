/** The profile of a peak along |q|, and its fitted shape. */

const AROUND = 1.5;
const LEAST_PIXELS = 4;
const FWHM_PER_SIGMA = 2 * Math.sqrt(2 * Math.log(2));

/**
 * @typedef {import('./image_cache.js').Image} Image
 * @typedef {import('./open_run.js').Grid} Grid
 * @typedef {{q: number[], mean: number[], fit: number[]}} Profile
 */

/**
 * Mean counts along |q| over the rows of a peak's box, and the Gaussian of the stored |q| and FWHM;
 * its height and the level below it follow from the profile. Null where there are no data.
 * @param {Image} image polar, row 0 = phi 0
 * @param {Grid} grid
 * @param {{q: number, fwhm_q: number, x0: number, y0: number, x1: number, y1: number}} peak
 * @returns {Profile | null}
 */
export function peakProfile(image, grid, peak) {
  const margin = Math.max(LEAST_PIXELS, AROUND * (peak.x1 - peak.x0));
  const [first, last] = bounds(peak.x0 - margin, peak.x1 + margin, image.columns);
  const [bottom, top] = bounds(peak.y0, peak.y1, image.rows);
  /** @type {Profile} */
  const profile = { q: [], mean: [], fit: [] };
  for (let column = first; column <= last; column++) {
    let [sum, count] = [0, 0];
    for (let row = bottom; row <= top; row++) {
      const value = image.values[row * image.columns + column];
      if (Number.isFinite(value)) [sum, count] = [sum + value, count + 1];
    }
    if (!count) continue;
    profile.q.push((column / (grid.nQ - 1)) * grid.qMax);
    profile.mean.push(sum / count);
  }
  if (profile.q.length < LEAST_PIXELS) return null;
  const sigma = peak.fwhm_q / FWHM_PER_SIGMA;
  const bell = profile.q.map((q) => Math.exp(-0.5 * ((q - peak.q) / sigma) ** 2));
  const [height, level] = line(bell, profile.mean);
  profile.fit = bell.map((value) => level + height * value);
  return profile;
}

/**
 * @param {number} low
 * @param {number} high
 * @param {number} size
 * @returns {[number, number]} whole pixels within the image
 */
function bounds(low, high, size) {
  return [Math.max(0, Math.round(low)), Math.min(size - 1, Math.round(high))];
}

/**
 * Slope and offset of the straight line through points, by least squares.
 * @param {number[]} x
 * @param {number[]} y
 * @returns {[number, number]}
 */
function line(x, y) {
  const [meanX, meanY] = [x, y].map((all) => all.reduce((a, b) => a + b, 0) / all.length);
  const spread = x.reduce((sum, one) => sum + (one - meanX) ** 2, 0);
  const together = x.reduce((sum, one, place) => sum + (one - meanX) * (y[place] - meanY), 0);
  const slope = spread > 0 ? together / spread : 0;
  return [slope, meanY - slope * meanX];
}
