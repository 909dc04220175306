import assert from 'node:assert/strict';
import test from 'node:test';

import { cutsOf, moreRows } from '../src/data/cuts.js';

const METADATA = {
  data_keys: { film: { dims: ['film_q'] }, film_error: { dims: ['film_q'] } },
  configuration: {
    gixi: {
      data: { film_q: [0.5, 1, 1.5] },
      data_keys: { film_q: { units: '1/angstrom', description: 'q' } },
    },
  },
};

test('only rows that are new are fetched', async () => {
  const slices = /** @type {string[]} */ ([]);
  let stored = 2;
  const api = /** @type {any} */ ({
    find: async (/** @type {string} */ _, /** @type {string[]} */ keys) => ({
      attributes: keys.length === 1
        ? { metadata: METADATA }
        : { structure: { shape: [stored, 3], data_type: { endianness: 'little', kind: 'f', itemsize: 8 } } },
    }),
    array: async (/** @type {string} */ _, /** @type {string} */ slice) => {
      slices.push(slice);
      const [first, last] = slice.split(':').map(Number);
      return Float64Array.from({ length: (last - first) * 3 }, (_v, i) => first * 3 + i);
    },
  });
  const [info, ...rest] = await cutsOf(api, 'gixi/u');
  assert.deepEqual([info.name, info.along, info.axis, rest], ['film', 'q', [0.5, 1, 1.5], []]);
  let data = await moreRows(api, 'gixi/u', { info, step: 1, first: 0, rows: [] });
  stored = 3;
  data = await moreRows(api, 'gixi/u', data);
  data = await moreRows(api, 'gixi/u', data);
  assert.deepEqual(slices, ['0:2', '2:3']);
  assert.deepEqual(data.rows.map((row) => [...row]), [[0, 1, 2], [3, 4, 5], [6, 7, 8]]);
});

test('a run without cuts has none', async () => {
  assert.deepEqual(await cutsOf(/** @type {any} */ ({ find: async () => null }), 'gixi/u'), []);
});
