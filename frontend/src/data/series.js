/** What the rows of a run say over time: plain functions from tables to curves. */

import { PRESENT } from './run_info.js';

/**
 * @typedef {import('./row_table.js').RowTable} RowTable
 * @typedef {Record<'frames' | 'peaks' | 'matches' | 'match_peaks' | 'courses' | 'textures', RowTable>} Tables
 * @typedef {{label: string, slug?: string, unit: string, x: number[], y: number[],
 *   low?: number[], high?: number[], points?: boolean}} Curve
 */

/**
 * Seconds since the first frame; frame numbers where the run has no times.
 * @param {RowTable} frames
 * @returns {{at: (frame: number) => number, label: string, start: number,
 *   range: [number, number], frameAt: (x: number) => number}}
 */
export function timeAxis(frames) {
  const numbers = frames.column('frame');
  const times = frames.column('raw_time');
  const order = numbers.map((_, row) => row).sort((a, b) => numbers[a] - numbers[b]);
  const known = order.filter((row) => Number.isFinite(times[row]));
  const start = known.length ? times[known[0]] : NaN;
  const moving = known.length > 1 && times[known[known.length - 1]] > start;
  /** @type {Map<number, number>} */
  const seconds = new Map(known.map((row) => [numbers[row], times[row] - start]));
  const at = moving
    ? (/** @type {number} */ frame) => seconds.get(frame) ?? NaN
    : (/** @type {number} */ frame) => frame;
  const sorted = order.map((row) => numbers[row]);
  return {
    at,
    label: moving ? 'time (s)' : 'frame',
    start: moving ? start : NaN,
    range: span(sorted.map(at)),
    frameAt: (x) => nearest(sorted, x, at),
  };
}

/**
 * Probability of each phase that reached PRESENT in some frame.
 * @param {Tables} tables
 * @param {(frame: number) => number} at
 * @returns {Curve[]}
 */
export function probabilities(tables, at) {
  const { matches } = tables;
  const slugs = present(matches);
  const [frames, phases, values] = ['frame', 'phase', 'probability'].map((name) =>
    matches.column(name),
  );
  return slugs.map((slug) => {
    const rows = rowsWhere(phases, slug);
    return curve(slug, '', rows, (row) => at(frames[row]), (row) => values[row]);
  });
}

/**
 * Summed intensity of the peaks that each present phase explains, per frame.
 * @param {Tables} tables
 * @param {(frame: number) => number} at
 * @returns {Curve[]}
 */
export function phaseIntensities(tables, at) {
  const { frames, peaks, matches, match_peaks: known } = tables;
  const probability = new Map();
  const [mFrame, mPhase, mValue] = ['frame', 'phase', 'probability'].map((n) => matches.column(n));
  mFrame.forEach((frame, row) => probability.set(`${frame} ${mPhase[row]}`, mValue[row]));
  const intensity = new Map();
  const [pFrame, pPeak, pValue] = ['frame', 'peak', 'intensity'].map((n) => peaks.column(n));
  pFrame.forEach((frame, row) => intensity.set(`${frame} ${pPeak[row]}`, pValue[row]));

  /** @type {Map<string, Map<number, number>>} */
  const sums = new Map(present(matches).map((slug) => [slug, new Map()]));
  const counted = new Set();
  const [kFrame, kPeak, kPhase] = ['frame', 'peak', 'phase'].map((n) => known.column(n));
  kFrame.forEach((frame, row) => {
    const phase = kPhase[row];
    const sum = sums.get(phase);
    const id = `${frame} ${kPeak[row]} ${phase}`;
    if (!sum || counted.has(id) || !((probability.get(`${frame} ${phase}`) ?? 0) >= PRESENT)) return;
    counted.add(id);
    sum.set(frame, (sum.get(frame) ?? 0) + (intensity.get(`${frame} ${kPeak[row]}`) || 0));
  });
  const numbers = [...frames.column('frame')].sort((a, b) => a - b);
  return [...sums].map(([slug, sum]) => ({
    label: slug,
    slug,
    unit: 'counts',
    x: numbers.map(at),
    y: numbers.map((frame) => sum.get(frame) ?? 0),
  }));
}

/**
 * |q| of all peaks over time, one curve for each phase that explains them and one for the rest.
 * @param {Tables} tables
 * @param {(frame: number) => number} at
 * @returns {Curve[]}
 */
