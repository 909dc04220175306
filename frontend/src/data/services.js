/** Consumers that write heartbeats, as the server reports them. */

import { duration } from '../format.js';

/**
 * @typedef {{name: string, summary: string, problem: string, remedy: string}} Service
 * @typedef {{name: string, age_s: number, state: string, lag: number, frames: number,
 *   frames_per_second: number, last_error: string, threads: Record<string, string>}} Heartbeat
 */

const SILENT_S = 60;
const ASK_MS = 10_000;
const LITTLE_SPACE = 0.05;

/**
 * @param {Heartbeat} heartbeat
 * @returns {Service}
 */
export function service(heartbeat) {
  const { name, age_s: age, state, lag, frames, last_error: error } = heartbeat;
  const ended = Object.entries(heartbeat.threads ?? {}).filter(([, how]) => how !== 'running');
  const summary =
    `${state}, ${frames} frames, ${heartbeat.frames_per_second.toFixed(2)} frames/s, ` +
    `${lag} messages behind, heard ${duration(age)} ago${error ? `, last error: ${error}` : ''}`;
  let problem = '';
  let remedy = '';
  if (state === 'failed') {
    problem = `${name} failed${error ? `: ${error}` : '.'}`;
    remedy = 'Correct this and start the consumer again; it goes on where it stopped.';
  } else if (age > SILENT_S && state !== 'stopped') {
    problem = `${name} was last heard ${duration(age)} ago.`;
    remedy = 'Its process or its machine may be gone; look at `gixi-bluesky slurm status`.';
  } else if (ended.length) {
    problem = `${name}: ${ended.map(([thread, how]) => `${thread} ${how}`).join(', ')}.`;
    remedy = 'Look into its log, and start it again if this does not pass.';
  }
  return { name, summary, problem, remedy };
}

/**
 * Ask the server for its services every few seconds, unless it watches none.
 * @param {(services: Service[]) => void} found
 */
export async function watchServices(found) {
  try {
    const answer = await fetch('health.json', { credentials: 'same-origin' });
    if (answer.ok) {
      const { watching, consumers, disk_free: free } = await answer.json();
      if (!watching) return;
      found([...consumers.map(service), ...disk(free)]);
    }
  } catch {
    // no connection: the list of runs says so
  }
  setTimeout(() => void watchServices(found), ASK_MS);
}

/**
 * @param {number | null} free share of the disk
 * @returns {Service[]}
 */
export function disk(free) {
  if (free === null) return [];
  const percent = (free * 100).toFixed(0);
  const full = free < LITTLE_SPACE;
  return [
    {
      name: 'disk of the results',
      summary: `${percent} % free`,
      problem: full ? `The disk of the results is nearly full: ${percent} % free.` : '',
      remedy: full ? 'Make room; frames whose images cannot be stored keep their rows only.' : '',
    },
  ];
}
