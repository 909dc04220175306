import assert from 'node:assert/strict';
import test from 'node:test';

import { RowTable } from '../src/data/row_table.js';
import * as series from '../src/data/series.js';
import { csv, svg, ticks } from '../src/plots/export.js';

function tables() {
  const made = {
    frames: new RowTable([]),
    peaks: new RowTable(['peak']),
    matches: new RowTable(['phase']),
    match_peaks: new RowTable(['peak', 'phase', 'h', 'k', 'l']),
    courses: new RowTable(['track']),
    textures: new RowTable(['name']),
  };
  made.frames.append({ frame: [1, 0, 2], raw_time: [102, 100, 104], latency: [1, 1, 1] });
  made.peaks.append({
    frame: [1, 1, 2], peak: [0, 1, 0], q: [1.06, 1.5, 1.06], intensity: [10, 20, 30],
  });
  made.matches.append({
    frame: [0, 1, 2, 2], phase: ['A', 'A', 'A', 'B'], probability: [0.1, 0.9, 0.95, 0.2],
    cell_a: [5.9, 5.9, 5.91, 7], cell_b: [5.9, 5.9, 5.91, 7], cell_c: [5.9, 5.9, 5.91, 8],
  });
  made.match_peaks.append({
    frame: [1, 1, 1, 2, 2], peak: [0, 0, 1, 0, 0], phase: ['A', 'A', 'B', 'A', 'B'],
    h: [1, 2, 1, 1, 1], k: [0, 0, 0, 0, 0], l: [0, 0, 0, 0, 0],
    dq: [0.01, -0.002, 0, 0.003, 0],
  });
  made.courses.append({
    frame: [1, 2, 1, 2], track: [4, 4, 9, 9], q: [1, 1, 2, 2], intensity: [5, 6, 50, 60],
    intensity_error: [1, 1, 2, 2],
  });
  return made;
}

test('time is counted from the first frame, in the order of frames', () => {
  const axis = series.timeAxis(tables().frames);
  assert.deepEqual([0, 1, 2].map(axis.at), [0, 2, 4]);
  assert.equal(axis.frameAt(2.9), 1);
  assert.deepEqual(axis.range, [0, 4]);
});

test('without times, frames are their own axis', () => {
  const frames = new RowTable([]);
  frames.append({ frame: [0, 1], raw_time: [NaN, NaN] });
  const axis = series.timeAxis(frames);
  assert.equal(axis.label, 'frame');
  assert.equal(axis.at(1), 1);
});

test('the nearest line of the most probable phase explains a peak', () => {
  const known = series.explanations(tables());
  assert.deepEqual(known.get('1 0')?.hkl, [2, 0, 0]);
  assert.equal(known.get('1 1'), undefined); // B is not present
  assert.equal(known.get('2 0')?.phase, 'A');
});

test('intensity of a phase counts each of its peaks once', () => {
  const made = tables();
  const { at } = series.timeAxis(made.frames);
  const [one, ...rest] = series.phaseIntensities(made, at);
  assert.deepEqual([one.slug, one.x, one.y], ['A', [0, 2, 4], [0, 10, 30]]);
  assert.equal(rest.length, 0);
});

test('only phases that were present somewhere have a curve', () => {
  const made = tables();
  const { at } = series.timeAxis(made.frames);
  assert.deepEqual(series.probabilities(made, at).map((curve) => curve.y), [[0.1, 0.9, 0.95]]);
});

test('equal edges of a cell are drawn once, where the phase is present', () => {
  const made = tables();
  const curves = series.lattice(made, series.timeAxis(made.frames).at);
  assert.deepEqual(curves.map((curve) => [curve.label, curve.y]), [['A a', [5.9, 5.91]]]);
});

test('the strongest tracks are drawn, and the one that was chosen', () => {
  const made = tables();
  const { at } = series.timeAxis(made.frames);
  assert.deepEqual(series.trackIntensities(made, at, 1).map((curve) => curve.y), [[50, 60]]);
  assert.equal(series.trackIntensities(made, at, 1, 4).length, 2);
  assert.deepEqual(series.trackIntensities(made, at, 1)[0].low, [48, 58]);
});

test('textures and sensors are drawn over the same time', () => {
  const made = tables();
  made.textures.append({
    frame: [1, 2], name: ['ring', 'ring'], hermans: [0.2, 0.4], hermans_error: [0.1, 0.1],
  });
  const axis = series.timeAxis(made.frames);
  const [ring] = series.textures(made, axis.at);
  assert.deepEqual([ring.label, ring.x, ring.y], ['ring', [2, 4], [0.2, 0.4]]);
  const columns = { time: [100, 102, 104], heater: [20, 30, 40] };
  const [heater] = series.rawScalar(columns, 'heater', axis.start);
  assert.deepEqual([heater.x, heater.y], [[0, 2, 4], [20, 30, 40]]);
  assert.deepEqual(series.rawScalar(columns, 'absent', axis.start), []);
});

test('unexplained peaks have a curve of their own', () => {
  const made = tables();
  const curves = series.peakPositions(made, series.timeAxis(made.frames).at);
  assert.deepEqual(
    curves.map((curve) => [curve.label, curve.y]),
    [['unexplained', [1.5]], ['A', [1.06, 1.06]]],
  );
});

test('exports: CSV fields cannot become formulas, SVG text cannot become markup', () => {
  const curves = [{ label: '=cmd|"<x>', unit: '', x: [0, 1], y: [2, NaN] }];
  const exported = { curves, title: '<b>', xLabel: 'x', yLabel: 'y', colour: () => '#000' };
  assert.match(csv(exported), /^curve,x,y,low,high\n"'=cmd\|""<x>",0,2,,\n/);
  const drawn = svg(exported);
  assert.ok(!drawn.includes('<b>') && drawn.includes('&#60;b&#62;'));
  assert.ok(!drawn.includes('NaN'));
  assert.deepEqual(ticks([0, 3]), [0, 0.5, 1, 1.5, 2, 2.5, 3]);
});