export function peakPositions(tables, at) {
  const { peaks } = tables;
  const explained = explanations(tables);
  const [frames, numbers, q] = ['frame', 'peak', 'q'].map((name) => peaks.column(name));
  /** @type {Map<string, number[]>} */
  const groups = new Map();
  frames.forEach((frame, row) => {
    const slug = explained.get(`${frame} ${numbers[row]}`)?.phase ?? '';
    const rows = groups.get(slug);
    if (rows) rows.push(row);
    else groups.set(slug, [row]);
  });
  return [...groups]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([slug, rows]) => ({
      ...curve(slug, '1/Å', rows, (row) => at(frames[row]), (row) => q[row]),
      label: slug || 'unexplained',
      points: true,
    }));
}

/**
 * Intensity of the strongest tracks, measured in every frame, with 1 sigma.
 * @param {Tables} tables
 * @param {(frame: number) => number} at
 * @param {number} most
 * @param {number | null} chosen a track that is shown in any case
 * @returns {Curve[]}
 */
export function trackIntensities(tables, at, most = 8, chosen = null) {
  const { courses } = tables;
  const [frames, tracks, q, value, error] = [
    'frame', 'track', 'q', 'intensity', 'intensity_error',
  ].map((name) => courses.column(name));
  /** @type {Map<number, {rows: number[], top: number, q: number}>} */
  const found = new Map();
  tracks.forEach((track, row) => {
    const one = found.get(track) ?? { rows: [], top: -Infinity, q: NaN };
    one.rows.push(row);
    if (value[row] > one.top) [one.top, one.q] = [value[row], q[row]];
    found.set(track, one);
  });
  const strongest = [...found].sort(([, a], [, b]) => b.top - a.top);
  const shown = strongest.filter(([track], place) => place < most || track === chosen);
  return shown.map(([track, { rows, q: place }]) => {
    const one = curve('', 'counts', rows, (row) => at(frames[row]), (row) => value[row]);
    const errors = curve('', 'counts', rows, (row) => at(frames[row]), (row) => error[row]);
    return {
      ...one,
      label: `${track}: ${place.toFixed(3)} 1/Å`,
      low: one.y.map((y, place_) => y - errors.y[place_]),
      high: one.y.map((y, place_) => y + errors.y[place_]),
    };
  });
}

/**
 * Length of the cell's edges of each present phase where it is present, in angstrom.
 * @param {Tables} tables
 * @param {(frame: number) => number} at
 * @returns {Curve[]}
 */
export function lattice(tables, at) {
  const { matches } = tables;
  const [frames, phases, probability] = ['frame', 'phase', 'probability'].map((name) =>
    matches.column(name),
  );
  return present(matches).flatMap((slug) => {
    const rows = rowsWhere(phases, slug).filter((row) => probability[row] >= PRESENT);
    const edges = ['cell_a', 'cell_b', 'cell_c'].map((name) => matches.column(name));
    const distinct = edges.filter(
      (values, place) =>
        rows.some((row) => Number.isFinite(values[row])) &&
        !edges.slice(0, place).some((other) =>
          rows.every((row) => Math.abs(other[row] - values[row]) < 1e-6 || !(values[row] > 0)),
        ),
    );
    return distinct.map((values) => ({
      ...curve(slug, 'Å', rows, (row) => at(frames[row]), (row) => values[row]),
      label: `${slug} ${'abc'[edges.indexOf(values)]}`,
    }));
  });
}

/**
 * Hermans' orientation parameter of each texture, with 1 sigma.
 * @param {Tables} tables
 * @param {(frame: number) => number} at
 * @returns {Curve[]}
 */
export function textures({ textures: table }, at) {
  const [frames, names, value, error] = ['frame', 'name', 'hermans', 'hermans_error'].map((name) =>
    table.column(name),
  );
  return [...new Set(names)].sort().map((name) => {
    const rows = rowsWhere(names, name);
    const one = curve('', '', rows, (row) => at(frames[row]), (row) => value[row]);
    const errors = curve('', '', rows, (row) => at(frames[row]), (row) => error[row]);
    return {
      ...one,
      label: String(name),
      low: one.y.map((y, row) => y - errors.y[row]),
      high: one.y.map((y, row) => y + errors.y[row]),
    };
  });
}

