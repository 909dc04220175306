/** Consumers that write heartbeats, as the server reports them. */

import { duration } from '../format.js';

/**
 * @typedef {{name: string, summary: string, problem: string, remedy: string}} Service
 * @typedef {{name: string, age_s: number, state: string, lag: number, frames: number,
 *   frames_per_second: number, last_error: string, threads: Record<string, string>}} Heartbeat
 */

const SILENT_S = 60;

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
