/** The key in the address becomes an HttpOnly cookie and leaves the address. */

/**
 * What the address says: `#key=…` or `#run=…&frame=…`, and `?in=…` for a part of the server.
 * @param {Location | URL} address
 */
export function readAddress(address) {
  const told = new URLSearchParams(address.hash.slice(1));
  return {
    key: told.get('key') ?? '',
    run: told.get('run') ?? '',
    frame: told.has('frame') ? Number(told.get('frame')) : null,
    root: new URLSearchParams(address.search).get('in') ?? '',
  };
}

/**
 * Exchange a key for the session cookie.
 * @param {string} key
 */
export async function openSession(key) {
  const answer = await fetch('session', {
    method: 'POST',
    headers: { Authorization: `Apikey ${key}` },
    credentials: 'same-origin',
  });
  if (!answer.ok) throw new Error((await answer.text()).trim());
}

export async function closeSession() {
  await fetch('session', { method: 'DELETE', credentials: 'same-origin' });
}

/**
 * Put what is shown into the address, so that a reload or a bookmark comes back to it.
 * @param {string} run
 */
export function writeAddress(run) {
  const fragment = run ? `#run=${encodeURIComponent(run)}` : '';
  history.replaceState(null, '', `${location.pathname}${location.search}${fragment}`);
}

/**
 * @typedef {{key: string, provider: string, user: string, password: string}} Given
 * @typedef {{scopes: string[], note: string}} Purpose
 */

/** @type {Purpose} */
export const READING = { scopes: ['read:metadata', 'read:data'], note: 'live view' };
/** All that the user may do: a run that is analysed again is made in the user's name. */
/** @type {Purpose} */
export const OPERATING = { scopes: ['inherit'], note: 'live view, operating' };

/**
 * The key that was given; for a name and a password, one that Tiled makes for 12 hours.
 * @param {URL} api
 * @param {Given} given
 * @param {Purpose} purpose
 */
export async function keyOf(api, { key, provider, user, password }, { scopes, note }) {
  if (!user) return key;
  const form = new URLSearchParams({ grant_type: 'password', username: user, password });
  const path = `auth/provider/${encodeURIComponent(provider)}/token`;
  const tokens = await fetch(new URL(path, api), { method: 'POST', body: form });
  if (!tokens.ok) throw new Error('the server refused this name and password');
  const { access_token: token } = await tokens.json();
  const made = await fetch(new URL('auth/apikey', api), {
    method: 'POST',
    headers: { 'Authorization': `Bearer ${token}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ expires_in: 12 * 3600, scopes, note }),
  });
  if (!made.ok) throw new Error('the server made no key for this session');
  return String((await made.json()).secret);
}
