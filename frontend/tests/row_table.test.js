import assert from 'node:assert/strict';
import test from 'node:test';

import { RowTable } from '../src/data/row_table.js';

test('a row that comes twice is stored once', () => {
  const table = new RowTable(['peak']);
  assert.equal(table.append({ frame: [0, 0, 1], peak: [0, 1, 0], q: [1, 2, 3] }), 3);
  assert.equal(table.append({ frame: [1, 2], peak: [0, 0], q: [3, 4] }), 1);
  assert.deepEqual(table.column('q'), [1, 2, 3, 4]);
  assert.deepEqual(table.rows(0), [
    { frame: 0, peak: 0, q: 1 },
    { frame: 0, peak: 1, q: 2 },
  ]);
});

test('a table without further keys has one row a frame', () => {
  const table = new RowTable([]);
  table.append({ frame: [3, 3, 4], status: ['ok', 'ok', 'failed'] });
  assert.deepEqual(table.column('status'), ['ok', 'failed']);
});

test('columns that some rows lack are filled with NaN', () => {
  const table = new RowTable([]);
  table.append({ frame: [0] });
  table.append({ frame: [1], gain: [2] });
  table.append({ frame: [2] });
  assert.deepEqual(table.column('gain'), [NaN, 2, NaN]);
});

test('the oldest frames are dropped beyond the limit, and the rest stays consistent', () => {
  const table = new RowTable(['peak'], 100);
  for (let frame = 0; frame < 1000; frame++) {
    table.append({ frame: [frame, frame], peak: [0, 1], q: [frame, -frame] });
    assert.ok(table.length <= 126);
  }
  assert.equal(Math.max(...table.column('frame')), 999);
  assert.ok(table.frames.length <= 63);
  assert.deepEqual(
    table.rows(999).map((row) => row.q),
    [999, -999],
  );
  assert.deepEqual(table.rows(0), []);
});
