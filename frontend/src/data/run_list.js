/** The derived runs of the server, newest first; they grow while runs are measured. */

import { signal } from '@preact/signals';

import { Stream } from '../tiled/stream.js';
import { runInfo, SELECTED } from './run_info.js';

const CATALOGUE = 'CatalogOfBlueskyRuns';
const CLAIMS = 'gixi_claims';
const PAGE = 100;
const KEPT = 500;
const SEARCHED = 2000;
const POLL_MS = 4000;
const CLAIMS_MS = 5000;
const SILENT_MS = 25_000;
const MOST_CATALOGUES = 12;

/**
 * @typedef {import('../tiled/api.js').TiledAPI} TiledAPI
 * @typedef {import('./run_info.js').RunInfo} RunInfo
 */

export class RunList {
  /** @type {Map<string, RunInfo>} */
  #runs = new Map();
  /** @type {Map<string, {sign: string, at: number}>} */
  #signs = new Map();
  /** @type {Map<string, Stream>} */
  #streams = new Map();
  #streaming = new Set();
  #timers = { poll: 0, claims: 0 };
  #closed = false;
  /** @type {string[]} */
  #catalogues = [];

  /**
   * @param {TiledAPI} api
   * @param {string} root container that holds the catalogues, or a catalogue itself
   * @param {() => number} now in ms
   */
  constructor(api, root, now = Date.now) {
    this.api = api;
    this.root = root;
    this.now = now;
    /** @type {import('@preact/signals').Signal<RunInfo[]>} */
    this.runs = signal([]);
    this.loaded = signal(false);
    /** @type {import('@preact/signals').Signal<Error | null>} */
    this.error = signal(null);
    /** How many runs the catalogues hold, of which the newest are loaded. */
    this.total = signal(0);
    /** Uids of runs without an end that something writes to. */
    this.written = signal(new Set());
  }

  /** Load the newest runs and follow the catalogues. */
  async start() {
    await this.#load();
    void this.#watchClaims();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timers.poll);
    clearTimeout(this.#timers.claims);
    for (const stream of this.#streams.values()) stream.close();
  }

  /** Whether every change is reported by the server, not found by polling. */
  get live() {
    return this.#streaming.size > 0 && this.#streaming.size === this.#catalogues.length;
  }

  /** Load older runs as well, for a search; at most SEARCHED. */
  async loadOlder() {
    for (const catalogue of this.#catalogues) {
      for (let offset = PAGE; offset < SEARCHED; offset += PAGE) {
        const { nodes } = await this.#page(catalogue, offset);
        this.#take(catalogue, nodes, SEARCHED);
        if (nodes.length < PAGE) break;
      }
    }
  }

  async #load() {
    if (this.#closed) return;
    clearTimeout(this.#timers.poll);
    try {
      this.#catalogues = await this.#findCatalogues();
      let total = 0;
      for (const catalogue of this.#catalogues) {
        const page = await this.#page(catalogue, 0);
        total += page.total;
        this.#take(catalogue, page.nodes, KEPT);
        this.#follow(catalogue);
      }
      this.total.value = total;
      this.error.value = null;
      this.loaded.value = true;
    } catch (error) {
      this.error.value = /** @type {Error} */ (error);
    }
    if (!this.#closed && !this.live) {
      this.#timers.poll = /** @type {any} */ (setTimeout(() => void this.#load(), POLL_MS));
    }
  }

  /** @returns {Promise<string[]>} */
  async #findCatalogues() {
    const query = { fields: 'specs', 'page[limit]': PAGE };
    const { nodes } = await this.api.search(this.root, query);
    const catalogues = nodes.filter(isCatalogue).slice(0, MOST_CATALOGUES);
    // A container without catalogues may be one itself.
    if (!catalogues.length) return [this.root];
    return catalogues.map((node) => (this.root ? `${this.root}/${node.id}` : node.id));
  }

  /**
   * @param {string} catalogue
   * @param {number} offset
   */
  #page(catalogue, offset) {
    return this.api.search(catalogue, {
      'fields': 'metadata',
      'select_metadata': SELECTED,
      'sort': '-',
      'page[offset]': offset,
      'page[limit]': PAGE,
      'filter[eq][condition][key]': 'start.purpose',
      'filter[eq][condition][value]': '"gixi"',
    });
  }

  /**
   * @param {string} catalogue
   * @param {import('../tiled/api.js').Node[]} nodes
   * @param {number} kept
   */
  #take(catalogue, nodes, kept) {
    // What `select_metadata` picked is one level down.
    for (const node of nodes) this.#put(catalogue, node.id, node.attributes.metadata?.selected);
    this.#publish(kept);
  }

