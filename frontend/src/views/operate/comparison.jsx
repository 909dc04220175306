import { useMemo } from 'preact/hooks';

import { count, percent } from '../../format.js';
import { projectedPicture } from '../../images/picture.js';
import { polarProjection } from '../../images/projection.js';
import { trialImage } from '../../operate/desk.js';
import { phaseColours } from '../../phase_colours.js';
import { PictureCanvas } from '../picture_canvas.jsx';

/**
 * What two configurations find in one frame, side by side.
 * @param {{state: import('../../state.js').AppState,
 *   trial: Record<'before' | 'after', import('../../operate/desk.js').Shown>}} props
 */
export function Comparison({ state, trial }) {
  return (
    <div class="comparison" data-testid="trial">
      <Side state={state} title="before" shown={trial.before} />
      <Side state={state} title="after" shown={trial.after} />
    </div>
  );
}

/**
 * @param {{state: import('../../state.js').AppState, title: string,
 *   shown: import('../../operate/desk.js').Shown}} props
 */
function Side({ state, title, shown }) {
  const projection = useMemo(() => polarProjection(shown.grid), [shown]);
  const picture = useMemo(
    () =>
      projectedPicture(
        trialImage(shown), shown.grid, projection,
        /** @type {any} */ (state.contrast.peek()), state.colours.peek(),
      ),
    [shown],
  );
  const peaks = shown.peaks.map((peak) => ({ ...peak, phase: '', hkl: [] }));
  const matches = [...shown.matches].sort((a, b) => b.probability - a.probability).slice(0, 6);
  return (
    <section data-testid={`trial-${title}`} data-peaks={peaks.length}>
      <h4>
        {title}: {count(peaks.length, 'peak')}, {shown.seconds.toFixed(2)} s
      </h4>
      <PictureCanvas
        testid={`trial-image-${title}`} title="|q|, φ" picture={picture} absent="" square={false}
        projection={projection} axes={['|q| (1/Å)', 'φ (deg)']} large={false} onEnlarge={() => {}}
        overlays={{
          peaks, selected: null, boxes: true, labels: false, lines: [], cursor: null,
          colour: phaseColours([]), grid: shown.grid,
        }}
      />
      <ul>
        {matches.map((match) => (
          <li key={match.phase}>
            {match.phase}: {percent(match.probability)}, {match.n_matched} of {match.n_expected}{' '}
            lines
          </li>
        ))}
        {!matches.length && <li>no phases</li>}
      </ul>
    </section>
  );
}
