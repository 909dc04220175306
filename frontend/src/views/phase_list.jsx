import { PRESENT } from '../data/run_info.js';
import { timeAxis } from '../data/series.js';
import { count, duration, percent } from '../format.js';

const MOST = 12;

/**
 * Candidate phases with their probability in the frame, the most probable first.
 * @param {{state: import('../state.js').AppState, run: import('../data/open_run.js').OpenRun,
 *   colour: (slug: string) => string}} props
 */
export function PhaseList({ state, run, colour }) {
  void run.version.value;
  const frame = state.frame.value;
  const summary = new Map(state.info.value?.phases.map((phase) => [phase.slug, phase]));
  const structures = new Map(run.structures.map((one) => [one.slug, one]));
  const rows = run.tables.matches.rows(frame);
  const known = new Map(rows.map((row) => [String(row.phase), row]));
  const slugs = new Set([...known.keys(), ...summary.keys()]);
  const phases = [...slugs]
    .map((slug) => ({
      slug,
      name: summary.get(slug)?.name ?? structures.get(slug)?.name ?? slug,
      probability: Number(known.get(slug)?.probability ?? 0),
      row: known.get(slug),
      onset: onset(summary.get(slug), timeAxis(run.tables.frames).start),
    }))
    .sort((a, b) => b.probability - a.probability || a.name.localeCompare(b.name))
    .slice(0, MOST);
  return (
    <section class="phases-found">
      <h3>Phases in frame {frame}</h3>
      <ol>
        {phases.map(({ slug, name, probability, row, onset: since }) => (
          <li
            key={slug}
            class={probability >= PRESENT ? 'phase present' : 'phase'}
            data-testid="phase"
            data-phase={slug}
            data-probability={probability.toFixed(6)}
          >
            <button
              class="swatch"
              style={{ background: colour(slug) }}
              aria-pressed={state.lines.value.has(slug)}
              title={`Draw the lines of ${name} over the images`}
              onClick={() => state.toggleLines(slug)}
            />
            <span class="name">{name}</span>
            <span class="probability">{percent(probability)}</span>
            <span class="bar" style={{ transform: `scaleX(${probability})` }} />
            <span class="faint detail">
              {[
                since,
                row &&
                  probability >= PRESENT &&
                  `${row.n_matched} of ${count(row.n_expected, 'line')}`,
              ]
                .filter(Boolean)
                .join(' · ')}
            </span>
          </li>
        ))}
      </ol>
      {!phases.length && <p class="faint">no candidate structures</p>}
    </section>
  );
}

/**
 * @param {import('../data/run_info.js').PhaseSummary | undefined} phase
 * @param {number} start of the run, seconds since 1970
 */
function onset(phase, start) {
  if (!phase || phase.onsetFrame === null) return '';
  const since = `since frame ${phase.onsetFrame}`;
  if (phase.onsetTime === null || !Number.isFinite(start)) return since;
  const range = phase.onsetRange
    ? ` (${(phase.onsetRange[0] - start).toFixed(1)}–${duration(phase.onsetRange[1] - start)})`
    : '';
  return `${since}, ${duration(phase.onsetTime - start)}${range}`;
}