  /**
   * @param {string} catalogue
   * @param {string} key
   * @param {any} metadata
   */
  #put(catalogue, key, metadata) {
    const run = runInfo(`${catalogue}/${key}`, metadata);
    if (!run) return;
    this.#runs.set(run.uid, run);
    if (!run.stopped) this.#note(run.uid, `${run.frames} ${run.peaks}`);
  }

  /** @param {number} kept */
  #publish(kept = KEPT) {
    const sorted = [...this.#runs.values()].sort((a, b) => b.time - a.time);
    for (const run of sorted.slice(Math.max(kept, this.runs.peek().length))) {
      this.#runs.delete(run.uid);
    }
    this.runs.value = sorted.filter((run) => this.#runs.has(run.uid));
    this.#judge();
  }

  /** @param {string} catalogue */
  #follow(catalogue) {
    if (this.#streams.has(catalogue)) return;
    const changed = () => void this.#load();
    const stream = new Stream(this.api.socketAddress(catalogue), {
      opened: () => {
        this.#streaming.add(catalogue);
        changed();
      },
      gap: changed,
      lost: () => {
        this.#streaming.delete(catalogue);
        changed();
      },
      message: ({ type, key, metadata }) => {
        if (!key || !type.startsWith('container-child-')) return;
        // An update that left the metadata alone has none; a new run counts as one more.
        if (type === 'container-child-created') this.total.value += metadata?.start?.gixi ? 1 : 0;
        this.#put(catalogue, key, metadata);
        this.#publish();
      },
    });
    this.#streams.set(catalogue, stream);
  }

  /** Look which runs have a writer: its claim beats every few seconds. */
  async #watchClaims() {
    const open = this.runs.peek().filter((run) => !run.stopped);
    const places = new Set(open.map((run) => beside(run.path)));
    for (const place of places) {
      try {
        const { nodes } = await this.api.search(place, { fields: 'metadata', 'page[limit]': PAGE });
        for (const node of nodes) {
          const { uid, epoch, beats } = node.attributes.metadata ?? {};
          if (uid) this.#note(uid, `beat ${epoch} ${beats}`);
        }
      } catch {
        // no claims for this viewer: the growing summary has to do
      }
    }
    this.#judge();
    if (this.#closed) return;
    this.#timers.claims = /** @type {any} */ (
      setTimeout(() => void this.#watchClaims(), CLAIMS_MS)
    );
  }

  /**
   * Note a sign of life of a run that has not ended.
   * @param {string} uid
   * @param {string} sign
   */
  #note(uid, sign) {
    const id = `${uid} ${sign.split(' ')[0] === 'beat'}`;
    if (this.#signs.get(id)?.sign !== sign) this.#signs.set(id, { sign, at: this.now() });
  }

  #judge() {
    const written = new Set();
    const deadline = this.now() - SILENT_MS;
    for (const run of this.#runs.values()) {
      const signs = [this.#signs.get(`${run.uid} true`), this.#signs.get(`${run.uid} false`)];
      if (!run.stopped && signs.some((sign) => sign && sign.at > deadline)) written.add(run.uid);
      if (run.stopped) {
        this.#signs.delete(`${run.uid} true`);
        this.#signs.delete(`${run.uid} false`);
      }
    }
    const before = this.written.peek();
    const same = written.size === before.size && [...written].every((uid) => before.has(uid));
    if (!same) this.written.value = written;
  }
}

/** @param {import('../tiled/api.js').Node} node */
function isCatalogue(node) {
  return (node.attributes.specs ?? []).some((spec) => spec.name === CATALOGUE);
}

/** @param {string} path of a run in its catalogue */
function beside(path) {
  return [...path.split('/').slice(0, -2), CLAIMS].join('/');
}
