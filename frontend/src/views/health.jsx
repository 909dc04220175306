import { useState } from 'preact/hooks';

import { frameRate, latency } from '../data/pace.js';
import { duration } from '../format.js';
import { problems } from '../data/problems.js';

/**
 * Whether the analysis is alive: a line in the header, and all of it on demand.
 * @param {{state: import('../state.js').AppState}} props
 */
export function Health({ state }) {
  const [open, setOpen] = useState(false);
  const run = state.run.value;
  if (run) void run.version.value;
  const info = state.info.value;
  const bad = problems(state).length > 0;
  const connected = !state.list.error.value;
  const live = connected && (run?.live || state.list.live);
  const frames = run?.tables.frames;
  const rate = frames ? frameRate(frames) : NaN;
  const delay = frames ? latency(frames) : NaN;
  const idle = Math.max(0, (state.now.value - state.lastRow.value) / 1000);
  const connection = !connected ? 'not connected' : live ? 'live' : 'polling';
  return (
    <div class="health" data-testid="health" data-connection={connection}>
      <button class="quiet" aria-expanded={open} onClick={() => setOpen(!open)}>
        <span class={`lamp ${bad ? 'bad' : connected ? 'good' : 'bad'}`} />
        <span>{connection}</span>
        <span>{Number.isFinite(rate) ? `${rate.toFixed(2)} frames/s` : '– frames/s'}</span>
        <span>latency {duration(delay)}</span>
        <span>{info ? info.failed + info.dropped : 0} failed</span>
        {info && !info.stopped && <span>last row {duration(Math.floor(idle))} ago</span>}
      </button>
      {open && <HealthDetail state={state} />}
    </div>
  );
}

/** @param {{state: import('../state.js').AppState}} props */
function HealthDetail({ state }) {
  const run = state.run.value;
  const services = state.services.value;
  const failures = run ? reasons(run.tables.frames) : [];
  return (
    <div class="health-detail">
      <h3>Frames that failed</h3>
      {failures.length ? (
        <ul>
          {failures.map(([reason, count]) => (
            <li key={reason}>
              {count} × {reason}
            </li>
          ))}
        </ul>
      ) : (
        <p class="faint">none</p>
      )}
      <h3>Services</h3>
      {services.length ? (
        <ul>
          {services.map((service) => (
            <li key={service.name}>
              <b>{service.name}</b>: {service.summary}
            </li>
          ))}
        </ul>
      ) : (
        <p class="faint">
          no consumer writes its heartbeat where this server looks (<code>serve --heartbeats</code>)
        </p>
      )}
      {state.logs.value.map((log) => (
        <details key={log.name} data-testid="log">
          <summary>Log of {log.name}</summary>
          <pre tabIndex={0}>{log.lines.join('\n')}</pre>
        </details>
      ))}
    </div>
  );
}

/**
 * @param {import('../data/row_table.js').RowTable} frames
 * @returns {[string, number][]}
 */
function reasons(frames) {
  const status = frames.column('status');
  const reason = frames.column('reason');
  const counts = new Map();
  status.forEach((word, row) => {
    if (word === 'ok') return;
    const told = `${word}: ${reason[row] || 'no reason given'}`;
    counts.set(told, (counts.get(told) ?? 0) + 1);
  });
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, 20);
}
