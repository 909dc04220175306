/** What is drawn over a picture: boxes of peaks, their hkl, lines of structures, the cursor. */

import { millerIndices } from '../format.js';
import { SELECTED, UNEXPLAINED } from '../phase_colours.js';
import { outline } from './projection.js';

const QUARTER = Array.from({ length: 46 }, (_, step) => step * 2);

/**
 * @typedef {import('./projection.js').Place} Place
 * @typedef {{peak: number, q: number, phi: number, x0: number, y0: number, x1: number, y1: number,
 *   phase: string, hkl: number[]}} Marked
 * @typedef {{colour: string, name: string, q: number[]}} Lines
 * @typedef {object} Overlays
 * @property {Marked[]} peaks
 * @property {number | null} selected
 * @property {boolean} boxes
 * @property {boolean} labels
 * @property {Lines[]} lines
 * @property {Place | null} cursor
 * @property {(slug: string) => string} colour
 * @property {import('../data/open_run.js').Grid} grid
 */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {(place: Place) => [number, number]} toCanvas
 * @param {Overlays} overlays
 * @param {number} unit size of one CSS pixel
 */
export function drawOverlays(context, toCanvas, overlays, unit) {
  for (const { colour, q } of overlays.lines) {
    context.strokeStyle = colour;
    context.lineWidth = unit;
    context.setLineDash([4 * unit, 4 * unit]);
    for (const radius of q) trace(context, QUARTER.map((phi) => toCanvas({ q: radius, phi })));
  }
  context.setLineDash([]);
  if (overlays.boxes) {
    for (const peak of overlays.peaks) drawBox(context, toCanvas, overlays, peak, unit);
  }
  if (overlays.labels) drawLabels(context, toCanvas, overlays, unit);
  if (overlays.cursor) drawCursor(context, toCanvas(overlays.cursor), unit);
}

/**
 * The peak whose box lies nearest to a place, if it is near.
 * @param {Marked[]} peaks
 * @param {[number, number]} at canvas pixels
 * @param {(place: Place) => [number, number]} toCanvas
 * @param {import('../data/open_run.js').Grid} grid
 * @param {number} reach canvas pixels
 */
export function peakAt(peaks, [x, y], toCanvas, grid, reach) {
  let best = null;
  let nearest = reach;
  for (const peak of peaks) {
    const points = outline(peak, grid).map(toCanvas);
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
    const dx = Math.max(Math.min(...xs) - x, 0, x - Math.max(...xs));
    const dy = Math.max(Math.min(...ys) - y, 0, y - Math.max(...ys));
    const distance = Math.hypot(dx, dy);
    if (distance < nearest) [best, nearest] = [peak, distance];
  }
  return best;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {(place: Place) => [number, number]} toCanvas
 * @param {Overlays} overlays
 * @param {Marked} peak
 * @param {number} unit
 */
function drawBox(context, toCanvas, { grid, selected, colour }, peak, unit) {
  const chosen = peak.peak === selected;
  context.strokeStyle = chosen ? SELECTED : peak.phase ? colour(peak.phase) : UNEXPLAINED;
  context.lineWidth = (chosen ? 3 : 1.5) * unit;
  context.setLineDash(peak.phase || chosen ? [] : [5 * unit, 3 * unit]);
  trace(context, outline(peak, grid).map(toCanvas), true);
  context.setLineDash([]);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {(place: Place) => [number, number]} toCanvas
 * @param {Overlays} overlays
 * @param {number} unit
 */
function drawLabels(context, toCanvas, { peaks, grid }, unit) {
  context.font = `600 ${12 * unit}px system-ui, sans-serif`;
  context.textAlign = 'left';
  context.lineJoin = 'round';
  context.lineWidth = 3 * unit;
  context.strokeStyle = '#000c';
  context.fillStyle = '#fff';
  /** @type {[number, number, number][]} */
  const taken = [];
  for (const peak of peaks) {
    const top = Math.min(peak.y1, grid.nPhi - 1);
    const [x, y] = toCanvas(outline({ ...peak, x0: peak.x1, y0: top, y1: top }, grid, 1)[0]);
    const text = peak.phase ? millerIndices(peak.hkl) : '?';
    const width = context.measureText(text).width + 3 * unit;
    if (x + width > context.canvas.width || x < 0) continue;
    const free = taken.every(
      ([left, baseline, wide]) =>
        x > left + wide || x + width < left || Math.abs(y - baseline) > 13 * unit,
    );
    if (!free) continue;
    taken.push([x, y, width]);
    context.strokeText(text, x + 2 * unit, y + 10 * unit);
    context.fillText(text, x + 2 * unit, y + 10 * unit);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number]} point
 * @param {number} unit
 */
function drawCursor(context, [x, y], unit) {
  context.strokeStyle = '#fff';
  context.lineWidth = unit;
  const size = 9 * unit;
  trace(context, [[x - size, y], [x + size, y]]);
  trace(context, [[x, y - size], [x, y + size]]);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number][]} points
 * @param {boolean} closed
 */
function trace(context, points, closed = false) {
  context.beginPath();
  points.forEach(([x, y], place) => (place ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (closed) context.closePath();
  context.stroke();
}
