import { useEffect } from 'preact/hooks';

import { Banner } from './banner.jsx';
import { Health } from './health.jsx';
import { Operate } from './operate/operate.jsx';
import { RunsPanel } from './runs_panel.jsx';
import { RunView } from './run_view.jsx';
import { SignIn } from './sign_in.jsx';

const THEMES = ['auto', 'light', 'dark'];

/** @typedef {import('../state.js').AppState} AppState */

/** @param {{state: AppState}} props */
export function App({ state }) {
  const theme = state.theme.value;
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  useEffect(() => {
    const listener = (/** @type {KeyboardEvent} */ event) => onKey(event, state);
    document.addEventListener('keydown', listener);
    return () => document.removeEventListener('keydown', listener);
  }, [state]);
  return (
    <div class="app">
      <header class="top">
        <h1>GIXI live view</h1>
        <Health state={state} />
        {state.operated.value && (
          <button
            class="quiet"
            aria-expanded={state.operating.value}
            onClick={() => (state.operating.value = !state.operating.value)}
          >
            Operate
          </button>
        )}
        <button
          class="quiet"
          title={`Colours of the page: ${theme}; next: ${next}`}
          onClick={() => (state.theme.value = next)}
        >
          colours: {theme}
        </button>
      </header>
      <Banner state={state} />
      {state.access.value === 'refused' ? (
        <SignIn state={state} />
      ) : (
        <main class="body">
          <RunsPanel state={state} />
          <RunView state={state} />
          {state.operating.value && <Operate state={state} />}
        </main>
      )}
    </div>
  );
}

/**
 * Keys that work anywhere outside text fields.
 * @param {KeyboardEvent} event
 * @param {AppState} state
 */
function onKey(event, state) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.matches('input:not([type=range]), select, textarea') || event.ctrlKey || event.metaKey)
    return;
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
  if (steps !== undefined && !target.matches('[role=listbox] *')) {
    state.step(steps);
  } else if (event.key === 'End' || event.key === 'n') {
    state.follow.value = true;
  } else if (event.key === 'Home') {
    state.step(-Infinity);
  } else if (event.key === 'p') {
    state.playing.value = !state.playing.peek();
  } else if (event.key === 'b') {
    state.boxes.value = !state.boxes.peek();
  } else if (event.key === '/') {
    /** @type {HTMLElement | null} */ (document.querySelector('input[type=search]'))?.focus();
  } else {
    return;
  }
  event.preventDefault();
}
