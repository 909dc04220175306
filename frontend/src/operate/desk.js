/** Requests of an operator. The key stays in the memory of this tab: a reload asks for it again. */

/**
 * @typedef {{where: string, message: string}} Problem
 * @typedef {{part: string, ok: boolean, detail: string, warnings: string[]}} Finding
 * @typedef {{number: number, who: string, when: string, note: string}} Version
 * @typedef {{when: string, who: string, action: string, details: any, outcome: string}} Entry
 * @typedef {{who: string, schema: any, configuration: any, structures: string[],
 *   versions: Version[], record: Entry[]}} DeskState
 * @typedef {{number: number, raw_uid: string, version: number, state: string, lines: string[]}}
 *   Reprocessing
 * @typedef {{slurm: import('../data/services.js').Job | null,
 *   logs: import('../data/services.js').Log[], reprocessing: Reprocessing[]}} JobsState
 * @typedef {{image: string, grid: import('../data/open_run.js').Grid, peaks: any[],
 *   matches: any[], seconds: number}} Shown
 */

export class Desk {
  /**
   * @param {string} key that may write to Tiled
   * @param {{fetch: typeof fetch}} browser
   */
  constructor(key, browser = { fetch: (...request) => fetch(...request) }) {
    this.key = key;
    this.browser = browser;
  }

  /** @param {number} version @returns {Promise<DeskState>} */
  state(version = 0) {
    return this.#ask(`state?version=${version}`);
  }

  /** @returns {Promise<JobsState>} */
  jobs() {
    return this.#ask('jobs');
  }

  /**
   * @param {string} action
   * @param {Record<string, any>} asked
   */
  act(action, asked) {
    return this.#ask(action, asked);
  }

  /**
   * @param {string} path
   * @param {Record<string, any>} [body]
   */
  async #ask(path, body) {
    const answer = await this.browser.fetch(`operate/${path}`, {
      method: body ? 'POST' : 'GET',
      headers: { Authorization: `Apikey ${this.key}`, 'Content-Type': 'application/json' },
      body: body && JSON.stringify(body),
      credentials: 'omit',
    });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(told.detail ?? `the server answered ${answer.status}`);
    return told;
  }
}

/**
 * The polar image of a trial.
 * @param {Shown} shown
 * @returns {import('../data/image_cache.js').Image}
 */
export function trialImage({ image, grid }) {
  const bytes = Uint8Array.from(atob(image), (letter) => letter.charCodeAt(0));
  return { rows: grid.nPhi, columns: grid.nQ, values: new Float32Array(bytes.buffer) };
}
