/** Consumers, their Slurm job and logs, and the disk, as the server reports them. */

import { count, duration } from '../format.js';

/**
 * @typedef {{name: string, summary: string, problem: string, remedy: string}} Service
 * @typedef {{name: string, age_s: number, state: string, lag: number, frames: number,
 *   frames_per_second: number, last_error: string, threads: Record<string, string>,
 *   queue_frames?: number, queue_bytes?: number, workers?: number,
 *   worker_restarts?: number}} Heartbeat
 * @typedef {Service & {state: string, ended: boolean, partitions: number}} ServiceOfTask
 * @typedef {{task: number, state: string, ended: boolean, reason: string, node: string,
 *   restarts: number, problem: string, consumer: string | null, partitions: string[] | null,
 *   lag: number | null, frames: number | null}} Task
 * @typedef {{job_id: number | null, tasks: Task[], problem: string}} Job
 * @typedef {{name: string, lines: string[]}} Log
 * @typedef {{services: Service[], logs: Log[], operated: boolean}} Report
 */

const FAILED_JOBS = new Set(['BOOT_FAIL', 'FAILED', 'NODE_FAIL', 'OUT_OF_MEMORY', 'TIMEOUT']);
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
    `${state}, ${count(frames, 'frame')}, ${heartbeat.frames_per_second.toFixed(2)} frames/s, ` +
    `${count(lag, 'message')} behind${queue(heartbeat)}, heard ${duration(age)} ago` +
    (error ? `, last error: ${error}` : '');
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

/** @param {Heartbeat} heartbeat */
function queue({ queue_frames: frames, queue_bytes: bytes = 0, workers, worker_restarts: again }) {
  if (frames === undefined) return '';
  const held = `, ${count(frames, 'frame')} (${(bytes / 2 ** 20).toFixed(0)} MiB) in its queue`;
  const processes = workers === undefined ? '' : `, ${count(workers, 'worker')}`;
  return `${held}${processes}${again ? `, ${count(again, 'restart')} of workers` : ''}`;
}

/**
 * One line for each task of a Slurm job.
 * @param {Job | null} job
 * @returns {ServiceOfTask[]}
 */
export function slurm(job) {
  if (!job) return [];
  if (job.problem) {
    const remedy = 'Ask `squeue --me` on a node of the cluster.';
    const problem = `Slurm: ${job.problem}`;
    const unknown = { state: '', ended: false, partitions: 0 };
    return [{ name: 'Slurm', summary: job.problem, problem, remedy, ...unknown }];
  }
  return job.tasks.map((one) => {
    const { task, state, ended, reason, node, restarts, problem } = one;
    const where = node ? ` on ${node}` : '';
    const starts = restarts ? `, start ${restarts + 1}` : '';
    const bad = FAILED_JOBS.has(state);
    return {
      name: `Slurm job ${job.job_id}_${task}`,
      state,
      ended,
      partitions: one.partitions?.length ?? 0,
      summary: `${state}${reason ? ` (${reason})` : ''}${where}${starts}${consumer(one)}`,
      problem: bad ? `Slurm job ${job.job_id}_${task}: ${state}. ${problem}` : '',
      remedy: bad ? 'Correct this and submit the consumers again; they go on where they stopped.' : '',
    };
  });
}

/** @param {Task} task */
function consumer({ consumer: state, partitions, frames, lag }) {
  if (!state) return '';
  const shared = state === 'running' ? `, ${count(partitions?.length ?? 0, 'partition')}` : '';
  return `; consumer ${state}${shared}, ${count(frames ?? 0, 'frame')}, ${lag ?? 0} behind`;
}

/**
 * Ask the server for its services every few seconds, unless it watches none.
 * @param {(report: Report) => void} found
 */
export async function watchServices(found) {
  try {
    const answer = await fetch('health.json', { credentials: 'same-origin' });
    if (answer.ok) {
      const told = await answer.json();
      if (!told.watching) {
        found({ services: [], logs: [], operated: Boolean(told.operated) });
        return;
      }
      const services = [
        ...told.consumers.map(service), ...slurm(told.slurm), ...disk(told.disk_free),
      ];
      found({ services, logs: told.logs, operated: Boolean(told.operated) });
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
