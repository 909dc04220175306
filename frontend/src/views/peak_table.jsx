import { useEffect, useRef } from 'preact/hooks';

import { frameExplanations } from '../data/series.js';
import { count, fixed, millerIndices, short, withError } from '../format.js';
import { PeakProfile } from './peak_profile.jsx';

/**
 * The peaks of the frame; a click selects one in the images and shows all of its row.
 * @param {{state: import('../state.js').AppState, run: import('../data/open_run.js').OpenRun,
 *   colour: (slug: string) => string}} props
 */
export function PeakTable({ state, run, colour }) {
  void run.version.value;
  const frame = state.frame.value;
  const selected = state.peak.value;
  const known = frameExplanations(run.tables.matches, run.tables.match_peaks, frame);
  const peaks = run.tables.peaks.rows(frame).sort((a, b) => a.q - b.q);
  const chosen = useRef(/** @type {HTMLTableRowElement | null} */ (null));
  useEffect(() => chosen.current?.scrollIntoView({ block: 'nearest' }), [selected]);
  const detail = peaks.find((peak) => peak.peak === selected);
  return (
    <section class="peaks">
      <h3>{count(peaks.length, 'peak')}</h3>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th>|q| (1/Å)</th>
              <th>φ (°)</th>
              <th>hkl</th>
              <th>SNR</th>
            </tr>
          </thead>
          <tbody>
            {peaks.map((peak) => {
              const found = known.get(peak.peak);
              return (
                <tr
                  key={peak.peak}
                  ref={peak.peak === selected ? chosen : null}
                  data-testid="peak"
                  data-peak={peak.peak}
                  tabIndex={0}
                  aria-selected={peak.peak === selected}
                  onClick={() => (state.peak.value = peak.peak === selected ? null : peak.peak)}
                  onKeyDown={(event) => {
                    if (event.key === 'Enter') state.peak.value = peak.peak;
                  }}
                >
                  <td>{fixed(peak.q, 4)}</td>
                  <td>{fixed(peak.phi, 1)}</td>
                  <td>
                    {found ? (
                      <span class="hkl" style={{ borderColor: colour(found.phase) }}>
                        {millerIndices(found.hkl)}
                      </span>
                    ) : (
                      <span class="unexplained" title="no candidate structure explains it">
                        ?
                      </span>
                    )}
                  </td>
                  <td>{fixed(peak.snr, 0)}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      {detail && <PeakProfile image={state.polar.value} grid={run.grid} peak={detail} />}
      {detail && <Detail peak={detail} found={known.get(detail.peak)} />}
    </section>
  );
}

/**
 * @param {{peak: import('../data/row_table.js').Row,
 *   found: import('../data/series.js').Explanation | undefined}} props
 */
function Detail({ peak, found }) {
  const rows = [
    ['|q|', `${withError(peak.q, peak.q_error)} 1/Å`],
    ['φ', `${fixed(peak.phi, 2)}°`],
    ['q_xy, q_z', `${fixed(peak.q_xy, 4)}, ${fixed(peak.q_z, 4)} 1/Å`],
    ['FWHM', `${fixed(peak.fwhm_q, 4)} 1/Å, ${fixed(peak.fwhm_phi, 1)}°`],
    ['intensity', withError(peak.intensity, peak.intensity_error, 1)],
    ['background', short(peak.background)],
    ['score, SNR', `${fixed(peak.score, 2)}, ${fixed(peak.snr, 1)}`],
    ['kind', `${peak.kind}${peak.track >= 0 ? `, track ${peak.track}` : ''}`],
    ['phase', found ? `${found.phase} ${millerIndices(found.hkl)}` : 'unexplained'],
    ['Δq', found ? `${found.dq.toFixed(4)} 1/Å` : '–'],
  ];
  return (
    <dl class="detail-list" data-testid="peak-detail">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
