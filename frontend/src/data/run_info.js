/** What the list shows of a derived run, read from its metadata. */

/**
 * @typedef {'live' | 'complete' | 'incomplete' | 'abandoned' | 'failed'} State
 * @typedef {object} PhaseSummary
 * @property {string} slug
 * @property {string} name
 * @property {number} probability highest over the frames so far
 * @property {number} frames
 * @property {number | null} onsetFrame
 * @property {number | null} onsetTime seconds since 1970
 * @property {[number, number] | null} onsetRange 95 % interval of the onset, seconds since 1970
 * @typedef {object} RunInfo
 * @property {string} uid
 * @property {string} path of the run in Tiled
 * @property {number} time seconds since 1970
 * @property {string} sample
 * @property {string} plan
 * @property {string} scan
 * @property {string} rawUid
 * @property {number} frames
 * @property {number} peaks
 * @property {number} failed
 * @property {number} dropped
 * @property {PhaseSummary[]} phases the most probable first
 * @property {number[]} peakQ 1/angstrom
 * @property {boolean} stopped
 * @property {string} completeness
 * @property {string} exitStatus
 * @property {string} reason why it ended as it did
 */

/** Part of the metadata that `runInfo` reads, as a JMESPath query. */
export const SELECTED =
  '{start: {uid: start.uid, time: start.time, sample_name: start.sample_name,' +
  ' sample: start.sample, plan_name: start.plan_name, scan_id: start.scan_id,' +
  ' gixi: {raw_uid: start.gixi.raw_uid, raw_scan_id: start.gixi.raw_scan_id}},' +
  ' stop: stop, gixi_live: gixi_live}';

/** A phase of at least this probability is taken as present. */
export const PRESENT = 0.5;

/**
 * @param {string} path
 * @param {any} metadata of the run, whole or as SELECTED
 * @returns {RunInfo | null} null for what is no derived run
 */
export function runInfo(path, metadata) {
  const start = metadata?.start;
  if (typeof start?.gixi?.raw_uid !== 'string') return null;
  const stop = metadata.stop;
  const summary = stop?.gixi ?? metadata.gixi_live ?? {};
  return {
    uid: text(start.uid),
    path,
    time: number(start.time),
    sample: sampleName(start),
    plan: text(start.plan_name),
    scan: text(start.scan_id ?? start.gixi.raw_scan_id),
    rawUid: start.gixi.raw_uid,
    frames: number(summary.n_frames),
    peaks: number(summary.n_peaks),
    failed: number(summary.n_failed),
    dropped: number(summary.n_dropped),
    phases: phases(summary.phases ?? {}),
    peakQ: Array.isArray(summary.peak_q) ? summary.peak_q.map(Number) : [],
    stopped: Boolean(stop),
    completeness: text(summary.completeness),
    exitStatus: text(stop?.exit_status),
    reason: text(stop?.reason),
  };
}

/**
 * State of a run and what it means in words.
 * @param {RunInfo} run
 * @param {boolean} written whether a writer was seen at work, as far as the page knows
 * @returns {{state: State, meaning: string}}
 */
export function stateOf(run, written) {
  if (!run.stopped) {
    return written
      ? { state: 'live', meaning: 'frames are being analysed' }
      : { state: 'abandoned', meaning: 'the run has no end and nothing writes to it any more' };
  }
  const because = run.reason ? `: ${run.reason}` : '';
  if (run.exitStatus === 'fail') return { state: 'failed', meaning: `the scan failed${because}` };
  if (run.completeness === 'abandoned') {
    return { state: 'abandoned', meaning: `the measured run never ended${because}` };
  }
  if (run.completeness === 'incomplete') {
    return { state: 'incomplete', meaning: `frames are missing${because}` };
  }
  if (run.exitStatus === 'abort') {
    return { state: 'incomplete', meaning: `the scan was aborted${because}` };
  }
  return { state: 'complete', meaning: 'all frames are analysed' };
}

/**
 * Whether a run fits what was typed: words, `q=1.06`, `q=1.06±0.02`, or part of a date.
 * @param {RunInfo} run
 * @param {string} query
 */
export function matches(run, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const present = run.phases.filter((phase) => phase.probability >= PRESENT);
  const told = [
    run.sample,
    run.plan,
    run.scan,
    run.uid,
    run.rawUid,
    dateText(run.time),
    ...present.flatMap((phase) => [phase.slug, phase.name]),
  ]
    .join(' ')
    .toLowerCase();
  return words.every((word) => {
    const range = /^q=([\d.]+)(?:(?:±|\+-)([\d.]+))?$/.exec(word);
    if (!range) return told.includes(word);
    const [q, tolerance] = [Number(range[1]), Number(range[2] ?? 0.01)];
    return run.peakQ.some((peak) => Math.abs(peak - q) <= tolerance);
  });
}

/** @param {number} seconds since 1970 */
export function dateText(seconds) {
  if (!seconds) return '';
  const date = new Date(seconds * 1000);
  const two = (/** @type {number} */ value) => String(value).padStart(2, '0');
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}`
  );
}

/** @param {any} start */
function sampleName(start) {
  const sample = start.sample_name ?? start.sample?.name ?? start.sample;
  return sample !== null && typeof sample === 'object' ? JSON.stringify(sample) : text(sample);
}

/**
 * @param {Record<string, any>} told
 * @returns {PhaseSummary[]}
 */
function phases(told) {
  return Object.entries(told)
    .filter(([, phase]) => phase && typeof phase === 'object')
    .map(([slug, phase]) => ({
      slug,
      name: text(phase.name) || slug,
      probability: number(phase.max_probability),
      frames: number(phase.n_frames),
      onsetFrame: phase.onset_frame ?? null,
      onsetTime: phase.onset_time ?? null,
      onsetRange: /** @type {[number, number] | null} */ (
        Number.isFinite(phase.onset_time_low) && Number.isFinite(phase.onset_time_high)
          ? [phase.onset_time_low, phase.onset_time_high]
          : null
      ),
    }))
    .sort((a, b) => b.probability - a.probability || a.name.localeCompare(b.name));
}

/** @param {any} value */
function text(value) {
  return value === null || value === undefined ? '' : String(value);
}

/** @param {any} value */
function number(value) {
  const converted = Number(value ?? 0);
  return Number.isFinite(converted) ? converted : 0;
}
