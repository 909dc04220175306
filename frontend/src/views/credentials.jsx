/**
 * Fields for an API key, or for name and password where the server takes them.
 * @param {{about: any, label: string, autofocus?: boolean}} props
 */
export function Credentials({ about, label, autofocus = false }) {
  const providers = (about?.authentication?.providers ?? []).filter(
    (/** @type {any} */ one) => one.mode === 'internal' || one.mode === 'password',
  );
  return (
    <>
      <label>
        {label}
        <input
          name="key" type="password" autocomplete="off" autofocus={autofocus}
          required={!providers.length}
        />
      </label>
      {providers.length > 0 && (
        <fieldset>
          <legend>or</legend>
          <select name="provider" aria-label="Provider" hidden={providers.length < 2}>
            {providers.map((/** @type {any} */ one) => (
              <option key={one.provider}>{one.provider}</option>
            ))}
          </select>
          <label>
            Name <input name="user" autocomplete="username" />
          </label>
          <label>
            Password <input name="password" type="password" autocomplete="current-password" />
          </label>
        </fieldset>
      )}
    </>
  );
}

/**
 * What was typed into the fields.
 * @param {HTMLFormElement} form
 * @returns {import('../session.js').Given}
 */
export function given(form) {
  const typed = new FormData(form);
  const [key, provider, user] = ['key', 'provider', 'user'].map((name) =>
    String(typed.get(name) ?? '').trim(),
  );
  return { key, provider, user, password: String(typed.get('password') ?? '') };
}
