import assert from 'node:assert/strict';
import test from 'node:test';

import { matches, runInfo, stateOf } from '../src/data/run_info.js';

const START = {
  uid: 'u',
  time: 1_800_000_000,
  sample_name: '<script>alert(1)</script>',
  plan_name: 'count',
  scan_id: 7,
  gixi: { raw_uid: 'r' },
};
const SUMMARY = {
  n_frames: 24,
  n_peaks: 188,
  n_failed: 1,
  peak_q: [0.911, 1.059],
  phases: {
    PbI2: { name: 'PbI2', max_probability: 0.03, onset_frame: null },
    MAPbBr3: {
      name: 'MAPbBr3',
      max_probability: 0.99,
      n_frames: 17,
      onset_frame: 7,
      onset_time: 1_800_000_010,
      onset_time_low: 1_800_000_008,
      onset_time_high: 1_800_000_012,
    },
  },
};

/** @param {any} metadata */
const info = (metadata) =>
  /** @type {import('../src/data/run_info.js').RunInfo} */ (runInfo('gixi/u', metadata));

test('the summary of a growing run comes from gixi_live, phases most probable first', () => {
  const run = info({ start: START, gixi_live: SUMMARY });
  assert.equal(run.sample, '<script>alert(1)</script>');
  assert.deepEqual([run.frames, run.peaks, run.failed, run.scan], [24, 188, 1, '7']);
  assert.equal(run.phases[0].slug, 'MAPbBr3');
  assert.deepEqual(run.phases[0].onsetRange, [1_800_000_008, 1_800_000_012]);
  assert.equal(run.phases[1].onsetFrame, null);
});

test('what is no derived run is not listed', () => {
  assert.equal(runInfo('raw/r', { start: { uid: 'r', time: 1 } }), null);
  assert.equal(runInfo('gixi/u', null), null);
});

for (const [state, stop, written] of [
  ['live', null, true],
  ['abandoned', null, false],
  ['complete', { exit_status: 'success', gixi: { completeness: 'complete' } }, false],
  ['complete', { exit_status: 'success', gixi: {} }, false],
  ['incomplete', { exit_status: 'success', gixi: { completeness: 'incomplete' } }, false],
  ['abandoned', { exit_status: 'success', gixi: { completeness: 'abandoned' } }, false],
  ['incomplete', { exit_status: 'abort', gixi: { completeness: 'complete' } }, false],
  ['failed', { exit_status: 'fail', gixi: { completeness: 'complete' } }, false],
]) {
  test(`state ${state} of ${JSON.stringify(stop)}`, () => {
    assert.equal(stateOf(info({ start: START, stop }), Boolean(written)).state, state);
  });
}

test('runs are found by words, phase, |q| and date', () => {
  const run = info({ start: START, gixi_live: SUMMARY });
  for (const query of ['', 'script', 'COUNT 7', 'mapbbr3', 'q=1.06', 'q=1.0±0.1', 'q=0.9+-0.02']) {
    assert.ok(matches(run, query), query);
  }
  for (const query of ['PbI2', 'q=1.2', 'q=1.0', 'mapbbr3 absent']) {
    assert.ok(!matches(run, query), query);
  }
});
