import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import {
  frameColumn,
  lattice,
  peakPositions,
  phaseIntensities,
  probabilities,
  rawScalar,
  textures,
  timeAxis,
  trackIntensities,
} from '../data/series.js';
import { UNEXPLAINED } from '../phase_colours.js';
import { Chart } from '../plots/chart.jsx';
import { exportCsv, exportPng, exportSvg } from '../plots/export.js';
import { Waterfall } from '../plots/waterfall.jsx';

const CUTS = 'Cuts';
const RAW = 'Sensors';
const RAW_MS = 3000;
const TRACK_COLOURS = [
  '#56b4e9', '#e69f00', '#009e73', '#cc79a7', '#0072b2', '#d55e00', '#f0e442', '#999999',
];

/**
 * @typedef {import('../state.js').AppState} AppState
 * @typedef {import('../data/open_run.js').OpenRun} OpenRun
 * @typedef {import('../data/series.js').Curve} Curve
 * @typedef {ReturnType<typeof timeAxis>} Axis
 * @typedef {{columns: import('../tiled/api.js').Columns, name: string}} Raw numbers of the raw
 *   run's events, and which of them is drawn
 * @typedef {object} View
 * @property {string} name
 * @property {string} yLabel
 * @property {(run: OpenRun, axis: Axis, track: number | null, raw: Raw) => Curve[]} curves
 * @property {[number, number]} [range]
 * @property {boolean} [lines] whether the lines of structures are marked at the side
 */

/** @type {View[]} */
const VIEWS = [
  {
    name: 'Intensity',
    yLabel: 'intensity (counts)',
    curves: (run, { at }) => phaseIntensities(run.tables, at),
  },
  {
    name: 'Probability',
    yLabel: 'probability',
    range: [-0.02, 1.02],
    curves: (run, { at }) => probabilities(run.tables, at),
  },
  {
    name: 'Peaks',
    yLabel: '|q| (1/Å)',
    lines: true,
    curves: (run, { at }) => peakPositions(run.tables, at),
  },
  {
    name: 'Tracks',
    yLabel: 'intensity (counts)',
    curves: (run, { at }, track) => trackIntensities(run.tables, at, 8, track),
  },
  { name: 'Lattice', yLabel: 'cell (Å)', curves: (run, { at }) => lattice(run.tables, at) },
  {
    name: 'Texture',
    yLabel: "Hermans' parameter",
    range: [-0.55, 1.05],
    curves: (run, { at }) => textures(run.tables, at),
  },
  {
    name: 'Total',
    yLabel: 'total intensity (counts)',
    curves: (run, { at }) => [frameColumn(run.tables, at, 'total_intensity', 'counts')],
  },
  {
    name: 'Latency',
    yLabel: 'latency (s)',
    curves: (run, { at }) => [frameColumn(run.tables, at, 'latency', 's')],
  },
  {
    name: RAW,
    yLabel: '',
    curves: (_run, { start }, _track, raw) => rawScalar(raw.columns, raw.name, start),
  },
];

/**
 * What the run says over time; a click picks a frame.
 * @param {{state: AppState, run: OpenRun, colour: (slug: string) => string}} props
 */
export function Timeline({ state, run, colour }) {
  const [name, setName] = useState('Intensity');
  const view = VIEWS.find((one) => one.name === name) ?? VIEWS[0];
  const version = run.version.value;
  const frame = state.frame.value;
  const axis = useMemo(() => timeAxis(run.tables.frames), [run, version]);
  const selected = run.tables.peaks.rows(frame).find((row) => row.peak === state.peak.value);
  const track = selected?.track >= 0 ? selected?.track : null;
  const [raw, choose] = useRaw(run, version, name === RAW);
  const curves = useMemo(
    () => view.curves(run, axis, track, raw),
    [run, version, name, track, raw],
  );
  const chosen = state.lines.value;
  const present = new Set(curves.map((curve) => curve.slug));
  const marks = view.lines
    ? run.structures
        .filter((one) => chosen.has(one.slug) || present.has(one.slug))
        .flatMap((one) => one.q.map((q) => ({ value: q, label: one.name, colour: colour(one.slug) })))
    : [];
  /** @param {Curve} curve @param {number} place */
  const colourOf = (curve, place) =>
    curve.slug
      ? colour(curve.slug)
      : view.lines
        ? UNEXPLAINED
        : TRACK_COLOURS[place % TRACK_COLOURS.length];
  const title = `${state.info.value?.sample ?? ''} ${view.name}`.trim();
  const exported = { curves, title, xLabel: axis.label, yLabel: name === RAW ? raw.name : view.yLabel, colour: colourOf };
  return (
    <section class="timeline" data-testid="timeline">
      <div class="tabs" role="tablist">
        {[...VIEWS.map((one) => one.name), CUTS].map((one) => (
          <button key={one} role="tab" aria-selected={one === name} onClick={() => setName(one)}>
            {one}
          </button>
        ))}
        {name === RAW && (
          <select
            aria-label="Sensor"
            value={raw.name}
            onChange={(event) => choose(event.currentTarget.value)}
          >
            {Object.keys(raw.columns).filter((one) => one !== 'time').map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        )}
        <span class="exports">
          <button class="quiet" onClick={() => exportCsv(exported)}>
            CSV
          </button>
          <button class="quiet" onClick={() => exportSvg(exported)}>
            SVG
          </button>
          <button class="quiet" onClick={() => exportPng(exported)}>
            PNG
          </button>
        </span>
      </div>
      {name === CUTS ? (
        <Waterfall state={state} run={run} axis={axis} />
      ) : curves.some((curve) => curve.x.length) ? (
        <Chart
          curves={curves}
          colour={colourOf}
          xLabel={axis.label}
          yLabel={name === RAW ? raw.name : view.yLabel}
          yRange={view.range}
          marks={marks}
          spans={onsets(state, axis.start, colour)}
          xRange={axis.range}
          at={axis.at(frame)}
          onPick={(x) => state.show(axis.frameAt(x))}
        />
      ) : (
        <p class="chart nothing">nothing to draw yet</p>
      )}
    </section>
  );
}

/**
 * What the raw run recorded beside the images; read again while the run grows.
 * @param {OpenRun} run
 * @param {number} version
 * @param {boolean} wanted
 * @returns {[Raw, (name: string) => void]}
 */
function useRaw(run, version, wanted) {
  const [columns, setColumns] = useState(/** @type {Raw['columns']} */ ({}));
  const [chosen, choose] = useState('');
  const asked = useRef(0);
  useEffect(() => {
    if (!wanted || Date.now() - asked.current < RAW_MS) return;
    asked.current = Date.now();
    run.rawScalars().then(setColumns, () => {});
  }, [run, version, wanted]);
  const names = Object.keys(columns).filter((name) => name !== 'time');
  const name = names.includes(chosen) ? chosen : (names[0] ?? '');
  const raw = useMemo(() => ({ columns, name }), [columns, name]);
  return [raw, choose];
}

/**
 * Times within which phases began, 95 %.
 * @param {AppState} state
 * @param {number} start
 * @param {(slug: string) => string} colour
 */
function onsets(state, start, colour) {
  if (!Number.isFinite(start)) return [];
  return (state.info.value?.phases ?? [])
    .filter((phase) => phase.onsetRange)
    .map((phase) => {
      const [from, to] = /** @type {[number, number]} */ (phase.onsetRange);
      return { from: from - start, to: to - start, colour: colour(phase.slug) };
    });
}
