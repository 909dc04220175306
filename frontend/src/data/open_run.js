/** The run that is looked at: its tables, which grow, and what its start document says. */

import { signal } from '@preact/signals';

import { dtypeOf } from '../tiled/api.js';
import { TableFeed } from '../tiled/table_feed.js';
import { RowTable } from './row_table.js';

const REDRAW_MS = 150;

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
 * @typedef {{path: string, shape: number[], dtype: string}} ImageStack
 * @typedef {{qMax: number, nPhi: number, nQ: number}} Grid
 */

export class OpenRun {
  /** @type {TableFeed[]} */
  #feeds = [];
  #redraw = 0;

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
    for (const [name, { columns }] of Object.entries(TABLES)) {
      const feed = new TableFeed(
        api,
        `${info.path}/${name}/internal`,
        columns,
        this.tables[/** @type {TableName} */ (name)],
        {
          grown: () => this.#grown(),
          failed: (error) => {
            this.error.value = error;
          },
          growing,
        },
      );
      this.#feeds.push(feed);
    }
  }

  /** Read every table once more, as after the end of the run. */
  refresh() {
    for (const feed of this.#feeds) void feed.load();
  }

  close() {
    clearTimeout(this.#redraw);
    for (const feed of this.#feeds) feed.close();
  }

  /** Whether rows come as they are stored. */
  get live() {
    return this.#feeds.some((feed) => feed.live);
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

  /** @returns {Promise<ImageStack>} the polar images */
  async polarImages() {
    return this.#stack(`${this.path}/images/polar_image`);
  }

  /** @returns {Promise<ImageStack>} the detector images of the raw run, from the same server */
  async rawImages() {
    const { raw_uid: uid, raw_stream: stream, raw_data_key: key, provenance } = this.start.gixi;
    const parent = this.path.split('/').slice(0, -2);
    const catalogue = String(provenance?.config?.tiled?.raw ?? 'raw').split('/');
    return this.#stack([...parent, ...catalogue, uid, stream, key].join('/'));
  }

  /** @param {string} path */
  async #stack(path) {
    const node = await this.api.node(path, ['structure']);
    const { shape, data_type: type } = node.attributes.structure;
    return { path, shape, dtype: dtypeOf(type) };
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
