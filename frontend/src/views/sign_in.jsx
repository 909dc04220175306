import { useState } from 'preact/hooks';

import { openSession, signIn } from '../session.js';

/**
 * Asks for an API key, or for name and password where the server has an authenticator.
 * @param {{state: import('../state.js').AppState}} props
 */
export function SignIn({ state }) {
  const [problem, setProblem] = useState('');
  const providers = (state.about.value?.authentication?.providers ?? []).filter(
    (/** @type {any} */ one) => one.mode === 'internal' || one.mode === 'password',
  );

  /** @param {SubmitEvent} event */
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    const [key, user, password, provider] = ['key', 'user', 'password', 'provider'].map((name) =>
      String(form.get(name) ?? '').trim(),
    );
    try {
      if (user) await signIn(state.api.base, provider, user, password);
      else await openSession(key);
      await state.retry();
      if (state.access.value === 'refused') setProblem('This key opens nothing here.');
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
    }
  };
  return (
    <main class="sign-in" data-testid="sign-in">
      <form onSubmit={submit}>
        <h2>Sign in</h2>
        <p>
          Open the address that <code>gixi-bluesky serve</code> printed, or give an API key of this
          Tiled server.
        </p>
        <label>
          API key
          <input name="key" type="password" autocomplete="off" autofocus />
        </label>
        {providers.length > 0 && (
          <fieldset>
            <legend>or</legend>
            <select name="provider" hidden={providers.length < 2}>
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
        <button type="submit">Sign in</button>
        <p class="problem" role="status">
          {problem}
        </p>
      </form>
    </main>
  );
}
