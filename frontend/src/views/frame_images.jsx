import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { ImageCache } from '../data/image_cache.js';
import { frameExplanations } from '../data/series.js';
import { COLOUR_MAPS } from '../images/colour_maps.js';
import { CONTRASTS } from '../images/contrast.js';
import { detectorPicture, projectedPicture, storedPicture } from '../images/picture.js';
import { cartesianProjection, polarProjection, storedProjection } from '../images/projection.js';
import { phaseColours } from '../phase_colours.js';
import { PictureCanvas } from './picture_canvas.jsx';

const POLAR_AXES = /** @type {[string, string]} */ (['|q| (1/Å)', 'φ (deg)']);
const Q_AXES = /** @type {[string, string]} */ (['q_xy (1/Å)', 'q_z (1/Å)']);
const RAW_AXES = /** @type {[string, string]} */ (['column', 'row']);

/**
 * @typedef {import('../state.js').AppState} AppState
 * @typedef {import('../data/open_run.js').OpenRun} OpenRun
 * @typedef {import('../data/open_run.js').ImageStack} ImageStack
 * @typedef {{image: import('../data/image_cache.js').Image | null, dtype: string, absent: string,
 *   stack?: ImageStack}} Shown
 */

/**
 * The images of the frame, with what was found in them.
 * @param {{state: AppState, run: OpenRun}} props
 */
export function FrameImages({ state, run }) {
  const frame = state.frame.value;
  const [large, setLarge] = useState('');
  const step = run.imageStep;
  const row = frame % step ? null : frame / step;
  const kept = `the run keeps every ${step}th image`;
  const polar = useImage(state, run, () => run.polarImages(), row, kept);
  const stored = useImage(state, run, () => run.qImages(), row, kept);
  useEffect(() => {
    state.polar.value = polar.image;
  }, [polar.image]);
  const raw = useImage(state, run, () => run.rawImages(), frame, '', true);
  const grid = run.grid;
  const projections = useMemo(
    () => ({ polar: polarProjection(grid), q: cartesianProjection(grid) }),
    [run],
  );
  const contrast = /** @type {any} */ (state.contrast.value);
  const colours = state.colours.value;
  const pictures = useMemo(() => {
    if (!polar.image) return { polar: null, q: null };
    const picture = (/** @type {'polar' | 'q'} */ space) =>
      projectedPicture(
        /** @type {any} */ (polar.image), grid, projections[space], contrast, colours,
      );
    return { polar: picture('polar'), q: picture('q') };
  }, [polar.image, contrast, colours]);
  const onQ = useMemo(() => {
    const { image, stack: { qXY, qZ } = {} } = stored;
    const picture = image && qXY && qZ && storedPicture(image, contrast, colours);
    if (!picture) return { picture: pictures.q, projection: projections.q, title: 'q_xy, q_z' };
    const projection = storedProjection(image, qXY, qZ);
    return { picture, projection, title: 'q_xy, q_z (as stored)' };
  }, [stored.image, pictures.q, contrast, colours]);
  const detector = useMemo(
    () => raw.image && detectorPicture(raw.image, raw.dtype, contrast, colours),
    [raw.image, contrast, colours],
  );
  const overlays = useOverlays(state, run, frame);
  const common = {
    overlays,
    onCursor: (/** @type {any} */ place) => (state.cursor.value = place),
    onPeak: (/** @type {number | null} */ peak) => (state.peak.value = peak),
  };
  const shown = (/** @type {string} */ name) => !large || large === name;
  const sizing = (/** @type {string} */ name) => ({
    large: large === name,
    onEnlarge: () => setLarge(large === name ? '' : name),
  });
  return (
    <section class="images">
      <Toolbar state={state} />
      <div class={`pictures ${large ? 'one' : ''}`}>
        {shown('q') && (
          <PictureCanvas
            testid="q-image" title={onQ.title} picture={onQ.picture} absent={polar.absent} square
            projection={onQ.projection} axes={Q_AXES} {...common} {...sizing('q')}
          />
        )}
        {shown('polar') && (
          <PictureCanvas
            testid="polar-image" title="|q|, φ" picture={pictures.polar} absent={polar.absent}
            square={false} projection={projections.polar} axes={POLAR_AXES} {...common}
            {...sizing('polar')}
          />
        )}
        {shown('raw') && (
          <PictureCanvas
            testid="raw-image" title="detector" picture={detector} absent={raw.absent} square
            axes={RAW_AXES} {...sizing('raw')}
          />
        )}
      </div>
    </section>
  );
}

