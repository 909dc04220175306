/** The stored cuts of a run: profiles along an axis, one row a frame. */

import { dtypeOf } from '../tiled/api.js';

const MOST_ROWS = 4000;

/**
 * @typedef {{name: string, along: string, unit: string, axis: number[]}} CutInfo
 * @typedef {{info: CutInfo, step: number, first: number, rows: Float64Array[]}} CutRows
 */

/**
 * The cuts that a run holds, empty where it has none (yet).
 * @param {import('../tiled/api.js').TiledAPI} api
 * @param {string} path of the run
 * @returns {Promise<CutInfo[]>}
 */
export async function cutsOf(api, path) {
  const stream = await api.find(path, ['cuts'], ['metadata']);
  if (!stream) return [];
  const { data_keys: keys = {}, configuration = {} } = stream.attributes.metadata ?? {};
  const { data = {}, data_keys: told = {} } = configuration.gixi ?? {};
  return Object.keys(keys)
    .filter((name) => !name.endsWith('_error'))
    .map((name) => {
      const label = keys[name].dims?.[0];
      return {
        name,
        along: String(told[label]?.description ?? label),
        unit: String(told[label]?.units ?? ''),
        axis: Array.isArray(data[label]) ? data[label] : [],
      };
    })
    .filter((cut) => cut.axis.length > 1);
}

/**
 * The rows of a cut that are stored and not known yet, added to those that are.
 * @param {import('../tiled/api.js').TiledAPI} api
 * @param {string} path of the run
 * @param {CutRows} known
 * @returns {Promise<CutRows>}
 */
export async function moreRows(api, path, known) {
  const node = await api.find(path, ['cuts', known.info.name], ['structure']);
  const structure = node?.attributes.structure;
  const have = known.first + known.rows.length;
  if (!structure || structure.shape[0] <= have) return known;
  const first = Math.max(have, structure.shape[0] - MOST_ROWS);
  const width = known.info.axis.length;
  const values = await api.array(
    `${path}/cuts/${known.info.name}`,
    `${first}:${structure.shape[0]}`,
    dtypeOf(structure.data_type),
  );
  const fresh = Array.from({ length: values.length / width }, (_, row) =>
    Float64Array.from(values.subarray(row * width, (row + 1) * width)),
  );
  const rows = [...(first > have ? [] : known.rows), ...fresh].slice(-MOST_ROWS);
  return { ...known, rows, first: first + fresh.length - rows.length };
}
