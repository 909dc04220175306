import { dateText } from '../data/run_info.js';
import { phaseColours } from '../phase_colours.js';
import { FrameImages } from './frame_images.jsx';
import { FrameSlider } from './frame_slider.jsx';
import { PeakTable } from './peak_table.jsx';
import { PhaseList } from './phase_list.jsx';
import { Timeline } from './timeline.jsx';

/**
 * The run that is looked at.
 * @param {{state: import('../state.js').AppState}} props
 */
export function RunView({ state }) {
  const info = state.info.value;
  const run = state.run.value;
  if (!info) {
    return (
      <section class="run-view empty">
        {state.list.loaded.value ? 'Choose a run.' : 'Loading…'}
      </section>
    );
  }
  const { state: word, meaning } = state.stateOf(info);
  const colour = phaseColours(run?.structures.map((one) => one.slug) ?? []);
  return (
    <section class="run-view" aria-label="Run">
      <header class="run-head">
        <h2>{info.sample || info.rawUid.slice(0, 8)}</h2>
        <span class={`state ${word}`} title={meaning}>
          {word}
        </span>
        <span class="faint">
          {info.scan && `scan ${info.scan}, `}
          {info.plan} · {dateText(info.time)}
        </span>
        <span class="counts">
          <b>{info.frames}</b> {info.frames === 1 ? 'frame' : 'frames'} <b>{info.peaks}</b>{' '}
          {info.peaks === 1 ? 'peak' : 'peaks'}
          {info.failed + info.dropped > 0 && (
            <em>
              {' '}
              {info.failed} failed, {info.dropped} dropped
            </em>
          )}
        </span>
      </header>
      {run && (
        <>
          <FrameImages key={run.uid} state={state} run={run} />
          <aside class="found">
            <PhaseList state={state} run={run} colour={colour} />
            <PeakTable state={state} run={run} colour={colour} />
          </aside>
          <div class="over-time">
            <FrameSlider state={state} run={run} />
            <Timeline key={run.uid} state={state} run={run} colour={colour} />
          </div>
        </>
      )}
    </section>
  );
}
