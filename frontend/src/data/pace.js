/** How fast frames come and how long they take, from the rows of `frames`. */

const RECENT = 20;

/**
 * Frames per second over the last frames, by the times at which they were measured.
 * @param {import('./row_table.js').RowTable} frames
 */
export function frameRate(frames) {
  const times = frames
    .column('raw_time')
    .filter(Number.isFinite)
    .sort((a, b) => a - b)
    .slice(-RECENT);
  const span = times[times.length - 1] - times[0];
  return times.length > 1 && span > 0 ? (times.length - 1) / span : NaN;
}

/**
 * Median seconds from the arrival of a frame to its result, over the last frames.
 * @param {import('./row_table.js').RowTable} frames
 */
export function latency(frames) {
  const values = frames.column('latency').slice(-RECENT).filter(Number.isFinite);
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}
