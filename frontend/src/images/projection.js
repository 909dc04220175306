/** Where a point of reciprocal space lies in an image: polar (q, phi), cartesian (q_xy, q_z) or
 * detector (column, row). Positions are in pixels of the picture, cell centres at half integers;
 * the picture's first row is on top. */

/**
 * @typedef {import('../data/open_run.js').Grid} Grid
 * @typedef {'polar' | 'q'} Space
 * @typedef {{q: number, phi: number}} Place |q| in 1/angstrom, phi in deg
 */

const RADIANS = Math.PI / 180;

/**
 * The polar picture: |q| to the right, phi upwards.
 * @param {Grid} grid
 */
export function polarProjection({ qMax, nPhi, nQ }) {
  return {
    width: nQ,
    height: nPhi,
    /** @param {Place} place @returns {[number, number]} */
    toPixel: ({ q, phi }) => [
      (q / qMax) * (nQ - 1) + 0.5,
      nPhi - 0.5 - (phi / 90) * (nPhi - 1),
    ],
    /** @param {number} x @param {number} y @returns {Place} */
    toPlace: (x, y) => ({
      q: ((x - 0.5) / (nQ - 1)) * qMax,
      phi: ((nPhi - 0.5 - y) / (nPhi - 1)) * 90,
    }),
    scales: {
      x: linear(0.5, (nQ - 1) / qMax),
      y: linear(nPhi - 0.5, -(nPhi - 1) / 90),
    },
  };
}

/**
 * The (q_xy, q_z) picture: q_xy to the right, q_z upwards, both from 0 to qMax.
 * @param {Grid} grid
 * @param {number} size pixels along each side
 */
export function cartesianProjection({ qMax }, size = 640) {
  const scale = (size - 1) / qMax;
  return {
    width: size,
    height: size,
    /** @param {Place} place @returns {[number, number]} */
    toPixel: ({ q, phi }) => [
      q * Math.cos(phi * RADIANS) * scale + 0.5,
      size - 0.5 - q * Math.sin(phi * RADIANS) * scale,
    ],
    /** @param {number} x @param {number} y @returns {Place} */
    toPlace: (x, y) => {
      const [qXY, qZ] = [(x - 0.5) / scale, (size - 0.5 - y) / scale];
      return { q: Math.hypot(qXY, qZ), phi: Math.atan2(qZ, qXY) / RADIANS };
    },
    scales: { x: linear(0.5, scale), y: linear(size - 0.5, -scale) },
  };
}

/**
 * The picture of a stored image on (q_z, q_xy), the highest q_z on top.
 * @param {{columns: number, rows: number}} image
 * @param {[number, number]} qXY first and last value of its axis
 * @param {[number, number]} qZ
 * @returns {Projection}
 */
export function storedProjection({ columns, rows }, qXY, qZ) {
  const [across, up] = [(columns - 1) / (qXY[1] - qXY[0]), (rows - 1) / (qZ[1] - qZ[0])];
  const x0 = 0.5 - qXY[0] * across;
  const y0 = rows - 0.5 + qZ[0] * up;
  return {
    width: columns,
    height: rows,
    toPixel: ({ q, phi }) => [
      x0 + q * Math.cos(phi * RADIANS) * across,
      y0 - q * Math.sin(phi * RADIANS) * up,
    ],
    toPlace: (x, y) => {
      const [alongXY, alongZ] = [(x - x0) / across, (y0 - y) / up];
      return {
        q: Math.hypot(alongXY, alongZ),
        phi: Math.atan2(alongZ, Math.abs(alongXY)) / RADIANS,
      };
    },
    scales: { x: linear(x0, across), y: linear(y0, -up) },
  };
}

/**
 * @param {number} origin pixel of the value 0
 * @param {number} step pixels a unit
 * @returns {import('./ticks.js').Scale}
 */
function linear(origin, step) {
  return {
    toPixel: (value) => origin + value * step,
    toValue: (pixel) => (pixel - origin) / step,
  };
}

/** @typedef {ReturnType<typeof polarProjection>} Projection */

/**
 * For every pixel of a picture the index into a polar image, -1 = outside.
 * @param {Grid} grid
 * @param {Projection} projection
 * @returns {Int32Array}
 */
export function polarIndex({ qMax, nPhi, nQ }, projection) {
  const index = new Int32Array(projection.width * projection.height).fill(-1);
  for (let y = 0; y < projection.height; y++) {
    for (let x = 0; x < projection.width; x++) {
      const { q, phi } = projection.toPlace(x + 0.5, y + 0.5);
      const column = Math.round((q / qMax) * (nQ - 1));
      const row = Math.round((phi / 90) * (nPhi - 1));
      if (column >= 0 && column < nQ && row >= 0 && row < nPhi) {
        index[y * projection.width + x] = row * nQ + column;
      }
    }
  }
  return index;
}

/**
 * Corners of a box of the polar image, along its outline.
 * @param {{x0: number, y0: number, x1: number, y1: number}} box polar pixels, centres at integers
 * @param {Grid} grid
 * @param {number} steps points on each curved side
 * @returns {Place[]}
 */
export function outline({ x0, y0, x1, y1 }, { qMax, nPhi, nQ }, steps = 12) {
  const q = (/** @type {number} */ x) => (x / (nQ - 1)) * qMax;
  const phi = (/** @type {number} */ y) => (y / (nPhi - 1)) * 90;
  const along = Array.from({ length: steps + 1 }, (_, step) => y0 + ((y1 - y0) * step) / steps);
  return [
    ...along.map((y) => ({ q: q(x0), phi: phi(y) })),
    ...along.reverse().map((y) => ({ q: q(x1), phi: phi(y) })),
  ];
}
