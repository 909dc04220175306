import assert from 'node:assert/strict';
import test, { mock } from 'node:test';

import { encode } from '@msgpack/msgpack';
import { tableFromArrays, tableToIPC } from '@uwdata/flechette';

import { ImageCache } from '../src/data/image_cache.js';
import { RowTable } from '../src/data/row_table.js';
import { columnsOf, RequestError, TiledAPI } from '../src/tiled/api.js';
import { Stream } from '../src/tiled/stream.js';
import { TableFeed } from '../src/tiled/table_feed.js';

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** Sockets that the test opens, feeds and closes by hand. */
class FakeSockets {
  sockets = /** @type {any[]} */ ([]);
  waiting = /** @type {(() => void)[]} */ ([]);
  open = () => {
    const socket = { close: () => {} };
    this.sockets.push(socket);
    return /** @type {any} */ (socket);
  };
  later = (/** @type {() => void} */ call) => this.waiting.push(call);
  never = () => {};
  get last() {
    return this.sockets[this.sockets.length - 1];
  }
  /** @param {any} message */
  send(message) {
    this.last.onmessage({ data: encode(message) });
  }
}

/** @param {Record<string, any[]>} columns */
const arrow = (columns) =>
  /** @type {Uint8Array} */ (tableToIPC(tableFromArrays(columns), { format: 'file' }));

test('a stream reports gaps, and opens again after a loss', () => {
  const sockets = new FakeSockets();
  const seen = /** @type {any[]} */ ([]);
  const stream = new Stream(
    new URL('ws://host/'),
    {
      opened: () => seen.push('opened'),
      gap: () => seen.push('gap'),
      lost: () => seen.push('lost'),
      message: ({ sequence }) => seen.push(sequence),
    },
    sockets,
  );
  sockets.send({ type: 'table-schema' });
  sockets.send({ type: 'table-data', sequence: 4 });
  sockets.send({ type: 'table-data', sequence: 5 });
  sockets.send({ type: 'table-data', sequence: 7 });
  sockets.last.onclose();
  assert.deepEqual(seen, ['opened', 4, 5, 'gap', 7, 'lost']);
  sockets.waiting[0]();
  sockets.send({ type: 'table-schema' });
  sockets.send({ type: 'table-data', sequence: 1 }); // a server that was started again
  assert.deepEqual(seen.slice(6), ['opened', 1]);
  stream.close();
  sockets.last.onclose();
  assert.equal(sockets.waiting.length, 1);
});

test('a feed has every row once: loaded, streamed, lost, and loaded again', async () => {
  const sockets = new FakeSockets();
  const server = { frame: [0, 1] };
  let away = false;
  const api = /** @type {any} */ ({
    table: async () => {
      if (away) throw new RequestError(0, 'away');
      return { frame: [...server.frame] };
    },
    socketAddress: () => new URL('ws://host/'),
  });
  const failures = /** @type {string[]} */ ([]);
  const table = new RowTable([]);
  const run = {
    grown: () => {},
    failed: (/** @type {Error} */ error) => failures.push(error.message),
    growing: () => true,
  };
  mock.timers.enable({ apis: ['setTimeout'] });
  const feed = new TableFeed(api, 'run/frames/internal', ['frame'], table, run, sockets);
  await settled();
  sockets.send({ type: 'table-schema' });
  await settled();
  // A row arrives both ways: reported before it is stored, and in the next load.
  sockets.send({
    type: 'table-data', sequence: 1, append: true, payload: arrow({ frame: [2] }),
  });
  server.frame.push(2, 3);
  sockets.send({
    type: 'table-data', sequence: 3, append: true, payload: arrow({ frame: [4] }),
  });
  server.frame.push(4);
  await settled();
  assert.deepEqual([...table.column('frame')].sort(), [0, 1, 2, 3, 4]);
  assert.ok(feed.live);

  away = true;
  sockets.last.onclose();
  await settled();
  assert.deepEqual(failures, ['away']);
  assert.ok(!feed.live);
  server.frame.push(5);
  away = false;
  mock.timers.tick(5000);
  await settled();
  assert.deepEqual([...table.column('frame')].sort(), [0, 1, 2, 3, 4, 5]);
  feed.close();
  mock.timers.reset();
});

test('the API reads Arrow tables and arrays, and names what went wrong', async () => {
  const asked = /** @type {URL[]} */ ([]);
  const answers = [
    new Response(arrow({ frame: [0, 1], q: [0.5, NaN], kind: ['ring', 'spot'] })),
    new Response(new Float32Array([1, 2, 3, 4]).buffer),
    new Response('{"detail": "Not enough permissions."}', { status: 401 }),
  ];
  const api = new TiledAPI(new URL('http://host/prefix/api/v1/'), {
    fetch: async (address) => {
      asked.push(/** @type {URL} */ (address));
      const answer = answers.shift();
      if (!answer) throw new TypeError('failed to fetch');
      return answer;
    },
  });
  const columns = await api.table('gixi/a b/peaks', ['frame', 'q', 'kind', 'absent']);
  assert.deepEqual([...columns.frame].map(Number), [0, 1]);
  assert.deepEqual(columns.kind, ['ring', 'spot']);
  assert.ok(Number.isNaN(columns.q[1]));
  assert.equal(asked[0].pathname, '/prefix/api/v1/table/full/gixi/a%20b/peaks');
  assert.deepEqual([...(await api.array('x', '0:1', '<f4'))], [1, 2, 3, 4]);
  await assert.rejects(api.node('x', []), { status: 401, message: 'Not enough permissions.' });
  await assert.rejects(api.node('x', []), { status: 0 });
  assert.equal(api.socketAddress('a').protocol, 'ws:');
});

test('rows are read wherever they begin in a message', () => {
  const file = arrow({ frame: [7, 8], raw_time: [1.5, NaN] });
  for (let offset = 0; offset < 8; offset++) {
    const message = new Uint8Array(file.length + offset);
    message.set(file, offset);
    const columns = columnsOf(message.subarray(offset), ['raw_time', 'frame']);
    assert.deepEqual([...columns.raw_time], [1.5, NaN]);
  }
});

test('images are fetched in blocks and kept within their bytes', async () => {
  const slices = /** @type {string[]} */ ([]);
  const api = /** @type {any} */ ({
    array: async (/** @type {string} */ _, /** @type {string} */ slice) => {
      slices.push(slice);
      const [first, last] = slice.split(':').map(Number);
      return Float32Array.from({ length: (last - first) * 4 }, (_value, index) =>
        first + Math.floor(index / 4),
      );
    },
  });
  const stack = { path: 'images', shape: [100, 2, 2], dtype: '<f4' };
  const cache = new ImageCache(api, stack, { bytes: 16 * 10, block: 4 });
  const [image] = await Promise.all([cache.get(5, 100), cache.get(6, 100)]);
  assert.deepEqual([...image.values], [5, 5, 5, 5]);
  assert.deepEqual(slices, ['4:8', '8:12']); // the next block comes ahead
  for (let row = 0; row < 100; row++) await cache.get(row, 100);
  assert.ok(cache.bytes <= 16 * 10);
  assert.deepEqual([...(await cache.get(99, 100)).values], [99, 99, 99, 99]);
  slices.length = 0;
  await cache.get(9, 10);
  assert.deepEqual(slices, ['9:10']); // the newest alone, and none beyond what is stored
  slices.length = 0;
  await cache.get(9, 12);
  await cache.get(10, 12);
  assert.deepEqual(slices, ['10:12']); // nor what is held already
});
