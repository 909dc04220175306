/** What is wrong with the analysis or the connection, as sentences. */

import { count, duration } from '../format.js';

const SILENT_S = 60;
const FAILED_SHARE = 0.2;

/**
 * @param {import('../state.js').AppState} state
 * @returns {{what: string, remedy: string}[]}
 */
export function problems(state) {
  const found = [];
  const refused = state.access.value === 'refused';
  const error = state.list.error.value ?? state.run.value?.error.value;
  if (error && !refused) {
    found.push({
      what: `No connection: ${error.message}.`,
      remedy:
        'What is shown is the last that arrived; the page tries again by itself. ' +
        'If this lasts, look whether the server runs.',
    });
  }
  for (const service of state.services.value) {
    if (service.problem) found.push({ what: service.problem, remedy: service.remedy });
  }
  const info = state.info.value;
  if (!info || error) return found;
  if (!info.stopped && state.list.loaded.value) {
    const silent = (state.now.value - state.lastRow.value) / 1000;
    if (!state.list.written.value.has(info.uid)) {
      found.push({
        what: 'Nothing writes to this run any more.',
        remedy:
          'Its analysis ended before the scan did. Start it again (`gixi-bluesky reprocess`, or ' +
          'the consumer); it resumes after the last frame.',
      });
    } else if (silent > SILENT_S) {
      found.push({
        what: `No frame for ${duration(silent)}.`,
        remedy: 'The scan may be paused, or the detector writes nowhere the analysis can read.',
      });
    }
  }
  const lost = info.failed + info.dropped;
  if (lost && lost >= FAILED_SHARE * info.frames) {
    found.push({
      what: `${lost} of ${count(info.frames, 'frame')} ${lost === 1 ? 'was' : 'were'} not analysed.`,
      remedy: `Last reason: ${lastReason(state) || 'see the log of the analysis'}.`,
    });
  }
  return found;
}

/** @param {import('../state.js').AppState} state */
function lastReason(state) {
  const table = state.run.value?.tables.frames;
  const reasons = table?.column('reason').filter(Boolean) ?? [];
  return reasons.at(-1) ?? '';
}
