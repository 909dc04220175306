import { dateText, matches, PRESENT } from '../data/run_info.js';
import { count } from '../format.js';

/** @typedef {import('../state.js').AppState} AppState */

/**
 * The runs, newest first, with a search.
 * @param {{state: AppState}} props
 */
export function RunsPanel({ state }) {
  const runs = state.list.runs.value;
  const query = state.query.value;
  const shown = runs.filter((run) => matches(run, query));
  /** @param {InputEvent} event */
  const search = (event) => {
    state.query.value = /** @type {HTMLInputElement} */ (event.target).value;
    if (state.query.value && runs.length < state.list.total.value) state.list.loadOlder();
  };
  return (
    <aside class="runs">
      <input
        type="search"
        placeholder="Sample, phase, q=1.06"
        title="Words, q=1.06 or q=1.06±0.02 (1/Å), or a date; press / to get here"
        aria-label="Search runs"
        value={query}
        onInput={search}
      />
      <ul class="list" data-testid="runs" role="listbox" aria-label="Runs">
        {shown.map((run) => (
          <RunRow key={run.uid} run={run} state={state} />
        ))}
      </ul>
      {!runs.length && state.list.loaded.value && <NoRuns />}
      {runs.length > 0 && !shown.length && <p class="hint">No run fits “{query}”.</p>}
    </aside>
  );
}

/** @param {{run: import('../data/run_info.js').RunInfo, state: AppState}} props */
function RunRow({ run, state }) {
  const { state: word, meaning } = state.stateOf(run);
  const selected = state.selected.value === run.uid;
  const present = run.phases.filter((phase) => phase.probability >= PRESENT).slice(0, 3);
  return (
    <li role="option" aria-selected={selected}>
      <button
        class="run"
        data-testid="run"
        data-uid={run.uid}
        aria-current={selected}
        onClick={() => state.choose(run.uid)}
      >
        <span class="line">
          <strong class="sample">{run.sample || run.rawUid.slice(0, 8)}</strong>
          <span class={`state ${word}`} data-testid="state" title={meaning}>
            {word}
          </span>
        </span>
        <span class="line faint">
          <span class="sample">
            {run.scan && `#${run.scan} `}
            {run.plan} · {count(run.frames, 'frame')}
          </span>
          <time>{dateText(run.time).slice(5)}</time>
        </span>
        <span class="line phases">
          {present.map((phase) => (
            <span key={phase.slug} title={`probability ${phase.probability}`}>
              {phase.name} {phase.probability.toFixed(2)}
              {phase.onsetFrame !== null && ` from ${phase.onsetFrame}`}
            </span>
          ))}
          {!present.length && <span class="faint">no phase yet</span>}
        </span>
      </button>
    </li>
  );
}

function NoRuns() {
  return (
    <div class="hint">
      <p>
        <strong>No runs yet.</strong>
      </p>
      <p>Runs appear here while they are measured. To get one:</p>
      <ul>
        <li>
          in a scan: <code>subscribe(RE, config, tiled=client)</code>
        </li>
        <li>
          from files: <code>gixi-bluesky process IMAGES --config FILE</code>
        </li>
        <li>
          simulated: <code>gixi-bluesky demo --live</code>
        </li>
      </ul>
    </div>
  );
}
