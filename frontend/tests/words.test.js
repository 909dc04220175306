import assert from 'node:assert/strict';
import test from 'node:test';

import { frameRate, latency } from '../src/data/pace.js';
import { RowTable } from '../src/data/row_table.js';
import { disk, service, slurm } from '../src/data/services.js';
import { duration, millerIndices, percent, short, withError } from '../src/format.js';
import { readAddress } from '../src/session.js';

test('numbers as people read them', () => {
  assert.equal(withError(1.059024, 0.00012), '1.05902 ± 0.00012');
  assert.equal(withError(45.012, 0.2, 1), '45.0 ± 0.2');
  assert.equal(withError(1.2, NaN), '1.2000');
  assert.deepEqual([0.9999, 0.42, 0.013, 0.0004, NaN].map(percent), [
    '>99.9 %', '42 %', '1.3 %', '<0.1 %', '–',
  ]);
  assert.deepEqual([3.21, 45, 600, 7300].map(duration), ['3.2 s', '45 s', '10 min', '2.0 h']);
  assert.deepEqual([0, 12.345, 1.5e6].map(short), ['0', '12.35', '1.50e+6']);
  assert.equal(millerIndices([1, -1, 0]), '11\u03050');
});

test('the address holds a key once, then the run', () => {
  const read = (/** @type {string} */ rest) => readAddress(new URL(`http://h/gixi/${rest}`));
  assert.equal(read('#key=abc').key, 'abc');
  assert.deepEqual(read('?in=a/b#run=u&frame=3'), { key: '', run: 'u', frame: 3, root: 'a/b' });
});

test('pace of the last frames', () => {
  const frames = new RowTable([]);
  frames.append({ frame: [0, 1, 2], raw_time: [10, 10.5, 11], latency: [3, 1, 2] });
  assert.equal(frameRate(frames), 2);
  assert.equal(latency(frames), 2);
  assert.ok(Number.isNaN(frameRate(new RowTable([]))));
});

test('a consumer that failed, fell silent or lost a thread is a problem in words', () => {
  const fine = {
    name: 'gixi@host', age_s: 2, state: 'running', lag: 3, frames: 40, frames_per_second: 1.5,
    last_error: '', threads: { reader: 'running' },
  };
  assert.equal(service(fine).problem, '');
  assert.match(service(fine).summary, /40 frames, 1\.50 frames\/s, 3 messages behind/);
  assert.match(service({ ...fine, state: 'failed', last_error: 'no broker' }).problem, /no broker/);
  assert.match(service({ ...fine, age_s: 300 }).problem, /last heard 5 min ago/);
  assert.match(
    service({ ...fine, threads: { store: 'stuck for 75 s' } }).problem,
    /store stuck for 75 s/,
  );
  assert.equal(service({ ...fine, age_s: 300, state: 'stopped' }).problem, '');
});

test('a disk that is nearly full is a problem', () => {
  assert.equal(disk(0.5)[0].problem, '');
  assert.match(disk(0.03)[0].problem, /3 % free/);
  assert.deepEqual(disk(null), []);
});

test('tasks of a Slurm job in words, those that failed as problems', () => {
  const task = { task: 0, state: 'RUNNING', reason: '', node: 'node7', restarts: 1, problem: '' };
  const bad = { ...task, task: 1, state: 'FAILED', problem: 'no broker; see consumer-1.log' };
  const [first, second] = slurm({ job_id: 7, tasks: [task, bad], problem: '' });
  assert.deepEqual([first.name, first.summary], ['Slurm job 7_0', 'RUNNING on node7, start 2']);
  assert.equal(first.problem, '');
  const beat = { consumer: 'running', partitions: ['a:0', 'a:1'], frames: 1, lag: 3 };
  const [busy] = slurm({ job_id: 7, tasks: [{ ...task, ...beat }], problem: '' });
  assert.match(busy.summary, /; consumer running, 2 partitions, 1 frame, 3 behind$/);
  assert.match(second.problem, /7_1: FAILED\. no broker/);
  assert.match(slurm({ job_id: null, tasks: [], problem: 'no answer' })[0].problem, /no answer/);
  assert.deepEqual(slurm(null), []);
});

test('the queue of a consumer is in its summary', () => {
  const heartbeat = {
    name: 'c', age_s: 1, state: 'running', lag: 0, frames: 1, frames_per_second: 1,
    last_error: '', threads: {}, queue_frames: 12, queue_bytes: 2 ** 21, workers: 2,
  };
  assert.match(service(heartbeat).summary, /12 frames \(2 MiB\) in its queue, 2 workers/);
});
