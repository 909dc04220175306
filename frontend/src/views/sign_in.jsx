import { useState } from 'preact/hooks';

import { keyOf, openSession, READING } from '../session.js';
import { Credentials, given } from './credentials.jsx';

/**
 * Asks for an API key, or for name and password where the server has an authenticator.
 * @param {{state: import('../state.js').AppState}} props
 */
export function SignIn({ state }) {
  const [problem, setProblem] = useState('');

  /** @param {SubmitEvent} event */
  const submit = async (event) => {
    event.preventDefault();
    const typed = given(/** @type {HTMLFormElement} */ (event.target));
    try {
      await openSession(await keyOf(state.api.base, typed, READING));
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
        <Credentials about={state.about.value} label="API key" autofocus />
        <button type="submit">Sign in</button>
        <p class="problem" role="status">
          {problem}
        </p>
      </form>
    </main>
  );
}
