/** The run that is looked at: its tables, which grow, and what its start document says. */

import { signal } from '@preact/signals';

import { dtypeOf } from '../tiled/api.js';
import { TableFeed } from '../tiled/table_feed.js';
import { RowTable } from './row_table.js';

const REDRAW_MS = 150;
const LOOK_MS = 1500;
const RARELY_MS = 10_000;

/** Columns that the page reads, and those that identify a row of a frame. */
const TABLES = {
  frames: {
    keys: [],
    columns: [
      'frame', 'raw_time', 'incidence_angle_deg', 'n_peaks', 'best_phase', 'best_probability',
      'total_intensity', 'latency', 'status', 'reason',
    ],
  },
  peaks: {
    keys: ['peak'],
    columns: [
      'frame', 'peak', 'track', 'q', 'q_error', 'phi', 'q_xy', 'q_z', 'fwhm_q', 'fwhm_phi',
      'x0', 'y0', 'x1', 'y1', 'score', 'snr', 'intensity', 'intensity_error', 'background',
      'kind',
    ],
  },
  matches: {
    keys: ['phase'],
    columns: [
      'frame', 'phase', 'probability', 'intensity_fraction', 'n_matched', 'n_expected',
      'lattice_scale', 'lattice_scale_error', 'cell_a', 'cell_b', 'cell_c', 'contact_h',
      'contact_k', 'contact_l', 'mosaic_deg',
    ],
  },
  match_peaks: {
    keys: ['peak', 'phase', 'h', 'k', 'l'],
    columns: ['frame', 'peak', 'phase', 'h', 'k', 'l', 'dq'],
  },
  textures: {
    keys: ['name'],
    columns: ['frame', 'name', 'phase', 'hermans', 'hermans_error'],
  },
  courses: {
    keys: ['track'],
    columns: [
      'frame', 'track', 'q', 'q_error', 'intensity', 'intensity_error', 'upper_limit', 'detected',
    ],
  },
};

/**
 * @typedef {import('../tiled/api.js').TiledAPI} TiledAPI
 * @typedef {keyof typeof TABLES} TableName
 * @typedef {{slug: string, name: string, q: number[], hkl: number[][], intensity: number[]}} Structure
 * @typedef {[number, number]} Ends first and last value of an axis
 * @typedef {{path: string, shape: number[], dtype: string, qXY?: Ends, qZ?: Ends}} ImageStack
 * @typedef {{qMax: number, nPhi: number, nQ: number}} Grid
 */

export class OpenRun {
  /** @type {Map<TableName, TableFeed>} */
  #feeds = new Map();
  #redraw = 0;
  #looking = 0;
  #closed = false;

  /**
   * @param {TiledAPI} api
   * @param {import('./run_info.js').RunInfo} info
   * @param {any} start document
   * @param {() => boolean} growing
   */
  constructor(api, info, start, growing) {
    this.api = api;
    this.uid = info.uid;
    this.path = info.path;
    this.start = start;
    /** Goes up when rows have come. */
    this.version = signal(0);
    /** @type {import('@preact/signals').Signal<Error | null>} */
    this.error = signal(null);
    /** @type {Record<TableName, RowTable>} */
    this.tables = /** @type {any} */ (
      Object.fromEntries(
        Object.entries(TABLES).map(([name, { keys }]) => [name, new RowTable(keys)]),
      )
    );
    this.growing = growing;
    void this.#look();
  }