/** @param {{state: AppState}} props */
function Toolbar({ state }) {
  const toggles = /** @type {const} */ ([
    ['boxes', 'boxes'],
    ['labels', 'hkl'],
  ]);
  return (
    <div class="toolbar" role="toolbar" aria-label="Images">
      <Choice label="contrast" options={CONTRASTS} chosen={state.contrast} />
      <Choice label="colours" options={COLOUR_MAPS} chosen={state.colours} />
      {toggles.map(([name, label]) => (
        <label key={name}>
          <input
            type="checkbox"
            checked={state[name].value}
            onChange={() => (state[name].value = !state[name].value)}
          />
          {label}
        </label>
      ))}
    </div>
  );
}

/** @param {{label: string, options: string[], chosen: {value: string}}} props */
function Choice({ label, options, chosen }) {
  return (
    <label>
      {label}
      <select
        value={chosen.value}
        onChange={(event) => (chosen.value = /** @type {any} */ (event.target).value)}
      >
        {options.map((option) => (
          <option key={option}>{option}</option>
        ))}
      </select>
    </label>
  );
}

/**
 * The image of a row of a stack, fetched when it is needed; the last one stays until it is there.
 * @param {AppState} state
 * @param {OpenRun} run
 * @param {() => Promise<ImageStack | null>} find
 * @param {number | null} row
 * @param {string} without why there may be none
 * @param {boolean} alone fetch no neighbours: large images
 * @returns {Shown}
 */
function useImage(state, run, find, row, without, alone = false) {
  const cache = useRef(/** @type {{run: OpenRun, images: ImageCache} | null} */ (null));
  const [shown, setShown] = useState(/** @type {Shown} */ ({ image: null, dtype: '', absent: '…' }));
  const version = cache.current?.run === run && shown.image ? 0 : run.version.value;

  useEffect(() => () => cache.current?.images.close(), []);
  useEffect(() => {
    let current = true;
    const load = async () => {
      if (row === null) {
        setShown({ image: null, dtype: '', absent: without });
        return;
      }
      try {
        if (cache.current?.run !== run) {
          cache.current?.images.close();
          cache.current = null;
          const stack = await find();
          if (!current) return;
          if (!stack) {
            setShown({ image: null, dtype: '', absent: 'not on this server' });
            return;
          }
          cache.current = { run, images: new ImageCache(state.api, stack) };
        }
        const { images } = cache.current;
        const stored = Math.floor((state.frames.peek().at(-1) ?? 0) / run.imageStep) + 1;
        const image = await images.get(row, stored, alone);
        if (current) setShown({ image, dtype: images.stack.dtype, absent: '', stack: images.stack });
      } catch (error) {
        const { message } = /** @type {Error} */ (error);
        if (current && !shown.image) setShown({ image: null, dtype: '', absent: message });
      }
    };
    void load();
    return () => {
      current = false;
    };
  }, [run, row, version]);
  return shown;
}

/**
 * @param {AppState} state
 * @param {OpenRun} run
 * @param {number} frame
 * @returns {import('../images/overlays.js').Overlays}
 */
function useOverlays(state, run, frame) {
  const version = run.version.value;
  const colour = useMemo(() => phaseColours(run.structures.map((one) => one.slug)), [run]);
  const peaks = useMemo(() => {
    const known = frameExplanations(run.tables.matches, run.tables.match_peaks, frame);
    return run.tables.peaks.rows(frame).map((row) => {
      const found = known.get(row.peak);
      return /** @type {any} */ ({ ...row, phase: found?.phase ?? '', hkl: found?.hkl ?? [] });
    });
  }, [run, frame, version]);
  const chosen = state.lines.value;
  return {
    peaks,
    selected: state.peak.value,
    boxes: state.boxes.value,
    labels: state.labels.value,
    lines: run.structures
      .filter((one) => chosen.has(one.slug))
      .map((one) => ({ colour: colour(one.slug), name: one.name, q: one.q })),
    cursor: state.cursor.value,
    colour,
    grid: run.grid,
  };
}
