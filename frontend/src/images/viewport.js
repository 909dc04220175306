/** The part of a picture that a canvas shows: zoom and pan. */

const CLOSEST = 64;

/**
 * @typedef {{x: number, y: number, zoom: number}} Viewport the picture's pixel in the middle, and
 *   how many times larger than fitting it is shown
 * @typedef {{width: number, height: number}} Size
 */

/**
 * The whole picture.
 * @param {Size} picture
 * @returns {Viewport}
 */
export function whole(picture) {
  return { x: picture.width / 2, y: picture.height / 2, zoom: 1 };
}

/**
 * Canvas pixels per picture pixel.
 * @param {Viewport} view
 * @param {Size} picture
 * @param {Size} canvas
 * @param {boolean} square whether pixels keep their shape
 * @returns {[number, number]}
 */
export function scales(view, picture, canvas, square) {
  const x = canvas.width / picture.width;
  const y = canvas.height / picture.height;
  const fit = Math.min(x, y);
  return square ? [fit * view.zoom, fit * view.zoom] : [x * view.zoom, y * view.zoom];
}

/**
 * @param {Viewport} view
 * @param {Size} picture
 * @param {Size} canvas
 * @param {boolean} square
 */
export function transform(view, picture, canvas, square) {
  const [sx, sy] = scales(view, picture, canvas, square);
  const left = canvas.width / 2 - view.x * sx;
  const top = canvas.height / 2 - view.y * sy;
  return {
    sx,
    sy,
    left,
    top,
    /** @param {[number, number]} point @returns {[number, number]} */
    toCanvas: ([x, y]) => [left + x * sx, top + y * sy],
    /** @param {number} x @param {number} y @returns {[number, number]} */
    toPicture: (x, y) => [(x - left) / sx, (y - top) / sy],
  };
}

/**
 * Zoom by a factor; the point under the cursor stays where it is.
 * @param {Viewport} view
 * @param {number} factor
 * @param {[number, number]} at picture pixel
 * @param {Size} picture
 * @returns {Viewport}
 */
export function zoomed(view, factor, [x, y], picture) {
  const zoom = Math.min(Math.max(view.zoom * factor, 1), CLOSEST);
  const share = view.zoom / zoom;
  return kept({ zoom, x: x + (view.x - x) * share, y: y + (view.y - y) * share }, picture);
}

/**
 * @param {Viewport} view
 * @param {number} dx picture pixels
 * @param {number} dy picture pixels
 * @param {Size} picture
 * @returns {Viewport}
 */
export function panned(view, dx, dy, picture) {
  return kept({ ...view, x: view.x - dx, y: view.y - dy }, picture);
}

/**
 * @param {Viewport} view
 * @param {Size} picture
 * @returns {Viewport}
 */
function kept({ x, y, zoom }, { width, height }) {
  const inside = (/** @type {number} */ place, /** @type {number} */ length) => {
    const half = length / zoom / 2;
    return Math.min(Math.max(place, half), length - half);
  };
  return { zoom, x: inside(x, width), y: inside(y, height) };
}