  /** Read every table once more, as after the end of the run. */
  refresh() {
    void this.#look();
    for (const feed of this.#feeds.values()) void feed.load();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#redraw);
    clearTimeout(this.#looking);
    for (const feed of this.#feeds.values()) feed.close();
  }

  /** Whether rows come as they are stored. */
  get live() {
    return [...this.#feeds.values()].some((feed) => feed.live);
  }

  /** Look which tables there are by now, and follow them. */
  async #look() {
    clearTimeout(this.#looking);
    try {
      const { nodes } = await this.api.search(this.path, { fields: 'structure' });
      if (this.#closed) return;
      for (const node of nodes) {
        const name = /** @type {TableName} */ (node.id);
        // A stream is there from its descriptor on, its table from the first rows on.
        const filled = node.attributes.structure?.count > 0;
        if (name in TABLES && filled && !this.#feeds.has(name)) this.#feeds.set(name, this.#feed(name));
      }
    } catch (error) {
      this.error.value = /** @type {Error} */ (error);
    }
    const all = this.#feeds.size === Object.keys(TABLES).length;
    if (!this.#closed && !all && this.growing()) {
      // Some runs have no textures or tracks at all.
      const pause = this.#feeds.has('frames') ? RARELY_MS : LOOK_MS;
      this.#looking = /** @type {any} */ (setTimeout(() => void this.#look(), pause));
    }
  }

  /** @param {TableName} name */
  #feed(name) {
    return new TableFeed(
      this.api,
      `${this.path}/${name}/internal`,
      TABLES[name].columns,
      this.tables[name],
      {
        grown: () => this.#grown(),
        failed: (error) => {
          this.error.value = error;
        },
        growing: this.growing,
      },
    );
  }

  /** @returns {Grid} */
  get grid() {
    const { q_max_inv_angstrom: qMax, shape } = this.start.gixi.grid ?? {};
    return { qMax: Number(qMax ?? 1), nPhi: shape?.[0] ?? 1, nQ: shape?.[1] ?? 1 };
  }

  /** Every `imageStep`-th frame has an image. */
  get imageStep() {
    return Number(this.start.gixi.image_step ?? 1);
  }

  /** @returns {Structure[]} candidate structures with the lines of their powder pattern */
  get structures() {
    const told = this.start.gixi.phases_searched;
    if (!Array.isArray(told)) return [];
    return told.map((one) => ({
      slug: String(one.slug),
      name: String(one.name ?? one.slug),
      q: one.lines?.q ?? [],
      hkl: one.lines?.hkl ?? [],
      intensity: one.lines?.intensity ?? [],
    }));
  }

  /** @returns {Promise<ImageStack | null>} the polar images, null where there are none yet */
  async polarImages() {
    return this.#stack(this.path, ['images', 'polar_image']);
  }

  /** @returns {Promise<ImageStack | null>} the stored images on (q_z, q_xy), null without */
  async qImages() {
    const stack = await this.#stack(this.path, ['images', 'q_image']);
    if (!stack) return null;
    const { attributes } = await this.api.node(`${this.path}/images`, ['metadata']);
    const axes = attributes.metadata?.configuration?.gixi?.data ?? {};
    const labels = attributes.metadata?.data_keys?.q_image?.dims ?? [];
    const [qZ, qXY] = labels.map((/** @type {string} */ label) => ends(axes[label]));
    return qXY && qZ ? { ...stack, qXY, qZ } : null;
  }

  /** @returns {Promise<ImageStack | null>} the raw run's images, null where it is not here */
  async rawImages() {
    const { parent, keys } = this.#rawStream();
    return this.#stack(parent, [...keys, this.start.gixi.raw_data_key]);
  }

  /** @returns {Promise<import('../tiled/api.js').Columns>} numbers of the raw run's events */
  async rawScalars() {
    const { parent, keys } = this.#rawStream();
    const table = await this.api.find(parent, [...keys, 'internal'], ['structure_family']);
    if (!table) return {};
    const columns = await this.api.table([parent, ...keys, 'internal'].join('/'), []);
    return Object.fromEntries(
      Object.entries(columns).filter(
        ([name, values]) =>
          !name.startsWith('ts_') && name !== 'seq_num' && Number.isFinite(values[0]),
      ),
    );
  }

  #rawStream() {
    const { raw_uid: uid, raw_stream: stream, provenance } = this.start.gixi;
    const parent = this.path.split('/').slice(0, -2).join('/');
    const catalogue = String(provenance?.config?.tiled?.raw ?? 'raw').split('/');
    return { parent, keys: [...catalogue, uid, stream] };
  }

  /**
   * @param {string} parent
   * @param {string[]} keys
   */
  async #stack(parent, keys) {
    const node = await this.api.find(parent, keys, ['structure']);
    const { shape, data_type: type } = node?.attributes.structure ?? {};
    if (!type) return null;
    const single = shape.slice(1, -2).every((/** @type {number} */ size) => size === 1);
    if (shape.length < 3 || !single) throw new Error(`arrays of shape ${shape} cannot be shown`);
    return { path: [parent, ...keys].join('/'), shape, dtype: dtypeOf(type) };
  }

  #grown() {
    if (this.#redraw) return;
    this.#redraw = /** @type {any} */ (
      setTimeout(() => {
        this.#redraw = 0;
        this.error.value = null;
        this.version.value += 1;
      }, REDRAW_MS)
    );
  }
}

/**
 * @param {unknown} axis
 * @returns {Ends | null}
 */
function ends(axis) {
  if (!Array.isArray(axis) || axis.length < 2) return null;
  return [Number(axis[0]), Number(axis[axis.length - 1])];
}