/**
 * A number that the raw run holds for each event, such as a temperature.
 * @param {import('../tiled/api.js').Columns} columns
 * @param {string} name
 * @param {number} start time of the first frame, NaN = events count
 * @returns {Curve[]}
 */
export function rawScalar(columns, name, start) {
  const values = columns[name];
  if (!values) return [];
  const times = columns.time;
  const rows = Array.from({ length: values.length }, (_, row) => row);
  const x = (/** @type {number} */ row) =>
    Number.isFinite(start) && times ? times[row] - start : row;
  return [{ ...curve('', '', rows, x, (row) => values[row]), label: name }];
}

/**
 * A column of `frames` over time.
 * @param {Tables} tables
 * @param {(frame: number) => number} at
 * @param {string} name
 * @param {string} unit
 * @returns {Curve}
 */
export function frameColumn(tables, at, name, unit) {
  const frames = tables.frames.column('frame');
  const values = tables.frames.column(name);
  const rows = frames.map((_, row) => row);
  return {
    ...curve('', unit, rows, (row) => at(frames[row]), (row) => values[row]),
    label: name.replaceAll('_', ' '),
  };
}

/**
 * @typedef {{phase: string, hkl: number[], dq: number, probability: number}} Explanation
 */

/**
 * For each peak, as `frame peak`, the most probable phase at least PRESENT and its nearest line.
 * @param {Tables} tables
 * @returns {Map<string, Explanation>}
 */
export function explanations({ matches, match_peaks: known }) {
  /** @type {Map<string, Explanation>} */
  const found = new Map();
  for (const frame of known.frames) {
    for (const [peak, explanation] of frameExplanations(matches, known, frame)) {
      found.set(`${frame} ${peak}`, explanation);
    }
  }
  return found;
}

/**
 * The same for the peaks of one frame, by peak.
 * @param {RowTable} matches
 * @param {RowTable} known rows of `match_peaks`
 * @param {number} frame
 * @returns {Map<number, Explanation>}
 */
export function frameExplanations(matches, known, frame) {
  const probability = new Map(
    matches
      .rows(frame)
      .filter((row) => row.probability >= PRESENT)
      .map((row) => [row.phase, row.probability]),
  );
  /** @type {Map<number, Explanation>} */
  const found = new Map();
  for (const { peak, phase, h, k, l, dq } of probability.size ? known.rows(frame) : []) {
    const p = probability.get(phase);
    if (p === undefined) continue;
    const before = found.get(peak);
    const better =
      !before ||
      p > before.probability ||
      (p === before.probability && Math.abs(dq) < Math.abs(before.dq));
    if (better) found.set(peak, { phase, hkl: [h, k, l], dq, probability: p });
  }
  return found;
}

/** @param {RowTable} matches */
function present(matches) {
  const phases = matches.column('phase');
  const values = matches.column('probability');
  return [...new Set(phases.filter((_, row) => values[row] >= PRESENT))].sort();
}

/**
 * @param {any[]} values
 * @param {any} wanted
 */
function rowsWhere(values, wanted) {
  const rows = [];
  for (let row = 0; row < values.length; row++) if (values[row] === wanted) rows.push(row);
  return rows;
}

/**
 * @param {string} slug
 * @param {string} unit
 * @param {number[]} rows
 * @param {(row: number) => number} x
 * @param {(row: number) => number} y
 * @returns {Curve}
 */
function curve(slug, unit, rows, x, y) {
  const points = rows
    .map((row) => [x(row), y(row)])
    .filter(([place]) => Number.isFinite(place))
    .sort((a, b) => a[0] - b[0]);
  return {
    label: slug,
    slug,
    unit,
    x: points.map((point) => point[0]),
    y: points.map((point) => point[1]),
  };
}

/**
 * @param {number[]} places
 * @returns {[number, number]}
 */
function span(places) {
  const known = places.filter(Number.isFinite);
  const [first, last] = [known[0] ?? 0, known[known.length - 1] ?? 1];
  return [first, Math.max(last, first + 1)];
}

/**
 * @param {number[]} frames
 * @param {number} x
 * @param {(frame: number) => number} at
 */
function nearest(frames, x, at) {
  let best = frames[0] ?? 0;
  for (const frame of frames) {
    if (Math.abs(at(frame) - x) < Math.abs(at(best) - x)) best = frame;
  }
  return best;
}
