/** Rows by column, each stored once, the oldest frames dropped beyond a limit. */

/** @typedef {Record<string, any>} Row */

export class RowTable {
  /** @type {Record<string, any[]>} */
  #columns = {};
  /** @type {Map<number, number[]>} */
  #rowsOfFrame = new Map();
  #length = 0;

  /**
   * @param {string[]} keys columns that identify a row besides `frame`
   * @param {number} limit rows that are kept
   */
  constructor(keys, limit = 200_000) {
    this.keys = keys;
    this.limit = limit;
  }

  get length() {
    return this.#length;
  }

  /** Frames that have rows, in the order in which they came. */
  get frames() {
    return [...this.#rowsOfFrame.keys()];
  }

  /**
   * Values of a column in the order of the rows; empty when no row has it.
   * @param {string} name
   * @returns {any[]}
   */
  column(name) {
    return this.#columns[name] ?? [];
  }

  /**
   * @param {number} frame
   * @returns {Row[]}
   */
  rows(frame) {
    return (this.#rowsOfFrame.get(frame) ?? []).map((row) => this.row(row));
  }

  /**
   * @param {number} index
   * @returns {Row}
   */
  row(index) {
    return Object.fromEntries(
      Object.entries(this.#columns).map(([name, values]) => [name, values[index]]),
    );
  }

  /**
   * Add the rows that are not there yet and return how many were.
   * @param {Record<string, ArrayLike<any>>} columns must hold `frame` and the keys
   */
  append(columns) {
    const frames = columns.frame;
    if (!frames) return 0;
    const before = this.#length;
    for (let row = 0; row < frames.length; row++) {
      const frame = Number(frames[row]);
      if (!this.#has(frame, columns, row)) this.#add(frame, columns, row);
    }
    const added = this.#length - before;
    if (this.#length > this.limit * 1.25) this.#dropOldest();
    return added;
  }

  /**
   * @param {number} frame
   * @param {Record<string, ArrayLike<any>>} columns
   * @param {number} row
   */
  #has(frame, columns, row) {
    const there = this.#rowsOfFrame.get(frame);
    if (!there) return false;
    return there.some((index) =>
      this.keys.every((key) => this.#columns[key]?.[index] === columns[key]?.[row]),
    );
  }

  /**
   * @param {number} frame
   * @param {Record<string, ArrayLike<any>>} columns
   * @param {number} row
   */
  #add(frame, columns, row) {
    for (const name of Object.keys(columns)) {
      this.#columns[name] ??= new Array(this.#length).fill(NaN);
    }
    for (const [name, values] of Object.entries(this.#columns)) {
      values.push(name === 'frame' ? frame : (columns[name]?.[row] ?? NaN));
    }
    const there = this.#rowsOfFrame.get(frame);
    if (there) there.push(this.#length);
    else this.#rowsOfFrame.set(frame, [this.#length]);
    this.#length += 1;
  }

  #dropOldest() {
    const frames = this.#columns.frame ?? [];
    const sorted = [...frames].sort((a, b) => a - b);
    const first = sorted[this.#length - this.limit];
    const kept = frames.map((_, row) => row).filter((row) => frames[row] >= first);
    for (const [name, values] of Object.entries(this.#columns)) {
      this.#columns[name] = kept.map((row) => values[row]);
    }
    this.#rowsOfFrame.clear();
    this.#length = kept.length;
    kept.forEach((old, row) => {
      const frame = frames[old];
      const there = this.#rowsOfFrame.get(frame);
      if (there) there.push(row);
      else this.#rowsOfFrame.set(frame, [row]);
    });
  }
}
