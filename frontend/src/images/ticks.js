/** Scales along the edges of a picture: round values of what lies to the right and upwards. */

import { ticks } from '../plots/export.js';

/**
 * @typedef {{toPixel: (value: number) => number, toValue: (pixel: number) => number}} Scale linear
 * @typedef {{x: Scale, y: Scale}} Scales
 */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {ReturnType<typeof import('./viewport.js').transform>} placed
 * @param {Scales} scales
 * @param {{width: number, height: number}} size of the canvas
 * @param {number} unit size of one CSS pixel
 */
export function drawTicks(context, placed, scales, { width, height }, unit) {
  const [left, top] = placed.toPicture(0, 0);
  const [right, bottom] = placed.toPicture(width, height);
  context.font = `${11 * unit}px system-ui, sans-serif`;
  context.strokeStyle = context.fillStyle = '#ffffffb0';
  context.lineWidth = unit;
  context.textAlign = 'center';
  for (const value of between(scales.x.toValue(left), scales.x.toValue(right))) {
    const [x] = placed.toCanvas([scales.x.toPixel(value), 0]);
    if (x < 24 * unit || x > width - 90 * unit) continue;
    line(context, [x, height], [x, height - 5 * unit]);
    context.fillText(String(value), x, height - 8 * unit);
  }
  context.textAlign = 'left';
  for (const value of between(scales.y.toValue(bottom), scales.y.toValue(top))) {
    const [, y] = placed.toCanvas([0, scales.y.toPixel(value)]);
    if (y < 30 * unit || y > height - 22 * unit) continue;
    line(context, [0, y], [5 * unit, y]);
    context.fillText(String(value), 8 * unit, y + 4 * unit);
  }
}

/**
 * @param {number} low
 * @param {number} high
 */
function between(low, high) {
  return ticks([Math.min(low, high), Math.max(low, high)]).filter((value) => value >= 0);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number]} from
 * @param {[number, number]} to
 */
function line(context, from, to) {
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}
