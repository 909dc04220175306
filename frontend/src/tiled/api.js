/** Access to Tiled's HTTP API. The session cookie authorises every request. */

import { tableFromIPC } from '@uwdata/flechette';

const ARROW = 'application/vnd.apache.arrow.file';
const BYTES = 'application/octet-stream';

/** The server answered with an error, or not at all (`status` 0). */
export class RequestError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** The key of the session does not open this. */
  get refused() {
    return this.status === 401 || this.status === 403;
  }
}

/**
 * @typedef {{id: string, attributes: {metadata: any, structure: any, specs: {name: string}[] | null,
 *   structure_family: string | null, ancestors: string[]}}} Node
 * @typedef {Record<string, ArrayLike<any>>} Columns
 * @typedef {Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array |
 *   Int32Array | Uint32Array} NumberArray
 * @typedef {{fetch: typeof fetch}} Browser
 */

export class TiledAPI {
  /**
   * @param {URL} base address of the API, ending in `/`
   * @param {Browser} browser
   */
  constructor(base, browser = { fetch: (...request) => fetch(...request) }) {
    this.base = base;
    this.browser = browser;
  }

  /**
   * Nodes of a container; `total` counts those that are not in this page as well.
   * @param {string} path
   * @param {Record<string, string | number | string[]>} query
   * @returns {Promise<{nodes: Node[], total: number}>}
   */
  async search(path, query) {
    const answer = await this.#json(`search/${encodePath(path)}`, query);
    return { nodes: answer.data, total: answer.meta?.count ?? answer.data.length };
  }

  /**
   * @param {string} path
   * @param {string[]} fields
   * @returns {Promise<Node>}
   */
  async node(path, fields) {
    return (await this.#json(`metadata/${encodePath(path)}`, { fields })).data;
  }

  /**
   * A node below a container that exists, found step by step: asking for it at once would be an
   * error of the page where it is not there.
   * @param {string} parent
   * @param {string[]} keys
   * @param {string[]} fields
   * @returns {Promise<Node | null>}
   */
  async find(parent, keys, fields) {
    let path = parent;
    let found = null;
    for (const key of keys) {
      const { nodes } = await this.search(path, {
        fields,
        'filter[lookup][condition][key]': key,
      });
      found = nodes.find((node) => node.id === key) ?? null;
      if (!found) return null;
      path = path ? `${path}/${key}` : key;
    }
    return found;
  }

  /**
   * Rows of a table by column; columns that the table does not have are left out.
   * @param {string} path
   * @param {string[]} columns none = all of them
   * @returns {Promise<Columns>}
   */
  async table(path, columns) {
    const address = `table/full/${encodePath(path)}`;
    let answer;
    try {
      answer = await this.#get(address, { column: columns, format: ARROW });
    } catch (error) {
      if (!(error instanceof RequestError) || error.status !== 400) throw error;
      answer = await this.#get(address, { format: ARROW }); // a run of an older version
    }
    return columnsOf(new Uint8Array(await answer.arrayBuffer()), columns);
  }

  /**
   * Part of an array of numbers.
   * @param {string} path
   * @param {string} slice such as `3:5`
   * @param {string} dtype such as `<f4`
   * @param {AbortSignal} [signal]
   * @returns {Promise<NumberArray>}
   */
  async array(path, slice, dtype, signal) {
    const answer = await this.#get(
      `array/full/${encodePath(path)}`,
      { slice, format: BYTES },
      signal,
    );
    return numbers(await answer.arrayBuffer(), dtype);
  }

  /**
   * Address of the websocket that reports changes of a node.
   * @param {string} path
   */
  socketAddress(path) {
    const address = new URL(`stream/single/${encodePath(path)}`, this.base);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    address.searchParams.set('envelope_format', 'msgpack');
    return address;
  }

  /** What the server says about itself. */
  async about() {
    return this.#json('', {});
  }

  /**
   * @param {string} path
   * @param {Record<string, string | number | string[]>} query
   */
  async #json(path, query) {
    return (await this.#get(path, query)).json();
  }

  /**
   * @param {string} path
   * @param {Record<string, string | number | string[]>} query
   * @param {AbortSignal} [signal]
   */
  async #get(path, query, signal) {
    const address = new URL(path, this.base);
    for (const [name, values] of Object.entries(query)) {
      for (const value of [values].flat()) address.searchParams.append(name, String(value));
    }
    let answer;
    try {
      answer = await this.browser.fetch(address, { signal, credentials: 'same-origin' });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new RequestError(0, 'the Tiled server does not answer');
    }
    if (!answer.ok) throw new RequestError(answer.status, await reason(answer));
    return answer;
  }
}

/**
 * Columns of an Arrow file, numbers as typed arrays where nothing is missing.
 * @param {Uint8Array} bytes
 * @param {string[]} wanted none = all of them
 * @returns {Columns}
 */
export function columnsOf(bytes, wanted) {
  // 8-byte numbers are read in place; in a message they may begin anywhere.
  const table = tableFromIPC(bytes.byteOffset % 8 ? bytes.slice() : bytes);
  const names = wanted.length ? wanted.filter((name) => table.names.includes(name)) : table.names;
  return Object.fromEntries(names.map((name) => [name, table.getChild(name).toArray()]));
}

/**
 * @param {ArrayBuffer} buffer little-endian numbers
 * @param {string} dtype as numpy writes it
 * @returns {NumberArray}
 */
export function numbers(buffer, dtype) {
  switch (dtype.slice(1)) {
    case 'f4':
      return new Float32Array(buffer);
    case 'f8':
      return new Float64Array(buffer);
    case 'u1':
    case 'b1':
      return new Uint8Array(buffer);
    case 'i1':
      return new Int8Array(buffer);
    case 'u2':
      return new Uint16Array(buffer);
    case 'i2':
      return new Int16Array(buffer);
    case 'u4':
      return new Uint32Array(buffer);
    case 'i4':
      return new Int32Array(buffer);
    case 'u8':
      return Float64Array.from(new BigUint64Array(buffer), Number);
    case 'i8':
      return Float64Array.from(new BigInt64Array(buffer), Number);
    default:
      throw new RequestError(0, `images of type ${dtype} cannot be shown`);
  }
}

/**
 * @param {{endianness: string, kind: string, itemsize: number}} type
 * @returns {string} the type as numpy writes it
 */
export function dtypeOf(type) {
  const order = type.endianness === 'big' ? '>' : '<';
  if (order === '>' && type.itemsize > 1) {
    throw new RequestError(0, 'big-endian images cannot be shown');
  }
  return `${order}${type.kind}${type.itemsize}`;
}

/** @param {string} path */
function encodePath(path) {
  return path.split('/').filter(Boolean).map(encodeURIComponent).join('/');
}

/** @param {Response} answer */
async function reason(answer) {
  try {
    const { detail } = await answer.json();
    if (typeof detail === 'string') return detail;
  } catch {
    // no JSON: the status has to do
  }
  return `the server answered ${answer.status} ${answer.statusText}`.trim();
}
