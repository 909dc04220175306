import { render } from 'preact';

import { AppState } from './state.js';
import { App } from './views/app.jsx';

const state = new AppState();
const place = /** @type {Element} */ (document.getElementById('app'));
place.replaceChildren();
render(<App state={state} />, place);
void state.start();
