import { useEffect, useRef, useState } from 'preact/hooks';

import { Desk } from '../../operate/desk.js';
import { replaced } from '../../operate/schema.js';
import { keyOf, OPERATING } from '../../session.js';
import { Credentials, given } from '../credentials.jsx';
import { Comparison } from './comparison.jsx';
import { JobList } from './job_list.jsx';
import { SchemaForm } from './schema_form.jsx';

const ASK_MS = 3000;

/**
 * Operating the analysis: for those who may write to Tiled.
 * @param {{state: import('../../state.js').AppState}} props
 */
export function Operate({ state }) {
  const [desk, setDesk] = useState(/** @type {Desk | null} */ (null));
  const [known, setKnown] = useState(
    /** @type {import('../../operate/desk.js').DeskState | null} */ (null),
  );
  const [error, setError] = useState('');
  /** @param {SubmitEvent} event */
  const signIn = async (event) => {
    event.preventDefault();
    const typed = given(/** @type {HTMLFormElement} */ (event.currentTarget));
    try {
      const one = new Desk(await keyOf(state.api.base, typed, OPERATING));
      setKnown(await one.state());
      setDesk(one);
      setError('');
    } catch (problem) {
      setError(/** @type {Error} */ (problem).message);
    }
  };
  return (
    <section class="operate" aria-label="Operate" data-testid="operate">
      <header>
        <h2>Operate</h2>
        {known && <span class="faint">as {known.who}; every action is recorded</span>}
        <button class="quiet" onClick={() => (state.operating.value = false)}>
          Close
        </button>
      </header>
      {desk && known ? (
        <Bench state={state} desk={desk} first={known} />
      ) : (
        <form onSubmit={signIn} class="operator-key">
          <Credentials about={state.about.value} label="API key that may write" />
          <button>Start</button>
          <p class="faint">
            The key of the server, or one of yours with the scopes write:metadata and write:data. It
            stays in this tab and must be given again after a reload.
          </p>
          {error && <p class="bad-note">{error}</p>}
        </form>
      )}
    </section>
  );
}

/**
 * @param {{state: import('../../state.js').AppState, desk: Desk,
 *   first: import('../../operate/desk.js').DeskState}} props
 */
function Bench({ state, desk, first }) {
  const [known, setKnown] = useState(first);
  const [tree, setTree] = useState(first.configuration);
  const latest = useRef(first.configuration); // a click may come before the next rendering
  const [version, setVersion] = useState(0);
  const [checked, setChecked] = useState(
    /** @type {{problems: any[], findings: any[]}} */ ({ problems: [], findings: [] }),
  );
  const [trial, setTrial] = useState(/** @type {any} */ (null));
  const [jobs, setJobs] = useState(
    /** @type {import('../../operate/desk.js').JobsState | null} */ (null),
  );
  const [note, setNote] = useState('');
  const [tasks, setTasks] = useState(1);
  const [busy, setBusy] = useState('');
  const [message, setMessage] = useState('');

  const refresh = async (number = version) => {
    const now = await desk.state(number);
    setKnown(now);
    return now;
  };
  useEffect(() => {
    const ask = () => void desk.jobs().then(setJobs, () => {});
    ask();
    const timer = setInterval(ask, ASK_MS);
    return () => clearInterval(timer);
  }, [desk]);

  /**
   * @param {string} action
   * @param {Record<string, any>} asked
   * @param {(answer: any) => void | Promise<void>} [use]
   */
  const act = async (action, asked, use) => {
    setBusy(action);
    setMessage('');
    try {
      const answer = await desk.act(action, asked);
      await use?.(answer);
      setJobs(await desk.jobs());
    } catch (problem) {
      setMessage(/** @type {Error} */ (problem).message);
    }
    await refresh().catch(() => {});
    setBusy('');
  };
  /** @param {any} edited */
  const edit = (edited) => {
    latest.current = edited;
    setTree(edited);
  };
  /** @param {number} number */
  const open = async (number) => {
    const now = await refresh(number);
    setVersion(number);
    edit(now.configuration);
    setChecked({ problems: [], findings: [] });
    setTrial(null);
  };
  const run = state.selected.value;
  const frame = state.frame.value;
  return (
    <div class="bench">
      <div class="editor">
        <label>
          Version
          <select value={version} onChange={(event) => void open(Number(event.currentTarget.value))}>
            <option value={0}>the server's own</option>
            {known.versions.map((one) => (
              <option key={one.number} value={one.number}>
                {one.number}: {one.note || 'no note'} ({one.who}, {one.when})
              </option>
            ))}
          </select>
        </label>
        <SchemaForm
          root={known.schema} tree={tree} structures={known.structures}
          change={(path, value) => edit(replaced(latest.current, path, value))}
          {...checked}
        />
      </div>
      <div class="actions">
        <div class="buttons">
          <button
            disabled={Boolean(busy)}
            onClick={() => act('check', { configuration: latest.current }, setChecked)}
          >
            Check
          </button>
          <button
            disabled={Boolean(busy) || !run}
            onClick={() => act('try', { configuration: latest.current, version, run, frame }, setTrial)}
          >
            Try on frame {frame}
          </button>
          <input
            aria-label="Note"
            placeholder="note for the history"
            value={note}
            onInput={(event) => setNote(event.currentTarget.value)}
          />
          <button
            disabled={Boolean(busy)}
            onClick={() =>
              act('save', { configuration: latest.current, note }, async (saved) => open(saved.number))
            }
          >
            Save as a new version
          </button>
        </div>
        <div class="buttons">
          <label>
            consumers
            <input
              type="number"
              min={1}
              value={tasks}
              onInput={(event) => setTasks(Number(event.currentTarget.value))}
            />
          </label>
          <button
            disabled={Boolean(busy) || !version}
            onClick={() => act('submit', { version, tasks })}
          >
            Submit to Slurm
          </button>
          <button
            disabled={Boolean(busy) || !version || !run}
            onClick={() => act('reprocess', { version, run })}
          >
            Analyse this run again
          </button>
          {!version && <span class="faint">save a version first</span>}
        </div>
        {busy && <p class="faint">{busy}…</p>}
        {message && (
          <p class="bad-note" role="alert">
            {message}
          </p>
        )}
        {checked.problems
          .filter((one) => one.where === 'configuration')
          .map((one) => (
            <p key={one.message} class="bad-note" data-testid="problem">
              {one.message}
            </p>
          ))}
        {trial && <Comparison state={state} trial={trial} />}
        <h3>Jobs</h3>
        <JobList jobs={jobs} act={(action, asked) => void act(action, asked)} />
        <h3>Record</h3>
        <ul class="record" data-testid="record">
          {known.record.map((one, place) => (
            <li key={known.record.length - place}>
              {one.when} {one.who}: <b>{one.action}</b> {one.outcome}
            </li>
          ))}
        </ul>
      </div>
    </div>
  );
}
