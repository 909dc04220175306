import { timeAxis } from '../data/series.js';
import { duration } from '../format.js';

/**
 * @param {{state: import('../state.js').AppState, run: import('../data/open_run.js').OpenRun}} props
 */
export function FrameSlider({ state, run }) {
  const frames = state.frames.value;
  const frame = state.frame.value;
  const place = Math.max(0, frames.indexOf(frame));
  const following = state.follow.value && state.growing.value;
  const [row] = run.tables.frames.rows(frame);
  const axis = timeAxis(run.tables.frames);
  return (
    <div class="slider">
      <button
        title="Play (p)"
        aria-pressed={state.playing.value}
        onClick={() => (state.playing.value = !state.playing.value)}
      >
        {state.playing.value ? '⏸' : '▶'}
      </button>
      <input
        type="range"
        data-testid="frame-slider"
        aria-label="Frame"
        min={0}
        max={Math.max(frames.length - 1, 0)}
        value={place}
        disabled={!frames.length}
        onInput={(event) => state.show(frames[Number(event.currentTarget.value)])}
      />
      <output>
        frame <b>{frames.length ? frame : '–'}</b>
        {Number.isFinite(axis.start) && ` · ${duration(axis.at(frame))}`}
        {row && row.status !== 'ok' && (
          <em>
            {' '}
            {row.status}: {row.reason}
          </em>
        )}
      </output>
      {state.growing.value && (
        <button
          class={following ? 'following' : ''}
          aria-pressed={following}
          title="Show each frame as it comes (n)"
          onClick={() => (state.follow.value = !state.follow.value)}
        >
          newest
        </button>
      )}
    </div>
  );
}
