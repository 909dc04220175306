/** A websocket of Tiled that opens again after every loss, with growing pauses. */

import { decode } from '@msgpack/msgpack';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;

/**
 * @typedef {{type: string, sequence?: number, payload?: Uint8Array, key?: string,
 *   metadata?: any, append?: boolean, mimetype?: string}} Message
 * @typedef {object} Listener
 * @property {() => void} opened the stream reports changes from now on; earlier ones may be missed
 * @property {(message: Message) => void} message
 * @property {() => void} gap messages were lost
 * @property {() => void} lost the stream is closed and will be opened again
 * @typedef {{open: (address: URL) => WebSocket, later: (call: () => void, ms: number) => number,
 *   never: (timer: number) => void}} Sockets
 */

/** @type {Sockets} */
const BROWSER = {
  open: (address) => new WebSocket(address),
  later: (call, ms) => window.setTimeout(call, ms),
  never: (timer) => window.clearTimeout(timer),
};

export class Stream {
  /** @type {WebSocket | null} */
  #socket = null;
  #pause = FIRST_PAUSE_MS;
  #timer = 0;
  #closed = false;
  /** @type {number | null} */
  #sequence = null;

  /**
   * @param {URL} address
   * @param {Listener} listener
   * @param {Sockets} sockets
   */
  constructor(address, listener, sockets = BROWSER) {
    this.address = address;
    this.listener = listener;
    this.sockets = sockets;
    this.#open();
  }

  close() {
    this.#closed = true;
    this.sockets.never(this.#timer);
    this.#socket?.close();
  }

  #open() {
    const socket = this.sockets.open(this.address);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    this.#sequence = null;
    let open = false;
    socket.onmessage = (event) => {
      if (this.#closed || this.#socket !== socket) return;
      if (!open) {
        // The first message is the schema: the server accepted the subscription.
        open = true;
        this.#pause = FIRST_PAUSE_MS;
        this.listener.opened();
        return;
      }
      this.#take(/** @type {Message} */ (decode(new Uint8Array(event.data))));
    };
    socket.onclose = () => {
      if (this.#closed || this.#socket !== socket) return;
      this.#socket = null;
      this.listener.lost();
      this.#timer = this.sockets.later(() => this.#open(), this.#pause);
      this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
    };
  }

  /** @param {Message} message */
  #take(message) {
    const { sequence } = message;
    if (sequence !== undefined) {
      if (this.#sequence !== null && sequence !== this.#sequence + 1) this.listener.gap();
      this.#sequence = sequence;
    }
    this.listener.message(message);
  }
}
