import { render } from 'preact';

import { AppState } from './state.js';
import { App } from './views/app.jsx';

const state = new AppState();
render(<App state={state} />, /** @type {Element} */ (document.getElementById('app')));
void state.start();
