import { useMemo } from 'preact/hooks';

import { peakProfile } from '../data/peak_profile.js';
import { fixed, short } from '../format.js';

const [WIDTH, HEIGHT, EDGE] = [260, 96, 6];

/**
 * The profile of the chosen peak along |q| with its fitted shape.
 * @param {{image: import('../data/image_cache.js').Image | null,
 *   grid: import('../data/open_run.js').Grid, peak: any}} props
 */
export function PeakProfile({ image, grid, peak }) {
  const profile = useMemo(
    () => image && peakProfile(image, grid, peak),
    [image, peak.q, peak.fwhm_q, peak.x0, peak.x1, peak.y0, peak.y1],
  );
  if (!profile) return null;
  const { q, mean, fit } = profile;
  const all = [...mean, ...fit].filter(Number.isFinite);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const x = (/** @type {number} */ value) =>
    EDGE + ((value - q[0]) / (q[q.length - 1] - q[0])) * (WIDTH - 2 * EDGE);
  const y = (/** @type {number} */ value) =>
    HEIGHT - EDGE - ((value - low) / (high - low || 1)) * (HEIGHT - 2 * EDGE);
  const path = fit.map((value, place) => `${place ? 'L' : 'M'}${x(q[place])} ${y(value)}`).join('');
  return (
    <figure class="profile" data-testid="peak-profile">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label="profile of the peak along |q|">
        {mean.map((value, place) => (
          <circle key={q[place]} cx={x(q[place])} cy={y(value)} r="1.8" />
        ))}
        {fit.every(Number.isFinite) && <path d={path} />}
      </svg>
      <figcaption>
        |q| {fixed(q[0], 3)} to {fixed(q[q.length - 1], 3)} 1/Å, {short(low)} to {short(high)} counts;
        line: Gaussian of the fitted |q| and FWHM
      </figcaption>
    </figure>
  );
}
