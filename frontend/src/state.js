/** What the page shows: one place for all of it, changed by the views, read by the views. */

import { batch, computed, effect, signal } from '@preact/signals';

import { OpenRun } from './data/open_run.js';
import { RunList } from './data/run_list.js';
import { stateOf } from './data/run_info.js';
import { watchServices } from './data/services.js';
import { RequestError, TiledAPI } from './tiled/api.js';
import { closeSession, openSession, readAddress, writeAddress } from './session.js';

const PLAY_MS = 120;

/**
 * @template T
 * @typedef {import('@preact/signals').Signal<T>} Signal
 */

export class AppState {
  constructor() {
    const address = readAddress(location);
    this.api = new TiledAPI(new URL('../api/v1/', document.baseURI));
    this.list = new RunList(this.api, address.root);
    this.wanted = { run: address.run, frame: address.frame, key: address.key };

    /** @type {Signal<'starting' | 'open' | 'refused'>} */
    this.access = signal('starting');
    /** @type {Signal<any>} */
    this.about = signal(null);
    this.query = signal('');
    /** @type {Signal<OpenRun | null>} */
    this.run = signal(null);
    /** @type {Signal<string>} */
    this.selected = signal('');
    this.frame = signal(0);
    this.follow = signal(true);
    /** Whether the newest run opens by itself. */
    this.newest = signal(true);
    this.playing = signal(false);
    /** @type {Signal<number | null>} */
    this.peak = signal(null);
    /** Slugs of structures whose lines are drawn. */
    this.lines = signal(new Set());
    /** @type {Signal<import('./images/projection.js').Place | null>} */
    this.cursor = signal(null);
    this.contrast = stored('contrast', 'log');
    this.colours = stored('colours', 'inferno');
    this.boxes = stored('boxes', true);
    this.labels = stored('labels', true);
    this.theme = stored('theme', 'auto');
    this.now = signal(Date.now());
    /** When rows came last, ms. */
    this.lastRow = signal(Date.now());
    /** Consumers and other services that the server knows of. */
    this.services = signal(/** @type {import('./data/services.js').Service[]} */ ([]));
    /** The last lines of the logs of consumers. */
    this.logs = signal(/** @type {import('./data/services.js').Log[]} */ ([]));
    /** Whether the server lets those operate who may write, and whether this is open. */
    this.operated = signal(false);
    this.operating = signal(false);
    /** The polar image that is shown, for the profile of a peak. */
    this.polar = signal(/** @type {import('./data/image_cache.js').Image | null} */ (null));

    this.info = computed(
      () => this.list.runs.value.find((run) => run.uid === this.selected.value) ?? null,
    );
    this.growing = computed(() => Boolean(this.info.value && !this.info.value.stopped));
    this.frames = computed(() => {
      const run = this.run.value;
      if (!run) return [];
      void run.version.value;
      return [...run.tables.frames.column('frame')].sort((a, b) => a - b);
    });
    this.#connect();
  }

  /** @param {import('./data/run_info.js').RunInfo} run */
  stateOf(run) {
    return stateOf(run, this.list.written.value.has(run.uid));
  }

  async start() {
    if (this.wanted.key) {
      writeAddress(this.wanted.run);
      await openSession(this.wanted.key).catch(() => {});
    }
    await this.retry();
  }

  /** Ask the server whether this session may read, and load the list if so. */
  async retry() {
    try {
      this.about.value = await this.api.about();
    } catch {
      // the list says what is wrong
    }
    await this.list.start();
    const refused = this.list.error.value instanceof RequestError && this.list.error.value.refused;
    if (!refused && this.access.value !== 'open') {
      void watchServices(({ services, logs, operated }) => {
        batch(() => {
          this.operated.value = operated;
          this.services.value = services;
          this.logs.value = logs;
        });
      });
    }
    this.access.value = refused ? 'refused' : 'open';
  }

  async leave() {
    await closeSession();
    location.reload();
  }

  /**
   * Open a run that somebody chose; the newest stays the newest.
   * @param {string} uid
   */
  async choose(uid) {
    this.newest.value = uid === this.list.runs.peek()[0]?.uid;
    await this.open(uid);
  }

  /** @param {string} uid */
  async open(uid) {
    const info = this.list.runs.peek().find((run) => run.uid === uid);
    if (!info || this.selected.peek() === uid) return;
    this.run.peek()?.close();
    batch(() => {
      this.run.value = null;
      this.selected.value = uid;
      this.follow.value = true;
      this.playing.value = false;
      this.peak.value = null;
      this.lines.value = new Set();
    });
    writeAddress(uid);
    const node = await this.api.node(info.path, ['metadata']);
    if (this.selected.peek() !== uid) return;
    const start = node.attributes.metadata.start;
    this.run.value = new OpenRun(this.api, info, start, () => this.growing.peek());
  }

  /**
   * Show a frame; the newest is no longer followed.
   * @param {number} frame
   */
  show(frame) {
    batch(() => {
      this.follow.value = frame === this.frames.peek().at(-1) && this.growing.peek();
      this.frame.value = frame;
      this.peak.value = null;
    });
  }

  /** @param {number} steps */
  step(steps) {
    const frames = this.frames.peek();
    const place = Math.max(0, frames.indexOf(this.frame.peek())) + steps;
    const frame = frames[Math.min(Math.max(place, 0), frames.length - 1)];
    if (frame !== undefined) this.show(frame);
  }

  /** @param {string} slug */
  toggleLines(slug) {
    const lines = new Set(this.lines.peek());
    if (!lines.delete(slug)) lines.add(slug);
    this.lines.value = lines;
  }

  #connect() {
    effect(() => {
      const frames = this.frames.value;
      if (this.follow.value && frames.length) this.frame.value = frames[frames.length - 1];
    });
    effect(() => {
      if (this.run.value) void this.run.value.version.value;
      this.lastRow.value = Date.now();
    });
    effect(() => {
      // Rows that came between the last one seen and the end of the run.
      if (this.info.value?.stopped) this.run.peek()?.refresh();
    });
    effect(() => {
      const [first, ...others] = this.list.runs.value;
      if (!first) return;
      const wanted = others.find((run) => run.uid === this.wanted.run);
      if (wanted && !this.selected.peek()) void this.choose(wanted.uid);
      else if (this.newest.value) void this.open(first.uid);
    });
    effect(() => {
      if (!this.playing.value) return undefined;
      const timer = setInterval(() => {
        const frames = this.frames.peek();
        if (this.frame.peek() === frames.at(-1)) this.show(frames[0]);
        else this.step(1);
      }, PLAY_MS);
      return () => clearInterval(timer);
    });
    effect(() => {
      document.documentElement.dataset.theme = String(this.theme.value);
    });
    setInterval(() => {
      this.now.value = Date.now();
    }, 1000);
  }
}

/**
 * A setting that the browser remembers.
 * @template T
 * @param {string} name
 * @param {T} fallback
 * @returns {Signal<T>}
 */
function stored(name, fallback) {
  let value = fallback;
  try {
    value = JSON.parse(localStorage.getItem(`gixi.${name}`) ?? 'null') ?? fallback;
  } catch {
    // settings of another version, or no storage
  }
  const one = signal(value);
  effect(() => {
    try {
      localStorage.setItem(`gixi.${name}`, JSON.stringify(one.value));
    } catch {
      // private windows may have no storage
    }
  });
  return one;
}
