/** Images of one stack, fetched in blocks ahead of the slider and kept within a number of bytes. */

/**
 * @typedef {import('../tiled/api.js').NumberArray} NumberArray
 * @typedef {import('./open_run.js').ImageStack} ImageStack
 * @typedef {{rows: number, columns: number, values: NumberArray}} Image
 */

export class ImageCache {
  /** @type {Map<number, Image>} */
  #images = new Map();
  /** @type {Map<number, Promise<void>>} */
  #fetching = new Map();
  #bytes = 0;
  #abort = new AbortController();

  /**
   * @param {import('../tiled/api.js').TiledAPI} api
   * @param {ImageStack} stack
   * @param {{bytes?: number, block?: number}} [limits]
   */
  constructor(api, stack, { bytes = 160e6, block = 8 } = {}) {
    this.api = api;
    this.stack = stack;
    this.limit = bytes;
    this.block = block;
  }

  /** @param {number} row of the stack */
  peek(row) {
    return this.#images.get(row) ?? null;
  }

  /** Bytes that are held. */
  get bytes() {
    return this.#bytes;
  }

  close() {
    this.#abort.abort();
    this.#images.clear();
    this.#bytes = 0;
  }

  /**
   * Return the image of a row; neighbours that are stored already come with it.
   * @param {number} row
   * @param {number} stored rows that the stack holds by now
   * @param {boolean} alone fetch no neighbours
   * @returns {Promise<Image>}
   */
  async get(row, stored, alone = false) {
    if (!alone) this.#fetchAhead(row, stored);
    const there = this.#images.get(row);
    if (there) {
      this.#images.delete(row); // the youngest again
      this.#images.set(row, there);
      return there;
    }
    await this.#fetch(...this.#missing(row, alone ? row + 1 : stored), row);
    const image = this.#images.get(row);
    if (!image) throw new Error(`image ${row} is not stored`);
    return image;
  }

  /**
   * The rows around one in its block that are stored and not held.
   * @param {number} row
   * @param {number} stored
   * @returns {[number, number]} first, and the one after the last
   */
  #missing(row, stored) {
    const start = row - (row % this.block);
    const end = Math.min(start + this.block, Math.max(stored, row + 1));
    let [first, last] = [row, row + 1];
    while (stored > row + 1 && first > start && !this.#held(first - 1)) first -= 1;
    while (last < end && !this.#held(last)) last += 1;
    return [first, last];
  }

  /**
   * Fetch the next block once the second half of a block is looked at.
   * @param {number} row
   * @param {number} stored
   */
  #fetchAhead(row, stored) {
    const next = row - (row % this.block) + this.block;
    if (next - row > this.block / 2 || next >= stored || this.#held(next)) return;
    this.#fetch(...this.#missing(next, stored), next).catch(() => {}); // asked for again when wanted
  }

  /** @param {number} row */
  #held(row) {
    return this.#images.has(row) || this.#fetching.has(row);
  }

  /**
   * @param {number} first
   * @param {number} last
   * @param {number} wanted
   */
  async #fetch(first, last, wanted) {
    const running = this.#fetching.get(wanted);
    if (running) return running;
    const fetching = this.#read(first, last).finally(() => {
      for (let row = first; row < last; row++) this.#fetching.delete(row);
    });
    for (let row = first; row < last; row++) this.#fetching.set(row, fetching);
    return fetching;
  }

  /**
   * @param {number} first
   * @param {number} last
   */
  async #read(first, last) {
    const { path, dtype, shape } = this.stack;
    const [rows, columns] = shape.slice(-2);
    const values = await this.api.array(path, `${first}:${last}`, dtype, this.#abort.signal);
    const size = rows * columns;
    for (let row = first; row < last; row++) {
      const part = values.slice((row - first) * size, (row - first + 1) * size);
      if (part.length === size) this.#keep(row, { rows, columns, values: part });
    }
  }

  /**
   * @param {number} row
   * @param {Image} image
   */
  #keep(row, image) {
    const before = this.#images.get(row);
    if (before) this.#bytes -= before.values.byteLength;
    this.#images.delete(row);
    this.#images.set(row, image);
    this.#bytes += image.values.byteLength;
    for (const [oldest, old] of this.#images) {
      if (this.#bytes <= this.limit || oldest === row) break;
      this.#images.delete(oldest);
      this.#bytes -= old.values.byteLength;
    }
  }
}
