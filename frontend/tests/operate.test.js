import assert from 'node:assert/strict';
import test from 'node:test';

import { Desk, trialImage } from '../src/operate/desk.js';
import { kindOf, messagesAt, parsed, placeOf, replaced, resolved } from '../src/operate/schema.js';

const ROOT = {
  $defs: { Grid: { properties: { q: { type: 'number' } } }, Side: { enum: ['left', 'right'] } },
};

test('references are followed, and "this or nothing" is this', () => {
  assert.equal(kindOf(resolved({ $ref: '#/$defs/Grid' }, ROOT)), 'group');
  const side = resolved({ anyOf: [{ $ref: '#/$defs/Side' }, { type: 'null' }], default: null }, ROOT);
  assert.deepEqual([kindOf(side), side.enum, side.default], ['choice', ['left', 'right'], null]);
  const either = { anyOf: [{ type: 'number' }, { $ref: '#/$defs/Grid' }] };
  assert.equal(kindOf(resolved(either, ROOT)), 'json');
});

test('typed values, and what cannot be read', () => {
  assert.equal(parsed('number', '1e-3'), 0.001);
  assert.equal(parsed('number', ' '), undefined);
  assert.deepEqual(parsed('json', '[1, 2]'), [1, 2]);
  assert.equal(parsed('text', 'classical'), 'classical');
  assert.throws(() => parsed('integer', 'many'), /not a number/);
  assert.throws(() => parsed('json', '[1'));
});

test('one value of a tree is replaced, empty groups go', () => {
  const tree = { a: { b: 1, c: 2 }, d: 3 };
  assert.deepEqual(replaced(tree, ['a', 'b'], 5), { a: { b: 5, c: 2 }, d: 3 });
  assert.deepEqual(replaced({ a: { b: 1 }, d: 3 }, ['a', 'b'], undefined), { d: 3 });
  assert.deepEqual(replaced({}, ['x', 'y'], 0), { x: { y: 0 } });
  assert.deepEqual(tree, { a: { b: 1, c: 2 }, d: 3 });
});

test('messages stand beside their field', () => {
  const problems = [
    { where: 'grid.shape', message: 'one' },
    { where: 'cuts.film.q', message: 'two' },
  ];
  assert.deepEqual(messagesAt(problems, 'grid.shape', false), ['one']);
  assert.deepEqual(messagesAt(problems, 'cuts', true), ['two']);
  assert.deepEqual(messagesAt(problems, 'grid', false), []);
  assert.equal(placeOf('weights'), 'detector');
  assert.equal(placeOf('geometry'), 'geometry');
});

test('the key goes into a header of each request, never into an address or cookie', async () => {
  /** @type {any[]} */
  const asked = [];
  const browser = {
    fetch: async (/** @type {any} */ address, /** @type {any} */ options) => {
      asked.push([address, options]);
      return new Response(JSON.stringify({ detail: 'no' }), { status: asked.length > 1 ? 422 : 200 });
    },
  };
  const desk = new Desk('secret', /** @type {any} */ (browser));
  await desk.act('save', { note: 'x' });
  await assert.rejects(desk.jobs(), /no/);
  for (const [address, options] of asked) {
    assert.ok(!address.includes('secret'));
    assert.equal(options.headers.Authorization, 'Apikey secret');
    assert.equal(options.credentials, 'omit');
  }
  assert.deepEqual([asked[0][1].method, asked[1][1].method], ['POST', 'GET']);
});

test('the image of a trial is read from its bytes', () => {
  const values = Float32Array.from([1, 2.5, NaN, 4]);
  const image = btoa(String.fromCharCode(...new Uint8Array(values.buffer)));
  const grid = { qMax: 2, nPhi: 2, nQ: 2 };
  const shown = trialImage({ image, grid, peaks: [], matches: [], seconds: 0 });
  assert.deepEqual([...shown.values], [...values]);
});
