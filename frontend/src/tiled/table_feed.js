/** Keeps a RowTable equal to a growing table of Tiled: rows are neither lost nor doubled.
 *
 * The stream is opened first and the whole table read once it reports changes, so that no row can
 * fall between the two; rows that arrive both ways are stored once. The table is read again after
 * each gap, and every few seconds while there is no stream.
 */

import { columnsOf } from './api.js';
import { Stream } from './stream.js';

const POLL_MS = 4000;

/**
 * @typedef {import('./api.js').TiledAPI} TiledAPI
 * @typedef {import('../data/row_table.js').RowTable} RowTable
 * @typedef {import('./stream.js').Sockets} Sockets
 */

export class TableFeed {
  #closed = false;
  #streaming = false;
  #loading = false;
  #again = false;
  #timer = 0;

  /**
   * @param {TiledAPI} api
   * @param {string} path of the table
   * @param {string[]} columns
   * @param {RowTable} table
   * @param {{grown: (rows: number) => void, failed: (error: Error) => void,
   *   growing: () => boolean}} run
   * @param {Sockets} [sockets]
   */
  constructor(api, path, columns, table, run, sockets) {
    this.api = api;
    this.path = path;
    this.columns = columns;
    this.table = table;
    this.run = run;
    this.sockets = sockets;
    /** @type {Stream | null} */
    this.stream = null;
    void this.load();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.stream?.close();
    this.stream = null;
  }

  /** Whether rows come as they are stored, not by polling. */
  get live() {
    return this.#streaming;
  }

  /** Read the whole table, and follow it while its run grows. */
  async load() {
    if (this.#closed) return;
    if (this.#loading) {
      this.#again = true;
      return;
    }
    this.#loading = true;
    clearTimeout(this.#timer);
    try {
      this.#grow(await this.api.table(this.path, this.columns));
      if (this.run.growing()) this.#follow();
    } catch (error) {
      this.run.failed(/** @type {Error} */ (error));
    } finally {
      this.#loading = false;
    }
    if (this.#again) {
      this.#again = false;
      await this.load();
    } else if (!this.#closed && this.run.growing() && !this.#streaming) {
      this.#timer = /** @type {any} */ (setTimeout(() => void this.load(), POLL_MS));
    }
  }

  #follow() {
    if (this.#closed || this.stream) return;
    const address = this.api.socketAddress(this.path);
    const listener = {
      opened: () => {
        this.#streaming = true;
        void this.load();
      },
      gap: () => void this.load(),
      lost: () => {
        this.#streaming = false;
        void this.load();
      },
      /** @param {import('./stream.js').Message} message */
      message: (message) => {
        if (message.type !== 'table-data' || !message.payload) return;
        if (message.append) this.#grow(columnsOf(message.payload, this.columns));
        else void this.load();
      },
    };
    this.stream = new Stream(address, listener, this.sockets);
  }

  /** @param {import('./api.js').Columns} columns */
  #grow(columns) {
    const added = this.table.append(columns);
    if (added && !this.#closed) this.run.grown(added);
  }
}
